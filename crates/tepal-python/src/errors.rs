use std::io;

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit};
use pyo3::prelude::*;

/// The Python exception for an error of the engine's or the kernel's: `OSError`, of the subclass
/// that belongs to its errno.
pub(crate) fn os_error(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => {
            let text = error.to_string();
            // Rust appends the number.
            let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
            PyOSError::new_err((errno, text))
        }
        None => match error.kind() {
            io::ErrorKind::ResourceBusy | io::ErrorKind::AlreadyExists => {
                PyRuntimeError::new_err(error.to_string())
            }
            _ => PyOSError::new_err(error.to_string()),
        },
    }
}

/// What asyncio lets out of `run_forever` at once.
pub(crate) fn leaves_run(py: Python<'_>, error: &PyErr) -> bool {
    // The common case first: one check of the type.
    !error.is_instance_of::<PyException>(py)
        && (error.is_instance_of::<PyKeyboardInterrupt>(py)
            || error.is_instance_of::<PySystemExit>(py))
}

pub(crate) fn closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}
