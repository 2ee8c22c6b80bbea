//! The layers of a stream transport, and what else goes beyond asyncio's.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::engine::{Flow, Outcome, StreamKey};
use tepal::layers::{Error, ErrorKind, Host, LinesMode, ProxyAnswer, SocksReply};
use tepal::{Late, LayerId, Residual, Side, StreamOptions, Which};

use super::reach::FOR_EVER;
use super::transport::{StreamTransport, options};
use crate::errors::{closed_record, error_of_layer, exception, os_error};
use crate::event_loop::State;
use crate::host::{Completion, PyEngine, PyHost};
use crate::imports::imports;
use crate::layers::{Spec, info_to_python, stack_of, with_engine};
use crate::object::Ref;

/// Ends a future of Python's with the outcome of an operation.
struct FutureCompletion(Ref);

impl Completion for FutureCompletion {
    fn complete(self: Box<Self>, py: Python<'_>, engine: &PyEngine, outcome: Outcome) -> Flow {
        let result = match outcome {
            Outcome::Popped(Ok(how)) => {
                Ok(how.as_str().into_pyobject(py).unwrap_or_else(|never| match never {}).into_any())
            }
            Outcome::Popped(Err(error)) => Err(error_of_layer(py, &error)),
            Outcome::Joined(Ok(counts)) => counts.into_pyobject(py).map(Bound::into_any),
            Outcome::Joined(Err(error)) => Err(os_error(&error)),
            _ => Ok(py.None().into_bound(py)),
        };
        let helpers = imports(py).helpers.bind(py);
        let told = match result {
            Ok(value) => helpers
                .call_method1(intern!(py, "finish_future"), (self.0.bind(py), value, py.None())),
            Err(error) => {
                let error = exception(py, error);
                helpers
                    .call_method1(intern!(py, "finish_future"), (self.0.bind(py), py.None(), error))
            }
        };
        engine.host().flow(told.map(drop))
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.visit(visit)
    }
}

/// A layer's refusal of a call, as what the caller did wrong.
fn refusal(py: Python<'_>, error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::NoSuchLayer => PyKeyError::new_err(error.message().to_owned()),
        ErrorKind::InvalidSetting => PyValueError::new_err(error.to_string()),
        ErrorKind::Closing | ErrorKind::WriteEofRefused | ErrorKind::NoSuchCommand => {
            PyRuntimeError::new_err(error.message().to_owned())
        }
        _ => error_of_layer(py, error),
    }
}

#[pymethods]
impl StreamTransport {
    /// Says which layers stand on the wire, before the connection is established.
    fn _set_layers(
        &self,
        py: Python<'_>,
        specs: &Bound<'_, PyAny>,
        server_side: bool,
        host: Option<&str>,
    ) -> PyResult<()> {
        let stack = stack_of(specs)?;
        let (state, key) = self.open(py)?;
        let side = if server_side { Side::Server } else { Side::Client };
        let host = host.and_then(host_of);
        let engine = &state.engine;
        engine.stream_set_layers(key, stack, side, host).map_err(|error| refusal(py, &error))
    }

    /// Who is told when bytes may flow, or that they never will.
    #[getter]
    fn _waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.waiter.as_ref().map(|waiter| waiter.bind(py).to_owned().unbind())
    }

    #[setter(_waiter)]
    fn set_waiter(&self, py: Python<'_>, waiter: Bound<'_, PyAny>) {
        let old = self.inner.get(py).links.borrow_mut().waiter.replace(Ref::new(waiter));
        drop(old);
    }

    /// Sets how long handshakes and the close may take; None: for ever.
    fn _set_spans(
        &self,
        py: Python<'_>,
        handshake: Option<f64>,
        closing: Option<f64>,
    ) -> PyResult<()> {
        let (state, key) = self.open(py)?;
        state.engine.stream_set_options(key, spans(handshake, closing));
        Ok(())
    }

    fn _push_layer(
        &self,
        py: Python<'_>,
        spec: &Bound<'_, Spec>,
        below: Option<&str>,
        residual: &str,
    ) -> PyResult<u64> {
        let (state, key) = self.open(py)?;
        // The caller has checked the word.
        let residual = match residual {
            "discard" => Residual::Discard,
            "feed" => Residual::Feed,
            _ => Residual::Reject,
        };
        let spec = spec.get().shared();
        let engine = &state.engine;
        let pushed = with_engine(engine, || engine.stream_push_layer(key, &spec, below, residual));
        pushed.map(LayerId::to_bits).map_err(|error| refusal(py, &error))
    }

    fn _pop_layer(
        &self,
        py: Python<'_>,
        name: Option<&str>,
        id: Option<u64>,
        timeout: f64,
        keep: bool,
        future: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (state, key) = self.open(py)?;
        let late = if keep { Late::Keep } else { Late::Close };
        let timeout = seconds(timeout);
        let completion = Box::new(FutureCompletion(Ref::new(future)));
        let layer = id.map_or(Which::from(name), |id| Which::Id(LayerId::from_bits(id)));
        let popped = state.engine.stream_pop_layer(key, layer, timeout, late, completion);
        popped.map_err(|(error, completion)| {
            drop(completion);
            refusal(py, &error)
        })
    }

    fn _command(&self, py: Python<'_>, layer: &str, command: Bound<'_, PyAny>) -> PyResult<()> {
        let (state, key) = self.open(py)?;
        let mode = match command.extract::<&str>() {
            Ok("raw") if layer == "lines" => Some(LinesMode::Raw),
            Ok("lines") if layer == "lines" => Some(LinesMode::Lines),
            _ => None,
        };
        let command: Box<dyn std::any::Any> = match mode {
            Some(mode) => Box::new(mode),
            None => Box::new(Rc::new(Ref::new(command))),
        };
        let engine = &state.engine;
        engine.stream_command(key, layer, command).map_err(|error| refusal(py, &error))
    }

    /// Answers a client of a proxy layer: with the address that its connection was made from, or
    /// with a refusal's code (RFC 1928, section 6).
    fn _answer(
        &self,
        py: Python<'_>,
        layer: &str,
        address: Option<(IpAddr, u16)>,
        refusal_code: u8,
    ) -> PyResult<()> {
        let (state, key) = self.open(py)?;
        let answer = match address {
            Some((address, port)) => ProxyAnswer::Accept(address, port),
            None => ProxyAnswer::Refuse(
                SocksReply::from_code(refusal_code).unwrap_or(SocksReply::GeneralFailure),
            ),
        };
        let answered = state.engine.stream_command(key, layer, Box::new(answer));
        answered.map_err(|error| refusal(py, &error))
    }

    fn _join(
        &self,
        py: Python<'_>,
        other: &Bound<'_, PyAny>,
        future: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (state, key) = self.open(py)?;
        let Ok(other) = other.cast::<StreamTransport>() else {
            let text = format!(
                "other must be a stream transport of tepal, not {}",
                other.get_type().name()?
            );
            return Err(PyTypeError::new_err(text));
        };
        let (other_state, other_key) = other.get().open(py)?;
        if !std::ptr::eq(state, other_state) {
            return Err(PyValueError::new_err("the two transports are of different loops"));
        }
        let completion = Box::new(FutureCompletion(Ref::new(future)));
        let joined = state.engine.stream_join(key, other_key, completion);
        joined.map_err(|(error, completion)| {
            drop(completion);
            match error.kind() {
                std::io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
                _ => PyRuntimeError::new_err(error.to_string()),
            }
        })
    }

    /// The names of the layers, from the wire upward.
    #[getter]
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let names = match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state.engine.stream_layers(key),
            _ => Vec::new(),
        };
        PyTuple::new(py, names)
    }

    /// The ids of the layers that are built, from the wire upward.
    #[getter]
    fn layer_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let layers = match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state.engine.stream_layer_ids(key),
            _ => Vec::new(),
        };
        let ids: Vec<u64> = layers.into_iter().map(|(id, _)| id.to_bits()).collect();
        PyTuple::new(py, ids)
    }

    /// What the handshake of the topmost layer of a name found out: a TLSInfo, a ProxyInfo, an address; or None.
    #[pyo3(signature = (name, /))]
    pub(super) fn layer_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let info = match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state.engine.stream_layer_info(key, name),
            _ => None,
        };
        match info {
            Some(info) => info_to_python(py, &info),
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// How the connection ended: a Closed; None while it has not.
    #[getter]
    fn closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let links = self.inner.get(py).links.borrow();
        let closed = links.closed.clone();
        let raised = links.raised.as_ref().map(|raised| raised.clone_ref(py));
        drop(links);
        match closed {
            Some(closed) => closed_record(py, &closed, raised.as_ref()),
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// Says not to call data_received with fewer than `count` bytes, except at the end of input.
    #[pyo3(signature = (count, /))]
    fn set_read_low(&self, py: Python<'_>, count: &Bound<'_, PyAny>) -> PyResult<()> {
        let count = positive("set_read_low() takes", count)?;
        match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => state
                .engine
                .stream_set_read_low(key, count)
                .map_err(|error| PyValueError::new_err(error.to_string())),
            _ => Ok(()),
        }
    }

    /// Sets how many bytes the protocol may leave unread before it must make progress.
    #[pyo3(signature = (count, /))]
    fn set_read_limit(&self, py: Python<'_>, count: &Bound<'_, PyAny>) -> PyResult<()> {
        let count = positive("set_read_limit() takes", count)?;
        if let (Some(state), Some(key)) = (self.state(py), self.inner.get(py).key.get()) {
            state.engine.stream_set_read_limit(key, count);
        }
        Ok(())
    }
}

impl StreamTransport {
    pub(super) fn open<'py>(&self, py: Python<'py>) -> PyResult<(&'py State, StreamKey<PyHost>)> {
        match (self.state(py), self.inner.get(py).key.get()) {
            (Some(state), Some(key)) => {
                state.check_open()?;
                state.check_thread_in_debug(py)?;
                Ok((state, key))
            }
            _ => Err(PyRuntimeError::new_err("the transport is not open")),
        }
    }
}

/// The host of a connection for layers that verify it; None for what is no host's name.
pub(super) fn host_of(host: &str) -> Option<Host> {
    // A scope is of this machine only, and no certificate has one.
    let bare = host.split_once('%').map_or(host, |(bare, _)| bare);
    Host::parse(bare.trim_end_matches('.')).ok()
}

pub(super) fn spans(handshake: Option<f64>, closing: Option<f64>) -> StreamOptions {
    let mut options = options();
    options.closing_timeout = closing.map(seconds);
    options.handshake_timeout = handshake.map_or(FOR_EVER, seconds);
    options
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(FOR_EVER).min(FOR_EVER)
}

fn positive(what: &str, count: &Bound<'_, PyAny>) -> PyResult<usize> {
    if count.is_instance_of::<pyo3::types::PyBool>()
        || !count.is_instance_of::<pyo3::types::PyInt>()
    {
        let text = format!("{what} a number of bytes, not {}", count.get_type().name()?);
        return Err(PyTypeError::new_err(text));
    }
    match count.extract::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(PyValueError::new_err(format!("{what} 1 byte or more, not {count}"))),
    }
}
