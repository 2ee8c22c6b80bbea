//! How a handle's callback is called.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::ends::ENDS;
use super::object::{HandleObject, release_callback, show_context};
use super::reference::HandleRef;

impl HandleRef {
    /// Calls the callback in its context. The result is dropped; `Err` leaves the exception
    /// pending.
    #[inline]
    pub(crate) fn call(&self, _py: Python<'_>) -> Result<(), ()> {
        let handle = self.as_object();
        // SAFETY: the handle is alive while `self` is. `running` keeps callback, arguments and
        // context in place during the call, so that borrowing them is enough.
        unsafe {
            if (*handle).running {
                // It called itself (`handle._run()`): the outer call keeps what is used.
                return call_fields(handle);
            }
            show_context(handle);
            (*handle).running = true;
            let result = call_fields(handle);
            (*handle).running = false;
            if (*handle).thread_safe {
                ENDS.tell();
            }
            if (*handle).cancelled {
                // Nothing that runs here may see our exception, so it is put aside.
                let pending = result.is_err().then(|| PyErr::fetch(_py));
                release_callback(handle);
                if let Some(error) = pending {
                    error.restore(_py);
                }
            }
            result
        }
    }
}

/// # Safety
///
/// `handle` is alive, its fields are valid, and they stay so during the call.
unsafe fn call_fields(handle: *mut HandleObject) -> Result<(), ()> {
    // SAFETY: as the contract says. A result is owned by us.
    unsafe {
        let (context, callback) = ((*handle).context, (*handle).callback);
        if callback.is_null() {
            return Ok(());
        }
        if ffi::PyContext_CheckExact(context) == 0 {
            return call_in_foreign_context(handle);
        }
        if ffi::PyContext_Enter(context) < 0 {
            return Err(());
        }
        let result = if (*handle).more.is_null() {
            let arguments = (&raw const (*handle).arguments).cast::<*mut ffi::PyObject>().add(1);
            let count = usize::from((*handle).count) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
            ffi::PyObject_Vectorcall(callback, arguments, count, ptr::null_mut())
        } else {
            ffi::PyObject_Call(callback, (*handle).more, ptr::null_mut())
        };
        // Fails only if somebody else left it, which the call has then complained of.
        let left = ffi::PyContext_Exit(context);
        if result.is_null() {
            return Err(());
        }
        ffi::Py_DECREF(result);
        if left < 0 { Err(()) } else { Ok(()) }
    }
}

// asyncio takes anything that has a `run` for a context.
/// # Safety
///
/// As for `call_fields`.
unsafe fn call_in_foreign_context(handle: *mut HandleObject) -> Result<(), ()> {
    // SAFETY: the handle is alive and its fields are valid.
    let (py, handle) = unsafe {
        (Python::assume_attached(), HandleRef::from_borrowed(handle.cast::<ffi::PyObject>()))
    };
    let result = (|| {
        let context = handle.context(py).ok_or_else(|| crate::errors::closed(false))?;
        let run = context.getattr("run")?;
        let mut arguments: Vec<Bound<'_, PyAny>> = handle.callback(py).into_iter().collect();
        if let Some(rest) = handle.arguments(py)? {
            for argument in rest.try_iter()? {
                arguments.push(argument?);
            }
        }
        run.call1(pyo3::types::PyTuple::new(py, arguments)?)
    })();
    result.map(drop).map_err(|error: PyErr| error.restore(py))
}
