use std::io;
use std::time::Duration;

use tepal_base::{ByteQueue, Segment};
use tepal_driver::{Address, Connect, Descriptor, Half, Interest, SocketOption};

use super::file::Files;
use super::relay::Relay;
use super::{CloseKind, Closed};
use crate::engine::{
    Engine, Flow, Host, ListenerKey, Object, Step, StreamKey, StreamProtocol, TimerKey, Verdict,
    flow_of, stream,
};

/// A stream connection: a descriptor, a protocol, and what is buffered between them.
///
/// ```text
/// outbound   Attached ──Made──▶ Attached ──Connect──▶ Connecting ──▶ Established ─▶ Lost
/// inbound    Attached ──Made───────────────────────────────────────▶ Established ─▶ Lost
/// ```
///
/// `closing` is set beside the phase, by `close()` while bytes are left, and ends in `Lost` too.
pub(crate) struct Stream<H: Host> {
    // None before an outbound connection has its socket.
    pub(super) descriptor: Option<Descriptor>,
    // None while it is called, and before `stream_begin`.
    pub(super) protocol: Option<H::Protocol>,
    pub(super) phase: Phase,
    // connection_made has been told.
    made: bool,
    // ---- reading
    pub(super) paused: bool,
    // The kernel may have something to pull.
    pub(super) readable: bool,
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
    // The protocol has been told of the end, and input is drained for a while: see `linger`.
    pub(super) lingering: bool,
    closing_timeout: Option<Duration>,
    timer: Option<TimerKey<H>>,
    closed: Option<Box<Closed>>,
    pub(super) listener: Option<ListenerKey<H>>,
    outbound: Option<Box<Outbound>>,
}

struct Outbound {
    peer: Address,
    local: Option<Address>,
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Attached,
    Connecting,
    Established,
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EndOutput {
    No,
    Wanted,
    Done,
}

/// What a write did to the buffer.
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
    /// How long `close` waits while the peer takes no byte; `None`: for ever, as asyncio does.
    pub closing_timeout: Option<Duration>,
    /// Whether [`StreamProtocol::pause_writing`] and its twin are called by the engine.
    pub tell_pressure: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions { closing_timeout: Some(Duration::from_secs(5)), tell_pressure: true }
    }
}

/// asyncio's default marks.
const HIGH_MARK: usize = 64 * 1024;
const LOW_MARK: usize = HIGH_MARK / 4;
/// What a protocol may leave unread before it must make progress.
const READ_LIMIT: usize = 256 * 1024;

impl<H: Host> Stream<H> {
    fn new(descriptor: Option<Descriptor>) -> Stream<H> {
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
            lingering: false,
            closing_timeout: StreamOptions::default().closing_timeout,
            timer: None,
            closed: None,
            listener: None,
            outbound: None,
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

    /// An event says that there may be something to read. Whether to queue a step.
    #[inline]
    pub(crate) fn note_readable(&mut self) -> bool {
        self.readable = true;
        self.queue_read()
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
    pub(super) fn queue_read(&mut self) -> bool {
        let may_read = self.may_read() || self.lingering;
        let due = may_read && (self.readable || self.offer) && !self.read_queued;
        self.read_queued |= due;
        due
    }

    /// Whether the protocol may be given bytes.
    #[inline]
    pub(super) fn may_read(&self) -> bool {
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
        !self.output.is_empty() || self.files.as_ref().is_some_and(|files| !files.is_empty())
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

    fn insert_stream(
        &self,
        mut stream: Stream<H>,
        protocol: H::Protocol,
        options: StreamOptions,
    ) -> StreamKey<H> {
        stream.closing_timeout = options.closing_timeout;
        stream.tell_pressure = options.tell_pressure;
        let key = self.core().objects.borrow_mut().insert(Object::Stream(Box::new(stream)));
        self.stream_begin(key, protocol);
        key
    }

    /// Sets a stream's options.
    pub fn stream_set_options(&self, key: StreamKey<H>, options: StreamOptions) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.closing_timeout = options.closing_timeout;
            stream.tell_pressure = options.tell_pressure;
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

    /// Closes a stream that has no protocol yet.
    pub(crate) fn stream_discard(&self, key: StreamKey<H>) {
        let gone = self.core().objects.borrow_mut().remove(key);
        let (listener, timer) = match &gone {
            Some(Object::Stream(stream)) => (stream.listener, stream.timer),
            _ => (None, None),
        };
        if let Some(timer) = timer {
            self.timer_remove(timer);
        }
        gone.into_iter().for_each(|object| self.close_object(object));
        if let Some(listener) = listener {
            self.listener_release(listener);
        }
    }

    pub(crate) fn stream_step(&self, key: StreamKey<H>, step: Step) -> Flow {
        match step {
            Step::Read => self.stream_read(key),
            Step::Write => self.stream_writable(key),
            Step::Notify => self.stream_notify(key),
            Step::Made => self.stream_made(key),
            Step::Connect => self.stream_open(key),
            Step::Lost => self.stream_lost(key),
            Step::Timeout => self.stream_timeout(key),
            Step::Ready(_) => Flow::Continue(()),
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

    fn stream_made(&self, key: StreamKey<H>) -> Flow {
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
        self.stream_establish(key)
    }

    fn stream_open(&self, key: StreamKey<H>) -> Flow {
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
            Ok(Connect::Connected) => self.stream_establish(key),
            Ok(Connect::InProgress) => {
                if let Some(timeout) = outbound.timeout {
                    self.arm_stream(key, timeout);
                }
                Flow::Continue(())
            }
            Err(error) => self.stream_not_connected(key, error),
        }
    }

    pub(super) fn arm_stream(&self, key: StreamKey<H>, span: Duration) {
        let old = stream(&mut self.core().objects.borrow_mut(), key).and_then(|s| s.timer);
        let timer = self.arm_object(key, old, self.now() + span);
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.timer = Some(timer);
        }
    }

    fn stream_writable(&self, key: StreamKey<H>) -> Flow {
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
            Ok(()) => self.stream_establish(key),
            Err(error) => self.stream_not_connected(key, error),
        }
    }

    fn stream_establish(&self, key: StreamKey<H>) -> Flow {
        let timer = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                stream.phase = Phase::Established;
                // Closed before it was established: the timer is the closing one already.
                stream.timer.filter(|_| !stream.closing)
            }
            None => return Flow::Continue(()),
        };
        if let Some(timer) = timer {
            self.timer_disarm(timer);
        }
        self.call_protocol(key, |protocol| protocol.connection_established(self, key))?;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let read = stream.queue_read();
        drop(objects);
        if read {
            self.push_step(key, Step::Read);
        }
        // What was written early, and an early close.
        self.flush_stream(key)
    }

    fn stream_not_connected(&self, key: StreamKey<H>, error: io::Error) -> Flow {
        let closed = Closed::connect_failed(error);
        let verdict =
            self.call_protocol(key, |protocol| protocol.error_connecting(self, key, &closed));
        self.stream_lose(key, closed);
        verdict?;
        Flow::Continue(())
    }

    fn stream_timeout(&self, key: StreamKey<H>) -> Flow {
        let phase = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => stream.phase,
            None => return Flow::Continue(()),
        };
        match phase {
            Phase::Connecting => {
                let text = "no answer to the connect in time";
                self.stream_not_connected(key, io::Error::new(io::ErrorKind::TimedOut, text))
            }
            Phase::Established => {
                self.stream_reset(key);
                self.stream_lose(key, Closed::new(CloseKind::ClosingTimedOut));
                Flow::Continue(())
            }
            Phase::Lost => self.linger_timeout(key),
            Phase::Attached => Flow::Continue(()),
        }
    }

    /// Closes once everything written has left: no more is read, and `connection_lost` follows in
    /// a later turn.
    pub fn stream_close(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if stream.is_ending() {
            return;
        }
        stream.closing = true;
        let wait = match stream.phase {
            // Inbound and not told yet: what is written goes out once it is.
            Phase::Attached if stream.descriptor.is_some() => stream.has_output(),
            // Nothing was connected yet: there is nobody to send anything to.
            Phase::Attached | Phase::Connecting => false,
            Phase::Established | Phase::Lost => stream.has_output(),
        };
        let timeout = stream.closing_timeout;
        if wait && !stream.dirty && !stream.blocked {
            stream.dirty = true;
            self.core().dirty.borrow_mut().push(key);
        }
        drop(objects);
        match (wait, timeout) {
            (false, _) => self.stream_lose(key, Closed::new(CloseKind::Local)),
            (true, Some(timeout)) => self.arm_stream(key, timeout),
            (true, None) => {}
        }
    }

    /// Bytes have left while closing: the time-out starts anew.
    pub(super) fn stream_closing_progress(&self, key: StreamKey<H>) {
        let timeout = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) if stream.phase == Phase::Established => stream.closing_timeout,
            _ => None,
        };
        if let Some(timeout) = timeout {
            self.arm_stream(key, timeout);
        }
    }

    /// Closes at once: what is buffered is dropped, and the peer gets a reset.
    pub fn stream_abort(&self, key: StreamKey<H>) {
        let lost = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => stream.phase == Phase::Lost,
            None => true,
        };
        if !lost {
            self.stream_reset(key);
            self.stream_lose(key, Closed::new(CloseKind::Aborted));
        }
    }

    fn stream_reset(&self, key: StreamKey<H>) {
        let core = self.core();
        if let Some(Stream { descriptor: Some(descriptor), .. }) =
            stream(&mut core.objects.borrow_mut(), key)
        {
            // Unix sockets and pipes have no reset; for them closing is all there is.
            let linger = SocketOption::Linger(Some(Duration::ZERO));
            let _ = core.driver.borrow_mut().set_option(*descriptor, &linger);
        }
    }

    /// The connection has ended. The first reason stands; the protocol is told in a later turn.
    pub(crate) fn stream_lose(&self, key: StreamKey<H>, mut closed: Closed) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if stream.phase == Phase::Lost {
            return;
        }
        if closed.kind == CloseKind::Local && stream.peer_eof {
            closed.kind = CloseKind::PeerEof;
        }
        stream.phase = Phase::Lost;
        stream.closing = true;
        closed.unsent = stream.output.len() as u64;
        closed.unread = stream.unread.len() as u64;
        let output = std::mem::take(&mut stream.output);
        let unread = std::mem::take(&mut stream.unread);
        let files = stream.files.take();
        let timer = stream.timer.take();
        let joined = stream.relay.is_some().then(|| closed.clone());
        stream.closed = Some(Box::new(closed));
        drop(objects);
        drop((output, unread));
        for part in files.into_iter().flat_map(|files| *files) {
            let text = "the connection ended before the file was sent";
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
            self.end_file(part, Some(error));
        }
        if let Some(closed) = joined {
            self.relay_lost(key, &closed);
        }
        if let Some(timer) = timer {
            self.timer_remove(timer);
        }
        self.push_step(key, Step::Lost);
    }

    fn stream_lost(&self, key: StreamKey<H>) -> Flow {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let Some(closed) = stream.closed.clone() else { return Flow::Continue(()) };
        let protocol = stream.protocol.take();
        let made = stream.made;
        let lingers = closed.kind == CloseKind::Local && stream.may_linger();
        drop(objects);
        let mut verdict = Ok(());
        if let Some(mut protocol) = protocol {
            // A stream that failed before it was made is still made and lost, in this order.
            if !made {
                verdict = protocol.connection_made(self, key);
            }
            let lost = protocol.connection_lost(self, key, &closed);
            verdict = verdict.and(lost);
            drop(protocol);
        }
        if lingers {
            self.linger(key);
        } else {
            self.stream_discard(key);
        }
        flow_of(&verdict)
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

    /// Says that the protocol does nothing in [`StreamProtocol::io_out`], which is not called again
    /// until another protocol is set.
    pub fn stream_decline_io_out(&self, key: StreamKey<H>) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.wants_io_out = false;
            stream.drained = false;
        }
    }

    /// Appends a segment without a copy. See [`Engine::stream_write`].
    pub fn stream_write_segment(&self, key: StreamKey<H>, segment: Segment) -> Crossing {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Crossing::None };
        if stream.is_ending() || stream.end_output != EndOutput::No || segment.is_empty() {
            return Crossing::None;
        }
        stream.output.push(segment);
        self.note_written(key, stream)
    }
}
