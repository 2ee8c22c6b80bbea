//! Audit events (PEP 578) of what asyncio does with socket objects and tepal without.
//!
//! The events are raised by Python: by the socket objects themselves, which are made where somebody
//! listens, or in `tepal._transport_calls`. Here is the question whether anybody does.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

// SAFETY: the declaration is that of CPython's header.
unsafe extern "C" {
    // In `sysmodule.h`; PyO3 does not declare it.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// Whether an audit hook is there: some nanoseconds where none is.
///
/// CPython tells nobody, but makes the arguments of an event only if there is a hook. This event has an
/// argument that cannot be made, so no hook gets it, and its failure is the answer.
#[inline]
pub(crate) fn is_heard(_: Python<'_>) -> bool {
    // SAFETY: the GIL is held. "O&" takes a function of one pointer and that pointer.
    let raised = unsafe {
        let convert: unsafe extern "C" fn(*mut c_void) -> *mut ffi::PyObject = refuse;
        PySys_Audit(c"tepal".as_ptr(), c"O&".as_ptr(), convert, ptr::null_mut::<c_void>())
    };
    if raised == 0 {
        return false;
    }
    // SAFETY: as above; the exception is that of `refuse`.
    unsafe { ffi::PyErr_Clear() };
    true
}

unsafe extern "C" fn refuse(_: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: it is called by `PySys_Audit`, with the GIL held.
    unsafe { ffi::PyErr_SetNone(ffi::PyExc_LookupError) };
    ptr::null_mut()
}
