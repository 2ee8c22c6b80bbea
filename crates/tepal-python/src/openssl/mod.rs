//! TLS with an `ssl.SSLContext`: Python's own `ssl` module does the cryptography.
//!
//! | module | what lives there |
//! |---|---|
//! | `session` | one TLS session without a socket: an `ssl.SSLObject`, driven directly where it can be |
//! | `library`, `wire` | the direct way: OpenSSL's functions, and what its `SSL` reads and writes |
//! | `transport`, `flow`, `incoming`, `outgoing`, `ending` | `ssl=` and `start_tls`: the transport over another transport, as asyncio has it |
//! | `layer` | `tepal.OpenSSL`: the same session as a layer of a stack |
//!
//! See docs/design/openssl.md for the reasons.

mod ending;
mod flow;
mod incoming;
mod layer;
mod library;
mod outgoing;
mod session;
mod transport;
mod wire;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

pub(crate) use transport::SslTransport;

/// Adds the classes to the module.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SslTransport>()?;
    module.add_function(wrap_pyfunction!(layer::spec_openssl, module)?)?;
    module.add_function(wrap_pyfunction!(_openssl_direct, module)?)?;
    outgoing::add_methods(&module.py().get_type::<SslTransport>())
}

/// Whether sessions that begin from now on may call OpenSSL directly. Returns whether they can.
#[pyfunction]
fn _openssl_direct(py: Python<'_>, allowed: bool) -> bool {
    library::prefer_direct(py, allowed)
}

/// Exceptions of the module `ssl`.
struct Classes {
    error: Py<PyAny>,
    want_read: Py<PyAny>,
    syscall: Py<PyAny>,
    zero_return: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

impl Classes {
    /// Whether `error` is of the class that `which` takes. Where the program has made the module
    /// unusable, nothing is.
    fn has(py: Python<'_>, error: &PyErr, which: fn(&Classes) -> &Py<PyAny>) -> bool {
        classes(py).is_ok_and(|classes| error.is_instance(py, which(classes).bind(py)))
    }
}

fn classes(py: Python<'_>) -> PyResult<&'static Classes> {
    let load = || -> PyResult<Classes> {
        let ssl = py.import(intern!(py, "ssl"))?;
        Ok(Classes {
            error: ssl.getattr(intern!(py, "SSLError"))?.unbind(),
            want_read: ssl.getattr(intern!(py, "SSLWantReadError"))?.unbind(),
            zero_return: ssl.getattr(intern!(py, "SSLZeroReturnError"))?.unbind(),
            syscall: ssl.getattr(intern!(py, "SSLSyscallError"))?.unbind(),
        })
    };
    CLASSES.get_or_try_init(py, load)
}
