//! The engine's calls, made into calls of the user's protocol.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString, PyTuple};
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi, intern};
use tepal::Closed;
use tepal::engine::{Consumed, Failure, StreamKey, StreamProtocol, Verdict};
use tepal::layers::{How, Info, ProxyRequest};
use tepal_base::Buffer;

use super::hooks::Hook;
use super::reader;
use super::target;
use super::transport::{Inner, StreamTransport};
use crate::errors::{exception_of, leaves_run};
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;
use crate::layers::{how_word, info_to_python, request_to_python};
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

    // An exception of a callback: to the loop's exception handler, and it costs the connection. One
    // that leaves the run costs nothing else: then the callback counts as if it had returned
    // `result`.
    #[cold]
    fn failed<R>(&self, engine: &PyEngine, error: PyErr, message: &str, result: R) -> Verdict<R> {
        let py = here();
        if leaves_run(py, &error) {
            PyHost::interrupt(engine, error);
            return Ok(result);
        }
        self.inner(py).closing.set(true);
        let error = error.into_value(py);
        let transport = self.transport(py);
        transport.get().set_failure(py, Some(error.bind(py).clone().into_any()));
        let helpers = imports(py).transports.bind(py);
        match helpers.call_method1(intern!(py, "transport_failed"), (transport, message, error)) {
            Ok(_) => Err(Failure::Connection),
            Err(error) => {
                let _ = engine.host().leave_run(error);
                Err(Failure::Run)
            }
        }
    }

    // An exception of a callback that costs nothing else, as in asyncio.
    #[cold]
    fn complain(&self, engine: &PyEngine, error: PyErr, callback: &str) -> Verdict<()> {
        let py = here();
        if leaves_run(py, &error) {
            PyHost::interrupt(engine, error);
            return Ok(());
        }
        let helpers = imports(py).transports.bind(py);
        let error = error.into_value(py);
        let told = helpers.call_method1(
            intern!(py, "transport_callback_failed"),
            (self.transport(py), callback, error),
        );
        if let Err(error) = told {
            PyHost::interrupt(engine, error);
        }
        Ok(())
    }

    // Calls a hook of the protocol's, if it has that. What it raises costs the connection.
    fn hook<'py>(
        &self,
        engine: &PyEngine,
        hook: Hook,
        arguments: impl FnOnce(Python<'py>) -> PyResult<[Option<Bound<'py, PyAny>>; 2]>,
    ) -> Verdict<()> {
        let py = here();
        if !self.inner(py).hooks.get().has(hook) {
            return Ok(());
        }
        let Some((protocol, context)) = self.links(py) else { return Ok(()) };
        let called = arguments(py).and_then(|arguments| {
            let arguments: Vec<_> = arguments.into_iter().flatten().collect();
            let arguments = PyTuple::new(py, arguments)?;
            in_context(py, &context, || protocol.bind(py).call_method1(hook.name(), arguments))
        });
        called.map(drop).or_else(|error| {
            let message = format!("Fatal error: protocol.{}() call failed.", hook.name());
            self.failed(engine, error, &message, ())
        })
    }

    fn error_hook(&self, engine: &PyEngine, hook: Hook, closed: &Closed) -> Verdict<()> {
        let py = here();
        if !self.inner(py).hooks.get().has(hook) {
            return Ok(());
        }
        let exc = self.exception(py, closed);
        self.hook(engine, hook, |_| Ok([Some(exc), None]))
    }

    // What the protocol is told of an end: the same object in a hook and in `connection_lost`.
    fn exception<'py>(&self, py: Python<'py>, closed: &Closed) -> Bound<'py, PyAny> {
        let inner = self.inner(py);
        let known = inner.links.borrow().failure.as_ref().map(|known| known.bind(py).to_owned());
        // What a hook of an earlier attempt was told is not told again.
        let problem = closed.problem.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        let of = inner.failure_of.get();
        if let Some(known) = known
            && (of.is_null() || of == problem)
        {
            return known;
        }
        inner.failure_of.set(problem);
        match exception_of(py, closed) {
            Ok(Some(error)) => {
                let old = inner.links.borrow_mut().failure.replace(Ref::new(error.clone()));
                drop(old);
                error
            }
            Ok(None) => py.None().into_bound(py),
            Err(error) => error.into_value(py).into_bound(py).into_any(),
        }
    }

    // A connection stands: the first, or another one after a loss.
    fn begin(&self, engine: &PyEngine, stream: StreamKey<PyHost>) {
        let py = here();
        let inner = self.inner(py);
        if !inner.stacked.get() {
            return;
        }
        let old = {
            let mut links = inner.links.borrow_mut();
            (links.closed.take(), links.failure.take())
        };
        if old.0.is_some() {
            // Addresses and the like are those of the new connection.
            if let Err(error) = self.transport(py).setattr(intern!(py, "_extra"), py.None()) {
                PyHost::nobody_gets(engine, error, None);
            }
        }
        drop(old);
        let addresses = (inner.local.take(), inner.peer.take());
        drop(addresses);
        inner.failure_of.set(std::ptr::null());
        inner.closing.set(false);
        inner.eof_written.set(false);
        self.forget_descriptor(engine);
        if let Some(descriptor) = engine.stream_descriptor(stream)
            && let Some(fd) = engine.with_driver(|driver| driver.raw_fd(descriptor))
        {
            inner.fd.set(fd);
            engine.host().transport_fds.borrow_mut().insert(fd);
        }
    }

    fn forget_descriptor(&self, engine: &PyEngine) {
        let fd = self.inner(here()).fd.replace(-1);
        engine.host().transport_fds.borrow_mut().remove(&fd);
    }

    fn tell_waiter(&self, engine: &PyEngine, exc: Option<&Bound<'_, PyAny>>) {
        let py = here();
        let waiter = self.inner(py).links.borrow_mut().waiter.take();
        if let Some(waiter) = waiter {
            let helpers = imports(py).transports.bind(py);
            let told = helpers.call_method1(intern!(py, "tell_waiter"), (waiter.bind(py), exc));
            if let Err(error) = told {
                PyHost::nobody_gets(engine, error, None);
            }
        }
    }

    fn let_go(&self, engine: &PyEngine, stream: StreamKey<PyHost>) {
        let py = here();
        let inner = self.inner(py);
        self.forget_descriptor(engine);
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
                PyHost::nobody_gets(engine, error, Some(&sock.bind(py)));
            }
        }
        drop(protocol);
        if let Some(server) = server {
            let helpers = imports(py).transports.bind(py);
            let transport = self.transport(py);
            let told = helpers
                .call_method1(intern!(py, "detach_from_server"), (server.bind(py), transport));
            if let Err(error) = told {
                PyHost::nobody_gets(engine, error, None);
            }
        }
    }
}

fn name_of<'py>(py: Python<'py>, name: &str) -> Bound<'py, PyAny> {
    PyString::intern(py, name).into_any()
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
        let py = here();
        let inner = self.inner(py);
        if !inner.hooks.get().has(Hook::IoOut) {
            engine.stream_decline_io_out(stream);
        }
        self.begin(engine, stream);
        let transport = self.transport(py).to_owned().into_any();
        let told = self.hook(engine, Hook::Established, |_| Ok([Some(transport), None]));
        self.tell_waiter(engine, None);
        told
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
                let name = if self.inner(py).hooks.get().has(Hook::IoIn) {
                    intern!(py, "io_in")
                } else {
                    intern!(py, "data_received")
                };
                self.call(py, name, Some(bytes.as_any().as_borrowed()))
            }
        };
        match result {
            Ok(Some(count)) if manner == Manner::Counted && !count.is_none() => {
                consumed(&count, data.len()).or_else(|error| {
                    self.failed(
                        engine,
                        error,
                        "Fatal error: protocol.data_received() returned a wrong count.",
                        Consumed::All,
                    )
                })
            }
            Ok(_) => Ok(Consumed::All),
            Err(error) => self.failed(
                engine,
                error,
                match manner {
                    Manner::Buffered | Manner::Ssl => {
                        "Fatal error: protocol.buffer_updated() call failed."
                    }
                    _ => "Fatal error: protocol.data_received() call failed.",
                },
                Consumed::All,
            ),
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
        in_context(py, &context, || target::lend(py, &protocol)).map(Some).or_else(|error| {
            let message = "Fatal error: protocol.get_buffer() call failed.";
            self.failed(engine, error, message, None)
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
            Err(error) => self.failed(
                engine,
                error,
                "Fatal error: protocol.buffer_updated() call failed.",
                (),
            ),
        }
    }

    fn eof_received(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<bool> {
        let py = here();
        let keep = self
            .call(py, intern!(py, "eof_received"), None)
            .and_then(|keep| keep.map_or(Ok(false), |keep| keep.is_truthy()));
        let keep = keep.or_else(|error| {
            let message = "Fatal error: protocol.eof_received() call failed.";
            self.failed(engine, error, message, false)
        })?;
        // Otherwise a plain stream asks again.
        if !keep && !engine.is_interrupted() {
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
        if let Err(error) = told {
            PyHost::interrupt(engine, error);
        }
        Ok(())
    }

    fn io_out(&mut self, engine: &PyEngine, stream: StreamKey<PyHost>) -> Verdict<()> {
        if !self.inner(here()).hooks.get().has(Hook::IoOut) {
            engine.stream_decline_io_out(stream);
        }
        self.hook(engine, Hook::IoOut, |_| Ok([None, None]))
    }

    fn error_connecting(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.error_hook(engine, Hook::ErrorConnecting, closed)
    }

    fn error_dns(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        self.error_hook(engine, Hook::ErrorDns, closed)
    }

    fn timeout_dns(&mut self, engine: &PyEngine, _: StreamKey<PyHost>, _: &Closed) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutDns, |_| Ok([None, None]))
    }

    fn timeout_connecting(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        _: &Closed,
    ) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutConnecting, |_| Ok([None, None]))
    }

    fn timeout_handshake(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        _: &Closed,
    ) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutHandshake, |_| Ok([None, None]))
    }

    fn timeout_idle(&mut self, engine: &PyEngine, _: StreamKey<PyHost>) -> Verdict<()> {
        self.hook(engine, Hook::TimeoutIdle, |_| Ok([None, None]))
    }

    fn layer_ready(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
        info: &Info,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerReady, |py| {
            Ok([Some(name_of(py, layer)), Some(info_to_python(py, info)?)])
        })
    }

    fn layer_added(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerAdded, |py| Ok([Some(name_of(py, layer)), None]))
    }

    fn layer_removed(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
        how: How,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerRemoved, |py| {
            Ok([Some(name_of(py, layer)), Some(name_of(py, how_word(how)))])
        })
    }

    fn layer_idle(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerIdle, |py| Ok([Some(name_of(py, layer)), None]))
    }

    fn layer_request(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        layer: &'static str,
        request: &ProxyRequest,
    ) -> Verdict<()> {
        self.hook(engine, Hook::LayerRequest, |py| {
            Ok([Some(name_of(py, layer)), Some(request_to_python(py, request)?)])
        })
    }

    fn error_layer(
        &mut self,
        engine: &PyEngine,
        _: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let is_tls = closed.layer() == Some("tls");
        let hook = if is_tls && self.inner(here()).hooks.get().has(Hook::ErrorSsl) {
            Hook::ErrorSsl
        } else {
            Hook::ErrorLayer
        };
        self.error_hook(engine, hook, closed)
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
        let view = if links.sock_is_view { links.sock.take() } else { None };
        drop(links);
        if let Some(view) = view
            && let Err(error) = view.bind(py).call_method0(intern!(py, "detach"))
        {
            PyHost::nobody_gets(engine, error, Some(&view.bind(py)));
        }
        if let Some(descriptor) = engine.stream_descriptor(stream) {
            // For those who ask for it later.
            let local = engine.with_driver(|driver| driver.local_address(descriptor));
            inner.local.replace(local.ok().map(Box::new));
        }
        let exc = self.exception(py, closed);
        let called = self.call(py, intern!(py, "connection_lost"), Some(exc.as_borrowed()));
        match called {
            Ok(_) => Ok(()),
            Err(error) => self.complain(engine, error, "connection_lost"),
        }
    }

    fn finished(
        &mut self,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let py = here();
        let exc = self.exception(py, closed);
        let failure = self.inner(py).links.borrow_mut().failure.take();
        drop(failure);
        self.tell_waiter(engine, Some(&exc));
        self.inner(py).lost.set(true);
        self.let_go(engine, stream);
        Ok(())
    }
}

/// Calls `body` in a context, as `Context.run` does.
#[inline]
pub(crate) fn in_context<R>(
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

/// Calls a method with no argument or one.
#[inline]
pub(crate) fn call_method<'py>(
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

/// Calls a method with two arguments.
#[inline]
pub(crate) fn call_method2<'py>(
    py: Python<'py>,
    object: &Ref,
    name: &Bound<'py, PyAny>,
    first: Borrowed<'_, 'py, PyAny>,
    second: Borrowed<'_, 'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), first.as_ptr(), second.as_ptr()];
    // SAFETY: three live references; the result is owned or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            arguments.as_ptr(),
            3 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
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
