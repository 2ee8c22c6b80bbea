//! The smallest driver there can be: real sockets, each read by a thread, around a resolver.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tepal_base::Instant;
use tepal_names::Resolver;
use tepal_names::error::{LookupError, Over, SocketFault};
use tepal_names::resolver::{Answer, ExchangeId, Started, Transmit};

pub struct Pump {
    pub resolver: Resolver,
    start: std::time::Instant,
    events: Receiver<(ExchangeId, Event)>,
    sender: Sender<(ExchangeId, Event)>,
    open: HashMap<ExchangeId, Arc<AtomicBool>>,
    pub opened: Vec<(SocketAddr, Over)>,
}

enum Event {
    Datagram(Vec<u8>),
    Bytes(Vec<u8>),
    Fault(SocketFault),
}

impl Pump {
    pub fn new(resolver: Resolver) -> Pump {
        let (sender, events) = channel();
        let start = std::time::Instant::now();
        Pump { resolver, start, events, sender, open: HashMap::new(), opened: Vec::new() }
    }

    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
    }

    /// Drives the resolver until the lookup is over.
    pub fn finish(&mut self, started: Started) -> Result<Answer, LookupError> {
        let id = match started {
            Started::Finished(result) => return result,
            Started::Pending(id) => id,
        };
        loop {
            while let Some(transmit) = self.resolver.poll_transmit() {
                self.transmit(transmit);
            }
            if let Some((finished, result)) = self.resolver.poll_finished() {
                assert_eq!(finished, id);
                return result;
            }
            let wake = self.resolver.poll_timeout().expect("a lookup has a deadline");
            let event = self.events.recv_timeout(wake.since(self.now()));
            let now = self.now();
            match event {
                Ok((exchange, Event::Datagram(bytes))) => {
                    self.resolver.handle_datagram(exchange, &bytes, now);
                }
                Ok((exchange, Event::Bytes(bytes))) => {
                    self.resolver.handle_stream(exchange, &bytes, now);
                }
                Ok((exchange, Event::Fault(fault))) => {
                    self.resolver.handle_fault(exchange, fault, now);
                }
                Err(_) => self.resolver.handle_timeout(now),
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let closed = Arc::new(AtomicBool::new(false));
        let sender = self.sender.clone();
        match transmit {
            Transmit::Close { exchange } => {
                let closed = self.open.remove(&exchange).expect("only open sockets are closed");
                closed.store(true, Ordering::Relaxed);
            }
            Transmit::Datagram { exchange, server, message } => {
                self.opened.push((server, Over::Udp));
                self.open.insert(exchange, closed.clone());
                std::thread::spawn(move || {
                    let result = datagram(server, &message, &closed, |bytes| {
                        // The pump may be gone already; then nobody wants the bytes.
                        let _gone = sender.send((exchange, Event::Datagram(bytes)));
                    });
                    if let Err(error) = result {
                        let fault = Event::Fault(SocketFault::from(&error));
                        let _gone = sender.send((exchange, fault));
                    }
                });
            }
            Transmit::Stream { exchange, server, message } => {
                self.opened.push((server, Over::Tcp));
                self.open.insert(exchange, closed.clone());
                std::thread::spawn(move || {
                    let result = stream(server, &message, &closed, |bytes| {
                        let _gone = sender.send((exchange, Event::Bytes(bytes)));
                    });
                    let fault = match result {
                        Ok(()) => SocketFault::Closed,
                        Err(error) => SocketFault::from(&error),
                    };
                    let _gone = sender.send((exchange, Event::Fault(fault)));
                });
            }
        }
    }
}

const LOOK_UP: Duration = Duration::from_millis(50);

fn datagram(
    server: SocketAddr,
    message: &[u8],
    closed: &AtomicBool,
    mut received: impl FnMut(Vec<u8>),
) -> std::io::Result<()> {
    let any: SocketAddr =
        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    socket.send(message)?;
    let mut buf = vec![0; 65_536];
    while !closed.load(Ordering::Relaxed) {
        match socket.recv(&mut buf) {
            Ok(len) => received(buf[..len].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn stream(
    server: SocketAddr,
    message: &[u8],
    closed: &AtomicBool,
    mut received: impl FnMut(Vec<u8>),
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(LOOK_UP))?;
    stream.write_all(message)?;
    let mut buf = [0; 4096];
    while !closed.load(Ordering::Relaxed) {
        match stream.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(len) => received(buf[..len].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
