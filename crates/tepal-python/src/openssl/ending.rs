//! How an `ssl=` connection ends: by us, by the peer, or by what is below.

use pyo3::exceptions::{
    PyConnectionAbortedError, PyConnectionResetError, PyException, PyTimeoutError,
};
use pyo3::intern;
use pyo3::prelude::*;

use super::flow::{FATAL, This, is_ssl_error};
use super::session::Step;
use super::transport::{Inner, SslTransport, State, Told};
use crate::errors::exception;
use crate::memory;

impl SslTransport {
    /// The transport below has no more; whether it is to stay open for now.
    pub(super) fn below_ended(slf: This<'_, '_>) -> PyResult<bool> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        inner.eof_received.set(true);
        let result = match inner.state.get() {
            State::Idle => Ok(()),
            State::Handshaking => {
                let error = PyConnectionResetError::new_err(());
                SslTransport::handshake_failed(slf, error)
            }
            State::Open => {
                let session = slf.get().session(py);
                let truncated = session.is_some_and(|session| !session.peer_has_closed());
                inner.truncated.set(truncated);
                inner.state.set(State::Flushing);
                if inner.reading_paused.get() {
                    return Ok(true);
                }
                if truncated {
                    inner.ends_by("tls_truncated");
                }
                SslTransport::flush(slf)
            }
            State::Flushing => SslTransport::flush(slf),
            State::Closing => SslTransport::shut_down(slf),
        };
        match result {
            Ok(()) => {
                // Bytes that were written before still leave; asyncio drops what the transport
                // below could not take yet.
                Ok(inner.state.get() == State::Flushing)
            }
            Err(error) => {
                if error.is_instance_of::<PyException>(py)
                    && let Some(below) = slf.get().below(py)
                {
                    below.call_method0(intern!(py, "close"))?;
                }
                Err(error)
            }
        }
    }

    pub(super) fn start_shutdown(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        match inner.state.get() {
            State::Flushing | State::Closing | State::Idle => Ok(()),
            State::Handshaking => SslTransport::abandon(slf, None, false),
            State::Open => {
                inner.closed.set(true);
                inner.state.set(State::Flushing);
                let by_peer =
                    slf.get().session(py).is_some_and(|session| session.peer_has_closed());
                inner.closer.set(Some(if by_peer { "peer_closed_layer" } else { "local" }));
                SslTransport::arm_shutdown(slf)?;
                SslTransport::flush(slf)
            }
        }
    }

    // Sees to it that the limit of the shutdown runs, also where the peer began.
    fn limit_flushing(slf: This<'_, '_>) -> PyResult<()> {
        if slf.get().has_timer(slf.py()) {
            return Ok(());
        }
        SslTransport::arm_shutdown(slf)
    }

    fn arm_shutdown(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        inner.left_at_timer.set(SslTransport::unsent_len(slf));
        let late = slf.getattr(intern!(py, "_shutdown_late"))?;
        slf.get().set_timer(py, inner.timeouts.get().1, late)
    }

    pub(super) fn shutdown_late(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if !matches!(inner.state.get(), State::Flushing | State::Closing) {
            return Ok(());
        }
        // The limit is for a peer that does nothing, and not for the bytes of a slow one. asyncio
        // cuts those off.
        if SslTransport::unsent_len(slf) < inner.left_at_timer.get() {
            return SslTransport::arm_shutdown(slf);
        }
        inner.ends_by("closing_timed_out");
        let error = exception(py, PyTimeoutError::new_err("SSL shutdown timed out"));
        match slf.get().below(py) {
            Some(below) => below.call_method1(intern!(py, "_force_close"), (error,)).map(drop),
            None => Ok(()),
        }
    }

    // Bytes that have not left, here and below.
    fn unsent_len(slf: This<'_, '_>) -> usize {
        let py = slf.py();
        let below = slf.get().below(py).and_then(|below| {
            let size = below.call_method0(intern!(py, "get_write_buffer_size")).ok()?;
            size.extract::<usize>().ok()
        });
        slf.get().waiting_len(py) + below.unwrap_or(0)
    }

    /// Encrypts what is left, then says goodbye.
    pub(super) fn flush(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        SslTransport::read(slf, &[])?;
        if inner.state.get() == State::Flushing && inner.backlog_len.get() > 0 {
            SslTransport::write_backlog(slf)?;
        }
        if inner.state.get() != State::Flushing {
            return Ok(());
        }
        if inner.backlog_len.get() > 0 && (inner.paused_by_below.get() || !inner.eof_received.get())
        {
            if inner.eof_received.get() && !inner.reading_paused.get() {
                // What is written waits for a peer that may never read it; that the peer has ended
                // does not.
                SslTransport::tell_eof(slf)?;
                SslTransport::limit_flushing(slf)?;
            }
            return Ok(());
        }
        inner.state.set(State::Closing);
        SslTransport::shut_down(slf)
    }

    pub(super) fn shut_down(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let Some(session) = slf.get().session(py) else { return Ok(()) };
        let inner = slf.get().inner.get(py);
        let step = match inner.eof_received.get() {
            true => Ok(Step::Done(())),
            false => session.unwrap(py),
        };
        if inner.state.get() != State::Closing {
            return step.map(drop);
        }
        match step {
            Ok(Step::Again) => SslTransport::send_output(slf),
            Ok(Step::Done(())) => {
                SslTransport::send_output(slf)?;
                SslTransport::tell_eof(slf)?;
                SslTransport::shutdown_done(slf)
            }
            // The peer still sends while we have closed and want nothing more. asyncio makes an
            // error of it, and drops what was written and has not left.
            Err(error) if is_data_after_close(py, &error) => {
                SslTransport::send_output(slf)?;
                SslTransport::shutdown_done(slf)
            }
            Err(error) if is_ssl_error(py, &error) => {
                slf.get().drop_timer(py)?;
                SslTransport::fail(slf, error, FATAL)
            }
            Err(error) => Err(error),
        }
    }

    fn shutdown_done(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        if SslTransport::unsent_len(slf) > 0 {
            // The transport below will flush for as long as the peer likes: our limit holds on.
            SslTransport::limit_flushing(slf)?;
        } else {
            slf.get().drop_timer(py)?;
        }
        match slf.get().below(py) {
            Some(below) => slf.get().call_soon(py, below.getattr(intern!(py, "close"))?, None),
            None => Ok(()),
        }
    }

    /// Ends the connection now, with a reset if it is to be one.
    pub(super) fn abandon(
        slf: This<'_, '_>,
        error: Option<Bound<'_, PyAny>>,
        reset: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        inner.closed.set(true);
        inner.ends_by(if error.is_none() { "aborted" } else { "failed" });
        let in_handshake = inner.state.replace(State::Idle) == State::Handshaking;
        slf.get().drop_timer(py)?;
        let Some(below) = slf.get().below(py) else { return Ok(()) };
        if in_handshake && error.is_none() {
            // asyncio calls a handshake that was cut short a success.
            let text = "the connection was aborted during the TLS handshake";
            let error = exception(py, PyConnectionAbortedError::new_err(text));
            SslTransport::tell_waiter(slf, Some(error.into_bound(py).into_any()))?;
        }
        if reset {
            below.call_method0(intern!(py, "abort")).map(drop)
        } else {
            below.call_method1(intern!(py, "_force_close"), (error,)).map(drop)
        }
    }

    pub(super) fn forget(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let session = slf.get().inner.get(py).session.take();
        drop(session);
        slf.call_method0(intern!(py, "_forget")).map(drop)
    }

    /// The transport below is gone.
    pub(super) fn lost(slf: This<'_, '_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        slf.get().drop_timer(py)?;
        let session = slf.get().session(py);
        let unsent = slf.get().waiting_len(py);
        let unread = session.as_ref().map_or(0, |session| session.input_len(py));
        let backlog = inner.backlog.take();
        inner.backlog_len.set(0);
        let unread = unread + inner.unread.take().len();
        drop(backlog);
        inner.lost_writes.set(inner.lost_writes.get() + 1);
        inner.closed.set(true);
        let in_handshake = inner.state.replace(State::Idle) == State::Handshaking;
        let told = inner.told.get();
        let (protocol, below) = {
            let mut links = inner.links.borrow_mut();
            (links.protocol.take(), links.below.take())
        };
        let error = error.filter(|error| !error.is_none());
        // asyncio does not tell a protocol whose connection is lost inside of start_tls().
        if matches!(told, Told::Made | Told::Eof) {
            inner.told.set(Told::Lost);
            if let Some(protocol) = &protocol {
                let callback = protocol.bind(py).getattr(intern!(py, "connection_lost"))?;
                let argument = error.clone().unwrap_or_else(|| py.None().into_bound(py));
                slf.get().call_soon(py, callback, Some(argument))?;
            }
        }
        // Before the protocol is told, which is in the next turn.
        let seen = session.as_ref().is_some_and(|session| session.peer_has_closed());
        let by_peer = if seen { "peer_closed_layer" } else { "tls_truncated" };
        let by_peer = inner.truncated.get().then_some(by_peer);
        let ending = inner.ending.get().or(inner.closer.get()).or(by_peer);
        let ending = ending.map(|ending| memory::string(py, ending)).transpose()?;
        let facts = (below.as_ref().map(|b| b.bind(py)), ending, error.as_ref(), unsent, unread);
        slf.call_method1(intern!(py, "_is_lost"), facts)?;
        if let Some(session) = session {
            session.forget_bytes(py);
        }
        drop((protocol, below));
        if inner.forgets.get() {
            SslTransport::forget(slf)?;
        }
        match (error, in_handshake) {
            (None, true) => {
                let text = "the connection was closed during the TLS handshake";
                let error = exception(py, PyConnectionAbortedError::new_err(text));
                SslTransport::tell_waiter(slf, Some(error.into_bound(py).into_any()))
            }
            (error, _) => SslTransport::tell_waiter(slf, error),
        }
    }
}

impl Inner {
    /// Keeps what ends the connection, which is the first that is told.
    pub(super) fn ends_by(&self, kind: &'static str) {
        self.ending.set(self.ending.get().or(Some(kind)));
    }
}

fn is_data_after_close(py: Python<'_>, error: &PyErr) -> bool {
    let reason = error.value(py).getattr(intern!(py, "reason"));
    is_ssl_error(py, error)
        && reason.is_ok_and(|reason| {
            reason.eq(intern!(py, "APPLICATION_DATA_AFTER_CLOSE_NOTIFY")).unwrap_or(false)
        })
}
