//! How a transport begins on a descriptor that Python made.

use pyo3::prelude::*;
use tepal::StreamOptions;
use tepal_driver::Descriptor;

use super::protocol::PyStreamProtocol;
use super::server;
use super::transport::{Links, StreamTransport};
use crate::event_loop::{Loop, State};
use crate::object::Ref;

/// What a transport is opened with.
pub(super) struct Opening<'py> {
    /// Whose descriptor it is.
    pub(super) sock: Bound<'py, PyAny>,
    pub(super) protocol: Bound<'py, PyAny>,
    pub(super) context: Bound<'py, PyAny>,
    pub(super) waiter: Option<Bound<'py, PyAny>>,
    pub(super) server: Option<Bound<'py, PyAny>>,
}

impl StreamTransport {
    /// Starts the transport on the descriptor of `opening.sock`, which stays its owner's.
    pub(super) fn begin(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, Loop>,
        opening: Opening<'_>,
        options: StreamOptions,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = event_loop.get().state(py)?;
        let inner = slf.get().inner.get(py);
        let (fd, descriptor) = state.lend(&opening.sock, || inner.key.get().is_some())?;
        inner.adopt(&opening.protocol)?;
        let links = Links {
            event_loop: Some(Ref::new(event_loop.clone().into_any())),
            protocol: Some(Ref::new(opening.protocol)),
            context: Some(Ref::new(opening.context)),
            sock: Some(Ref::new(opening.sock)),
            server: opening.server.as_ref().map(|server| Ref::new(server.clone())),
            waiter: opening.waiter.map(Ref::new),
            ..Links::default()
        };
        let old = inner.links.replace(links);
        drop(old);
        StreamTransport::start(slf, state, descriptor, fd, options);
        opening.server.map_or(Ok(()), |server| server::attach(&server, slf))
    }

    /// Gives the engine a descriptor of a transport that has its links.
    pub(super) fn start(
        slf: &Bound<'_, Self>,
        state: &State,
        descriptor: Descriptor,
        fd: i32,
        options: StreamOptions,
    ) {
        let inner = slf.get().inner.get(slf.py());
        inner.fd.set(fd);
        state.host().transport_fds.borrow_mut().insert(fd);
        let protocol = PyStreamProtocol::new(slf.clone());
        inner.key.set(Some(state.engine.stream(descriptor, protocol, options)));
    }
}
