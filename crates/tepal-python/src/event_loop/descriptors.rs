//! Who waits for a descriptor: a reader and a writer, on one watcher of the engine. Each is a handle, or a
//! future that stands in its place once, for the loop's own operations on sockets.

use std::os::fd::RawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::Interest;
use tepal::engine::{Flow, WatchKey};
use tepal_driver::Descriptor;

use super::{Loop, State};
use crate::errors::os_error;
use crate::handle::HandleRef;
use crate::host::{Callback, PyEngine, PyHost};
use crate::object::Ref;

/// The two who wait for one descriptor.
pub(crate) struct FdHandles {
    key: WatchKey<PyHost>,
    reader: Option<Waiter>,
    writer: Option<Waiter>,
    // What was watched, if not a number: a socket that its owner has closed since is found by it.
    pub(super) file: Option<Ref>,
}

/// Who hears that a descriptor is ready.
pub(super) enum Waiter {
    /// Of `add_reader` or `add_writer`: each time.
    Handle(HandleRef),
    /// Of `_until_ready`: once.
    Future(Ref),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl State {
    /// Lends the engine the descriptor of a Python object, which stays the object's, for a transport:
    /// its number, and what the engine calls it. `is_open` is asked last, since `fileno` is the user's
    /// code, which may have opened the transport.
    ///
    /// Errors: the loop is closed; the object has no descriptor; the transport is open; the system's.
    pub(crate) fn lend(
        &self,
        owner: &Bound<'_, PyAny>,
        is_open: impl FnOnce() -> bool,
    ) -> PyResult<(RawFd, Descriptor)> {
        self.check_open()?;
        let fd: RawFd = owner.call_method0(intern!(owner.py(), "fileno"))?.extract()?;
        if is_open() {
            return Err(PyRuntimeError::new_err("this transport is open already"));
        }
        let lent = self.engine.with_driver(|driver| driver.borrow(fd));
        Ok((fd, lent.map_err(|error| os_error(&error))?))
    }
}

impl Direction {
    pub(super) fn of(writes: bool) -> Direction {
        if writes { Direction::Write } else { Direction::Read }
    }
}

impl FdHandles {
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.file.iter().try_for_each(|file| file.visit(visit))?;
        self.reader.iter().chain(&self.writer).try_for_each(|waiter| match waiter {
            Waiter::Handle(handle) => handle.visit(visit),
            Waiter::Future(future) => future.visit(visit),
        })
    }

    pub(super) fn place(&mut self, direction: Direction) -> &mut Option<Waiter> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    fn interest(&self) -> Interest {
        Interest { read: self.reader.is_some(), write: self.writer.is_some() }
    }

    // Watches for those who wait.
    fn arm(&self, engine: &PyEngine) -> std::io::Result<()> {
        let stays = |waiter: &Option<Waiter>| matches!(waiter, Some(Waiter::Handle(_)));
        if stays(&self.reader) || stays(&self.writer) {
            engine.watch_set(self.key, self.interest())
        } else {
            engine.watch_once(self.key, self.interest())
        }
    }
}

impl State {
    /// Returns who was there before.
    pub(super) fn set_descriptor(
        &self,
        fd: RawFd,
        direction: Direction,
        waiter: Waiter,
    ) -> std::io::Result<Option<Waiter>> {
        let host = self.host();
        let known = host.descriptors.borrow().contains_key(&fd);
        if !known {
            let key = self.engine.watch(fd, Callback::Descriptor(fd))?;
            let handles = FdHandles { key, reader: None, writer: None, file: None };
            host.descriptors.borrow_mut().insert(fd, handles);
        }
        let mut descriptors = host.descriptors.borrow_mut();
        let Some(handles) = descriptors.get_mut(&fd) else { return Ok(None) };
        let was_kept = known && handles.interest().is_none();
        let old = handles.place(direction).replace(waiter);
        let armed = handles.arm(&self.engine);
        let Err(error) = armed else { return Ok(old) };
        let waiter = handles.place(direction).take();
        let gone = match handles.interest().is_none() {
            true => descriptors.remove(&fd),
            false => {
                let _ = handles.arm(&self.engine);
                None
            }
        };
        drop(descriptors);
        if let Some(gone) = gone {
            self.engine.watch_remove(gone.key);
        }
        match waiter {
            // What was kept is of another file, or somebody else has that now.
            Some(waiter) if was_kept => self.set_descriptor(fd, direction, waiter),
            _ => Err(error),
        }
    }

    pub(super) fn take_descriptor(&self, fd: RawFd, direction: Direction) -> Option<Waiter> {
        self.host().take_waiter(&self.engine, fd, direction)
    }
}

impl PyHost {
    /// Tells those who wait for a descriptor that is ready.
    pub(crate) fn descriptor_ready(
        &self,
        engine: &PyEngine,
        py: Python<'_>,
        fd: RawFd,
        ready: Interest,
    ) -> Flow {
        if ready.read {
            self.direction_ready(engine, py, fd, Direction::Read)?;
        }
        // Looked up after the reader ran, which may have removed it.
        if ready.write {
            self.direction_ready(engine, py, fd, Direction::Write)?;
        }
        Flow::Continue(())
    }

    fn take_waiter(&self, engine: &PyEngine, fd: RawFd, direction: Direction) -> Option<Waiter> {
        let mut descriptors = self.descriptors.borrow_mut();
        let handles = descriptors.get_mut(&fd)?;
        let taken = handles.place(direction).take();
        if !handles.interest().is_none() {
            // Fails if its owner has closed it: then nothing is reported any more anyway.
            let _ = handles.arm(engine);
            return taken;
        }
        // Who reads will mostly read again.
        if direction == Direction::Write || !engine.watch_is_kept(handles.key) {
            let (key, gone) = (handles.key, descriptors.remove(&fd));
            drop(descriptors);
            drop(gone);
            engine.watch_remove(key);
        }
        taken
    }

    fn direction_ready(
        &self,
        engine: &PyEngine,
        py: Python<'_>,
        fd: RawFd,
        direction: Direction,
    ) -> Flow {
        let mut descriptors = self.descriptors.borrow_mut();
        let waiter = descriptors.get_mut(&fd).and_then(|handles| handles.place(direction).as_ref());
        let future = match waiter {
            Some(Waiter::Handle(handle)) => {
                let handle = handle.clone_ref(py);
                drop(descriptors);
                return self.run_handle(engine, py, &handle);
            }
            Some(Waiter::Future(future)) => future.clone_ref(py),
            None => return Flow::Continue(()),
        };
        drop(descriptors);
        let taken = self.take_waiter(engine, fd, direction);
        drop(taken);
        self.flow(finish(&future.bind(py)))
    }
}

/// Tells one that it hears no more. A future stays undone, as asyncio has it.
pub(super) fn end(py: Python<'_>, waiter: Option<Waiter>) -> PyResult<()> {
    match waiter {
        Some(Waiter::Handle(handle)) => Loop::cancel_handle(py, &handle),
        Some(Waiter::Future(_)) | None => Ok(()),
    }
}

// Unless it was cancelled meanwhile.
fn finish(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}
