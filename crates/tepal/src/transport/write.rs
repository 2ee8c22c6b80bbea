//! From the protocol to the stream's output.

use std::io::{self, IoSlice};

use super::layers::Request;
use super::stream::{EndOutput, Phase, Stream};
use crate::engine::{Engine, Host, Step, StreamKey, stream};

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

/// A write of this size or more with nothing queued goes to the kernel at once, without a copy:
/// from here on the copy costs more than what gathering could save.
const DIRECT: usize = 16 * 1024;

impl<H: Host> Engine<H> {
    /// Appends a copy of `bytes` to what will be sent. Nothing is called inside; the caller hears
    /// by the result that the buffer rose above the high mark.
    ///
    /// Bytes written after the stream began to close, or after its end of output, are dropped. No
    /// bytes are nothing, unless a layer makes a frame of each write: then they are an empty frame.
    pub fn stream_write(&self, key: StreamKey<H>, bytes: &[u8]) -> Crossing {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Crossing::None };
        if stream.is_ending() || stream.has_ended_output() || !stream.takes_write(bytes.len()) {
            return Crossing::None;
        }
        if let Some(layers) = &mut stream.layers {
            layers.inbox.write(bytes, &core.workspace);
            return self.note_written(key, stream);
        }
        if bytes.len() < DIRECT {
            stream.output.extend(bytes, &mut core.workspace.pool());
            return self.note_written(key, stream);
        }
        drop(objects);
        self.stream_write_at_once(key, bytes)
    }

    /// Appends copies of `pieces` to what a plain stream that closes still has to send, as asyncio
    /// does. `None`: nothing waits any more, once the kernel has had its chance, or it is lost.
    pub fn stream_write_closing<'a>(
        &self,
        key: StreamKey<H>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Crossing> {
        // A plain stream's flush tells nobody: what it finds is queued.
        let _ = self.flush_stream(key);
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let stream = stream(&mut objects, key)?;
        let waits = stream.is_open() && stream.layers.is_none() && stream.has_output();
        if !waits || stream.has_ended_output() {
            return None;
        }
        pieces.for_each(|piece| stream.output.extend(piece, &mut core.workspace.pool()));
        Some(self.note_written(key, stream))
    }

    /// Gives bytes to the kernel now if nothing waits before them, and queues the rest.
    pub(super) fn stream_write_at_once(&self, key: StreamKey<H>, mut bytes: &[u8]) -> Crossing {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Crossing::None };
        if stream.is_ending() || stream.has_ended_output() || !stream.takes_write(bytes.len()) {
            return Crossing::None;
        }
        if let Some(layers) = &mut stream.layers {
            layers.inbox.write(bytes, &core.workspace);
            return self.note_written(key, stream);
        }
        if let (Phase::Established, Some(descriptor), false, false) =
            (stream.phase, stream.descriptor, stream.blocked, stream.has_output())
        {
            let sent = core.driver.borrow_mut().send(descriptor, &[IoSlice::new(bytes)]);
            match sent {
                Ok(sent) => {
                    stream.blocked = sent.blocked;
                    stream.sent += sent.count as u64;
                    bytes = &bytes[sent.count..];
                    if stream.watch.is_some() {
                        self.note_out(key, stream, sent.count > 0);
                    }
                }
                Err(error) => stream.note_refused(error),
            }
            if bytes.is_empty() {
                stream.drained = stream.wants_io_out;
                if stream.drained && !std::mem::replace(&mut stream.notify_queued, true) {
                    self.push_step(key, Step::Notify);
                }
                return Crossing::None;
            }
        }
        stream.output.extend(bytes, &mut core.workspace.pool());
        self.note_written(key, stream)
    }

    #[inline]
    pub(super) fn note_written(&self, key: StreamKey<H>, stream: &mut Stream<H>) -> Crossing {
        let waits = match &mut stream.layers {
            None => stream.phase == Phase::Established && !stream.blocked,
            // A blocked one's layers may still take it.
            Some(layers) => {
                layers.owes_io_out = true;
                stream.is_open()
            }
        };
        if !stream.dirty && waits {
            stream.dirty = true;
            if self.core().reading.get() != Some(key) {
                self.core().dirty.borrow_mut().push(key);
            }
        }
        if stream.over || stream.buffered() <= stream.high {
            return Crossing::None;
        }
        stream.over = true;
        stream.pause_due = stream.tell_pressure;
        if stream.tell_pressure && !std::mem::replace(&mut stream.notify_queued, true) {
            self.push_step(key, Step::Notify);
        }
        Crossing::High
    }

    /// Ends our direction once everything written has left; the peer sees the end of the stream.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the end.
    pub fn stream_write_eof(&self, key: StreamKey<H>) -> io::Result<()> {
        let mut objects = self.core().objects.borrow_mut();
        let stream = stream(&mut objects, key).filter(|stream| !stream.is_ending());
        let Some(stream) = stream else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the transport is closed"));
        };
        if let Some(layers) = &mut stream.layers {
            if !layers.can_write_eof {
                let text = "a layer cannot end one direction only; close the connection instead";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            if !std::mem::replace(&mut layers.wrote_eof, true) {
                drop(objects);
                self.ask(key, |layers| layers.inbox.push(Request::WriteEof));
            }
            return Ok(());
        }
        if stream.end_output == EndOutput::No {
            stream.end_output = EndOutput::Wanted;
            if !stream.has_output() && stream.phase == Phase::Established {
                drop(objects);
                self.end_output(key);
            }
        }
        Ok(())
    }

    /// Whether our direction can be ended alone.
    pub fn stream_output_ended(&self, key: StreamKey<H>) -> bool {
        stream(&mut self.core().objects.borrow_mut(), key).is_none_or(|s| s.has_ended_output())
    }

    /// How many bytes wait to be sent. O(1).
    pub fn stream_buffered(&self, key: StreamKey<H>) -> usize {
        stream(&mut self.core().objects.borrow_mut(), key).map_or(0, |s| s.buffered())
    }

    /// Sets the marks between which the protocol is told to pause and to resume, in bytes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless `low <= high`.
    pub fn stream_set_write_marks(
        &self,
        key: StreamKey<H>,
        low: usize,
        high: usize,
    ) -> io::Result<Crossing> {
        if low > high {
            let text = format!("the low mark ({low}) is above the high mark ({high})");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Ok(Crossing::None) };
        (stream.low, stream.high) = (low, high);
        if stream.is_ending() {
            return Ok(Crossing::None);
        }
        if stream.over && stream.buffered() <= low {
            stream.over = false;
            if !stream.tell_pressure {
                stream.told_over = true;
            }
            if stream.told_over && !std::mem::replace(&mut stream.notify_queued, true) {
                self.push_step(key, Step::Notify);
            }
        }
        Ok(self.note_written(key, stream))
    }

    /// The low and the high mark.
    pub fn stream_write_marks(&self, key: StreamKey<H>) -> (usize, usize) {
        stream(&mut self.core().objects.borrow_mut(), key).map_or((0, 0), |s| (s.low, s.high))
    }
}
