//! `write` and `writelines`.

use std::ffi::CStr;
use std::ptr::NonNull;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{Borrowed, ffi, intern};
use tepal::Crossing;
use tepal::engine::StreamKey;
use tepal_base::{ForeignBytes, Segment};

use super::pipe::{Role, no_bytes};
use super::transport::StreamTransport;
use crate::event_loop::State;
use crate::fastcall::{OneArgument, add_one_argument};
use crate::host::PyHost;
use crate::imports::imports;

/// Smaller `bytes` are copied: that costs less than keeping the object and gathering from it.
const KEPT: usize = 4096;

/// A vector of this size or more is handed on as it is: the engine sends it at once, if it can.
const SENT_WHOLE: usize = 16 * 1024;

/// Writes to a connection that has ended are logged from this one on, as asyncio does.
const TOLD_FROM: u32 = 5;

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_one_argument::<Write>(class)?;
    add_one_argument::<WriteLines>(class)
}

struct Write;

struct WriteLines;

impl OneArgument for Write {
    const NAME: &'static CStr = c"write";
    const ARGUMENT: &'static str = "data";
    const DOC: &'static CStr = c"write($self, data)\n--\n\n\
        Send a bytes-like object; it is buffered where the kernel does not take it. Never blocks.";

    type Of = StreamTransport;

    #[inline]
    fn call(
        transport: Borrowed<'_, '_, StreamTransport>,
        data: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        let bytes = Readable::of(data).map_err(|error| no_bytes(transport, data, error))?;
        let Some((state, key)) = may_write(transport, "write")? else { return Ok(()) };
        let crossing = match state.engine.stream_is_closing(key) {
            false => bytes.queue(state, key),
            true if bytes.is_empty() => Crossing::None,
            true => write_closing(transport, state, key, std::slice::from_ref(&bytes))?,
        };
        after_write(transport, state, key, crossing)
    }
}

impl OneArgument for WriteLines {
    const NAME: &'static CStr = c"writelines";
    const ARGUMENT: &'static str = "list_of_data";
    const DOC: &'static CStr =
        c"writelines($self, list_of_data)\n--\n\nSend each of an iterable of bytes-like objects.";

    type Of = StreamTransport;

    fn call(
        transport: Borrowed<'_, '_, StreamTransport>,
        data: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        // All of them are looked at before the first is sent, so that a wrong one sends nothing.
        let pieces = data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let readable: Vec<_> = pieces
            .iter()
            .map(|piece| Readable::of(piece.as_borrowed()))
            .collect::<PyResult<_>>()?;
        let Some((state, key)) = may_write(transport, "writelines")? else { return Ok(()) };
        if readable.is_empty() {
            return Ok(());
        }
        let mut crossing = Crossing::None;
        if state.engine.stream_is_closing(key) {
            crossing = write_closing(transport, state, key, &readable)?;
        } else {
            for bytes in &readable {
                if bytes.queue(state, key) == Crossing::High {
                    crossing = Crossing::High;
                }
            }
        }
        after_write(transport, state, key, crossing)
    }
}

#[inline]
fn may_write<'py>(
    transport: Borrowed<'_, 'py, StreamTransport>,
    function: &str,
) -> PyResult<Option<(&'py State, StreamKey<PyHost>)>> {
    let py = transport.py();
    let inner = transport.get().inner.get(py);
    if inner.eof_written.get() {
        return Err(PyRuntimeError::new_err(format!("Cannot call {function}() after write_eof()")));
    }
    if inner.held.get() {
        return Err(PyRuntimeError::new_err("unable to write; sendfile is in progress"));
    }
    let Some(key) = inner.key.get() else { return Ok(None) };
    Ok(transport.get().state(py).map(|state| (state, key)))
}

// Bytes behind a close. As in asyncio they go out while others still wait, and are lost after that,
// which is logged at last. A connection of `connect` and `listen` takes none.
#[cold]
fn write_closing(
    transport: Borrowed<'_, '_, StreamTransport>,
    state: &State,
    key: StreamKey<PyHost>,
    pieces: &[Readable<'_, '_>],
) -> PyResult<Crossing> {
    let inner = transport.get().inner.get(transport.py());
    let taken = match inner.stacked.get() || inner.role.get() != Role::Connection {
        true => None,
        false => state.engine.stream_write_closing(key, pieces.iter().map(Readable::bytes)),
    };
    match taken {
        Some(crossing) => Ok(crossing),
        None => wrote_after_end(transport).map(|()| Crossing::None),
    }
}

#[cold]
fn wrote_after_end(transport: Borrowed<'_, '_, StreamTransport>) -> PyResult<()> {
    let py = transport.py();
    let inner = transport.get().inner.get(py);
    let count = &inner.wrote_after_end;
    let is_pipe = inner.role.get() != Role::Connection;
    let before = count.replace(count.get().saturating_add(1));
    // asyncio counts the loss of a socket itself, too.
    if before + u32::from(!is_pipe) >= TOLD_FROM {
        imports(py).transports.bind(py).call_method1(intern!(py, "wrote_after_end"), (is_pipe,))?;
    }
    Ok(())
}

/// Sends the bytes of a protocol that is native too, which has looked at everything already; what
/// was copied comes back.
#[inline]
pub(crate) fn send(
    transport: Borrowed<'_, '_, StreamTransport>,
    bytes: Vec<u8>,
) -> PyResult<Option<Vec<u8>>> {
    let py = transport.py();
    let key = transport.get().inner.get(py).key.get();
    let (Some(state), Some(key)) = (transport.get().state(py), key) else { return Ok(Some(bytes)) };
    if state.engine.stream_is_closing(key) {
        wrote_after_end(transport)?;
        return Ok(Some(bytes));
    }
    let (crossing, copied) = if bytes.len() >= SENT_WHOLE {
        (state.engine.stream_write_segment(key, Segment::from(bytes)), None)
    } else {
        (state.engine.stream_write(key, &bytes), Some(bytes))
    };
    after_write(transport, state, key, crossing)?;
    Ok(copied)
}

/// Gives the kernel now what was sent: what follows may end the connection and drop it.
pub(crate) fn flush(transport: Borrowed<'_, '_, StreamTransport>) {
    let py = transport.py();
    let key = transport.get().inner.get(py).key.get();
    if let (Some(state), Some(key)) = (transport.get().state(py), key) {
        state.engine.stream_relieve(key);
    }
}

/// What follows from a write: above the high mark, after the kernel has had its chance, the
/// protocol is paused. Its exception goes to the loop's handler; one that leaves the run comes out
/// of the write.
#[inline]
pub(super) fn after_write(
    transport: Borrowed<'_, '_, StreamTransport>,
    state: &State,
    key: StreamKey<PyHost>,
    crossing: Crossing,
) -> PyResult<()> {
    let is_pipe = transport.get().inner.get(transport.py()).role.get() == Role::WriteEnd;
    // To a pipe each write goes at once: up to PIPE_BUF bytes are one piece among those of other
    // processes, and a socket may keep the borders of what it is given.
    if (is_pipe || crossing == Crossing::High) && state.engine.stream_relieve(key) == Crossing::High
    {
        return pause_protocol(transport);
    }
    Ok(())
}

#[cold]
fn pause_protocol(transport: Borrowed<'_, '_, StreamTransport>) -> PyResult<()> {
    let py = transport.py();
    let helpers = imports(py).transports.bind(py);
    helpers.call_method1(intern!(py, "pause_protocol"), (transport,)).map(drop)
}

/// Something that was given to `write`.
pub(crate) enum Readable<'a, 'py> {
    /// Exactly `bytes`: nobody can change it.
    Bytes(Borrowed<'a, 'py, PyAny>),
    Buffer(Box<ffi::Py_buffer>, std::marker::PhantomData<&'a ()>),
}

impl<'a, 'py> Readable<'a, 'py> {
    #[inline]
    pub(crate) fn of(data: Borrowed<'a, 'py, PyAny>) -> PyResult<Readable<'a, 'py>> {
        // SAFETY: a live object.
        if unsafe { ffi::PyBytes_CheckExact(data.as_ptr()) } != 0 {
            return Ok(Readable::Bytes(data));
        }
        Readable::export(data)
    }

    fn export(data: Borrowed<'a, 'py, PyAny>) -> PyResult<Readable<'a, 'py>> {
        // SAFETY: a live object; the three types have no other requirement.
        let fits = unsafe {
            ffi::PyBytes_Check(data.as_ptr()) != 0
                || ffi::PyByteArray_Check(data.as_ptr()) != 0
                || ffi::PyMemoryView_Check(data.as_ptr()) != 0
        };
        if !fits {
            let name = data.get_type().qualname()?;
            return Err(PyTypeError::new_err(
                format!("data argument must be a bytes-like object, not {:?}", name.to_string())
                    .replace('"', "'"),
            ));
        }
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the view is released when it is dropped.
        if unsafe { ffi::PyObject_GetBuffer(data.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) } < 0
        {
            return Err(PyErr::fetch(data.py()));
        }
        Ok(Readable::Buffer(view, std::marker::PhantomData))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the object is alive for 'a, and an export keeps its memory where it is. Nothing runs while
        // the slice is used that could change it.
        unsafe {
            match self {
                Readable::Bytes(object) => std::slice::from_raw_parts(
                    ffi::PyBytes_AS_STRING(object.as_ptr()).cast::<u8>(),
                    ffi::PyBytes_Size(object.as_ptr()) as usize,
                ),
                Readable::Buffer(view, _) if view.len == 0 => &[],
                Readable::Buffer(view, _) => {
                    std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize)
                }
            }
        }
    }

    #[inline]
    fn queue(&self, state: &State, key: StreamKey<PyHost>) -> Crossing {
        match self {
            Readable::Bytes(object) if self.bytes().len() >= KEPT => {
                state.engine.stream_write_segment(key, segment_of((**object).clone()))
            }
            _ => state.engine.stream_write(key, self.bytes()),
        }
    }
}

impl Drop for Readable<'_, '_> {
    fn drop(&mut self) {
        if let Readable::Buffer(view, _) = self {
            // SAFETY: it was filled by PyObject_GetBuffer, and is released once.
            unsafe { ffi::PyBuffer_Release(&raw mut **view) };
        }
    }
}

/// The bytes of an exact `bytes` object, which stays until they have left.
pub(crate) fn segment_of(bytes: Bound<'_, PyAny>) -> Segment {
    unsafe fn release(owner: *mut ()) {
        // SAFETY: `owner` is the reference taken below; the engine drops segments with the GIL held.
        unsafe { ffi::Py_DECREF(owner.cast()) };
    }
    let object = bytes.into_ptr();
    // SAFETY: an exact `bytes` is immutable and stays alive as long as the reference that `release` gives
    // back.
    unsafe {
        let data = NonNull::new_unchecked(ffi::PyBytes_AS_STRING(object).cast::<u8>().cast_mut());
        let len = ffi::PyBytes_Size(object) as usize;
        Segment::from_foreign(ForeignBytes { data, len, owner: object.cast(), release })
    }
}
