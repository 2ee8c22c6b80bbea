mod send;

use std::collections::VecDeque;
use std::io;

use tepal_base::{Buffer, Segment};
use tepal_driver::{Address, Descriptor, Half, Interest};

use super::{CloseKind, Closed, Crossing};
use crate::engine::{
    DatagramProtocol, Engine, Flow, Held, Host, Object, ObjectKey, Step, Verdict, datagram, flow_of,
};

/// The name of a datagram endpoint.
pub type DatagramKey<H> = ObjectKey<H>;

/// A datagram socket, its protocol, and the datagrams that the kernel has not taken yet.
pub(crate) struct Datagram<H: Host> {
    descriptor: Descriptor,
    // None while it is called.
    protocol: Option<H::DatagramProtocol>,
    made: bool,
    paused: bool,
    // The kernel may have something to pull.
    pub(crate) readable: bool,
    read_queued: bool,
    write_queued: bool,
    notify_queued: bool,
    output: VecDeque<(Segment, Option<Address>)>,
    buffered: usize,
    high: usize,
    low: usize,
    over: bool,
    // As in a stream: each crossing is told.
    pause_due: bool,
    told_over: bool,
    tell_pressure: bool,
    closing: bool,
    closed: Option<Box<Closed>>,
}

/// asyncio's default marks.
const HIGH_MARK: usize = 64 * 1024;
const LOW_MARK: usize = HIGH_MARK / 4;

/// What a queued datagram counts beside its bytes, so that empty ones cannot pile up unseen.
const OVERHEAD: usize = 8;

/// Datagrams taken from one socket in one turn.
const READS_PER_TURN: usize = 64;

impl<H: Host> Datagram<H> {
    /// Shows what it keeps of the host's.
    pub(crate) fn visit<E>(
        &self,
        visit: &mut impl FnMut(Held<'_, H>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.protocol.as_ref().map_or(Ok(()), |protocol| visit(Held::DatagramProtocol(protocol)))
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        self.descriptor
    }

    pub(crate) fn note_writable(&mut self) -> bool {
        let queue = !self.output.is_empty() && !self.write_queued;
        self.write_queued |= queue;
        queue
    }

    pub(super) fn write_marks(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    /// What the host hears at once, and whether to queue a notice.
    pub(super) fn set_write_marks(&mut self, low: usize, high: usize) -> (Crossing, bool) {
        (self.low, self.high) = (low, high);
        if self.over && self.buffered <= low {
            self.over = false;
            return (Crossing::None, !std::mem::replace(&mut self.notify_queued, true));
        }
        if self.over || self.buffered <= high {
            return (Crossing::None, false);
        }
        self.over = true;
        self.pause_due = self.tell_pressure;
        self.told_over |= !self.tell_pressure;
        let notify = self.tell_pressure && !std::mem::replace(&mut self.notify_queued, true);
        (Crossing::High, notify)
    }

    pub(crate) fn queue_read(&mut self) -> bool {
        let due = self.made && self.readable && !self.paused && !self.closing && !self.read_queued;
        self.read_queued |= due;
        due
    }
}

impl<H: Host> Engine<H> {
    /// Makes an endpoint of a bound or connected datagram socket. `connection_made` comes in the
    /// next turn.
    ///
    /// # Errors
    ///
    /// The driver's; the descriptor is closed then.
    pub fn datagram(
        &self,
        descriptor: Descriptor,
        protocol: H::DatagramProtocol,
        tell_pressure: bool,
    ) -> io::Result<DatagramKey<H>> {
        let core = self.core();
        let endpoint = Datagram {
            descriptor,
            protocol: Some(protocol),
            made: false,
            paused: false,
            readable: false,
            read_queued: false,
            write_queued: false,
            notify_queued: false,
            output: VecDeque::new(),
            buffered: 0,
            high: HIGH_MARK,
            low: LOW_MARK,
            over: false,
            pause_due: false,
            told_over: false,
            tell_pressure,
            closing: false,
            closed: None,
        };
        let key = core.objects.borrow_mut().insert(Object::Datagram(Box::new(endpoint)));
        let registered =
            self.with_driver(|driver| driver.register(descriptor, key.to_bits(), Interest::READ));
        if let Err(error) = registered {
            let gone = core.objects.borrow_mut().remove(key);
            gone.into_iter().for_each(|object| self.close_object(object));
            return Err(error);
        }
        self.push_step(key, Step::Made);
        Ok(key)
    }

    pub(crate) fn datagram_step(&self, key: DatagramKey<H>, step: Step) -> Flow {
        match step {
            Step::Made => self.datagram_made(key),
            Step::Read => self.datagram_read(key),
            Step::Write => self.datagram_flush(key),
            Step::Notify => self.datagram_notify(key),
            Step::Lost => self.datagram_lost(key),
            Step::Connect
            | Step::Timeout
            | Step::Pump
            | Step::LayerTimeout
            | Step::Resolved
            | Step::Watch => Flow::Continue(()),
        }
    }

    fn call_datagram<R>(
        &self,
        key: DatagramKey<H>,
        call: impl FnOnce(&mut H::DatagramProtocol) -> Verdict<R>,
    ) -> Flow {
        let objects = &self.core().objects;
        let taken = datagram(&mut objects.borrow_mut(), key).and_then(|e| e.protocol.take());
        let Some(mut protocol) = taken else { return Flow::Continue(()) };
        let verdict = call(&mut protocol);
        let mut borrowed = objects.borrow_mut();
        let unused = match datagram(&mut borrowed, key) {
            Some(endpoint @ Datagram { protocol: None, .. }) => {
                endpoint.protocol = Some(protocol);
                None
            }
            _ => Some(protocol),
        };
        drop(borrowed);
        drop(unused);
        if verdict.is_err() {
            self.datagram_lose(key, Closed::new(CloseKind::ProtocolFailed));
        }
        flow_of(&verdict)
    }

    fn datagram_made(&self, key: DatagramKey<H>) -> Flow {
        self.call_datagram(key, |protocol| protocol.connection_made(self, key))?;
        if let Some(endpoint) = datagram(&mut self.core().objects.borrow_mut(), key) {
            endpoint.made = true;
            if endpoint.queue_read() {
                self.push_step(key, Step::Read);
            }
        }
        Flow::Continue(())
    }

    fn datagram_read(&self, key: DatagramKey<H>) -> Flow {
        let core = self.core();
        if let Some(endpoint) = datagram(&mut core.objects.borrow_mut(), key) {
            endpoint.read_queued = false;
        }
        let mut buffer = self.take_scratch();
        let flow = self.datagram_pull(key, &mut buffer);
        self.give_scratch(buffer);
        flow?;
        let again = datagram(&mut core.objects.borrow_mut(), key).is_some_and(|e| e.queue_read());
        if again {
            self.push_step(key, Step::Read);
        }
        Flow::Continue(())
    }

    fn datagram_pull(&self, key: DatagramKey<H>, buffer: &mut Buffer) -> Flow {
        for _ in 0..READS_PER_TURN {
            let mut objects = self.core().objects.borrow_mut();
            let Some(endpoint) = datagram(&mut objects, key) else { return Flow::Continue(()) };
            if endpoint.paused || endpoint.closing || !endpoint.readable {
                return Flow::Continue(());
            }
            let descriptor = endpoint.descriptor;
            let target = std::mem::take(buffer);
            let received = self.with_driver(|driver| driver.receive_from(descriptor, target));
            *buffer = received.buffer;
            match received.result {
                Ok((count, peer)) => {
                    drop(objects);
                    let data = &buffer[..count];
                    self.call_datagram(key, |protocol| {
                        protocol.datagram_received(self, key, data, peer.as_ref())
                    })?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    endpoint.readable = false;
                    return Flow::Continue(());
                }
                Err(error) => {
                    drop(objects);
                    self.datagram_error(key, Half::Read, error)?;
                }
            }
        }
        Flow::Continue(())
    }

    // Refusals and unreachable hosts are told and the endpoint goes on; the rest ends it.
    fn datagram_error(&self, key: DatagramKey<H>, half: Half, error: io::Error) -> Flow {
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ArgumentListTooLong
            | io::ErrorKind::NotFound
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::InvalidInput => {
                self.call_datagram(key, |protocol| protocol.error_received(self, key, error))
            }
            // EMSGSIZE and its kin have no kind: sending one datagram failed, not the socket.
            _ if half == Half::Write => {
                self.call_datagram(key, |protocol| protocol.error_received(self, key, error))
            }
            _ => {
                self.datagram_lose(key, Closed::failed(half, error));
                Flow::Continue(())
            }
        }
    }

    /// Closes once everything queued has left.
    pub fn datagram_close(&self, key: DatagramKey<H>) {
        let done = match datagram(&mut self.core().objects.borrow_mut(), key) {
            Some(endpoint) if !endpoint.closing => {
                endpoint.closing = true;
                endpoint.output.is_empty()
            }
            _ => false,
        };
        if done {
            self.datagram_lose(key, Closed::new(CloseKind::Local));
        }
    }

    /// Closes at once; what is queued is dropped.
    pub fn datagram_abort(&self, key: DatagramKey<H>) {
        self.datagram_lose(key, Closed::new(CloseKind::Aborted));
    }

    fn datagram_lose(&self, key: DatagramKey<H>, mut closed: Closed) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(endpoint) = datagram(&mut objects, key) else { return };
        if endpoint.closed.is_some() {
            return;
        }
        endpoint.closing = true;
        let output = std::mem::take(&mut endpoint.output);
        closed.unsent = output.iter().map(|(data, _)| data.len() as u64).sum();
        endpoint.closed = Some(Box::new(closed));
        drop(objects);
        drop(output);
        self.push_step(key, Step::Lost);
    }

    fn datagram_lost(&self, key: DatagramKey<H>) -> Flow {
        let core = self.core();
        let (protocol, closed) = match datagram(&mut core.objects.borrow_mut(), key) {
            Some(endpoint) => (endpoint.protocol.take(), endpoint.closed.clone()),
            None => return Flow::Continue(()),
        };
        let verdict = match (protocol, closed) {
            (Some(mut protocol), Some(closed)) => {
                let verdict = protocol.connection_lost(self, key, &closed);
                drop(protocol);
                verdict
            }
            _ => Ok(()),
        };
        let gone = core.objects.borrow_mut().remove(key);
        gone.into_iter().for_each(|object| self.close_object(object));
        flow_of(&verdict)
    }

    /// Whether the endpoint is closing, closed, or gone.
    pub fn datagram_is_closing(&self, key: DatagramKey<H>) -> bool {
        datagram(&mut self.core().objects.borrow_mut(), key).is_none_or(|e| e.closing)
    }

    /// The driver's descriptor.
    pub fn datagram_descriptor(&self, key: DatagramKey<H>) -> Option<Descriptor> {
        datagram(&mut self.core().objects.borrow_mut(), key).map(|e| e.descriptor)
    }

    /// How many bytes wait to be sent, with a few per datagram. O(1).
    pub fn datagram_buffered(&self, key: DatagramKey<H>) -> usize {
        datagram(&mut self.core().objects.borrow_mut(), key).map_or(0, |e| e.buffered)
    }

    /// As [`stream_read_later`](Self::stream_read_later).
    pub fn datagram_read_later(&self, key: DatagramKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(endpoint) = datagram(&mut objects, key) else { return };
        let queued = std::mem::replace(&mut endpoint.read_queued, true);
        drop(objects);
        if !queued {
            self.push_step(key, Step::Read);
        }
    }

    /// Stops or resumes receiving.
    pub fn datagram_pause_reading(&self, key: DatagramKey<H>, paused: bool) {
        if let Some(endpoint) = datagram(&mut self.core().objects.borrow_mut(), key) {
            endpoint.paused = paused;
            if endpoint.queue_read() {
                self.push_step(key, Step::Read);
            }
        }
    }
}
