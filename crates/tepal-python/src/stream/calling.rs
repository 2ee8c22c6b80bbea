//! How the user's code is called.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use pyo3::{Borrowed, ffi};
use tepal::engine::Consumed;

use super::transport::StreamTransport;
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;
use crate::object::Ref;

/// Calls `body`, which calls the protocol of `transport`; debug mode complains if it takes long.
#[inline]
pub(crate) fn watched<'py, R>(
    engine: &PyEngine,
    transport: Borrowed<'_, 'py, PyAny>,
    method: impl IntoPyObject<'py>,
    body: impl FnOnce() -> R,
) -> R {
    if !engine.host().debug.get() {
        return body();
    }
    let started = engine.now();
    let result = body();
    let seconds = engine.now().since(started).as_secs_f64();
    let helpers = imports(transport.py()).transports.bind(transport.py());
    let told = helpers
        .call_method1(intern!(helpers.py(), "callback_was_slow"), (transport, method, seconds));
    if let Err(error) = told {
        PyHost::interrupt(engine, error);
    }
    result
}

/// Debug mode logs what happens to a transport, in asyncio's words.
#[inline]
pub(crate) fn log_in_debug(
    transport: &Bound<'_, StreamTransport>,
    engine: &PyEngine,
    what: &str,
) -> PyResult<()> {
    if !engine.host().debug.get() {
        return Ok(());
    }
    let helpers = imports(transport.py()).transports.bind(transport.py());
    helpers.call_method1(intern!(helpers.py(), "log_event"), (transport, what)).map(drop)
}

/// Ends the future of who waits for a connection, unless that is over. No exception, and None: it is made.
pub(crate) fn tell_waiter(
    waiter: &Bound<'_, PyAny>,
    exc: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = waiter.py();
    if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match exc.filter(|exc| !exc.is_none()) {
        None => waiter.call_method1(intern!(py, "set_result"), (py.None(),)),
        Some(exc) => waiter.call_method1(intern!(py, "set_exception"), (exc,)),
    }
    .map(drop)
}

/// Calls `body` in a context, as `Context.run` does.
#[inline]
pub(crate) fn in_context<R>(
    py: Python<'_>,
    context: &Ref,
    body: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: `context` is a Context: `_open` and the listener take nothing else.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let result = body();
    // What `body` left pending is in `result`. SAFETY: entered above.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 {
        return result.and(Err(PyErr::fetch(py)));
    }
    result
}

/// A copy of a context, as `Context.copy` makes it.
pub(crate) fn copy_context(py: Python<'_>, context: &Ref) -> PyResult<Ref> {
    // SAFETY: `context` is a Context, as above; the result is owned or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr())) }.map(Ref::new)
}

/// Calls a method with no argument or one.
#[inline]
pub(crate) fn call_method<'py>(
    py: Python<'py>,
    object: &Ref,
    name: &Bound<'py, PyAny>,
    argument: Option<Borrowed<'_, 'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments =
        [object.as_ptr(), argument.map_or(std::ptr::null_mut(), |argument| argument.as_ptr())];
    let count = if arguments[1].is_null() { 1 } else { 2 };
    // SAFETY: `count` live references; the result is owned or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            arguments.as_ptr(),
            count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Calls a method with two arguments.
#[inline]
pub(crate) fn call_method2<'py>(
    py: Python<'py>,
    object: &Ref,
    name: &Bound<'py, PyAny>,
    first: Borrowed<'_, 'py, PyAny>,
    second: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), first.as_ptr(), second.as_ptr()];
    // SAFETY: three live references; the result is owned or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            arguments.as_ptr(),
            3 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// What the result of `data_received` says of the bytes it was given.
pub(crate) fn consumed(count: &Bound<'_, PyAny>, most: usize) -> PyResult<Consumed> {
    if count.is_instance_of::<PyBool>() || !count.is_instance_of::<pyo3::types::PyInt>() {
        let name = count.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!(
            "data_received() must return None or the number of bytes it used, not {name}"
        )));
    }
    match count.extract::<usize>() {
        Ok(count) if count <= most => Ok(Consumed::Count(count)),
        _ => {
            Err(PyValueError::new_err(format!("data_received() returned {count} of {most} bytes")))
        }
    }
}
