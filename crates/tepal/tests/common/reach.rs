//! What the tests of reaching a peer share: servers of every mood, and runs with an end.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, EventLoop, Loop, Phase, Protocol, Transport};
use tepal_sim::{Config, SimKernel};

use crate::common::{Echo, address, on_every_driver};

pub fn simulated() -> (SimKernel, EventLoop) {
    let kernel = SimKernel::new(Config::seeded(23));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    (kernel, event_loop)
}

/// On every driver of this machine, and on the simulated one.
pub fn everywhere(test: impl Fn(&EventLoop)) {
    on_every_driver(&test);
    test(&simulated().1);
}

pub fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// Runs until `done` says so, at most a hundred thousand virtual seconds or twenty real ones.
pub fn run_until(event_loop: &EventLoop, mut done: impl FnMut() -> bool + 'static) {
    let lp: Loop = (**event_loop).clone();
    let limit = match event_loop.driver_name() {
        "sim" => Duration::from_secs(100_000),
        _ => Duration::from_secs(20),
    };
    let end = event_loop.time() + limit;
    let waiting = async move {
        while !done() {
            assert!(lp.time() < end, "it takes too long");
            lp.sleep(Duration::from_millis(1)).await;
        }
        // What follows in the same turn.
        lp.sleep(Duration::from_millis(2)).await;
    };
    event_loop.run_until_complete(waiting).expect("the loop runs");
}

pub fn run_to_end(event_loop: &EventLoop, transport: &Transport) {
    let transport = transport.clone();
    run_until(event_loop, move || {
        transport.phase() == Phase::Closed && transport.closed().is_some()
    });
}

pub fn again(transport: &Transport) {
    assert!(transport.reconnect(None), "an outbound connection");
}

pub fn echo_server(event_loop: &EventLoop) -> SocketAddr {
    address(&event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("a port"))
}

/// An address at which nobody listens.
pub fn nobody(event_loop: &EventLoop) -> SocketAddr {
    let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("a port");
    let address = address(&server);
    server.close();
    address
}

/// Takes what comes, and says nothing.
pub struct Sink(pub Rc<RefCell<Vec<u8>>>);

impl Protocol for Sink {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        self.0.borrow_mut().extend_from_slice(data);
        data.len()
    }
}

pub fn silent_server(event_loop: &EventLoop) -> SocketAddr {
    let serve = |_: &Address| Sink(Rc::default());
    address(&event_loop.listen(serve, "127.0.0.1:0").expect("a port"))
}

/// Does one thing to each connection at its first bytes.
pub struct Rude(pub fn(&Transport));

impl Protocol for Rude {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        (self.0)(transport);
        data.len()
    }
}

pub fn rude_server(event_loop: &EventLoop, act: fn(&Transport)) -> SocketAddr {
    address(&event_loop.listen(move |_: &Address| Rude(act), "127.0.0.1:0").expect("a port"))
}

/// Closes each connection at its first byte, after answering it.
pub struct Fickle;

impl Protocol for Fickle {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        transport.write(data);
        transport.close();
        data.len()
    }
}

pub fn fickle_server(event_loop: &EventLoop) -> SocketAddr {
    address(&event_loop.listen(|_: &Address| Fickle, "127.0.0.1:0").expect("a port"))
}
