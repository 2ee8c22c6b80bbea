//! One TLS session of an `ssl.SSLObject`, without a socket and without a clock.

mod chunk;
mod drained;

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use super::Classes;
use super::library::{self, Library, Ssl};
use super::wire::{self, WireBio};
use crate::memory;
use crate::object::Ref;

pub(super) use drained::Drained;

// From OpenSSL's ssl.h; the numbers are part of its ABI.
const WANT_READ: i32 = 2;
const WANT_WRITE: i32 = 3;
const ZERO_RETURN: i32 = 6;
const RECEIVED_SHUTDOWN: i32 = 2;

/// The most that is asked of OpenSSL at once. asyncio's figure.
const MOST: usize = 256 * 1024;

/// The most plaintext of one record (RFC 8446, section 5.1), and what a record adds at most: header,
/// nonce and MAC of the oldest suites.
const RECORD: usize = 16 * 1024;
const OVERHEAD: usize = 128;

/// A session: ciphertext in ([`feed`](Session::feed)), ciphertext out
/// ([`take_output`](Session::take_output)), and the four things that an `SSLObject` does.
///
/// There are two ways to it. *Buffers*: everything through the `SSLObject` and two `ssl.MemoryBIO`,
/// as asyncio does. *Direct*: reading and writing call OpenSSL on the `SSL*` inside the object;
/// handshake and shutdown still go through the object, so that callbacks and exceptions are those
/// of `_ssl`. An error on the direct way is told by doing the call again through the object: a
/// session that has failed fails again, and `_ssl` makes the exception out of OpenSSL's own queue
/// of errors.
///
/// # Re-entry
///
/// Callbacks of the context may call anything, from inside each of the four calls, and other
/// threads may come in while `_ssl` has let the GIL go. OpenSSL allows one call at a time, so a
/// session is *busy* meanwhile, and a second call does nothing but say [`Step::Again`].
pub(super) struct Session {
    object: RefCell<Option<Ref>>,
    way: Way,
    busy: Cell<bool>,
    // Ciphertext that came while the session was busy.
    late: RefCell<Vec<u8>>,
    peer_closed: Cell<bool>,
}

enum Way {
    Buffers { incoming: Ref, outgoing: Ref },
    // `_native` owns the `SSL`.
    Direct { library: &'static Library, ssl: NonNull<Ssl>, wire: WireBio, _native: Ref },
}

/// What came of a call.
pub(super) enum Step<T> {
    Done(T),
    /// Nothing until more has come from the peer.
    Again,
}

/// What came of reading.
pub(super) enum Plain {
    Bytes(usize),
    Again,
    /// The peer's close_notify.
    End,
}

impl Session {
    /// A session over the two `ssl.MemoryBIO` that `object` was made with.
    pub(super) fn new(
        object: &Bound<'_, PyAny>,
        incoming: Bound<'_, PyAny>,
        outgoing: Bound<'_, PyAny>,
    ) -> Session {
        let way = Session::direct(object).unwrap_or_else(|| Way::Buffers {
            incoming: Ref::new(incoming),
            outgoing: Ref::new(outgoing),
        });
        Session {
            object: RefCell::new(Some(Ref::new(object.clone()))),
            way,
            busy: Cell::new(false),
            late: RefCell::new(Vec::new()),
            peer_closed: Cell::new(false),
        }
    }

    fn direct(object: &Bound<'_, PyAny>) -> Option<Way> {
        let py = object.py();
        let library = library::library(py)?;
        let context = object.getattr(intern!(py, "context")).ok()?;
        // These two keep their exceptions in the object, for the call of its own that follows.
        let untold = |name| context.getattr(name).is_ok_and(|value| value.is_none());
        if !untold(intern!(py, "_msg_callback")) || !untold(intern!(py, "keylog_filename")) {
            return None;
        }
        let ssl = library::ssl_of(library, object, &context)?;
        let native = Ref::new(object.getattr(intern!(py, "_sslobj")).ok()?);
        // SAFETY: `ssl_of` has found it inside a live object, which was made a moment ago and has
        // read and written nothing.
        let wire = unsafe { WireBio::install(library, ssl)? };
        Some(Way::Direct { library, ssl, wire, _native: native })
    }

    /// Whether reading and writing go to OpenSSL directly.
    pub(super) fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct { .. })
    }

    /// The `ssl.SSLObject`; `None` after [`clear`](Session::clear).
    pub(super) fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.object.borrow().as_ref().map(|object| object.bind(py).to_owned())
    }

    /// Whether the peer's close_notify has been seen.
    pub(super) fn peer_has_closed(&self) -> bool {
        self.peer_closed.get()
    }

    /// Takes ciphertext in.
    pub(super) fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if self.busy.get() {
            self.late.borrow_mut().extend_from_slice(data);
            return Ok(());
        }
        self.take_late(py)?;
        self.keep(py, data)
    }

    fn keep(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        match &self.way {
            Way::Buffers { incoming, .. } => {
                let data = memory::bytes(py, data)?;
                incoming.bind(py).call_method1(intern!(py, "write"), (data,)).map(drop)
            }
            Way::Direct { wire, .. } => {
                // SAFETY: settled on the next line.
                unsafe { wire.lend(data) };
                wire.settle();
                Ok(())
            }
        }
    }

    fn take_late(&self, py: Python<'_>) -> PyResult<()> {
        if self.late.borrow().is_empty() {
            return Ok(());
        }
        let late = self.late.take();
        self.keep(py, &late)
    }

    /// Goes on with the handshake.
    pub(super) fn handshake(&self, py: Python<'_>) -> PyResult<Step<()>> {
        self.call(py, intern!(py, "do_handshake"))
    }

    /// Sends close_notify, and waits for the peer's.
    pub(super) fn unwrap(&self, py: Python<'_>) -> PyResult<Step<()>> {
        let step = self.call(py, intern!(py, "unwrap"))?;
        if let Step::Done(()) = step {
            self.peer_closed.set(true);
        }
        Ok(step)
    }

    fn call(&self, py: Python<'_>, name: &Bound<'_, pyo3::types::PyString>) -> PyResult<Step<()>> {
        if self.busy.get() {
            return Ok(Step::Again);
        }
        self.take_late(py)?;
        let (Some(object), Some(_busy)) = (self.object(py), self.enter()) else {
            return Ok(Step::Again);
        };
        match object.call_method0(name) {
            Ok(_) => Ok(Step::Done(())),
            Err(error) if is_again(py, &error) => Ok(Step::Again),
            Err(error) => Err(error),
        }
    }

    /// Reads plaintext; no more than one record's.
    pub(super) fn read(&self, py: Python<'_>, into: &mut [MaybeUninit<u8>]) -> PyResult<Plain> {
        if !self.late.borrow().is_empty() && !self.busy.get() {
            self.take_late(py)?;
        }
        let Some(_busy) = self.enter() else { return Ok(Plain::Again) };
        let plain = match &self.way {
            Way::Buffers { .. } => self.read_object(py, into, into.len().min(MOST)),
            Way::Direct { library, ssl, .. } => {
                // SAFETY: a live SSL that nobody else uses, as `busy` says.
                unsafe { (library.clear_error)() };
                self.read_ssl(py, library, *ssl, into)
            }
        }?;
        if let Plain::End = plain {
            self.peer_closed.set(true);
        }
        Ok(plain)
    }

    fn read_ssl(
        &self,
        py: Python<'_>,
        library: &Library,
        ssl: NonNull<Ssl>,
        into: &mut [MaybeUninit<u8>],
    ) -> PyResult<Plain> {
        let len = into.len().min(MOST) as i32;
        // SAFETY: as above, and `into` has room for `len` bytes.
        let (count, why, shutdown) = unsafe {
            match (library.read)(ssl.as_ptr(), into.as_mut_ptr().cast(), len) {
                count if count > 0 => (count, 0, 0),
                count => {
                    let why = (library.get_error)(ssl.as_ptr(), count);
                    (count, why, (library.get_shutdown)(ssl.as_ptr()))
                }
            }
        };
        match why {
            0 => Ok(Plain::Bytes(count as usize)),
            WANT_READ | WANT_WRITE => Ok(Plain::Again),
            ZERO_RETURN if shutdown & RECEIVED_SHUTDOWN != 0 => Ok(Plain::End),
            _ => self.read_object(py, into, 1),
        }
    }

    fn read_object(
        &self,
        py: Python<'_>,
        into: &mut [MaybeUninit<u8>],
        most: usize,
    ) -> PyResult<Plain> {
        let Some(object) = self.object(py) else { return Ok(Plain::Again) };
        let data = match object.call_method1(intern!(py, "read"), (most,)) {
            Ok(data) => data.cast_into::<PyBytes>()?,
            // After a close of ours it is told so.
            Err(error) if Classes::has(py, &error, |classes| &classes.zero_return) => {
                return Ok(Plain::End);
            }
            Err(error) if is_again(py, &error) => return Ok(Plain::Again),
            Err(error) => return Err(error),
        };
        match data.as_bytes() {
            [] => Ok(Plain::End),
            data if data.len() <= into.len() => {
                into[..data.len()].write_copy_of_slice(data);
                Ok(Plain::Bytes(data.len()))
            }
            _ => Err(PyTypeError::new_err("SSLObject.read() returned more than was asked for")),
        }
    }

    // Whether OpenSSL would find nothing more. Asking costs less than a read that fails.
    fn is_empty(&self) -> bool {
        let Way::Direct { library, ssl, wire, .. } = &self.way else { return false };
        // SAFETY: a live SSL; the question changes nothing.
        let nothing = wire.unread_len() == 0
            && self.late.borrow().is_empty()
            && unsafe { (library.has_pending)(ssl.as_ptr()) } == 0;
        if nothing {
            wire.note_empty();
        }
        nothing
    }

    /// Encrypts bytes; how many.
    pub(super) fn write(&self, py: Python<'_>, data: &[u8]) -> PyResult<Step<usize>> {
        let Some(_busy) = self.enter() else { return Ok(Step::Again) };
        if let Way::Direct { library, ssl, wire, .. } = &self.way {
            let len = data.len().min(i32::MAX as usize);
            wire.reserve(len + (len / RECORD + 1) * OVERHEAD);
            // SAFETY: a live SSL that nobody else uses, as `busy` says; `data` is `len` long.
            let (count, why) = unsafe {
                (library.clear_error)();
                let count = (library.write)(ssl.as_ptr(), data.as_ptr().cast(), len as i32);
                let why = if count > 0 { 0 } else { (library.get_error)(ssl.as_ptr(), count) };
                (count, why)
            };
            match why {
                0 => return Ok(Step::Done(count as usize)),
                WANT_READ | WANT_WRITE => return Ok(Step::Again),
                _ => {}
            }
        }
        let Some(object) = self.object(py) else { return Ok(Step::Again) };
        match object.call_method1(intern!(py, "write"), (memory::bytes(py, data)?,)) {
            Ok(count) => Ok(Step::Done(count.extract::<usize>()?.min(data.len()))),
            Err(error) if is_again(py, &error) => Ok(Step::Again),
            Err(error) => Err(error),
        }
    }

    /// What is to be sent to the peer. Give the vector back with [`recycle`].
    pub(super) fn take_output(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        if self.busy.get() {
            return Ok(Vec::new());
        }
        match &self.way {
            Way::Direct { wire, .. } => Ok(wire.take_output()),
            Way::Buffers { outgoing, .. } => {
                let data = outgoing.bind(py).call_method0(intern!(py, "read"))?;
                Ok(data.cast::<PyBytes>()?.as_bytes().to_vec())
            }
        }
    }

    /// What was fed and never looked at: behind the peer's close_notify.
    pub(super) fn take_unread(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        let mut unread = match &self.way {
            _ if self.busy.get() => Vec::new(),
            Way::Direct { wire, .. } => wire.take_unread(),
            Way::Buffers { incoming, .. } => {
                let data = incoming.bind(py).call_method0(intern!(py, "read"))?;
                data.cast::<PyBytes>()?.as_bytes().to_vec()
            }
        };
        unread.extend(self.late.take());
        Ok(unread)
    }

    /// How many bytes wait to be sent.
    pub(super) fn output_len(&self, py: Python<'_>) -> usize {
        match &self.way {
            _ if self.busy.get() => 0,
            Way::Direct { wire, .. } => wire.output_len(),
            Way::Buffers { outgoing, .. } => pending(outgoing.bind(py).as_any()),
        }
    }

    /// How many bytes from the peer have not been looked at.
    pub(super) fn input_len(&self, py: Python<'_>) -> usize {
        let late = self.late.borrow().len();
        match &self.way {
            _ if self.busy.get() => late,
            Way::Direct { wire, .. } => late + wire.unread_len(),
            Way::Buffers { incoming, .. } => late + pending(incoming.bind(py).as_any()),
        }
    }

    /// The connection is gone: forgets the bytes of both directions.
    pub(super) fn forget_bytes(&self, py: Python<'_>) {
        self.late.take();
        match &self.way {
            _ if self.busy.get() => {}
            Way::Direct { wire, .. } => wire.clear(),
            Way::Buffers { incoming, outgoing } => {
                for side in [incoming, outgoing] {
                    // A MemoryBIO does not fail to be read.
                    let _ = side.bind(py).call_method0(intern!(py, "read"));
                }
            }
        }
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.object.try_borrow() {
            Ok(object) => object.iter().try_for_each(|object| object.visit(visit)),
            Err(_) => Ok(()),
        }
    }

    /// For the collector: lets go of the object.
    pub(super) fn clear(&self) {
        let object = self.object.take();
        drop(object);
    }

    fn enter(&self) -> Option<Busy<'_>> {
        if self.busy.replace(true) { None } else { Some(Busy(&self.busy)) }
    }
}

/// Gives a vector of [`Session::take_output`] back.
pub(super) use wire::recycle;

struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn pending(side: &Bound<'_, PyAny>) -> usize {
    side.getattr(intern!(side.py(), "pending")).and_then(|count| count.extract()).unwrap_or(0)
}

/// What asyncio takes for "not yet".
fn is_again(py: Python<'_>, error: &PyErr) -> bool {
    Classes::has(py, error, |classes| &classes.want_read)
        || Classes::has(py, error, |classes| &classes.syscall)
}
