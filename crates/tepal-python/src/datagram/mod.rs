//! Datagram transports.

mod peers;
mod protocol;
mod send;
mod transport;

use pyo3::prelude::*;

pub(crate) use protocol::PyDatagramProtocol;
pub(crate) use transport::DatagramTransport;

/// Adds the class to the module.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DatagramTransport>()?;
    send::add_methods(&module.py().get_type::<DatagramTransport>())
}
