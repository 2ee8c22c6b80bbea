use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::memory;

// SAFETY: the signature is that of the headers.
unsafe extern "C" {
    // Part of CPython's C API, and not in PyO3's list of it.
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, len: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A `bytes` in the making.
pub(super) struct Chunk {
    object: *mut ffi::PyObject,
    len: usize,
    pub(super) used: usize,
}

impl Chunk {
    pub(super) fn new(py: Python<'_>, len: usize) -> PyResult<Chunk> {
        // SAFETY: the GIL is held; a null pointer leaves the bytes undefined.
        let object =
            unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as ffi::Py_ssize_t) };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(Chunk { object, len, used: 0 })
    }

    pub(super) fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: nobody else has the object yet, and it is `len` long.
        unsafe {
            let start = ffi::PyBytes_AS_STRING(self.object).cast_mut().cast::<MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(start.add(self.used), self.len - self.used)
        }
    }

    /// Puts what was read behind what is there.
    pub(super) fn append_to<'py>(
        mut self,
        py: Python<'py>,
        data: &mut Option<Bound<'py, PyBytes>>,
    ) -> PyResult<()> {
        if self.used == 0 {
            return Ok(());
        }
        // SAFETY: the object is ours alone; on failure it is gone and the pointer null.
        let made = unsafe {
            if _PyBytes_Resize(&raw mut self.object, self.used as ffi::Py_ssize_t) < 0 {
                return Err(PyErr::fetch(py));
            }
            let object = std::mem::replace(&mut self.object, std::ptr::null_mut());
            Bound::from_owned_ptr(py, object).cast_into_unchecked::<PyBytes>()
        };
        *data = Some(match data.take() {
            None => made,
            Some(before) => memory::bytes(py, &[before.as_bytes(), made.as_bytes()].concat())?,
        });
        Ok(())
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: owned, or null; the GIL is held wherever one is used.
        unsafe { ffi::Py_XDECREF(self.object) };
    }
}
