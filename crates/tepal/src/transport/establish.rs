//! Outbound: from an address to an established connection.

use std::io;
use std::time::Duration;

use tepal_driver::{Address, Connect, Interest};

use super::Closed;
use super::stream::{Phase, Stream, StreamOptions};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, StreamProtocol, stream};

/// Where an outbound stream goes, from where, and for how long it tries.
pub(super) struct Outbound {
    peer: Address,
    local: Option<Address>,
    timeout: Option<Duration>,
}

impl<H: Host> Engine<H> {
    /// Makes an outbound stream, attached to its protocol before the first packet leaves:
    /// `connection_made` comes in the next turn, then the socket is opened, bound to `local` and
    /// connected within `timeout`.
    pub fn stream_connect(
        &self,
        peer: Address,
        local: Option<Address>,
        timeout: Option<Duration>,
        protocol: H::Protocol,
        options: StreamOptions,
    ) -> StreamKey<H> {
        let outbound = Some(Box::new(Outbound { peer, local, timeout }));
        self.insert_stream(Stream { outbound, ..Stream::new(None) }, protocol, options)
    }

    pub(super) fn stream_made(&self, key: StreamKey<H>) -> Flow {
        match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => stream.made = true,
            None => return Flow::Continue(()),
        }
        self.call_protocol(key, |protocol| protocol.connection_made(self, key))?;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        if stream.phase == Phase::Lost {
            return Flow::Continue(());
        }
        if stream.outbound.is_some() {
            drop(objects);
            self.push_step(key, Step::Connect);
            return Flow::Continue(());
        }
        drop(objects);
        self.stream_wire_stands(key)
    }

    pub(super) fn stream_open(&self, key: StreamKey<H>) -> Flow {
        let core = self.core();
        let outbound = match stream(&mut core.objects.borrow_mut(), key) {
            Some(stream) if stream.phase == Phase::Attached => stream.outbound.take(),
            _ => None,
        };
        let Some(outbound) = outbound else { return Flow::Continue(()) };
        let kind = tepal_driver::Kind::Stream;
        let socket = match self.open_socket(&outbound.peer, kind, outbound.local.as_ref()) {
            Ok(socket) => socket,
            Err(error) => return self.stream_not_connected(key, error),
        };
        let started = {
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else {
                let _ = core.driver.borrow_mut().close(socket);
                return Flow::Continue(());
            };
            stream.descriptor = Some(socket);
            stream.phase = Phase::Connecting;
            let mut driver = core.driver.borrow_mut();
            driver.connect(socket, &outbound.peer).and_then(|state| {
                let interest = match state {
                    Connect::Connected => Interest::READ,
                    Connect::InProgress => Interest::BOTH,
                };
                driver.register(socket, key.to_bits(), interest)?;
                Ok(state)
            })
        };
        match started {
            Ok(Connect::Connected) => self.stream_wire_stands(key),
            Ok(Connect::InProgress) => {
                if let Some(timeout) = outbound.timeout {
                    self.arm_stream(key, timeout);
                }
                Flow::Continue(())
            }
            Err(error) => self.stream_not_connected(key, error),
        }
    }

    pub(super) fn stream_writable(&self, key: StreamKey<H>) -> Flow {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        stream.write_queued = false;
        stream.blocked = false;
        let (Phase::Connecting, Some(descriptor)) = (stream.phase, stream.descriptor) else {
            drop(objects);
            return self.flush_stream(key);
        };
        drop(objects);
        let mut driver = core.driver.borrow_mut();
        let result = match driver.take_error(descriptor) {
            Ok(None) => match driver.peer_address(descriptor) {
                Ok(_) => Ok(()),
                // A spurious event: the attempt still runs.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return Flow::Continue(());
                }
                Err(error) => Err(error),
            },
            Ok(Some(error)) | Err(error) => Err(error),
        };
        drop(driver);
        match result {
            Ok(()) => self.stream_wire_stands(key),
            Err(error) => self.stream_not_connected(key, error),
        }
    }

    pub(super) fn stream_wire_stands(&self, key: StreamKey<H>) -> Flow {
        let (timer, layered) = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                // A protocol that begins on a connection that stands has layers that stand.
                let layered = stream.layers.is_some() && stream.phase != Phase::Established;
                if !layered {
                    stream.phase = Phase::Established;
                }
                // Closed before it was established: the timer is the closing one already.
                (stream.timer.filter(|_| !stream.closing), layered)
            }
            None => return Flow::Continue(()),
        };
        if let Some(timer) = timer {
            self.timer_disarm(timer);
        }
        if layered {
            return self.stream_handshake(key);
        }
        self.call_protocol(key, |protocol| protocol.connection_established(self, key))?;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let (read, pump) = (stream.queue_read(), stream.queue_pump());
        drop(objects);
        if pump {
            self.push_step(key, Step::Pump);
        }
        if read {
            self.push_step(key, Step::Read);
        }
        // What was written early, and an early close.
        self.flush_stream(key)
    }

    pub(super) fn stream_not_connected(&self, key: StreamKey<H>, error: io::Error) -> Flow {
        let closed = Closed::connect_failed(error);
        let verdict =
            self.call_protocol(key, |protocol| protocol.error_connecting(self, key, &closed));
        self.stream_lose(key, closed);
        verdict?;
        Flow::Continue(())
    }
}
