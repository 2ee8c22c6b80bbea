//! What the engine owns of a connection, and what it does besides calling the user's protocol.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi, intern};
use tepal::Closed;
use tepal::engine::{Failure, StreamKey, Verdict};

use super::calling::{call_method, in_context, tell_waiter, watched};
use super::hooks::Hook;
use super::pipe::Role;
use super::server;
use super::transport::{Inner, StreamTransport};
use crate::errors::{exception, exception_of, leaves_run};
use crate::host::{PyEngine, PyHost, attached};
use crate::imports::imports;
use crate::object::Ref;
use crate::raised::Raised;

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
    pub(super) fn transport<'a, 'py>(
        &'a self,
        py: Python<'py>,
    ) -> Borrowed<'a, 'py, StreamTransport> {
        // SAFETY: `new` takes nothing else.
        unsafe { self.transport.bind(py).cast_unchecked() }
    }

    #[inline]
    pub(super) fn inner<'py>(&self, py: Python<'py>) -> &'py Inner {
        let inner: *const Inner = self.transport(py).get().inner.get(py);
        // SAFETY: the transport is held by this protocol, whose caller, the engine, keeps it for the call.
        unsafe { &*inner }
    }

    // The user's protocol and its context.
    #[inline]
    pub(super) fn links(&self, py: Python<'_>) -> Option<(Ref, Ref)> {
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
    pub(super) fn call(
        &self,
        engine: &PyEngine,
        py: Python<'static>,
        name: &Bound<'static, PyAny>,
        argument: Option<Borrowed<'_, 'static, PyAny>>,
    ) -> PyResult<Option<Bound<'static, PyAny>>> {
        let Some((protocol, context)) = self.links(py) else { return Ok(None) };
        self.watched(engine, name, || {
            in_context(py, &context, || call_method(py, &protocol, name, argument)).map(Some)
        })
    }

    /// Calls `body`; debug mode complains if it takes long.
    #[inline]
    pub(super) fn watched<R>(
        &self,
        engine: &PyEngine,
        method: impl IntoPyObject<'static>,
        body: impl FnOnce() -> R,
    ) -> R {
        watched(engine, self.transport(attached()).as_any().as_borrowed(), method, body)
    }

    // An exception of a callback: to the loop's exception handler, and it costs the connection. One
    // that leaves the run costs nothing else: then the callback counts as if it had returned
    // `result`. `what` begins with the callback's name and its parentheses.
    #[cold]
    pub(super) fn failed<R>(
        &self,
        engine: &PyEngine,
        error: PyErr,
        what: &str,
        result: R,
    ) -> Verdict<R> {
        let py = attached();
        if leaves_run(py, &error) {
            PyHost::interrupt(engine, error);
            return Ok(result);
        }
        if self.inner(py).role.get() != Role::Connection {
            let callback = what.split('(').next().unwrap_or(what);
            return self.complain(engine, error, callback).map(|()| result);
        }
        self.inner(py).closing.set(true);
        let message = format!("Fatal error: protocol.{what}.");
        let error = exception(py, error);
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
    pub(super) fn complain(&self, engine: &PyEngine, error: PyErr, callback: &str) -> Verdict<()> {
        let py = attached();
        if leaves_run(py, &error) {
            PyHost::interrupt(engine, error);
            return Ok(());
        }
        let helpers = imports(py).transports.bind(py);
        let error = exception(py, error);
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
    pub(super) fn hook<'py>(
        &self,
        engine: &PyEngine,
        hook: Hook,
        arguments: impl FnOnce(Python<'py>) -> PyResult<[Option<Bound<'py, PyAny>>; 2]>,
    ) -> Verdict<()> {
        let py = attached();
        if !self.inner(py).hooks.get().has(hook) {
            return Ok(());
        }
        let Some((protocol, context)) = self.links(py) else { return Ok(()) };
        let called = arguments(py).and_then(|arguments| {
            let arguments: Vec<_> = arguments.into_iter().flatten().collect();
            let arguments = PyTuple::new(py, arguments)?;
            self.watched(engine, hook.name(), || {
                in_context(py, &context, || protocol.bind(py).call_method1(hook.name(), arguments))
            })
        });
        called.map(drop).or_else(|error| {
            self.failed(engine, error, &format!("{}() call failed", hook.name()), ())
        })
    }

    /// The socket that somebody asked for loses the descriptor, which the engine closes now.
    pub(super) fn detach_view(&self, engine: &PyEngine, py: Python<'_>) {
        let mut links = self.inner(py).links.borrow_mut();
        let view = if links.sock_is_view { links.sock.take() } else { None };
        drop(links);
        if let Some(view) = view
            && let Err(error) = view.bind(py).call_method0(intern!(py, "detach"))
        {
            PyHost::nobody_gets(engine, error, Some(&view.bind(py)));
        }
    }

    /// Lets the socket go that `connection_made` asked for to set options, and has not kept. Whoever asks
    /// later gets another.
    pub(super) fn forget_view(&self, engine: &PyEngine, py: Python<'_>) {
        let mut links = self.inner(py).links.borrow_mut();
        let (Some(sock), Some(told)) = (&links.sock, &links.sock_told) else { return };
        // What is told refers to the socket. SAFETY: live objects.
        let unused =
            unsafe { ffi::Py_REFCNT(sock.as_ptr()) == 2 && ffi::Py_REFCNT(told.as_ptr()) == 1 };
        if !links.sock_is_view || !unused {
            return;
        }
        let told = links.sock_told.take();
        drop(links);
        self.detach_view(engine, py);
        drop(told);
    }

    pub(super) fn error_hook(&self, engine: &PyEngine, hook: Hook, closed: &Closed) -> Verdict<()> {
        let py = attached();
        if !self.inner(py).hooks.get().has(hook) {
            return Ok(());
        }
        let exc = self.exception(py, closed);
        self.hook(engine, hook, |_| Ok([Some(exc), None]))
    }

    // What the protocol is told of an end: the same object in a hook and in `connection_lost`.
    pub(super) fn exception<'py>(&self, py: Python<'py>, closed: &Closed) -> Bound<'py, PyAny> {
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
        let error = closed.layer_error.as_ref();
        let raised = error.and_then(|error| Raised::take(py, error));
        let shared = raised.as_ref().map(|raised| raised.clone_ref(py));
        let before = std::mem::replace(&mut inner.links.borrow_mut().raised, shared);
        drop(before);
        match exception_of(py, closed, raised.as_ref()) {
            Ok(Some(error)) => {
                let old = inner.links.borrow_mut().failure.replace(Ref::new(error.clone()));
                drop(old);
                error
            }
            Ok(None) => py.None().into_bound(py),
            Err(error) => exception(py, error).into_bound(py).into_any(),
        }
    }

    // A connection stands: the first, or another one after a loss.
    pub(super) fn begin(&self, engine: &PyEngine, stream: StreamKey<PyHost>) {
        let py = attached();
        let inner = self.inner(py);
        if !inner.stacked.get() {
            return;
        }
        let old = {
            let mut links = inner.links.borrow_mut();
            (links.closed.take(), links.failure.take(), links.raised.take())
        };
        if old.0.is_some() {
            let told = inner.links.borrow_mut().sock_told.take();
            drop(told);
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

    pub(super) fn forget_descriptor(&self, engine: &PyEngine) {
        let fd = self.inner(attached()).fd.replace(-1);
        engine.host().transport_fds.borrow_mut().remove(&fd);
    }

    /// Whether there was one.
    pub(super) fn tell_waiter(&self, engine: &PyEngine, exc: Option<&Bound<'_, PyAny>>) -> bool {
        let py = attached();
        let waiter = self.inner(py).links.borrow_mut().waiter.take();
        let Some(waiter) = waiter else { return false };
        let told = tell_waiter(&waiter.bind(py), exc);
        if let Err(error) = told {
            PyHost::nobody_gets(engine, error, None);
        }
        true
    }

    pub(super) fn let_go(&self, engine: &PyEngine, stream: StreamKey<PyHost>) {
        let py = attached();
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
        if let Some(server) = server
            && let Err(error) = server::detach(&server.bind(py), &self.transport(py))
        {
            PyHost::nobody_gets(engine, error, None);
        }
    }
}
