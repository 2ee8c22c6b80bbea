//! How an `ssl=` connection lives: what comes from below, and the handshake.
//!
//! What the user's protocol sees is asyncio's `sslproto`: which callbacks come, inside which call,
//! with which exception. Where asyncio loses data or hides an error, this does not:
//! docs/design/openssl.md has the list.

use pyo3::exceptions::{PyConnectionAbortedError, PyException};
use pyo3::intern;
use pyo3::prelude::*;

use super::Classes;
use super::session::Step;
use super::transport::{SslTransport, State, Told};
use crate::errors::{exception, leaves_run};
use crate::stream::Manner;

pub(super) const FATAL: &str = "Fatal error on transport";
pub(super) const FATAL_PROTOCOL: &str = "Fatal error on SSL protocol";

pub(super) type This<'a, 'py> = &'a Bound<'py, SslTransport>;

impl SslTransport {
    /// Ciphertext has arrived.
    #[inline]
    pub(crate) fn received(slf: This<'_, '_>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        let result = match inner.state.get() {
            State::Idle => Ok(()),
            State::Open
                if inner.manner.get() != Manner::Buffered && !inner.reading_paused.get() =>
            {
                SslTransport::read(slf, data)
            }
            _ => {
                let Some(session) = slf.get().session(py) else { return Ok(()) };
                session.feed(py, data).and_then(|()| SslTransport::advance(slf, &[]))
            }
        };
        SslTransport::goes_on(slf, result)
    }

    /// An exception that leaves the run costs the connection nothing: what it has cut short is
    /// taken up again in the next run. (asyncio waits for the peer's next bytes.)
    #[inline]
    pub(super) fn goes_on<R>(slf: This<'_, '_>, result: PyResult<R>) -> PyResult<R> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let py = slf.py();
        if leaves_run(py, &error) {
            let more = slf.getattr(intern!(py, "_reading_resumed"))?;
            slf.get().call_soon(py, more, None)?;
        }
        Err(error)
    }

    /// Does what can be done with what has come.
    pub(super) fn advance(slf: This<'_, '_>, fresh: &[u8]) -> PyResult<()> {
        match slf.get().inner.get(slf.py()).state.get() {
            State::Idle => Ok(()),
            State::Handshaking => SslTransport::handshake(slf),
            State::Open => SslTransport::read(slf, fresh),
            State::Flushing => SslTransport::flush(slf),
            State::Closing => SslTransport::shut_down(slf),
        }
    }

    // ---- the handshake

    pub(super) fn start_handshake(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        inner.state.set(State::Handshaking);
        if inner.closed.get() {
            // Its maker was cancelled meanwhile.
            return SslTransport::abandon(slf, None, false);
        }
        let late = slf.getattr(intern!(py, "_handshake_late"))?;
        slf.get().set_timer(py, inner.timeouts.get().0, late)?;
        slf.call_method0(intern!(py, "_handshake_begins"))?;
        SslTransport::handshake(slf)
    }

    fn handshake(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let Some(session) = slf.get().session(py) else { return Ok(()) };
        let result = session.handshake(py);
        if slf.get().inner.get(py).state.get() != State::Handshaking {
            // A callback of the context has ended the connection meanwhile.
            return result.map(drop);
        }
        match result {
            Ok(Step::Again) => {
                SslTransport::send_output(slf)?;
                SslTransport::tell_pressure(slf)
            }
            Ok(Step::Done(())) => SslTransport::handshake_done(slf),
            Err(error) if is_ssl_error(py, &error) => {
                // The alert that tells the peer why; asyncio keeps it to itself.
                SslTransport::send_output(slf)?;
                SslTransport::flush_below(slf);
                SslTransport::handshake_failed(slf, error)
            }
            Err(error) => Err(error),
        }
    }

    fn handshake_done(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        slf.get().drop_timer(py)?;
        inner.state.set(State::Open);
        match slf.call_method0(intern!(py, "_handshake_done")) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                return SslTransport::handshake_failed(slf, error);
            }
            result => result?,
        };
        if inner.told.get() == Told::Nothing {
            inner.told.set(Told::Made);
            if let Some(protocol) = slf.get().protocol(py) {
                match protocol.call_method1(intern!(py, "connection_made"), (slf,)) {
                    // Who waits for the connection has it.
                    Err(error) if leaves_run(py, &error) => {
                        SslTransport::tell_waiter(slf, None)?;
                        return Err(error);
                    }
                    result => result?,
                };
            }
        }
        SslTransport::tell_waiter(slf, None)?;
        SslTransport::read(slf, &[])
    }

    pub(super) fn handshake_failed(slf: This<'_, '_>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        slf.get().drop_timer(py)?;
        let inner = slf.get().inner.get(py);
        inner.ends_by("handshake_failed");
        inner.state.set(State::Idle);
        let error = exception(py, error).into_bound(py).into_any();
        slf.call_method1(intern!(py, "_handshake_failed"), (&error,))?;
        SslTransport::tell_waiter(slf, Some(error))
    }

    pub(super) fn handshake_late(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if inner.state.get() != State::Handshaking {
            return Ok(());
        }
        let text = format!(
            "SSL handshake is taking longer than {} seconds: aborting the connection",
            inner.timeouts.get().0
        );
        inner.ends_by("handshake_timed_out");
        SslTransport::fail(slf, PyConnectionAbortedError::new_err(text), FATAL)
    }

    pub(super) fn tell_waiter(slf: This<'_, '_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let waiter = slf.get().inner.get(py).links.borrow_mut().waiter.take();
        match waiter {
            Some(waiter) => {
                slf.call_method1(intern!(py, "_tell_waiter"), (waiter.bind(py), error)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Ends the connection because of an error, and tells of it.
    pub(super) fn fail(slf: This<'_, '_>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let is_tls = is_ssl_error(py, &error);
        let kind = if is_tls { "layer_failed" } else { "protocol_failed" };
        slf.get().inner.get(py).ends_by(kind);
        let error = exception(py, error);
        slf.call_method1(intern!(py, "_fatal_error"), (error, message)).map(drop)
    }
}

pub(super) fn is_ssl_error(py: Python<'_>, error: &PyErr) -> bool {
    Classes::has(py, error, |classes| &classes.error)
}
