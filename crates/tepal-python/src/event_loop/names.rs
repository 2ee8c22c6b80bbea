//! `getaddrinfo` and `getnameinfo` by the engine's resolver.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use tepal::engine::{Flow, Outcome};
use tepal::names::{
    AddrInfo, AddrInfoError, AddrInfoQuery, Asked, Family, Flags, Hints, HostName, LookupKey,
    NameInfo, NameInfoFlags, ResolveError, Settings, SocketType,
};

use super::Loop;
use crate::errors::exception;
use crate::host::{Completion, PyEngine};
use crate::imports::imports;
use crate::object::Ref;

/// Linux's numbers of families, which Python passes on.
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

#[pymethods]
impl Loop {
    /// The list that socket.getaddrinfo gives, or a future of it and the number to cancel it by.
    #[pyo3(signature = (host, port, family, r#type, proto, flags))]
    fn _getaddrinfo<'py>(
        slf: &Bound<'py, Self>,
        host: &Bound<'py, PyAny>,
        port: &Bound<'py, PyAny>,
        family: i32,
        r#type: i32,
        proto: i32,
        flags: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        let (given, flags) = (host, Flags(flags as u32));
        let (host, service) = (host_text(host)?, service_text(port)?);
        let family = match family {
            0 => Family::Unspecified,
            AF_INET => Family::V4,
            AF_INET6 => Family::V6,
            _ => {
                let wrong = flags.check(host.as_deref(), service.as_deref()).err();
                return Err(gaierror(py, &wrong.unwrap_or(AddrInfoError::Family).into()));
            }
        };
        let hints = Hints { flags, family, socket_type: SocketType(r#type), protocol: proto };
        let query = AddrInfoQuery {
            host: host.as_deref(),
            service: service.as_deref(),
            hints,
            timeout: None,
        };
        let mut future = None;
        let completion = || waiter(slf, &mut future);
        match state.engine.getaddrinfo(state.resolver.get(), &query, completion) {
            Asked::Now(Ok(found)) => addresses(py, &found).map(Bound::into_any),
            Asked::Now(Err(error)) => {
                // A text that its codec refuses is no name at all to Python's socket module.
                if given.is_instance_of::<PyString>() {
                    given.call_method1(intern!(py, "encode"), (intern!(py, "idna"),))?;
                }
                Err(gaierror(py, &error))
            }
            Asked::Later(lookup) => later(py, future, lookup.to_bits()),
        }
    }

    /// The pair that socket.getnameinfo gives, or a future of it and the number to cancel it by.
    fn _getnameinfo<'py>(
        slf: &Bound<'py, Self>,
        sockaddr: &Bound<'py, PyAny>,
        flags: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        state.check_open()?;
        let address = socket_address(sockaddr)?;
        let flags = NameInfoFlags(flags as u32);
        let mut future = None;
        let completion = || waiter(slf, &mut future);
        match state.engine.getnameinfo(state.resolver.get(), address, flags, completion) {
            Asked::Now(Ok(found)) => names(py, &found).map(Bound::into_any),
            Asked::Now(Err(error)) => Err(gaierror(py, &error)),
            Asked::Later(lookup) => later(py, future, lookup.to_bits()),
        }
    }

    /// Nobody waits for this look-up any more.
    fn _lookup_cancel(&self, py: Python<'_>, lookup: u64) -> PyResult<()> {
        let unused = self.state(py)?.engine.lookup_cancel(LookupKey::from_bits(lookup));
        drop(unused);
        Ok(())
    }

    /// Makes a resolver with these settings the loop's.
    #[pyo3(signature = (servers, search, ndots, hosts, timeout, attempts, cache_size))]
    #[allow(clippy::too_many_arguments, reason = "the fields of tepal.Resolver, one by one")]
    fn _use_resolver(
        &self,
        py: Python<'_>,
        servers: Option<Vec<(String, u16)>>,
        search: Option<Vec<String>>,
        ndots: Option<usize>,
        hosts: bool,
        timeout: Option<f64>,
        attempts: Option<u32>,
        cache_size: usize,
    ) -> PyResult<()> {
        let state = self.state(py)?;
        state.check_open()?;
        let settings = settings(servers, search, ndots, hosts, timeout, attempts, cache_size)?;
        let key = state.engine.resolver_add(settings);
        state.engine.set_default_resolver(Some(key));
        if let Some(old) = state.resolver.replace(Some(key)) {
            state.engine.resolver_remove(old);
        }
        Ok(())
    }
}

/// The settings of a `tepal.Resolver`, one by one.
pub(super) fn settings(
    servers: Option<Vec<(String, u16)>>,
    search: Option<Vec<String>>,
    ndots: Option<usize>,
    hosts: bool,
    timeout: Option<f64>,
    attempts: Option<u32>,
    cache_size: usize,
) -> PyResult<Settings> {
    let defaults = Settings::default();
    let server = |(host, port): (String, u16)| match host.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => Err(PyValueError::new_err(format!(
            "a name server is named by its address, not {host:?}"
        ))),
    };
    let name = |name: String| {
        name.parse::<HostName>()
            .map_err(|error| PyValueError::new_err(format!("search domain {name:?}: {error}")))
    };
    let span = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err("timeout must be a number of seconds"))
    };
    Ok(Settings {
        servers: servers.map(|list| list.into_iter().map(server).collect()).transpose()?,
        search: search.map(|list| list.into_iter().map(name).collect()).transpose()?,
        ndots,
        hosts,
        timeout: timeout.map(span).transpose()?,
        attempts,
        cache_size,
        ..defaults
    })
}

/// Sets a future to what came of a look-up.
struct Waiter(Ref);

impl Completion for Waiter {
    fn complete(self: Box<Self>, py: Python<'_>, engine: &PyEngine, outcome: Outcome) -> Flow {
        let future = self.0.bind(py);
        let told = (|| {
            if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                return Ok(());
            }
            let result = match outcome {
                Outcome::AddrInfo(Ok(found)) => addresses(py, &found)?.into_any(),
                Outcome::NameInfo(Ok(found)) => names(py, &found)?.into_any(),
                Outcome::AddrInfo(Err(error)) | Outcome::NameInfo(Err(error)) => {
                    let error = exception(py, gaierror(py, &error));
                    return future.call_method1(intern!(py, "set_exception"), (error,)).map(drop);
                }
                _ => return Ok(()),
            };
            future.call_method1(intern!(py, "set_result"), (result,)).map(drop)
        })();
        engine.host().flow(told)
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.visit(visit)
    }
}

// Makes the future of a look-up that takes its time, and keeps it in `place` for the caller.
fn waiter(lp: &Bound<'_, Loop>, place: &mut Option<PyResult<Py<PyAny>>>) -> Box<dyn Completion> {
    let py = lp.py();
    let future = lp.call_method0(intern!(py, "create_future"));
    // Without a future nobody hears of the answer, and the caller of the error.
    let held = future.as_ref().map_or_else(|_| py.None().into_bound(py), Clone::clone);
    *place = Some(future.map(Bound::unbind));
    Box::new(Waiter(Ref::new(held)))
}

fn later(
    py: Python<'_>,
    future: Option<PyResult<Py<PyAny>>>,
    lookup: u64,
) -> PyResult<Bound<'_, PyAny>> {
    match future {
        Some(future) => Ok((future?, lookup).into_pyobject(py)?.into_any()),
        None => Err(crate::fastcall::panicked()),
    }
}

fn host_text(host: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if host.is_none() {
        return Ok(None);
    }
    if let Ok(text) = host.cast::<PyString>() {
        return match text.to_str() {
            // The root is a name to servers, and none to Python's codec.
            Ok(text) if text.is_ascii() && text.len() < 64 && text != "." => {
                Ok(Some(text.to_owned()))
            }
            // Python's own codec, for its errors.
            _ => {
                let encoded = text.call_method1(intern!(host.py(), "encode"), ("idna",))?;
                Ok(Some(bytes_text(encoded.cast::<PyBytes>()?)))
            }
        };
    }
    match host.cast::<PyBytes>() {
        Ok(bytes) => Ok(Some(bytes_text(bytes))),
        Err(_) => Err(PyTypeError::new_err("getaddrinfo() argument 1 must be string or None")),
    }
}

fn service_text(port: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if port.is_none() {
        return Ok(None);
    }
    if port.is_instance_of::<PyInt>() {
        return match port.extract::<i64>() {
            Ok(number) => Ok(Some(number.to_string())),
            Err(_) => Err(PyOverflowError::new_err("Python int too large to convert to C long")),
        };
    }
    if let Ok(text) = port.cast::<PyString>() {
        return Ok(Some(text.to_str()?.to_owned()));
    }
    match port.cast::<PyBytes>() {
        Ok(bytes) => Ok(Some(bytes_text(bytes))),
        Err(_) => Err(PyOSError::new_err("Int or String expected")),
    }
}

fn bytes_text(bytes: &Bound<'_, PyBytes>) -> String {
    // What is no UTF-8 is no name either; it will not be found.
    String::from_utf8_lossy(bytes.as_bytes()).into_owned()
}

fn socket_address(object: &Bound<'_, PyAny>) -> PyResult<SocketAddr> {
    let Ok(tuple) = object.cast::<PyTuple>() else {
        return Err(PyTypeError::new_err("getnameinfo() argument 1 must be a tuple"));
    };
    let illegal = || PyTypeError::new_err("getnameinfo(): illegal sockaddr argument");
    if !(2..=4).contains(&tuple.len()) {
        return Err(illegal());
    }
    let host: String = tuple.get_item(0)?.extract().map_err(|_| illegal())?;
    let port: i64 = tuple.get_item(1)?.extract().map_err(|_| illegal())?;
    let port = (port & 0xffff) as u16;
    // As the socket module reads them: the lowest 32 bits.
    let number = |index| match tuple.get_item(index) {
        Ok(item) => lowest_bits(&item),
        Err(_) => Ok(0),
    };
    let (flowinfo, scope) = (number(2)?, number(3)?);
    if flowinfo > 0xf_ffff {
        return Err(PyOverflowError::new_err("getnameinfo(): flowinfo must be 0-1048575."));
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) if tuple.len() != 2 => {
            Err(PyOSError::new_err("IPv4 sockaddr must be 2 tuple"))
        }
        Ok(IpAddr::V4(ip)) => Ok(SocketAddr::new(ip.into(), port)),
        Ok(IpAddr::V6(ip)) => Ok(SocketAddrV6::new(ip, port, flowinfo, scope).into()),
        Err(_) => Err(gaierror(object.py(), &AddrInfoError::NoName.into())),
    }
}

fn lowest_bits(item: &Bound<'_, PyAny>) -> PyResult<u32> {
    // SAFETY: a live object. The error value is told from a number by the error that is set.
    let number = unsafe { pyo3::ffi::PyLong_AsUnsignedLongMask(item.as_ptr()) };
    match PyErr::take(item.py()) {
        Some(error) => Err(error),
        None => Ok(number as u32),
    }
}

/// The list of socket.getaddrinfo.
fn addresses<'py>(py: Python<'py>, found: &[AddrInfo]) -> PyResult<Bound<'py, PyList>> {
    let imports = imports(py);
    let list = PyList::empty(py);
    for info in found {
        let (family, address) = match info.address {
            SocketAddr::V4(address) => {
                let pair = (address.ip().to_string(), address.port());
                (&imports.af_inet, pair.into_pyobject(py)?)
            }
            SocketAddr::V6(address) => {
                let flowinfo = address.flowinfo();
                let quad = (address.ip().to_string(), address.port(), flowinfo, address.scope_id());
                (&imports.af_inet6, quad.into_pyobject(py)?)
            }
        };
        let kind = match info.socket_type {
            SocketType::STREAM => imports.sock_stream.clone_ref(py),
            SocketType::DATAGRAM => imports.sock_dgram.clone_ref(py),
            SocketType::RAW => imports.sock_raw.clone_ref(py),
            SocketType(other) => other.into_pyobject(py)?.into_any().unbind(),
        };
        let name = info.canonical_name.as_deref().unwrap_or_default();
        list.append((family, kind, info.protocol, name, address))?;
    }
    Ok(list)
}

fn names<'py>(py: Python<'py>, found: &NameInfo) -> PyResult<Bound<'py, PyTuple>> {
    (&*found.host, &*found.service).into_pyobject(py)
}

/// `socket.gaierror` with the C library's code and words, and what else is known as a note.
pub(crate) fn gaierror(py: Python<'_>, error: &ResolveError) -> PyErr {
    let made = imports(py).gaierror.bind(py).call1((error.code.code(), error.code.to_string()));
    match made {
        Ok(raised) => {
            if error.cause.is_some() {
                // The note is a courtesy: without it the error stands all the same.
                let _ = raised.call_method1(intern!(py, "add_note"), (error.to_string(),));
            }
            PyErr::from_value(raised)
        }
        Err(failed) => failed,
    }
}
