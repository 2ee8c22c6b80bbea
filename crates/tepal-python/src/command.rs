//! The command `tepal`, for the script that an installation of the package makes.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command with these arguments, without the GIL, and returns its exit status.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| tepal_cli::run(arguments))
}
