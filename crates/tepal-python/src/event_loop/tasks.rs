//! Futures and tasks: asyncio's own, made without a detour through Python.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::Loop;
use crate::fastcall::{Arguments, add_method, guard, missing};
use crate::imports::imports;
use crate::object::Ref;

const CREATE_TASK: &CStr =
    c"create_task($self, coro, /, *, name=None, context=None, **kwargs)\n--\n\n\
    Run a coroutine as a Task, in a copy of the current context or in the one given.";

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer { PyCFunction: create_future };
    add_method(
        class,
        c"create_future",
        function,
        ffi::METH_NOARGS,
        c"create_future($self)\n--\n\nA Future of this loop.",
    )?;
    let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: create_task };
    let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    add_method(class, c"create_task", function, flags, CREATE_TASK)
}

extern "C" fn create_future(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|py| {
        let names = loop_keyword(py)?;
        let arguments = [object];
        // SAFETY: `Future(loop=self)`: one keyword, its name and its value.
        let future = unsafe {
            ffi::PyObject_Vectorcall(
                imports(py).future.as_ptr(),
                arguments.as_ptr(),
                0,
                names.as_ptr(),
            )
        };
        if future.is_null() { Err(PyErr::fetch(py)) } else { Ok(future) }
    })
}

fn loop_keyword(py: Python<'_>) -> PyResult<&Bound<'_, PyTuple>> {
    static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    NAMES
        .get_or_try_init(py, || PyTuple::new(py, [intern!(py, "loop")]).map(Bound::unbind))
        .map(|names| names.bind(py))
}

extern "C" fn create_task(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: called by CPython on an instance of `Loop`, with these arguments.
        let (lp, arguments) =
            unsafe { (Loop::of(py, object), Arguments::new(py, args, count, names)) };
        let state = lp.state(py)?;
        let keywords = PyDict::new(py);
        let mut coroutine = arguments.get(0);
        for (name, value) in arguments.keywords() {
            if coroutine.is_none() && name == "coro" {
                coroutine = Some(value);
            } else {
                keywords.set_item(name, value)?;
            }
        }
        let coroutine = coroutine.ok_or_else(|| missing("create_task", "coro"))?;
        if arguments.positional().len() > 1 {
            return Err(PyTypeError::new_err(format!(
                "create_task() takes 2 positional arguments but {} were given",
                arguments.positional().len() + 1
            )));
        }
        state.check_open()?;
        let factory = state.host().task_factory.borrow().as_ref().map(|f| f.clone_ref(py));
        if let Some(factory) = factory {
            // SAFETY: the loop is alive while its method runs.
            let lp = unsafe { Bound::from_borrowed_ptr(py, object) };
            let helpers = imports(py).helpers.bind(py);
            let arguments = (factory.bind(py), lp, coroutine, keywords);
            return Ok(helpers.call_method1("task_of_factory", arguments)?.into_ptr());
        }
        // SAFETY: as above.
        keywords.set_item(intern!(py, "loop"), unsafe { Bound::from_borrowed_ptr(py, object) })?;
        let task = imports(py).task.bind(py).call((coroutine,), Some(&keywords))?;
        Ok(task.into_ptr())
    })
}

#[pymethods]
impl Loop {
    /// Sets what makes the tasks of create_task: factory(loop, coro, **kwargs), or None for Task.
    #[pyo3(signature = (factory, /))]
    fn set_task_factory(&self, py: Python<'_>, factory: Bound<'_, PyAny>) -> PyResult<()> {
        if !factory.is_none() && !factory.is_callable() {
            return Err(PyTypeError::new_err("task factory must be a callable or None"));
        }
        let factory = (!factory.is_none()).then(|| Ref::new(factory));
        let old = self.state(py)?.host().task_factory.replace(factory);
        drop(old);
        Ok(())
    }

    /// What set_task_factory set.
    fn get_task_factory<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.state(py)?;
        let factory = state.host().task_factory.borrow();
        Ok(factory.as_ref().map(|factory| factory.bind(py).to_owned()))
    }
}
