//! Rust as a host of the engine: closures, boxed protocols, futures.
//!
//! Its types stand in the signatures of keys and of the `Host` trait, so they are `pub`; nothing
//! outside can name them.

#![allow(unreachable_pub, reason = "named by associated types of a public trait")]

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use tepal_base::{Buffer, CallOnce};
use tepal_layers::{How, Info, ProxyRequest, Side, Stack};

use super::server::ServerState;
use super::transport::ClosedCell;
use super::{DatagramTransport, Loop, Protocol, Transport};
use crate::engine::{
    AcceptFault, Consumed, DatagramProtocol as EngineDatagram, Engine, Failure, Flow, Host,
    ListenerKey, Occasion, Outcome, Report, StreamKey, StreamProtocol, Verdict,
};
use crate::{Address, Closed, DatagramKey, StreamOptions};

/// The Rust host. Public in name only: it stands in the types of keys.
pub struct RustHost {
    pub(super) id: u64,
    panics: RefCell<PanicHook>,
    troubles: RefCell<TroubleHook>,
    pub(super) servers: RefCell<HashMap<ListenerKey<RustHost>, Rc<ServerState>>>,
    // Kept alive as long as it is the loop's default.
    pub(super) default_resolver: RefCell<Option<super::Resolver>>,
}

type PanicHook = Box<dyn FnMut(Box<dyn Any + Send>) -> Flow>;
type TroubleHook = Box<dyn FnMut(&'static str, &io::Error)>;

pub(super) type RustEngine = Engine<RustHost>;

pub enum Job {
    Call(CallOnce<Loop>),
    Poll(async_task::Runnable),
}

pub type RemoteJob = Box<dyn FnOnce(&Loop) + Send>;
pub type Callback = Box<dyn FnMut(&Loop, Occasion)>;
pub type Completion = Box<dyn FnOnce(&Loop, Outcome)>;
pub type MakeProtocol = Box<dyn FnMut(&Address) -> Box<dyn Protocol>>;

/// What makes the connections of a listening socket.
pub struct Factory {
    pub(super) protocol: MakeProtocol,
    pub(super) stack: Stack,
    pub(super) options: StreamOptions,
}

/// A boxed protocol with the transport that its callbacks get.
pub struct Bound {
    protocol: Box<dyn Protocol>,
    transport: Option<Transport>,
    closed: ClosedCell,
}

/// A boxed datagram protocol.
pub struct BoundDatagram(pub(super) Box<dyn super::DatagramProtocol>);

impl RustHost {
    pub(super) fn new(id: u64) -> RustHost {
        RustHost {
            id,
            // The process's panic hook has printed it by now.
            panics: RefCell::new(Box::new(|_| Flow::Continue(()))),
            troubles: RefCell::new(Box::new(|what, error| eprintln!("tepal: {what}: {error}"))),
            servers: RefCell::new(HashMap::new()),
            default_resolver: RefCell::new(None),
        }
    }

    pub(super) fn set_panic_hook(&self, hook: PanicHook) {
        let old = self.panics.replace(hook);
        drop(old);
    }

    pub(super) fn set_trouble_hook(&self, hook: TroubleHook) {
        let old = self.troubles.replace(hook);
        drop(old);
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> Flow {
        // The hook is moved out while it runs, since it may set another.
        let mut hook = self.panics.replace(Box::new(|_| Flow::Continue(())));
        let flow = hook(payload);
        let _ = self.panics.replace(hook);
        flow
    }

    fn guard<R>(&self, call: impl FnOnce() -> R) -> Verdict<R> {
        // Unwind safety: what `call` may leave half-changed is the user's own protocol, which is
        // dropped, and the engine, which borrows nothing while it runs.
        catch_unwind(AssertUnwindSafe(call)).map_err(|payload| match self.panicked(payload) {
            Flow::Continue(()) => Failure::Connection,
            Flow::Break(()) => Failure::Run,
        })
    }

    fn guard_flow(&self, call: impl FnOnce()) -> Flow {
        match self.guard(call) {
            Ok(()) | Err(Failure::Connection) => Flow::Continue(()),
            Err(Failure::Run) => Flow::Break(()),
        }
    }
}

impl fmt::Debug for RustHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustHost")
    }
}

impl Host for RustHost {
    type Job = Job;
    type RemoteJob = RemoteJob;
    type Callback = Callback;
    type Completion = Completion;
    type Protocol = Bound;
    type DatagramProtocol = BoundDatagram;
    type Factory = Factory;

    #[inline]
    fn run_job(&self, engine: &RustEngine, job: Job) -> Flow {
        self.guard_flow(|| match job {
            Job::Call(call) => call.call(&Loop::from_engine(engine)),
            Job::Poll(runnable) => {
                runnable.run();
            }
        })
    }

    fn accept_remote(&self, job: RemoteJob) -> Job {
        Job::Call(CallOnce::new(|lp: &Loop| job(lp)))
    }

    fn call(&self, engine: &RustEngine, callback: &mut Callback, why: Occasion) -> Flow {
        self.guard_flow(|| callback(&Loop::from_engine(engine), why))
    }

    fn complete(&self, engine: &RustEngine, completion: Completion, outcome: Outcome) -> Flow {
        self.guard_flow(|| completion(&Loop::from_engine(engine), outcome))
    }

    fn accepted(
        &self,
        engine: &RustEngine,
        factory: &mut Factory,
        stream: StreamKey<Self>,
        peer: &Address,
    ) -> Verdict<Bound> {
        engine.stream_set_options(stream, factory.options);
        let stack = factory.stack.clone();
        if !stack.is_empty() && engine.stream_set_layers(stream, stack, Side::Server, None).is_err()
        {
            // A stream that was accepted just now takes layers.
            return Err(Failure::Connection);
        }
        self.guard(|| Bound::new((factory.protocol)(peer), Rc::default()))
    }

    fn connection_released(&self, _engine: &RustEngine, listener: ListenerKey<Self>) {
        let server = self.servers.borrow().get(&listener).cloned();
        if let Some(server) = server {
            server.released();
        }
    }

    fn accept_failed(&self, engine: &RustEngine, _factory: &mut Factory, why: AcceptFault) {
        let (context, error) = match why {
            AcceptFault::Exhausted(error) => ("accepting is suspended for a moment", error),
            AcceptFault::Setup(error) => ("a connection was lost while it was accepted", error),
            AcceptFault::Broken(error) => ("a listening socket is broken", error),
        };
        self.report(engine, Report { context, error });
    }

    fn report(&self, _engine: &RustEngine, report: Report) {
        let mut hook = self.troubles.replace(Box::new(|_, _| ()));
        let _ = self.guard(|| hook(report.context, &report.error));
        let _ = self.troubles.replace(hook);
    }
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
    fn connection_made(&mut self, engine: &RustEngine, stream: StreamKey<RustHost>) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.connection_made(transport))
    }

    fn connection_established(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
    ) -> Verdict<()> {
        self.closed.established();
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

    fn buffer_updated(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        buffer: Buffer,
        count: usize,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.buffer_updated(transport, buffer, count);
        })
    }

    fn eof_received(&mut self, engine: &RustEngine, stream: StreamKey<RustHost>) -> Verdict<bool> {
        self.call(engine, stream, |protocol, transport| protocol.eof_received(transport))
    }

    fn pause_writing(&mut self, engine: &RustEngine, stream: StreamKey<RustHost>) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.pause_writing(transport))
    }

    fn resume_writing(&mut self, engine: &RustEngine, stream: StreamKey<RustHost>) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.resume_writing(transport))
    }

    fn io_out(&mut self, engine: &RustEngine, stream: StreamKey<RustHost>) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.io_out(transport))
    }

    fn layer_ready(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        layer: &'static str,
        info: &Info,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.layer_ready(transport, layer, info);
        })
    }

    fn layer_added(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        layer: &'static str,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.layer_added(transport, layer))
    }

    fn layer_removed(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        layer: &'static str,
        how: How,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.layer_removed(transport, layer, how);
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

    fn error_layer(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.error_layer(transport, closed))
    }

    fn error_dns(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.error_dns(transport, closed))
    }

    fn timeout_dns(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.timeout_dns(transport, closed))
    }

    fn timeout_connecting(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.timeout_connecting(transport, closed);
        })
    }

    fn timeout_handshake(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.timeout_handshake(transport, closed);
        })
    }

    fn timeout_idle(&mut self, engine: &RustEngine, stream: StreamKey<RustHost>) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| protocol.timeout_idle(transport))
    }

    fn finished(
        &mut self,
        _engine: &RustEngine,
        _stream: StreamKey<RustHost>,
        _closed: &Closed,
    ) -> Verdict<()> {
        self.closed.finished();
        Ok(())
    }

    fn error_connecting(
        &mut self,
        engine: &RustEngine,
        stream: StreamKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, stream, |protocol, transport| {
            protocol.error_connecting(transport, closed);
        })
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
    fn call<R>(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
        call: impl FnOnce(&mut dyn super::DatagramProtocol, &DatagramTransport) -> R,
    ) -> Verdict<R> {
        let transport = DatagramTransport::new(Loop::from_engine(engine), endpoint);
        engine.host().guard(|| call(&mut *self.0, &transport))
    }
}

impl EngineDatagram<RustHost> for BoundDatagram {
    fn connection_made(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
    ) -> Verdict<()> {
        self.call(engine, endpoint, |protocol, transport| protocol.connection_made(transport))
    }

    fn datagram_received(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
        data: &[u8],
        peer: Option<&Address>,
    ) -> Verdict<()> {
        self.call(engine, endpoint, |protocol, transport| {
            protocol.datagram_received(transport, data, peer);
        })
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

    fn pause_writing(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
    ) -> Verdict<()> {
        self.call(engine, endpoint, |protocol, transport| protocol.pause_writing(transport))
    }

    fn resume_writing(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
    ) -> Verdict<()> {
        self.call(engine, endpoint, |protocol, transport| protocol.resume_writing(transport))
    }

    fn connection_lost(
        &mut self,
        engine: &RustEngine,
        endpoint: DatagramKey<RustHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.call(engine, endpoint, |protocol, transport| {
            protocol.connection_lost(transport, closed);
        })
    }
}
