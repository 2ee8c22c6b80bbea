//! The class `Loop`.

mod call;
mod descriptors;
mod io;
mod method;
mod names;
mod resolvers;
mod run;
mod schedule;
mod signals;
mod simulated;
mod tasks;
mod timer;
mod watcher;

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};
use tepal::engine::Remote;
use tepal::names::ResolverKey;

pub(crate) use call::instant;
pub(crate) use descriptors::FdHandles;
pub(crate) use names::gaierror;
pub(crate) use schedule::current_thread;
pub(crate) use signals::WakePipe;
pub(crate) use simulated::SimulatedSocket;
pub(crate) use timer::PyTimer;
pub(crate) use watcher::PyWatcher;

use crate::errors::{closed, os_error};
use crate::host::{PyEngine, PyHost};
use crate::object::UnderGil;

/// The native half of `tepal.Loop`.
#[pyclass(subclass, frozen, name = "Loop", module = "tepal._tepal")]
pub(crate) struct Loop {
    // Empty until `_open`.
    state: UnderGil<OnceCell<State>>,
}

/// A loop that was opened.
pub(crate) struct State {
    pub(crate) engine: PyEngine,
    pub(crate) remote: Remote<PyHost>,
    // Whether a run has set the coroutine origin depth that `set_debug` may change.
    tracks_origins: Cell<bool>,
    // The signals that arrived; made by the first `add_signal_handler`.
    flags: OnceCell<Arc<AtomicU64>>,
    // The resolver that the loop was made with; `None`: the system's files say.
    resolver: Cell<Option<ResolverKey<PyHost>>>,
}

/// Adds the classes to the module.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Loop>()?;
    module.add_class::<PyTimer>()?;
    module.add_class::<PyWatcher>()?;
    module.add_class::<SimulatedSocket>()?;
    module.add("READ", watcher::READ)?;
    module.add("WRITE", watcher::WRITE)?;
    add_fast_methods(module.py().get_type::<Loop>())
}

/// Gives a class that derives from the native `Loop` its busiest methods as its own. CPython checks the
/// class of an object at each call, which is quick only for the class that the method is of.
#[pyfunction]
pub(crate) fn add_fast_methods(class: Bound<'_, PyType>) -> PyResult<()> {
    if !class.is_subclass_of::<Loop>()? {
        return Err(PyTypeError::new_err("the class must derive from tepal's native Loop"));
    }
    call::add_methods(&class)?;
    tasks::add_methods(&class)
}

#[pymethods]
impl Loop {
    /// Takes anything, as `object.__new__` does for a class with an `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Loop {
        Loop { state: UnderGil::new(OnceCell::new()) }
    }

    /// Opens the driver, or a simulated kernel. A second call does nothing.
    #[pyo3(signature = (driver = None, simulation = None))]
    fn _open(
        &self,
        py: Python<'_>,
        driver: Option<&str>,
        simulation: Option<simulated::Settings>,
    ) -> PyResult<()> {
        let place = self.state.get(py);
        if place.get().is_some() {
            return Ok(());
        }
        let driver = match (driver, simulation) {
            (_, Some(settings)) => simulated::driver(settings)?,
            (Some(name), None) if !tepal_driver::driver_names().contains(&name) => {
                let names = tepal_driver::driver_names().join(", ");
                let text = format!("unknown driver {name:?}; this build has: {names}, sim");
                return Err(PyValueError::new_err(text));
            }
            (name, None) => tepal_driver::open_driver(name).map_err(|error| os_error(&error))?,
        };
        let engine = PyEngine::new(PyHost::new(), driver);
        let remote = engine.remote();
        let state = State {
            engine,
            remote,
            tracks_origins: Cell::new(false),
            flags: OnceCell::new(),
            resolver: Cell::new(None),
        };
        // It was empty a moment ago, and nothing since has let another thread in.
        let _ = place.set(state);
        Ok(())
    }

    /// The driver below: "epoll", "poll" or "sim".
    #[getter]
    fn driver(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.state(py)?.engine.driver_name())
    }

    /// In a child process, after a fork: lets go of what is the parent's. Whether the loop ran.
    fn _after_fork(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(state) = self.state.get(py).get().filter(|state| !state.engine.is_closed()) else {
            return Ok(false);
        };
        let ran = state.engine.is_running();
        state.engine.abandon_after_fork();
        state.host().forked.set(true);
        std::mem::forget(std::mem::take(&mut *state.host().descriptors.borrow_mut()));
        Ok(ran)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        match unsafe { self.state.get_during_traverse() }.get() {
            Some(state) => state.engine.host().traverse(&state.engine, &visit),
            None => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        if let Some(state) = self.state.get(py).get() {
            // A running loop is held by its run, and not garbage.
            let _ = state.engine.close();
            state.engine.retire_driver();
            state.release(py);
        }
    }
}

impl Loop {
    /// The loop's state.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if a subclass has not called `tepal.Loop.__init__`.
    #[inline]
    pub(crate) fn state<'a>(&'a self, py: Python<'a>) -> PyResult<&'a State> {
        match self.state.get(py).get() {
            Some(state) => Ok(state),
            None => Err(PyRuntimeError::new_err(
                "this loop was not initialised: call tepal.Loop.__init__ first",
            )),
        }
    }

    /// The native half of an object whose class derives from ours.
    ///
    /// # Safety
    ///
    /// `object` is a live instance of `Loop`.
    #[inline]
    pub(crate) unsafe fn of<'a>(py: Python<'a>, object: *mut ffi::PyObject) -> &'a Loop {
        // SAFETY: as the caller says; the object outlives the call that it is the subject of.
        unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<Loop>().get() }
    }
}

impl State {
    pub(crate) fn host(&self) -> &PyHost {
        self.engine.host()
    }

    #[inline]
    pub(crate) fn check_open(&self) -> PyResult<()> {
        if self.engine.is_closed() { Err(closed(self.host().forked.get())) } else { Ok(()) }
    }

    /// Lets go of the Python objects that are kept beside the engine.
    pub(crate) fn release(&self, _py: Python<'_>) {
        let factory = self.host().task_factory.borrow_mut().take();
        let descriptors = std::mem::take(&mut *self.host().descriptors.borrow_mut());
        let pending = self.host().pending.take();
        self.host().layers.clear();
        drop((factory, descriptors, pending));
    }
}
