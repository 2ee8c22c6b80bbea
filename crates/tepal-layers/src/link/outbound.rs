//! The way down: segments, which change hands without a copy.

use std::collections::VecDeque;

use tepal_base::ByteQueue;

use crate::{LayerId, Pauses, Workspace};

/// A place in the outbound bytes, and what is there.
#[derive(Debug)]
pub(crate) enum OutMark {
    /// The bytes since the mark before are one frame.
    Frame,
    /// The owner writes no more.
    Eof,
    /// Above this, the layer's life ends.
    Finish(LayerId),
    /// Here a waiting layer is put in, above the bytes before and below those behind.
    Insert(LayerId),
}

/// Bytes on their way down.
#[derive(Default)]
pub(crate) struct Outbound {
    pub(crate) queue: ByteQueue,
    marks: VecDeque<(u64, OutMark)>,
    // The position of the first byte queued.
    position: u64,
    // Where the last mark was taken: the first byte queued is the first of its frame only there.
    frame_start: u64,
    pub(crate) pauses: Pauses,
}

impl Outbound {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.marks.is_empty()
    }

    #[inline]
    pub(crate) fn visible_len(&self) -> usize {
        match self.marks.front() {
            None => self.queue.len(),
            Some((position, _)) => (position - self.position) as usize,
        }
    }

    #[inline]
    pub(crate) fn next_mark(&self) -> Option<&OutMark> {
        self.marks.front().map(|(_, mark)| mark)
    }

    /// The mark that stands before the first byte queued.
    #[inline]
    pub(crate) fn mark_at_front(&self) -> Option<&OutMark> {
        self.marks.front().and_then(|(at, mark)| (*at == self.position).then_some(mark))
    }

    pub(crate) fn take_mark(&mut self) -> Option<OutMark> {
        let (position, mark) = self.marks.pop_front()?;
        self.frame_start = position;
        Some(mark)
    }

    /// Whether a part of the first frame queued has been taken already.
    pub(crate) fn is_partial(&self) -> bool {
        self.position > self.frame_start
    }

    #[inline]
    pub(crate) fn mark(&mut self, mark: OutMark) {
        self.marks.push_back((self.position + self.queue.len() as u64, mark));
    }

    #[inline]
    pub(crate) fn mark_count(&self) -> usize {
        self.marks.len()
    }

    /// Whether a mark stands behind the last byte.
    pub(crate) fn ends_with_mark(&self) -> bool {
        let end = self.position + self.queue.len() as u64;
        self.marks.back().is_some_and(|(at, _)| *at == end)
    }

    pub(crate) fn drop_mark(&mut self, test: impl Fn(&OutMark) -> bool) {
        self.marks.retain(|(_, mark)| !test(mark));
    }

    #[inline]
    pub(crate) fn consume(&mut self, count: usize, workspace: &Workspace) {
        self.queue.consume(count, &mut workspace.pool());
        self.position += count as u64;
    }

    pub(crate) fn take_visible(&mut self, from: &mut Outbound, count: usize, ws: &Workspace) {
        let count = count.min(from.visible_len());
        from.queue.move_to(count, &mut self.queue, &mut ws.pool());
        from.position += count as u64;
    }

    /// Moves the bytes before the next mark to a queue of the owner's.
    pub(crate) fn move_to(&mut self, queue: &mut ByteQueue, ws: &Workspace) {
        let count = self.visible_len();
        self.queue.move_to(count, queue, &mut ws.pool());
        self.position += count as u64;
    }

    pub(crate) fn take_all(&mut self, from: &mut Outbound, workspace: &Workspace) {
        loop {
            self.take_visible(from, usize::MAX, workspace);
            match from.take_mark() {
                None => break,
                Some(mark) => self.mark(mark),
            }
        }
    }
}
