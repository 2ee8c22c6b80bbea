//! What a host needs that keeps its users' protocols itself, and calls them inside `write`.

use std::io::IoSlice;

use tepal_base::Segment;

use super::stream::Phase;
use super::{CloseKind, Closed, Crossing, DatagramKey};
use crate::engine::{Engine, Host, Step, StreamKey, datagram, stream};

/// A segment of this size or more with nothing queued goes to the kernel at once; see `flush.rs`.
const DIRECT: usize = 16 * 1024;

impl<H: Host> Engine<H> {
    /// Ends a connection because of a failure that the host knows; its protocol is told in a later
    /// turn, of [`CloseKind::ProtocolFailed`]. What the kernel does not take now is dropped.
    pub fn stream_fail(&self, key: StreamKey<H>) {
        self.flush_plain(key);
        self.stream_lose(key, Closed::new(CloseKind::ProtocolFailed));
    }

    /// Closes at once like [`stream_abort`](Engine::stream_abort), but without asking for a reset:
    /// the peer sees the end of the stream, unless it had sent what was not read. What was written
    /// in this turn is given to the kernel first, as if each write had gone there at once.
    pub fn stream_drop(&self, key: StreamKey<H>) {
        self.flush_plain(key);
        self.stream_lose(key, Closed::new(CloseKind::Aborted));
    }

    // Writes of this turn wait for its end only to leave together; the end of the connection must
    // not make that seen.
    fn flush_plain(&self, key: StreamKey<H>) {
        let due = stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|stream| stream.dirty && stream.layers.is_none());
        if due {
            // A plain stream's flush tells nobody: what it finds is queued.
            let _ = self.flush_stream(key);
        }
    }

    /// Gives the kernel its chance after a write that rose above the high mark, before the writer
    /// is told to pause. [`Crossing::High`]: it is still above, and the host tells so now;
    /// [`resume_writing`](crate::engine::StreamProtocol::resume_writing) follows.
    ///
    /// For hosts that call their protocol inside `write`, where a kernel that takes everything at
    /// once must not be noticed. (With [`StreamOptions::tell_pressure`](crate::StreamOptions) the
    /// flush at the end of the turn comes before the notice anyway.)
    pub fn stream_relieve(&self, key: StreamKey<H>) -> Crossing {
        // It tells nobody: what it finds is queued.
        let _ = self.flush_stream(key);
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Crossing::None };
        if stream.over && stream.buffered() > stream.high {
            return Crossing::High;
        }
        stream.over = false;
        stream.told_over = false;
        Crossing::None
    }

    /// The host's protocol object now stands for another user's protocol, which may lend memory
    /// and has not seen what the one before left unread.
    pub fn stream_protocol_changed(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        stream.offer |= !stream.unread.is_empty();
        (stream.may_lend, stream.wants_io_out) = (true, true);
        stream.layers.iter_mut().for_each(|layers| layers.offer_again = true);
        let (read, pump) = (stream.queue_read(), stream.queue_pump());
        drop(objects);
        if read {
            self.push_step(key, Step::Read);
        }
        if pump {
            self.push_step(key, Step::Pump);
        }
    }

    /// Appends a segment without a copy. See [`Engine::stream_write`].
    pub fn stream_write_segment(&self, key: StreamKey<H>, segment: Segment) -> Crossing {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Crossing::None };
        if stream.is_ending() || stream.has_ended_output() || !stream.takes_write(segment.len()) {
            return Crossing::None;
        }
        if let Some(layers) = &mut stream.layers {
            layers.inbox.write_segment(segment);
            return self.note_written(key, stream);
        }
        let mut gone = 0;
        if let (Phase::Established, Some(descriptor), false, false, true) = (
            stream.phase,
            stream.descriptor,
            stream.blocked,
            stream.has_output(),
            segment.len() >= DIRECT,
        ) {
            match core.driver.borrow_mut().send(descriptor, &[IoSlice::new(&segment)]) {
                Ok(sent) => {
                    stream.blocked = sent.blocked;
                    stream.sent += sent.count as u64;
                    gone = sent.count;
                }
                Err(error) => stream.note_refused(error),
            }
        }
        if gone == segment.len() {
            stream.drained = stream.wants_io_out;
            if stream.drained && !std::mem::replace(&mut stream.notify_queued, true) {
                self.push_step(key, Step::Notify);
            }
            return Crossing::None;
        }
        stream.output.push(segment);
        stream.output.consume(gone, &mut core.workspace.pool());
        self.note_written(key, stream)
    }

    /// The marks of a datagram endpoint: low and high, in bytes.
    pub fn datagram_write_marks(&self, key: DatagramKey<H>) -> (usize, usize) {
        let mut objects = self.core().objects.borrow_mut();
        datagram(&mut objects, key).map_or((0, 0), |endpoint| endpoint.write_marks())
    }

    /// Sets the marks between which an endpoint's protocol is told to pause and to resume.
    pub fn datagram_set_write_marks(
        &self,
        key: DatagramKey<H>,
        low: usize,
        high: usize,
    ) -> Crossing {
        let mut objects = self.core().objects.borrow_mut();
        let Some(endpoint) = datagram(&mut objects, key) else { return Crossing::None };
        let (crossing, notify) = endpoint.set_write_marks(low, high);
        if notify {
            self.push_step(key, Step::Notify);
        }
        crossing
    }
}
