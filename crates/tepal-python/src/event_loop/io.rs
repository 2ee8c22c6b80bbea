//! `add_reader`, `add_writer`, and what the loop's own operations on sockets wait with.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyAttributeError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Loop;
use super::descriptors::{Direction, FdHandles, Waiter, end};
use crate::errors::os_error;
use crate::handle::{HandleRef, Parts};
use crate::object::Ref;

#[pymethods]
impl Loop {
    /// Call callback(*args) in every turn in which fd can be read from.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader(
        slf: &Bound<'_, Self>,
        fd: Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let number = checked_number(slf, &fd)?;
        add(slf, number, Direction::Read, &callback, &args)?;
        remember(slf, number, fd)
    }

    /// Stop watching fd for reading. Whether it was watched.
    #[pyo3(signature = (fd))]
    fn remove_reader(slf: &Bound<'_, Self>, fd: Bound<'_, PyAny>) -> PyResult<bool> {
        let fd = watched_number(slf, &fd)?;
        remove(slf, fd, Direction::Read)
    }

    /// Call callback(*args) in every turn in which fd can be written to.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer(
        slf: &Bound<'_, Self>,
        fd: Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let number = checked_number(slf, &fd)?;
        add(slf, number, Direction::Write, &callback, &args)?;
        remember(slf, number, fd)
    }

    /// Stop watching fd for writing. Whether it was watched.
    #[pyo3(signature = (fd))]
    fn remove_writer(slf: &Bound<'_, Self>, fd: Bound<'_, PyAny>) -> PyResult<bool> {
        let fd = watched_number(slf, &fd)?;
        remove(slf, fd, Direction::Write)
    }

    /// add_reader for the loop's own use: returns the handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        let fd = number(&fd)?;
        add(slf, fd, Direction::Read, &callback, &args)
    }

    /// add_writer for the loop's own use: returns the handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        let fd = number(&fd)?;
        add(slf, fd, Direction::Write, &callback, &args)
    }

    /// Gives a future its result, None, once fd can be read from or, if `writes`, written to. It takes
    /// the place of a reader or writer.
    #[pyo3(signature = (fd, writes, future, /))]
    fn _until_ready(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        writes: bool,
        future: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        if fd < 0 || state.host().transport_fds.borrow().contains(&fd) {
            number(fd.into_pyobject(py)?.as_any())?;
            slf.call_method1(intern!(py, "_ensure_fd_no_transport"), (fd,))?;
        }
        let direction = Direction::of(writes);
        // Taken away first: who waited may have waited for a file that is closed and had this number,
        // and the kernel would hear of no change.
        let old = state.take_descriptor(fd, direction);
        let set = state.set_descriptor(fd, direction, Waiter::Future(Ref::new(future)));
        end(py, old)?;
        set.map(drop).map_err(|error| os_error(&error))
    }

    /// Ends the watch for a future of _until_ready, if that still stands there.
    #[pyo3(signature = (fd, writes, future, /))]
    fn _not_until_ready(
        &self,
        py: Python<'_>,
        fd: RawFd,
        writes: bool,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let state = self.state(py)?;
        if state.engine.is_closed() {
            return Ok(());
        }
        let direction = Direction::of(writes);
        let is_it = match state.host().descriptors.borrow_mut().get_mut(&fd) {
            Some(handles) => {
                matches!(handles.place(direction), Some(Waiter::Future(f)) if f.is(future))
            }
            None => false,
        };
        if is_it {
            drop(state.take_descriptor(fd, direction));
        }
        Ok(())
    }

    /// Whether a transport uses this descriptor.
    #[pyo3(signature = (fd))]
    fn _is_of_transport(&self, py: Python<'_>, fd: RawFd) -> PyResult<bool> {
        Ok(self.state(py)?.host().transport_fds.borrow().contains(&fd))
    }

    #[pyo3(signature = (fd))]
    fn _remove_reader(slf: &Bound<'_, Self>, fd: Bound<'_, PyAny>) -> PyResult<bool> {
        let fd = number(&fd)?;
        remove(slf, fd, Direction::Read)
    }

    #[pyo3(signature = (fd))]
    fn _remove_writer(slf: &Bound<'_, Self>, fd: Bound<'_, PyAny>) -> PyResult<bool> {
        let fd = number(&fd)?;
        remove(slf, fd, Direction::Write)
    }
}

/// The descriptor of an integer or of an object with a `fileno`; `ValueError` as selectors say it.
pub(super) fn number(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let invalid = |object: &Bound<'_, PyAny>| {
        let shown = object.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
        PyValueError::new_err(format!("Invalid file object: {shown}"))
    };
    let py = object.py();
    let is_number = object.is_instance_of::<pyo3::types::PyInt>();
    let fd = if is_number {
        object.extract::<RawFd>()
    } else {
        // A class has a `fileno`, too, which wants an instance.
        let fileno = object.getattr(intern!(py, "fileno")).and_then(|fileno| fileno.call0());
        fileno.and_then(|fd| fd.extract::<RawFd>())
    };
    let wrong = |error: &PyErr| {
        error.is_instance_of::<PyAttributeError>(py)
            || error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyValueError>(py)
    };
    match fd {
        Ok(fd) if fd >= 0 => Ok(fd),
        Ok(fd) => Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}"))),
        Err(error) if wrong(&error) => Err(invalid(object)),
        Err(_) if is_number && object.lt(0)? => {
            Err(PyValueError::new_err(format!("Invalid file descriptor: {object}")))
        }
        Err(error) => Err(error),
    }
}

// The number of a descriptor that no transport uses.
fn checked_number(lp: &Bound<'_, Loop>, fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number = number(fd)?;
    lp.call_method1(intern!(lp.py(), "_ensure_fd_no_transport"), (number,))?;
    Ok(number)
}

// As `checked_number`, and the number of a file that was closed while it is watched.
fn watched_number(lp: &Bound<'_, Loop>, fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    checked_number(lp, fd).or_else(|error| {
        if error.is_instance_of::<PyOverflowError>(lp.py()) {
            // Too large for a descriptor: nobody watches it.
            return Ok(RawFd::MAX);
        }
        let state = lp.get().state(lp.py())?;
        let descriptors = state.host().descriptors.borrow();
        let is_it =
            |handles: &FdHandles| handles.file.as_ref().is_some_and(|f| f.as_ptr() == fd.as_ptr());
        let found = descriptors.iter().find(|(_, handles)| is_it(handles));
        found.map(|(number, _)| *number).ok_or(error)
    })
}

fn remember(lp: &Bound<'_, Loop>, fd: RawFd, file: Bound<'_, PyAny>) -> PyResult<()> {
    if file.is_instance_of::<pyo3::types::PyInt>() {
        return Ok(());
    }
    let state = lp.get().state(lp.py())?;
    let mut descriptors = state.host().descriptors.borrow_mut();
    let old = match descriptors.get_mut(&fd) {
        Some(handles) => handles.file.replace(Ref::new(file)),
        None => Some(Ref::new(file)),
    };
    drop(descriptors);
    drop(old);
    Ok(())
}

fn add(
    lp: &Bound<'_, Loop>,
    fd: RawFd,
    direction: Direction,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
) -> PyResult<Py<PyAny>> {
    let py = lp.py();
    let state = lp.get().state(py)?;
    state.check_open()?;
    let arguments: Vec<_> = args.iter_borrowed().map(|argument| argument.as_ptr()).collect();
    let parts = Parts {
        event_loop: lp.as_ptr(),
        callback: callback.as_borrowed(),
        arguments: &arguments,
        context: None,
    };
    let handle = HandleRef::new(py, &parts)?;
    state.trace(py, &handle)?;
    let old = state.set_descriptor(fd, direction, Waiter::Handle(handle.clone_ref(py)));
    end(py, old.map_err(|error| os_error(&error))?)?;
    // SAFETY: the handle's reference moves over.
    Ok(unsafe { Bound::from_owned_ptr(py, handle.into_ptr()) }.unbind())
}

fn remove(lp: &Bound<'_, Loop>, fd: RawFd, direction: Direction) -> PyResult<bool> {
    let py = lp.py();
    let state = lp.get().state(py)?;
    if state.engine.is_closed() {
        return Ok(false);
    }
    let taken = state.take_descriptor(fd, direction);
    let was_there = taken.is_some();
    end(py, taken)?;
    Ok(was_there)
}
