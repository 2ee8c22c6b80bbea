//! The layer that chooses a stack by the first bytes.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tepal::layers::Detect;

use super::{Spec, stack_of};

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(spec_detect, module)?)
}

/// Each choice: its name, its test, what the test compares with, and the specs of its stack. The
/// words are those of `tepal.Detect`'s methods, which have checked them.
type Choice<'py> = (String, String, Vec<u8>, Bound<'py, PyAny>);

#[pyfunction]
fn spec_detect(choices: Vec<Choice<'_>>) -> PyResult<Spec> {
    let mut detect = Detect::new();
    for (name, test, value, specs) in choices {
        let stack = stack_of(&specs)?;
        detect = match test.as_str() {
            "tls" => detect.tls(name, stack),
            "sni" => {
                let host = String::from_utf8(value)
                    .map_err(|_| PyValueError::new_err("a host's name is text"))?;
                detect.sni(name, &host, stack)
            }
            "alpn" => detect.alpn(name, &value, stack),
            "prefix" => detect.prefix(name, &value, stack),
            _ => detect.otherwise(name, stack),
        };
    }
    Ok(Spec::new(detect))
}
