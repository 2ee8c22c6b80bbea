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
    blocks: Vec<Vec<u8>>,
    block_len: usize,
    most: usize,
}

impl Pool {
    /// A pool of blocks with a capacity of `block_len` bytes, which keeps at most `most` of them.
    pub const fn new(block_len: usize, most: usize) -> Pool {
        Pool { blocks: Vec::new(), block_len, most }
    }

    /// An empty block with a capacity of [`block_len`](Pool::block_len).
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.blocks.pop().unwrap_or_else(|| Vec::with_capacity(self.block_len))
    }

    /// Takes a block back. One of another capacity, or one too many, is freed.
    #[inline]
    pub fn give(&mut self, mut block: Vec<u8>) {
        if block.capacity() == self.block_len && self.blocks.len() < self.most {
            block.clear();
            self.blocks.push(block);
        }
    }

    /// The capacity of each block, in bytes.
    pub const fn block_len(&self) -> usize {
        self.block_len
    }

    /// How many blocks wait for their next use.
    pub fn kept(&self) -> usize {
        self.blocks.len()
    }
}
