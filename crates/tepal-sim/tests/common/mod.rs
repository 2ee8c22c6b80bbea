//! A driver in a test's hand: short names, results as text, waits that are bounded in time.
//!
//! It works on any driver, so that the same scenario runs on the simulated kernel and on the real
//! one.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::time::Duration;

use tepal_base::{Buffer, Instant};
use tepal_driver::{
    Address, Connect, Descriptor, Domain, Driver, Event, Half, Interest, Kind, Readiness, Sent,
    SocketOption,
};
use tepal_sim::{Config, SimDriver};

/// A driver and what it is asked for in every second line of a test.
pub(crate) struct Hand {
    pub(crate) driver: Box<dyn Driver>,
    /// Where it listens.
    pub(crate) host: Ipv4Addr,
}

impl Hand {
    pub(crate) fn new(driver: impl Driver + 'static) -> Hand {
        Hand { driver: Box::new(driver), host: Ipv4Addr::LOCALHOST }
    }

    /// A hand on a new simulated kernel, and the kernel.
    pub(crate) fn sim(config: Config) -> (Hand, tepal_sim::SimKernel) {
        let driver = SimDriver::with(config);
        let kernel = driver.kernel().clone();
        (Hand::new(driver), kernel)
    }

    pub(crate) fn open(&mut self, domain: Domain, kind: Kind) -> Descriptor {
        self.driver.open(domain, kind).expect("a socket opens")
    }

    pub(crate) fn tcp(&mut self) -> Descriptor {
        self.open(Domain::Inet, Kind::Stream)
    }

    /// The host with this port.
    pub(crate) fn v4(&self, port: u16) -> Address {
        Address::Ip((self.host, port).into())
    }

    /// A listening TCP socket on a free port of the host, and its address.
    pub(crate) fn listen(&mut self, backlog: u32) -> (Descriptor, Address) {
        let listener = self.tcp();
        self.driver.bind(listener, &self.v4(0)).expect("it binds");
        self.driver.listen(listener, backlog).expect("it listens");
        let address = self.driver.local_address(listener).expect("it has an address");
        (listener, address)
    }

    /// A client in the middle of connecting.
    pub(crate) fn connecting(&mut self, address: &Address) -> Descriptor {
        let client = self.tcp();
        let state = self.driver.connect(client, address).expect("a connect starts");
        assert_eq!(state, Connect::InProgress);
        client
    }

    /// Both ends of a TCP connection: client, server.
    pub(crate) fn pair(&mut self) -> (Descriptor, Descriptor) {
        let (listener, address) = self.listen(8);
        let client = self.connecting(&address);
        let server = self.accept(listener);
        assert_eq!(self.take_error(client), "none");
        self.driver.close(listener).expect("it closes");
        (client, server)
    }

    /// Both ends of a Unix connection.
    pub(crate) fn unix_pair(&mut self) -> (Descriptor, Descriptor) {
        let listener = self.open(Domain::Unix, Kind::Stream);
        let address = abstract_name("pair");
        self.driver.bind(listener, &address).expect("it binds");
        self.driver.listen(listener, 8).expect("it listens");
        let client = self.open(Domain::Unix, Kind::Stream);
        let state = self.driver.connect(client, &address).expect("it connects");
        assert_eq!(state, Connect::Connected);
        let server = self.accept(listener);
        self.driver.close(listener).expect("it closes");
        (client, server)
    }

    /// Accepts, after as many waits as that takes.
    pub(crate) fn accept(&mut self, listener: Descriptor) -> Descriptor {
        self.driver.watch(listener, u64::MAX, Interest::READ).expect("it is watched");
        for _ in 0..1000 {
            self.wait(Duration::from_secs(60));
            match self.driver.accept(listener) {
                Ok((descriptor, _)) => {
                    self.driver.watch(listener, u64::MAX, Interest::NONE).expect("known");
                    return descriptor;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("accept: {error}"),
            }
        }
        panic!("nobody to accept");
    }

    /// One wait of at most this span.
    pub(crate) fn wait(&mut self, most: Duration) -> Vec<Event> {
        let deadline = self.driver.now() + most;
        self.wait_until(Some(deadline)).expect("the wait ends")
    }

    pub(crate) fn wait_until(&mut self, deadline: Option<Instant>) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut wait = self.driver.prepare(deadline);
        wait.wait();
        self.driver.collect(wait, &mut events)?;
        Ok(events)
    }

    /// What a descriptor that nobody registered is ready for now.
    pub(crate) fn ready(&mut self, descriptor: Descriptor) -> Readiness {
        const TOKEN: u64 = 0x5eed;
        self.driver.watch(descriptor, TOKEN, Interest::BOTH).expect("it is watched");
        let events = self.wait_until(Some(Instant::ZERO)).expect("a look works");
        self.driver.watch(descriptor, TOKEN, Interest::NONE).expect("it is watched");
        let mine = events.iter().filter(|event| event.token == TOKEN);
        mine.fold(Readiness::NONE, |all, event| all | event.readiness)
    }

    /// Waits until the descriptor is ready for some of this.
    pub(crate) fn wait_ready(&mut self, descriptor: Descriptor, interest: Interest) {
        const TOKEN: u64 = 0x5eee;
        self.driver.watch(descriptor, TOKEN, interest).expect("it is watched");
        let found = (0..1000)
            .any(|_| self.wait(Duration::from_secs(10)).iter().any(|event| event.token == TOKEN));
        self.driver.watch(descriptor, TOKEN, Interest::NONE).expect("it is watched");
        assert!(found, "the descriptor becomes ready");
    }

    /// Received bytes as text, `end`, or the error's name.
    pub(crate) fn receive(&mut self, stream: Descriptor, most: usize) -> String {
        let received = self.driver.receive(stream, Buffer::zeroed(most));
        match received.result {
            Ok(0) => "end".to_owned(),
            Ok(count) => String::from_utf8_lossy(&received.buffer[..count]).into_owned(),
            Err(error) => name(&error),
        }
    }

    /// `sent N`, `blocked at N`, or the error's name.
    pub(crate) fn send(&mut self, stream: Descriptor, bytes: impl AsRef<[u8]>) -> String {
        match self.driver.send(stream, &[IoSlice::new(bytes.as_ref())]) {
            Ok(Sent { count, blocked: false }) => format!("sent {count}"),
            Ok(Sent { count, blocked: true }) => format!("blocked at {count}"),
            Err(error) => name(&error),
        }
    }

    /// A datagram as `TEXT from SENDER`, or the error's name.
    pub(crate) fn receive_from(&mut self, socket: Descriptor, most: usize) -> String {
        let received = self.driver.receive_from(socket, Buffer::zeroed(most));
        match received.result {
            Ok((count, from)) => {
                let text = String::from_utf8_lossy(&received.buffer[..count]).into_owned();
                format!("{text} from {}", from.map_or("nobody".to_owned(), |a| a.to_string()))
            }
            Err(error) => name(&error),
        }
    }

    pub(crate) fn send_to(
        &mut self,
        socket: Descriptor,
        bytes: impl AsRef<[u8]>,
        peer: Option<&Address>,
    ) -> String {
        text(self.driver.send_to(socket, bytes.as_ref(), peer))
    }

    pub(crate) fn take_error(&mut self, socket: Descriptor) -> String {
        match self.driver.take_error(socket) {
            Ok(None) => "none".to_owned(),
            Ok(Some(error)) => name(&error),
            Err(error) => format!("fails with {}", name(&error)),
        }
    }

    pub(crate) fn shutdown(&mut self, socket: Descriptor, half: Half) -> String {
        text(self.driver.shutdown(socket, half).map(|()| "done"))
    }

    pub(crate) fn close(&mut self, descriptor: Descriptor) {
        self.driver.close(descriptor).expect("it closes");
    }

    /// Closes with a reset.
    pub(crate) fn reset(&mut self, socket: Descriptor) {
        let option = SocketOption::Linger(Some(Duration::ZERO));
        self.driver.set_option(socket, &option).expect("it is a socket");
        self.close(socket);
    }

    pub(crate) fn close_all(&mut self, descriptors: impl IntoIterator<Item = Descriptor>) {
        for descriptor in descriptors {
            self.close(descriptor);
        }
    }
}

/// 127.0.0.1 with this port.
pub(crate) fn v4(port: u16) -> Address {
    Address::Ip(([127, 0, 0, 1], port).into())
}

/// `[::1]` with this port.
pub(crate) fn v6(port: u16) -> Address {
    Address::Ip((std::net::Ipv6Addr::LOCALHOST, port).into())
}

/// An abstract Unix name that no other process uses.
pub(crate) fn abstract_name(name: &str) -> Address {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tepal-sim-{}-{count}-{name}", std::process::id());
    Address::Unix(tepal_driver::UnixAddress::Abstract(name.into_bytes().into()))
}

/// An error by its errno's name.
pub(crate) fn name(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error() else { return error.kind().to_string() };
    let known = [
        (libc::EACCES, "EACCES"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EALREADY, "EALREADY"),
        (libc::EBADF, "EBADF"),
        (libc::ECONNABORTED, "ECONNABORTED"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ECONNRESET, "ECONNRESET"),
        (libc::EDESTADDRREQ, "EDESTADDRREQ"),
        (libc::EEXIST, "EEXIST"),
        (libc::EINVAL, "EINVAL"),
        (libc::EISCONN, "EISCONN"),
        (libc::EMFILE, "EMFILE"),
        (libc::EMSGSIZE, "EMSGSIZE"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOPROTOOPT, "ENOPROTOOPT"),
        (libc::ENOTCONN, "ENOTCONN"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EPERM, "EPERM"),
        (libc::EPIPE, "EPIPE"),
        (libc::EPROTOTYPE, "EPROTOTYPE"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
    ];
    let found = known.iter().find(|(number, _)| *number == errno);
    found.map_or(errno.to_string(), |(_, name)| (*name).to_owned())
}

/// A result as text.
pub(crate) fn text(result: io::Result<impl std::fmt::Display>) -> String {
    result.map_or_else(|error| name(&error), |value| value.to_string())
}
