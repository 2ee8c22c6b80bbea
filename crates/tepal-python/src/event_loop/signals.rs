//! Signals: CPython owns their dispositions.
//!
//! The interpreter's C handler notes a signal and writes a byte to the descriptor of
//! `signal.set_wakeup_fd`; the Python handler runs later, in the main thread, between bytecodes or in
//! `PyErr_CheckSignals`. Every run in the main thread lends its own pipe for that byte, which only
//! wakes the loop: without it a signal that comes just before the wait would sleep through it. The
//! loop then lets the interpreter run its handlers. A program that set a descriptor of its own before
//! the run (Twisted's reactor does) gets the bytes handed on, and one that sets it within the run
//! keeps it. `add_signal_handler` installs one of ours by
//! `signal.signal`, and that one sets a flag; flags cannot be lost as bytes in a full pipe can.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tepal_base::Buffer;
use tepal_driver::{Descriptor, Interest, Signal, SignalSource, Waker};

use super::{Loop, State};
use crate::errors::os_error;
use crate::handle::{HandleRef, Parts};
use crate::host::{Callback, PyEngine, PyHost, attached};
use crate::imports::imports;

/// The pipe that the interpreter's signal handler writes to.
#[derive(Clone, Copy)]
pub(crate) struct WakePipe {
    read: Descriptor,
    write_fd: RawFd,
    // Whose place it takes in this run: the bytes are handed on.
    earlier: Option<RawFd>,
}

/// Restores the wake-up descriptor that was set before a run.
pub(super) struct Woken<'py> {
    py: Python<'py>,
    replaced: Option<Replaced>,
}

#[derive(Clone, Copy)]
struct Replaced {
    old: RawFd,
    ours: RawFd,
}

impl Loop {
    /// Lets signals wake the loop, if this is the main thread, until the result is dropped.
    pub(super) fn hear_signals<'py>(&self, py: Python<'py>, state: &State) -> PyResult<Woken<'py>> {
        let nothing = Woken { py, replaced: None };
        let Some(mut pipe) = state.wake_pipe().map_err(|error| os_error(&error))? else {
            return Ok(nothing);
        };
        let old = match imports(py).set_wakeup_fd.call1(py, (pipe.write_fd,)) {
            Ok(old) => old.extract::<RawFd>(py)?,
            // Not the main thread: signals are no matter of this loop.
            Err(error) if error.is_instance_of::<PyValueError>(py) => return Ok(nothing),
            Err(error) => return Err(error),
        };
        pipe.earlier = Some(old).filter(|fd| *fd >= 0 && *fd != pipe.write_fd);
        state.host().wake_pipe.set(Some(pipe));
        let woken = Woken { py, replaced: Some(Replaced { old, ours: pipe.write_fd }) };
        // One that came just before wrote no byte, and its Python handler may not have run yet.
        py.check_signals()?;
        Ok(woken)
    }
}

impl Drop for Woken<'_> {
    fn drop(&mut self) {
        let Some(Replaced { old, ours }) = self.replaced else { return };
        let set = |fd: RawFd| {
            let was = imports(self.py).set_wakeup_fd.call1(self.py, (fd,))?;
            was.extract::<RawFd>(self.py)
        };
        match set(old) {
            Ok(was) if was == ours => {}
            // Set within the run: whoever did wants it.
            Ok(was) => drop(set(was)),
            // The descriptor that was set before may be closed by now; then none is right.
            Err(_) => drop(set(-1)),
        }
    }
}

impl State {
    // `None`: the driver has no descriptors that the interpreter could write to.
    fn wake_pipe(&self) -> io::Result<Option<WakePipe>> {
        if let Some(pipe) = self.host().wake_pipe.get() {
            return Ok(Some(pipe));
        }
        let made = self.engine.with_driver(|driver| {
            let (read, write) = driver.pipe()?;
            let fds = driver.raw_fd(read).zip(driver.raw_fd(write));
            if fds.is_none() {
                let _ = driver.close(read);
                let _ = driver.close(write);
            }
            Ok::<_, io::Error>(fds.map(|(read_fd, write_fd)| (read, read_fd, write_fd)))
        })?;
        let Some((read, read_fd, write_fd)) = made else { return Ok(None) };
        let key = self.engine.watch(read_fd, Callback::WakePipe)?;
        self.engine.watch_set(key, Interest::READ)?;
        let pipe = WakePipe { read, write_fd, earlier: None };
        self.host().wake_pipe.set(Some(pipe));
        Ok(Some(pipe))
    }
}

impl PyHost {
    pub(crate) fn empty_wake_pipe(&self, engine: &PyEngine) {
        let Some(pipe) = self.wake_pipe.get() else { return };
        let mut arrived = 0_u64;
        engine.with_driver(|driver| {
            let mut buffer = Buffer::zeroed(64);
            loop {
                let received = driver.receive(pipe.read, buffer);
                buffer = received.buffer;
                let Ok(count @ 1..) = received.result else { return };
                let signals = buffer.get(..count).unwrap_or_default();
                for signal in
                    signals.iter().filter(|signal| (1..=SIGNALS).contains(&i32::from(**signal)))
                {
                    arrived |= 1 << (signal - 1);
                }
                if let Some(fd) = pipe.earlier {
                    hand_on(fd, signals);
                }
                if !received.more {
                    return;
                }
            }
        });
        while arrived != 0 {
            let signal = arrived.trailing_zeros() as i32 + 1;
            arrived &= arrived - 1;
            if is_handled_by_others(attached(), signal) {
                engine.signal_arrived(signal);
            }
        }
    }
}

// A program that puts a handler of its own in the place of ours, as uvicorn does while it serves, sets
// no flag. asyncio's callbacks hear of the signal nonetheless, by the byte.
fn is_handled_by_others(py: Python<'_>, signal: i32) -> bool {
    let handler = imports(py).getsignal.bind(py).call1((signal,));
    handler.is_ok_and(|handler| !handler.is_instance_of::<SignalFlag>())
}

// As the interpreter would have written them: what does not fit is lost, and so is what a descriptor
// closed meanwhile would have got.
fn hand_on(fd: RawFd, signals: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice that is borrowed for the call.
    let _ = unsafe { libc::write(fd, signals.as_ptr().cast(), signals.len()) };
}

/// Signal numbers that one word holds; Linux has 64, from 1 on.
const SIGNALS: i32 = 64;

/// Sets the flag of the signal it is called for; `signal.signal` gets one of these.
#[pyclass(frozen, name = "SignalFlag", module = "tepal._tepal")]
struct SignalFlag {
    flags: Arc<AtomicU64>,
}

#[pymethods]
impl SignalFlag {
    #[pyo3(signature = (signal, _frame, /))]
    fn __call__(&self, signal: i32, _frame: &Bound<'_, PyAny>) {
        if (1..=SIGNALS).contains(&signal) {
            self.flags.fetch_or(1 << (signal - 1), Ordering::Release);
        }
    }
}

/// The flags as the engine's source of signals.
struct Flags(Arc<AtomicU64>);

impl SignalSource for Flags {
    fn subscribe(&mut self, _signal: Signal, _waker: &Waker) -> io::Result<()> {
        // `signal.signal` has been called.
        Ok(())
    }

    fn unsubscribe(&mut self, signal: Signal) -> io::Result<bool> {
        self.0.fetch_and(!(1 << (signal - 1)), Ordering::AcqRel);
        Ok(true)
    }

    fn take_pending(&mut self, pending: &mut Vec<Signal>) {
        let mut flags = self.0.swap(0, Ordering::AcqRel);
        while flags != 0 {
            pending.push(flags.trailing_zeros() as Signal + 1);
            flags &= flags - 1;
        }
    }
}

#[pymethods]
impl Loop {
    /// Listens for a signal whose Python handler the caller installs: the object returned.
    #[pyo3(signature = (signal, callback, args))]
    fn _signal_add(
        slf: &Bound<'_, Self>,
        signal: i32,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        if !(1..=SIGNALS).contains(&signal) {
            return Err(PyValueError::new_err(format!("invalid signal number {signal}")));
        }
        let arguments: Vec<_> = args.iter_borrowed().map(|argument| argument.as_ptr()).collect();
        let parts = Parts {
            event_loop: slf.as_ptr(),
            callback: callback.as_borrowed(),
            arguments: &arguments,
            context: None,
        };
        let handle = HandleRef::new(py, &parts)?;
        state.trace(py, &handle)?;
        let flags = state.signal_flags();
        let old = state.engine.signal_add(signal, Callback::Signal(handle));
        drop(old.map_err(|error| os_error(&error))?);
        Ok(Py::new(py, SignalFlag { flags })?.into_any())
    }

    /// Stops listening. Whether there was a handler.
    #[pyo3(signature = (signal, /))]
    fn _signal_remove(&self, py: Python<'_>, signal: i32) -> PyResult<bool> {
        let state = self.state(py)?;
        let removed = state.engine.signal_remove(signal).map_err(|error| os_error(&error))?;
        Ok(removed.is_some())
    }
}

impl State {
    fn signal_flags(&self) -> Arc<AtomicU64> {
        Arc::clone(self.flags.get_or_init(|| {
            let flags = Arc::new(AtomicU64::new(0));
            self.engine.set_signal_source(Box::new(Flags(Arc::clone(&flags))));
            flags
        }))
    }
}
