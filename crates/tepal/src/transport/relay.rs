//! Two streams joined: bytes of the one leave by the other, without a protocol in between.
//!
//! What is read goes to the other side's kernel at once where that takes it, so that most bytes
//! are never copied in this process; much of it stays in the kernel (see `splice`). When more than
//! the other side's high mark waits there, this side is not read until it has drained to the low
//! mark.

use std::io;
use std::ops::ControlFlow;

use tepal_driver::Half;

use super::breaking::Breaking;
use super::splice::SPLICE_FROM;
use super::stream::Phase;
use super::{CloseKind, Closed, Pipe};
use crate::engine::{Engine, Flow, Host, Outcome, Step, StreamKey, stream};

/// One direction of a join, kept by the stream that is read.
pub(super) struct Relay<H: Host> {
    pub(super) to: StreamKey<H>,
    // Bytes passed on so far.
    pub(super) moved: u64,
    // More waits on the other side than its high mark, or some in a pipe.
    pub(super) held: bool,
    pub(super) way: Way,
    // Bytes on their way into this stream.
    pub(super) pipe: Option<Pipe>,
    // The kernel does not splice into this stream.
    pub(super) refuses_splice: bool,
    // The other side was reset, and this one will be.
    pub(super) breaking: Option<Breaking>,
    // Kept by the first of the two.
    completion: Option<H::Completion>,
}

/// How a direction's bytes are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Through the loop's memory.
    Copy,
    /// Through a pipe of the kernel's.
    Splice,
    /// As `Copy`, since the kernel does not splice from here.
    CopyOnly,
}

impl<H: Host> Relay<H> {
    fn new(to: StreamKey<H>, completion: Option<H::Completion>) -> Relay<H> {
        Relay {
            to,
            moved: 0,
            held: false,
            way: Way::Copy,
            pipe: None,
            refuses_splice: false,
            breaking: None,
            completion,
        }
    }

    /// What is left of a join when the side that was read from is gone.
    pub(super) fn broken(from: StreamKey<H>, breaking: Breaking) -> Relay<H> {
        Relay { held: true, breaking: Some(breaking), ..Relay::new(from, None) }
    }

    pub(super) fn completion(&self) -> Option<&H::Completion> {
        self.completion.as_ref()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

impl<H: Host> Engine<H> {
    /// Joins two streams: from now on neither protocol is given bytes. What they left unread, and
    /// all that comes, goes to the other side; an end of input ends the other's output. When both
    /// directions have ended, or one of the two connections was lost, both are closed and
    /// `completion` gets [`Outcome::Joined`]; the protocols hear `connection_lost` as ever.
    ///
    /// # Errors
    ///
    /// The completion comes back: `InvalidInput` if both are the same stream or one is joined,
    /// `NotConnected` if one is not established.
    pub fn stream_join(
        &self,
        a: StreamKey<H>,
        b: StreamKey<H>,
        completion: H::Completion,
    ) -> Result<(), (io::Error, H::Completion)> {
        let mut objects = self.core().objects.borrow_mut();
        for key in [a, b] {
            let state = stream(&mut objects, key)
                .filter(|s| s.phase == Phase::Established && !s.closing)
                .map(|s| s.relay.is_none());
            let error = match state {
                Some(true) if a != b => continue,
                Some(_) => io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a stream can be joined once, and to another one",
                ),
                None => io::Error::new(
                    io::ErrorKind::NotConnected,
                    "only an established connection can be joined",
                ),
            };
            drop(objects);
            return Err((error, completion));
        }
        let mut completion = Some(completion);
        let mut unread = Vec::new();
        for (from, to) in [(a, b), (b, a)] {
            let Some(stream) = stream(&mut objects, from) else { continue };
            stream.relay = Some(Box::new(Relay::new(to, completion.take())));
            if stream.queue_pump() {
                self.push_step(from, Step::Pump);
            }
            stream.offer = false;
            stream.paused = false;
            unread.push((from, to, std::mem::take(&mut stream.unread), stream.peer_eof));
        }
        drop(objects);
        for (from, to, bytes, ended) in unread {
            if !bytes.is_empty() {
                self.pass_on(from, to, &bytes);
            }
            if ended {
                self.relay_eof(from);
            } else {
                self.read_on(from);
            }
        }
        Ok(())
    }

    /// Passes new bytes of a joined stream on. `None`: it is not joined.
    pub(super) fn relay_deliver(&self, key: StreamKey<H>, data: &[u8]) -> Option<Flow> {
        let to = stream(&mut self.core().objects.borrow_mut(), key)?.relay.as_ref()?.to;
        self.pass_on(key, to, data);
        Some(Flow::Continue(()))
    }

    // No bytes are an empty frame.
    fn pass_on(&self, from: StreamKey<H>, to: StreamKey<H>, data: &[u8]) {
        self.stream_write_at_once(to, data);
        let mut objects = self.core().objects.borrow_mut();
        let waits = stream(&mut objects, to).is_some_and(|s| s.buffered() > s.high);
        if let Some(relay) = stream(&mut objects, from).and_then(|s| s.relay.as_mut()) {
            relay.moved += data.len() as u64;
            relay.held = waits;
            if relay.way == Way::Copy && data.len() >= SPLICE_FROM {
                relay.way = Way::Splice;
            }
        }
    }

    /// Output of a joined stream has drained: lets the other side be read again.
    pub(super) fn relay_drained(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(from) = stream(&mut objects, key).and_then(|s| s.relay.as_ref()).map(|r| r.to)
        else {
            return;
        };
        let Some(source) = stream(&mut objects, from) else { return };
        if let Some(relay) = source.relay.as_mut() {
            relay.held = false;
        }
        let (read, pump) = (source.queue_read(), source.queue_pump());
        drop(objects);
        if pump {
            self.push_step(from, Step::Pump);
        }
        if read {
            self.push_step(from, Step::Read);
        }
    }

    /// The input of a joined stream has ended. `None`: it is not joined.
    pub(super) fn relay_eof(&self, key: StreamKey<H>) -> Option<Flow> {
        let to = {
            let mut objects = self.core().objects.borrow_mut();
            let stream = stream(&mut objects, key)?;
            let to = stream.relay.as_ref()?.to;
            stream.peer_eof = true;
            stream.readable = false;
            to
        };
        // A side that has gone has nothing to end.
        let _ = self.stream_write_eof(to);
        self.relay_check(key);
        Some(ControlFlow::Continue(()))
    }

    /// Closes both sides once both directions have ended and everything has left.
    pub(super) fn relay_check(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(other) = stream(&mut objects, key).and_then(|s| s.relay.as_ref()).map(|r| r.to)
        else {
            return;
        };
        let done = [key, other]
            .into_iter()
            .all(|key| stream(&mut objects, key).is_some_and(|s| s.peer_eof && s.has_told_end()));
        drop(objects);
        if done {
            self.relay_end(key, None);
            self.stream_close(key);
            self.stream_close(other);
        }
    }

    /// A joined stream is lost: what it has passed on still leaves by the other, which then ends in
    /// the same way, by a close or a reset.
    pub(super) fn relay_lost(&self, key: StreamKey<H>, closed: &Closed) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(other) = stream(&mut objects, key).and_then(|s| s.relay.as_ref()).map(|r| r.to)
        else {
            return;
        };
        drop(objects);
        let error = match &closed.error {
            Some(error) => io::Error::new(error.kind(), closed.to_string()),
            None => io::Error::new(io::ErrorKind::ConnectionAborted, closed.to_string()),
        };
        self.relay_end(key, Some(error));
        match closed.kind {
            CloseKind::Reset | CloseKind::Aborted if closed.half != Some(Half::Write) => {
                self.stream_break(other, key);
            }
            _ => self.stream_close(other),
        }
    }

    fn relay_end(&self, key: StreamKey<H>, error: Option<io::Error>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(mut mine) = stream(&mut objects, key).and_then(|s| s.relay.take()) else { return };
        let theirs = stream(&mut objects, mine.to).and_then(|s| s.relay.take());
        drop(objects);
        self.end_pipe(key, mine.pipe.take());
        let (moved_back, theirs) = match theirs {
            Some(mut relay) => {
                self.end_pipe(mine.to, relay.pipe.take());
                (relay.moved, relay.completion.take())
            }
            None => (0, None),
        };
        // The first of the two has the completion; its count comes first.
        let (completion, counts) = match mine.completion.take() {
            Some(completion) => (completion, (mine.moved, moved_back)),
            None => match theirs {
                Some(completion) => (completion, (moved_back, mine.moved)),
                None => return,
            },
        };
        self.push_outcome(
            completion,
            Outcome::Joined(match error {
                None => Ok(counts),
                Some(error) => Err(error),
            }),
        );
    }
}
