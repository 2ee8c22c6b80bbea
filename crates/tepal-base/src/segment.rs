use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use core::slice;

/// Memory that somebody else owns: where it is, and how to let it go.
///
/// A host makes one from an object it holds a reference to (a Python `bytes`, a buffer export). No
/// allocation is needed: the owner is one word.
#[derive(Debug)]
pub struct ForeignBytes {
    /// The first byte; any well-aligned non-null pointer if `len` is zero.
    pub data: NonNull<u8>,
    /// How many bytes.
    pub len: usize,
    /// What `release` gets.
    pub owner: *mut (),
    /// Called once, on the thread that drops the value, when the bytes are no longer needed.
    pub release: unsafe fn(owner: *mut ()),
}

/// Bytes that stay where they are until they have been sent: owned, static, or a host's.
///
/// A segment is never copied nor changed; a [`ByteQueue`](crate::ByteQueue) remembers how much of
/// its first segment is gone. It is `!Send`, because a host's memory may be released only while
/// that host is attached to the thread.
///
/// ```
/// use tepal_base::Segment;
///
/// let segment = Segment::from(b"hello".to_vec());
/// assert_eq!(&segment[1..3], b"el");
/// assert_eq!(Segment::from_static(b"hi").len(), 2);
/// ```
pub struct Segment {
    data: NonNull<u8>,
    len: usize,
    // Owned: the capacity of the Vec that `data` begins. Foreign: the owner. Static: null.
    owner: *mut (),
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Static,
    Owned,
    Foreign { release: unsafe fn(owner: *mut ()) },
}

impl Segment {
    /// Bytes that live as long as the program.
    pub const fn from_static(bytes: &'static [u8]) -> Segment {
        // SAFETY: a reference is never null; only reads go through the pointer.
        let data = unsafe { NonNull::new_unchecked(bytes.as_ptr().cast_mut()) };
        Segment { data, len: bytes.len(), owner: core::ptr::null_mut(), kind: Kind::Static }
    }

    /// Takes charge of a host's bytes without a copy.
    ///
    /// # Safety
    ///
    /// Until `release` is called, `data` must point to `len` bytes that may be read and that
    /// nobody changes. `release(owner)` must be sound to call once on the thread where the
    /// segment is dropped.
    pub unsafe fn from_foreign(bytes: ForeignBytes) -> Segment {
        Segment {
            data: bytes.data,
            len: bytes.len,
            owner: bytes.owner,
            kind: Kind::Foreign { release: bytes.release },
        }
    }

    /// Gives the vector back if this segment owns one, so that its memory can be used again.
    ///
    /// # Errors
    ///
    /// The segment itself if its bytes are static or a host's.
    pub fn into_vec(self) -> Result<Vec<u8>, Segment> {
        match self.kind {
            Kind::Owned => {
                let this = ManuallyDrop::new(self);
                // SAFETY: `from(Vec)` took these three from a Vec; `this` is not dropped.
                Ok(unsafe { Vec::from_raw_parts(this.data.as_ptr(), this.len, this.owner.addr()) })
            }
            Kind::Static | Kind::Foreign { .. } => Err(self),
        }
    }
}

impl From<Vec<u8>> for Segment {
    fn from(vec: Vec<u8>) -> Segment {
        let mut vec = ManuallyDrop::new(vec);
        Segment {
            // SAFETY: a Vec's pointer is never null.
            data: unsafe { NonNull::new_unchecked(vec.as_mut_ptr()) },
            len: vec.len(),
            owner: core::ptr::without_provenance_mut(vec.capacity()),
            kind: Kind::Owned,
        }
    }
}

impl From<String> for Segment {
    fn from(text: String) -> Segment {
        Segment::from(text.into_bytes())
    }
}

impl From<Box<[u8]>> for Segment {
    fn from(bytes: Box<[u8]>) -> Segment {
        Segment::from(bytes.into_vec())
    }
}

impl From<&'static [u8]> for Segment {
    fn from(bytes: &'static [u8]) -> Segment {
        Segment::from_static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for Segment {
    fn from(bytes: &'static [u8; N]) -> Segment {
        Segment::from_static(bytes)
    }
}

impl From<&'static str> for Segment {
    fn from(text: &'static str) -> Segment {
        Segment::from_static(text.as_bytes())
    }
}

impl Deref for Segment {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: every constructor promises `len` readable bytes at `data` until drop.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        match self.kind {
            Kind::Static => {}
            // SAFETY: `from(Vec)` took these three from a Vec, and drop runs once.
            Kind::Owned => drop(unsafe {
                Vec::from_raw_parts(self.data.as_ptr(), self.len, self.owner.addr())
            }),
            // SAFETY: `from_foreign`'s caller promised that this may be called once, here.
            Kind::Foreign { release } => unsafe { release(self.owner) },
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({} bytes)", self.len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// A segment that counts its releases.
    pub(crate) fn counted(bytes: &'static [u8], released: &Rc<Cell<u32>>) -> Segment {
        unsafe fn release(owner: *mut ()) {
            // SAFETY: `owner` came from `Rc::into_raw` below, and release runs once.
            let counter = unsafe { Rc::from_raw(owner.cast::<Cell<u32>>()) };
            counter.set(counter.get() + 1);
        }
        let owner = Rc::into_raw(Rc::clone(released)).cast_mut().cast();
        // SAFETY: static bytes outlive the segment; `release` matches `owner`.
        unsafe {
            Segment::from_foreign(ForeignBytes {
                data: NonNull::from(bytes).cast(),
                len: bytes.len(),
                owner,
                release,
            })
        }
    }

    #[test]
    fn foreign_bytes_are_released_once() {
        let released = Rc::new(Cell::new(0));
        let segment = counted(b"abc", &released);
        assert_eq!(&*segment, b"abc");
        let segment = segment.into_vec().expect_err("foreign bytes are no vector");
        assert_eq!(released.get(), 0);
        drop(segment);
        assert_eq!(released.get(), 1);
    }

    #[test]
    fn an_owned_segment_gives_its_vector_back_with_its_capacity() {
        let mut vec = Vec::with_capacity(100);
        vec.extend_from_slice(b"abc");
        let back = Segment::from(vec).into_vec().expect("owned");
        assert_eq!((back.as_slice(), back.capacity()), (&b"abc"[..], 100));
        assert!(Segment::from(Vec::new()).is_empty());
    }
}
