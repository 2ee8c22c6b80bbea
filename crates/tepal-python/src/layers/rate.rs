//! Layers that watch what passes: rates, records, quiet.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};
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

/// `tap` is the `tepal.Tap`, which owns the spec: it is referred to weakly, as layers in Python are.
#[pyfunction]
fn spec_tap(tap: &Bound<'_, PyAny>, pcapng: bool) -> PyResult<Spec> {
    let tap = PyWeakrefReference::new(tap)?.unbind();
    // The pump runs inside the loop's run, which holds the GIL.
    let write = move |bytes: &[u8]| {
        Python::attach(|py| {
            let Some(tap) = tap.bind(py).upgrade() else { return };
            let written = tap
                .getattr(intern!(py, "sink"))
                .and_then(|sink| sink.call1((PyBytes::new(py, bytes),)));
            if let Err(error) = written {
                // A record that is lost must not cost the connection.
                error.write_unraisable(py, Some(&tap));
            }
        });
    };
    Ok(Spec::new(if pcapng { Tap::pcapng(write) } else { Tap::text(write) }))
}
