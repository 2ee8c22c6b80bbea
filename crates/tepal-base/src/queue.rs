use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use crate::{Pool, Segment};

/// Bytes in the order in which they will leave: whole segments, and a block that gathers small
/// pieces at the end.
///
/// Asking for its length is O(1). Bytes are copied into blocks of a pool, so that many small writes
/// leave as one and large ones take no memory that was not there before; a [`Segment`] is kept as it
/// is. An empty queue holds no block.
///
/// ```
/// use tepal_base::{ByteQueue, Pool, Segment};
///
/// let mut pool = Pool::new(4096, 1);
/// let mut queue = ByteQueue::new();
/// queue.extend(b"hel", &mut pool);
/// queue.extend(b"lo ", &mut pool);
/// queue.push(Segment::from_static(b"world"));
/// assert_eq!(queue.len(), 11);
/// queue.consume(4, &mut pool);
/// assert_eq!(queue.to_vec(), b"o world");
/// queue.consume(7, &mut pool);
/// assert_eq!((queue.is_empty(), pool.kept()), (true, 1));
/// ```
#[derive(Default)]
pub struct ByteQueue {
    // None of them is empty.
    segments: VecDeque<Segment>,
    // Bytes behind all segments; without capacity unless it holds some.
    open: Vec<u8>,
    // Bytes of the first piece (of `open` if there is no segment) that are gone; always less than
    // its length, or 0.
    gone: usize,
    // Bytes in all pieces, without `gone`.
    len: usize,
}

impl ByteQueue {
    /// An empty queue, which allocates nothing yet.
    pub const fn new() -> ByteQueue {
        ByteQueue { segments: VecDeque::new(), open: Vec::new(), gone: 0, len: 0 }
    }

    /// Appends a segment without a copy.
    pub fn push(&mut self, segment: Segment) {
        if segment.is_empty() {
            return;
        }
        self.seal();
        self.len += segment.len();
        self.segments.push_back(segment);
    }

    /// Appends a copy of `bytes`, gathered with what was appended before.
    pub fn extend(&mut self, mut bytes: &[u8], pool: &mut Pool) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            let end = self.open.capacity().min(pool.block_len());
            if end <= self.open.len() {
                self.seal();
                self.open = pool.take();
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(end - self.open.len()));
            self.open.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Makes room for `room` bytes behind those that are gathered, to be filled by
    /// [`append`](ByteQueue::append) at once.
    #[inline]
    pub fn reserve(&mut self, room: usize, pool: &mut Pool) {
        if self.open.capacity() - self.open.len() < room {
            self.seal();
            self.open = match pool.capacity() < room {
                true => Vec::with_capacity(room),
                false => pool.take(),
            };
        }
    }

    /// Lets `fill` append bytes behind those that are gathered, so that what is made (a record that
    /// is encrypted) need not be copied. If it fails nothing is appended.
    ///
    /// # Errors
    ///
    /// Those of `fill`, which must leave the bytes that it finds in the vector as they are.
    #[inline]
    pub fn append<E>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let before = self.open.len();
        let result = fill(&mut self.open);
        if result.is_err() {
            self.open.truncate(before);
        }
        self.note_appended(before);
        result
    }

    /// As [`reserve`](ByteQueue::reserve) and [`append`](ByteQueue::append), for a `fill` that
    /// writes into `room` bytes and says how many of them it has written, from the first on.
    ///
    /// They are not cleared before: what `fill` finds there are bytes of an earlier use, perhaps
    /// another connection's, and it must count none that it has not written.
    ///
    /// # Errors
    ///
    /// Those of `fill`.
    #[inline]
    pub fn append_within<E>(
        &mut self,
        room: usize,
        pool: &mut Pool,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut before = self.open.len();
        if self.open.capacity() - before < room {
            self.seal();
            before = 0;
            self.open = match pool.capacity() < room {
                true => Vec::with_capacity(room),
                false => pool.take_used(),
            };
        }
        // Clears only what has never been written to.
        let end = before + room;
        if self.open.len() < end {
            self.open.resize(end, 0);
        }
        let result = fill(&mut self.open[before..end]);
        let count = result.as_ref().map_or(0, |count| *count).min(room);
        self.open.truncate(before + count);
        self.note_appended(before);
        result.map(|_| ())
    }

    #[inline]
    fn note_appended(&mut self, before: usize) {
        self.len += self.open.len().saturating_sub(before);
        if self.open.is_empty() {
            self.open = Vec::new();
        }
    }

    /// Drops the first `count` bytes; blocks that become free go back to the pool.
    ///
    /// # Panics
    ///
    /// If the queue holds fewer bytes.
    pub fn consume(&mut self, count: usize, pool: &mut Pool) {
        assert!(count <= self.len, "consumed {count} bytes of {}", self.len);
        self.len -= count;
        self.gone += count;
        while let Some(first) = self.segments.front() {
            if self.gone < first.len() {
                return;
            }
            self.gone -= first.len();
            if let Some(Ok(block)) = self.segments.pop_front().map(Segment::into_vec) {
                pool.give(block);
            }
        }
        if self.len == 0 {
            self.gone = 0;
            if self.open.capacity() > 0 {
                pool.give(std::mem::take(&mut self.open));
            }
        }
    }

    /// Moves the first `count` bytes behind those of `other`.
    ///
    /// Whole segments change hands without a copy, and if `other` is empty and all bytes move, so
    /// does everything at once. Only a segment that is cut by `count` is copied in part.
    ///
    /// # Panics
    ///
    /// If the queue holds fewer bytes.
    pub fn move_to(&mut self, count: usize, other: &mut ByteQueue, pool: &mut Pool) {
        assert!(count <= self.len, "moved {count} bytes of {}", self.len);
        if count == self.len && other.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        let mut left = count;
        while left > 0 {
            // A short segment is cheaper to copy behind what is gathered there than to keep apart.
            let whole = self.gone == 0
                && self
                    .segments
                    .front()
                    .is_some_and(|first| (pool.block_len() / 4..=left).contains(&first.len()));
            if let Some(segment) = whole.then(|| self.segments.pop_front()).flatten() {
                self.len -= segment.len();
                left -= segment.len();
                other.push(segment);
                continue;
            }
            let Some(piece) = self.pieces().next() else { return };
            let now = piece.len().min(left);
            other.extend(&piece[..now], pool);
            self.consume(now, pool);
            left -= now;
        }
    }

    /// Drops everything.
    ///
    /// Releasing a host's segment may run user code: take the queue out of what is borrowed first.
    pub fn clear(&mut self) {
        *self = ByteQueue::new();
    }

    /// Fills `slices` with the first pieces, for a vectored write; returns how many it filled.
    #[inline]
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.io_slices_within(usize::MAX, slices)
    }

    /// As [`io_slices`](ByteQueue::io_slices), for the first `most` bytes only.
    #[inline]
    pub fn io_slices_within<'a>(&'a self, mut most: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            if most == 0 {
                break;
            }
            let piece = &piece[..piece.len().min(most)];
            most -= piece.len();
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// All queued bytes, if they are one piece: the common case, which needs no list of slices.
    #[inline]
    pub fn only_piece(&self) -> Option<&[u8]> {
        match (self.segments.len(), self.open.is_empty()) {
            (0, false) => self.open.get(self.gone..),
            (1, true) => self.segments.front().and_then(|first| first.get(self.gone..)),
            _ => None,
        }
    }

    /// The queued bytes, piece by piece; no piece is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut gone = self.gone;
        self.segments
            .iter()
            .map(|segment| &**segment)
            .chain((!self.open.is_empty()).then_some(&*self.open))
            .map(move |piece| &piece[std::mem::take(&mut gone)..])
            .filter(|piece| !piece.is_empty())
    }

    /// A copy of all queued bytes in one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.pieces().for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// How many bytes are queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    // Makes a segment of the gathering block, so that something can stand behind it.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.segments.push_back(Segment::from(std::mem::take(&mut self.open)));
        }
    }
}

impl fmt::Debug for ByteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteQueue({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::counted;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn every_mix_of_writes_leaves_in_order_whatever_is_taken_at_once() {
        for block in [1, 2, 3, 7, 64] {
            for taken in [1, 2, 3, 5, 100] {
                let mut pool = Pool::new(block, 2);
                let mut queue = ByteQueue::new();
                let mut sent = Vec::new();
                let mut expected = Vec::new();
                for round in 0..50u8 {
                    let bytes: Vec<u8> = (0..round % 11).map(|n| round ^ n).collect();
                    expected.extend_from_slice(&bytes);
                    match round % 3 {
                        0 => queue.push(Segment::from(bytes)),
                        _ => queue.extend(&bytes, &mut pool),
                    }
                    let count = queue.len().min(taken);
                    sent.extend_from_slice(&queue.to_vec()[..count]);
                    queue.consume(count, &mut pool);
                }
                sent.extend_from_slice(&queue.to_vec());
                queue.consume(queue.len(), &mut pool);
                assert_eq!(sent, expected, "block {block}, taken {taken}");
                assert!(queue.is_empty() && queue.pieces().next().is_none());
            }
        }
    }

    #[test]
    fn bytes_moved_to_another_queue_keep_their_order_wherever_they_are_cut() {
        for cut in 0..=60 {
            let mut pool = Pool::new(16, 2);
            let (mut from, mut to) = (ByteQueue::new(), ByteQueue::new());
            (0..30u8).for_each(|n| from.extend(&[n], &mut pool));
            from.push(Segment::from((30..60).collect::<Vec<u8>>()));
            let first = cut / 2;
            from.move_to(first, &mut to, &mut pool);
            from.move_to(cut - first, &mut to, &mut pool);
            assert_eq!((to.len(), from.len()), (cut, 60 - cut));
            let mut all = to.to_vec();
            all.extend(from.to_vec());
            assert_eq!(all, (0..60).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn what_is_appended_in_place_stands_behind_what_was_gathered() {
        let mut pool = Pool::new(16, 1);
        let mut queue = ByteQueue::new();
        let mut add = |queue: &mut ByteQueue, room, bytes: Option<&'static [u8]>| {
            queue.reserve(room, &mut pool);
            queue.append(|out| {
                out.extend_from_slice(bytes.unwrap_or(b"half"));
                bytes.map(|_| ()).ok_or(())
            })
        };
        assert!(add(&mut queue, 4, None).is_err());
        assert_eq!((queue.len(), queue.only_piece()), (0, None));
        add(&mut queue, 4, Some(b"abcd")).unwrap();
        assert!(add(&mut queue, 4, None).is_err());
        add(&mut queue, 8, Some(b"efgh")).unwrap();
        assert_eq!(queue.only_piece(), Some(&b"abcdefgh"[..]));
        add(&mut queue, 9, Some(b"ijkl")).unwrap();
        add(&mut queue, 40, Some(b"mnop")).unwrap();
        queue.extend(b"q", &mut pool);
        assert_eq!((queue.len(), queue.to_vec()), (17, b"abcdefghijklmnopq".to_vec()));
    }

    #[test]
    fn what_an_earlier_use_left_in_a_block_is_not_appended() {
        let mut pool = Pool::new(16, 2).with_headroom(4);
        let mut queue = ByteQueue::new();
        let write = |place: &mut [u8], bytes: &[u8]| {
            place[..bytes.len()].copy_from_slice(bytes);
            Ok::<usize, ()>(bytes.len())
        };
        queue.append_within(20, &mut pool, |place| write(place, b"an earlier use")).unwrap();
        queue.consume(14, &mut pool);
        assert!(queue.append_within(8, &mut pool, |_| Err(())).is_err());
        assert_eq!((queue.len(), queue.only_piece()), (0, None));
        queue.append_within(8, &mut pool, |place| write(place, b"now")).unwrap();
        assert_eq!(queue.only_piece(), Some(&b"now"[..]));
        queue.append_within(9, &mut pool, |place| write(place, b" and then")).unwrap();
        assert_eq!(queue.only_piece(), Some(&b"now and then"[..]));
    }

    #[test]
    fn a_large_write_takes_blocks_of_the_pool_and_gives_them_back_one_by_one() {
        let mut pool = Pool::new(16, 8).with_headroom(4);
        let mut queue = ByteQueue::new();
        let bytes: Vec<u8> = (0..100).collect();
        queue.extend(&bytes[..10], &mut pool);
        queue.extend(&bytes[10..], &mut pool);
        let pieces: Vec<usize> = queue.pieces().map(<[u8]>::len).collect();
        assert_eq!((queue.to_vec(), pieces), (bytes, vec![16, 16, 16, 16, 16, 16, 4]));
        queue.consume(40, &mut pool);
        assert_eq!(pool.kept(), 2);
        queue.consume(60, &mut pool);
        assert_eq!(pool.kept(), 7);
    }

    #[test]
    fn a_foreign_segment_is_released_as_soon_as_its_last_byte_is_gone() {
        let released = Rc::new(Cell::new(0));
        let mut pool = Pool::new(16, 1);
        let mut queue = ByteQueue::new();
        queue.push(counted(b"abc", &released));
        queue.extend(b"d", &mut pool);
        queue.consume(2, &mut pool);
        assert_eq!(released.get(), 0);
        queue.consume(1, &mut pool);
        assert_eq!(released.get(), 1);
        assert_eq!(queue.to_vec(), b"d");
    }

    #[test]
    fn many_small_writes_leave_as_one_slice() {
        let mut pool = Pool::new(4096, 1);
        let mut queue = ByteQueue::new();
        (0..100).for_each(|_| queue.extend(b"0123456789", &mut pool));
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(queue.io_slices(&mut slices), 1);
        assert_eq!(slices[0].len(), 1000);
        queue.consume(10, &mut pool);
        assert_eq!(queue.only_piece().map(<[u8]>::len), Some(990));
        queue.push(Segment::from_static(b"more"));
        assert_eq!(queue.only_piece(), None);
        queue.consume(991, &mut pool);
        assert_eq!(queue.only_piece(), Some(&b"ore"[..]));
        queue.consume(3, &mut pool);
        assert_eq!(queue.only_piece(), None);
    }
}
