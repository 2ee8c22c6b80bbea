//! The way up: what comes from below, and what is pushed above.

use std::fmt;

use crate::link::{InMark, Inbound};
use crate::{Pauses, Workspace};

/// Bytes from below, contiguous.
pub struct FromBelow<'a> {
    own: &'a mut Inbound,
    // Bytes of the wire's buffer behind `own`; shown only while `own` has none.
    lent: &'a mut [u8],
    taken: usize,
    need: &'a mut usize,
    pub(crate) held: bool,
}

impl<'a> FromBelow<'a> {
    #[inline]
    pub(super) fn new(
        own: &'a mut Inbound,
        lent: &'a mut [u8],
        need: &'a mut usize,
    ) -> FromBelow<'a> {
        FromBelow { own, lent, taken: 0, need, held: false }
    }

    /// The bytes that are there, to be read or changed in place (decryption needs it).
    ///
    /// Above a framing layer this is one frame or the rest of it.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        if self.lends() {
            self.lent.get_mut(self.taken..).unwrap_or_default()
        } else {
            self.own.visible_mut()
        }
    }

    /// Drops the first `count` bytes; no more than there are.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        if self.lends() {
            self.taken = self.taken.saturating_add(count).min(self.lent.len());
        } else {
            self.own.consume(count.min(self.own.visible_len()));
        }
        *self.need = 0;
    }

    /// Asks to be left alone until `count` bytes are there, or the end. Holds until bytes are
    /// consumed.
    #[inline]
    pub fn need(&mut self, count: usize) {
        *self.need = count;
    }

    /// Asks for no more from below until the layer's next step, whatever is there already.
    #[inline]
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Whether these are the last bytes: the peer has ended its side.
    #[inline]
    pub fn ended(&self) -> bool {
        self.lent.is_empty() && matches!(self.own.next_mark(), Some(InMark::Eof(_)))
    }

    /// Whether a frame ends behind the bytes shown; an empty frame has no bytes.
    #[inline]
    pub fn is_frame(&self) -> bool {
        matches!(self.own.next_mark(), Some(InMark::Frame))
    }

    #[inline]
    fn lends(&self) -> bool {
        self.own.is_empty() && !self.own.has_marks()
    }

    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }
}

/// The way up.
pub struct ToAbove<'a> {
    pub(super) link: &'a mut Inbound,
    limit: usize,
    pub(crate) refused: bool,
    name: &'static str,
    workspace: &'a Workspace,
}

impl<'a> ToAbove<'a> {
    #[inline]
    pub(crate) fn new(
        link: &'a mut Inbound,
        limit: usize,
        name: &'static str,
        workspace: &'a Workspace,
    ) -> ToAbove<'a> {
        ToAbove { link, limit, refused: false, name, workspace }
    }

    /// Whether more may be pushed: nobody above has paused, and what waits there is below its
    /// limit. A layer asks when it has something to push, and pushes one piece per asking.
    #[inline]
    pub fn may_push(&mut self) -> bool {
        let free = self.link.pauses.is_empty() && self.link.len() < self.limit;
        self.refused |= !free;
        free
    }

    /// As [`may_push`](ToAbove::may_push), for a layer that makes frames: only when the frame
    /// before has been taken, so that what follows it is still in its own form when the protocol
    /// changes its mind (raw mode, push).
    #[inline]
    pub fn may_push_frame(&mut self) -> bool {
        let taken = self.link.is_empty() && !self.link.has_marks();
        let free = self.link.pauses.is_empty() && (taken || self.link.seen);
        self.refused |= !free;
        free
    }

    /// Pushes a copy of the bytes.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.link.extend(bytes, self.workspace);
    }

    /// Pushes a copy of the bytes. `most`: more of these may follow at once, so that there are so
    /// many together.
    #[inline]
    pub(crate) fn push_of(&mut self, bytes: &[u8], most: usize) {
        self.link.expect(most.min(self.limit).max(bytes.len()), self.workspace);
        self.push(bytes);
    }

    /// Pushes one frame, which may be empty.
    #[inline]
    pub fn push_frame(&mut self, bytes: &[u8]) {
        self.link.extend(bytes, self.workspace);
        self.link.mark(InMark::Frame);
        self.link.seen = false;
    }

    /// Pushes the long frame at the head of `from`: `len` bytes between `head` and `tail` that are
    /// dropped.
    pub(crate) fn push_frame_of(
        &mut self,
        from: &mut FromBelow<'_>,
        (head, len, tail): (usize, usize, usize),
    ) {
        if from.lends() {
            let frame = from.lent.get(from.taken + head..from.taken + head + len);
            self.push_frame(frame.unwrap_or_default());
            from.consume(head + len + tail);
            return;
        }
        self.link.take_frame(from.own, (head, len, tail), self.workspace);
        *from.need = 0;
        self.link.mark(InMark::Frame);
        self.link.seen = false;
    }

    /// Tells that no byte will follow, though more may come from below (TLS close_notify).
    pub fn push_eof(&mut self) {
        self.link.mark(InMark::Eof(self.name));
    }

    /// Why those above want nothing more, if they do not.
    pub fn pauses(&self) -> Pauses {
        self.link.pauses
    }

    /// Passes up to `most` bytes on as they are, with their frames; returns how many. Memory
    /// changes hands where it can.
    pub fn pass(&mut self, from: &mut FromBelow<'_>, most: usize) -> usize {
        let mut passed = 0;
        while (from.is_frame() || !from.bytes().is_empty()) && passed < most && self.may_push() {
            passed += self.pass_one(from, most - passed);
        }
        passed
    }

    /// Passes up to `most` bytes of one frame on, or of what there is, with the frame's end if it
    /// is reached; returns how many.
    pub fn pass_one(&mut self, from: &mut FromBelow<'_>, most: usize) -> usize {
        let passed = self.pass_visible(from, most);
        if from.is_frame() && from.own.visible_len() == 0 {
            from.own.take_mark();
            self.link.mark(InMark::Frame);
        }
        passed
    }

    fn pass_visible(&mut self, from: &mut FromBelow<'_>, most: usize) -> usize {
        if from.lends() {
            let count = from.bytes().len().min(most);
            self.push(from.bytes().get(..count).unwrap_or_default());
            from.consume(count);
            count
        } else {
            let count = from.own.visible_len().min(most);
            self.link.take_visible(from.own, count, self.workspace);
            count
        }
    }
}

// Never the bytes: they may be secrets.
impl fmt::Debug for FromBelow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromBelow").finish_non_exhaustive()
    }
}

impl fmt::Debug for ToAbove<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToAbove").finish_non_exhaustive()
    }
}
