//! What becomes of handles, and the plain questions to a loop.

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{Borrowed, ffi};
use tepal::engine::TimerKey;

use super::call::instant;
use super::{Loop, State};
use crate::errors::os_error;
use crate::handle::{HandleRef, Parts, Queued};
use crate::host::Job;
use crate::imports::imports;
use crate::object::Ref;

/// Debug mode: refuses coroutines and what cannot be called, as asyncio does.
pub(crate) fn check_callback(
    py: Python<'_>,
    function: &str,
    callback: Borrowed<'_, '_, PyAny>,
) -> PyResult<()> {
    let helpers = imports(py).helpers.bind(py);
    helpers.call_method1("check_callback", (callback, function)).map(drop)
}

impl State {
    /// Queues a callback for the next turn and returns its handle, owned.
    #[inline]
    pub(super) fn queue(
        &self,
        py: Python<'_>,
        parts: &Parts<'_, '_>,
    ) -> PyResult<*mut ffi::PyObject> {
        let handle = Queued::new(py, parts, None, self.runs())?;
        self.trace(py, &handle)?;
        let for_caller = handle.to_caller(py);
        self.engine.call_soon(Job::Handle(handle));
        Ok(for_caller.into_ptr())
    }

    /// Queues a callback for its time and returns its handle, owned, which shows that time as an int
    /// if it is `whole`.
    #[inline]
    pub(super) fn schedule(
        &self,
        py: Python<'_>,
        function: &str,
        parts: &Parts<'_, '_>,
        when: f64,
        whole: bool,
    ) -> PyResult<*mut ffi::PyObject> {
        self.check_open()?;
        if self.host().debug.get() {
            self.check_thread(py)?;
            check_callback(py, function, parts.callback)?;
        }
        let handle = Queued::new(py, parts, Some(when), self.runs())?;
        self.trace(py, &handle)?;
        let for_caller = handle.to_caller(py);
        let key = self.engine.call_at(instant(when), Job::Handle(handle));
        for_caller.set_timer(key.to_bits());
        for_caller.set_whole(whole);
        Ok(for_caller.into_ptr())
    }

    /// Whether a thread runs the loop.
    #[inline]
    fn runs(&self) -> bool {
        self.host().thread.get() != 0
    }

    /// Debug mode: remembers where a handle was made.
    #[inline]
    pub(super) fn trace(&self, py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
        if !self.host().debug.get() {
            return Ok(());
        }
        Self::trace_always(py, handle)
    }

    #[cold]
    fn trace_always(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
        let stack = imports(py).helpers.bind(py).call_method0("extract_stack")?;
        handle.set_traceback(stack);
        Ok(())
    }

    /// The loop of a transport, for one of its methods.
    ///
    /// asyncio's transports send inside `write`, so programs that write from other threads get away
    /// with it, although nothing says that they may. Ours send at the end of the turn: a loop that
    /// sleeps is woken for it.
    ///
    /// # Safety
    ///
    /// `event_loop` is an instance of `Loop`, which outlives the use: it is held by the transport, by
    /// the run that calls us, or by the caller's frame.
    #[inline]
    pub(crate) unsafe fn of_transport<'py>(
        py: Python<'py>,
        event_loop: &Ref,
    ) -> Option<&'py State> {
        // SAFETY: as the caller says.
        let event_loop: &'py Loop = unsafe { Loop::of(py, event_loop.as_ptr()) };
        let state = event_loop.state(py).ok()?;
        if state.host().sleeps.get() {
            state.host().sleeps.set(false);
            state.remote.wake();
        }
        Some(state)
    }

    /// `check_thread` in debug mode, as asyncio does.
    pub(crate) fn check_thread_in_debug(&self, py: Python<'_>) -> PyResult<()> {
        if self.host().debug.get() { self.check_thread(py) } else { Ok(()) }
    }

    /// Debug mode: refuses calls that are not thread-safe from other threads than the loop's.
    pub(super) fn check_thread(&self, py: Python<'_>) -> PyResult<()> {
        let thread = self.host().thread.get();
        if thread != 0 && thread != current_thread() {
            let helpers = imports(py).helpers.bind(py);
            return helpers.call_method0("wrong_thread").map(drop);
        }
        Ok(())
    }
}

/// The calling thread, as `threading.get_ident` numbers it.
pub(crate) fn current_thread() -> u64 {
    // SAFETY: it has no preconditions.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

impl Loop {
    /// Cancels a handle, whichever loop's it is.
    pub(crate) fn cancel_handle(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
        Loop::let_end(py, handle)?;
        if handle.is_cancelled() {
            return Ok(());
        }
        let mut shown = Ok(());
        if Loop::state_of(py, handle).is_some_and(|state| state.host().debug.get()) {
            shown = handle.bind(py).repr().map(|text| handle.set_printed(text.into_any()));
        }
        if !handle.mark_cancelled() {
            return shown;
        }
        // Before anything is dropped, which may be the loop: the timer's own reference is not the
        // last.
        if handle.timer() != 0
            && let Some(state) = Loop::state_of(py, handle)
        {
            state.engine.timer_remove(TimerKey::from_bits(handle.timer()));
        }
        handle.drop_callback();
        shown
    }

    /// Whether a handle was cancelled.
    pub(crate) fn handle_is_cancelled(py: Python<'_>, handle: &HandleRef) -> PyResult<bool> {
        Loop::let_end(py, handle)?;
        Ok(handle.is_cancelled())
    }

    // A handle of `call_soon_threadsafe` answers other threads when its callback has returned.
    #[inline]
    fn let_end(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
        if !handle.holds_others() {
            return Ok(());
        }
        let runs_here = Loop::state_of(py, handle)
            .is_none_or(|state| state.host().thread.get() == current_thread());
        if runs_here { Ok(()) } else { handle.wait_for_end(py) }
    }

    /// Whether a timer handle's time has not come.
    pub(crate) fn is_scheduled(py: Python<'_>, handle: &HandleRef) -> bool {
        Loop::state_of(py, handle)
            .is_some_and(|state| state.engine.timer_is_active(TimerKey::from_bits(handle.timer())))
    }

    /// Runs a handle by hand, as `Handle._run` does.
    pub(crate) fn run_handle(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
        let Some(owner) = handle.event_loop(py) else { return Ok(()) };
        let lp = owner.cast::<Loop>()?;
        let state = lp.get().state(py)?;
        if state.host().run_handle(&state.engine, py, handle).is_break()
            && let Some(error) = state.host().pending.take()
        {
            return Err(error);
        }
        Ok(())
    }

    #[inline]
    fn state_of<'a>(py: Python<'a>, handle: &'a HandleRef) -> Option<&'a State> {
        handle.borrow_loop(py)?.state.get(py).get()
    }
}

#[pymethods]
impl Loop {
    /// Ends the run after the current turn; before a run, after its first turn.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.state(py)?.engine.stop();
        Ok(())
    }

    /// Whether the loop runs now.
    fn is_running(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state(py)?.engine.is_running())
    }

    /// Whether the loop was closed.
    fn is_closed(&self, py: Python<'_>) -> bool {
        // One that was never opened has nothing to use.
        self.state.get(py).get().is_none_or(|state| state.engine.is_closed())
    }

    fn _check_closed(&self, py: Python<'_>) -> PyResult<()> {
        self.state(py)?.check_open()
    }

    fn _check_thread(&self, py: Python<'_>) -> PyResult<()> {
        self.state(py)?.check_thread(py)
    }

    /// The handles that are queued, as asyncio's private name has them: a list of its own.
    #[getter]
    fn _ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut handles = Vec::new();
        self.state(py)?.engine.visit_queued(|job| match job {
            Job::Handle(handle) => handles.push(handle.to_other(py)),
        });
        PyList::new(py, handles.iter().map(|handle| handle.bind(py)))
    }

    /// How many turns the loop has made.
    #[getter]
    fn turns(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.state(py)?.engine.turns())
    }

    /// Closes descriptors and drops what waits; calls nothing. Returns how many transports were
    /// open.
    fn _close(&self, py: Python<'_>) -> PyResult<usize> {
        let state = self.state(py)?;
        let open = state.engine.close().map_err(|error| os_error(&error))?;
        state.engine.retire_driver();
        state.release(py);
        Ok(open)
    }
}
