//! Methods of `Loop` that Python calls by pointer; see `fastcall`.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Loop, State};
use crate::fastcall::{Arguments, add_method, guard};

/// One call of such a method.
#[derive(Clone, Copy)]
pub(super) struct Call<'a, 'py> {
    /// The loop, an instance of a class that derives from `Loop`.
    pub(super) event_loop: *mut ffi::PyObject,
    pub(super) state: &'a State,
    pub(super) arguments: Arguments<'a, 'py>,
}

/// A method with arguments. The types that have this trait stand for nothing else.
pub(super) trait Method {
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    /// Returns an owned reference.
    fn call(py: Python<'_>, call: Call<'_, '_>) -> PyResult<*mut ffi::PyObject>;
}

/// A method without arguments.
pub(super) trait Query {
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    /// Returns an owned reference.
    fn call(
        py: Python<'_>,
        event_loop: *mut ffi::PyObject,
        state: &State,
    ) -> PyResult<*mut ffi::PyObject>;
}

pub(super) fn add<M: Method>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method::<M> };
    add_method(class, M::NAME, function, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, M::DOC)
}

pub(super) fn add_query<Q: Query>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer { PyCFunction: query::<Q> };
    add_method(class, Q::NAME, function, ffi::METH_NOARGS, Q::DOC)
}

extern "C" fn method<M: Method>(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: called by CPython on an instance of `Loop`, with these arguments.
        let (lp, arguments) =
            unsafe { (Loop::of(py, object), Arguments::new(py, args, count, names)) };
        M::call(py, Call { event_loop: object, state: lp.state(py)?, arguments })
    })
}

extern "C" fn query<Q: Query>(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: called by CPython on an instance of `Loop`.
        let lp = unsafe { Loop::of(py, object) };
        Q::call(py, object, lp.state(py)?)
    })
}
