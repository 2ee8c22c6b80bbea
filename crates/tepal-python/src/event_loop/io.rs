//! `add_reader` and `add_writer`: two handles on one watcher of the engine.

use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::Interest;
use tepal::engine::{Flow, WatchKey};

use super::{Loop, State};
use crate::errors::os_error;
use crate::handle::{HandleRef, Parts};
use crate::host::{Callback, PyEngine, PyHost};
use crate::object::Ref;

/// The two handles of one descriptor.
pub(crate) struct FdHandles {
    key: WatchKey<PyHost>,
    reader: Option<HandleRef>,
    writer: Option<HandleRef>,
    // What was watched, if not a number: a socket that its owner has closed since is found by it.
    file: Option<Ref>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl FdHandles {
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.file.iter().try_for_each(|file| file.visit(visit))?;
        self.reader.iter().chain(&self.writer).try_for_each(|handle| handle.visit(visit))
    }

    fn place(&mut self, direction: Direction) -> &mut Option<HandleRef> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    fn interest(&self) -> Interest {
        Interest { read: self.reader.is_some(), write: self.writer.is_some() }
    }
}

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
    let fd = if object.is_instance_of::<pyo3::types::PyInt>() {
        object.extract::<RawFd>()
    } else {
        let py = object.py();
        match object.getattr(intern!(py, "fileno")) {
            Ok(fileno) => fileno.call0()?.extract::<RawFd>(),
            Err(_) => return Err(invalid(object)),
        }
    };
    match fd {
        Ok(fd) if fd >= 0 => Ok(fd),
        Ok(fd) => Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}"))),
        Err(_) => Err(invalid(object)),
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
    let old = state.set_descriptor(fd, direction, handle.clone_ref(py));
    if let Some(old) = old.map_err(|error| os_error(&error))? {
        Loop::cancel_handle(py, &old)?;
    }
    // SAFETY: the handle's reference moves over.
    Ok(unsafe { Bound::from_owned_ptr(py, handle.into_ptr()) }.unbind())
}

fn remove(lp: &Bound<'_, Loop>, fd: RawFd, direction: Direction) -> PyResult<bool> {
    let py = lp.py();
    let state = lp.get().state(py)?;
    if state.engine.is_closed() {
        return Ok(false);
    }
    match state.take_descriptor(fd, direction) {
        Some(handle) => Loop::cancel_handle(py, &handle).map(|()| true),
        None => Ok(false),
    }
}

impl State {
    // Returns the handle that was set before.
    fn set_descriptor(
        &self,
        fd: RawFd,
        direction: Direction,
        handle: HandleRef,
    ) -> std::io::Result<Option<HandleRef>> {
        let host = self.host();
        let known = host.descriptors.borrow().get(&fd).map(|handles| handles.key);
        let key = match known {
            Some(key) => key,
            None => {
                let key = self.engine.watch(fd, Callback::Descriptor(fd))?;
                let handles = FdHandles { key, reader: None, writer: None, file: None };
                host.descriptors.borrow_mut().insert(fd, handles);
                key
            }
        };
        let mut descriptors = host.descriptors.borrow_mut();
        let handles = descriptors.entry(fd).or_insert(FdHandles {
            key,
            reader: None,
            writer: None,
            file: None,
        });
        let old = handles.place(direction).replace(handle);
        let interest = handles.interest();
        drop(descriptors);
        match self.engine.watch_set(key, interest) {
            Ok(()) => Ok(old),
            Err(error) => {
                let unused = self.take_descriptor(fd, direction);
                drop(unused);
                Err(error)
            }
        }
    }

    fn take_descriptor(&self, fd: RawFd, direction: Direction) -> Option<HandleRef> {
        let mut descriptors = self.host().descriptors.borrow_mut();
        let handles = descriptors.get_mut(&fd)?;
        let taken = handles.place(direction).take();
        let (key, interest) = (handles.key, handles.interest());
        if interest.is_none() {
            let gone = descriptors.remove(&fd);
            drop(descriptors);
            drop(gone);
            self.engine.watch_remove(key);
        } else {
            drop(descriptors);
            // The descriptor was closed by its owner: then nothing is reported any more anyway.
            let _ = self.engine.watch_set(key, interest);
        }
        taken
    }
}

impl PyHost {
    /// Runs the handles of a descriptor that is ready.
    pub(crate) fn descriptor_ready(
        &self,
        engine: &PyEngine,
        py: Python<'_>,
        fd: RawFd,
        ready: Interest,
    ) -> Flow {
        let handle = |wanted: bool, direction: Direction| {
            let mut descriptors = self.descriptors.borrow_mut();
            let handles = descriptors.get_mut(&fd).filter(|_| wanted)?;
            handles.place(direction).as_ref().map(|handle| handle.clone_ref(py))
        };
        if let Some(reader) = handle(ready.read, Direction::Read) {
            self.run_handle(engine, py, &reader)?;
        }
        // Looked up after the reader ran, which may have removed it.
        if let Some(writer) = handle(ready.write, Direction::Write) {
            self.run_handle(engine, py, &writer)?;
        }
        Flow::Continue(())
    }
}
