use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

use crate::ForeignBytes;

/// Memory that bytes are read into: an owned value that is moved to the driver and comes back.
///
/// It is moved rather than lent so that a driver whose reads complete later may keep it, and so
/// that nothing borrows the driver while a protocol looks at the bytes. It is either a vector of
/// ours or a host's (asyncio's `BufferedProtocol`). Dereferences to all of its bytes; how many of
/// them a read filled is told beside it.
///
/// ```
/// use tepal_base::Buffer;
///
/// let mut buffer = Buffer::from(vec![0; 8]);
/// buffer[..2].copy_from_slice(b"ok");
/// assert_eq!(buffer.into_vec().expect("a vector")[..2], *b"ok");
/// ```
pub struct Buffer {
    data: NonNull<u8>,
    len: usize,
    // Ours: the capacity of the Vec that `data` begins. A host's: the owner.
    owner: *mut (),
    release: Option<unsafe fn(owner: *mut ())>,
}

impl Buffer {
    /// A zeroed buffer of `len` bytes.
    pub fn zeroed(len: usize) -> Buffer {
        Buffer::from(vec![0; len])
    }

    /// Takes charge of a host's writable memory.
    ///
    /// # Safety
    ///
    /// Until `release` is called, `data` must point to `len` initialised bytes that may be read
    /// and written and that nobody else touches. `release(owner)` must be sound to call once on
    /// the thread where the buffer is dropped.
    pub unsafe fn from_foreign(bytes: ForeignBytes) -> Buffer {
        Buffer {
            data: bytes.data,
            len: bytes.len,
            owner: bytes.owner,
            release: Some(bytes.release),
        }
    }

    /// Gives the vector back.
    ///
    /// # Errors
    ///
    /// The buffer itself if its memory is a host's.
    pub fn into_vec(self) -> Result<Vec<u8>, Buffer> {
        if self.release.is_some() {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: `from(Vec)` took these three from a Vec; `this` is not dropped.
        Ok(unsafe { Vec::from_raw_parts(this.data.as_ptr(), this.len, this.owner.addr()) })
    }
}

impl From<Vec<u8>> for Buffer {
    /// A buffer over the vector's bytes (its length, not its capacity).
    fn from(vec: Vec<u8>) -> Buffer {
        let mut vec = ManuallyDrop::new(vec);
        Buffer {
            // SAFETY: a Vec's pointer is never null.
            data: unsafe { NonNull::new_unchecked(vec.as_mut_ptr()) },
            len: vec.len(),
            owner: core::ptr::without_provenance_mut(vec.capacity()),
            release: None,
        }
    }
}

impl Default for Buffer {
    /// A buffer of no bytes, which allocates nothing.
    fn default() -> Self {
        Buffer::from(Vec::new())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: every constructor promises `len` initialised bytes at `data` until drop.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and nobody else touches the bytes.
        unsafe { slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.release {
            // SAFETY: `from(Vec)` took these three from a Vec, and drop runs once.
            None => drop(unsafe {
                Vec::from_raw_parts(self.data.as_ptr(), self.len, self.owner.addr())
            }),
            // SAFETY: `from_foreign`'s caller promised that this may be called once, here.
            Some(release) => unsafe { release(self.owner) },
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}
