//! `call_soon` and its kin: the methods that every program calls all the time.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use pyo3::{Borrowed, ffi};
use tepal::Instant;
use tepal::engine::TimerKey;

use super::{Loop, State};
use crate::errors::os_error;
use crate::fastcall::{Arguments, add_method, guard, missing, unexpected};
use crate::handle::{HandleRef, Parts};
use crate::host::Job;
use crate::imports::imports;

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    type Fast = ffi::PyCFunctionFastWithKeywords;
    let fast = |name, function: Fast, doc| {
        let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
        add_method(class, name, function, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, doc)
    };
    fast(
        c"call_soon",
        call_soon,
        c"call_soon($self, callback, /, *args, context=None)\n--\n\n\
          Call callback(*args) in the next turn of the loop. Returns a Handle.\n\n\
          For the loop's own thread; see call_soon_threadsafe. Callbacks run in the order of\n\
          their calls, in a copy of the current context or in the one given.",
    )?;
    fast(
        c"call_soon_threadsafe",
        call_soon_threadsafe,
        c"call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\n\
          Like call_soon, from any thread and from signal handlers; wakes the loop.",
    )?;
    fast(
        c"call_later",
        call_later,
        c"call_later($self, delay, callback, /, *args, context=None)\n--\n\n\
          Call callback(*args) after delay seconds, never earlier. Returns a TimerHandle.",
    )?;
    fast(
        c"call_at",
        call_at,
        c"call_at($self, when, callback, /, *args, context=None)\n--\n\n\
          Call callback(*args) once time() has reached when. Returns a TimerHandle.",
    )?;
    let plain = |name, function: ffi::PyCFunction, doc| {
        let function = ffi::PyMethodDefPointer { PyCFunction: function };
        add_method(class, name, function, ffi::METH_NOARGS, doc)
    };
    plain(
        c"time",
        time,
        c"time($self)\n--\n\nThe loop's clock in seconds: time.monotonic() on a real driver.",
    )?;
    plain(c"get_debug", get_debug, c"get_debug($self)\n--\n\nWhether debug mode is on.")
}

extern "C" fn call_soon(
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
        let parts = match arguments.get(0) {
            // What nearly every call looks like.
            Some(callback) if names.is_null() => {
                let rest = &arguments.positional()[1..];
                Parts { event_loop: object, callback, arguments: rest, context: None }
            }
            _ => parts("call_soon", object, arguments, 0, None)?,
        };
        state.check_open()?;
        if state.host().debug.get() {
            state.check_thread(py)?;
            check_callback(py, "call_soon", parts.callback)?;
        }
        let handle = HandleRef::new(py, &parts, None)?;
        state.trace(py, &handle)?;
        state.engine.call_soon(Job::Handle(handle.clone_ref(py)));
        Ok(handle.into_ptr())
    })
}

extern "C" fn call_soon_threadsafe(
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
        let parts = parts("call_soon_threadsafe", object, arguments, 0, None)?;
        state.check_open()?;
        if state.host().debug.get() {
            check_callback(py, "call_soon_threadsafe", parts.callback)?;
        }
        let handle = HandleRef::new(py, &parts, None)?;
        state.trace(py, &handle)?;
        // Under the GIL the queue itself is safe, and one queue keeps one order.
        state.engine.call_soon(Job::Handle(handle.clone_ref(py)));
        let thread = state.host().thread.get();
        if thread != 0 && thread != current_thread() {
            state.remote.wake();
        }
        Ok(handle.into_ptr())
    })
}

extern "C" fn call_later(
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
        let (delay, rest) = time_argument("call_later", "delay", arguments)?;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let now = state.engine.now();
        let when = now.as_secs_f64() + seconds(delay)?;
        let parts = parts("call_later", object, arguments, rest, Some("delay"))?;
        state.schedule(py, "call_later", &parts, when)
    })
}

extern "C" fn call_at(
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
        let (when, rest) = time_argument("call_at", "when", arguments)?;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        let when = seconds(when)?;
        let parts = parts("call_at", object, arguments, rest, Some("when"))?;
        state.schedule(py, "call_at", &parts, when)
    })
}

extern "C" fn time(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: called by CPython on an instance of `Loop`.
        let state = unsafe { Loop::of(py, object) }.state(py)?;
        Ok(state.engine.now().as_secs_f64().into_pyobject(py)?.into_any().into_ptr())
    })
}

extern "C" fn get_debug(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: called by CPython on an instance of `Loop`.
        let state = unsafe { Loop::of(py, object) }.state(py)?;
        // SAFETY: the two constants are live for ever.
        Ok(unsafe {
            ffi::Py_NewRef(if state.host().debug.get() { ffi::Py_True() } else { ffi::Py_False() })
        })
    })
}

/// Takes the arguments of a call apart: `skip` positional ones, the callback, its arguments; and the
/// keyword `context`. The callback, too, may be given by its name.
#[inline]
fn parts<'a, 'py>(
    function: &str,
    event_loop: *mut ffi::PyObject,
    arguments: Arguments<'a, 'py>,
    skip: usize,
    time_name: Option<&str>,
) -> PyResult<Parts<'a, 'py>> {
    let mut callback = arguments.get(skip);
    let mut context = None;
    for (name, value) in arguments.keywords() {
        match name {
            // What the C Task gives, as a name of its own.
            "context" => context = Some(value).filter(|value| !value.is_none()),
            "callback" if callback.is_none() => callback = Some(value),
            // Taken by `time_argument`.
            name if skip == 0 && time_name == Some(name) => {}
            _ => return Err(unexpected(function, name)),
        }
    }
    let callback = callback.ok_or_else(|| missing(function, "callback"))?;
    let rest = arguments.positional().get(skip + 1..).unwrap_or_default();
    Ok(Parts { event_loop, callback, arguments: rest, context })
}

/// The delay or the deadline, and where the other positional arguments begin.
fn time_argument<'a, 'py>(
    function: &str,
    name: &str,
    arguments: Arguments<'a, 'py>,
) -> PyResult<(Borrowed<'a, 'py, PyAny>, usize)> {
    if let Some(value) = arguments.get(0) {
        return Ok((value, 1));
    }
    for (keyword, value) in arguments.keywords() {
        if keyword == name {
            return Ok((value, 0));
        }
    }
    Err(missing(function, name))
}

#[inline]
fn seconds(value: Borrowed<'_, '_, PyAny>) -> PyResult<f64> {
    // SAFETY: a live object; an exact float is read in place.
    let seconds = unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) };
    if seconds == -1.0
        && let Some(error) = PyErr::take(value.py())
    {
        return Err(error);
    }
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time must not be NaN"));
    }
    Ok(seconds)
}

/// The first instant that is not before `when`, in seconds.
///
/// One nanosecond is added for what the multiplication may lose, so that `time()` has reached `when`
/// in the callback: a timer is late by a nanosecond and never early.
#[inline]
pub(crate) fn instant(when: f64) -> Instant {
    const FAR: f64 = (u64::MAX / 2) as f64;
    let nanos = (when * 1e9).ceil() + 1.0;
    if nanos >= FAR {
        Instant::FAR
    } else {
        // A negative float becomes zero.
        Instant::from_nanos(nanos as u64)
    }
}

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
    #[inline]
    fn schedule(
        &self,
        py: Python<'_>,
        function: &str,
        parts: &Parts<'_, '_>,
        when: f64,
    ) -> PyResult<*mut ffi::PyObject> {
        self.check_open()?;
        if self.host().debug.get() {
            self.check_thread(py)?;
            check_callback(py, function, parts.callback)?;
        }
        let handle = HandleRef::new(py, parts, Some(when))?;
        self.trace(py, &handle)?;
        let key = self.engine.call_at(instant(when), Job::Handle(handle.clone_ref(py)));
        handle.set_timer(key.to_bits());
        Ok(handle.into_ptr())
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
        if handle.is_cancelled() {
            return Ok(());
        }
        let owner = handle.event_loop(py);
        let lp = owner.as_ref().and_then(|owner| owner.cast::<Loop>().ok());
        let state = lp.and_then(|lp| lp.get().state(py).ok());
        let mut shown = Ok(());
        if let Some(state) = state
            && state.host().debug.get()
        {
            shown = handle.bind(py).repr().map(|text| handle.set_printed(text.into_any()));
        }
        if !handle.mark_cancelled() {
            return shown;
        }
        handle.drop_callback();
        if let Some(state) = state {
            state.engine.timer_remove(TimerKey::from_bits(handle.timer()));
        }
        shown
    }

    /// Whether a timer handle's time has not come.
    pub(crate) fn is_scheduled(py: Python<'_>, handle: &HandleRef) -> bool {
        let owner = handle.event_loop(py);
        let lp = owner.as_ref().and_then(|owner| owner.cast::<Loop>().ok());
        lp.and_then(|lp| lp.get().state(py).ok())
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
            Job::Handle(handle) => handles.push(handle.clone_ref(py)),
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
