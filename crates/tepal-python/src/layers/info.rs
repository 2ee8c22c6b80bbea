//! What layers tell, as Python sees it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use tepal::layers::{How, Info, ProxyRequest};

use crate::imports::imports;

/// How a layer left, of the word that [`How::as_str`] has for it.
pub(super) fn how_from(word: &Bound<'_, PyAny>) -> PyResult<How> {
    Ok(match word.extract::<&str>() {
        Ok("finished") => How::Finished,
        Ok("closed") => How::Closed,
        Ok("unconfirmed") => How::Unconfirmed,
        Ok("by_peer") => How::ByPeer,
        Ok("timed_out") => How::TimedOut,
        _ => {
            let text = format!(
                "step() must return None, 'finished', 'closed', 'unconfirmed', 'by_peer' or \
                 'timed_out', not {}",
                word.repr()?
            );
            return Err(PyValueError::new_err(text));
        }
    })
}

/// What a handshake found out; `None` if nothing.
pub(crate) fn info_to_python<'py>(py: Python<'py>, info: &Info) -> PyResult<Bound<'py, PyAny>> {
    let classes = imports(py).records.bind(py);
    match info {
        Info::Tls(tls) => {
            let certificates = tls.peer_certificates.iter().map(|der| PyBytes::new(py, der));
            let certificates = PyTuple::new(py, certificates)?;
            let alpn = tls.alpn.as_ref().map(|alpn| PyBytes::new(py, alpn));
            let arguments = (
                tls.version,
                tls.cipher.as_str(),
                alpn,
                tls.resumed,
                tls.server_name.as_deref(),
                certificates,
            );
            classes.call_method1(intern!(py, "TLSInfo"), arguments)
        }
        Info::Proxy(proxy) => {
            let address =
                |address: std::net::SocketAddr| (address.ip().to_string(), address.port());
            let (source, destination) = proxy.addresses.unzip();
            let tlvs = proxy.tlvs.iter().map(|(kind, value)| (*kind, PyBytes::new(py, value)));
            let tlvs = PyTuple::new(py, tlvs.collect::<Vec<_>>())?;
            let arguments = (proxy.version, source.map(address), destination.map(address), tlvs);
            classes.call_method1(intern!(py, "ProxyInfo"), arguments)
        }
        Info::Bound(host, port) | Info::Request(host, port) => {
            (host.to_string(), *port).into_bound_py_any(py)
        }
        Info::HttpStatus(status) => status.into_bound_py_any(py),
        Info::Detected(name) => (&**name).into_bound_py_any(py),
        _ => Ok(py.None().into_bound(py)),
    }
}

/// Where a client of a proxy layer wants to go: a `ProxyRequest`.
pub(crate) fn request_to_python<'py>(
    py: Python<'py>,
    request: &ProxyRequest,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = (request.host.to_string(), request.port, request.user.as_deref());
    imports(py).records.bind(py).call_method1(intern!(py, "ProxyRequest"), arguments)
}
