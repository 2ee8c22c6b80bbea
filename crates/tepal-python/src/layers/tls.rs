//! TLS.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;
use tepal::layers::{Certificate, CloseMode, PeerClose, Roots, Side, Tls};
use tepal::tls::KeyLogFile;

use super::{Spec, invalid};
use crate::errors::os_error;

pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyRoots>()?;
    module.add_class::<PyCertificate>()?;
    module.add_function(wrap_pyfunction!(spec_tls, module)?)
}

/// Certificates of authorities that are trusted.
#[pyclass(frozen, name = "Roots", module = "tepal._tepal")]
struct PyRoots(Roots);

#[pymethods]
impl PyRoots {
    /// Those in the bytes of a PEM file.
    #[new]
    fn new(pem: &[u8]) -> PyResult<PyRoots> {
        Roots::from_pem(pem).map(PyRoots).map_err(|error| invalid(&error))
    }

    /// Those that the platform trusts; read once per process.
    #[staticmethod]
    fn of_platform() -> PyResult<PyRoots> {
        let roots = tepal::tls::platform_roots();
        roots.map(PyRoots).map_err(|error| PyFileNotFoundError::new_err(error.to_string()))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// A certificate chain with its key.
#[pyclass(frozen, name = "Certificate", module = "tepal._tepal")]
struct PyCertificate(Certificate);

#[pymethods]
impl PyCertificate {
    /// Of the bytes of PEM files, which may be the same.
    #[new]
    fn new(chain: &[u8], key: &[u8]) -> PyResult<PyCertificate> {
        Certificate::from_pem(chain, key).map(PyCertificate).map_err(|error| invalid(&error))
    }
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one caller, which names them all")]
fn spec_tls(
    server_hostname: Option<String>,
    roots: Option<&Bound<'_, PyRoots>>,
    certificate: Option<&Bound<'_, PyCertificate>>,
    alpn: Vec<Vec<u8>>,
    client_roots: Option<&Bound<'_, PyRoots>>,
    resume: bool,
    keylog: Option<PathBuf>,
    server_side: Option<bool>,
    close: &str,
    peer_close: &str,
    accept_invalid: bool,
) -> PyResult<Spec> {
    let mut builder = Tls::builder().alpn(alpn).resume(resume);
    if let Some(name) = server_hostname {
        builder = builder.server_name(name);
    }
    if let Some(roots) = roots {
        builder = builder.roots(roots.get().0.clone());
    }
    if let Some(certificate) = certificate {
        builder = builder.certificate(certificate.get().0.clone());
    }
    if let Some(roots) = client_roots {
        builder = builder.client_roots(roots.get().0.clone());
    }
    if let Some(path) = keylog {
        let log = KeyLogFile::open(path).map_err(|error| os_error(&error))?;
        builder = builder.key_log(Arc::new(log));
    }
    if let Some(server) = server_side {
        builder = builder.side(if server { Side::Server } else { Side::Client });
    }
    if accept_invalid {
        builder = builder.danger_accept_invalid_certificates();
    }
    // The class has checked both words.
    builder = builder.close(match close {
        "none" => CloseMode::None,
        "notify" => CloseMode::Notify,
        _ => CloseMode::Wait,
    });
    builder = builder.peer_close(if peer_close == "pop" { PeerClose::Pop } else { PeerClose::End });
    builder.build().map(Spec::new).map_err(|error| invalid(&error))
}
