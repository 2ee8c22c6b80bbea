//! What `get_extra_info` tells.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::transport::StreamTransport;
use crate::object::Ref;

#[pymethods]
impl StreamTransport {
    /// Facts about the connection: "socket", "sockname", "peername", and what layers add.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let known = slf.getattr(intern!(py, "_extra"))?;
        let known = known.cast::<PyDict>().ok();
        if let Some(fact) = known.map(|known| known.get_item(name)).transpose()?.flatten() {
            return Ok(fact);
        }
        let name = match name.cast::<PyString>().ok().and_then(|name| name.to_str().ok()) {
            Some("socket") => return StreamTransport::tell_socket(slf, name, default),
            Some("sockname" | "peername") => {
                return slf.call_method1(intern!(py, "_find_fact"), (name, default));
            }
            Some(name) => name,
            None => return name.hash().map(|_| default),
        };
        // What layers add may change: they come and go.
        let fact = layer_fact(slf, name)?;
        Ok(if fact.is_none() { default } else { fact })
    }

    /// The peer that accept() told, once; or who is at the other end of a connection we made.
    fn _take_peer(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let inner = self.inner.get(py);
        let told = inner.peer.take().address();
        let peer = match (told, self.state(py), inner.key.get()) {
            (Some(peer), _, _) => Some(peer),
            (None, Some(state), Some(key)) => state
                .engine
                .stream_descriptor(key)
                .and_then(|socket| state.engine.with_driver(|d| d.peer_address(socket)).ok()),
            _ => None,
        };
        peer.map(|peer| crate::address::to_python(py, &peer).map(Bound::unbind)).transpose()
    }

    /// Our own address; also after the end.
    fn _take_local(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let inner = self.inner.get(py);
        let kept = inner.local.take();
        let local = match (kept, self.state(py), inner.key.get()) {
            (Some(local), _, _) => Some(*local),
            (None, Some(state), Some(key)) => state
                .engine
                .stream_descriptor(key)
                .and_then(|socket| state.engine.with_driver(|d| d.local_address(socket)).ok()),
            _ => None,
        };
        local.map(|local| crate::address::to_python(py, &local).map(Bound::unbind)).transpose()
    }
}

impl StreamTransport {
    // The same object, as long as somebody keeps it.
    fn tell_socket<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        let known = inner.links.borrow().sock_told.as_ref().map(|told| told.bind(py).to_owned());
        if let Some(known) = known {
            return Ok(known);
        }
        let fact = slf.call_method1(intern!(py, "_find_fact"), (name, &default))?;
        if !fact.is(&default) {
            let old = inner.links.borrow_mut().sock_told.replace(Ref::new(fact.clone()));
            drop(old);
        }
        Ok(fact)
    }
}

// What `get_extra_info` tells of layers; None of what is no name of one.
fn layer_fact<'py>(
    transport: &Bound<'py, StreamTransport>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let (this, py) = (transport.get(), transport.py());
    let tls = this.layer_info(py, "tls")?;
    match name {
        "tls" => Ok(tls),
        _ if tls.is_none() => this.layer_info(py, name),
        "alpn" => tls.getattr("alpn"),
        "cipher" | "compression" | "peercert" | "ssl_object" | "sslcontext" => {
            transport.call_method1(intern!(py, "_tls_fact"), (name, tls))
        }
        _ => this.layer_info(py, name),
    }
}
