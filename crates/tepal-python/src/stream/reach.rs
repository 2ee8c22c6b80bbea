//! Connections that are made by name, with the protocol attached first, and made again.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use tepal::engine::{Outbound, Peer};
use tepal::names::{Family, ResolverKey};
use tepal::{Address, Addresses, Backoff, Handshakes, Phase, Restart, Side, Timeouts, Unsent};
use tepal_driver::UnixAddress;

use super::protocol::PyStreamProtocol;
use super::stack::{host_of, seconds};
use super::transport::{Links, StreamTransport, options};
use crate::errors::problem_to_python;
use crate::event_loop::Loop;
use crate::layers::stack_of;
use crate::object::Ref;

/// `tepal.Timeouts`, field by field.
pub(super) type Spans = [Option<f64>; 9];

pub(super) fn timeouts(
    [total, dns, connecting, handshake, idle, read, write, session, closing]: Spans,
) -> Timeouts {
    Timeouts {
        total: total.map(seconds),
        dns: dns.map(seconds),
        connecting: connecting.map(seconds),
        handshake: handshake.map(seconds),
        idle: idle.map(seconds),
        read: read.map(seconds),
        write: write.map(seconds),
        session: session.map(seconds),
        closing: closing.map(seconds),
    }
}

fn peer_of(peer: &Bound<'_, PyAny>) -> PyResult<Peer> {
    if let Ok((host, port)) = peer.extract::<(String, u16)>() {
        return Ok(Peer::Host { host: host.into(), port, family: Family::Unspecified });
    }
    if let Ok(path) = peer.extract::<PathBuf>() {
        return Ok(Peer::Addresses(vec![Address::Unix(UnixAddress::Path(path))]));
    }
    Err(PyTypeError::new_err("a peer is a host and a port, or a path"))
}

#[pymethods]
impl StreamTransport {
    /// Attaches a protocol to a connection that is to be made.
    ///
    /// `peer`: (host, port) or a path. `local`: (address, port, scope) or None. `order`: whether
    /// addresses race, and what becomes of handshakes. `timeouts` and
    /// `backoff`: the fields of the values, in order.
    #[pyo3(signature = (
        event_loop, protocol, context, peer, local, resolver, order, timeouts, backoff, layers,
    ))]
    #[allow(clippy::too_many_arguments, reason = "one caller, which names them")]
    fn _connect(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, Loop>,
        protocol: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
        peer: &Bound<'_, PyAny>,
        local: Option<(IpAddr, u16, u32)>,
        resolver: Option<u64>,
        order: (bool, String),
        timeouts: Spans,
        backoff: Option<(f64, f64, f64, f64, Option<u32>, f64)>,
        layers: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = event_loop.get().state(py)?;
        state.check_open()?;
        let mut to = Outbound::to(peer_of(peer)?);
        let host = match &to.peer {
            Peer::Host { host, .. } => host_of(host),
            Peer::Addresses(_) => None,
        };
        to.local = local.into_iter().map(local_address).collect();
        to.resolver = resolver.map(ResolverKey::from_bits);
        let (race, handshakes) = order;
        to.addresses = if race { Addresses::Race } else { Addresses::Linear };
        to.handshakes = match handshakes.as_str() {
            "race" => Handshakes::Race,
            "once" => Handshakes::Once,
            _ => Handshakes::Next,
        };
        to.timeouts = self::timeouts(timeouts);
        to.backoff = backoff.map(|(first, factor, most, jitter, attempts, steady)| Backoff {
            first: seconds(first),
            factor,
            most: seconds(most),
            jitter,
            attempts,
            steady: seconds(steady),
        });
        let stack = stack_of(layers)?;
        let inner = slf.get().inner.get(py);
        if inner.key.get().is_some() {
            return Err(PyRuntimeError::new_err("this transport is open already"));
        }
        inner.stacked.set(true);
        inner.adopt(&protocol)?;
        let links = Links {
            event_loop: Some(Ref::new(event_loop.clone().into_any())),
            protocol: Some(Ref::new(protocol)),
            context: Some(Ref::new(context)),
            ..Links::default()
        };
        let old = inner.links.replace(links);
        drop(old);
        let engine = &state.engine;
        let key = engine.stream_reach(to, PyStreamProtocol::new(slf.clone()), options());
        inner.key.set(Some(key));
        // Also without layers: it tells the side and the host for those that are pushed later.
        let set = engine.stream_set_layers(key, stack, Side::Client, host);
        set.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// Makes a new attempt. Whether it can.
    fn _reconnect(
        &self,
        py: Python<'_>,
        delay: Option<f64>,
        resolve: bool,
        keep: bool,
    ) -> PyResult<bool> {
        let (state, key) = self.open(py)?;
        let restart = if resolve { Restart::Resolve } else { Restart::Connect };
        let unsent = if keep { Unsent::Keep } else { Unsent::Drop };
        let inner = self.inner.get(py);
        let begun = state.engine.stream_reconnect(key, delay.map(seconds), restart, unsent);
        if begun && !inner.lost.get() {
            inner.closing.set(false);
        }
        Ok(begun)
    }

    /// Limits the quiet, silence and age of a connection, from now on.
    fn _set_timeouts(&self, py: Python<'_>, timeouts: Spans) -> PyResult<()> {
        let (state, key) = self.open(py)?;
        state.engine.stream_set_timeouts(key, self::timeouts(timeouts));
        Ok(())
    }

    /// Where the connection stands, in one word.
    #[getter]
    fn _phase(&self, py: Python<'_>) -> &'static str {
        let inner = self.inner.get(py);
        match (self.state(py), inner.key.get()) {
            (Some(state), Some(key)) if !inner.lost.get() => {
                state.engine.stream_phase(key).as_str()
            }
            (_, Some(_)) => Phase::Closed.as_str(),
            (_, None) => Phase::Resolve.as_str(),
        }
    }

    /// What kept the peer from being reached, or ended the connection: a Problem, or None.
    #[getter]
    fn problem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner.get(py);
        let now = match (self.state(py), inner.key.get()) {
            (Some(state), Some(key)) => state.engine.stream_problem(key),
            _ => None,
        };
        let links = inner.links.borrow();
        let ended = || links.closed.as_ref().and_then(|closed| closed.problem.clone());
        let problem = now.or_else(ended);
        let raised = links.raised.as_ref().map(|raised| raised.clone_ref(py));
        drop(links);
        match problem {
            Some(problem) => problem_to_python(py, &problem, raised.as_ref()),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

fn local_address((ip, port, scope): (IpAddr, u16, u32)) -> Address {
    Address::Ip(match ip {
        IpAddr::V4(ip) => SocketAddr::from((ip, port)),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    })
}

/// What is far enough to be for ever.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
