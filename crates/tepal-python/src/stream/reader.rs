//! The short way into asyncio's `StreamReader`.
//!
//! `StreamReaderProtocol.data_received` looks its reader up, and `feed_data` appends to the reader's
//! `bytearray`, wakes who waits and pauses the transport above twice the limit. The same steps are
//! made here on the same attributes, without a `bytes` in between. It is used for exactly that class
//! with exactly that reader; whatever looks unusual goes the ordinary way.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use pyo3::{ffi, intern};

use super::calling::call_method;
use crate::imports::imports;
use crate::memory;
use crate::object::Ref;

/// What became of bytes that the reader has.
pub(crate) enum Fed {
    /// Who waits for them is told.
    Told,
    /// There was no memory to tell.
    Untold(PyErr),
}

pub(crate) fn feed(py: Python<'_>, protocol: &Ref, data: &[u8]) -> PyResult<Fed> {
    // An empty frame: a reader that is woken for nothing takes it for the end.
    if data.is_empty() {
        return Ok(Fed::Told);
    }
    if let Some(fed) = feed_directly(py, protocol, data)? {
        return Ok(fed);
    }
    let bytes = memory::bytes(py, data)?;
    let name = intern!(py, "data_received");
    call_method(py, protocol, name, Some(bytes.as_any().as_borrowed()))?;
    Ok(Fed::Told)
}

// None: nothing was done.
fn feed_directly(py: Python<'_>, protocol: &Ref, data: &[u8]) -> PyResult<Option<Fed>> {
    let reader = protocol.bind(py).getattr(intern!(py, "_stream_reader"))?;
    if reader.get_type().as_ptr() != imports(py).stream_reader.as_ptr()
        || reader.getattr(intern!(py, "_eof"))?.is_truthy()?
    {
        return Ok(None);
    }
    let buffer = reader.getattr(intern!(py, "_buffer"))?;
    // SAFETY: a live object.
    if unsafe { ffi::PyByteArray_CheckExact(buffer.as_ptr()) } == 0 {
        return Ok(None);
    }
    let before = buffer.len()?;
    // Fails if somebody exports it (a memoryview): then `extend` says so.
    // SAFETY: an exact bytearray, which is resized and then written within its new length; nothing runs in
    // between.
    unsafe {
        let len = (before + data.len()) as ffi::Py_ssize_t;
        if ffi::PyByteArray_Resize(buffer.as_ptr(), len) < 0 {
            return Err(PyErr::fetch(py));
        }
        let start = ffi::PyByteArray_AsString(buffer.as_ptr()).cast::<u8>().add(before);
        std::ptr::copy_nonoverlapping(data.as_ptr(), start, data.len());
    }
    if let Err(error) = wake(py, &reader) {
        return match error.is_instance_of::<PyMemoryError>(py) {
            true => Ok(Some(Fed::Untold(error))),
            false => Err(error),
        };
    }
    let limit = reader.getattr(intern!(py, "_limit"))?;
    // A user's callbacks cannot have run, but a limit may be any number.
    let above = (before + data.len()).into_pyobject(py)?.gt(limit.mul(2)?)?;
    if above && !reader.getattr(intern!(py, "_paused"))?.is_truthy()? {
        pause(py, &reader)?;
    }
    drop(buffer.cast_into::<PyByteArray>());
    Ok(Some(Fed::Told))
}

fn wake(py: Python<'_>, reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let waiter = reader.getattr(intern!(py, "_waiter"))?;
    if waiter.is_none() {
        return Ok(());
    }
    reader.setattr(intern!(py, "_waiter"), py.None())?;
    if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
        waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

#[cold]
fn pause(py: Python<'_>, reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let transport = reader.getattr(intern!(py, "_transport"))?;
    if transport.is_none() {
        return Ok(());
    }
    match transport.call_method0(intern!(py, "pause_reading")) {
        Ok(_) => reader.setattr(intern!(py, "_paused"), true),
        // A transport that cannot pause is not asked again.
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyNotImplementedError>(py) => {
            reader.setattr(intern!(py, "_transport"), py.None())
        }
        Err(error) => Err(error),
    }
}
