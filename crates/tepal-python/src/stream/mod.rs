//! Stream transports, their protocols, and the listeners that accept them.
//!
//! [`StreamTransport`] is the native half of the class that Python sees; `tepal._transports` derives
//! from it and adds what is not on a hot path. While a connection lives, the engine owns a
//! [`PyStreamProtocol`], which refers to the transport, which refers to the user's protocol: so the
//! loop keeps open transports alive, and the collector sees the whole chain.

mod callbacks;
mod calling;
mod dial;
mod facts;
mod file;
mod hooks;
mod listener;
mod manner;
mod opening;
mod peer;
mod pipe;
mod protocol;
mod reach;
mod reader;
mod server;
mod stack;
mod target;
mod transport;
mod write;

use pyo3::prelude::*;

pub(crate) use calling::{call_method, call_method2, consumed, in_context, tell_waiter, watched};
pub(crate) use listener::PyFactory;
pub(crate) use manner::Manner;
pub(crate) use protocol::PyStreamProtocol;
pub(crate) use reader::feed as feed_reader;
pub(crate) use transport::{StreamTransport, write_limits};
pub(crate) use write::{Readable, flush, send};

/// Adds the classes to the module.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StreamTransport>()?;
    module.add_class::<listener::Listener>()?;
    write::add_methods(&module.py().get_type::<StreamTransport>())
}
