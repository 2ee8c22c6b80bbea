//! What the tests of every engine share.

#![allow(dead_code)] // each test file uses its own part

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tepal_base::{Buffer, Instant};
use tepal_driver::{
    Address, Connect, Descriptor, Domain, Driver, Event, Interest, Kind, Readiness, Sent,
    open_driver,
};

/// Longer than any test takes, shorter than anybody's patience.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

#[allow(unused_macros)] // a test file may have other ways
/// Makes a test of each function for every engine of this build.
macro_rules! on_every_engine {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident) $body:block)*) => {
        $($(#[$meta])* fn $name($driver: &mut dyn tepal_driver::Driver) $body)*

        #[cfg(all(target_os = "linux", not(tepal_portable)))]
        mod epoll { $( #[test] fn $name() { crate::common::run("epoll", super::$name) } )* }

        mod poll { $( #[test] fn $name() { crate::common::run("poll", super::$name) } )* }
    };
}
#[allow(unused_imports)] // a test file may have other ways
pub(crate) use on_every_engine;

/// Runs a test on a driver in a thread of its own, within [`LIMIT`].
pub(crate) fn run(name: &'static str, test: fn(&mut dyn Driver)) {
    within_limit(move || test(&mut *open_driver(Some(name)).expect("opens")));
}

/// Runs a test in a thread of its own, within [`LIMIT`].
pub(crate) fn within_limit(test: impl FnOnce() + Send + 'static) {
    let (done, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LIMIT) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// One wait, at most until `deadline`.
pub(crate) fn wait_until(driver: &mut dyn Driver, deadline: Option<Instant>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut wait = driver.prepare(deadline);
    wait.wait();
    driver.collect(wait, &mut events).expect("collects");
    events
}

/// Waits until there are events.
pub(crate) fn wait(driver: &mut dyn Driver) -> Vec<Event> {
    loop {
        let events = wait_until(driver, None);
        if !events.is_empty() {
            return events;
        }
    }
}

/// What is ready now.
pub(crate) fn look(driver: &mut dyn Driver) -> Vec<Event> {
    wait_until(driver, Some(Instant::ZERO))
}

/// Waits until an event of this token has all of `readiness`.
pub(crate) fn wait_for(driver: &mut dyn Driver, token: u64, readiness: Readiness) {
    let mut seen = Readiness::NONE;
    while !contains(seen, readiness) {
        for event in wait(driver).into_iter().filter(|event| event.token == token) {
            seen |= event.readiness;
        }
    }
}

pub(crate) fn contains(all: Readiness, some: Readiness) -> bool {
    (all | some) == all
}

/// The events of one token, put together.
pub(crate) fn of_token(events: &[Event], token: u64) -> Readiness {
    let of_token = events.iter().filter(|event| event.token == token);
    of_token.fold(Readiness::NONE, |sum, event| sum | event.readiness)
}

pub(crate) fn loopback() -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()
}

/// A listener on a port of the kernel's choice, registered under `token`.
pub(crate) fn listener(driver: &mut dyn Driver, token: u64) -> (Descriptor, Address) {
    let listener = driver.open(Domain::Inet, Kind::Stream).expect("opens");
    driver.bind(listener, &loopback()).expect("binds");
    driver.listen(listener, 128).expect("listens");
    driver.register(listener, token, Interest::READ).expect("registers");
    let address = driver.local_address(listener).expect("is bound");
    (listener, address)
}

/// The next connection of a listener registered under `token`.
pub(crate) fn accept(driver: &mut dyn Driver, listener: Descriptor, token: u64) -> Descriptor {
    loop {
        match driver.accept(listener) {
            Ok((socket, _)) => return socket,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                wait_for(driver, token, Readiness::READABLE);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two ends of a TCP connection: the connecting one, the accepted one. Neither is registered.
pub(crate) fn tcp_pair(driver: &mut dyn Driver) -> (Descriptor, Descriptor) {
    const TOKEN: u64 = u64::MAX - 7;
    let (listener, address) = listener(driver, TOKEN);
    let client = driver.open(Domain::Inet, Kind::Stream).expect("opens");
    let connecting = driver.connect(client, &address).expect("connects");
    let server = accept(driver, listener, TOKEN);
    if connecting == Connect::InProgress {
        assert!(driver.take_error(client).expect("is a socket").is_none());
    }
    driver.close(listener).expect("closes");
    (client, server)
}

pub(crate) fn send(driver: &mut dyn Driver, stream: Descriptor, bytes: &[u8]) -> Sent {
    driver.send(stream, &[IoSlice::new(bytes)]).expect("sends")
}

/// Bytes pulled once, and whether more may be there.
pub(crate) fn receive(
    driver: &mut dyn Driver,
    stream: Descriptor,
    most: usize,
) -> (std::io::Result<Vec<u8>>, bool) {
    let received = driver.receive(stream, Buffer::zeroed(most));
    let buffer = received.buffer;
    (received.result.map(|count| buffer[..count].to_vec()), received.more)
}

/// Pulls until nothing is left: all bytes, and whether the end came.
pub(crate) fn drain(
    driver: &mut dyn Driver,
    stream: Descriptor,
    at_once: usize,
) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match receive(driver, stream, at_once) {
            (Ok(some), _) if some.is_empty() => return (bytes, true),
            (Ok(some), more) => {
                bytes.extend(some);
                if !more {
                    return (bytes, false);
                }
            }
            (Err(error), _) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return (bytes, false);
            }
            (Err(error), _) => panic!("{error}"),
        }
    }
}

/// Waits and pulls until the end of the stream, which is registered under `token`.
pub(crate) fn read_to_end(driver: &mut dyn Driver, stream: Descriptor, token: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        wait_for(driver, token, Readiness::READABLE);
        let (some, end) = drain(driver, stream, 4096);
        bytes.extend(some);
        if end {
            return bytes;
        }
    }
}

/// What errno an error carries.
pub(crate) fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().expect("must fail").raw_os_error()
}

/// A directory that goes with the value.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(test: &str, engine: &str) -> Directory {
        let name = format!("tepal-{test}-{engine}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("creates");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
