//! The transport of `ssl=` and `start_tls`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::outgoing::Piece;
use super::session::Session;
use crate::object::{Ref, UnderGil};
use crate::stream::{Manner, StreamTransport, write_limits};

/// The native half of `tepal._tls.SSLTransport`: a transport for the user's protocol, and at the
/// same time the protocol of the transport below.
///
/// The transport below may be any that asyncio's interface fits; a [`StreamTransport`] is spoken
/// to without Python in between. Every cell is used with the GIL held and none is borrowed across
/// a call into Python.
#[pyclass(subclass, frozen, name = "SSLTransport", module = "tepal._tepal")]
pub(crate) struct SslTransport {
    pub(super) inner: UnderGil<Inner>,
}

/// Where the session is.
///
/// ```text
/// Idle --connection_made--> Handshaking --done--> Open --close, EOF--> Flushing --> Closing
///   any of them, on a failure, abort, or when the transport below is gone: --> Idle
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum State {
    #[default]
    Idle,
    Handshaking,
    Open,
    /// What was written is still being encrypted.
    Flushing,
    /// close_notify is under way.
    Closing,
}

/// What the user's protocol has been told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Told {
    #[default]
    Nothing,
    Made,
    Eof,
    Lost,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) links: RefCell<Links>,
    pub(super) session: RefCell<Option<Rc<Session>>>,
    pub(super) state: Cell<State>,
    pub(super) told: Cell<Told>,
    pub(super) manner: Cell<Manner>,
    /// Written and not yet encrypted.
    pub(super) backlog: RefCell<VecDeque<Piece>>,
    pub(super) backlog_len: Cell<usize>,
    /// A write is being encrypted: another one waits behind it.
    pub(super) writing: Cell<bool>,
    /// Of our own two buffers, low and high.
    pub(super) write_marks: Cell<(usize, usize)>,
    pub(super) read_marks: Cell<(usize, usize)>,
    pub(super) writing_paused: Cell<bool>,
    pub(super) reading_paused: Cell<bool>,
    /// We have paused the transport below, and it has paused us.
    pub(super) below_paused: Cell<bool>,
    pub(super) paused_by_below: Cell<bool>,
    pub(super) closed: Cell<bool>,
    /// Closed twice: nothing is kept once the connection is lost.
    pub(super) forgets: Cell<bool>,
    pub(super) eof_received: Cell<bool>,
    /// The transport below ended without the peer's close_notify.
    pub(super) truncated: Cell<bool>,
    /// What ended it, in the words of `tepal.CloseKind`: a failure or an abort, the first one.
    pub(super) ending: Cell<Option<&'static str>>,
    /// Who closed it first, which a failure afterwards outweighs.
    pub(super) closer: Cell<Option<&'static str>>,
    pub(super) lost_writes: Cell<u32>,
    /// Seconds, of the handshake and the shutdown.
    pub(super) timeouts: Cell<(f64, f64)>,
    /// What was buffered when the shutdown's timer was set.
    pub(super) left_at_timer: Cell<usize>,
    /// Plaintext that a counting protocol has left.
    pub(super) unread: RefCell<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct Links {
    pub(super) event_loop: Option<Ref>,
    pub(super) protocol: Option<Ref>,
    pub(super) below: Option<Ref>,
    /// `below` is a `StreamTransport`.
    pub(super) below_is_stream: bool,
    pub(super) waiter: Option<Ref>,
    pub(super) timer: Option<Ref>,
}

#[pymethods]
impl SslTransport {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> SslTransport {
        let inner = Inner::default();
        // No session yet: nothing to be closed.
        inner.closed.set(true);
        SslTransport { inner: UnderGil::new(inner) }
    }

    /// Says what it works with; the handshake begins with `connection_made`.
    #[allow(clippy::too_many_arguments, reason = "one caller, in Python, with names")]
    #[pyo3(signature = (*, event_loop, protocol, waiter, ssl_object, incoming, outgoing,
                        call_connection_made, handshake_timeout, shutdown_timeout))]
    fn _begin(
        &self,
        py: Python<'_>,
        event_loop: Bound<'_, PyAny>,
        protocol: Bound<'_, PyAny>,
        waiter: Option<Bound<'_, PyAny>>,
        ssl_object: Bound<'_, PyAny>,
        incoming: Bound<'_, PyAny>,
        outgoing: Bound<'_, PyAny>,
        call_connection_made: bool,
        handshake_timeout: f64,
        shutdown_timeout: f64,
    ) -> PyResult<()> {
        let inner = self.inner.get(py);
        inner.manner.set(Manner::of(&protocol)?);
        let session = Rc::new(Session::new(&ssl_object, incoming, outgoing));
        let old = inner.session.replace(Some(session));
        let links = Links {
            event_loop: Some(Ref::new(event_loop)),
            protocol: Some(Ref::new(protocol)),
            waiter: waiter.map(Ref::new),
            ..Links::default()
        };
        let links = inner.links.replace(links);
        drop((old, links));
        inner.timeouts.set((handshake_timeout, shutdown_timeout));
        inner.write_marks.set((WRITE_HIGH / 4, WRITE_HIGH));
        inner.read_marks.set((READ_HIGH / 4, READ_HIGH));
        inner.told.set(if call_connection_made { Told::Nothing } else { Told::Made });
        inner.closed.set(false);
        Ok(())
    }

    /// Ciphertext that was received before: it is looked at before all other.
    fn _feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        match self.session(py) {
            Some(session) => session.feed(py, data),
            None => Ok(()),
        }
    }

    // ---- the protocol of the transport below

    /// The transport below is there: begins the handshake.
    fn connection_made(slf: &Bound<'_, Self>, transport: Bound<'_, PyAny>) -> PyResult<()> {
        let inner = slf.get().inner.get(slf.py());
        let mut links = inner.links.borrow_mut();
        links.below_is_stream = transport.is_instance_of::<StreamTransport>();
        let old = links.below.replace(Ref::new(transport));
        drop(links);
        drop(old);
        SslTransport::start_handshake(slf)
    }

    /// The transport below is gone.
    #[pyo3(signature = (exc = None))]
    fn connection_lost(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        SslTransport::lost(slf, exc)
    }

    /// Ciphertext has arrived.
    fn data_received(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        SslTransport::received(slf, data)
    }

    /// The transport below has no more to give.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let result = SslTransport::below_ended(slf);
        SslTransport::goes_on(slf, result)
    }

    /// The transport below has enough for now.
    fn pause_writing(&self, py: Python<'_>) {
        self.inner.get(py).paused_by_below.set(true);
    }

    /// The transport below takes more.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let result = SslTransport::below_takes_more(slf);
        SslTransport::goes_on(slf, result)
    }

    // ---- the transport of the user's protocol

    /// asyncio's name for the half below.
    #[getter]
    fn _ssl_protocol(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        object(py, self.inner.get(py).links.borrow().event_loop.as_ref())
    }

    /// The transport below; None before and after.
    #[getter]
    fn _below(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        object(py, self.inner.get(py).links.borrow().below.as_ref())
    }

    /// The `ssl.SSLObject`.
    #[getter]
    fn _ssl_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        Some(self.session(py)?.object(py)?.unbind())
    }

    /// Whether reads and writes call OpenSSL directly.
    #[getter]
    fn _direct(&self, py: Python<'_>) -> bool {
        self.session(py).is_some_and(|session| session.is_direct())
    }

    /// Whether the bytes ended without the peer's close_notify: they may have been cut off.
    #[getter]
    fn _truncated(&self, py: Python<'_>) -> bool {
        // It may be among what was not looked at yet when the transport below ended.
        let seen = self.session(py).is_some_and(|session| session.peer_has_closed());
        self.inner.get(py).truncated.get() && !seen
    }

    #[getter]
    fn _state(&self, py: Python<'_>) -> String {
        format!("{:?}", self.inner.get(py).state.get()).to_lowercase()
    }

    /// What sendfile() asks asyncio's transports.
    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.inner.get(py).writing_paused.get()
    }

    /// Set a new protocol.
    fn set_protocol(&self, py: Python<'_>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let inner = self.inner.get(py);
        inner.manner.set(Manner::of(&protocol)?);
        let old = inner.links.borrow_mut().protocol.replace(Ref::new(protocol));
        drop(old);
        Ok(())
    }

    /// Return the current protocol.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        object(py, self.inner.get(py).links.borrow().protocol.as_ref())
    }

    /// Return True if the transport is closing or closed.
    fn is_closing(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if inner.closed.get() {
            return Ok(true);
        }
        // Something may have ended the transport below without us.
        let Some(below) = slf.get().below(py) else { return Ok(false) };
        below.call_method0(intern!(py, "is_closing"))?.is_truthy()
    }

    /// Close the transport: what was written is sent, close_notify is exchanged, then
    /// connection_lost(None) is called.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let inner = slf.get().inner.get(slf.py());
        if inner.closed.replace(true) {
            // As in asyncio the facts are gone with the second close, so that a protocol that
            // keeps its transport does not keep the context.
            inner.forgets.set(true);
            if inner.links.borrow().below.is_none() {
                SslTransport::forget(slf)?;
            }
            return Ok(());
        }
        SslTransport::start_shutdown(slf)
    }

    /// Close the transport at once: what is buffered is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        SslTransport::abandon(slf, None, true)
    }

    /// End the connection; connection_lost is called with `exc`.
    #[pyo3(signature = (exc = None))]
    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        SslTransport::abandon(slf, exc, false)
    }

    /// Return True if the transport is receiving.
    fn is_reading(&self, py: Python<'_>) -> bool {
        !self.inner.get(py).reading_paused.get()
    }

    /// Pause receiving: no data_received() until resume_reading().
    fn pause_reading(&self, py: Python<'_>) {
        self.inner.get(py).reading_paused.set(true);
    }

    /// Resume receiving.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if slf.get().inner.get(py).reading_paused.replace(false) {
            slf.get().call_soon(py, slf.getattr(intern!(py, "_reading_resumed"))?, None)?;
        }
        Ok(())
    }

    fn _reading_resumed(slf: &Bound<'_, Self>) -> PyResult<()> {
        let result = SslTransport::advance(slf, &[]);
        SslTransport::goes_on(slf, result)
    }

    fn _handshake_late(slf: &Bound<'_, Self>) -> PyResult<()> {
        SslTransport::handshake_late(slf)
    }

    fn _shutdown_late(slf: &Bound<'_, Self>) -> PyResult<()> {
        SslTransport::shutdown_late(slf)
    }

    /// Set the high- and low-water limits of writing: above `high` bytes the protocol is paused, at
    /// `low` it is resumed.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<Bound<'_, PyAny>>,
        low: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let marks = write_limits(high, low, WRITE_HIGH)?;
        slf.get().inner.get(slf.py()).write_marks.set(marks);
        SslTransport::tell_pressure(slf)
    }

    /// Return (low, high).
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.inner.get(py).write_marks.get()
    }

    /// Return how many bytes wait in the write buffer.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.waiting_len(py)
    }

    /// Set the high- and low-water limits of what is received and not yet decrypted, which is so
    /// only while reading is paused.
    #[pyo3(signature = (high = None, low = None))]
    fn set_read_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<Bound<'_, PyAny>>,
        low: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let marks = write_limits(high, low, READ_HIGH)?;
        slf.get().inner.get(slf.py()).read_marks.set(marks);
        SslTransport::regulate_reading(slf)
    }

    /// Return (low, high).
    fn get_read_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.inner.get(py).read_marks.get()
    }

    /// Return how many bytes wait to be decrypted.
    fn get_read_buffer_size(&self, py: Python<'_>) -> usize {
        self.session(py).map_or(0, |session| session.input_len(py))
    }

    /// TLS has no end of one direction that asyncio could give: False.
    fn can_write_eof(&self) -> bool {
        false
    }

    /// Not supported.
    fn write_eof(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyNotImplementedError::new_err(()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let inner = unsafe { self.inner.get_during_traverse() };
        if let Ok(links) = inner.links.try_borrow() {
            let Links { event_loop, protocol, below, waiter, timer, .. } = &*links;
            let all = [event_loop, protocol, below, waiter, timer];
            all.into_iter().flatten().try_for_each(|object| object.visit(&visit))?;
        }
        match inner.session.try_borrow() {
            Ok(session) => session.iter().try_for_each(|session| session.visit(&visit)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let inner = self.inner.get(py);
        let links = inner.links.take();
        let session = inner.session.take();
        if let Some(session) = &session {
            session.clear();
        }
        drop((links, session));
    }
}

/// Bytes above which a protocol is paused, and ciphertext above which the transport below is:
/// asyncio's figures.
const WRITE_HIGH: usize = 512 * 1024;
const READ_HIGH: usize = 256 * 1024;

impl SslTransport {
    pub(super) fn session(&self, py: Python<'_>) -> Option<Rc<Session>> {
        self.inner.get(py).session.borrow().clone()
    }

    pub(super) fn below<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.below.as_ref().map(|below| below.bind(py).to_owned())
    }

    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.protocol.as_ref().map(|protocol| protocol.bind(py).to_owned())
    }

    pub(super) fn call_soon<'py>(
        &self,
        py: Python<'py>,
        callback: Bound<'py, PyAny>,
        argument: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let event_loop = object(py, self.inner.get(py).links.borrow().event_loop.as_ref());
        let Some(event_loop) = event_loop else { return Ok(()) };
        let name = intern!(py, "call_soon");
        match argument {
            Some(argument) => event_loop.call_method1(py, name, (callback, argument)),
            None => event_loop.call_method1(py, name, (callback,)),
        }
        .map(drop)
    }

    /// The timer of the handshake or the shutdown; the one before is over.
    pub(super) fn set_timer<'py>(
        &self,
        py: Python<'py>,
        seconds: f64,
        callback: Bound<'py, PyAny>,
    ) -> PyResult<()> {
        self.drop_timer(py)?;
        let event_loop = object(py, self.inner.get(py).links.borrow().event_loop.as_ref());
        let Some(event_loop) = event_loop else { return Ok(()) };
        let timer = event_loop.call_method1(py, intern!(py, "call_later"), (seconds, callback))?;
        let timer = Ref::new(timer.into_bound(py));
        let old = self.inner.get(py).links.borrow_mut().timer.replace(timer);
        drop(old);
        Ok(())
    }

    pub(super) fn has_timer(&self, py: Python<'_>) -> bool {
        self.inner.get(py).links.borrow().timer.is_some()
    }

    pub(super) fn drop_timer(&self, py: Python<'_>) -> PyResult<()> {
        let timer = self.inner.get(py).links.borrow_mut().timer.take();
        match timer {
            Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// Written and not yet given to the transport below.
    pub(super) fn waiting_len(&self, py: Python<'_>) -> usize {
        let output = self.session(py).map_or(0, |session| session.output_len(py));
        output + self.inner.get(py).backlog_len.get()
    }
}

fn object(py: Python<'_>, reference: Option<&Ref>) -> Option<Py<PyAny>> {
    reference.map(|object| object.bind(py).to_owned().unbind())
}
