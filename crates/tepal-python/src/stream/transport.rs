use std::cell::{Cell, RefCell};
use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};
use tepal::engine::StreamKey;
use tepal::{Address, Closed, Problem, StreamOptions};
use tepal_driver::Descriptor;

use super::calling::log_in_debug;
use super::hooks::Hooks;
use super::manner::Manner;
use super::opening::Opening;
use super::peer::Peer;
use super::pipe::Role;
use crate::errors::os_error;
use crate::event_loop::{Loop, State};
use crate::host::PyHost;
use crate::imports::imports;
use crate::object::{Ref, UnderGil};

/// The native half of a stream transport.
///
/// Every cell below is used with the GIL held and never borrowed across a call into Python.
#[pyclass(subclass, frozen, name = "StreamTransport", module = "tepal._tepal")]
pub(crate) struct StreamTransport {
    pub(super) inner: UnderGil<Inner>,
}

pub(super) struct Inner {
    pub(super) key: Cell<Option<StreamKey<PyHost>>>,
    pub(super) links: RefCell<Links>,
    /// Set before it is opened.
    pub(super) role: Cell<Role>,
    /// How the protocol is called; decided when it is set.
    pub(super) manner: Cell<Manner>,
    /// What it has beyond asyncio's callbacks; decided then, too.
    pub(super) hooks: Cell<Hooks>,
    /// Made by `connect` or `listen`: counts are read and hooks are called, whatever its class.
    pub(super) stacked: Cell<bool>,
    /// Which attempt `Links::failure` belongs to; null: what ends the connection in any case.
    pub(super) failure_of: Cell<*const Problem>,
    /// The peer of an accepted connection, until somebody asks for it.
    pub(super) peer: Cell<Peer>,
    /// Our own address, from the end of a connection on.
    pub(super) local: Cell<Option<Box<Address>>>,
    /// The socket of a transport that is not open yet; see `dial`.
    pub(super) dialled: Cell<Option<Descriptor>>,
    /// The kernel's number, for those who ask while it is open; -1 before and after.
    pub(super) fd: Cell<i32>,
    pub(super) closing: Cell<bool>,
    /// The protocol has been told of the end.
    pub(super) lost: Cell<bool>,
    pub(super) paused: Cell<bool>,
    pub(super) eof_written: Cell<bool>,
    pub(super) wrote_after_end: Cell<u32>,
    /// `write` is refused while this is true: a file is being sent.
    pub(super) held: Cell<bool>,
}

/// The Python objects of a transport.
#[derive(Default)]
pub(super) struct Links {
    pub(super) event_loop: Option<Ref>,
    pub(super) protocol: Option<Ref>,
    /// Callbacks run in it.
    pub(super) context: Option<Ref>,
    /// The Python socket or file of the descriptor. It owns that, unless `sock_is_view`.
    pub(super) sock: Option<Ref>,
    /// The socket was made for somebody who asked; the engine owns the descriptor.
    pub(super) sock_is_view: bool,
    /// What `get_extra_info` tells of the socket, unless `_extra` says it.
    pub(super) sock_told: Option<Ref>,
    pub(super) server: Option<Ref>,
    pub(super) waiter: Option<Ref>,
    /// What `connection_lost` is told instead of the engine's reason.
    pub(super) failure: Option<Ref>,
    /// What a layer raised that ended the connection.
    pub(super) raised: Option<Ref>,
    pub(super) closed: Option<Box<Closed>>,
    /// Of the write buffer, low and high, from the end on.
    pub(super) marks: Option<Box<(usize, usize)>>,
}

#[pymethods]
impl StreamTransport {
    #[new]
    fn new() -> StreamTransport {
        StreamTransport { inner: UnderGil::new(Inner::new()) }
    }

    /// Starts the transport on the descriptor of `sock`, which stays its owner's.
    #[pyo3(signature = (
        event_loop, sock, protocol, context, waiter = None, server = None, stacked = false,
    ))]
    #[allow(clippy::too_many_arguments, reason = "one caller, which names them")]
    fn _open(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, Loop>,
        sock: Bound<'_, PyAny>,
        protocol: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
        waiter: Option<Bound<'_, PyAny>>,
        server: Option<Bound<'_, PyAny>>,
        stacked: bool,
    ) -> PyResult<()> {
        slf.get().inner.get(slf.py()).stacked.set(stacked);
        let opening = Opening { sock, protocol, context, waiter, server };
        StreamTransport::begin(slf, event_loop, opening, options())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.event_loop.as_ref().map(|object| object.bind(py).to_owned().unbind())
    }

    /// The loop's key of the descriptor in `_transports`.
    #[getter]
    fn _sock_fd(&self, py: Python<'_>) -> i32 {
        self.inner.get(py).fd.get()
    }

    /// The Python socket or file; made at the first question for an accepted connection.
    #[getter]
    fn _sock(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let inner = self.inner.get(py);
        let known = inner.links.borrow().sock.as_ref().map(|s| s.bind(py).to_owned().unbind());
        let fd = inner.fd.get();
        if known.is_some() || fd < 0 || inner.lost.get() {
            return Ok(known);
        }
        let made = imports(py).transports.bind(py).call_method1(intern!(py, "socket_of"), (fd,))?;
        let mut links = inner.links.borrow_mut();
        links.sock_is_view = true;
        let old = links.sock.replace(Ref::new(made.clone()));
        drop(links);
        drop(old);
        Ok(Some(made.unbind()))
    }

    /// Closes the socket of a transport that nobody closed.
    fn _drop_socket(&self, py: Python<'_>) -> PyResult<()> {
        let mut links = self.inner.get(py).links.borrow_mut();
        let (sock, is_view) = (links.sock.take(), links.sock_is_view);
        drop(links);
        if let Some(sock) = sock {
            let method = if is_view { intern!(py, "detach") } else { intern!(py, "close") };
            sock.bind(py).call_method0(method)?;
        }
        Ok(())
    }

    #[getter]
    fn _server(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.server.as_ref().map(|object| object.bind(py).to_owned().unbind())
    }

    /// Whether the protocol has been told of the end.
    #[getter]
    fn _lost(&self, py: Python<'_>) -> bool {
        self.inner.get(py).lost.get()
    }

    #[getter]
    fn _was_opened(&self, py: Python<'_>) -> bool {
        self.inner.get(py).key.get().is_some()
    }

    /// While true, write() raises RuntimeError.
    fn _hold(&self, py: Python<'_>, held: bool) {
        self.inner.get(py).held.set(held);
    }

    /// Sets a new protocol.
    fn set_protocol(&self, py: Python<'_>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let inner = self.inner.get(py);
        inner.adopt(&protocol)?;
        let old = inner.links.borrow_mut().protocol.replace(Ref::new(protocol));
        drop(old);
        if let (Some(state), Some(key)) = (self.state(py), inner.key.get()) {
            state.engine.stream_protocol_changed(key);
        }
        Ok(())
    }

    /// The current protocol.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.protocol.as_ref().map(|object| object.bind(py).to_owned().unbind())
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        let inner = self.inner.get(py);
        // One that is stacked may come back: its engine knows.
        if (inner.closing.get() && !inner.stacked.get()) || inner.lost.get() {
            return true;
        }
        match (self.state(py), inner.key.get()) {
            (Some(state), Some(key)) => state.engine.stream_is_closing(key),
            _ => false,
        }
    }

    /// Close the transport: what is buffered is sent, then connection_lost(None) is called.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.get(py);
        if inner.closing.get() && !inner.stacked.get() {
            return Ok(());
        }
        let state = self.state(py);
        state.map_or(Ok(()), |state| state.check_thread_in_debug(py))?;
        inner.closing.set(true);
        if let (Some(state), Some(key)) = (state, inner.key.get()) {
            state.engine.stream_close(key);
        }
        Ok(())
    }

    /// Close the transport at once: what is buffered is lost.
    ///
    /// A connection of `connect` or `listen` is reset, so that its peer cannot take it for a clean
    /// end; for others no reset is asked for, as in asyncio.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.get(py);
        let state = self.state(py);
        state.map_or(Ok(()), |state| state.check_thread_in_debug(py))?;
        inner.closing.set(true);
        if let (Some(state), Some(key)) = (state, inner.key.get()) {
            if inner.stacked.get() {
                state.engine.stream_abort(key);
            } else {
                state.engine.stream_drop(key);
            }
        }
        Ok(())
    }

    /// End the connection; connection_lost is called with `exc`.
    fn _force_close(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) {
        let inner = self.inner.get(py);
        inner.closing.set(true);
        if let (Some(state), Some(key)) = (self.state(py), inner.key.get()) {
            self.set_failure(py, exc);
            state.engine.stream_fail(key);
        }
    }

    /// Whether data is received.
    fn is_reading(&self, py: Python<'_>) -> bool {
        !self.inner.get(py).paused.get() && !self.is_closing(py)
    }

    /// Pause receiving: no data_received until resume_reading().
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let inner = this.inner.get(py);
        if this.is_closing(py) || inner.paused.replace(true) {
            return Ok(());
        }
        match (this.state(py), inner.key.get()) {
            (Some(state), Some(key)) => {
                state.engine.stream_pause_reading(key, true);
                log_in_debug(slf, &state.engine, "pauses reading")
            }
            _ => Ok(()),
        }
    }

    /// Resume receiving.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let inner = this.inner.get(py);
        if this.is_closing(py) || !inner.paused.replace(false) {
            return Ok(());
        }
        match (this.state(py), inner.key.get()) {
            (Some(state), Some(key)) => {
                state.engine.stream_pause_reading(key, false);
                log_in_debug(slf, &state.engine, "resumes reading")
            }
            _ => Ok(()),
        }
    }

    /// End the sending side once everything written has left.
    fn write_eof(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.get(py);
        if self.is_closing(py) || inner.eof_written.get() {
            return Ok(());
        }
        if inner.held.get() {
            return Err(PyRuntimeError::new_err("unable to write; sendfile is in progress"));
        }
        inner.eof_written.set(true);
        if let (Some(state), Some(key)) = (self.state(py), inner.key.get()) {
            // It is closed: then there is nothing to end.
            let _ = state.engine.stream_write_eof(key);
        }
        Ok(())
    }

    /// Whether write_eof() is supported.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// How many bytes wait to be sent.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state.engine.stream_buffered(key),
            _ => 0,
        }
    }

    /// The marks of the write buffer: (low, high).
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let inner = self.inner.get(py);
        if let Some(marks) = &inner.links.borrow().marks {
            return **marks;
        }
        match (self.state(py), inner.key.get()) {
            (Some(state), Some(key)) => state.engine.stream_write_marks(key),
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
            **marks = (low, high);
            return Ok(());
        }
        if let (Some(state), Some(key)) = (this.state(py), this.inner.get(py).key.get()) {
            let crossing = state
                .engine
                .stream_set_write_marks(key, low, high)
                .map_err(|error| os_error(&error))?;
            super::write::after_write(slf.as_borrowed(), state, key, crossing)?;
        }
        Ok(())
    }

    /// How the connection ended: (kind, text, unsent, unread); None while it has not.
    #[getter]
    fn _closed(&self, py: Python<'_>) -> Option<(String, String, u64, u64)> {
        let links = self.inner.get(py).links.borrow();
        let closed = links.closed.as_ref()?;
        Some((format!("{:?}", closed.kind), closed.to_string(), closed.unsent, closed.unread))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let inner = unsafe { self.inner.get_during_traverse() };
        let Ok(links) = inner.links.try_borrow() else { return Ok(()) };
        links.all().into_iter().flatten().try_for_each(|object| object.visit(&visit))
    }

    fn __clear__(&self, py: Python<'_>) {
        let links = self.inner.get(py).links.take();
        drop(links);
    }
}

impl Inner {
    fn new() -> Inner {
        Inner {
            key: Cell::new(None),
            links: RefCell::default(),
            role: Cell::default(),
            manner: Cell::default(),
            hooks: Cell::default(),
            stacked: Cell::new(false),
            failure_of: Cell::new(ptr::null()),
            peer: Cell::default(),
            local: Cell::new(None),
            dialled: Cell::new(None),
            fd: Cell::new(-1),
            closing: Cell::new(false),
            lost: Cell::new(false),
            paused: Cell::new(false),
            eof_written: Cell::new(false),
            wrote_after_end: Cell::new(0),
            held: Cell::new(false),
        }
    }

    /// Decides how a protocol is called.
    pub(super) fn adopt(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let manner = match Manner::of(protocol)? {
            Manner::Plain if self.stacked.get() => Manner::Counted,
            // asyncio's pipes know no other way.
            Manner::Buffered | Manner::Ssl
                if self.role.get() != Role::Connection
                    && protocol.hasattr(intern!(protocol.py(), "data_received"))? =>
            {
                Manner::Plain
            }
            manner => manner,
        };
        let hooked = self.stacked.get() || manner == Manner::Counted;
        let hooks = if hooked { Hooks::of(protocol)? } else { Hooks::default() };
        self.manner.set(manner);
        self.hooks.set(hooks);
        Ok(())
    }
}

impl Links {
    fn all(&self) -> [Option<&Ref>; 9] {
        [
            self.event_loop.as_ref(),
            self.protocol.as_ref(),
            self.context.as_ref(),
            self.sock.as_ref(),
            self.sock_told.as_ref(),
            self.server.as_ref(),
            self.waiter.as_ref(),
            self.failure.as_ref(),
            self.raised.as_ref(),
        ]
    }
}

impl StreamTransport {
    /// The loop's state, while there is one.
    #[inline]
    pub(super) fn state<'py>(&self, py: Python<'py>) -> Option<&'py State> {
        let links = self.inner.get(py).links.borrow();
        let event_loop = links.event_loop.as_ref()?;
        // SAFETY: `_open` and `accepted` put an instance of `Loop` there.
        unsafe { State::of_transport(py, event_loop) }
    }

    /// The first failure stands.
    pub(super) fn set_failure(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) {
        let inner = self.inner.get(py);
        let mut links = inner.links.borrow_mut();
        if links.failure.is_none() && links.closed.is_none() {
            links.failure = exc.map(Ref::new);
            inner.failure_of.set(ptr::null());
        }
    }

    /// A new object of the class that Python sees.
    pub(super) fn make<'py>(
        py: Python<'py>,
        class: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, StreamTransport>> {
        // SAFETY: a class is called without arguments.
        let object =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_CallNoArgs(class.as_ptr()))? };
        Ok(object.cast_into::<StreamTransport>()?)
    }
}

/// asyncio closes without a limit and hears of pressure inside `write`.
pub(super) fn options() -> StreamOptions {
    let mut options = StreamOptions::default();
    options.closing_timeout = None;
    options.tell_pressure = false;
    options
}

/// asyncio's rules for the two marks; `usual` is the high one if neither is given.
pub(crate) fn write_limits(
    high: Option<Bound<'_, PyAny>>,
    low: Option<Bound<'_, PyAny>>,
    usual: usize,
) -> PyResult<(usize, usize)> {
    let Some(py) = high.as_ref().or(low.as_ref()).map(|mark| mark.py()) else {
        return Ok((usual / 4, usual));
    };
    // Compared and computed by Python: any number is a mark.
    let transports = imports(py).transports.bind(py);
    transports.call_method1(intern!(py, "write_limits"), (high, low, usual))?.extract()
}
