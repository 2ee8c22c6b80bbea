//! What the loop does where memory runs out, so that no program sleeps for ever.
//!
//! A callback that fails is reported, and a program goes on without it. Where asyncio's own callbacks
//! fail, that is not so. A task whose step did not even begin will never be stepped again; a future
//! that has its result but could not queue its callbacks will not queue them again. Whoever waits for
//! them sleeps for ever, and cannot be cancelled either. So a step is made again in the next turn: it
//! fails before it changed anything, or where it may be repeated. Of all else the run ends with the
//! exception.

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::handle::HandleRef;

/// What follows a callback that raised MemoryError.
pub(crate) enum Next {
    /// It is a step of a task: it runs once more.
    Again,
    /// It is asyncio's own: somebody may wait for it in vain.
    Leave,
    /// It is the program's.
    Report,
}

pub(crate) fn after(py: Python<'_>, handle: &HandleRef) -> Next {
    // Memory is short here, too: what cannot be found out is taken for the worst.
    find_out(py, handle).unwrap_or(Next::Leave)
}

fn find_out(py: Python<'_>, handle: &HandleRef) -> PyResult<Next> {
    // One that has cancelled itself, as the loop's own do at their end.
    let Some(callback) = handle.callback(py) else { return Ok(Next::Leave) };
    // A `functools.partial`.
    let callback = callback.getattr_opt(intern!(py, "func"))?.unwrap_or(callback);
    let owner = callback.getattr_opt(intern!(py, "__self__"))?;
    let future = match owner {
        Some(owner) if owner.hasattr(intern!(py, "_asyncio_future_blocking"))? => owner,
        _ => return Ok(if is_own(&callback)? { Next::Leave } else { Next::Report }),
    };
    let is_done = future.call_method0(intern!(py, "done"))?.is_truthy()?;
    Ok(if !is_done && is_step(&callback)? && handle.begin_again() {
        Next::Again
    } else {
        Next::Leave
    })
}

/// Whether a function or a class is asyncio's or ours, and no program's.
pub(crate) fn is_own(thing: &Bound<'_, PyAny>) -> PyResult<bool> {
    let module = thing.getattr_opt(intern!(thing.py(), "__module__"))?;
    let module = module.and_then(|module| module.extract::<String>().ok());
    Ok(module.is_some_and(|name| name.starts_with("asyncio.") || name.starts_with("tepal")))
}

// Of a task in C: an object of a class of its own at first, and then a built-in method; of one in
// Python two private methods.
fn is_step(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = match callback.getattr_opt(intern!(callback.py(), "__name__"))? {
        Some(name) => name,
        None => callback.get_type().name()?.into_any(),
    };
    let name = name.str()?;
    let name = name.to_str()?;
    Ok(matches!(name, "TaskStepMethWrapper" | "task_wakeup" | "__step" | "__wakeup"))
}

/// A `bytes`; PyO3's own way panics where there is no memory.
#[inline]
pub(crate) fn bytes<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the length is that of the slice, which is copied; the result is owned, or null with an
    // exception.
    unsafe {
        let made =
            ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), data.len() as ffi::Py_ssize_t);
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// A `str`, likewise.
pub(crate) fn string<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: as above; a `str` of Rust's is UTF-8.
    unsafe {
        let len = text.len() as ffi::Py_ssize_t;
        let made = ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), len);
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// An empty `dict`, likewise.
pub(crate) fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the result is owned, or null with an exception.
    unsafe { Ok(Bound::from_owned_ptr_or_err(py, ffi::PyDict_New())?.cast_into_unchecked()) }
}

/// Calls `function` until it finds memory, a few times: of what must not fail.
pub(crate) fn insist<T>(py: Python<'_>, function: impl Fn() -> PyResult<T>) -> PyResult<T> {
    const TIMES: u32 = 100;
    let mut result = function();
    for _ in 1..TIMES {
        match &result {
            Err(error) if error.is_instance_of::<PyMemoryError>(py) => result = function(),
            _ => break,
        }
    }
    result
}
