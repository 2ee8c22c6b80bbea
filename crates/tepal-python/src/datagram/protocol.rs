//! The engine's calls, made into calls of the user's datagram protocol.

use std::io;

use pyo3::prelude::*;
use pyo3::{Borrowed, PyTraverseError, PyVisit, intern};
use tepal::engine::{DatagramProtocol, Verdict};
use tepal::{Address, Closed, DatagramKey};

use super::peers::sender;
use super::transport::{DatagramTransport, Inner};
use crate::errors::{exception, leaves_run, os_error};
use crate::host::{PyEngine, PyHost, attached};
use crate::imports::imports;
use crate::memory;
use crate::object::Ref;
use crate::stream::{call_method, call_method2, in_context, tell_waiter, watched};

/// The protocol of an endpoint: its transport, which knows the user's protocol.
pub(crate) struct PyDatagramProtocol {
    // A `DatagramTransport`.
    transport: Ref,
}

impl PyDatagramProtocol {
    pub(super) fn new(transport: Bound<'_, DatagramTransport>) -> PyDatagramProtocol {
        PyDatagramProtocol { transport: Ref::new(transport.into_any()) }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.transport.visit(visit)
    }

    fn transport<'a, 'py>(&'a self, py: Python<'py>) -> Borrowed<'a, 'py, DatagramTransport> {
        // SAFETY: `new` takes nothing else.
        unsafe { self.transport.bind(py).cast_unchecked() }
    }

    #[inline]
    fn inner<'py>(&self, py: Python<'py>) -> &'py Inner {
        let inner: *const Inner = self.transport(py).get().inner.get(py);
        // SAFETY: the transport is held by this protocol, whose caller, the engine, keeps it for the call.
        unsafe { &*inner }
    }

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

    fn call<'py>(
        &self,
        engine: &PyEngine,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        argument: Borrowed<'_, 'py, PyAny>,
        shown: &str,
    ) -> Verdict<()> {
        let Some((protocol, context)) = self.links(py) else { return Ok(()) };
        let called = self.watched(engine, shown, || {
            in_context(py, &context, || call_method(py, &protocol, name, Some(argument)))
        });
        self.end(engine, called.map(drop), shown)
    }

    #[inline]
    fn watched<R>(&self, engine: &PyEngine, method: &str, body: impl FnOnce() -> R) -> R {
        watched(engine, self.transport(attached()).as_any().as_borrowed(), method, body)
    }

    // An exception of a callback costs nothing but its report, as in asyncio.
    fn end(&self, engine: &PyEngine, called: PyResult<()>, shown: &str) -> Verdict<()> {
        let Err(error) = called else { return Ok(()) };
        let py = attached();
        let leave = |error| {
            PyHost::interrupt(engine, error);
            Ok(())
        };
        if leaves_run(py, &error) {
            return leave(error);
        }
        let transports = imports(py).transports.bind(py);
        let arguments = (self.transport(py), shown, exception(py, error));
        match transports.call_method1(intern!(py, "transport_callback_failed"), arguments) {
            Ok(_) => Ok(()),
            Err(error) => leave(error),
        }
    }
}

impl DatagramProtocol<PyHost> for PyDatagramProtocol {
    fn connection_made(&mut self, engine: &PyEngine, endpoint: DatagramKey<PyHost>) -> Verdict<()> {
        let py = attached();
        let transport = self.transport(py).to_owned();
        let argument = transport.as_any().as_borrowed();
        let name = intern!(py, "connection_made");
        self.call(engine, py, name, argument, "connection_made")?;
        let waiter = self.inner(py).links.borrow_mut().waiter.take();
        if let Some(waiter) = waiter {
            let told = tell_waiter(&waiter.bind(py), None);
            engine.datagram_read_later(endpoint);
            self.end(engine, told, "tell_waiter")?;
        }
        Ok(())
    }

    fn datagram_received(
        &mut self,
        engine: &PyEngine,
        _: DatagramKey<PyHost>,
        data: &[u8],
        peer: Option<&Address>,
    ) -> Verdict<()> {
        let py = attached();
        let Some((protocol, context)) = self.links(py) else { return Ok(()) };
        let called = sender(py, &self.inner(py).peers, peer).and_then(|sender| {
            let data = memory::bytes(py, data)?;
            let name = intern!(py, "datagram_received");
            let (data, sender) = (data.as_any().as_borrowed(), sender.as_borrowed());
            self.watched(engine, "datagram_received", || {
                in_context(py, &context, || call_method2(py, &protocol, name, data, sender))
            })
        });
        self.end(engine, called.map(drop), "datagram_received")
    }

    fn error_received(
        &mut self,
        engine: &PyEngine,
        _: DatagramKey<PyHost>,
        error: io::Error,
    ) -> Verdict<()> {
        let py = attached();
        let error = exception(py, os_error(&error)).into_bound(py).into_any();
        let name = intern!(py, "error_received");
        self.call(engine, py, name, error.as_borrowed(), "error_received")
    }

    // Called inside `sendto` instead, as asyncio does.
    fn pause_writing(&mut self, _: &PyEngine, _: DatagramKey<PyHost>) -> Verdict<()> {
        Ok(())
    }

    fn resume_writing(&mut self, engine: &PyEngine, _: DatagramKey<PyHost>) -> Verdict<()> {
        let py = attached();
        let Some((_, context)) = self.links(py) else { return Ok(()) };
        let transports = imports(py).transports.bind(py);
        let told = self.watched(engine, "resume_writing", || {
            in_context(py, &context, || {
                transports.call_method1(intern!(py, "resume_protocol"), (self.transport(py),))
            })
        });
        self.end(engine, told.map(drop), "resume_writing")
    }

    fn connection_lost(
        &mut self,
        engine: &PyEngine,
        endpoint: DatagramKey<PyHost>,
        closed: &Closed,
    ) -> Verdict<()> {
        let py = attached();
        let inner = self.inner(py);
        inner.closing.set(true);
        let failure = inner.links.borrow_mut().failure.take();
        let exc = match (failure, &closed.error) {
            (Some(failure), _) => failure.bind(py).to_owned(),
            (None, Some(error)) => exception(py, os_error(error)).into_bound(py).into_any(),
            (None, None) => py.None().into_bound(py),
        };
        let name = intern!(py, "connection_lost");
        let verdict = self.call(engine, py, name, exc.as_borrowed(), "connection_lost");
        inner.lost.set(true);
        engine.host().transport_fds.borrow_mut().remove(&inner.fd.replace(-1));
        let mut links = inner.links.borrow_mut();
        let (sock, protocol) = (links.sock.take(), links.protocol.take());
        links.marks = Some(engine.datagram_write_marks(endpoint));
        drop(links);
        drop(protocol);
        if let Some(sock) = sock {
            // Its owner closes it: the loop stops watching before.
            if let Some(descriptor) = engine.datagram_descriptor(endpoint) {
                let _ = engine.with_driver(|driver| driver.close(descriptor));
            }
            if let Err(error) = sock.bind(py).call_method0(intern!(py, "close")) {
                PyHost::nobody_gets(engine, error, Some(&sock.bind(py)));
            }
        }
        verdict
    }
}
