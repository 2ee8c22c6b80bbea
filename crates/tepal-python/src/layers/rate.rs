//! Layers that watch what passes: rates, records, quiet.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tepal::layers::{Group, Idle, RateLimit, Tap};

use super::Spec;

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyGroup>()?;
    module.add_function(wrap_pyfunction!(spec_rate, module)?)?;
    module.add_function(wrap_pyfunction!(spec_idle, module)?)?;
    module.add_function(wrap_pyfunction!(spec_tap, module)?)
}

/// The native half of `tepal.RateGroup`.
#[pyclass(frozen, name = "RateGroup", module = "tepal._tepal")]
struct PyGroup(Group);

#[pymethods]
impl PyGroup {
    #[new]
    fn new(read: Option<u64>, write: Option<u64>) -> PyGroup {
        let group = read.into_iter().fold(Group::new(), Group::read);
        PyGroup(write.into_iter().fold(group, Group::write))
    }
}

#[pyfunction]
fn spec_rate(
    read: Option<u64>,
    write: Option<u64>,
    burst: Option<u64>,
    group: Option<&Bound<'_, PyGroup>>,
) -> Spec {
    let limit = read.into_iter().fold(RateLimit::new(), RateLimit::read);
    let limit = write.into_iter().fold(limit, RateLimit::write);
    let limit = burst.into_iter().fold(limit, RateLimit::burst);
    Spec::new(group.into_iter().fold(limit, |limit, group| limit.group(&group.get().0)))
}

#[pyfunction]
fn spec_idle(after: f64) -> Spec {
    Spec::new(Idle::new(Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX)))
}

#[pyfunction]
fn spec_tap(sink: Py<PyAny>, pcapng: bool) -> Spec {
    // The pump runs inside the loop's run, which holds the GIL.
    let write = move |bytes: &[u8]| {
        Python::attach(|py| {
            if let Err(error) = sink.bind(py).call1((PyBytes::new(py, bytes),)) {
                // A record that is lost must not cost the connection.
                error.write_unraisable(py, Some(sink.bind(py)));
            }
        });
    };
    Spec::new(if pcapng { Tap::pcapng(write) } else { Tap::text(write) })
}
