//! From the protocol to the kernel.

use std::io::{self, IoSlice};

use tepal_driver::{Descriptor, Half};
use tepal_layers::Turn;

use super::file::{FilePart, FileStep};
use super::read_out::ReadingOut;
use super::stream::{EndOutput, Stream};
use super::{CloseKind, Closed};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, StreamProtocol, stream};

/// Slices given to the kernel in one call. Linux takes 1024; past 64 the copy dominates.
const SLICES: usize = 64;

/// System calls made for one stream in one flush, so that a peer that takes all that it is given
/// cannot hold up the others.
const SENDS_PER_FLUSH: usize = 16;

/// What a flush leaves to do once nothing is borrowed.
pub(super) struct Flushed<H: Host> {
    // File parts that are through, or whose file failed.
    files: Vec<(FilePart<H>, Option<io::Error>)>,
    failed: Option<io::Error>,
    // The other side of a join may be read again.
    feeds: bool,
    // What a joined stream was to say, its layers' goodbye included, has left.
    told_end: bool,
    // Everything has left of a plain stream that closes.
    over: bool,
    // Our direction was to end, and everything has left.
    ends: bool,
    closing: bool,
    progress: bool,
}

impl<H: Host> Engine<H> {
    /// Flushes every stream that was written to in this turn and has not been flushed since.
    pub(crate) fn flush(&self) -> Flow {
        let core = self.core();
        if core.dirty.borrow().is_empty() {
            return Flow::Continue(());
        }
        let mut dirty = core.dirty.take();
        let mut flow = Flow::Continue(());
        for key in dirty.drain(..) {
            let waits = stream(&mut core.objects.borrow_mut(), key).is_some_and(|s| s.dirty);
            if waits && self.flush_stream(key).is_break() {
                flow = Flow::Break(());
            }
        }
        let mut place = core.dirty.borrow_mut();
        if place.is_empty() {
            // Keeps the list's memory for the next turn.
            *place = dirty;
        }
        flow
    }

    pub(super) fn flush_stream(&self, key: StreamKey<H>) -> Flow {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        if stream.layers.is_some() {
            drop(objects);
            return self.flush_layered(key);
        }
        let Some(after) = self.send_output(key, stream) else { return Flow::Continue(()) };
        drop(objects);
        self.flushed(key, after)
    }

    fn flush_layered(&self, key: StreamKey<H>) -> Flow {
        let mut objects = self.core().objects.borrow_mut();
        // What was written since the pump ran has to pass the layers first.
        if stream(&mut objects, key).is_some_and(|stream| stream.has_layer_work()) {
            drop(objects);
            self.stream_advance(key);
            objects = self.core().objects.borrow_mut();
        }
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let after = self.send_output(key, stream);
        // What has left may have made room in the layers.
        let (more, closing) = (stream.has_layer_work(), stream.closing);
        let bare = stream.is_bare();
        drop(objects);
        if let Some(after) = after {
            self.flushed(key, after)?;
        }
        if more {
            self.stream_advance(key);
        }
        if bare {
            self.shed_layers(key);
        }
        if closing {
            self.stream_finish(key);
        }
        Flow::Continue(())
    }

    // The last layer is gone: from now on nothing stands between the kernel and the protocol.
    pub(super) fn shed_layers(&self, key: StreamKey<H>) {
        let core = self.core();
        let turn = Turn::new(self.now(), &core.workspace);
        let (shed, read) = match stream(&mut core.objects.borrow_mut(), key) {
            Some(stream) => (stream.shed_layers(turn), stream.queue_read()),
            None => return,
        };
        if let Some(shed) = shed {
            self.drop_shed(shed);
        }
        if read {
            self.push_step(key, Step::Read);
        }
    }

    /// Gives what waits to the kernel, as far as that takes it. What is left to do calls others and
    /// is for [`flushed`](Self::flushed), with nothing borrowed; `None`: nothing is.
    #[inline]
    pub(super) fn send_output(
        &self,
        key: StreamKey<H>,
        stream: &mut Stream<H>,
    ) -> Option<Flushed<H>> {
        stream.dirty = false;
        let (true, Some(descriptor)) = (stream.is_open(), stream.descriptor) else {
            return None;
        };
        // The common case in full: one piece, which the kernel takes whole.
        if let (Some(piece), None, None, None, None, false, false, false, EndOutput::No) = (
            stream.output.only_piece(),
            &stream.send_failure,
            &stream.files,
            &stream.relay,
            &stream.watch,
            stream.blocked,
            stream.over,
            stream.closing,
            stream.end_output,
        ) {
            let core = self.core();
            let all = piece.len();
            let sent = core.driver.borrow_mut().send(descriptor, &[IoSlice::new(piece)]);
            if let Ok(sent) = &sent {
                stream.output.consume(sent.count, &mut core.workspace.pool());
                stream.sent += sent.count as u64;
                stream.blocked = sent.blocked;
                if sent.count == all {
                    stream.note_drained();
                    if stream.drained && !std::mem::replace(&mut stream.notify_queued, true) {
                        self.push_step(key, Step::Notify);
                    }
                    return None;
                }
            }
            return self.send_rest(key, stream, descriptor, sent.err());
        }
        let refused = stream.take_refused();
        self.send_rest(key, stream, descriptor, refused)
    }

    fn send_rest(
        &self,
        key: StreamKey<H>,
        stream: &mut Stream<H>,
        descriptor: Descriptor,
        mut failed: Option<io::Error>,
    ) -> Option<Flushed<H>> {
        let core = self.core();
        let before = stream.sent;
        let had_output = stream.has_output();
        let mut files = Vec::new();
        for _ in 0..SENDS_PER_FLUSH {
            if stream.blocked || failed.is_some() {
                break;
            }
            let before_file = match stream.files.as_ref().and_then(|files| files.front()) {
                Some(part) => usize::try_from(part.at - stream.sent).unwrap_or(usize::MAX),
                None if stream.output.is_empty() && stream.piped() == 0 => break,
                None => usize::MAX,
            };
            if stream.piped() > 0 {
                failed = self.splice_out(stream, descriptor).err();
            } else if before_file == 0 {
                match self.send_file_part(stream, descriptor) {
                    Ok(ended) => files.extend(ended),
                    Err(error) => failed = Some(error),
                }
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = stream.output.io_slices_within(before_file, &mut slices);
                match core.driver.borrow_mut().send(descriptor, &slices[..count]) {
                    Ok(sent) => {
                        stream.output.consume(sent.count, &mut core.workspace.pool());
                        stream.sent += sent.count as u64;
                        stream.blocked = sent.blocked;
                    }
                    Err(error) => failed = Some(error),
                }
            }
        }
        let left = stream.buffered();
        let has_output = stream.has_output();
        let has_wire_output = stream.has_wire_output();
        let progress = stream.sent != before || !files.is_empty();
        if stream.watch.is_some() {
            self.note_out(key, stream, progress);
        }
        if failed.is_none() && has_wire_output && !stream.blocked && !stream.dirty {
            // More than one flush gives: the next turn goes on.
            if !std::mem::replace(&mut stream.write_queued, true) {
                self.push_step(key, Step::Write);
            }
        }
        if stream.over && left <= stream.low {
            stream.over = false;
            // A host that calls pause_writing itself has done so.
            stream.told_over |= !stream.tell_pressure;
        }
        if !has_output && had_output {
            stream.note_drained();
        }
        if (stream.drained || (stream.told_over && !stream.over)) && !stream.notify_queued {
            stream.notify_queued = true;
            self.push_step(key, Step::Notify);
        }
        Some(Flushed {
            files,
            failed,
            feeds: stream.relay.is_some() && left <= stream.low && stream.piped() == 0,
            told_end: stream.relay.is_some() && stream.has_told_end(),
            // A layered stream closes when its layers have.
            over: !has_wire_output && stream.closing && stream.layers.is_none(),
            ends: !has_wire_output && stream.end_output == EndOutput::Wanted,
            closing: stream.closing,
            progress,
        })
    }

    /// Bytes have left, or wait and could not: for the limits of quiet and of a stuck peer.
    pub(super) fn note_out(&self, key: StreamKey<H>, stream: &mut Stream<H>, moved: bool) {
        let waits = stream.has_wire_output();
        let Some(watch) = &mut stream.watch else { return };
        if watch.note_out(moved, waits, self.now()) {
            self.arm_watch_of(key, watch);
        }
    }

    /// What follows from a flush.
    pub(super) fn flushed(&self, key: StreamKey<H>, after: Flushed<H>) -> Flow {
        for (part, error) in after.files {
            self.end_file(part, error);
        }
        if after.feeds {
            self.relay_drained(key);
        }
        if after.told_end {
            self.relay_check(key);
        }
        if let Some(error) = after.failed {
            self.stream_write_failed(key, Closed::failed(Half::Write, error));
        } else if after.ends {
            self.end_output(key);
            if after.over {
                self.stream_lose(key, Closed::new(CloseKind::Local));
            }
        } else if after.over {
            self.stream_lose(key, Closed::new(CloseKind::Local));
        } else if after.closing && after.progress {
            self.stream_closing_progress(key);
        }
        Flow::Continue(())
    }

    // Sending has failed. What the peer said before (an early answer, a TLS alert) may still stand
    // in the kernel, and tells more than the error does: it is read to its end first.
    fn stream_write_failed(&self, key: StreamKey<H>, closed: Closed) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        let Some(layers) = &mut stream.layers else {
            drop(objects);
            return self.begin_read_out(key, closed);
        };
        stream.blocked = true;
        layers.write_failed.get_or_insert(Box::new(ReadingOut::new(closed)));
        stream.readable = true;
        if !std::mem::replace(&mut stream.read_queued, true) {
            self.push_step(key, Step::Read);
        }
    }

    // One step of the file part that is next. `Ok(Some)`: it is through, or its file failed. `Err`:
    // the connection failed.
    fn send_file_part(
        &self,
        stream: &mut Stream<H>,
        descriptor: Descriptor,
    ) -> io::Result<Option<(FilePart<H>, Option<io::Error>)>> {
        let Some(files) = &mut stream.files else { return Ok(None) };
        let Some(part) = files.front_mut() else { return Ok(None) };
        let error = match part.send(descriptor, &mut **self.core().driver.borrow_mut()) {
            FileStep::More => return Ok(None),
            FileStep::Blocked => {
                stream.blocked = true;
                return Ok(None);
            }
            FileStep::Done => None,
            FileStep::Failed(error) => match error.kind() {
                io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::TimedOut => return Err(error),
                // The file's fault: what follows it is still in order, and the owner is told.
                _ => Some(error),
            },
        };
        Ok(files.pop_front().map(|part| (part, error)))
    }

    /// Tells the protocol what changed since it was told last.
    pub(super) fn stream_notify(&self, key: StreamKey<H>) -> Flow {
        let pause = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                stream.notify_queued = false;
                if stream.relay.is_some() {
                    // The protocol does not write any more.
                    return Flow::Continue(());
                }
                stream.told_over |= stream.pause_due;
                std::mem::take(&mut stream.pause_due)
            }
            None => return Flow::Continue(()),
        };
        if pause {
            self.call_protocol(key, |protocol| protocol.pause_writing(self, key))?;
        }
        let resume = stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|s| !s.over && std::mem::take(&mut s.told_over));
        if resume {
            self.call_protocol(key, |protocol| protocol.resume_writing(self, key))?;
        }
        let drained = stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|s| std::mem::take(&mut s.drained) && s.buffered() == 0);
        if drained {
            self.call_protocol(key, |protocol| protocol.io_out(self, key))?;
        }
        Flow::Continue(())
    }

    pub(super) fn end_output(&self, key: StreamKey<H>) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        stream.end_output = EndOutput::Done;
        let Some(descriptor) = stream.descriptor else { return };
        let result = core.driver.borrow_mut().shutdown(descriptor, Half::Write);
        drop(objects);
        match result {
            // Not a socket but a pipe's end: closing it is how a pipe tells the end.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                self.stream_end(key);
            }
            // Gone on the other side already; reading tells.
            _ => self.relay_check(key),
        }
    }
}
