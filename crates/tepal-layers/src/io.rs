use std::fmt;
use std::ops::DerefMut;

use tepal_base::{Instant, Segment};

use crate::link::{InMark, Inbound, OutMark, Outbound};
use crate::{Info, LayerId, Notice, Pauses, Turn, Workspace};

/// What a layer sees of its surroundings during one step.
///
/// The four sides are fields, so that bytes of one can be handed to another.
pub struct Io<'a> {
    /// Bytes that came from below.
    pub from_below: FromBelow<'a>,
    /// The way up.
    pub to_above: ToAbove<'a>,
    /// Bytes that were written from above.
    pub from_above: FromAbove<'a>,
    /// The way down.
    pub to_below: ToBelow<'a>,
    pub(crate) now: Instant,
    pub(crate) finishing: bool,
    pub(crate) closing: bool,
    id: LayerId,
    pub(crate) name: &'static str,
    pub(crate) ready: bool,
    // How many bytes stood above before the step.
    up_len: usize,
}

impl<'a> Io<'a> {
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "one caller, and each is a field")]
    pub(crate) fn new(
        below: (&'a mut Inbound, &'a mut Outbound),
        above: (&'a mut Inbound, &'a mut Outbound),
        lent: &'a mut [u8],
        need: &'a mut usize,
        limits: (usize, usize, bool),
        state: (LayerId, &'static str, bool, bool, bool),
        turn: Turn<'a>,
    ) -> Io<'a> {
        let workspace = turn.workspace;
        let (id, name, ready, finishing, closing) = state;
        let up_len = above.0.len();
        Io {
            from_below: FromBelow { own: below.0, lent, taken: 0, need, held: false },
            to_above: ToAbove::new(above.0, limits.0, name, workspace),
            from_above: FromAbove::new(above.1, workspace),
            to_below: ToBelow::new(below.1, limits.1, limits.2, workspace),
            now: turn.now,
            finishing,
            closing,
            id,
            name,
            ready,
            up_len,
        }
    }

    /// Now.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether the owner wants the layer to end, and all that was written before has been shown
    /// or is still in [`from_above`](Io::from_above).
    #[inline]
    pub fn finishing(&self) -> bool {
        self.finishing
    }

    /// Whether the layer ends because the whole connection is closed, rather than this layer.
    #[inline]
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// Tells that bytes may flow through the layer now. Only the first call counts. The notice
    /// stands before the bytes that the layer has pushed in this step.
    pub fn ready(&mut self, info: Info) {
        if !self.ready {
            self.ready = true;
            let notice = (self.id, Notice::Ready { layer: self.name, info });
            self.to_above.link.mark_before(self.up_len, InMark::Notice(Box::new(notice)));
        }
    }

    /// Tells the protocol something, in order with the bytes pushed up.
    pub fn notify(&mut self, notice: Notice) {
        self.to_above.link.mark(InMark::Notice(Box::new((self.id, notice))));
    }
}

/// Bytes from below, contiguous.
pub struct FromBelow<'a> {
    own: &'a mut Inbound,
    // Bytes of the wire's buffer behind `own`; shown only while `own` has none.
    lent: &'a mut [u8],
    taken: usize,
    need: &'a mut usize,
    pub(crate) held: bool,
}

impl FromBelow<'_> {
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
    link: &'a mut Inbound,
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
impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}

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
