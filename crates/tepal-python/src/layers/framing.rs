//! Layers that make frames of bytes.

use pyo3::prelude::*;
use tepal::layers::{ByteOrder, Delimiter, LengthPrefixed, Lines, Netstrings};

use super::Spec;

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(spec_lines, module)?)?;
    module.add_function(wrap_pyfunction!(spec_delimiter, module)?)?;
    module.add_function(wrap_pyfunction!(spec_length_prefixed, module)?)?;
    module.add_function(wrap_pyfunction!(spec_netstrings, module)?)
}

#[pyfunction]
fn spec_lines(delimiter: &[u8], max_length: usize) -> Spec {
    Spec::new(Lines::new(max_length).delimiter(delimiter))
}

#[pyfunction]
fn spec_delimiter(delimiter: &[u8], max_length: usize) -> Spec {
    Spec::new(Delimiter::new(delimiter, max_length))
}

#[pyfunction]
fn spec_length_prefixed(width: usize, big: bool, max_length: usize) -> Spec {
    let order = if big { ByteOrder::Big } else { ByteOrder::Little };
    Spec::new(LengthPrefixed::new(max_length).width(width).byte_order(order))
}

#[pyfunction]
fn spec_netstrings(max_length: usize) -> Spec {
    Spec::new(Netstrings::new(max_length))
}
