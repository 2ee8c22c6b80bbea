//! One socket with one query on it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use tepal_driver::{Address, Connect, Descriptor, Domain, Driver, Interest, Kind};
use tepal_names::error::SocketFault;
use tepal_names::resolver::ExchangeId;

use super::{Entry, ResolverKey};
use crate::engine::{Engine, Flow, Host, Object, ObjectKey, Step};

pub(crate) struct Exchange<H: Host> {
    resolver: ResolverKey<H>,
    id: ExchangeId,
    server: SocketAddr,
    kind: Kind,
    descriptor: Option<Descriptor>,
    message: Vec<u8>,
    // How much of the message has left.
    sent: usize,
    // A stream that is not connected yet.
    connecting: bool,
}

/// Datagrams taken in one step: a flood does not hold the turn.
const DATAGRAMS_PER_STEP: usize = 16;

impl<H: Host> Exchange<H> {
    pub(super) fn datagram(
        resolver: ResolverKey<H>,
        id: ExchangeId,
        server: SocketAddr,
        message: Vec<u8>,
    ) -> Exchange<H> {
        Exchange {
            resolver,
            id,
            server,
            kind: Kind::Datagram,
            descriptor: None,
            message,
            sent: 0,
            connecting: false,
        }
    }

    pub(super) fn stream(
        resolver: ResolverKey<H>,
        id: ExchangeId,
        server: SocketAddr,
        message: Vec<u8>,
    ) -> Exchange<H> {
        Exchange { kind: Kind::Stream, ..Exchange::datagram(resolver, id, server, message) }
    }

    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        self.descriptor
    }

    /// Opens the socket, which the caller closes on an error.
    pub(super) fn start(&mut self, token: u64, driver: &mut dyn Driver) -> io::Result<()> {
        let domain = if self.server.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
        let socket = driver.open(domain, self.kind)?;
        self.descriptor = Some(socket);
        let state = driver.connect(socket, &Address::Ip(self.server))?;
        self.connecting = state == Connect::InProgress;
        let interest = if self.connecting { Interest::BOTH } else { Interest::READ };
        driver.register(socket, token, interest)?;
        if self.connecting { Ok(()) } else { self.send(driver) }
    }

    /// Sends what is left of the message, as far as the kernel takes it.
    fn send(&mut self, driver: &mut dyn Driver) -> io::Result<()> {
        let Some(socket) = self.descriptor else { return Ok(()) };
        if self.kind == Kind::Datagram {
            if self.sent > 0 {
                return Ok(());
            }
            return match driver.send_to(socket, &self.message, None) {
                Ok(_) => {
                    self.sent = self.message.len();
                    Ok(())
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error),
            };
        }
        while self.sent < self.message.len() {
            let sent = driver.send(socket, &[IoSlice::new(&self.message[self.sent..])])?;
            self.sent += sent.count;
            if sent.blocked {
                break;
            }
        }
        Ok(())
    }

    /// There is room, or the connect has ended.
    fn write(&mut self, driver: &mut dyn Driver) -> io::Result<()> {
        if let (true, Some(socket)) = (self.connecting, self.descriptor) {
            if let Some(error) = driver.take_error(socket)? {
                return Err(error);
            }
            match driver.peer_address(socket) {
                Ok(_) => self.connecting = false,
                // A spurious event: the attempt still runs.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.send(driver)
    }
}

impl<H: Host> Engine<H> {
    pub(crate) fn exchange_step(&self, key: ObjectKey<H>, step: Step) -> Flow {
        match step {
            Step::Read => self.exchange_read(key),
            Step::Write => self.exchange_write(key),
            _ => {}
        }
        Flow::Continue(())
    }

    fn exchange_write(&self, key: ObjectKey<H>) {
        let core = self.core();
        let (resolver, id, result) = {
            let mut objects = core.objects.borrow_mut();
            let Some(Object::Exchange(exchange)) = objects.get_mut(key) else { return };
            let result = exchange.write(&mut **core.driver.borrow_mut());
            (exchange.resolver, exchange.id, result)
        };
        if let Err(error) = result {
            self.exchange_event(resolver, |resolver, now| {
                resolver.handle_fault(id, SocketFault::from(&error), now);
            });
        }
    }

    fn exchange_read(&self, key: ObjectKey<H>) {
        let core = self.core();
        let (resolver, id, kind, socket) = match core.objects.borrow().get(key) {
            Some(Object::Exchange(exchange)) if !exchange.connecting => {
                let Some(socket) = exchange.descriptor else { return };
                (exchange.resolver, exchange.id, exchange.kind, socket)
            }
            _ => return,
        };
        let mut buffer = self.take_scratch();
        let mut again = false;
        self.exchange_event(resolver, |names, now| {
            for count in 1.. {
                let result = if kind == Kind::Datagram {
                    let target = std::mem::take(&mut buffer);
                    let received = core.driver.borrow_mut().receive_from(socket, target);
                    buffer = received.buffer;
                    received.result.map(|(len, _)| (len, true))
                } else {
                    let target = std::mem::take(&mut buffer);
                    let received = core.driver.borrow_mut().receive(socket, target);
                    buffer = received.buffer;
                    received.result.map(|len| (len, received.more))
                };
                match (kind, result) {
                    (Kind::Datagram, Ok((len, _))) => {
                        names.handle_datagram(id, &buffer[..len], now);
                    }
                    (_, Ok((0, _))) => return names.handle_fault(id, SocketFault::Closed, now),
                    (_, Ok((len, more))) => {
                        names.handle_stream(id, &buffer[..len], now);
                        if !more {
                            return;
                        }
                    }
                    (_, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                    (_, Err(error)) => {
                        return names.handle_fault(id, SocketFault::from(&error), now);
                    }
                }
                if count == DATAGRAMS_PER_STEP {
                    again = true;
                    return;
                }
            }
        });
        self.give_scratch(buffer);
        // Gone if the answer was among them.
        if again && core.objects.borrow().get(key).is_some() {
            self.push_step(key, Step::Read);
        }
    }

    /// Tells a resolver of something, and does what it wants then.
    fn exchange_event(
        &self,
        key: ResolverKey<H>,
        event: impl FnOnce(&mut tepal_names::Resolver, tepal_base::Instant),
    ) {
        let now = self.now();
        let mut names = self.core().names.borrow_mut();
        if let Some(Entry::Native(native)) = names.resolvers.get_mut(key.0) {
            event(&mut native.resolver, now);
        }
        self.pump_names(&mut names, key, now);
    }
}
