//! What a plain stream offers its protocol, and what that leaves.

use std::io;
use std::ops::ControlFlow;

use super::stream::Stream;
use super::{CloseKind, Closed};
use crate::engine::{
    Consumed, Engine, Flow, Host, StreamKey, StreamProtocol, Verdict, flow_of, stream,
};

impl<H: Host> Engine<H> {
    // A plain read whose bytes were not all used, or whose callback failed or changed the stream.
    pub(super) fn plain_rest(
        &self,
        key: StreamKey<H>,
        data: &[u8],
        verdict: Verdict<Consumed>,
    ) -> Flow {
        let (used, flow) = match verdict {
            Ok(consumed) => match self.count_used(key, data, 0, consumed) {
                (used, true) => self.offer_from(key, data, used),
                (used, false) => (used, Flow::Continue(())),
            },
            Err(_) => {
                self.stream_fail(key);
                (0, flow_of(&verdict))
            }
        };
        if used < data.len() {
            self.keep(key, &data[used..]);
        }
        flow
    }

    /// Gives new bytes to the protocol, behind those that it left before.
    pub(super) fn deliver(&self, key: StreamKey<H>, data: &[u8]) -> Flow {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        if !stream.unread.is_empty() || data.len() < stream.read_low {
            drop(objects);
            return self.offer_unread(key, data, false);
        }
        drop(objects);
        let (used, flow) = self.offer(key, data);
        if used < data.len() {
            self.keep(key, &data[used..]);
        }
        flow
    }

    /// Offers what was kept, with `more` behind it.
    pub(super) fn offer_unread(&self, key: StreamKey<H>, more: &[u8], at_eof: bool) -> Flow {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        stream.offer = false;
        stream.unread.extend_from_slice(more);
        if stream.unread.is_empty() || (stream.unread.len() < stream.read_low && !at_eof) {
            return Flow::Continue(());
        }
        let mut unread = std::mem::take(&mut stream.unread);
        drop(objects);
        let (used, flow) = self.offer(key, &unread);
        // Nothing else can have been kept meanwhile: only reading keeps.
        let mut objects = self.core().objects.borrow_mut();
        if let Some(stream) = self::stream(&mut objects, key) {
            unread.drain(..used);
            if !unread.is_empty() {
                stream.unread = unread;
                Self::note_kept(stream);
            }
        }
        drop(objects);
        self.check_stall(key);
        flow
    }

    /// Offers bytes as long as the protocol uses some and may be given more; how many it used. On
    /// a break too, so that no byte is offered twice.
    fn offer(&self, key: StreamKey<H>, data: &[u8]) -> (usize, Flow) {
        self.offer_from(key, data, 0)
    }

    // The same when the first `used` bytes are used already.
    fn offer_from(&self, key: StreamKey<H>, data: &[u8], mut used: usize) -> (usize, Flow) {
        loop {
            let rest = &data[used..];
            let consumed =
                match self.call_protocol(key, |protocol| protocol.data_received(self, key, rest)) {
                    ControlFlow::Continue(Some(consumed)) => consumed,
                    ControlFlow::Continue(None) => return (used, Flow::Continue(())),
                    ControlFlow::Break(()) => return (used, Flow::Break(())),
                };
            match self.count_used(key, data, used, consumed) {
                (now, true) => used = now,
                (now, false) => return (now, Flow::Continue(())),
            }
        }
    }

    // What is used after a call that was offered all but the first `used` bytes, and whether to
    // offer the rest now.
    fn count_used(
        &self,
        key: StreamKey<H>,
        data: &[u8],
        used: usize,
        consumed: Consumed,
    ) -> (usize, bool) {
        let count = match consumed {
            Consumed::All => data.len() - used,
            Consumed::Count(count) => count,
        };
        if count > data.len() - used {
            self.stream_lose(key, Closed::new(CloseKind::WrongCount));
            return (used, false);
        }
        let used = used + count;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return (used, false) };
        if used == data.len() || count == 0 {
            return (used, false);
        }
        if !stream.may_read() || self.is_interrupted() {
            stream.offer = true;
            return (used, false);
        }
        (used, data.len() - used >= stream.read_low || stream.peer_eof)
    }

    fn keep(&self, key: StreamKey<H>, rest: &[u8]) {
        let mut objects = self.core().objects.borrow_mut();
        if let Some(stream) = stream(&mut objects, key) {
            stream.unread.extend_from_slice(rest);
            Self::note_kept(stream);
        }
        drop(objects);
        self.check_stall(key);
    }

    // Bytes are kept of a stream that was lost meanwhile: they count as unread.
    fn note_kept(stream: &mut Stream<H>) {
        let kept = stream.unread.len() as u64;
        if let Some(closed) = stream.closed_mut() {
            closed.unread = kept;
        }
    }

    fn check_stall(&self, key: StreamKey<H>) {
        let stalled = stream(&mut self.core().objects.borrow_mut(), key).is_some_and(|stream| {
            !stream.offer && stream.may_read() && stream.unread.len() >= stream.read_limit
        });
        if stalled {
            self.stream_lose(key, Closed::new(CloseKind::InputStalled));
        }
    }

    /// Says not to offer fewer than `low` bytes, except at the end of the stream.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `low` is above the input limit: it could never be reached.
    pub fn stream_set_read_low(&self, key: StreamKey<H>, low: usize) -> io::Result<()> {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Ok(()) };
        if low > stream.read_limit {
            let limit = stream.read_limit;
            let text = format!("a low mark of {low} bytes is above the input limit of {limit}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        stream.read_low = low.max(1);
        Ok(())
    }

    /// Sets how many bytes may stay unread before the protocol must use some.
    pub fn stream_set_read_limit(&self, key: StreamKey<H>, limit: usize) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.read_limit = limit.max(1);
            stream.read_low = stream.read_low.min(stream.read_limit);
        }
    }
}
