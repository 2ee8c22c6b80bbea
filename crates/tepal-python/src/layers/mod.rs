//! Recipes for layers, as Python hands them over.
//!
//! The classes that users see (`tepal.TLS`, `tepal.Socks5`) are Python, in `tepal._layers`: they
//! check their arguments and keep them. Each holds one [`Spec`], which is made here once and shared
//! by all connections that use it, so that what belongs to a spec (a TLS configuration and its
//! sessions, the debt of a rate group) lives as long as the value does.

mod detect;
mod framing;
mod info;
mod proxies;
mod python;
mod rate;
mod tls;
mod view;

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use tepal::layers::Error;
use tepal::{LayerSpec, Stack};

use info::how_from;
pub(crate) use info::{info_to_python, request_to_python};
pub(crate) use python::{PyLayers, with_engine};

/// The native half of a layer's recipe.
#[pyclass(frozen, name = "Spec", module = "tepal._tepal")]
pub(crate) struct Spec(Arc<dyn LayerSpec>);

#[pymethods]
impl Spec {
    /// The command name of the layers it builds.
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Spec {
    pub(crate) fn new(spec: impl LayerSpec + 'static) -> Spec {
        Spec(Arc::new(spec))
    }

    /// The recipe, shared with the Python value.
    pub(crate) fn shared(&self) -> Arc<dyn LayerSpec> {
        Arc::clone(&self.0)
    }
}

/// The stack of a sequence of [`Spec`]s, from the wire upward.
pub(crate) fn stack_of(specs: &Bound<'_, PyAny>) -> PyResult<Stack> {
    let mut stack = Stack::new();
    for spec in specs.try_iter()? {
        let spec = spec?;
        let Ok(spec) = spec.cast::<Spec>() else {
            let text = format!("a native layer spec is expected, not {}", spec.get_type().name()?);
            return Err(PyTypeError::new_err(text));
        };
        stack = stack.with_shared(spec.get().shared());
    }
    Ok(stack)
}

/// A setting that a spec does not take.
fn invalid(error: &Error) -> PyErr {
    PyValueError::new_err(error.message().to_owned())
}

/// Adds the functions that make specs.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Spec>()?;
    detect::add(module)?;
    framing::add(module)?;
    proxies::add(module)?;
    python::add(module)?;
    rate::add(module)?;
    tls::add(module)
}
