//! A peer dies and comes back at another address. The protocol object goes on, over a resumed TLS
//! session.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tepal::layers::{Certificate, Info, Roots, WallClock};
use tepal::names::SystemFiles;
use tepal::{
    Address, Backoff, Closed, EventLoop, Listen, Loop, Protocol, Server, Target, Tls, Transport,
};

use super::{Latch, Outcome, check, wrong};

const HOST: &str = "server.test";
/// The first half is counted with the first peer, the rest with the second.
const COUNT: u32 = 10;

/// The certificates of the demo are those of the tests, and valid at this time.
#[derive(Debug)]
pub(super) struct ThatDay;

impl WallClock for ThatDay {
    fn unix_seconds(&self) -> Option<u64> {
        Some(1_800_000_000)
    }
}

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../tepal-layers/tests/data/", $name))
    };
}

/// Answers each number with the next one.
struct Next;

impl Protocol for Next {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let number: u32 = std::str::from_utf8(data).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
        transport.write((number + 1).to_string().as_bytes());
        data.len()
    }
}

/// Counts with its peer, and goes on where it was when the peer has gone.
struct Counting {
    number: u32,
    seen: Rc<RefCell<Seen>>,
    half: Rc<Latch>,
    ended: Rc<Latch>,
}

#[derive(Default)]
struct Seen {
    number: u32,
    peers: Vec<String>,
    resumed: Vec<bool>,
    losses: u32,
    failures: u32,
}

impl Protocol for Counting {
    fn layer_ready(&mut self, _: &Transport, _: &str, info: &Info) {
        if let Info::Tls(info) = info {
            self.seen.borrow_mut().resumed.push(info.resumed);
        }
    }
    fn connection_established(&mut self, transport: &Transport) {
        let peer = transport.peer_address().map_or_else(|e| e.to_string(), |peer| peer.to_string());
        self.seen.borrow_mut().peers.push(peer);
        transport.write(self.number.to_string().as_bytes());
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.number = std::str::from_utf8(data).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
        self.seen.borrow_mut().number = self.number;
        if self.number == COUNT {
            transport.close();
        } else if self.number == COUNT / 2 {
            // Nothing more is said to a peer that is about to die.
            self.half.count_down();
        } else {
            transport.write(self.number.to_string().as_bytes());
        }
        data.len()
    }
    fn error_connecting(&mut self, _: &Transport, _: &Closed) {
        self.seen.borrow_mut().failures += 1;
    }
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.seen.borrow_mut().losses += 1;
        if closed.is_clean() {
            self.ended.count_down();
        }
    }
}

/// A hosts file of the demo's own, gone with it.
struct Hosts(PathBuf);

impl Hosts {
    fn new() -> Hosts {
        Hosts(std::env::temp_dir().join(format!("tepal-demo-hosts-{}", std::process::id())))
    }

    fn say(&self, address: &str) -> Result<(), String> {
        std::fs::write(&self.0, format!("{address} {HOST}\n")).map_err(wrong)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // It lies in the folder for temporary files; nobody needs to hear of it.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn listen(lp: &Loop, address: SocketAddr, tls: &Tls) -> std::io::Result<Server> {
    lp.listen(|_: &Address| Next, Listen::on(address).layer(tls.clone()))
}

fn tls() -> Result<(Tls, Tls), tepal::layers::Error> {
    let certificate = Certificate::from_pem(file!("server.pem"), file!("server.key"))?;
    let roots = Roots::from_pem(file!("ca.pem"))?;
    let clock = Arc::new(ThatDay);
    let server = Tls::builder().certificate(certificate).clock(clock.clone()).build()?;
    // The name to be verified is that of the target.
    let client = Tls::builder().roots(roots).clock(clock).build()?;
    Ok((client, server))
}

pub(super) fn run(event_loop: &EventLoop) -> std::io::Result<Outcome> {
    let lp = (**event_loop).clone();
    event_loop.run_until_complete(moving(lp))
}

async fn moving(lp: Loop) -> Outcome {
    let (client, server) = tls().map_err(wrong)?;
    let hosts = Hosts::new();
    hosts.say("127.0.0.2")?;
    lp.set_system_files(SystemFiles { hosts: hosts.0.clone(), ..SystemFiles::default() });
    let first = listen(&lp, SocketAddr::from(([127, 0, 0, 2], 0)), &server).map_err(wrong)?;
    let port = first.local_addresses()[0].as_ip().map_or(0, |address| address.port());

    let seen = Rc::new(RefCell::new(Seen::default()));
    let (half, ended) = (Latch::new(1), Latch::new(1));
    let protocol = Counting {
        number: 0,
        seen: Rc::clone(&seen),
        half: Rc::clone(&half),
        ended: Rc::clone(&ended),
    };
    let plan = Backoff { first: Duration::from_millis(100), ..Backoff::default() };
    let target = Target::host(HOST, port).layer(client).backoff(plan);
    let transport = lp.connect(protocol, target);
    half.wait().await;

    // The peer dies, and for a while nobody is there.
    first.close();
    first.abort_connections();
    lp.sleep(Duration::from_millis(300)).await;
    let problem = transport.problem().map_or_else(String::new, |problem| problem.to_string());
    // It comes back elsewhere.
    let second = listen(&lp, SocketAddr::from(([127, 0, 0, 3], port)), &server).map_err(wrong)?;
    hosts.say("127.0.0.3")?;
    ended.wait().await;
    second.close();
    lp.set_system_files(SystemFiles::default());

    let seen = seen.borrow();
    check(seen.number == COUNT, || format!("it counted to {}", seen.number))?;
    let peers = [format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}")];
    check(seen.peers == peers, || format!("the peers were {:?}", seen.peers))?;
    check(seen.losses == 2, || format!("{} connections were lost", seen.losses))?;
    check(seen.resumed == [false, true], || format!("sessions resumed: {:?}", seen.resumed))?;
    check(seen.failures > 0 && problem.contains(HOST), || {
        format!("{} failures, the last one: {problem}", seen.failures)
    })?;
    Ok(format!(
        "one protocol counted to {COUNT} with 127.0.0.2, then 127.0.0.3; TLS resumed, \
         {} attempts failed between",
        seen.failures
    ))
}
