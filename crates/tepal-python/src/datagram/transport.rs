use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tepal::DatagramKey;

use super::peers::Peers;
use super::protocol::PyDatagramProtocol;
use crate::errors::os_error;
use crate::event_loop::{Loop, State};
use crate::host::PyHost;
use crate::object::{Ref, UnderGil};
use crate::stream::write_limits;

/// The native half of a datagram transport.
///
/// Its cells are used with the GIL held and never borrowed across a call into Python.
#[pyclass(subclass, frozen, name = "DatagramTransport", module = "tepal._tepal")]
pub(crate) struct DatagramTransport {
    pub(super) inner: UnderGil<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) key: Cell<Option<DatagramKey<PyHost>>>,
    pub(super) links: RefCell<Links>,
    /// The socket is connected: `send` needs no address.
    pub(super) connected: Cell<bool>,
    /// Before 3.13, asyncio dropped empty datagrams.
    pub(super) sends_empty: Cell<bool>,
    pub(super) peers: RefCell<Peers>,
    pub(super) fd: Cell<i32>,
    pub(super) closing: Cell<bool>,
    pub(super) lost: Cell<bool>,
    pub(super) wrote_after_end: Cell<u32>,
}

/// The Python objects of a transport.
#[derive(Default)]
pub(super) struct Links {
    pub(super) event_loop: Option<Ref>,
    pub(super) protocol: Option<Ref>,
    pub(super) context: Option<Ref>,
    pub(super) sock: Option<Ref>,
    pub(super) waiter: Option<Ref>,
    pub(super) failure: Option<Ref>,
    /// The address that `sendto` may name, as it was given.
    pub(super) address: Option<Ref>,
    /// The marks of the write buffer, once the engine knows the endpoint no longer.
    pub(super) marks: Option<(usize, usize)>,
}

#[pymethods]
impl DatagramTransport {
    #[new]
    fn new() -> DatagramTransport {
        let inner = Inner::default();
        inner.fd.set(-1);
        DatagramTransport { inner: UnderGil::new(inner) }
    }

    /// Starts the transport on the descriptor of `sock`, which stays its owner's.
    #[pyo3(signature = (event_loop, sock, protocol, context, address, connected, sends_empty, waiter = None))]
    #[allow(clippy::too_many_arguments, reason = "one call from Python, which names them")]
    fn _open(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, Loop>,
        sock: Bound<'_, PyAny>,
        protocol: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
        address: Option<Bound<'_, PyAny>>,
        connected: bool,
        sends_empty: bool,
        waiter: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = event_loop.get().state(py)?;
        let inner = slf.get().inner.get(py);
        let (fd, descriptor) = state.lend(&sock, || inner.key.get().is_some())?;
        inner.fd.set(fd);
        inner.connected.set(connected);
        inner.sends_empty.set(sends_empty);
        let links = Links {
            event_loop: Some(Ref::new(event_loop.clone().into_any())),
            protocol: Some(Ref::new(protocol)),
            context: Some(Ref::new(context)),
            sock: Some(Ref::new(sock)),
            waiter: waiter.map(Ref::new),
            failure: None,
            address: address.map(Ref::new),
            marks: None,
        };
        let old = inner.links.replace(links);
        drop(old);
        let protocol = PyDatagramProtocol::new(slf.clone());
        let key =
            state.engine.datagram(descriptor, protocol, false).map_err(|error| os_error(&error))?;
        state.host().transport_fds.borrow_mut().insert(fd);
        inner.key.set(Some(key));
        Ok(())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.event_loop.as_ref().map(|object| object.bind(py).to_owned().unbind())
    }

    #[getter]
    fn _sock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.sock.as_ref().map(|object| object.bind(py).to_owned().unbind())
    }

    #[getter]
    fn _sock_fd(&self, py: Python<'_>) -> i32 {
        self.inner.get(py).fd.get()
    }

    #[getter]
    fn _lost(&self, py: Python<'_>) -> bool {
        self.inner.get(py).lost.get()
    }

    #[getter]
    fn _was_opened(&self, py: Python<'_>) -> bool {
        self.inner.get(py).key.get().is_some()
    }

    /// Sets a new protocol.
    fn set_protocol(&self, py: Python<'_>, protocol: Bound<'_, PyAny>) {
        let old = self.inner.get(py).links.borrow_mut().protocol.replace(Ref::new(protocol));
        drop(old);
    }

    /// The current protocol.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.protocol.as_ref().map(|object| object.bind(py).to_owned().unbind())
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.inner.get(py).closing.get()
    }

    /// Close the transport: what is buffered is sent, then connection_lost(None) is called.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.get(py);
        if inner.closing.get() {
            return Ok(());
        }
        let state = self.state(py);
        state.map_or(Ok(()), |state| state.check_thread_in_debug(py))?;
        inner.closing.set(true);
        if let (Some(state), Some(key)) = (state, inner.key.get()) {
            state.engine.datagram_close(key);
        }
        Ok(())
    }

    /// Close the transport at once: what is buffered is lost.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.state(py).map_or(Ok(()), |state| state.check_thread_in_debug(py))?;
        self.drop_now(py);
        Ok(())
    }

    /// End the transport; connection_lost is called with `exc`.
    fn _force_close(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) {
        let inner = self.inner.get(py);
        let mut links = inner.links.borrow_mut();
        if links.failure.is_none() {
            links.failure = exc.map(Ref::new);
        }
        drop(links);
        self.drop_now(py);
    }

    /// How many bytes wait to be sent, with a few per datagram.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state.engine.datagram_buffered(key),
            _ => 0,
        }
    }

    /// The marks of the write buffer: (low, high).
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        if let Some(marks) = self.inner.get(py).links.borrow().marks {
            return marks;
        }
        match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state.engine.datagram_write_marks(key),
            _ => (0, 0),
        }
    }

    /// Above `high` buffered bytes the protocol is paused, at `low` it is resumed.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<Bound<'_, PyAny>>,
        low: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let (low, high) = write_limits(high, low, 64 * 1024)?;
        let this = slf.get();
        if let Some(marks) = &mut this.inner.get(py).links.borrow_mut().marks {
            *marks = (low, high);
            return Ok(());
        }
        if let (Some(state), Some(key)) = (this.state(py), this.inner.get(py).key.get()) {
            let crossing = state.engine.datagram_set_write_marks(key, low, high);
            super::send::after_send(slf.as_borrowed(), crossing)?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let inner = unsafe { self.inner.get_during_traverse() };
        let Ok(links) = inner.links.try_borrow() else { return Ok(()) };
        // The addresses of `peers` are tuples of a string and numbers, which lead nowhere.
        let all = [
            &links.event_loop,
            &links.protocol,
            &links.context,
            &links.sock,
            &links.waiter,
            &links.failure,
            &links.address,
        ];
        all.into_iter().flatten().try_for_each(|object| object.visit(&visit))
    }

    fn __clear__(&self, py: Python<'_>) {
        let links = self.inner.get(py).links.take();
        drop(links);
    }
}

impl DatagramTransport {
    fn drop_now(&self, py: Python<'_>) {
        let inner = self.inner.get(py);
        inner.closing.set(true);
        if let (Some(state), Some(key)) = (self.state(py), inner.key.get()) {
            state.engine.datagram_abort(key);
        }
    }

    /// The loop's state, while there is one.
    #[inline]
    pub(super) fn state<'py>(&self, py: Python<'py>) -> Option<&'py State> {
        let links = self.inner.get(py).links.borrow();
        let event_loop = links.event_loop.as_ref()?;
        // SAFETY: `_open` puts an instance of `Loop` there.
        unsafe { State::of_transport(py, event_loop) }
    }
}
