//! `call_soon` and its kin: the methods that every program calls all the time.

use std::ffi::CStr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyType};
use pyo3::{Borrowed, ffi, intern};
use tepal::Instant;

use super::State;
use super::method::{Call, Method, Query, add, add_query};
use super::schedule::{check_callback, current_thread};
use crate::fastcall::{Arguments, missing, unexpected};
use crate::handle::{HandleRef, Parts};
use crate::imports::imports;

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add::<CallSoon>(class)?;
    add::<CallSoonThreadsafe>(class)?;
    add::<CallLater>(class)?;
    add::<CallAt>(class)?;
    add_query::<Time>(class)?;
    add_query::<GetDebug>(class)
}

struct CallSoon;

impl Method for CallSoon {
    const NAME: &'static CStr = c"call_soon";
    const DOC: &'static CStr = c"call_soon($self, callback, *args, context=None)\n--\n\n\
          Call callback(*args) in the next turn of the loop. Returns a Handle.\n\n\
          For the loop's own thread; see call_soon_threadsafe. Callbacks run in the order of\n\
          their calls, in a copy of the current context or in the one given.";

    #[inline]
    fn call(py: Python<'_>, call: Call<'_, '_>) -> PyResult<*mut ffi::PyObject> {
        let parts = call.parts(py, "call_soon")?;
        call.state.check_open()?;
        if call.state.host().debug.get() {
            call.state.check_thread(py)?;
            check_callback(py, "call_soon", parts.callback)?;
        }
        call.state.queue(py, &parts)
    }
}

struct CallSoonThreadsafe;

impl Method for CallSoonThreadsafe {
    const NAME: &'static CStr = c"call_soon_threadsafe";
    const DOC: &'static CStr =
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
          Like call_soon, from any thread and from signal handlers; wakes the loop.";

    #[inline]
    fn call(py: Python<'_>, call: Call<'_, '_>) -> PyResult<*mut ffi::PyObject> {
        let state = call.state;
        let parts = call.parts(py, "call_soon_threadsafe")?;
        state.check_open()?;
        if state.host().debug.get() {
            check_callback(py, "call_soon_threadsafe", parts.callback)?;
        }
        // Under the GIL the queue itself is safe, and one queue keeps one order.
        let handle = state.queue(py, &parts)?;
        if imports(py).thread_safe_handle.is_some() {
            // SAFETY: a handle, of which `handle` holds a reference.
            unsafe { HandleRef::from_borrowed(handle) }.set_thread_safe();
        }
        let thread = state.host().thread.get();
        if thread != 0 && thread != current_thread() {
            // With the GIL let go: the loop needs it at once, and would otherwise wait for this
            // thread's time slice to end, while callbacks by the ten thousand pile up.
            state.remote.wake_around(|wake| crate::exit::detached(py, wake));
        }
        Ok(handle)
    }
}

struct CallLater;

impl Method for CallLater {
    const NAME: &'static CStr = c"call_later";
    const DOC: &'static CStr = c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
          Call callback(*args) after delay seconds, never earlier. Returns a TimerHandle.";

    #[inline]
    fn call(py: Python<'_>, call: Call<'_, '_>) -> PyResult<*mut ffi::PyObject> {
        let (delay, rest) = time_argument("call_later", "delay", call.arguments)?;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let delay = seconds(delay)?;
        let when = call.state.engine.now().as_secs_f64() + delay;
        let parts = parts("call_later", call, rest, Some("delay"))?;
        call.state.schedule(py, "call_later", &parts, when, false)
    }
}

struct CallAt;

impl Method for CallAt {
    const NAME: &'static CStr = c"call_at";
    const DOC: &'static CStr = c"call_at($self, when, callback, *args, context=None)\n--\n\n\
          Call callback(*args) once time() has reached when. Returns a TimerHandle.";

    #[inline]
    fn call(py: Python<'_>, call: Call<'_, '_>) -> PyResult<*mut ffi::PyObject> {
        let (when, rest) = time_argument("call_at", "when", call.arguments)?;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        let is_int = when.is_exact_instance_of::<PyInt>();
        let when = seconds(when)?;
        let parts = parts("call_at", call, rest, Some("when"))?;
        // A larger one may not be what it was any more.
        let whole = is_int && when.abs() <= (1_u64 << f64::MANTISSA_DIGITS) as f64;
        call.state.schedule(py, "call_at", &parts, when, whole)
    }
}

struct Time;

impl Query for Time {
    const NAME: &'static CStr = c"time";
    const DOC: &'static CStr =
        c"time($self)\n--\n\nThe loop's clock in seconds: time.monotonic() on a real driver.";

    #[inline]
    fn call(py: Python<'_>, _: *mut ffi::PyObject, state: &State) -> PyResult<*mut ffi::PyObject> {
        Ok(state.engine.now().as_secs_f64().into_pyobject(py)?.into_any().into_ptr())
    }
}

struct GetDebug;

impl Query for GetDebug {
    const NAME: &'static CStr = c"get_debug";
    const DOC: &'static CStr = c"get_debug($self)\n--\n\nWhether debug mode is on.";

    #[inline]
    fn call(_: Python<'_>, _: *mut ffi::PyObject, state: &State) -> PyResult<*mut ffi::PyObject> {
        // SAFETY: the two constants are live for ever.
        Ok(unsafe {
            ffi::Py_NewRef(if state.host().debug.get() { ffi::Py_True() } else { ffi::Py_False() })
        })
    }
}

impl<'a, 'py> Call<'a, 'py> {
    /// The callback, its arguments and its context.
    #[inline]
    fn parts(self, py: Python<'py>, function: &str) -> PyResult<Parts<'a, 'py>> {
        // What nearly every call looks like: a program's, and one of the C Task or Future.
        if let Some(callback) = self.arguments.get(0)
            && let Some(context) = self.arguments.only_keyword(intern!(py, "context"))
        {
            let arguments = &self.arguments.positional()[1..];
            let context = context.filter(|context| !context.is_none());
            return Ok(Parts { event_loop: self.event_loop, callback, arguments, context });
        }
        parts(function, self, 0, None)
    }
}

/// Takes the arguments of a call apart: `skip` positional ones, the callback, its arguments; and the
/// keyword `context`. The callback, too, may be given by its name.
fn parts<'a, 'py>(
    function: &str,
    call: Call<'a, 'py>,
    skip: usize,
    time_name: Option<&str>,
) -> PyResult<Parts<'a, 'py>> {
    let Call { event_loop, arguments, .. } = call;
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
    // SAFETY: a live object, whose exact type is looked at before its value. An integer is not made
    // a float object first.
    let seconds = unsafe {
        if ffi::PyLong_CheckExact(value.as_ptr()) != 0 {
            ffi::PyLong_AsDouble(value.as_ptr())
        } else {
            ffi::PyFloat_AsDouble(value.as_ptr())
        }
    };
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
