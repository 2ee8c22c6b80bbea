//! Sends every datagram back to where it came from.

mod common;

use std::cell::Cell;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use tepal::{Address, Closed, DatagramProtocol, DatagramTransport, EventLoop};

const USAGE: &str = "udp_echo ADDRESS

Echoes datagrams at ADDRESS, such as 127.0.0.1:7000; port 0 lets the kernel choose.
Prints \"listening on ADDRESS\". SIGINT or SIGTERM ends it; it then prints what it has done.";

#[derive(Default)]
struct Counts {
    echoed: Cell<u64>,
    failed: Cell<u64>,
}

struct Echo(Rc<Counts>);

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        // UDP may lose datagrams, so a sender that fails is counted and no more.
        let counter = match transport.send_to(data, peer) {
            Ok(_) => &self.0.echoed,
            Err(_) => &self.0.failed,
        };
        counter.set(counter.get() + 1);
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) {
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) {
        transport.resume_reading();
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, _: &Closed) {
        transport.event_loop().stop();
    }
}

fn main() -> ExitCode {
    common::main(
        USAGE,
        |arguments| arguments.address("ADDRESS"),
        |address| {
            let event_loop = EventLoop::new()?;
            let counts = Rc::new(Counts::default());
            let echo = Echo(Rc::clone(&counts));
            let endpoint = event_loop.datagram(echo, Some(address.into()), None)?;
            println!("listening on {}", endpoint.local_address()?);
            std::io::stdout().flush()?;
            // What is queued goes out first; connection_lost stops the loop.
            common::on_signals(&event_loop, move |_| endpoint.close())?;
            event_loop.run_forever()?;
            println!("{} echoed, {} failed", counts.echoed.get(), counts.failed.get());
            Ok(())
        },
    )
}
