use std::cell::{Cell, RefCell, RefMut};
use std::fmt;

use tepal_base::{Instant, Pool};

use crate::LayerId;

/// Memory that all stacks of one loop share: blocks that are in use only while bytes wait.
///
/// A stack with nothing queued holds none of it. One workspace serves any number of chains on one
/// thread.
pub struct Workspace {
    // For bytes on their way out; the owner of the wire uses the same.
    small: RefCell<Pool>,
    // For bytes on their way in: those of a short message, and as many as a link takes.
    short: RefCell<Pool>,
    long: RefCell<Pool>,
    // The number of the next layer.
    next: Cell<u64>,
}

/// What a record of TLS adds to the 16 KiB that an outbound block of the loop's holds.
const HEADROOM: usize = 256;

/// Two full TLS records, so that decrypting one seldom makes a link's block grow. 16 are kept.
const SHORT: usize = 32 * 1024;

/// A link's limit, and one record by which it may be passed. 8 are kept: 640 KiB.
///
/// More than this a link holds of a frame that is longer. Such memory is for the allocator: glibc
/// keeps what is above 128 KiB by itself once one of that size was freed, but of smaller blocks it
/// gives all back to the kernel that reach 128 KiB together.
const LONG: usize = 80 * 1024;

impl Workspace {
    /// A workspace whose outbound blocks have `block_len` bytes, which is above 0. TLS does without
    /// memory of its own for what it sends from 16 KiB on.
    pub fn new(block_len: usize) -> Workspace {
        Workspace {
            small: RefCell::new(Pool::new(block_len, 64).with_headroom(HEADROOM)),
            short: RefCell::new(Pool::new(SHORT, 16)),
            long: RefCell::new(Pool::new(LONG, 8)),
            next: Cell::new(1),
        }
    }

    /// The pool of outbound blocks. Let go of it before the next call of a chain.
    #[inline]
    pub fn pool(&self) -> RefMut<'_, Pool> {
        self.small.borrow_mut()
    }

    /// The id of a layer that is to be put in with [`Chain::push_layer`](crate::Chain::push_layer).
    pub fn layer_id(&self) -> LayerId {
        let number = self.next.get();
        self.next.set(number + 1);
        LayerId::new(number)
    }

    /// An empty block for `len` bytes on their way in, or more.
    #[inline]
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        if len <= SHORT {
            self.short.borrow_mut().take()
        } else if len <= LONG {
            self.long.borrow_mut().take()
        } else {
            Vec::with_capacity(len)
        }
    }

    #[inline]
    pub(crate) fn give(&self, block: Vec<u8>) {
        match block.capacity() {
            SHORT => self.short.borrow_mut().give(block),
            LONG => self.long.borrow_mut().give(block),
            _ => {}
        }
    }

    /// Makes room for `more` bytes behind those of `block`, of which the first `gone` are dropped.
    /// Beyond the sizes that are kept it doubles, or becomes as long as `need` says if that is not
    /// far: what is allocated is always in proportion to what has come.
    pub(crate) fn grow(&self, block: &mut Vec<u8>, gone: usize, more: usize, need: usize) {
        let left = block.len() - gone;
        let least = left + more;
        if least <= LONG {
            let mut larger = self.take(least);
            larger.extend_from_slice(block.get(gone..).unwrap_or_default());
            self.give(std::mem::replace(block, larger));
            return;
        }
        block.drain(..gone);
        let capacity = block.capacity();
        let is_near = need >= least && (capacity / 2 * 3..=capacity * 3).contains(&need);
        let wanted = if is_near { need } else { least.max(2 * capacity) };
        block.reserve_exact(wanted - left);
    }
}

impl Default for Workspace {
    /// Outbound blocks of 4 KiB.
    fn default() -> Self {
        Workspace::new(4096)
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workspace")
    }
}

/// What every call of a chain is given: the time, and shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Now, by the driver's monotonic clock.
    pub now: Instant,
    /// Memory shared with the other chains of the loop.
    pub workspace: &'a Workspace,
}

impl<'a> Turn<'a> {
    /// A turn at `now`.
    pub fn new(now: Instant, workspace: &'a Workspace) -> Turn<'a> {
        Turn { now, workspace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_by_their_size_and_no_more_than_a_few() {
        let workspace = Workspace::default();
        let blocks = |len: usize| (0..20).map(|_| workspace.take(len)).collect::<Vec<_>>();
        for (len, capacity) in [(1, SHORT), (SHORT, SHORT), (SHORT + 1, LONG), (LONG, LONG)] {
            let blocks = blocks(len);
            assert!(blocks.iter().all(|block| block.capacity() == capacity));
            blocks.into_iter().for_each(|block| workspace.give(block));
        }
        blocks(LONG + 1).into_iter().for_each(|block| workspace.give(block));
        let kept = (workspace.short.borrow().kept(), workspace.long.borrow().kept());
        assert_eq!(kept, (16, 8));
    }
}
