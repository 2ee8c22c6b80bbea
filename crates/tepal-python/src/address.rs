//! Socket addresses as Python's `socket` module writes them.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use tepal::Address;
use tepal_driver::UnixAddress;

/// The tuple, string or bytes that Python uses for this family.
pub(crate) fn to_python<'py>(py: Python<'py>, address: &Address) -> PyResult<Bound<'py, PyAny>> {
    match address {
        Address::Ip(SocketAddr::V4(address)) => {
            Ok((address.ip().to_string(), address.port()).into_pyobject(py)?.into_any())
        }
        Address::Ip(SocketAddr::V6(address)) => {
            let parts =
                (address.ip().to_string(), address.port(), address.flowinfo(), address.scope_id());
            Ok(parts.into_pyobject(py)?.into_any())
        }
        Address::Unix(UnixAddress::Path(path)) => {
            // The file system's encoding is what `os.fsdecode` uses.
            let bytes = PyBytes::new(py, path.as_os_str().as_bytes());
            py.import("os")?.call_method1("fsdecode", (bytes,))
        }
        Address::Unix(UnixAddress::Abstract(name)) => {
            let mut bytes = vec![0];
            bytes.extend_from_slice(name);
            Ok(PyBytes::new(py, &bytes).into_any())
        }
        Address::Unix(_) => Ok(PyString::new(py, "").into_any()),
        _ => Ok(PyTuple::empty(py).into_any()),
    }
}
