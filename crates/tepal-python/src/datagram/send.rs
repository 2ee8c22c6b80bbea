//! `sendto`.

use std::io;

use pyo3::exceptions::{PyBlockingIOError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{Borrowed, ffi, intern};
use tepal::{Address, Crossing};

use super::transport::DatagramTransport;
use crate::address;
use crate::audit;
use crate::errors::{exception, leaves_run, os_error};
use crate::fastcall::{Arguments, add_method, guard, missing, unexpected};
use crate::imports::imports;
use crate::memory;
use crate::stream::Readable;

const TOLD_FROM: u32 = 5;

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: sendto };
    let doc = c"sendto($self, data, addr=None)\n--\n\n\
        Send one datagram, to addr or to the peer that the transport is for. Never blocks.";
    add_method(class, c"sendto", function, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, doc)
}

// SAFETY: CPython calls it on a live instance, with these arguments.
unsafe extern "C" fn sendto(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: as above.
        let (transport, arguments) = unsafe {
            (
                Borrowed::from_ptr(py, object).cast_unchecked::<DatagramTransport>(),
                Arguments::new(py, args, count, names),
            )
        };
        let (mut data, mut to) = (arguments.get(0), arguments.get(1));
        for (name, value) in arguments.keywords() {
            match name {
                "data" => data = Some(value),
                "addr" => to = Some(value),
                _ => return Err(unexpected("sendto", name)),
            }
        }
        if arguments.positional().len() > 2 {
            let given = arguments.positional().len() + 1;
            return Err(PyTypeError::new_err(format!(
                "sendto() takes from 2 to 3 positional arguments but {given} were given"
            )));
        }
        let data = data.ok_or_else(|| missing("sendto", "data"))?;
        let to = to.filter(|to| !to.is_none()).map(|to| (*to).clone());
        send(transport, &Readable::of(data)?, to)?;
        // SAFETY: None is live for ever.
        Ok(unsafe { ffi::Py_NewRef(ffi::Py_None()) })
    })
}

fn send(
    transport: Borrowed<'_, '_, DatagramTransport>,
    data: &Readable<'_, '_>,
    to: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = transport.py();
    let inner = transport.get().inner.get(py);
    if data.is_empty() && !inner.sends_empty.get() {
        return Ok(());
    }
    let fixed = inner.links.borrow().address.as_ref().map(|a| a.bind(py).to_owned());
    if let Some(fixed) = &fixed
        && let Some(to) = &to
        && !to.eq(fixed)?
    {
        let text = format!("Invalid address: must be None or {}", fixed.str()?);
        return Err(PyValueError::new_err(text));
    }
    let (Some(state), Some(key)) = (transport.get().state(py), inner.key.get()) else {
        return Ok(());
    };
    if inner.lost.get() {
        return wrote_after_end(transport);
    }
    if state.engine.datagram_is_closing(key) {
        // asyncio looks at this only where the peer was named at the beginning.
        if fixed.is_some() {
            return wrote_after_end(transport);
        }
        let to = to.filter(|_| !inner.connected.get());
        return send_by_python(transport, data, to);
    }
    let given = to.or(fixed);
    let to = match given.clone() {
        _ if inner.connected.get() => None,
        // It has the words for it.
        None => return send_by_python(transport, data, Some(py.None().into_bound(py))),
        Some(to) => {
            let last = inner.peers.borrow().address_of(&to);
            match last {
                Some(address) => Some(Address::Ip(address)),
                None => match parse(transport, &to) {
                    Ok(address) => Some(address),
                    Err(error) => return fail(transport, error),
                },
            }
        }
    };
    if to.is_some() && audit::is_heard(py) {
        let helpers = imports(py).transports.bind(py);
        let told = helpers.call_method1(intern!(py, "sends_to"), (transport, &given));
        if let Err(error) = told {
            return fail(transport, error);
        }
    }
    match state.engine.datagram_send(key, data.bytes(), to.as_ref()) {
        Ok(crossing) => after_send(transport, crossing),
        Err(error)
            if error.kind() == io::ErrorKind::NotConnected && error.raw_os_error().is_none() =>
        {
            wrote_after_end(transport)
        }
        Err(error) => refused(transport, given, &error),
    }
}

// The kernel's refusal; or Python's, of what is a path where an Internet address should be.
#[cold]
fn refused(
    transport: Borrowed<'_, '_, DatagramTransport>,
    to: Option<Bound<'_, PyAny>>,
    error: &io::Error,
) -> PyResult<()> {
    let py = transport.py();
    let transports = imports(py).transports.bind(py);
    let arguments = (transport, to, exception(py, os_error(error)));
    let why = transports.call_method1(intern!(py, "why_not_sent"), arguments)?;
    fail(transport, PyErr::from_value(why))
}

// What asyncio leaves to the socket object, which is open until `connection_lost`.
#[cold]
fn send_by_python(
    transport: Borrowed<'_, '_, DatagramTransport>,
    data: &Readable<'_, '_>,
    to: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = transport.py();
    let sock = transport.getattr(intern!(py, "_sock"))?;
    let data = memory::bytes(py, data.bytes())?;
    let sent = match to {
        Some(to) => sock.call_method1(intern!(py, "sendto"), (data, to)),
        None => sock.call_method1(intern!(py, "send"), (data,)),
    };
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.is_instance_of::<PyBlockingIOError>(py) => wrote_after_end(transport),
        Err(error) => fail(transport, error),
    }
}

// An address of the user's. Names are resolved as `socket.sendto` resolves them: here and now.
fn parse(
    transport: Borrowed<'_, '_, DatagramTransport>,
    to: &Bound<'_, PyAny>,
) -> PyResult<Address> {
    if let Some(address) = address::from_python(to)? {
        return Ok(address);
    }
    let py = transport.py();
    let transports = imports(py).transports.bind(py);
    let resolved = transports.call_method1(intern!(py, "resolve_now"), (transport, to))?;
    address::from_python(&resolved)?
        .ok_or_else(|| PyTypeError::new_err(format!("{resolved} is no address of this socket")))
}

// An OSError is the protocol's to hear of; anything else ends the transport, as in asyncio.
#[cold]
fn fail(transport: Borrowed<'_, '_, DatagramTransport>, error: PyErr) -> PyResult<()> {
    let py = transport.py();
    if leaves_run(py, &error) {
        return Err(error);
    }
    if error.is_instance_of::<pyo3::exceptions::PyOSError>(py) {
        return tell_error(transport, error);
    }
    let text = "Fatal write error on datagram transport";
    transport.call_method1(intern!(py, "_fatal_error"), (exception(py, error), text)).map(drop)
}

#[cold]
fn tell_error(transport: Borrowed<'_, '_, DatagramTransport>, error: PyErr) -> PyResult<()> {
    let py = transport.py();
    match transport.get().get_protocol_bound(py) {
        Some(protocol) => {
            protocol.call_method1(intern!(py, "error_received"), (exception(py, error),)).map(drop)
        }
        None => Ok(()),
    }
}

#[cold]
fn wrote_after_end(transport: Borrowed<'_, '_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let count = &transport.get().inner.get(py).wrote_after_end;
    count.set(count.get().saturating_add(1));
    if count.get() >= TOLD_FROM {
        imports(py).transports.bind(py).call_method0(intern!(py, "wrote_after_end"))?;
    }
    Ok(())
}

/// Above the high mark the protocol is paused. Its exception goes to the loop's handler; one that
/// leaves the run comes out of the call.
#[inline]
pub(super) fn after_send(
    transport: Borrowed<'_, '_, DatagramTransport>,
    crossing: Crossing,
) -> PyResult<()> {
    if crossing == Crossing::High {
        let py = transport.py();
        let transports = imports(py).transports.bind(py);
        transports.call_method1(intern!(py, "pause_protocol"), (transport,))?;
    }
    Ok(())
}

impl DatagramTransport {
    pub(super) fn get_protocol_bound<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let links = self.inner.get(py).links.borrow();
        links.protocol.as_ref().map(|protocol| protocol.bind(py).to_owned())
    }
}
