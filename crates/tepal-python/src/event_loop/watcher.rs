use std::cell::Cell;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use tepal::Interest;
use tepal::engine::{Flow, WatchKey};

use super::Loop;
use super::io::number;
use super::schedule::check_callback;
use crate::errors::os_error;
use crate::handle::{HandleRef, Parts};
use crate::host::{Callback, PyEngine, PyHost};
use crate::object::{Ref, UnderGil};

/// The descriptor can be read from.
pub(super) const READ: u32 = 1;
/// The descriptor can be written to.
pub(super) const WRITE: u32 = 2;

/// A watcher of loop.watch(fd, events, callback, *args): one object for both directions.
///
/// It is made stopped. While it is started, callback(events, *args) runs in every turn in which the
/// descriptor is ready for some of events. It belongs to the loop's thread.
#[pyclass(frozen, name = "Watcher", module = "tepal", weakref)]
pub(crate) struct PyWatcher {
    fd: i32,
    place: UnderGil<Place>,
}

struct Place {
    lp: Cell<Option<Py<Loop>>>,
    callback: Cell<Option<Ref>>,
    args: Cell<Option<Py<PyTuple>>>,
    context: Cell<Option<Ref>>,
    events: Cell<u32>,
    key: Cell<Option<WatchKey<PyHost>>>,
}

#[pymethods]
impl Loop {
    /// A Watcher that calls callback(events, *args); stopped, until start() is called.
    #[pyo3(signature = (fd, events, callback, *args))]
    fn watch(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        events: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyWatcher>> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        let (fd, events) = (number(fd)?, checked_events(events)?);
        check_callback(py, "watch", callback.as_borrowed())?;
        let context = py.import("contextvars")?.call_method0("copy_context")?;
        let place = Place {
            lp: Cell::new(Some(slf.clone().unbind())),
            callback: Cell::new(Some(Ref::new(callback.clone()))),
            args: Cell::new(Some(args.clone().unbind())),
            context: Cell::new(Some(Ref::new(context))),
            events: Cell::new(events),
            key: Cell::new(None),
        };
        Py::new(py, PyWatcher { fd, place: UnderGil::new(place) })
    }
}

fn checked_events(events: &Bound<'_, PyAny>) -> PyResult<u32> {
    if events.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err("events must be tepal.READ, tepal.WRITE or both"));
    }
    match events.extract::<u32>()? {
        events @ (READ | WRITE | 3) => Ok(events),
        _ => Err(PyValueError::new_err("events must be tepal.READ, tepal.WRITE or both")),
    }
}

fn interest(events: u32) -> Interest {
    Interest { read: events & READ != 0, write: events & WRITE != 0 }
}

#[pymethods]
impl PyWatcher {
    /// Starts watching; does nothing if it does.
    ///
    /// RuntimeError if another watcher, reader or writer has this descriptor; OSError if it is
    /// closed, or a regular file.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let place = slf.get().place.get(py);
        if place.key.get().is_some() {
            return Ok(());
        }
        let lp = slf.get().event_loop(py)?;
        let state = lp.get().state(py)?;
        state.check_open()?;
        state.check_thread_in_debug(py)?;
        let callback = Callback::Watcher(slf.clone().unbind());
        let key = state.engine.watch(slf.get().fd, callback).map_err(|error| os_error(&error))?;
        if let Err(error) = state.engine.watch_set(key, interest(place.events.get())) {
            state.engine.watch_remove(key);
            return Err(os_error(&error));
        }
        place.key.set(Some(key));
        Ok(())
    }

    /// Stops watching; does nothing if it does not watch.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(key) = self.place.get(py).key.take() {
            // Drops the engine's reference to this watcher, of which the caller holds another.
            self.event_loop(py)?.get().state(py)?.engine.watch_remove(key);
        }
        Ok(())
    }

    /// Watches for other events, at once if it is started.
    #[pyo3(signature = (events, /))]
    fn set(&self, py: Python<'_>, events: &Bound<'_, PyAny>) -> PyResult<()> {
        let events = checked_events(events)?;
        let place = self.place.get(py);
        if let Some(key) = place.key.get() {
            let lp = self.event_loop(py)?;
            let set = lp.get().state(py)?.engine.watch_set(key, interest(events));
            set.map_err(|error| os_error(&error))?;
        }
        place.events.set(events);
        Ok(())
    }

    /// Whether it watches.
    #[getter]
    fn active(&self, py: Python<'_>) -> bool {
        self.place.get(py).key.get().is_some()
    }

    /// What it watches for: READ, WRITE, or both.
    #[getter]
    fn events(&self, py: Python<'_>) -> u32 {
        self.place.get(py).events.get()
    }

    /// The descriptor.
    fn fileno(&self) -> i32 {
        self.fd
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let events = match self.events(py) {
            READ => "READ",
            WRITE => "WRITE",
            _ => "READ|WRITE",
        };
        let state = if self.active(py) { "active" } else { "stopped" };
        format!("<tepal.Watcher fd={} events={events} {state}>", self.fd)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let place = unsafe { self.place.get_during_traverse() };
        // SAFETY: the cells are read in place and nothing writes them meanwhile.
        unsafe {
            visit.call(&*place.lp.as_ptr())?;
            visit.call(&*place.args.as_ptr())?;
            let rest = [&place.callback, &place.context];
            rest.into_iter()
                .filter_map(|cell| (*cell.as_ptr()).as_ref())
                .try_for_each(|object| object.visit(&visit))
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let place = self.place.get(py);
        drop((place.lp.take(), place.callback.take(), place.args.take(), place.context.take()));
    }
}

impl PyWatcher {
    fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Loop>> {
        let place = self.place.get(py);
        // SAFETY: read in place; cloning runs no Python.
        let lp = unsafe { (*place.lp.as_ptr()).as_ref().map(|lp| lp.bind(py).clone()) };
        lp.ok_or_else(|| PyRuntimeError::new_err("the watcher's loop is gone"))
    }

    /// Runs the callback with what the descriptor is ready for.
    pub(crate) fn fire(
        watcher: &Py<PyWatcher>,
        py: Python<'_>,
        engine: &PyEngine,
        ready: Interest,
    ) -> Flow {
        let place = watcher.get().place.get(py);
        // SAFETY: read in place; cloning runs no Python.
        let parts = unsafe {
            let lp = (*place.lp.as_ptr()).as_ref().map(|lp| lp.clone_ref(py));
            let callback = (*place.callback.as_ptr()).as_ref().map(|c| c.clone_ref(py));
            let args = (*place.args.as_ptr()).as_ref().map(|args| args.clone_ref(py));
            let context = (*place.context.as_ptr()).as_ref().map(|c| c.clone_ref(py));
            lp.zip(callback).zip(args).zip(context)
        };
        let Some((((lp, callback), args), context)) = parts else { return Flow::Continue(()) };
        let events = u32::from(ready.read) * READ + u32::from(ready.write) * WRITE;
        let made = (|| {
            let events = events.into_pyobject(py)?;
            let args = args.bind(py);
            let mut arguments = vec![events.as_ptr()];
            arguments.extend(args.iter_borrowed().map(|argument| argument.as_ptr()));
            let parts = Parts {
                event_loop: lp.as_ptr(),
                callback: callback.bind(py),
                arguments: &arguments,
                context: Some(context.bind(py)),
            };
            HandleRef::new(py, &parts)
        })();
        match made {
            Ok(handle) => engine.host().run_handle(engine, py, &handle),
            Err(error) => engine.host().leave_run(error),
        }
    }
}
