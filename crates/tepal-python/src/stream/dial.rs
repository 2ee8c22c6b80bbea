//! The short way of `create_connection`: a socket of the loop's own, to one address in digits.
//!
//! The transport has the descriptor before it is open: what asyncio does with a socket object between
//! `connect` and its transport costs more than the calls of the kernel. Who asks for the socket gets a
//! view of it, as of an accepted one.

use std::net::{IpAddr, SocketAddr};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use tepal::Address;
use tepal_driver::{Connect, Descriptor, Domain, Kind, SocketOption};

use super::transport::{Links, StreamTransport, options};
use crate::audit;
use crate::errors::os_error;
use crate::event_loop::Loop;
use crate::object::Ref;

#[pymethods]
impl StreamTransport {
    /// 4 or 6 for an address in digits of IPv4 or IPv6; 0 for anything else.
    ///
    /// 0 also where audit hooks are: they are to hear of each socket.
    #[staticmethod]
    #[pyo3(signature = (host, /))]
    fn _version_of(host: &Bound<'_, PyString>) -> u8 {
        match host.to_str().ok().and_then(|host| host.parse::<IpAddr>().ok()) {
            Some(_) if audit::is_heard(host.py()) => 0,
            Some(IpAddr::V4(_)) => 4,
            Some(IpAddr::V6(_)) => 6,
            None => 0,
        }
    }

    /// Opens a socket and starts to connect it. Returns 0 once connected, EINPROGRESS if it takes time
    /// (then `_sock_fd` becomes writable, and `_dialled` tells how it went), else why it failed.
    ///
    /// Raises what a socket object's `connect` would at once.
    #[pyo3(signature = (event_loop, host, port, /))]
    fn _dial(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, Loop>,
        host: &str,
        port: u16,
    ) -> PyResult<i32> {
        let ip: IpAddr = host.parse().map_err(|_| PyValueError::new_err("no address in digits"))?;
        let inner = self.inner.get(py);
        if inner.dialled.get().is_some() || inner.key.get().is_some() {
            return Err(PyRuntimeError::new_err("this transport is open already"));
        }
        let state = event_loop.get().state(py)?;
        state.check_open()?;
        let domain = if ip.is_ipv4() { Domain::Inet } else { Domain::Inet6 };
        let peer = Address::Ip(SocketAddr::new(ip, port));
        let opened = state.engine.with_driver(|driver| {
            let socket = driver.open(domain, Kind::Stream)?;
            Ok((socket, driver.raw_fd(socket)))
        });
        let (socket, fd) = opened.map_err(|error| os_error(&error))?;
        inner.dialled.set(Some(socket));
        inner.fd.set(fd.unwrap_or(-1));
        let connect = || state.engine.with_driver(|driver| driver.connect(socket, &peer));
        match connect().map_err(|error| os_error(&error))? {
            Connect::Connected => Ok(0),
            // Within this host Linux makes the connection inside connect(2), or has it refused, and
            // says all the same that it takes time. The loop would hear only in the next turn.
            Connect::InProgress if cfg!(target_os = "linux") && ip.is_loopback() => {
                match connect() {
                    Ok(Connect::Connected) => Ok(0),
                    Ok(Connect::InProgress) => Ok(libc::EINPROGRESS),
                    Err(error) => match error.raw_os_error() {
                        Some(libc::EISCONN) => Ok(0),
                        Some(libc::EALREADY) | None => Ok(libc::EINPROGRESS),
                        Some(number) => Ok(number),
                    },
                }
            }
            Connect::InProgress => Ok(libc::EINPROGRESS),
        }
    }

    /// How a connect that took time has ended: 0, or the kernel's number.
    #[pyo3(signature = (event_loop, /))]
    fn _dialled(&self, py: Python<'_>, event_loop: &Bound<'_, Loop>) -> PyResult<i32> {
        let socket = self.dialled(py)?;
        let engine = &event_loop.get().state(py)?.engine;
        let error = engine.with_driver(|driver| driver.take_error(socket));
        let error = error.map_err(|error| os_error(&error))?;
        Ok(error.and_then(|error| error.raw_os_error()).unwrap_or(0))
    }

    /// Opens the transport on the socket that was dialled.
    #[pyo3(signature = (event_loop, protocol, context, waiter, /))]
    fn _open_dialled(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, Loop>,
        protocol: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
        waiter: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let state = event_loop.get().state(py)?;
        state.check_open()?;
        let this = slf.get();
        let socket = this.dialled(py)?;
        let inner = this.inner.get(py);
        inner.adopt(&protocol)?;
        let no_delay = SocketOption::NoDelay(true);
        let set = state.engine.with_driver(|driver| driver.set_option(socket, &no_delay));
        set.map_err(|error| os_error(&error))?;
        let links = Links {
            event_loop: Some(Ref::new(event_loop.clone().into_any())),
            protocol: Some(Ref::new(protocol)),
            context: Some(Ref::new(context)),
            waiter: Some(Ref::new(waiter)),
            ..Links::default()
        };
        let old = inner.links.replace(links);
        drop(old);
        inner.dialled.set(None);
        StreamTransport::start(slf, state, socket, inner.fd.get(), options());
        Ok(())
    }

    /// Closes the socket of a transport that was not opened.
    #[pyo3(signature = (event_loop, /))]
    fn _hang_up(&self, py: Python<'_>, event_loop: &Bound<'_, Loop>) -> PyResult<()> {
        let inner = self.inner.get(py);
        if let Some(socket) = inner.dialled.take() {
            inner.fd.set(-1);
            // A loop that is closed has closed it.
            let engine = &event_loop.get().state(py)?.engine;
            let _ = engine.with_driver(|driver| driver.close(socket));
        }
        Ok(())
    }
}

impl StreamTransport {
    fn dialled(&self, py: Python<'_>) -> PyResult<Descriptor> {
        self.inner
            .get(py)
            .dialled
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this transport was not dialled"))
    }
}
