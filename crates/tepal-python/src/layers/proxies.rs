//! Layers that speak with proxies.

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use tepal::layers::{HttpConnect, HttpConnectServer, ProxyHeader, Socks4, Socks5, SocksServer};

use super::{Spec, invalid};

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(spec_socks5, module)?)?;
    module.add_function(wrap_pyfunction!(spec_socks4, module)?)?;
    module.add_function(wrap_pyfunction!(spec_http_connect, module)?)?;
    module.add_function(wrap_pyfunction!(spec_proxy_header, module)?)?;
    module.add_function(wrap_pyfunction!(spec_socks_server, module)?)?;
    module.add_function(wrap_pyfunction!(spec_http_connect_server, module)?)
}

#[pyfunction]
fn spec_socks5(host: &str, port: u16, credentials: Option<(String, String)>) -> PyResult<Spec> {
    let socks = Socks5::new(host, port).map_err(|error| invalid(&error))?;
    let socks = match credentials {
        Some((username, password)) => {
            socks.credentials(&username, &password).map_err(|error| invalid(&error))?
        }
        None => socks,
    };
    Ok(Spec::new(socks))
}

#[pyfunction]
fn spec_socks4(host: &str, port: u16, user_id: &str) -> PyResult<Spec> {
    let socks = Socks4::new(host, port).and_then(|socks| socks.user_id(user_id));
    Ok(Spec::new(socks.map_err(|error| invalid(&error))?))
}

#[pyfunction]
fn spec_http_connect(
    host: &str,
    port: u16,
    credentials: Option<(String, String)>,
    headers: Vec<(String, String)>,
) -> PyResult<Spec> {
    let mut connect = HttpConnect::new(host, port).map_err(|error| invalid(&error))?;
    if let Some((username, password)) = credentials {
        connect = connect.credentials(&username, &password).map_err(|error| invalid(&error))?;
    }
    for (name, value) in headers {
        connect = connect.header(&name, &value).map_err(|error| invalid(&error))?;
    }
    Ok(Spec::new(connect))
}

#[pyfunction]
fn spec_proxy_header(version: u8, trusted: Vec<String>) -> PyResult<Spec> {
    let mut header = ProxyHeader::new();
    if version == 1 {
        header = header.version_1();
    }
    for network in trusted {
        header = header.trust(&network).map_err(|error| invalid(&error))?;
    }
    Ok(Spec::new(header))
}

/// `value` is the `tepal.SocksServer`, which owns the spec; it is referred to weakly.
#[pyfunction]
fn spec_socks_server(value: &Bound<'_, PyAny>) -> PyResult<Spec> {
    let server = SocksServer::new();
    if value.getattr("auth")?.is_none() {
        return Ok(Spec::new(server));
    }
    let value = PyWeakrefReference::new(value)?.unbind();
    Ok(Spec::new(server.auth(move |username, password| is_good(&value, username, password))))
}

/// As above, for the `tepal.HTTPConnectServer`.
#[pyfunction]
fn spec_http_connect_server(value: &Bound<'_, PyAny>) -> PyResult<Spec> {
    let server = HttpConnectServer::new();
    if value.getattr("auth")?.is_none() {
        return Ok(Spec::new(server));
    }
    let value = PyWeakrefReference::new(value)?.unbind();
    Ok(Spec::new(server.auth(move |username, password| is_good(&value, username, password))))
}

// Asks the user's function, on the loop's thread. One that raises lets nobody in.
fn is_good(value: &Py<PyWeakrefReference>, username: &str, password: &str) -> bool {
    Python::attach(|py| {
        let Some(value) = value.bind(py).upgrade() else { return false };
        let good = value.call_method1("auth", (username, password)).and_then(|g| g.is_truthy());
        good.unwrap_or_else(|error| {
            error.write_unraisable(py, Some(&value));
            false
        })
    })
}
