//! What the tests share: each runs on every driver of this machine, with a time limit.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod script;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Closed, EventLoop, Protocol, Transport};
use tepal_driver::faults::{FaultDriver, Faults};

/// Runs a test on every driver.
pub fn on_every_driver(test: impl Fn(&EventLoop)) {
    for name in tepal_driver::driver_names() {
        let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
        let event_loop = EventLoop::with_driver(driver);
        test(&event_loop);
    }
}

/// Runs a test whose connections have both ends in the loop on the drivers of this machine and on
/// the simulated one, each behind one that fails when the test says so. In the simulation nothing
/// may be left open.
pub fn with_faults_and_simulated(test: impl Fn(&EventLoop, &Faults)) {
    with_faults(&test);
    let driver = tepal_sim::SimDriver::new(1);
    let kernel = driver.kernel().clone();
    let faults = Faults::new(1);
    let event_loop = EventLoop::with_driver(Box::new(FaultDriver::new(Box::new(driver), &faults)));
    test(&event_loop, &faults);
    drop(event_loop);
    let ledger = kernel.ledger();
    let left = (ledger.open_descriptors, ledger.registered, ledger.leaked_descriptors);
    assert_eq!(left, (0, 0, 0), "{ledger:?}");
}

/// The same without faults.
pub fn on_every_driver_and_simulated(test: impl Fn(&EventLoop)) {
    with_faults_and_simulated(|event_loop, _| test(event_loop));
}

/// Runs a test on every driver, each behind one that fails when the test says so.
pub fn with_faults(test: impl Fn(&EventLoop, &Faults)) {
    for name in tepal_driver::driver_names() {
        let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
        let faults = Faults::new(1);
        let driver = FaultDriver::new(driver, &faults);
        test(&EventLoop::with_driver(Box::new(driver)), &faults);
    }
}

/// Runs the loop while `client` runs in a thread of its own, to its end.
pub fn run_with(event_loop: &EventLoop, client: impl FnOnce() + Send + 'static) {
    struct StopAtEnd(tepal::Remote);
    impl Drop for StopAtEnd {
        fn drop(&mut self) {
            // Fails if the loop is gone because the test has failed, which is told elsewhere.
            let _ = self.0.stop();
        }
    }
    let stop = StopAtEnd(event_loop.remote());
    let thread = std::thread::spawn(move || {
        let _stop = stop;
        client();
    });
    run(event_loop);
    thread.join().expect("the client is content");
}

/// Connects with blocking calls that take ten seconds at most.
pub fn client(address: std::net::SocketAddr) -> TcpStream {
    let limit = Duration::from_secs(10);
    let stream = TcpStream::connect_timeout(&address, limit).expect("connects");
    stream.set_read_timeout(Some(limit)).expect("a time limit");
    stream.set_write_timeout(Some(limit)).expect("a time limit");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// Writes a message and reads the same back.
pub fn echo(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("writes");
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back).expect("reads");
    assert_eq!(back, message);
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

/// A datagram protocol that does nothing.
pub struct Nothing;

impl tepal::DatagramProtocol for Nothing {}
