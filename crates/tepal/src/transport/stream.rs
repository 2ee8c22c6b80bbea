use std::time::Duration;

use tepal_base::ByteQueue;
use tepal_driver::Descriptor;

use super::Closed;
use super::file::{FilePart, Files};
use super::layers::{Feed, Layers, Recipe};
use super::limit::Limit;
use super::reach::{Reaching, Timeouts, Watch};
use super::read_out::SendFailure;
use super::relay::Relay;
use super::stream_options::{Reads, StreamOptions};
use crate::engine::{
    Engine, Flow, Held, Host, ListenerKey, Object, Step, StreamKey, TimerKey, stream,
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
    pub(super) reads: Reads,
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
    // Set from when sending has failed to the end.
    pub(super) send_failure: Option<Box<SendFailure>>,
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
            reads: Reads::Bytes,
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
            send_failure: None,
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
        self.layers.is_none() && self.may_tell()
    }

    /// Whether the protocol may be given bytes, if its layers have some.
    #[inline]
    pub(super) fn may_tell(&self) -> bool {
        self.phase == Phase::Established
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
}
