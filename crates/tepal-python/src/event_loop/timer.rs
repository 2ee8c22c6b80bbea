use std::cell::Cell;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use tepal::engine::{Flow, TimerKey};

use super::Loop;
use super::call::instant;
use super::schedule::check_callback;
use crate::handle::{HandleRef, Parts};
use crate::host::{Callback, PyEngine, PyHost};
use crate::object::UnderGil;

/// A restartable timer of loop.timer(interval, callback, *args).
///
/// It is made stopped. start() arms it once, interval seconds from then; in its callback again()
/// arms it anew. It belongs to the loop's thread.
#[pyclass(frozen, name = "Timer", module = "tepal", weakref)]
pub(crate) struct PyTimer {
    place: UnderGil<Place>,
}

struct Place {
    lp: Cell<Option<Py<Loop>>>,
    handle: Cell<Option<HandleRef>>,
    interval: Cell<f64>,
    key: Cell<Option<TimerKey<PyHost>>>,
}

#[pymethods]
impl Loop {
    /// A Timer that calls callback(*args); stopped, until start() is called.
    #[pyo3(signature = (interval, callback, *args))]
    fn timer(
        slf: &Bound<'_, Self>,
        interval: f64,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyTimer>> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        check_interval(interval)?;
        check_callback(py, "timer", callback.as_borrowed())?;
        let arguments: Vec<_> = args.iter_borrowed().map(|argument| argument.as_ptr()).collect();
        let parts = Parts {
            event_loop: slf.as_ptr(),
            callback: callback.as_borrowed(),
            arguments: &arguments,
            context: None,
        };
        let handle = HandleRef::new(py, &parts)?;
        let place = Place {
            lp: Cell::new(Some(slf.clone().unbind())),
            handle: Cell::new(Some(handle)),
            interval: Cell::new(interval),
            key: Cell::new(None),
        };
        Py::new(py, PyTimer { place: UnderGil::new(place) })
    }
}

fn check_interval(interval: f64) -> PyResult<()> {
    if interval >= 0.0 {
        Ok(())
    } else {
        Err(PyValueError::new_err("the interval must be a number of seconds, zero or more"))
    }
}

#[pymethods]
impl PyTimer {
    /// Arms the timer, unless it is active.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().active(slf.py())? { Ok(()) } else { PyTimer::again(slf) }
    }

    /// Disarms the timer; the callback will not run until it is armed again.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(key) = self.place.get(py).key.take() {
            let lp = self.event_loop(py)?;
            // Drops the engine's reference to this timer, of which the caller holds another.
            lp.get().state(py)?.engine.timer_remove(key);
        }
        Ok(())
    }

    /// Changes the interval, from the next start() or again() on.
    #[pyo3(signature = (interval, /))]
    fn set(&self, py: Python<'_>, interval: f64) -> PyResult<()> {
        check_interval(interval)?;
        self.place.get(py).interval.set(interval);
        Ok(())
    }

    /// Arms the timer anew, interval seconds from now, whether it is active or not.
    fn again(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let place = slf.get().place.get(py);
        let lp = slf.get().event_loop(py)?;
        let state = lp.get().state(py)?;
        state.check_open()?;
        state.check_thread_in_debug(py)?;
        let key = place
            .key
            .get()
            .unwrap_or_else(|| state.engine.timer(Callback::Timer(slf.clone().unbind())));
        place.key.set(Some(key));
        let deadline = instant(state.engine.now().as_secs_f64() + place.interval.get());
        state.engine.timer_arm(key, deadline);
        Ok(())
    }

    /// Whether the timer is armed.
    #[getter]
    fn active(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(key) = self.place.get(py).key.get() else { return Ok(false) };
        let lp = self.event_loop(py)?;
        Ok(lp.get().state(py)?.engine.timer_is_active(key))
    }

    /// Seconds from start() or again() to the call.
    #[getter]
    fn interval(&self, py: Python<'_>) -> f64 {
        self.place.get(py).interval.get()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = if self.active(py)? { "active" } else { "stopped" };
        Ok(format!("<tepal.Timer interval={} {state}>", self.interval(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let place = unsafe { self.place.get_during_traverse() };
        // SAFETY: the cells are read in place and nothing writes them meanwhile.
        unsafe {
            visit.call(&*place.lp.as_ptr())?;
            (*place.handle.as_ptr()).as_ref().map_or(Ok(()), |handle| handle.visit(&visit))
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let place = self.place.get(py);
        drop((place.lp.take(), place.handle.take()));
    }
}

impl PyTimer {
    fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Loop>> {
        let place = self.place.get(py);
        // SAFETY: read in place; cloning runs no Python.
        let lp = unsafe { (*place.lp.as_ptr()).as_ref().map(|lp| lp.bind(py).clone()) };
        lp.ok_or_else(|| PyRuntimeError::new_err("the timer's loop is gone"))
    }

    /// Runs the callback.
    pub(crate) fn fire(timer: &Py<PyTimer>, py: Python<'_>, engine: &PyEngine) -> Flow {
        let place = timer.get().place.get(py);
        // SAFETY: read in place; cloning runs no Python.
        let handle = unsafe { (*place.handle.as_ptr()).as_ref().map(|h| h.clone_ref(py)) };
        let Some(handle) = handle else { return Flow::Continue(()) };
        let flow = engine.host().run_handle(engine, py, &handle);
        // One that was not armed again is taken out of the engine, which would keep it alive.
        if let Some(key) = place.key.get()
            && !engine.timer_is_active(key)
        {
            place.key.set(None);
            engine.timer_remove(key);
        }
        flow
    }
}
