//! Socket addresses as Python's `socket` module writes them.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

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

/// The address that a Python object means without any resolving: a tuple with a literal IP address,
/// or the path of a Unix socket. `None`: it may mean one that has to be looked up.
pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Option<Address>> {
    if let Ok(path) = object.cast::<PyString>() {
        let bytes = object.py().import("os")?.call_method1("fsencode", (path,))?;
        return Ok(Some(unix(bytes.cast::<PyBytes>()?.as_bytes())));
    }
    if let Ok(path) = object.cast::<PyBytes>() {
        return Ok(Some(unix(path.as_bytes())));
    }
    let Ok(parts) = object.cast::<PyTuple>() else { return Ok(None) };
    let (Ok(host), Ok(port)) = (parts.get_item(0), parts.get_item(1)) else { return Ok(None) };
    let (Ok(host), Ok(port)) = (host.cast::<PyString>(), port.extract::<u16>()) else {
        return Ok(None);
    };
    let number = |index: usize| parts.get_item(index).ok().and_then(|n| n.extract::<u32>().ok());
    match (host.to_str()?.parse::<IpAddr>(), parts.len()) {
        (Ok(ip @ IpAddr::V4(_)), 2) => Ok(Some(Address::Ip(SocketAddr::new(ip, port)))),
        (Ok(IpAddr::V6(ip)), 2..=4) => {
            let (flow, scope) = (number(2).unwrap_or(0), number(3).unwrap_or(0));
            Ok(Some(Address::Ip(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope)))))
        }
        _ => Ok(None),
    }
}

fn unix(path: &[u8]) -> Address {
    match path {
        [] => Address::Unix(UnixAddress::Unnamed),
        [0, name @ ..] => Address::Unix(UnixAddress::Abstract(name.into())),
        path => Address::unix(std::ffi::OsString::from_vec(path.to_vec())),
    }
}
