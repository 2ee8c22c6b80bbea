//! What an `SSL` reads from and writes to: a BIO of our own.
//!
//! OpenSSL takes ciphertext straight out of the buffer that the transport has received into, and
//! appends what it sends to a vector. A memory BIO would copy both once more.
//!
//! The BIO owns the [`Wire`] and the `SSL` refers to the BIO, so the wire lives as long as either is
//! used: a program may keep its `ssl.SSLObject` after the connection is gone.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::NonNull;

use super::library::{Bio, BioMethod, Library, Ssl};

// From OpenSSL's bio.h; the numbers are part of its ABI.
const FLAG_READ: c_int = 0x01;
const FLAG_RETRY: c_int = 0x08;
const FLAGS_ALL: c_int = 0x0f;
const CTRL_FLUSH: c_int = 11;
const TYPE_SOURCE_SINK: c_int = 0x0400;

/// A buffer larger than this is not kept for the next use.
const KEPT: usize = 64 * 1024;

thread_local! {
    // One buffer for output that is between two uses: idle connections have none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The bytes on their way between an `SSL` and its transport.
///
/// OpenSSL's calls through `_ssl` run without the GIL. The session's mark of being busy keeps
/// everybody else away meanwhile, so there is one user at a time.
#[derive(Default)]
struct Wire {
    // Received and not yet read: first these, from `start` on...
    kept: Vec<u8>,
    start: usize,
    // ...then these, which belong to a caller up the stack.
    lent: *const u8,
    lent_len: usize,
    // Sent by the SSL.
    out: Vec<u8>,
    // Ciphertext that the SSL has read since it last had nothing left of it.
    inside: usize,
}

/// Our reference to the BIO of one session.
pub(super) struct WireBio {
    library: &'static Library,
    bio: NonNull<Bio>,
    wire: NonNull<UnsafeCell<Wire>>,
}

impl WireBio {
    /// Puts a BIO of ours under an `SSL`, in the place of what it had, which holds no bytes yet.
    ///
    /// # Safety
    ///
    /// The `SSL` is live, of this library, and nobody uses it.
    pub(super) unsafe fn install(library: &'static Library, ssl: NonNull<Ssl>) -> Option<WireBio> {
        let wire = Box::new(UnsafeCell::new(Wire::default()));
        // SAFETY: the method is complete. The BIO gets the wire, which `destroy` frees, and one
        // reference for us and one for the SSL, whose reading and writing sides share it.
        unsafe {
            let bio = NonNull::new((library.bio_new)(library.bio_method))?;
            let wire = NonNull::from(Box::leak(wire));
            (library.bio_set_data)(bio.as_ptr(), wire.as_ptr().cast());
            (library.bio_set_init)(bio.as_ptr(), 1);
            (library.bio_up_ref)(bio.as_ptr());
            (library.set_bio)(ssl.as_ptr(), bio.as_ptr(), bio.as_ptr());
            Some(WireBio { library, bio, wire })
        }
    }

    // Each use below is short and calls nothing, and the session allows one at a time.
    #[allow(clippy::mut_from_ref, reason = "one user at a time, as the type's text says")]
    fn wire(&self) -> &mut Wire {
        // SAFETY: the wire lives as long as the BIO, of which this holds a reference. No other
        // reference into it exists: those given out by this method end inside the methods here.
        unsafe { &mut *self.wire.as_ref().get() }
    }

    /// Shows the SSL these bytes, behind those it has not read.
    ///
    /// # Safety
    ///
    /// They stay where they are until [`settle`](WireBio::settle).
    pub(super) unsafe fn lend(&self, data: &[u8]) {
        self.settle();
        let wire = self.wire();
        (wire.lent, wire.lent_len) = (data.as_ptr(), data.len());
    }

    /// Keeps what is left of the bytes lent.
    pub(super) fn settle(&self) {
        let wire = self.wire();
        if wire.lent_len > 0 {
            // SAFETY: they are lent until here.
            let rest = unsafe { std::slice::from_raw_parts(wire.lent, wire.lent_len) };
            wire.kept.drain(..wire.start);
            wire.start = 0;
            wire.kept.extend_from_slice(rest);
        }
        (wire.lent, wire.lent_len) = (std::ptr::null(), 0);
    }

    /// How much the SSL has not read.
    pub(super) fn unread_len(&self) -> usize {
        let wire = self.wire();
        wire.kept.len() - wire.start + wire.lent_len
    }

    /// No more plaintext than this can come of what has been received.
    pub(super) fn most_plain(&self) -> usize {
        self.unread_len() + self.wire().inside
    }

    /// The SSL holds nothing that it has not given away.
    pub(super) fn note_empty(&self) {
        self.wire().inside = 0;
    }

    /// How much waits to be sent.
    pub(super) fn output_len(&self) -> usize {
        self.wire().out.len()
    }

    /// Makes room for what is to be sent.
    pub(super) fn reserve(&self, count: usize) {
        let out = &mut self.wire().out;
        if out.capacity() == 0 {
            *out = SPARE.take();
        }
        out.reserve(count);
    }

    /// What the SSL has sent.
    pub(super) fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut self.wire().out)
    }

    /// What the SSL has not read.
    pub(super) fn take_unread(&self) -> Vec<u8> {
        self.settle();
        let wire = self.wire();
        let mut kept = std::mem::take(&mut wire.kept);
        kept.drain(..std::mem::take(&mut wire.start));
        kept
    }

    /// Forgets what was received and what was to be sent.
    pub(super) fn clear(&self) {
        let wire = self.wire();
        wire.kept = Vec::new();
        (wire.start, wire.lent, wire.lent_len) = (0, std::ptr::null(), 0);
        wire.out = Vec::new();
    }
}

impl Drop for WireBio {
    fn drop(&mut self) {
        // What was lent goes back to its owner now; a program may use its SSLObject still.
        self.settle();
        // SAFETY: one reference is ours.
        unsafe { (self.library.bio_free)(self.bio.as_ptr()) };
    }
}

/// Gives a buffer of output back, for the next one who sends.
pub(super) fn recycle(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT {
        buffer.clear();
        SPARE.set(buffer);
    }
}

/// The table of functions that every BIO of ours has.
pub(super) fn make_method(library: &Library) -> Option<*mut BioMethod> {
    // SAFETY: the functions are OpenSSL's, and the callbacks have the signatures they ask for.
    unsafe {
        let kind = (library.bio_new_index)();
        if kind < 0 {
            return None;
        }
        let method = (library.bio_meth_new)(kind | TYPE_SOURCE_SINK, c"tepal".as_ptr());
        if method.is_null() {
            return None;
        }
        let set = (library.bio_meth_set_write)(method, write)
            & (library.bio_meth_set_read)(method, read)
            & (library.bio_meth_set_ctrl)(method, control)
            & (library.bio_meth_set_destroy)(method, destroy);
        (set == 1).then_some(method)
    }
}

/// # Safety
///
/// A BIO of ours, called by OpenSSL.
unsafe fn wire_of<'a>(bio: *mut Bio) -> Option<(&'static Library, &'a UnsafeCell<Wire>)> {
    let library = super::library::loaded()?;
    // SAFETY: `install` has put the wire there; it lives as long as the BIO.
    let data = unsafe { (library.bio_get_data)(bio) };
    let wire = NonNull::new(data.cast::<UnsafeCell<Wire>>())?;
    // SAFETY: as above.
    Some((library, unsafe { wire.as_ref() }))
}

unsafe extern "C" fn read(bio: *mut Bio, into: *mut c_char, count: c_int) -> c_int {
    // SAFETY: OpenSSL calls it on our BIO, with room for `count` bytes. Only one call of the SSL
    // runs at a time (see `Wire`), and this calls nothing that could lead back here.
    unsafe {
        let Some((library, wire)) = wire_of(bio) else { return -1 };
        (library.bio_clear_flags)(bio, FLAGS_ALL);
        let wire = &mut *wire.get();
        let (into, count) = (into.cast::<u8>(), usize::try_from(count).unwrap_or(0));
        let kept = wire.kept.get(wire.start..).unwrap_or_default();
        let taken = if !kept.is_empty() {
            let taken = kept.len().min(count);
            into.copy_from_nonoverlapping(kept.as_ptr(), taken);
            wire.start += taken;
            if wire.start == wire.kept.len() {
                wire.start = 0;
                wire.kept.clear();
                if wire.kept.capacity() > KEPT {
                    wire.kept = Vec::new();
                }
            }
            taken
        } else {
            let taken = wire.lent_len.min(count);
            if taken > 0 {
                into.copy_from_nonoverlapping(wire.lent, taken);
                wire.lent = wire.lent.add(taken);
                wire.lent_len -= taken;
            }
            taken
        };
        if taken == 0 {
            (library.bio_set_flags)(bio, FLAG_READ | FLAG_RETRY);
            return -1;
        }
        wire.inside += taken;
        taken as c_int
    }
}

// SAFETY: OpenSSL calls it on a BIO of ours.
unsafe extern "C" fn write(bio: *mut Bio, from: *const c_char, count: c_int) -> c_int {
    // SAFETY: as for `read`.
    unsafe {
        let Some((library, wire)) = wire_of(bio) else { return -1 };
        (library.bio_clear_flags)(bio, FLAGS_ALL);
        let (from, len) = (from.cast::<u8>(), usize::try_from(count).unwrap_or(0));
        if len > 0 {
            let out = &mut (*wire.get()).out;
            if out.capacity() == 0 {
                *out = SPARE.take();
            }
            out.extend_from_slice(std::slice::from_raw_parts(from, len));
        }
        count
    }
}

// SAFETY: OpenSSL calls it on a BIO of ours.
unsafe extern "C" fn control(_: *mut Bio, command: c_int, _: c_long, _: *mut c_void) -> c_long {
    // Nothing but a flush is asked of a BIO that is neither a socket nor a file.
    c_long::from(command == CTRL_FLUSH)
}

// SAFETY: OpenSSL calls it on a BIO of ours.
unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    let Some(library) = super::library::loaded() else { return 0 };
    // SAFETY: called once, when the last reference is given back; `install` has leaked the box.
    unsafe {
        let wire = (library.bio_get_data)(bio).cast::<UnsafeCell<Wire>>();
        (library.bio_set_data)(bio, std::ptr::null_mut());
        if !wire.is_null() {
            drop(Box::from_raw(wire));
        }
    }
    1
}
