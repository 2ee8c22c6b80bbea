//! Sends messages to an echo server, one after another, and measures the round trips.

mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use common::Done;
use tepal::{Closed, EventLoop, Instant, Protocol, Target, Tls, Transport, tls};

const USAGE: &str = "echo_client ADDRESS [--count N] [--size N] [--tls NAME] [--ca FILE]

Sends N messages (100) of N bytes (64) to the echo server at ADDRESS, each once the one
before has come back, and prints the number of round trips and their mean latency. With --tls
over TLS, to a server whose certificate is good for NAME, by an authority of the platform's or
of the PEM file FILE.";

struct Arguments {
    address: SocketAddr,
    count: usize,
    size: usize,
    tls: Option<String>,
    ca: Option<String>,
}

/// How far the client has come, shared with `main`.
#[derive(Default)]
struct Progress {
    round_trips: usize,
    spent: Duration,
    wrong: bool,
    closed: Option<Closed>,
}

struct Client {
    count: usize,
    message: Vec<u8>,
    sent: Instant,
    progress: Rc<RefCell<Progress>>,
}

impl Client {
    fn send(&mut self, transport: &Transport) {
        self.sent = transport.event_loop().time();
        transport.write(&self.message);
    }
}

impl Protocol for Client {
    fn connection_established(&mut self, transport: &Transport) {
        self.send(transport);
    }

    // The transport keeps the part of a reply that has come until all of it is there.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let mut progress = self.progress.borrow_mut();
        if data.len() < self.message.len() {
            return 0;
        }
        progress.wrong |= data != self.message;
        progress.round_trips += 1;
        progress.spent += transport.event_loop().time().since(self.sent);
        let done = progress.wrong || progress.round_trips == self.count;
        drop(progress);
        if done {
            transport.close();
        } else {
            self.send(transport);
        }
        data.len()
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.progress.borrow_mut().closed = Some(closed.clone());
        transport.event_loop().stop();
    }
}

fn parse(arguments: &mut common::Arguments) -> Result<Arguments, String> {
    let address = arguments.address("ADDRESS")?;
    let mut parsed = Arguments { address, count: 100, size: 64, tls: None, ca: None };
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--count" => parsed.count = arguments.number("--count")?,
            "--tls" => parsed.tls = Some(arguments.text("NAME")?),
            "--ca" => parsed.ca = Some(arguments.text("FILE")?),
            "--size" => parsed.size = arguments.number("--size")?,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    Ok(parsed)
}

fn run(arguments: Arguments) -> Done {
    let event_loop = EventLoop::new()?;
    let progress = Rc::new(RefCell::new(Progress::default()));
    let client = Client {
        count: arguments.count,
        message: (0..arguments.size).map(|n| n as u8).collect(),
        sent: event_loop.time(),
        progress: Rc::clone(&progress),
    };
    let mut target = Target::address(arguments.address);
    if let Some(name) = arguments.tls {
        let builder = match arguments.ca {
            Some(file) => Tls::builder().roots(tls::roots_from_file(file)?),
            None => tls::client()?,
        };
        target = target.layer(builder.server_name(name).build()?);
    }
    let transport = event_loop.connect(client, target);
    // A reply is looked at whole, so all of it but a byte may have to be kept.
    transport.set_read_limit(arguments.size.max(256 * 1024));
    transport.set_read_low(arguments.size)?;
    event_loop.run_forever()?;

    let progress = progress.borrow();
    if progress.wrong {
        return Err("a reply differs from its message".into());
    }
    if progress.round_trips < arguments.count {
        let why = progress.closed.as_ref().map(Closed::to_string).unwrap_or_default();
        let text = format!("{} round trips, then: {why}", progress.round_trips);
        return Err(text.into());
    }
    let mean = progress.spent.as_secs_f64() * 1e6 / progress.round_trips as f64;
    println!("{} round trips of {} bytes", progress.round_trips, arguments.size);
    println!("mean latency {mean:.1} us");
    Ok(())
}

fn main() -> ExitCode {
    common::main(USAGE, parse, run)
}
