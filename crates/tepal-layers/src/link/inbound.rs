//! The way up: contiguous bytes, which a layer may change in place.

use std::collections::VecDeque;

use crate::{Error, LayerId, Notice, Pauses, Workspace};

/// A place in the inbound bytes, and what is there.
#[derive(Debug)]
pub(crate) enum InMark {
    /// The bytes since the mark before are one frame.
    Frame,
    /// Something for the protocol, in order with the bytes.
    Notice(Box<(LayerId, Notice)>),
    /// The last byte came before; who says so: a layer, or the wire if empty.
    Eof(&'static str),
    /// The same, with a reason.
    Fault(Error),
}

/// Frames below this are copied: the block that they stand in serves the next ones.
pub(crate) const WORTH_MOVING: usize = 16 * 1024;

/// Bytes on their way up, contiguous.
#[derive(Default)]
pub(crate) struct Inbound {
    // The bytes are buffer[start..]; everything before `start` is gone.
    buffer: Vec<u8>,
    start: usize,
    // Positions count bytes since the link was made; a mark at p stands before byte p.
    marks: VecDeque<(u64, InMark)>,
    // The position of buffer[start].
    position: u64,
    pub(crate) pauses: Pauses,
    // The protocol has seen the first frame and left it.
    pub(crate) seen: bool,
    // An end has been marked since the layer below came.
    pub(crate) ended: bool,
}

impl Inbound {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() == self.start
    }

    /// Whether nothing stands here and nothing is paused.
    #[inline]
    pub(crate) fn is_calm(&self) -> bool {
        self.is_empty() && self.marks.is_empty() && self.pauses.is_empty()
    }

    /// How many bytes there are before the next mark.
    #[inline]
    pub(crate) fn visible_len(&self) -> usize {
        match self.marks.front() {
            None => self.len(),
            Some((position, _)) => (position - self.position) as usize,
        }
    }

    #[inline]
    pub(crate) fn visible(&self) -> &[u8] {
        let end = self.start + self.visible_len();
        self.buffer.get(self.start..end).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn visible_mut(&mut self) -> &mut [u8] {
        let end = self.start + self.visible_len();
        self.buffer.get_mut(self.start..end).unwrap_or_default()
    }

    /// The mark that ends the visible bytes.
    #[inline]
    pub(crate) fn next_mark(&self) -> Option<&InMark> {
        self.marks.front().map(|(_, mark)| mark)
    }

    /// Takes the next mark away, however many bytes are before it.
    pub(crate) fn take_mark(&mut self) -> Option<InMark> {
        self.marks.pop_front().map(|(_, mark)| mark)
    }

    pub(crate) fn has_fault(&self) -> bool {
        self.marks.iter().any(|(_, mark)| matches!(mark, InMark::Fault(_)))
    }

    #[inline]
    pub(crate) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    #[inline]
    pub(crate) fn mark_count(&self) -> usize {
        self.marks.len()
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8], workspace: &Workspace) {
        self.extend_toward(bytes, 0, workspace);
    }

    /// As [`extend`](Inbound::extend), where there will be `need` bytes if all goes well. No memory
    /// is taken for them before they come: a peer may say what it likes.
    #[inline]
    pub(crate) fn extend_toward(&mut self, bytes: &[u8], need: usize, workspace: &Workspace) {
        if self.buffer.capacity() == 0 && !bytes.is_empty() {
            self.buffer = workspace.take(bytes.len());
        } else if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.make_room(bytes.len(), need, workspace);
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn make_room(&mut self, more: usize, need: usize, workspace: &Workspace) {
        if self.start >= self.len() && self.start > 0 {
            // No more is moved than has been consumed, so each byte moves O(1) times.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        if self.buffer.capacity() - self.buffer.len() < more {
            let gone = std::mem::take(&mut self.start);
            workspace.grow(&mut self.buffer, gone, more, need);
        }
    }

    /// Takes memory for `len` bytes, if there is none yet and some of them follow at once.
    #[inline]
    pub(crate) fn expect(&mut self, len: usize, workspace: &Workspace) {
        if self.buffer.capacity() == 0 {
            self.buffer = workspace.take(len);
        }
    }

    #[inline]
    pub(crate) fn mark(&mut self, mark: InMark) {
        self.ended |= matches!(mark, InMark::Eof(_));
        self.marks.push_back((self.position + self.len() as u64, mark));
    }

    /// A mark behind the first `len` bytes, before marks that stand further back.
    pub(crate) fn mark_before(&mut self, len: usize, mark: InMark) {
        let position = self.position + len as u64;
        let behind = self.marks.iter().rev().take_while(|(at, _)| *at > position).count();
        self.marks.insert(self.marks.len() - behind, (position, mark));
    }

    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.visible_len());
        self.start += count.min(self.len());
        self.position += count as u64;
    }

    /// Gives unused memory back. Called between steps, so that idle links hold none.
    #[inline]
    pub(crate) fn release(&mut self, workspace: &Workspace) {
        if self.start == self.buffer.len() && self.buffer.capacity() > 0 {
            self.start = 0;
            workspace.give(std::mem::take(&mut self.buffer));
        }
    }

    /// Moves a few bytes out of a large block, so that a slow peer holds little memory.
    pub(crate) fn shrink(&mut self, workspace: &Workspace) {
        if self.buffer.capacity() > 4096 && self.len() < self.buffer.capacity() / 8 {
            let small = self.buffer.get(self.start..).unwrap_or_default().to_vec();
            self.start = 0;
            workspace.give(std::mem::replace(&mut self.buffer, small));
        }
    }

    /// Drops the bytes; marks other than frames stay, in order.
    pub(crate) fn clear(&mut self, workspace: &Workspace) {
        self.position += self.len() as u64;
        self.start = self.buffer.len();
        let position = self.position;
        self.marks.retain(|(_, mark)| !matches!(mark, InMark::Frame));
        self.marks.iter_mut().for_each(|(at, _)| *at = position);
        self.release(workspace);
    }

    /// Takes everything of `from` behind what is here: at most `count` bytes of it, up to its
    /// next mark, which stays. Memory changes hands if nothing is here.
    pub(crate) fn take_visible(&mut self, from: &mut Inbound, count: usize, ws: &Workspace) {
        let count = count.min(from.visible_len());
        if count == from.len() && self.is_empty() {
            std::mem::swap(&mut self.buffer, &mut from.buffer);
            std::mem::swap(&mut self.start, &mut from.start);
            from.position += count as u64;
            return;
        }
        let end = from.start + count;
        self.extend(from.buffer.get(from.start..end).unwrap_or_default(), ws);
        from.consume(count);
    }

    /// Takes one frame of `from` behind what is here: `len` bytes between `head` and `tail` that are
    /// dropped. Memory changes hands if the frame is all there is.
    pub(crate) fn take_frame(
        &mut self,
        from: &mut Inbound,
        (head, len, tail): (usize, usize, usize),
        workspace: &Workspace,
    ) {
        if self.is_empty() && from.marks.is_empty() && from.len() == head + len + tail {
            from.start += head;
            from.buffer.truncate(from.start + len);
            std::mem::swap(&mut self.buffer, &mut from.buffer);
            std::mem::swap(&mut self.start, &mut from.start);
            from.position += (head + len + tail) as u64;
            return;
        }
        let start = from.start + head;
        self.extend(from.buffer.get(start..start + len).unwrap_or_default(), workspace);
        from.consume(head + len + tail);
    }

    /// Takes everything of `from`, marks included.
    pub(crate) fn take_all(&mut self, from: &mut Inbound, workspace: &Workspace) {
        loop {
            self.take_visible(from, usize::MAX, workspace);
            match from.take_mark() {
                None => break,
                Some(mark) => self.mark(mark),
            }
        }
        from.release(workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_marks_keep_their_order_through_a_move() {
        let ws = Workspace::default();
        let mut a = Inbound::default();
        a.extend(b"ab", &ws);
        a.mark(InMark::Frame);
        a.extend(b"cde", &ws);
        a.mark(InMark::Eof(""));
        a.consume(1);
        let mut b = Inbound::default();
        b.extend(b"-", &ws);
        b.take_all(&mut a, &ws);
        assert_eq!(b.visible(), b"-b");
        b.consume(2);
        assert!(matches!(b.take_mark(), Some(InMark::Frame)));
        assert_eq!(b.visible(), b"cde");
        assert!(matches!(b.next_mark(), Some(InMark::Eof(_))));
        assert!(a.is_empty() && !a.has_marks());
    }

    #[test]
    fn a_growing_message_moves_each_byte_a_constant_number_of_times() {
        let ws = Workspace::default();
        let mut inbound = Inbound::default();
        let mut moved = 0;
        for _ in 0..16 * 1024 {
            let before = inbound.buffer.capacity();
            inbound.extend(&[7; 1024], &ws);
            if inbound.buffer.capacity() != before {
                moved += inbound.len();
            }
        }
        assert!(moved < 3 * inbound.len(), "moved {moved} bytes");
    }

    #[test]
    fn a_message_of_known_length_takes_memory_in_proportion_and_no_more_than_it_needs() {
        let ws = Workspace::default();
        let mut inbound = Inbound::default();
        let need = (16 << 20) + 4;
        for _ in 0..16 * 1024 {
            inbound.extend_toward(&[7; 1024], need, &ws);
            let most = (80 << 10).max(3 * inbound.len());
            assert!(inbound.buffer.capacity() <= most, "{most} for {}", inbound.len());
        }
        inbound.extend_toward(&[7; 4], need, &ws);
        assert_eq!((inbound.len(), inbound.buffer.capacity()), (need, need));
    }

    #[test]
    fn a_message_that_always_needs_one_byte_more_moves_each_byte_a_constant_number_of_times() {
        let ws = Workspace::default();
        let mut inbound = Inbound::default();
        let mut moved = 0;
        for len in 0..1 << 20 {
            let before = inbound.buffer.capacity();
            inbound.extend_toward(&[7], len + 1, &ws);
            if inbound.buffer.capacity() != before {
                moved += inbound.len();
            }
        }
        assert!(moved < 3 * inbound.len(), "moved {moved} bytes");
    }

    #[test]
    fn a_large_frame_that_is_all_there_is_changes_hands() {
        let ws = Workspace::default();
        for (len, behind) in [(WORTH_MOVING, 0), (WORTH_MOVING, 1), (1 << 20, 0)] {
            let (mut from, mut to) = (Inbound::default(), Inbound::default());
            from.extend(b"len:", &ws);
            from.extend(&vec![7; len], &ws);
            from.extend(&vec![9; 1 + behind], &ws);
            let place = from.visible().as_ptr().wrapping_add(4);
            to.take_frame(&mut from, (4, len, 1), &ws);
            to.mark(InMark::Frame);
            from.extend(b"next", &ws);
            assert_eq!(to.visible(), vec![7; len]);
            let moved = to.visible().as_ptr() == place;
            assert_eq!(moved, behind == 0, "{len} bytes");
            assert_eq!(from.visible(), [&[9u8; 1][..behind], b"next"].concat());
        }
    }

    #[test]
    fn what_is_cleared_takes_its_frames_along_but_no_end() {
        let ws = Workspace::default();
        let mut inbound = Inbound::default();
        inbound.extend(b"ab", &ws);
        inbound.mark(InMark::Frame);
        inbound.extend(b"c", &ws);
        inbound.mark(InMark::Eof(""));
        inbound.clear(&ws);
        assert_eq!(inbound.visible_len(), 0);
        assert!(matches!(inbound.take_mark(), Some(InMark::Eof(_))));
    }
}
