//! Futures and tasks: asyncio's own, made without a detour through Python.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::method::{Call, Method, Query, add, add_query};
use super::{Loop, State};
use crate::fastcall::missing;
use crate::imports::imports;
use crate::object::Ref;

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_query::<CreateFuture>(class)?;
    add::<CreateTask>(class)
}

struct CreateFuture;

impl Query for CreateFuture {
    const NAME: &'static CStr = c"create_future";
    const DOC: &'static CStr = c"create_future($self)\n--\n\nA Future of this loop.";

    #[inline]
    fn call(
        py: Python<'_>,
        event_loop: *mut ffi::PyObject,
        _: &State,
    ) -> PyResult<*mut ffi::PyObject> {
        make_for(&imports(py).future(py)?, &[event_loop])
    }
}

struct CreateTask;

impl Method for CreateTask {
    const NAME: &'static CStr = c"create_task";
    const DOC: &'static CStr =
        c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\n\
          Run a coroutine as a Task, in a copy of the current context or in the one given.";

    fn call(py: Python<'_>, call: Call<'_, '_>) -> PyResult<*mut ffi::PyObject> {
        let Call { event_loop, state, arguments } = call;
        let has_factory = state.host().task_factory.borrow().is_some();
        // What nearly every call looks like.
        if let [coroutine] = *arguments.positional()
            && !has_factory
            && arguments.keywords().next().is_none()
        {
            state.check_open()?;
            return make_for(&imports(py).task(py)?, &[coroutine, event_loop]);
        }
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
        // SAFETY: the loop is alive while its method runs.
        let lp = unsafe { Bound::from_borrowed_ptr(py, event_loop) };
        if let Some(factory) = factory {
            let helpers = imports(py).helpers.bind(py);
            let arguments = (factory.bind(py), lp, coroutine, keywords);
            return Ok(helpers.call_method1("task_of_factory", arguments)?.into_ptr());
        }
        keywords.set_item(intern!(py, "loop"), lp)?;
        let task = imports(py).task(py)?.call((coroutine,), Some(&keywords))?;
        Ok(task.into_ptr())
    }
}

/// `class(*arguments[:-1], loop=arguments[-1])`, without a tuple.
fn make_for(
    class: &Bound<'_, PyAny>,
    arguments: &[*mut ffi::PyObject],
) -> PyResult<*mut ffi::PyObject> {
    let py = class.py();
    static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let names =
        NAMES.get_or_try_init(py, || PyTuple::new(py, [intern!(py, "loop")]).map(Bound::unbind))?;
    let positional = arguments.len() - 1;
    // SAFETY: live arguments, of which the last belongs to the one name.
    let made = unsafe {
        ffi::PyObject_Vectorcall(class.as_ptr(), arguments.as_ptr(), positional, names.as_ptr())
    };
    if made.is_null() { Err(PyErr::fetch(py)) } else { Ok(made) }
}

#[pymethods]
impl Loop {
    /// Sets what makes the tasks of create_task: factory(loop, coro, **kwargs), or None for Task.
    #[pyo3(signature = (factory))]
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
