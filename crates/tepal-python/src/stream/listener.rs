use std::cell::{Cell, RefCell};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::engine::{AcceptFault, Failure, ListenerKey, StreamKey, Verdict};
use tepal::{Address, Side, Stack, StreamOptions, Timeouts};
use tepal_driver::SocketOption;

use super::calling::{copy_context, in_context};
use super::peer::Peer;
use super::protocol::PyStreamProtocol;
use super::reach::{Spans, timeouts};
use super::server;
use super::stack::spans;
use super::transport::{Links, StreamTransport};
use crate::audit;
use crate::errors::{exception, leaves_run, os_error};
use crate::event_loop::{Loop, SimulatedSocket};
use crate::host::{PyEngine, PyHost};
use crate::imports::imports;
use crate::layers::stack_of;
use crate::object::{Ref, UnderGil};

/// Accepts connections on a listening socket of Python's.
#[pyclass(frozen, name = "Listener", module = "tepal._tepal")]
pub(crate) struct Listener {
    inner: UnderGil<Inner>,
}

struct Inner {
    event_loop: RefCell<Option<Ref>>,
    key: Cell<Option<ListenerKey<PyHost>>>,
}

#[pymethods]
impl Listener {
    /// Accepts on `sock`, which stays its owner's. `factory()` makes the protocol of a connection,
    /// and `attach(transport)` hears of it.
    #[new]
    #[pyo3(signature = (
        event_loop, sock, factory, server, context, transport_class, *,
        layers = None, stacked = false, most = None, read_limit = None, handshake = None,
        closing = None, quiet = None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "one caller, which names them")]
    fn new(
        event_loop: &Bound<'_, Loop>,
        sock: &Bound<'_, PyAny>,
        factory: Bound<'_, PyAny>,
        server: Option<Bound<'_, PyAny>>,
        context: Bound<'_, PyAny>,
        transport_class: Bound<'_, PyAny>,
        layers: Option<Bound<'_, PyAny>>,
        stacked: bool,
        most: Option<usize>,
        read_limit: Option<usize>,
        handshake: Option<f64>,
        closing: Option<f64>,
        quiet: Option<Spans>,
    ) -> PyResult<Listener> {
        let py = event_loop.py();
        let state = event_loop.get().state(py)?;
        state.check_open()?;
        let engine = &state.engine;
        let descriptor = match sock.cast::<SimulatedSocket>() {
            Ok(simulated) => simulated
                .get()
                .descriptor(py)
                .ok_or_else(|| PyRuntimeError::new_err("the socket is closed"))?,
            Err(_) => {
                let fd: i32 = sock.call_method0(intern!(py, "fileno"))?.extract()?;
                engine.with_driver(|driver| driver.borrow(fd)).map_err(|error| os_error(&error))?
            }
        };
        let factory = PyFactory {
            event_loop: Ref::new(event_loop.clone().into_any()),
            factory: Ref::new(factory),
            server: server.map(Ref::new),
            context: Ref::new(context),
            class: Ref::new(transport_class),
            setup: Setup {
                stack: layers.as_ref().map(stack_of).transpose()?.filter(|s| !s.is_empty()),
                stacked,
                read_limit,
                options: spans(handshake, closing),
                timeouts: quiet.map(timeouts),
            },
        };
        // Accepted connections inherit it, which saves them a call each. A Unix socket has none.
        let _ = engine.with_driver(|d| d.set_option(descriptor, &SocketOption::NoDelay(true)));
        let key = engine
            .listener(descriptor, factory, most.unwrap_or(usize::MAX))
            .map_err(|error| os_error(&error))?;
        let inner = Inner {
            event_loop: RefCell::new(Some(Ref::new(event_loop.clone().into_any()))),
            key: Cell::new(Some(key)),
        };
        Ok(Listener { inner: UnderGil::new(inner) })
    }

    /// Stops accepting. The socket stays open. Whether it accepted.
    fn close(&self, py: Python<'_>) -> PyResult<bool> {
        let inner = self.inner.get(py);
        let event_loop = inner.event_loop.take();
        let (Some(event_loop), Some(key)) = (event_loop, inner.key.take()) else {
            return Ok(false);
        };
        // SAFETY: `new` put an instance of `Loop` there, and it is held here.
        let event_loop = unsafe { event_loop.bind(py).cast_unchecked::<Loop>().to_owned() };
        let state = event_loop.get().state(py)?;
        Ok(!state.engine.is_closed() && state.engine.listener_close(key))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held.
        let inner = unsafe { self.inner.get_during_traverse() };
        match inner.event_loop.try_borrow() {
            Ok(event_loop) => event_loop.iter().try_for_each(|object| object.visit(&visit)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let event_loop = self.inner.get(py).event_loop.take();
        drop(event_loop);
    }
}

/// What makes the protocols and transports of a listener's connections.
pub(crate) struct PyFactory {
    event_loop: Ref,
    factory: Ref,
    server: Option<Ref>,
    // Of the server: each connection gets a copy, so that none sees what another one has set.
    context: Ref,
    class: Ref,
    setup: Setup,
}

/// What connections of a listener get beside their protocol.
struct Setup {
    stack: Option<Stack>,
    // Made by `listen`: counts and hooks.
    stacked: bool,
    read_limit: Option<usize>,
    options: StreamOptions,
    // Of quiet and age, if there are any.
    timeouts: Option<Timeouts>,
}

impl PyFactory {
    pub(crate) fn make(
        &mut self,
        py: Python<'_>,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
        peer: &Address,
    ) -> Verdict<PyStreamProtocol> {
        self.transport(py, engine, stream, peer).map_err(|error| {
            if leaves_run(py, &error) {
                let _ = engine.host().leave_run(error);
                return Failure::Run;
            }
            let helpers = imports(py).transports.bind(py);
            let error = exception(py, error);
            let told = helpers
                .call_method1(intern!(py, "accepting_failed"), (self.event_loop.bind(py), error));
            match told {
                Ok(_) => Failure::Connection,
                Err(error) => {
                    let _ = engine.host().leave_run(error);
                    Failure::Run
                }
            }
        })
    }

    fn transport(
        &self,
        py: Python<'_>,
        engine: &PyEngine,
        stream: StreamKey<PyHost>,
        peer: &Address,
    ) -> PyResult<PyStreamProtocol> {
        let context = copy_context(py, &self.context)?;
        let protocol = in_context(py, &context, || self.factory.bind(py).call0())?;
        let transport = StreamTransport::make(py, &self.class.bind(py))?;
        let inner = transport.get().inner.get(py);
        inner.stacked.set(self.setup.stacked);
        inner.adopt(&protocol)?;
        let descriptor = engine.stream_descriptor(stream);
        let fd = descriptor.and_then(|d| engine.with_driver(|driver| driver.raw_fd(d)));
        let links = Links {
            event_loop: Some(self.event_loop.clone_ref(py)),
            protocol: Some(Ref::new(protocol)),
            context: Some(context),
            server: self.server.as_ref().map(|server| server.clone_ref(py)),
            ..Links::default()
        };
        let old = inner.links.replace(links);
        drop(old);
        inner.fd.set(fd.unwrap_or(-1));
        inner.peer.set(Peer::new(peer));
        if audit::is_heard(py) {
            // The socket object that asyncio has of each connection tells of itself.
            let _ = transport.getattr(intern!(py, "_sock"))?;
        }
        if engine.host().debug.get() {
            let helpers = imports(py).transports.bind(py);
            helpers.call_method1(intern!(py, "accepted"), (&transport,))?;
        }
        engine.stream_set_options(stream, self.setup.options);
        if let Some(timeouts) = self.setup.timeouts {
            engine.stream_set_timeouts(stream, timeouts);
        }
        if let Some(limit) = self.setup.read_limit {
            engine.stream_set_read_limit(stream, limit);
        }
        if let Some(stack) = &self.setup.stack {
            let set = engine.stream_set_layers(stream, stack.clone(), Side::Server, None);
            set.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        }
        // The last thing that can fail: a server waits for whatever was attached to it.
        if let Some(server) = &self.server {
            server::attach(&server.bind(py), &transport)?;
        }
        inner.key.set(Some(stream));
        engine.host().transport_fds.borrow_mut().extend(fd);
        Ok(PyStreamProtocol::new(transport))
    }

    pub(crate) fn accept_failed(&mut self, py: Python<'_>, engine: &PyEngine, why: AcceptFault) {
        let (exhausted, error) = match &why {
            AcceptFault::Exhausted(error) => (true, error),
            AcceptFault::Setup(error) | AcceptFault::Broken(error) => (false, error),
            _ => return,
        };
        let helpers = imports(py).transports.bind(py);
        let error = exception(py, os_error(error));
        let arguments = (self.event_loop.bind(py), error, exhausted);
        if let Err(error) = helpers.call_method1(intern!(py, "accept_failed"), arguments) {
            PyHost::nobody_gets(engine, error, None);
        }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let all = [&self.event_loop, &self.factory, &self.context, &self.class];
        all.into_iter().chain(&self.server).try_for_each(|object| object.visit(visit))
    }
}
