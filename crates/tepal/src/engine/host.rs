use std::fmt::Debug;
use std::ops::ControlFlow;

use tepal_base::Buffer;
use tepal_driver::{Address, Interest, Signal, Wait};
use tepal_layers::{How, Info, ProxyRequest};

use super::{AcceptFault, Engine, ListenerKey, Outcome, Report, StreamKey};
use crate::{Closed, DatagramKey};

/// Whether the run goes on. `Break` ends it at once: the rest of the turn's queue stays queued, and
/// the host keeps why (Python: a KeyboardInterrupt to raise out of `run_forever`).
pub type Flow = ControlFlow<()>;

/// What came of a call into a protocol that may fail.
pub type Verdict<T> = Result<T, Failure>;

/// A protocol's callback failed, and the host has reported how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// An ordinary exception or panic: it costs the connection, nothing else.
    Connection,
    /// An exception that leaves the run, beside the connection.
    Run,
}

/// The language that runs on the engine: its callbacks, its protocols, its border.
///
/// The engine is generic over this, so a callback is whatever costs the host least (a boxed
/// closure, a Python handle) and a host's collector can reach everything the engine keeps for it.
///
/// # Re-entry
///
/// Every method here is called with nothing of the engine borrowed: it may call any [`Engine`]
/// method, except to run the loop it is called from. The engine also drops all host values in that
/// condition, so their destructors may do the same.
///
/// # Panics
///
/// A panic out of one of these methods unwinds through [`Engine::run`]; the engine stays sound and
/// can run again, but the value that was being called is lost. Hosts catch panics of user code.
pub trait Host: Sized + 'static {
    /// A callback to run once. At most three words, or the queues grow.
    type Job: 'static;
    /// A callback that another thread hands over.
    type RemoteJob: Send + 'static;
    /// A callback that runs many times: of a timer, a watcher, a signal.
    type Callback: 'static;
    /// Told once how an operation ended.
    type Completion: 'static;
    /// The protocol of a stream connection.
    type Protocol: StreamProtocol<Self>;
    /// The protocol of a datagram endpoint.
    type DatagramProtocol: DatagramProtocol<Self>;
    /// What makes the protocols of a server's connections.
    type Factory: 'static;

    /// Runs a job.
    fn run_job(&self, engine: &Engine<Self>, job: Self::Job) -> Flow;

    /// Makes a job of what another thread sent.
    fn accept_remote(&self, job: Self::RemoteJob) -> Self::Job;

    /// Runs a repeated callback.
    fn call(&self, engine: &Engine<Self>, callback: &mut Self::Callback, why: Occasion) -> Flow;

    /// Tells that an operation ended.
    fn complete(
        &self,
        engine: &Engine<Self>,
        completion: Self::Completion,
        outcome: Outcome,
    ) -> Flow;

    /// Makes the protocol of an accepted connection. On a failure the connection is closed.
    fn accepted(
        &self,
        engine: &Engine<Self>,
        factory: &mut Self::Factory,
        stream: StreamKey<Self>,
        peer: &Address,
    ) -> Verdict<Self::Protocol>;

    /// A connection of this listener is gone; the listener may be too.
    fn connection_released(&self, _engine: &Engine<Self>, _listener: ListenerKey<Self>) {}

    /// Hears of a listener's trouble (no descriptors left, connections over the limit).
    fn accept_failed(&self, engine: &Engine<Self>, factory: &mut Self::Factory, why: AcceptFault);

    /// Hears of what nobody else can be told.
    fn report(&self, engine: &Engine<Self>, report: Report);

    /// Waits. A host that must let others run meanwhile does so here, if the wait
    /// [`blocks`](Wait::blocks).
    ///
    /// `Break` ends the run before anything is called; what the wait found is queued all the same.
    /// A host whose signal handlers may raise (Python's KeyboardInterrupt) says so.
    fn wait(&self, wait: &mut dyn Wait) -> Flow {
        wait.wait();
        Flow::Continue(())
    }
}

/// Why a repeated callback is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Occasion {
    /// Its timer is due.
    Timer,
    /// Its descriptor is ready for these, out of what was asked for. Both, on an error.
    Ready(Interest),
    /// The signal arrived.
    Signal(Signal),
    /// Another thread or a signal handler fired its trigger.
    Triggered,
}

/// How much of the bytes offered a protocol used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consumed {
    /// All of them.
    All,
    /// This many from the front; the rest is offered again.
    Count(usize),
}

/// The engine's view of a stream protocol. See [`Protocol`](crate::Protocol) for the contract as
/// users see it; here each callback may also fail.
pub trait StreamProtocol<H: Host>: 'static {
    /// The transport exists.
    fn connection_made(&mut self, engine: &Engine<H>, stream: StreamKey<H>) -> Verdict<()>;

    /// Bytes may flow.
    fn connection_established(&mut self, engine: &Engine<H>, stream: StreamKey<H>) -> Verdict<()>;

    /// Bytes arrived.
    fn data_received(
        &mut self,
        engine: &Engine<H>,
        stream: StreamKey<H>,
        data: &[u8],
    ) -> Verdict<Consumed>;

    /// The memory to read the next bytes into. `None`: this protocol lends none, and is not asked
    /// again.
    fn lend(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _size_hint: usize,
    ) -> Verdict<Option<Buffer>> {
        Ok(None)
    }

    /// The lent memory comes back with `count` bytes of it filled; zero when nothing was read.
    fn buffer_updated(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _buffer: Buffer,
        _count: usize,
    ) -> Verdict<()> {
        Ok(())
    }

    /// The peer ended its direction. Returns whether ours stays open.
    fn eof_received(&mut self, engine: &Engine<H>, stream: StreamKey<H>) -> Verdict<bool>;

    /// More is buffered than the high mark. Called only if
    /// [`StreamOptions::tell_pressure`](crate::StreamOptions) says so; a host that calls
    /// its protocol inside `write`, by what [`Engine::stream_write`] returned, says no.
    fn pause_writing(&mut self, engine: &Engine<H>, stream: StreamKey<H>) -> Verdict<()>;

    /// No more is buffered than the low mark.
    fn resume_writing(&mut self, engine: &Engine<H>, stream: StreamKey<H>) -> Verdict<()>;

    /// Everything written has been given to the kernel.
    fn io_out(&mut self, engine: &Engine<H>, stream: StreamKey<H>) -> Verdict<()>;

    /// The peer's name has no address, or could not be looked up. As for all hooks below:
    /// [`Closed::problem`] has the whole story; [`Engine::stream_reconnect`] is legal; without it,
    /// and without a plan that has an attempt left, [`connection_lost`](Self::connection_lost)
    /// follows.
    fn error_dns(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _closed: &Closed,
    ) -> Verdict<()> {
        Ok(())
    }

    /// The peer's name was not looked up in time.
    fn timeout_dns(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _closed: &Closed,
    ) -> Verdict<()> {
        Ok(())
    }

    /// No address answered in time.
    fn timeout_connecting(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _closed: &Closed,
    ) -> Verdict<()> {
        Ok(())
    }

    /// A layer's handshake took too long, or the attempt as a whole did in one.
    fn timeout_handshake(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _closed: &Closed,
    ) -> Verdict<()> {
        Ok(())
    }

    /// An established connection was quiet for as long as
    /// [`Timeouts::idle`](crate::Timeouts::idle) says. It stays up.
    fn timeout_idle(&mut self, _engine: &Engine<H>, _stream: StreamKey<H>) -> Verdict<()> {
        Ok(())
    }

    /// No address could be connected.
    fn error_connecting(
        &mut self,
        engine: &Engine<H>,
        stream: StreamKey<H>,
        closed: &Closed,
    ) -> Verdict<()>;

    /// A layer has finished its handshake. Before
    /// [`connection_established`](Self::connection_established) for those of the beginning.
    fn layer_ready(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _layer: &'static str,
        _info: &Info,
    ) -> Verdict<()> {
        Ok(())
    }

    /// A layer was put in by [`Engine::stream_push_layer`].
    fn layer_added(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _layer: &'static str,
    ) -> Verdict<()> {
        Ok(())
    }

    /// A layer is gone: what comes now comes from the layer below it.
    fn layer_removed(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _layer: &'static str,
        _how: How,
    ) -> Verdict<()> {
        Ok(())
    }

    /// Nothing has passed an [`Idle`](tepal_layers::Idle) layer for its time.
    fn layer_idle(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _layer: &'static str,
    ) -> Verdict<()> {
        Ok(())
    }

    /// A client of a proxy layer has said where it wants to go: the layer waits for a
    /// [`ProxyAnswer`](tepal_layers::ProxyAnswer), by [`Engine::stream_command`].
    fn layer_request(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _layer: &'static str,
        _request: &ProxyRequest,
    ) -> Verdict<()> {
        Ok(())
    }

    /// A layer could not be built, or its handshake failed ([`Closed::layer_error`] names it);
    /// [`connection_lost`](Self::connection_lost) follows with the same record.
    fn error_layer(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _closed: &Closed,
    ) -> Verdict<()> {
        Ok(())
    }

    /// The end of an established connection, or of attempts that all failed.
    fn connection_lost(
        &mut self,
        engine: &Engine<H>,
        stream: StreamKey<H>,
        closed: &Closed,
    ) -> Verdict<()>;

    /// No other attempt follows: the protocol is dropped after this. Right after the last
    /// [`connection_lost`](Self::connection_lost).
    fn finished(
        &mut self,
        _engine: &Engine<H>,
        _stream: StreamKey<H>,
        _closed: &Closed,
    ) -> Verdict<()> {
        Ok(())
    }
}

/// The engine's view of a datagram protocol. See [`DatagramProtocol`](crate::DatagramProtocol).
pub trait DatagramProtocol<H: Host>: 'static {
    /// The transport exists and the socket is bound.
    fn connection_made(&mut self, engine: &Engine<H>, endpoint: DatagramKey<H>) -> Verdict<()>;

    /// A datagram arrived; `data` may be empty.
    fn datagram_received(
        &mut self,
        engine: &Engine<H>,
        endpoint: DatagramKey<H>,
        data: &[u8],
        peer: Option<&Address>,
    ) -> Verdict<()>;

    /// The kernel told of an error (such as a refusal by the peer's host); the endpoint goes on.
    fn error_received(
        &mut self,
        engine: &Engine<H>,
        endpoint: DatagramKey<H>,
        error: std::io::Error,
    ) -> Verdict<()>;

    /// More is buffered than the high mark.
    fn pause_writing(&mut self, engine: &Engine<H>, endpoint: DatagramKey<H>) -> Verdict<()>;

    /// No more is buffered than the low mark.
    fn resume_writing(&mut self, engine: &Engine<H>, endpoint: DatagramKey<H>) -> Verdict<()>;

    /// The end. The protocol is dropped after this.
    fn connection_lost(
        &mut self,
        engine: &Engine<H>,
        endpoint: DatagramKey<H>,
        closed: &Closed,
    ) -> Verdict<()>;
}

/// Ends the run if a verdict says so; ordinary failures have been reported and end here.
pub(crate) fn flow_of<T>(verdict: &Verdict<T>) -> Flow {
    match verdict {
        Err(Failure::Run) => Flow::Break(()),
        Ok(_) | Err(Failure::Connection) => Flow::Continue(()),
    }
}
