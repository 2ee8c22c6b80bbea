//! The engine's calls, made into calls of the user's protocol.

use pyo3::exceptions::{PyConnectionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes};
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi, intern};
use tepal::engine::{Consumed, Failure, StreamKey, StreamProtocol, Verdict};
use tepal::{CloseKind, Closed};
use tepal_base::Buffer;

use super::reader;
use super::target;
use super::transport::{Inner, StreamTransport};
use crate::errors::{leaves_run, os_error};
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;
use crate::object::Ref;
use crate::openssl::SslTransport;

/// How a protocol wants its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Manner {
    /// `data_received(bytes)`; the result is ignored.
    #[default]
    Plain,
    /// `data_received(bytes)`, which returns how many it used: `tepal.Protocol`.
    Counted,
    /// `get_buffer` and `buffer_updated`.
    Buffered,
    /// Exactly asyncio's `StreamReaderProtocol`: the bytes go into its reader.
    Reader,
    /// The TLS of an `ssl=` transport: the bytes go into it as they are.
    Ssl,
}

impl Manner {
    pub(crate) fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Manner> {
        let py = protocol.py();
        let imports = imports(py);
        if protocol.get_type().as_ptr() == imports.stream_reader_protocol.as_ptr() {
            return Ok(Manner::Reader);
        }
        if protocol.is_instance_of::<SslTransport>() {
            return Ok(Manner::Ssl);
        }
        if protocol.is_instance(imports.buffered_protocol.bind(py))? {
            return Ok(Manner::Buffered);
        }
        match imports.counted_protocol.get(py) {
            Some(class) if protocol.is_instance(class.bind(py))? => Ok(Manner::Counted),
            _ => Ok(Manner::Plain),
        }
    }
}

/// The protocol of a stream: its transport, which knows the user's protocol.
pub(crate) struct PyStreamProtocol {
    // A `StreamTransport`.
    transport: Ref,
}

impl PyStreamProtocol {
    pub(super) fn new(transport: Bound<'_, StreamTransport>) -> PyStreamProtocol {
        PyStreamProtocol { transport: Ref::new(transport.into_any()) }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.transport.visit(visit)
    }

    #[inline]
    fn transport<'a, 'py>(&'a self, py: Python<'py>) -> Borrowed<'a, 'py, StreamTransport> {
        // SAFETY: `new` takes nothing else.
        unsafe { self.transport.bind(py).cast_unchecked() }
    }

    #[inline]
    fn inner<'py>(&self, py: Python<'py>) -> &'py Inner {
        let inner: *const Inner = self.transport(py).get().inner.get(py);
        // SAFETY: the transport is held by this protocol, whose caller, the engine, keeps it for the call.
        unsafe { &*inner }
    }

    // The user's protocol and its context.
    #[inline]
    fn links(&self, py: Python<'_>) -> Option<(Ref, Ref)> {
        let links = self.inner(py).links.borrow();
        match (&links.protocol, &links.context) {
            (Some(protocol), Some(context)) => {
                Some((protocol.clone_ref(py), context.clone_ref(py)))
            }
            _ => None,
        }
    }

    // Calls a method of the protocol in its context; `None` if the transport was cleared.
    #[inline]
    fn call<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        argument: Option<Borrowed<'_, 'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((protocol, context)) = self.links(py) else { return Ok(None) };
        in_context(py, &context, || call_method(py, &protocol, name, argument)).map(Some)
    }

    // An exception of a callback: to the loop's exception handler, and it costs the connection.
    #[cold]
    fn failed(&self, engine: &PyEngine, error: PyErr, message: &str) -> Failure {
        let py = here();
        self.inner(py).closing.set(true);
        if leaves_run(py, &error) {
            let _ = engine.host().leave_run(error);
            return Failure::Run;
        }
        let error = error.into_value(py);
        let transport = self.transport(py);
        transport.get().set_failure(py, Some(error.bind(py).clone().into_any()));
        let helpers = imports(py).transports.bind(py);
        match helpers.call_method1(intern!(py, "transport_failed"), (transport, message, error)) {
            Ok(_) => Failure::Connection,
            Err(error) => {
                let _ = engine.host().leave_run(error);
                Failure::Run
            }
        }
    }

    // An exception of a callback that costs nothing else, as in asyncio.
    #[cold]
    fn complain(&self, engine: &PyEngine, error: PyErr, callback: &str) -> Verdict<()> {
        let py = here();
        if leaves_run(py, &error) {
            let _ = engine.host().leave_run(error);
            return Err(Failure::Run);
        }
        let helpers = imports(py).transports.bind(py);
        let error = error.into_value(py);
        let told = helpers.call_method1(
            intern!(py, "transport_callback_failed"),
            (self.transport(py), callback, error),
        );
        told.map(drop).map_err(|error| {
            let _ = engine.host().leave_run(error);
            Failure::Run
        })
    }

    fn tell_waiter(&self, py: Python<'_>, exc: Option<&Bound<'_, PyAny>>) {
        let waiter = self.inner(py).links.borrow_mut().waiter.take();
        if let Some(waiter) = waiter {
            let helpers = imports(py).transports.bind(py);
            let told = helpers.call_method1(intern!(py, "tell_waiter"), (waiter.bind(py), exc));
            if let Err(error) = told {
                error.write_unraisable(py, None);
            }
        }
    }

    fn let_go(&self, engine: &PyEngine, stream: StreamKey<PyHost>) {
        let py = here();
        let inner = self.inner(py);
        let fd = inner.fd.replace(-1);
        engine.host().transport_fds.borrow_mut().remove(&fd);
        let mut links = inner.links.borrow_mut();
        let (sock, is_view) = (links.sock.take(), links.sock_is_view);
        let (server, protocol) = (links.server.take(), links.protocol.take());
        drop(links);
        if let Some(sock) = sock {
            let method = if is_view {
                intern!(py, "detach")
            } else {
                // Its owner closes it: the loop stops watching before.
                if let Some(descriptor) = engine.stream_descriptor(stream) {
                    let _ = engine.with_driver(|driver| driver.close(descriptor));
                }
                intern!(py, "close")
            };
            if let Err(error) = sock.bind(py).call_method0(method) {
                error.write_unraisable(py, Some(&sock.bind(py)));
            }
        }
        drop(protocol);
        if let Some(server) = server {
            let helpers = imports(py).transports.bind(py);
            let transport = self.transport(py);
            let told = helpers
                .call_method1(intern!(py, "detach_from_server"), (server.bind(py), transport));
            if let Err(error) = told {
                error.write_unraisable(py, None);
            }
        }
    }
}

// The engine calls its host with the GIL held.
fn here() -> Python<'static> {
    // SAFETY: as above: it runs inside `run_forever`.
    unsafe { Python::assume_attached() }
}

impl StreamProtocol<PyHost> for PyStreamProtocol {
    fn connection_made(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        let py = here();
        let name = intern!(py, "connection_made");
        let transport = self.transport(py).to_owned();
        match self.call(py, name, Some(transport.as_any().as_borrowed())) {
            Ok(_) => Ok(()),
            Err(error) => self.complain(engine, error, "connection_made"),
        }
    }

    fn connection_established(
        &mut self,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
    ) -> Verdict<()> {
        // asyncio's protocols have no use for it.
        engine.stream_decline_io_out(stream);
        self.tell_waiter(here(), None);
        Ok(())
    }

    #[inline]
    fn data_received(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        data: &[u8],
    ) -> Verdict<Consumed> {
        let py = here();
        let manner = self.inner(py).manner.get();
        let result = match manner {
            Manner::Reader => {
                let Some((protocol, context)) = self.links(py) else { return Ok(Consumed::All) };
                in_context(py, &context, || reader::feed(py, &protocol, data)).map(|()| None)
            }
            // Of a protocol that lent memory before: what it was given as bytes, it gets as bytes.
            Manner::Buffered => {
                let Some((protocol, context)) = self.links(py) else { return Ok(Consumed::All) };
                in_context(py, &context, || target::copy_in(py, &protocol, data)).map(|()| None)
            }
            Manner::Ssl => {
                let Some((protocol, context)) = self.links(py) else { return Ok(Consumed::All) };
                // SAFETY: this manner is chosen by that type.
                let ssl = unsafe { protocol.bind(py).cast_unchecked::<SslTransport>() };
                in_context(py, &context, || SslTransport::received(&ssl, data)).map(|()| None)
            }
            Manner::Plain | Manner::Counted => {
                let bytes = PyBytes::new(py, data);
                self.call(py, intern!(py, "data_received"), Some(bytes.as_any().as_borrowed()))
            }
        };
        match result {
            Ok(Some(count)) if manner == Manner::Counted && !count.is_none() => {
                consumed(&count, data.len()).map_err(|error| {
                    self.failed(
                        engine,
                        error,
                        "Fatal error: protocol.data_received() returned a wrong count.",
                    )
                })
            }
            Ok(_) => Ok(Consumed::All),
            Err(error) => Err(self.failed(
                engine,
                error,
                match manner {
                    Manner::Buffered | Manner::Ssl => {
                        "Fatal error: protocol.buffer_updated() call failed."
                    }
                    _ => "Fatal error: protocol.data_received() call failed.",
                },
            )),
        }
    }

    fn lend(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        _: usize,
    ) -> Verdict<Option<Buffer>> {
        let py = here();
        if self.inner(py).manner.get() != Manner::Buffered {
            return Ok(None);
        }
        let Some((protocol, context)) = self.links(py) else { return Ok(None) };
        in_context(py, &context, || target::lend(py, &protocol)).map(Some).map_err(|error| {
            self.failed(engine, error, "Fatal error: protocol.get_buffer() call failed.")
        })
    }

    fn buffer_updated(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        buffer: Buffer,
        count: usize,
    ) -> Verdict<()> {
        // The protocol may resize its memory only once the export is over.
        drop(buffer);
        if count == 0 {
            return Ok(());
        }
        let py = here();
        let result = count.into_pyobject(py).map_err(PyErr::from).and_then(|count| {
            self.call(py, intern!(py, "buffer_updated"), Some(count.as_any().as_borrowed()))
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(
                engine,
                error,
                "Fatal error: protocol.buffer_updated() call failed.",
            )),
        }
    }

    fn eof_received(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<bool> {
        let py = here();
        let keep = self
            .call(py, intern!(py, "eof_received"), None)
            .and_then(|keep| keep.map_or(Ok(false), |keep| keep.is_truthy()));
        let keep = keep.map_err(|error| {
            self.failed(engine, error, "Fatal error: protocol.eof_received() call failed.")
        })?;
        if !keep {
            self.inner(py).closing.set(true);
        }
        Ok(keep)
    }

    // Called inside `write` instead, as asyncio does.
    fn pause_writing(&mut self, _: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        Ok(())
    }

    fn resume_writing(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        let py = here();
        let Some((_, context)) = self.links(py) else { return Ok(()) };
        let helpers = imports(py).transports.bind(py);
        let told = in_context(py, &context, || {
            helpers.call_method1(intern!(py, "resume_protocol"), (self.transport(py),))
        });
        told.map(drop).map_err(|error| {
            let _ = engine.host().leave_run(error);
            Failure::Run
        })
    }

    fn io_out(&mut self, engine: &PyEngine, stream: StreamKey<PyHost>) -> Verdict<()> {
        engine.stream_decline_io_out(stream);
        Ok(())
    }

    fn error_connecting(&mut self, _: &PyEngine, _: StreamKey<PyHost>, _: &Closed) -> Verdict<()> {
        Ok(())
    }

    fn connection_lost(
        &mut self,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let py = here();
        let inner = self.inner(py);
        inner.closing.set(true);
        let mut links = inner.links.borrow_mut();
        links.closed = Some(Box::new(closed.clone()));
        let failure = links.failure.take();
        drop(links);
        if let Some(descriptor) = engine.stream_descriptor(stream) {
            // For those who ask for it later.
            let local = engine.with_driver(|driver| driver.local_address(descriptor));
            inner.local.replace(local.ok().map(Box::new));
        }
        let exc = match failure {
            Some(failure) => failure.bind(py).to_owned(),
            None => match exception_of(closed) {
                Some(error) => error.into_value(py).into_bound(py).into_any(),
                None => py.None().into_bound(py),
            },
        };
        self.tell_waiter(py, Some(&exc));
        let called = self.call(py, intern!(py, "connection_lost"), Some(exc.as_borrowed()));
        let verdict = match called {
            Ok(_) => Ok(()),
            Err(error) => self.complain(engine, error, "connection_lost"),
        };
        inner.lost.set(true);
        self.let_go(engine, stream);
        verdict
    }
}

/// Calls `body` in a context, as `Context.run` does.
#[inline]
pub(super) fn in_context<R>(
    py: Python<'_>,
    context: &Ref,
    body: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: `context` is a Context: `_open` and the listener take nothing else.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let result = body();
    // What `body` left pending is in `result`. SAFETY: entered above.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 {
        return result.and(Err(PyErr::fetch(py)));
    }
    result
}

#[inline]
pub(super) fn call_method<'py>(
    py: Python<'py>,
    object: &Ref,
    name: &Bound<'py, PyAny>,
    argument: Option<Borrowed<'_, 'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments =
        [object.as_ptr(), argument.map_or(std::ptr::null_mut(), |argument| argument.as_ptr())];
    let count = if arguments[1].is_null() { 1 } else { 2 };
    // SAFETY: `count` live references; the result is owned or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            arguments.as_ptr(),
            count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

pub(crate) fn consumed(count: &Bound<'_, PyAny>, most: usize) -> PyResult<Consumed> {
    if count.is_instance_of::<PyBool>() || !count.is_instance_of::<pyo3::types::PyInt>() {
        let name = count.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!(
            "data_received() must return None or the number of bytes it used, not {name}"
        )));
    }
    match count.extract::<usize>() {
        Ok(count) if count <= most => Ok(Consumed::Count(count)),
        _ => {
            Err(PyValueError::new_err(format!("data_received() returned {count} of {most} bytes")))
        }
    }
}

/// What `connection_lost` is told: `None` for an end that asyncio calls clean.
fn exception_of(closed: &Closed) -> Option<PyErr> {
    if closed.is_clean() {
        return None;
    }
    Some(match (&closed.error, closed.kind) {
        (Some(error), _) => os_error(error),
        (None, CloseKind::WrongCount) => PyValueError::new_err(closed.to_string()),
        (None, _) => PyConnectionError::new_err(closed.to_string()),
    })
}
