use std::time::Duration;

use tepal_base::ByteQueue;
use tepal_driver::{Descriptor, Half, Interest};

use super::file::{FilePart, Files};
use super::layers::{Feed, Layers, Recipe};
use super::limit::Limit;
use super::reach::{Reaching, Timeouts, Watch};
use super::relay::Relay;
use super::{CloseKind, Closed};
use crate::engine::{
    Engine, Flow, Held, Host, ListenerKey, Object, Step, StreamKey, TimerKey, Verdict, flow_of,
    stream,
};

/// A stream connection: a descriptor, a protocol, and what is buffered between them.
///
/// ```text
/// outbound   Attached ─▶ Resolving ─▶ Connecting ─▶ Established ─▶ Lost ─▶ (gone)
///                 ▲                                                 │
///                 └───────────────────── Waiting ◀──────────────────┘
/// inbound    Attached ─────────────────────────────▶ Established ─▶ Lost ─▶ (gone)
/// ```
///
/// With layers there is `Handshaking` before `Established`, from when the wire stands until all of
/// them are ready.
///
/// `closing` is set beside the phase, by `close()` while bytes are left, and ends in `Lost` too.
pub(crate) struct Stream<H: Host> {
    // None before an outbound connection has its socket.
    pub(super) descriptor: Option<Descriptor>,
    // None while it is called, and before `stream_begin`.
    pub(super) protocol: Option<H::Protocol>,
    pub(super) phase: Phase,
    // connection_made has been told.
    pub(super) made: bool,
    // ---- reading
    pub(super) paused: bool,
    // The kernel may have something to pull.
    pub(crate) readable: bool,
    pub(super) read_queued: bool,
    pub(super) peer_eof: bool,
    // Bytes that the protocol has not taken. Invariant: `offer` says whether some of them were
    // never offered, or must be offered again.
    pub(super) unread: Vec<u8>,
    pub(super) offer: bool,
    pub(super) read_low: usize,
    pub(super) read_limit: usize,
    // ---- writing
    pub(super) output: ByteQueue,
    // Bytes of `output` that have left since the beginning.
    pub(super) sent: u64,
    pub(super) files: Option<Box<Files<H>>>,
    pub(super) relay: Option<Box<Relay<H>>>,
    pub(super) dirty: bool,
    // The kernel takes nothing more; an event will tell.
    pub(super) blocked: bool,
    pub(super) write_queued: bool,
    pub(super) end_output: EndOutput,
    pub(super) high: usize,
    pub(super) low: usize,
    // More than `high` is buffered, and not yet `low` again.
    pub(super) over: bool,
    // The host wants to be told of pressure through Notify. Each rise above `high` is told, and
    // then each fall to `low`, even if both are over by then: a writer may already have stopped
    // because of what `write` returned.
    pub(super) tell_pressure: bool,
    pub(super) pause_due: bool,
    pub(super) told_over: bool,
    pub(super) drained: bool,
    // What the protocol has not declined: to be asked for memory, to be told of an empty buffer.
    pub(super) may_lend: bool,
    pub(super) wants_io_out: bool,
    pub(super) notify_queued: bool,
    // ---- the end
    pub(super) closing: bool,
    // A layer has left without its peer's goodbye, so more may come: see `linger`.
    pub(super) unanswered: bool,
    // The protocol has been told of the end, and input is drained for a while: see `linger`.
    pub(super) lingering: bool,
    pub(super) closing_timeout: Limit,
    pub(super) timer: Option<TimerKey<H>>,
    pub(super) closed: Option<Box<Closed>>,
    pub(super) listener: Option<ListenerKey<H>>,
    // The way, where it is ours to go.
    pub(super) outbound: Option<Box<Reaching<H>>>,
    // Of an inbound stream; an outbound one has its own.
    pub(super) timeouts: Option<Box<Timeouts>>,
    // None unless something of an established stream is limited.
    pub(super) watch: Option<Box<Watch<H>>>,
    // ---- layers
    pub(super) recipe: Option<Box<Recipe>>,
    // None while bytes pass between the kernel and the protocol without any.
    pub(super) layers: Option<Box<Layers<H>>>,
    pub(super) handshake_timeout: Limit,
    pub(super) shutdown_timeout: Limit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Attached,
    // The name's addresses are being asked for.
    Resolving,
    Connecting,
    Handshaking,
    Established,
    Lost,
    // A new attempt begins when the timer is due.
    Waiting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EndOutput {
    No,
    Wanted,
    Done,
}

/// What a write did to the buffer.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Crossing, Protocol, Transport};
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
/// let transport = event_loop.attach(Quiet, ours.into())?;
/// transport.set_write_buffer_limits(10, 100)?;
/// assert_eq!(transport.write(&[0; 60]), Crossing::None);
/// assert_eq!(transport.write(&[0; 60]), Crossing::High); // stop here
/// assert_eq!(transport.write(&[0; 60]), Crossing::None); // it was above before
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// It stayed below the high mark, or was above it before.
    None,
    /// It rose above the high mark.
    High,
}

/// How a stream behaves, where its users have not said.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How long `close` waits while the peer takes no byte; `None`: for ever, as asyncio does. All
    /// spans count in whole milliseconds, rounded up; more than 49 days is for ever.
    pub closing_timeout: Option<Duration>,
    /// Whether [`pause_writing`](crate::engine::StreamProtocol::pause_writing) and its twin are
    /// called by the engine.
    pub tell_pressure: bool,
    /// How long each layer's handshake may take, from when the layer below it is ready.
    pub handshake_timeout: Duration,
    /// How long a close waits for the peer's answer to a layer's goodbye once all bytes have left,
    /// where `closing_timeout` sets no limit.
    pub shutdown_timeout: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions {
            closing_timeout: Some(Duration::from_secs(5)),
            tell_pressure: true,
            handshake_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

/// asyncio's default marks.
const HIGH_MARK: usize = 64 * 1024;
const LOW_MARK: usize = HIGH_MARK / 4;
/// What a protocol may leave unread before it must make progress.
const READ_LIMIT: usize = 256 * 1024;

impl<H: Host> Stream<H> {
    /// Shows what it keeps of the host's.
    pub(crate) fn visit<E>(
        &self,
        visit: &mut impl FnMut(Held<'_, H>) -> Result<(), E>,
    ) -> Result<(), E> {
        let files = self.files.iter().flat_map(|files| files.iter());
        files
            .filter_map(FilePart::completion)
            .chain(self.relay.as_ref().and_then(|relay| relay.completion()))
            .chain(self.layers.iter().flat_map(|layers| layers.completions()))
            .try_for_each(|completion| visit(Held::Completion(completion)))?;
        self.protocol.as_ref().map_or(Ok(()), |protocol| visit(Held::Protocol(protocol)))
    }

    pub(super) fn new(descriptor: Option<Descriptor>) -> Stream<H> {
        Stream {
            descriptor,
            protocol: None,
            phase: Phase::Attached,
            made: false,
            paused: false,
            readable: false,
            read_queued: false,
            peer_eof: false,
            unread: Vec::new(),
            offer: false,
            read_low: 1,
            read_limit: READ_LIMIT,
            output: ByteQueue::new(),
            sent: 0,
            files: None,
            relay: None,
            dirty: false,
            blocked: false,
            write_queued: false,
            end_output: EndOutput::No,
            high: HIGH_MARK,
            low: LOW_MARK,
            over: false,
            tell_pressure: true,
            pause_due: false,
            told_over: false,
            drained: false,
            may_lend: true,
            wants_io_out: true,
            notify_queued: false,
            closing: false,
            unanswered: false,
            lingering: false,
            closing_timeout: Limit::new(StreamOptions::default().closing_timeout),
            timer: None,
            closed: None,
            listener: None,
            outbound: None,
            timeouts: None,
            watch: None,
            recipe: None,
            layers: None,
            handshake_timeout: Limit::new(Some(StreamOptions::default().handshake_timeout)),
            shutdown_timeout: Limit::new(Some(StreamOptions::default().shutdown_timeout)),
        }
    }

    pub(crate) fn accepted(descriptor: Descriptor, listener: ListenerKey<H>) -> Stream<H> {
        Stream { listener: Some(listener), ..Stream::new(Some(descriptor)) }
    }

    fn set_options(&mut self, options: StreamOptions) {
        self.closing_timeout = Limit::new(options.closing_timeout);
        self.tell_pressure = options.tell_pressure;
        self.handshake_timeout = Limit::new(Some(options.handshake_timeout));
        self.shutdown_timeout = Limit::new(Some(options.shutdown_timeout));
    }

    pub(crate) fn listener(&self) -> Option<ListenerKey<H>> {
        self.listener
    }

    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        self.descriptor
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// An event says that there may be room. Whether to queue a step.
    pub(crate) fn note_writable(&mut self) -> bool {
        let due = self.phase == Phase::Connecting || self.blocked;
        let queue = due && !self.write_queued;
        self.write_queued |= queue;
        queue
    }

    /// Whether a read step is due and not queued; marks it queued.
    #[inline]
    pub(crate) fn queue_read(&mut self) -> bool {
        let may_read = self.wants_wire() || self.lingering;
        let due = may_read && (self.readable || self.offer) && !self.read_queued;
        self.read_queued |= due;
        due
    }

    /// Whether the protocol may be given bytes, where no layer stands before it.
    #[inline]
    pub(super) fn may_read(&self) -> bool {
        self.phase == Phase::Established
            && self.layers.is_none()
            && !self.paused
            && !self.closing
            && self.relay.as_ref().is_none_or(|relay| !relay.is_held())
    }

    pub(super) fn closed_mut(&mut self) -> Option<&mut Closed> {
        self.closed.as_deref_mut()
    }

    /// Whether bytes, or parts of files, wait to be sent.
    #[inline]
    pub(super) fn has_output(&self) -> bool {
        self.has_wire_output() || self.layers.as_ref().is_some_and(|layers| layers.buffered() > 0)
    }

    /// Whether some of them have passed all layers.
    #[inline]
    pub(super) fn has_wire_output(&self) -> bool {
        !self.output.is_empty()
            || self.files.as_ref().is_some_and(|files| !files.is_empty())
            || self.piped() > 0
    }

    /// Whether the owner has ended our direction.
    #[inline]
    pub(super) fn has_ended_output(&self) -> bool {
        self.end_output != EndOutput::No
            || self.layers.as_ref().is_some_and(|layers| layers.wrote_eof)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.closing || self.phase == Phase::Lost
    }
}

impl<H: Host> Engine<H> {
    /// Makes a stream of a connected descriptor. `connection_made` and `connection_established`
    /// follow in the next turn.
    pub fn stream(
        &self,
        descriptor: Descriptor,
        protocol: H::Protocol,
        options: StreamOptions,
    ) -> StreamKey<H> {
        self.insert_stream(Stream::new(Some(descriptor)), protocol, options)
    }

    pub(super) fn insert_stream(
        &self,
        mut stream: Stream<H>,
        protocol: H::Protocol,
        options: StreamOptions,
    ) -> StreamKey<H> {
        stream.set_options(options);
        let key = self.core().objects.borrow_mut().insert(Object::Stream(Box::new(stream)));
        self.stream_begin(key, protocol);
        key
    }

    /// Sets how long a close may wait while the peer takes no byte; `None`: for ever. For a close
    /// that has begun, from the next byte on.
    pub fn stream_set_closing_timeout(&self, key: StreamKey<H>, timeout: Option<Duration>) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.closing_timeout = Limit::new(timeout);
        }
    }

    /// Sets a stream's options.
    pub fn stream_set_options(&self, key: StreamKey<H>, options: StreamOptions) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.set_options(options);
        }
    }

    /// Gives a new stream its protocol, and queues the first callback.
    pub(crate) fn stream_begin(&self, key: StreamKey<H>, protocol: H::Protocol) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else {
            drop(objects);
            drop(protocol);
            return;
        };
        stream.protocol = Some(protocol);
        if let Some(descriptor) = stream.descriptor {
            let registered =
                core.driver.borrow_mut().register(descriptor, key.to_bits(), Interest::READ);
            if let Err(error) = registered {
                drop(objects);
                self.push_step(key, Step::Made);
                self.stream_lose(key, Closed::failed(Half::Both, error));
                return;
            }
        }
        drop(objects);
        self.push_step(key, Step::Made);
    }

    pub(crate) fn stream_step(&self, key: StreamKey<H>, step: Step) -> Flow {
        match step {
            Step::Read => self.stream_read(key, self.core().objects.borrow_mut()),
            Step::Write => self.stream_writable(key),
            Step::Notify => self.stream_notify(key),
            Step::Made => self.stream_made(key),
            Step::Connect => self.stream_open(key),
            Step::Resolved => self.stream_answered(key),
            Step::Watch => self.stream_watch_timeout(key),
            Step::Lost => self.stream_lost(key),
            Step::Timeout => self.stream_timeout(key),
            Step::Pump => self.stream_pump(key, Feed::Nothing),
            Step::LayerTimeout => self.stream_pump(key, Feed::Timeout),
        }
    }

    /// Calls the protocol, unless it is gone, with nothing borrowed. A failure costs the
    /// connection. `Continue(None)`: it was not called, or failed.
    #[inline]
    pub(super) fn call_protocol<R>(
        &self,
        key: StreamKey<H>,
        call: impl FnOnce(&mut H::Protocol) -> Verdict<R>,
    ) -> std::ops::ControlFlow<(), Option<R>> {
        let core = self.core();
        let taken = stream(&mut core.objects.borrow_mut(), key).and_then(|s| s.protocol.take());
        let Some(mut protocol) = taken else { return std::ops::ControlFlow::Continue(None) };
        let verdict = call(&mut protocol);
        let mut objects = core.objects.borrow_mut();
        let unused = match stream(&mut objects, key) {
            Some(stream @ Stream { protocol: None, .. }) => {
                stream.protocol = Some(protocol);
                None
            }
            // Another one was set meanwhile, or the stream is gone.
            _ => Some(protocol),
        };
        drop(objects);
        drop(unused);
        match verdict {
            Ok(value) => std::ops::ControlFlow::Continue(Some(value)),
            Err(_) => {
                self.stream_lose(key, Closed::new(CloseKind::ProtocolFailed));
                flow_of(&verdict)?;
                std::ops::ControlFlow::Continue(None)
            }
        }
    }

    pub(super) fn arm_stream(&self, key: StreamKey<H>, span: Duration) {
        let old = stream(&mut self.core().objects.borrow_mut(), key).and_then(|s| s.timer);
        let timer = self.arm_object(key, old, self.now() + span);
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.timer = Some(timer);
        }
    }

    // ---- what users ask and set

    /// How the connection ended; `None` while it has not.
    pub fn stream_closed(&self, key: StreamKey<H>) -> Option<Closed> {
        let mut objects = self.core().objects.borrow_mut();
        stream(&mut objects, key)?.closed.as_deref().cloned()
    }

    /// Whether the stream is closing, closed, or gone.
    pub fn stream_is_closing(&self, key: StreamKey<H>) -> bool {
        stream(&mut self.core().objects.borrow_mut(), key).is_none_or(|s| s.is_ending())
    }

    /// Whether the stream is connected and not closing.
    pub fn stream_is_established(&self, key: StreamKey<H>) -> bool {
        stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|s| s.phase == Phase::Established && !s.closing)
    }

    /// The driver's descriptor.
    pub fn stream_descriptor(&self, key: StreamKey<H>) -> Option<Descriptor> {
        stream(&mut self.core().objects.borrow_mut(), key)?.descriptor
    }

    /// Replaces the protocol; from within its own callback too. The old one is dropped.
    pub fn stream_set_protocol(&self, key: StreamKey<H>, protocol: H::Protocol) {
        let mut objects = self.core().objects.borrow_mut();
        let old = match stream(&mut objects, key) {
            Some(stream) => {
                // The new one has not seen what the old one left.
                stream.offer |= !stream.unread.is_empty();
                (stream.may_lend, stream.wants_io_out) = (true, true);
                stream.layers.iter_mut().for_each(|layers| layers.offer_again = true);
                if stream.queue_pump() {
                    self.push_step(key, Step::Pump);
                }
                if stream.queue_read() {
                    self.push_step(key, Step::Read);
                }
                stream.protocol.replace(protocol)
            }
            None => Some(protocol),
        };
        drop(objects);
        drop(old);
    }

    /// Replaces the protocol by one that then hears everything from `connection_made` on, in the
    /// next turn, as if the established connection were new.
    pub fn stream_begin_again(&self, key: StreamKey<H>, protocol: H::Protocol) {
        self.stream_set_protocol(key, protocol);
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.made = false;
        }
        self.push_step(key, Step::Made);
    }

    /// Says that the protocol does nothing in
    /// [`io_out`](crate::engine::StreamProtocol::io_out), which is not called again until another
    /// protocol is set.
    pub fn stream_decline_io_out(&self, key: StreamKey<H>) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.wants_io_out = false;
            stream.drained = false;
        }
    }
}
