//! A stream transport over one end of a pipe, as asyncio's pipe transports are.
//!
//! It differs from a connection in what costs it its life: a protocol that raises is reported, and
//! the pipe goes on; input that ends closes it, whatever `eof_received` says; and of the write end
//! nothing is ever read.

use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::{Borrowed, intern};
use tepal::{Closed, Reads};
use tepal_driver::Half;

use super::opening::Opening;
use super::transport::{StreamTransport, options};
use crate::event_loop::Loop;
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;

/// What the descriptor of a transport is to it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Role {
    /// Both directions of a connection.
    #[default]
    Connection,
    /// The read end of a pipe.
    ReadEnd,
    /// The write end of a pipe.
    WriteEnd,
}

#[pymethods]
impl StreamTransport {
    /// Starts the transport on one end of a pipe. `watched`: it is a write end whose reader's leaving
    /// the kernel tells.
    #[pyo3(signature = (event_loop, pipe, protocol, context, waiter, writes, watched))]
    #[allow(clippy::too_many_arguments, reason = "two callers, which name them")]
    fn _open_pipe(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, Loop>,
        pipe: Bound<'_, PyAny>,
        protocol: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
        waiter: Option<Bound<'_, PyAny>>,
        writes: bool,
        watched: bool,
    ) -> PyResult<()> {
        let inner = slf.get().inner.get(slf.py());
        inner.role.set(if writes { Role::WriteEnd } else { Role::ReadEnd });
        let mut options = options();
        options.reads = match (writes, watched) {
            (false, _) => Reads::Bytes,
            (true, true) => Reads::Gone,
            (true, false) => Reads::Nothing,
        };
        let opening = Opening { sock: pipe, protocol, context, waiter, server: None };
        StreamTransport::begin(slf, event_loop, opening, options)
    }

    /// Another transport reads the same pipe from now on.
    fn _leave_reading(&self, py: Python<'_>) {
        if let (Some(state), Some(key)) = (self.state(py), self.inner.get(py).key.get()) {
            state.engine.stream_pause_reading(key, true);
        }
    }
}

/// What `write` raises for something that is no bytes.
#[cold]
pub(super) fn no_bytes(
    transport: Borrowed<'_, '_, StreamTransport>,
    data: Borrowed<'_, '_, PyAny>,
    error: PyErr,
) -> PyErr {
    let py = transport.py();
    let is_type = error.is_instance_of::<pyo3::exceptions::PyTypeError>(py);
    if !is_type || transport.get().inner.get(py).role.get() != Role::WriteEnd {
        return error;
    }
    // asyncio's pipes assert it.
    match data.repr() {
        Ok(shown) => PyAssertionError::new_err(shown.unbind()),
        Err(error) => error,
    }
}

/// The kernel's error ends a pipe: asyncio's pipes tell the loop of most of those met in reading.
#[cold]
pub(super) fn tell_failure(
    engine: &PyEngine,
    transport: Borrowed<'_, '_, StreamTransport>,
    closed: &Closed,
    exc: &Bound<'_, PyAny>,
) {
    let py = transport.py();
    let wrote = closed.half == Some(Half::Write);
    if wrote && closed.error.as_ref().is_some_and(|error| error.raw_os_error().is_some()) {
        let count = &transport.get().inner.get(py).wrote_after_end;
        count.set(count.get().saturating_add(1));
    }
    let helpers = imports(py).transports.bind(py);
    if let Err(error) = helpers.call_method1(intern!(py, "pipe_failed"), (transport, exc, wrote)) {
        PyHost::interrupt(engine, error);
    }
}
