//! Reading on after sending has failed.
//!
//! A peer that answers early and closes (a server that refuses an upload) breaks the sending side
//! while its answer stands unread in our kernel. The answer is read before the end is told. A
//! protocol that has paused reading may have done so until its output drains, which never happens
//! now: it is told at once.
//!
//! What the peer had said stands in the kernel, so the end is told after the first read that leaves
//! nothing there. Not every failure takes the other direction too (a packet filter's does not), and
//! a peer that goes on sending could fill the kernel again before each read; so there is a most.

use std::io;

use super::stream::Stream;
use super::stream_options::Reads;
use super::{CloseKind, Closed};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, stream};

/// Why nothing more can be sent.
pub(super) enum SendFailure {
    /// A write that was made at once found it, for the flush, which has the place to tell it. The
    /// kernel would answer another attempt with another reason.
    Refused(io::Error),
    /// The end, to be told when the last of what the peer said has been read.
    ReadingOut(ReadingOut),
}

/// Reads that are made after a failed write, of up to 256 KiB each: 16 MiB, more than a receive
/// buffer holds (Linux lets one grow to 6 MiB unless told otherwise).
const MOST_READS: u32 = 64;

/// An end that is told once what stands in the kernel has been read.
pub(super) struct ReadingOut {
    pub(super) closed: Closed,
    reads: u32,
}

impl ReadingOut {
    pub(super) fn new(closed: Closed) -> ReadingOut {
        ReadingOut { closed, reads: 0 }
    }

    /// After a read: whether there may be another one.
    pub(super) fn may_read_on(&mut self) -> bool {
        self.reads += 1;
        self.reads < MOST_READS
    }
}

impl<H: Host> Stream<H> {
    pub(super) fn note_refused(&mut self, error: io::Error) {
        self.send_failure = Some(Box::new(SendFailure::Refused(error)));
    }

    pub(super) fn take_refused(&mut self) -> Option<io::Error> {
        let is_refusal = |failure: &mut Box<_>| matches!(**failure, SendFailure::Refused(_));
        match *self.send_failure.take_if(is_refusal)? {
            SendFailure::Refused(error) => Some(error),
            SendFailure::ReadingOut(_) => None,
        }
    }

    pub(super) fn is_reading_out(&self) -> bool {
        matches!(self.send_failure.as_deref(), Some(SendFailure::ReadingOut(_)))
    }

    /// Whether sending has met a reset. Then the kernel says that the input has ended, but the peer
    /// has not said so: one that did before it reset would have left a broken pipe.
    pub(super) fn is_reset(&self) -> bool {
        match self.send_failure.as_deref() {
            Some(SendFailure::ReadingOut(end)) => end.closed.kind == CloseKind::Reset,
            _ => false,
        }
    }

    /// The end that was to be told after reading.
    pub(super) fn take_read_out(&mut self) -> Option<Closed> {
        match *self.send_failure.take()? {
            SendFailure::ReadingOut(end) => Some(end.closed),
            SendFailure::Refused(_) => None,
        }
    }

    fn is_held(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.is_held())
    }

    fn may_read_out(&mut self) -> bool {
        match self.send_failure.as_deref_mut() {
            Some(SendFailure::ReadingOut(end)) => end.may_read_on(),
            _ => false,
        }
    }

    // Whether the peer may have said something that can still be told.
    fn has_more_to_tell(&self) -> bool {
        let may_read = self.may_read() || (self.is_held() && !self.closing);
        self.reads == Reads::Bytes && may_read && (self.offer || (self.readable && !self.peer_eof))
    }
}

impl<H: Host> Engine<H> {
    /// A plain stream cannot send any more.
    pub(super) fn begin_read_out(&self, key: StreamKey<H>, closed: Closed) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        stream.blocked = true;
        // Only a read tells whether there is anything.
        stream.readable = true;
        if !stream.has_more_to_tell() {
            drop(objects);
            return self.stream_lose(key, closed);
        }
        let end = SendFailure::ReadingOut(ReadingOut::new(closed));
        stream.send_failure.get_or_insert(Box::new(end));
        if !std::mem::replace(&mut stream.read_queued, true) {
            self.push_step(key, Step::Read);
        }
    }

    /// One read, and the end after the last.
    pub(super) fn read_out(&self, key: StreamKey<H>) -> Flow {
        let flow = self.stream_read_on_long_way(key, self.core().objects.borrow_mut());
        let mut objects = self.core().objects.borrow_mut();
        let done = stream(&mut objects, key).and_then(|stream| {
            let more = stream.may_read_out() && stream.has_more_to_tell();
            if more { None } else { stream.take_read_out() }
        });
        drop(objects);
        if let Some(closed) = done {
            self.stream_lose(key, closed);
        }
        flow
    }
}
