/// Blocks of one size, kept for the next use.
///
/// A connection with nothing to send holds no block: it takes one here for its first small write
/// and gives it back once all is sent.
///
/// ```
/// let mut pool = tepal_base::Pool::new(4096, 8);
/// let block = pool.take();
/// assert!(block.is_empty() && block.capacity() == 4096);
/// pool.give(block);
/// assert_eq!(pool.kept(), 1);
/// ```
#[derive(Debug)]
pub struct Pool {
    // As they came back, so that what has been written once need not be cleared again.
    blocks: Vec<Vec<u8>>,
    block_len: usize,
    headroom: usize,
    most: usize,
}

impl Pool {
    /// A pool of blocks with a capacity of `block_len` bytes, which keeps at most `most` of them.
    ///
    /// # Panics
    ///
    /// If `block_len` is zero.
    pub const fn new(block_len: usize, most: usize) -> Pool {
        assert!(block_len > 0, "a block holds something");
        Pool { blocks: Vec::new(), block_len, headroom: 0, most }
    }

    /// The same for blocks with a capacity of `headroom` bytes more: for what `block_len` bytes
    /// become when something is added to them (a TLS record's header and tag).
    #[must_use]
    pub const fn with_headroom(mut self, headroom: usize) -> Pool {
        self.headroom = headroom;
        self
    }

    /// An empty block with the capacity of them all.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        let mut block = self.take_used();
        block.clear();
        block
    }

    /// A block with the bytes of its last use in it.
    #[inline]
    pub(crate) fn take_used(&mut self) -> Vec<u8> {
        self.blocks.pop().unwrap_or_else(|| Vec::with_capacity(self.capacity()))
    }

    /// Takes a block back. One of another capacity, or one too many, is freed.
    #[inline]
    pub fn give(&mut self, block: Vec<u8>) {
        if block.capacity() == self.capacity() && self.blocks.len() < self.most {
            self.blocks.push(block);
        }
    }

    /// How many bytes are gathered in a block.
    #[inline]
    pub const fn block_len(&self) -> usize {
        self.block_len
    }

    /// The capacity of each block, in bytes: its length and the headroom.
    #[inline]
    pub const fn capacity(&self) -> usize {
        self.block_len + self.headroom
    }

    /// How many blocks wait for their next use.
    pub fn kept(&self) -> usize {
        self.blocks.len()
    }
}
