//! What Python sees of a handle: asyncio's methods and the attributes that debuggers read.

use std::ffi::{CStr, c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::reference::HandleRef;
use crate::event_loop::Loop;
use crate::fastcall::guard;
use crate::imports::imports;

pub(super) fn handle_methods() -> Vec<ffi::PyMethodDef> {
    vec![
        method(c"cancel", cancel, c"Takes the callback back; does nothing once it has run."),
        method(c"cancelled", cancelled, c"Whether it was cancelled."),
        method(c"get_context", get_context, c"The context that the callback runs in."),
        method(c"_run", run, c"Calls the callback now."),
        ffi::PyMethodDef::zeroed(),
    ]
}

pub(super) fn timer_handle_methods() -> Vec<ffi::PyMethodDef> {
    let mut methods = handle_methods();
    methods.insert(
        0,
        method(c"when", when, c"The time at which it is due, on the loop's clock in seconds."),
    );
    methods
}

pub(super) fn getters() -> Vec<ffi::PyGetSetDef> {
    vec![
        getter(c"__class__", class),
        getter(c"_callback", callback),
        getter(c"_args", arguments),
        getter(c"_context", get_context_attribute),
        getter(c"_loop", event_loop),
        getter(c"_cancelled", cancelled_attribute),
        getter(c"_source_traceback", traceback),
        getter(c"_when", when_attribute),
        getter(c"_scheduled", scheduled),
        ffi::PyGetSetDef::default(),
    ]
}

fn method(name: &'static CStr, function: ffi::PyCFunction, doc: &'static CStr) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

fn getter(name: &'static CStr, get: ffi::getter) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { name: name.as_ptr(), get: Some(get), ..Default::default() }
}

// Runs `body` on the handle behind `object`.
fn with(
    object: *mut ffi::PyObject,
    body: impl FnOnce(Python<'_>, &HandleRef) -> PyResult<*mut ffi::PyObject>,
) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: CPython calls the methods of a class on its objects only.
        let handle = unsafe { HandleRef::from_borrowed(object) };
        body(py, &handle)
    })
}

// An owned pointer to the object, or to None.
fn or_none(py: Python<'_>, object: Option<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    object.map_or_else(|| py.None().into_ptr(), Bound::into_ptr)
}

fn boolean(py: Python<'_>, value: bool) -> *mut ffi::PyObject {
    PyBool::new(py, value).to_owned().into_ptr()
}

fn is_timer(py: Python<'_>, handle: &HandleRef) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_TYPE(handle.as_ptr()) == super::class::TIMER_HANDLE.get(py).get() }
}

extern "C" fn cancel(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    with(object, |py, handle| {
        Loop::cancel_handle(py, handle)?;
        Ok(py.None().into_ptr())
    })
}

extern "C" fn cancelled(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(boolean(py, Loop::handle_is_cancelled(py, handle)?)))
}

extern "C" fn when(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    with(object, deadline)
}

fn deadline(py: Python<'_>, handle: &HandleRef) -> PyResult<*mut ffi::PyObject> {
    let when = handle.when();
    let shown = match handle.is_whole() {
        true => (when as i64).into_pyobject(py)?.into_any(),
        false => when.into_pyobject(py)?.into_any(),
    };
    Ok(shown.into_ptr())
}

extern "C" fn get_context(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(or_none(py, handle.context(py))))
}

extern "C" fn run(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    with(object, |py, handle| {
        Loop::run_handle(py, handle)?;
        Ok(py.None().into_ptr())
    })
}

extern "C" fn class(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, |py, handle| {
        let imports = imports(py);
        let class = match &imports.thread_safe_handle {
            Some(class) if handle.is_thread_safe() => class,
            _ if is_timer(py, handle) => &imports.timer_handle,
            _ => &imports.handle,
        };
        Ok(class.clone_ref(py).into_ptr())
    })
}

extern "C" fn callback(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(or_none(py, handle.callback(py))))
}

extern "C" fn arguments(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(or_none(py, handle.arguments(py)?)))
}

extern "C" fn get_context_attribute(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(or_none(py, handle.context(py))))
}

extern "C" fn event_loop(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(or_none(py, handle.event_loop(py))))
}

extern "C" fn cancelled_attribute(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(boolean(py, handle.is_cancelled())))
}

extern "C" fn traceback(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(or_none(py, handle.traceback(py))))
}

extern "C" fn when_attribute(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, deadline)
}

extern "C" fn scheduled(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    with(object, |py, handle| Ok(boolean(py, Loop::is_scheduled(py, handle))))
}

pub(super) extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    with(object, |py, handle| {
        if let Some(printed) = handle.printed(py) {
            return Ok(printed.into_ptr());
        }
        let helpers = imports(py).helpers.bind(py);
        Ok(helpers.call_method1("handle_repr", (handle.bind(py), is_timer(py, handle)))?.into_ptr())
    })
}

/// Timer handles are ordered by their time, as asyncio's are; plain ones by identity.
pub(super) extern "C" fn compare(
    object: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject {
    with(object, |py, handle| {
        // SAFETY: both are live objects; the class of `other` is compared before it is used.
        let comparable = unsafe { ffi::Py_TYPE(object) == ffi::Py_TYPE(other) };
        if !comparable || !is_timer(py, handle) {
            return Ok(py.NotImplemented().into_ptr());
        }
        // SAFETY: it has the class of `object`.
        let other = unsafe { HandleRef::from_borrowed(other) };
        let (a, b) = (handle.when(), other.when());
        let same = handle.as_ptr() == other.as_ptr();
        Ok(boolean(
            py,
            match operation {
                ffi::Py_LT => a < b,
                ffi::Py_LE => a < b || same,
                ffi::Py_GT => a > b,
                ffi::Py_GE => a > b || same,
                ffi::Py_EQ => same,
                _ => !same,
            },
        ))
    })
}

pub(super) extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // By identity, which is what equality is. The low bits of an address are always zero.
    let hash = ((object as usize) >> 4) as ffi::Py_hash_t;
    if hash == -1 { -2 } else { hash }
}
