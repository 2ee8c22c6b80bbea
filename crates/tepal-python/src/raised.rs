//! Exceptions of layers, on their way to the protocol.
//!
//! A layer's exception goes along with the error that ends the connection. Errors are shared, and the
//! collector cannot look into them; an exception with its traceback refers to nearly everything. So
//! an error has its exception only until the transport is told, which takes it and keeps it where the
//! collector looks.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;
use tepal::layers::Error;

use crate::errors::exception;
use crate::object::{Ref, UnderGil};

/// The exception inside of a layer's error.
pub(crate) struct Raised {
    exception: UnderGil<Cell<Option<Ref>>>,
    text: String,
}

impl Raised {
    /// For [`Error::caused_by`].
    pub(crate) fn new(py: Python<'_>, error: PyErr) -> Arc<Raised> {
        let text = error.to_string();
        let exception = Ref::new(exception(py, error).into_bound(py).into_any());
        Arc::new(Raised { exception: UnderGil::new(Cell::new(Some(exception))), text })
    }

    /// The exception of an error, if it has one and nobody has taken it.
    pub(crate) fn take(py: Python<'_>, error: &Error) -> Option<Ref> {
        Raised::of(error)?.exception.get(py).take()
    }

    /// Whether it was an exception that made this error.
    pub(crate) fn is_source(error: &Error) -> bool {
        Raised::of(error).is_some()
    }

    /// Another reference to it.
    pub(crate) fn peek(py: Python<'_>, error: &Error) -> Option<Ref> {
        let place = Raised::of(error)?.exception.get(py);
        let exception = place.take()?;
        let another = exception.clone_ref(py);
        place.set(Some(exception));
        Some(another)
    }

    fn of(error: &Error) -> Option<&Raised> {
        StdError::source(error)?.downcast_ref()
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        Python::attach(|py| {
            let exception = self.exception.get(py).take();
            drop(exception);
        });
    }
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Raised").field(&self.text).finish()
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Raised {}
