//! Memory that a `BufferedProtocol` lends.

use std::ptr::NonNull;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{ffi, intern};
use tepal_base::{Buffer, ForeignBytes};

use super::calling::call_method;
use crate::object::Ref;

/// Asks for memory to read into.
pub(super) fn lend(py: Python<'_>, protocol: &Ref) -> PyResult<Buffer> {
    let hint = (-1i32).into_pyobject(py)?;
    let object =
        call_method(py, protocol, intern!(py, "get_buffer"), Some(hint.as_any().as_borrowed()))?;
    let mut view = Box::new(ffi::Py_buffer::new());
    // SAFETY: the view is filled here and released when the Buffer is dropped.
    let got =
        unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_WRITABLE) };
    if got < 0 {
        return Err(PyErr::fetch(py));
    }
    let len = view.len as usize;
    if len == 0 {
        // SAFETY: it was filled above.
        unsafe { ffi::PyBuffer_Release(&raw mut *view) };
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    let data = NonNull::new(view.buf.cast::<u8>()).unwrap_or(NonNull::dangling());
    let owner = Box::into_raw(view).cast::<()>();
    // SAFETY: an export keeps the memory where it is until it is released, which `release` does. The
    // protocol lent it to us to write to; the engine drops the Buffer with the GIL held.
    Ok(unsafe { Buffer::from_foreign(ForeignBytes { data, len, owner, release }) })
}

unsafe fn release(owner: *mut ()) {
    // SAFETY: `owner` is the boxed view of `lend`, given back once.
    unsafe {
        let mut view = Box::from_raw(owner.cast::<ffi::Py_buffer>());
        ffi::PyBuffer_Release(&raw mut *view);
    }
}

/// Gives bytes that were read already to a protocol that lends memory, in as many pieces as it
/// takes. No bytes are an empty frame, which it is told of too.
pub(super) fn copy_in(py: Python<'_>, protocol: &Ref, mut data: &[u8]) -> PyResult<()> {
    loop {
        let mut target = lend(py, protocol)?;
        let count = data.len().min(target.len());
        target[..count].copy_from_slice(&data[..count]);
        drop(target);
        data = &data[count..];
        let count = count.into_pyobject(py)?;
        let name = intern!(py, "buffer_updated");
        call_method(py, protocol, name, Some(count.as_any().as_borrowed()))?;
        if data.is_empty() {
            return Ok(());
        }
    }
}
