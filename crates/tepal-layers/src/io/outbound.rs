//! The way down: what was written above, and what is sent below.

use std::fmt;
use std::ops::DerefMut;

use tepal_base::Segment;

use crate::link::{OutMark, Outbound};
use crate::{Pauses, Workspace};

/// Bytes that were written from above.
pub struct FromAbove<'a> {
    link: &'a mut Outbound,
    workspace: &'a Workspace,
    // A frame's end was taken.
    pub(crate) took_frame: bool,
}

impl<'a> FromAbove<'a> {
    #[inline]
    pub(crate) fn new(link: &'a mut Outbound, workspace: &'a Workspace) -> FromAbove<'a> {
        FromAbove { link, workspace, took_frame: false }
    }

    /// How many bytes are there before the next frame's end, or the end of writing.
    #[inline]
    pub fn len(&self) -> usize {
        self.link.visible_len()
    }

    /// Whether no byte is there (there may be an empty frame).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first contiguous piece of them.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let visible = self.link.visible_len();
        let piece = self.link.queue.pieces().next().unwrap_or_default();
        piece.get(..visible.min(piece.len())).unwrap_or_default()
    }

    /// The bytes, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.link.visible_len();
        self.link.queue.pieces().map_while(move |piece| {
            let count = piece.len().min(left);
            left -= count;
            (count > 0).then(|| piece.get(..count).unwrap_or_default())
        })
    }

    /// Drops the first `count` bytes; no more than there are.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.link.visible_len());
        self.link.consume(count, self.workspace);
    }

    /// Whether the bytes shown are one frame: one write. Only if the layer
    /// [keeps writes](crate::Layer::keeps_writes) apart, or the one above does.
    #[inline]
    pub fn is_frame(&self) -> bool {
        matches!(self.link.next_mark(), Some(OutMark::Frame))
    }

    /// Ends the frame: what is left of its bytes belongs to the next one.
    pub fn take_frame(&mut self) {
        if self.is_frame() {
            self.link.take_mark();
            self.took_frame = true;
        }
    }

    /// Whether the end of writing is next, before any byte.
    #[inline]
    pub fn ended(&self) -> bool {
        matches!(self.link.mark_at_front(), Some(OutMark::Eof))
    }

    /// Takes the end of writing, so that it does not pass below.
    pub fn take_eof(&mut self) {
        if self.ended() {
            self.link.take_mark();
        }
    }
}

/// The way down.
pub struct ToBelow<'a> {
    link: &'a mut Outbound,
    limit: usize,
    // Those below take frames, and only whole ones.
    whole: bool,
    pub(crate) refused: bool,
    workspace: &'a Workspace,
}

impl<'a> ToBelow<'a> {
    #[inline]
    pub(crate) fn new(
        link: &'a mut Outbound,
        limit: usize,
        whole: bool,
        workspace: &'a Workspace,
    ) -> ToBelow<'a> {
        ToBelow { link, limit, whole, refused: false, workspace }
    }

    /// How many bytes the link below takes before it is full. A layer asks when it has something
    /// to send; it may overshoot by one piece. What its protocol must answer (an alert, a
    /// handshake) it sends at any time.
    ///
    /// Above a framing layer there is room until the frame is whole, which was written as one.
    #[inline]
    pub fn room(&mut self) -> usize {
        let unfinished = self.whole && self.link.next_mark().is_none();
        let room = match self.link.pauses.is_empty() {
            true if unfinished => self.limit,
            true => self.limit.saturating_sub(self.link.len()),
            false => 0,
        };
        self.refused |= room == 0;
        room
    }

    /// Why those below take nothing more, if they do not.
    pub fn pauses(&self) -> Pauses {
        self.link.pauses
    }

    /// Sends a copy of the bytes, gathered with those before.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.link.queue.extend(bytes, &mut self.workspace.pool());
    }

    /// Lets `fill` append what is to be sent, about `room` bytes, behind what was gathered: for
    /// bytes that are made and need not be copied.
    ///
    /// # Errors
    ///
    /// Those of `fill`; nothing is sent then.
    #[inline]
    pub fn send_with<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.link.queue.reserve(room, &mut self.workspace.pool());
        self.link.queue.append(fill)
    }

    /// Lets `fill` write what is to be sent into `room` bytes, which are not cleared before, behind
    /// what was gathered; it says how many it has written.
    ///
    /// # Errors
    ///
    /// Those of `fill`; nothing is sent then.
    #[inline]
    pub(crate) fn send_within<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.link.queue.append_within(room, &mut self.workspace.pool(), fill)
    }

    /// Sends a vector without a copy.
    #[inline]
    pub fn send_vec(&mut self, bytes: Vec<u8>) {
        self.link.queue.push(Segment::from(bytes));
    }

    /// Ends one frame for a layer below that keeps writes apart, if there is one. Without it, what
    /// comes of one frame from above is one frame below, and so is what the layer sends of itself in
    /// one step.
    #[inline]
    pub fn end_frame(&mut self) {
        if self.whole {
            self.link.mark(OutMark::Frame);
        }
    }

    /// Sends the first `count` bytes that were written, as they are. Segments change hands.
    #[inline]
    pub fn take(&mut self, from: &mut FromAbove<'_>, count: usize) {
        self.link.take_visible(from.link, count, self.workspace);
    }

    /// A block of the pool that is at least `len` long if it can be, for
    /// [`send_vec`](ToBelow::send_vec).
    #[inline]
    pub fn block(&mut self, len: usize) -> Vec<u8> {
        let mut pool = self.workspace.pool();
        match pool.deref_mut() {
            pool if pool.capacity() >= len => pool.take(),
            _ => Vec::with_capacity(len),
        }
    }

    /// Gives a [`block`](ToBelow::block) back.
    #[inline]
    pub(crate) fn give(&mut self, block: Vec<u8>) {
        self.workspace.pool().give(block);
    }

    /// Tells those below that nothing more will be written.
    pub fn send_eof(&mut self) {
        self.link.mark(OutMark::Eof);
    }

    /// Passes up to `most` bytes on as they are, with their frames; returns how many. Segments
    /// change hands where they can.
    pub fn pass(&mut self, from: &mut FromAbove<'_>, most: usize) -> usize {
        let mut passed = 0;
        loop {
            let visible = from.len();
            if visible > 0 && passed < most {
                let count = visible.min(most - passed).min(self.room());
                if count == 0 {
                    return passed;
                }
                self.link.take_visible(from.link, count, self.workspace);
                passed += count;
            } else if from.is_frame() && visible == 0 {
                from.link.take_mark();
                self.link.mark(OutMark::Frame);
            } else {
                return passed;
            }
        }
    }
}

// Never the bytes: they may be secrets.
impl fmt::Debug for FromAbove<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromAbove").finish_non_exhaustive()
    }
}

impl fmt::Debug for ToBelow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToBelow").finish_non_exhaustive()
    }
}
