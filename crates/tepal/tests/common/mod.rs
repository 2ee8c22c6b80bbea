//! What the tests share: each runs on every driver of this machine, with a time limit.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Closed, EventLoop, Protocol, Transport};

/// Runs a test on every driver.
pub fn on_every_driver(test: impl Fn(&EventLoop)) {
    for name in tepal_driver::driver_names() {
        let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
        let event_loop = EventLoop::with_driver(driver);
        test(&event_loop);
    }
}

/// Runs the loop until it is stopped; a test that takes longer than the limit fails.
pub fn run(event_loop: &EventLoop) {
    let late = Rc::new(RefCell::new(false));
    let flag = Rc::clone(&late);
    let limit = event_loop.call_later(Duration::from_secs(20), move |lp| {
        *flag.borrow_mut() = true;
        lp.stop();
    });
    event_loop.run_forever().expect("the loop runs");
    limit.cancel();
    assert!(!*late.borrow(), "the test took longer than its limit on {}", event_loop.driver_name());
}

/// What a [`Recorder`] saw, shared with the test.
#[derive(Default)]
pub struct Seen {
    pub events: Vec<String>,
    pub bytes: Vec<u8>,
    pub transport: Option<Transport>,
    pub closed: Option<Closed>,
}

pub type Log = Rc<RefCell<Seen>>;

/// A protocol that notes everything and stops the loop at its end, if told so.
pub struct Recorder {
    pub log: Log,
    pub stop: bool,
    pub keep_open: bool,
}

impl Recorder {
    pub fn new() -> (Recorder, Log) {
        let log = Log::default();
        (Recorder { log: Rc::clone(&log), stop: true, keep_open: false }, log)
    }

    fn note(&self, event: &str) {
        self.log.borrow_mut().events.push(event.to_owned());
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &Transport) {
        self.note("made");
        self.log.borrow_mut().transport = Some(transport.clone());
    }
    fn connection_established(&mut self, _: &Transport) {
        self.note("established");
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        let mut log = self.log.borrow_mut();
        if log.events.last().is_none_or(|last| last != "data") {
            log.events.push("data".to_owned());
        }
        log.bytes.extend_from_slice(data);
        data.len()
    }
    fn eof_received(&mut self, _: &Transport) -> bool {
        self.note("eof");
        self.keep_open
    }
    fn pause_writing(&mut self, _: &Transport) {
        self.note("pause");
    }
    fn resume_writing(&mut self, _: &Transport) {
        self.note("resume");
    }
    fn io_out(&mut self, _: &Transport) {
        self.note("out");
    }
    fn error_connecting(&mut self, _: &Transport, _: &Closed) {
        self.note("error_connecting");
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.note("lost");
        self.log.borrow_mut().closed = Some(closed.clone());
        if self.stop {
            transport.event_loop().stop();
        }
    }
}

/// Sends back what it gets.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// The IP address at which a server listens.
pub fn address(server: &tepal::Server) -> std::net::SocketAddr {
    server.local_addresses()[0].as_ip().expect("an IP listener")
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
