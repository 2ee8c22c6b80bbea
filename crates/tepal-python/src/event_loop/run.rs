//! `run_forever`.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::schedule::current_thread;
use super::{Loop, State};
use crate::errors::{closed, os_error};
use crate::handle::QueuedRun;
use crate::host::Job;
use crate::imports::imports;
use crate::layers::with_engine;
use crate::memory;

/// How deep coroutines remember where they were made, in debug mode; asyncio's figure.
const ORIGIN_DEPTH: u32 = 10;

#[pymethods]
impl Loop {
    /// Run until stop() is called, or until a callback raises KeyboardInterrupt or SystemExit.
    ///
    /// What is queued stays queued then, and the loop can run again.
    fn run_forever(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        state.check_idle(py)?;
        // What a run changes around it is put back in the reverse order, and the first exception
        // stands.
        let hooks = Hooks::set(slf)?;
        let woken = slf.get().hear_signals(py, state);
        let result = match woken {
            Ok(ref _woken) => state.run(slf),
            Err(error) => Err(error),
        };
        let restored = hooks.restore(py);
        result.and(restored)
    }

    /// Raises RuntimeError if this loop runs, or another one in this thread.
    fn _check_running(&self, py: Python<'_>) -> PyResult<()> {
        self.state(py)?.check_idle(py)
    }

    /// Debug mode: thread checks, slow callbacks told, where coroutines and handles were made.
    #[pyo3(signature = (enabled))]
    fn set_debug(&self, py: Python<'_>, enabled: Bound<'_, PyAny>) -> PyResult<()> {
        let enabled = enabled.is_truthy()?;
        let state = self.state(py)?;
        state.host().debug.set(enabled);
        if state.tracks_origins.get() {
            // The run puts the old depth back.
            let depth = if enabled { ORIGIN_DEPTH } else { 0 };
            imports(py).set_origin_depth.call1(py, (depth,))?;
        }
        Ok(())
    }
}

impl State {
    fn check_idle(&self, py: Python<'_>) -> PyResult<()> {
        if self.engine.is_running() {
            return Err(PyRuntimeError::new_err("This event loop is already running"));
        }
        if !imports(py).events.call_method0(py, intern!(py, "_get_running_loop"))?.is_none(py) {
            return Err(PyRuntimeError::new_err(
                "Cannot run the event loop while another loop is running",
            ));
        }
        Ok(())
    }

    fn run(&self, lp: &Bound<'_, Loop>) -> PyResult<()> {
        let py = lp.py();
        let host = self.host();
        let events = imports(py).events.bind(py);
        let set_running_loop = events.getattr(intern!(py, "_set_running_loop"))?;
        set_running_loop.call1((lp,))?;
        host.thread.set(current_thread());
        let active = crate::exit::Active::new();
        let handles = QueuedRun::begin(py);
        let ended = with_engine(&self.engine, || self.engine.run());
        drop(handles);
        self.engine.visit_jobs(|job| match job {
            Job::Handle(handle) => handle.show(),
        });
        drop(active);
        host.thread.set(0);
        let unset = memory::insist(py, || set_running_loop.call1((py.None(),)));
        let left = host.pending.take();
        match (ended, left) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(os_error(&error)),
            // The callback that forked has returned in the child.
            (Ok(_), None) if host.forked.get() => Err(closed(true)),
            (Ok(_), None) => unset.map(drop),
        }
    }
}

/// What a run changes in the thread: the hooks of async generators, the depth of origins.
struct Hooks<'a, 'py> {
    lp: &'a Bound<'py, Loop>,
    generators: Py<PyAny>,
    depth: Py<PyAny>,
}

impl<'a, 'py> Hooks<'a, 'py> {
    fn set(lp: &'a Bound<'py, Loop>) -> PyResult<Hooks<'a, 'py>> {
        let py = lp.py();
        let imports = imports(py);
        let state = lp.get().state(py)?;
        let hooks = Hooks {
            lp,
            generators: imports.get_asyncgen_hooks.call0(py)?,
            depth: imports.get_origin_depth.call0(py)?,
        };
        let first = lp.getattr(intern!(py, "_asyncgen_firstiter_hook"))?;
        let last = lp.getattr(intern!(py, "_asyncgen_finalizer_hook"))?;
        imports.set_asyncgen_hooks.call1(py, (first, last))?;
        state.tracks_origins.set(true);
        if state.host().debug.get() {
            imports.set_origin_depth.call1(py, (ORIGIN_DEPTH,))?;
        }
        Ok(hooks)
    }

    fn restore(self, py: Python<'_>) -> PyResult<()> {
        let imports = imports(py);
        self.lp.get().state(py)?.tracks_origins.set(false);
        let generators = self.generators.bind(py);
        let first = generators.getattr(intern!(py, "firstiter"))?;
        let last = generators.getattr(intern!(py, "finalizer"))?;
        let set = imports.set_asyncgen_hooks.call1(py, (first, last));
        imports.set_origin_depth.call1(py, (self.depth,))?;
        set.map(drop)
    }
}
