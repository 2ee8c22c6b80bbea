//! Exceptions out of errors: the kernel's, layers', and the ends of connections.

use std::{fmt, io};

use pyo3::exceptions::{
    PyBaseException, PyBrokenPipeError, PyException, PyKeyboardInterrupt, PyOSError,
    PyRuntimeError, PySystemExit,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tepal::layers::{Error as LayerError, ErrorKind};
use tepal::{Address, Closed, Problem, ProblemCause};

use crate::address;
use crate::event_loop::gaierror;
use crate::imports::imports;
use crate::memory;
use crate::object::Ref;
use crate::raised::Raised;

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
            io::ErrorKind::BrokenPipe => PyBrokenPipeError::new_err(error.to_string()),
            _ => PyOSError::new_err(error.to_string()),
        },
    }
}

/// The exception of an error, made on the spot.
///
/// PyO3 lets go of the GIL for a moment when it makes one of an error that has none yet. At the very
/// end, when the interpreter collects what is left, taking it again would be a panic.
pub(crate) fn exception(py: Python<'_>, error: PyErr) -> Py<PyBaseException> {
    error.restore(py);
    PyErr::take(py).unwrap_or_else(crate::fastcall::panicked).into_value(py)
}

/// What asyncio lets out of `run_forever` at once.
pub(crate) fn leaves_run(py: Python<'_>, error: &PyErr) -> bool {
    // The common case first: one check of the type.
    !error.is_instance_of::<PyException>(py)
        && (error.is_instance_of::<PyKeyboardInterrupt>(py)
            || error.is_instance_of::<PySystemExit>(py))
}

/// What a closed loop says.
#[cold]
pub(crate) fn closed(forked: bool) -> PyErr {
    PyRuntimeError::new_err(if forked {
        "Event loop is closed: it is the parent process's; a forked child makes its own"
    } else {
        "Event loop is closed"
    })
}

/// How a connection ended, as Python's `tepal.Closed`. `raised` is the exception that its layer's error
/// had, if it was taken.
pub(crate) fn closed_record<'py>(
    py: Python<'py>,
    closed: &Closed,
    raised: Option<&Ref>,
) -> PyResult<Bound<'py, PyAny>> {
    let string = |text: &str| memory::string(py, text);
    let keywords = memory::dict(py)?;
    keywords.set_item(intern!(py, "clean"), closed.is_clean())?;
    keywords.set_item(intern!(py, "unsent"), closed.unsent)?;
    keywords.set_item(intern!(py, "unread"), closed.unread)?;
    if let Some(error) = &closed.error {
        keywords.set_item(intern!(py, "error"), exception(py, os_error(error)))?;
    }
    if let Some(half) = closed.half {
        keywords.set_item(intern!(py, "half"), string(&lower_name(&half))?)?;
    }
    if let Some(problem) = &closed.problem {
        keywords.set_item(intern!(py, "problem"), problem_to_python(py, problem, raised)?)?;
    }
    keywords.set_item(intern!(py, "layer"), closed.layer().map(string).transpose()?)?;
    if let Some(error) = &closed.layer_error {
        keywords.set_item(intern!(py, "layer_kind"), string(&kind_name(error.kind()))?)?;
        keywords.set_item(intern!(py, "fault"), string(&lower_name(&error.fault()))?)?;
        keywords.set_item(intern!(py, "code"), code_of(error.kind()))?;
    }
    let records = imports(py).records.bind(py);
    let arguments = (string(&snake_name(&closed.kind))?, string(&closed.to_string())?);
    records.call_method(intern!(py, "closed_record"), arguments, Some(&keywords))
}

/// Why a peer was not reached, or was lost, as Python's `tepal.Problem`.
pub(crate) fn problem_to_python<'py>(
    py: Python<'py>,
    problem: &Problem,
    raised: Option<&Ref>,
) -> PyResult<Bound<'py, PyAny>> {
    let records = imports(py).records.bind(py);
    let keywords = PyDict::new(py);
    keywords.set_item("layer", problem.layer)?;
    keywords.set_item("host", problem.host.as_deref())?;
    keywords.set_item("port", problem.port)?;
    let address = |address: &Address| address::to_python(py, address);
    keywords.set_item("address", problem.address.as_ref().map(address).transpose()?)?;
    keywords.set_item("local", problem.local.as_ref().map(address).transpose()?)?;
    keywords.set_item("label", problem.label.as_deref())?;
    if let Some(cause) = &problem.cause {
        keywords.set_item("cause", cause_to_python(py, cause, raised))?;
    }
    let mut attempts = Vec::new();
    for attempt in &problem.attempts {
        let error = attempt.error.as_ref().map(|error| exception(py, os_error(error)));
        let elapsed = attempt.elapsed.map(|elapsed| elapsed.as_secs_f64());
        attempts.push((address(&attempt.address)?, error, elapsed, attempt.layer));
    }
    keywords.set_item("attempts", attempts)?;
    keywords.set_item("elapsed", problem.elapsed.as_secs_f64())?;
    keywords.set_item("total", problem.total.map(|total| total.as_secs_f64()))?;
    keywords.set_item("attempt", problem.attempt)?;
    let arguments = (problem.phase.as_str(), snake_name(&problem.kind), problem.to_string());
    records.call_method(intern!(py, "problem_record"), arguments, Some(&keywords))
}

fn cause_to_python(py: Python<'_>, cause: &ProblemCause, raised: Option<&Ref>) -> Py<PyAny> {
    let error = match cause {
        ProblemCause::Io(error) => os_error(error),
        ProblemCause::Resolve(error) => gaierror(py, error),
        ProblemCause::Layer(error) => {
            let taken = || raised.filter(|_| Raised::is_source(error)).map(|r| r.clone_ref(py));
            match Raised::peek(py, error).or_else(taken) {
                Some(raised) => PyErr::from_value(raised.bind(py).to_owned()),
                None => error_of_layer(py, error),
            }
        }
        _ => PyOSError::new_err("unknown"),
    };
    exception(py, error).into_any()
}

/// What `connection_lost` is told; `None` for an end that is clean; `raised` is what a layer raised. The one place where the ends of
/// connections become exceptions; `tepal._errors` has the classes.
pub(crate) fn exception_of<'py>(
    py: Python<'py>,
    closed: &Closed,
    raised: Option<&Ref>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if closed.is_clean() {
        return Ok(None);
    }
    let record = closed_record(py, closed, raised)?;
    let records = imports(py).records.bind(py);
    let raised = raised.map(|raised| raised.bind(py));
    let error = records.call_method1(intern!(py, "exception_of"), (record, raised))?;
    Ok(Some(error).filter(|error| !error.is_none()))
}

/// What who asked a layer for something is told.
pub(crate) fn error_of_layer(py: Python<'_>, error: &LayerError) -> PyErr {
    let records = imports(py).records.bind(py);
    let arguments = (kind_name(error.kind()), error.to_string(), error.layer());
    match records.call_method1(intern!(py, "layer_exception"), arguments) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// The kind's name without what it carries: `TlsAlert(48)` gives `TlsAlert`.
fn kind_name(kind: ErrorKind) -> String {
    let name = format!("{kind:?}");
    name.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// The number that a kind carries.
fn code_of(kind: ErrorKind) -> Option<u32> {
    match kind {
        ErrorKind::TlsAlert(code) | ErrorKind::Socks4(code) | ErrorKind::Version(code) => {
            Some(code.into())
        }
        ErrorKind::HttpStatus(code) => Some(code.into()),
        ErrorKind::Socks5(reply) => Some(reply.code().into()),
        _ => None,
    }
}

fn lower_name(value: &dyn fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// `PeerEof` gives `peer_eof`.
fn snake_name(value: &dyn fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
