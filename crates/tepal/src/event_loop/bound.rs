//! The users' protocols as the engine calls them: boxed, with their transports, and guarded from
//! their panics.

#![allow(unreachable_pub, reason = "named by associated types of a public trait")]

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use tepal_base::Buffer;
use tepal_layers::{How, Info, ProxyRequest};

use super::fate::ClosedCell;
use super::host::{RustEngine, RustHost};
use super::{DatagramTransport, Loop, Protocol, Transport};
use crate::engine::{
    Consumed, DatagramProtocol as EngineDatagram, StreamKey, StreamProtocol, Verdict,
};
use crate::{Address, Closed, DatagramKey};

/// A boxed protocol with the transport that its callbacks get.
pub struct Bound {
    protocol: Box<dyn Protocol>,
    transport: Option<Transport>,
    closed: ClosedCell,
}

/// A boxed datagram protocol with the loop that calls it.
pub struct BoundDatagram {
    protocol: Box<dyn super::DatagramProtocol>,
    lp: Option<Loop>,
}

/// Takes the place of a protocol that is dropped; of no size, so that its box is no allocation.
struct Gone;

impl Protocol for Gone {}
impl super::DatagramProtocol for Gone {}

// A destructor's panic is reported like a callback's. It must not leave the engine half-way
// through ending the connection. Without a loop nothing of the protocol was ever called, and the
// process's panic hook has printed it.
fn drop_guarded<T>(protocol: T, lp: Option<&Loop>) {
    match lp {
        Some(lp) => lp.engine().host().guard_aside(lp.engine(), || drop(protocol)),
        None => drop(catch_unwind(AssertUnwindSafe(|| drop(protocol)))),
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let protocol = mem::replace(&mut self.protocol, Box::new(Gone));
        drop_guarded(protocol, self.transport.as_ref().map(Transport::event_loop));
    }
}

impl Drop for BoundDatagram {
    fn drop(&mut self) {
        drop_guarded(mem::replace(&mut self.protocol, Box::new(Gone)), self.lp.as_ref());
    }
}

/// Callbacks that are handed on as they are: `name(argument: type) -> result;`.
macro_rules! hand_on {
    ($key:ty: $($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        fn $name(
            &mut self,
            engine: &RustEngine,
            key: $key,
            $($argument: $type,)*
        ) -> Verdict<hand_on!(@ $($result)?)> {
            self.call(engine, key, |protocol, transport| {
                protocol.$name(transport, $($argument),*)
            })
        }
    )*};
    (@) => { () };
    (@ $result:ty) => { $result };
}

impl Bound {
    pub(super) fn new(protocol: Box<dyn Protocol>, closed: ClosedCell) -> Bound {
        Bound { protocol, transport: None, closed }
    }

    fn call<R>(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        call: impl FnOnce(&mut dyn Protocol, &Transport) -> R,
    ) -> Verdict<R> {
        let transport = self.transport.get_or_insert_with(|| {
            Transport::new(Loop::from_engine(engine), stream, Rc::clone(&self.closed))
        });
        engine.host().guard(|| call(&mut *self.protocol, transport))
    }
}

impl StreamProtocol<RustHost> for Bound {
    hand_on! { StreamKey<RustHost>:
        connection_made();
        eof_received() -> bool;
        pause_writing();
        resume_writing();
        io_out();
        layer_ready(layer: &'static str, info: &Info);
        layer_added(layer: &'static str);
        layer_removed(layer: &'static str, how: How);
        error_layer(closed: &Closed);
        error_dns(closed: &Closed);
        timeout_dns(closed: &Closed);
        timeout_connecting(closed: &Closed);
        timeout_handshake(closed: &Closed);
        timeout_idle();
        error_connecting(closed: &Closed);
        buffer_updated(buffer: Buffer, count: usize);
    }

    fn connection_established(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
    ) -> Verdict<()> {
        self.closed.established(engine);
        self.call(engine, stream, |protocol, transport| protocol.connection_established(transport))
    }

    #[inline]
    fn data_received(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        data: &[u8],
    ) -> Verdict<Consumed> {
        self.call(engine, stream, |protocol, transport| {
            Consumed::Count(protocol.data_received(transport, data))
        })
    }

    fn lend(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        size_hint: usize,
    ) -> Verdict<Option<Buffer>> {
        self.call(engine, stream, |protocol, transport| {
            // An empty buffer could never be told from the end of the stream.
            protocol.get_buffer(transport, size_hint).filter(|buffer| !buffer.is_empty())
        })
    }

    fn layer_idle(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        _layer: &'static str,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.timeout_idle(transport))
    }

    fn layer_request(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        layer: &'static str,
        request: &ProxyRequest,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.proxy_request(transport, layer, request);
        })
    }

    fn finished(
        &mut self,
        engine: &RustEngine,
        _stream: StreamKey<RustHost>,
        _closed: &Closed,
    ) -> Verdict<()> {
        self.closed.finished(engine);
        Ok(())
    }

    fn connection_lost(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            transport.remember(closed);
            protocol.connection_lost(transport, closed);
        })
    }
}

impl BoundDatagram {
    pub(super) fn new(protocol: Box<dyn super::DatagramProtocol>) -> BoundDatagram {
        BoundDatagram { protocol, lp: None }
    }

    fn call<R>(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
        call: impl FnOnce(&mut dyn super::DatagramProtocol, &DatagramTransport) -> R,
    ) -> Verdict<R> {
        let lp = self.lp.get_or_insert_with(|| Loop::from_engine(engine));
        let transport = DatagramTransport::new(lp.clone(), endpoint);
        engine.host().guard(|| call(&mut *self.protocol, &transport))
    }
}

impl EngineDatagram<RustHost> for BoundDatagram {
    hand_on! { DatagramKey<RustHost>:
        connection_made();
        datagram_received(data: &[u8], peer: Option<&Address>);
        pause_writing();
        resume_writing();
        connection_lost(closed: &Closed);
    }

    fn error_received(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
        error: io::Error,
    ) -> Verdict<()> {
        self.call(engine, endpoint, |protocol, transport| {
            protocol.error_received(transport, &error);
        })
    }
}

impl std::fmt::Debug for BoundDatagram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoundDatagram")
    }
}
