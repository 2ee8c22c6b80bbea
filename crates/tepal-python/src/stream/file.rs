//! Sending files without reading them.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use pyo3::exceptions::{PyConnectionAbortedError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::engine::{FileCut, Flow, Outcome};
use tepal_driver::Descriptor;

use super::transport::StreamTransport;
use crate::errors::{exception, os_error};
use crate::host::{Completion, PyEngine};
use crate::imports::imports;
use crate::object::Ref;

#[pymethods]
impl StreamTransport {
    /// Sends `count` bytes of a file from `offset` on, behind what was written. `fd` becomes ours. The
    /// future's result is how many bytes the kernel took. The value is for `_cut_file`.
    fn _send_file(
        &self,
        py: Python<'_>,
        fd: i32,
        offset: u64,
        count: u64,
        future: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        if fd < 0 {
            return Err(PyValueError::new_err("the file is closed"));
        }
        // SAFETY: the caller gives us a descriptor of its own (`os.dup`) and forgets it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (Some(state), Some(key)) = (self.state(py), self.inner.get(py).key.get()) else {
            return Err(PyRuntimeError::new_err("the transport is closed"));
        };
        let file = state
            .engine
            .with_driver(|driver| driver.adopt(fd))
            .map_err(|error| os_error(&error))?;
        let end: Box<dyn Completion> = Box::new(FileEnd { future: Ref::new(future) });
        match state.engine.stream_send_file(key, file, offset, count, end) {
            Ok(()) => Ok(file.to_bits()),
            Err((error, end)) => {
                drop(end);
                Err(PyConnectionAbortedError::new_err(error.to_string()))
            }
        }
    }

    /// Sends no more of a file. Returns how many of its bytes have left; None if it is through.
    fn _cut_file(&self, py: Python<'_>, file: u64) -> Option<u64> {
        let state = self.state(py)?;
        let key = self.inner.get(py).key.get()?;
        state.engine.stream_cut_file(key, Descriptor::from_bits(file))
    }
}

/// The future of a file that is being sent.
struct FileEnd {
    future: Ref,
}

impl Completion for FileEnd {
    fn complete(self: Box<Self>, py: Python<'_>, engine: &PyEngine, outcome: Outcome) -> Flow {
        let transports = imports(py).transports.bind(py);
        let future = self.future.bind(py);
        let told = match outcome {
            Outcome::FileSent(Ok(count)) => {
                transports.call_method1(intern!(py, "file_sent"), (future, count, py.None(), false))
            }
            Outcome::FileSent(Err(error)) => {
                let cut = error.get_ref().and_then(|inner| inner.downcast_ref::<FileCut>());
                let (sent, error) = match cut {
                    Some(cut) => (cut.sent, &cut.source),
                    None => (0, &error),
                };
                let unsupported = error.kind() == io::ErrorKind::Unsupported;
                let error = match error.kind() {
                    io::ErrorKind::ConnectionAborted if error.raw_os_error().is_none() => {
                        PyConnectionAbortedError::new_err(error.to_string())
                    }
                    _ => os_error(error),
                };
                let arguments = (future, sent, exception(py, error), unsupported);
                transports.call_method1(intern!(py, "file_sent"), arguments)
            }
            _ => return Flow::Continue(()),
        };
        engine.host().flow(told.map(drop))
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.visit(visit)
    }
}
