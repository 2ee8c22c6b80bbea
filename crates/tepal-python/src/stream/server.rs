//! asyncio's `Server`, which hears of its connections, since it waits for their end.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::transport::StreamTransport;
use crate::imports::imports;

/// Tells a server of a connection of its own.
pub(super) fn attach<'py>(
    server: &Bound<'py, PyAny>,
    transport: &Bound<'py, StreamTransport>,
) -> PyResult<()> {
    let py = server.py();
    // One of `listen` can say which they are.
    if let Some(clients) = server.getattr_opt(intern!(py, "_tepal_clients"))? {
        clients.call_method1(intern!(py, "add"), (transport,))?;
    }
    tell(server, intern!(py, "_attach"), transport)
}

/// Tells it of the connection's end.
pub(super) fn detach<'py>(
    server: &Bound<'py, PyAny>,
    transport: &Bound<'py, StreamTransport>,
) -> PyResult<()> {
    tell(server, intern!(server.py(), "_detach"), transport)
}

fn tell<'py>(
    server: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    transport: &Bound<'py, StreamTransport>,
) -> PyResult<()> {
    // 3.13's counts the transports themselves.
    if imports(server.py()).servers_know_transports {
        server.call_method1(name, (transport,)).map(drop)
    } else {
        server.call_method0(name).map(drop)
    }
}
