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
    // For bytes on their way in: fits a TLS record with what is behind it.
    large: RefCell<Pool>,
    // The number of the next layer.
    next: Cell<u64>,
}

/// Two full TLS records, so that decrypting one seldom makes a link's block grow.
const LARGE: usize = 32 * 1024;

impl Workspace {
    /// A workspace whose outbound blocks have `block_len` bytes.
    pub fn new(block_len: usize) -> Workspace {
        Workspace {
            small: RefCell::new(Pool::new(block_len, 64)),
            large: RefCell::new(Pool::new(LARGE, 16)),
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

    #[inline]
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        if len > LARGE { Vec::with_capacity(len) } else { self.large.borrow_mut().take() }
    }

    #[inline]
    pub(crate) fn give(&self, block: Vec<u8>) {
        self.large.borrow_mut().give(block);
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
