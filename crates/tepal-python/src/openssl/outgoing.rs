//! What is written to an `ssl=` connection.

use std::ffi::CStr;

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use pyo3::{Borrowed, ffi, intern};

use super::flow::FATAL_PROTOCOL;
use super::session::{Step, recycle};
use super::transport::{SslTransport, State};
use crate::errors::{exception, leaves_run};
use crate::fastcall::{OneArgument, add_one_argument};
use crate::memory;
use crate::object::Ref;
use crate::stream::{Readable, StreamTransport, flush, send};

/// Encrypted at once; then the transport below may say that it has enough. Four records.
const PIECE: usize = 64 * 1024;

/// Writes to a connection that has ended are logged from this one on, as asyncio does.
const TOLD_FROM: u32 = 5;

/// Something written that waits to be encrypted.
pub(super) enum Piece {
    /// Exactly `bytes`, from this place on.
    Bytes(Ref, usize),
    Copy(Vec<u8>, usize),
}

impl Piece {
    fn new(data: &Readable<'_, '_>, start: usize) -> Piece {
        match data {
            Readable::Bytes(object) => Piece::Bytes(Ref::new((**object).clone()), start),
            Readable::Buffer(..) => {
                Piece::Copy(data.bytes().get(start..).unwrap_or_default().to_vec(), 0)
            }
        }
    }
}

pub(super) fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_one_argument::<Write>(class)?;
    add_one_argument::<WriteLines>(class)
}

struct Write;

struct WriteLines;

impl OneArgument for Write {
    const NAME: &'static CStr = c"write";
    const ARGUMENT: &'static str = "data";
    const DOC: &'static CStr = c"write($self, data)\n--\n\n\
        Send a bytes-like object, encrypted. Never blocks.";

    type Of = SslTransport;

    #[inline]
    fn call(
        transport: Borrowed<'_, '_, SslTransport>,
        data: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        let data = readable(data)?;
        match data.is_empty() {
            true => Ok(()),
            false => SslTransport::write_all(&transport, std::slice::from_ref(&data)),
        }
    }
}

impl OneArgument for WriteLines {
    const NAME: &'static CStr = c"writelines";
    const ARGUMENT: &'static str = "list_of_data";
    const DOC: &'static CStr = c"writelines($self, list_of_data)\n--\n\n\
        Send each of an iterable of bytes-like objects, encrypted.";

    type Of = SslTransport;

    fn call(
        transport: Borrowed<'_, '_, SslTransport>,
        data: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        // All of them are looked at before the first is sent, so that a wrong one sends nothing.
        let pieces = data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let data: Vec<_> =
            pieces.iter().map(|piece| readable(piece.as_borrowed())).collect::<PyResult<_>>()?;
        SslTransport::write_all(&transport, &data)
    }
}

#[inline]
fn readable<'a, 'py>(data: Borrowed<'a, 'py, PyAny>) -> PyResult<Readable<'a, 'py>> {
    // SAFETY: a live object; the three types have no other requirement.
    let fits = unsafe {
        ffi::PyBytes_Check(data.as_ptr()) != 0
            || ffi::PyByteArray_Check(data.as_ptr()) != 0
            || ffi::PyMemoryView_Check(data.as_ptr()) != 0
    };
    if fits {
        return Readable::of(data);
    }
    let name = data.get_type().qualname()?;
    Err(PyTypeError::new_err(format!("data: expecting a bytes-like instance, got {name}")))
}

impl SslTransport {
    #[inline]
    fn write_all(slf: &Bound<'_, Self>, data: &[Readable<'_, '_>]) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        match inner.state.get() {
            State::Open | State::Handshaking => {}
            // A transport that has no state yet keeps what is written; one that has lost it warns.
            State::Idle if !inner.closed.get() && inner.lost_writes.get() == 0 => {}
            _ => return SslTransport::wrote_after_end(slf),
        }
        let result = SslTransport::encrypt_or_keep(slf, data);
        match result {
            Ok(()) => SslTransport::tell_pressure(slf),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                SslTransport::fail(slf, error, FATAL_PROTOCOL)
            }
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn encrypt_or_keep(slf: &Bound<'_, Self>, data: &[Readable<'_, '_>]) -> PyResult<()> {
        let inner = slf.get().inner.get(slf.py());
        let mut at_once = inner.state.get() == State::Open
            && inner.backlog_len.get() == 0
            && !inner.writing.get();
        let below_is_stream = inner.links.borrow().below_is_stream;
        for readable in data {
            let bytes = readable.bytes();
            let done = match readable {
                _ if !at_once => 0,
                // Python's code below may change what somebody else owns.
                Readable::Buffer(..) if !below_is_stream => {
                    let copy = bytes.to_vec();
                    SslTransport::encrypt(slf, &copy)?
                }
                _ => SslTransport::encrypt(slf, bytes)?,
            };
            if done < bytes.len() {
                at_once = false;
                inner.backlog.borrow_mut().push_back(Piece::new(readable, done));
                inner.backlog_len.set(inner.backlog_len.get() + bytes.len() - done);
            }
        }
        Ok(())
    }

    /// Encrypts what waits, as far as the transport below has room.
    pub(super) fn write_backlog(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if inner.writing.get() {
            return Ok(());
        }
        loop {
            let Some(piece) = inner.backlog.borrow_mut().pop_front() else { break };
            let (done, rest) = match piece {
                Piece::Bytes(object, start) => {
                    let bytes = object.bind(py).to_owned().cast_into::<PyBytes>()?;
                    let data = bytes.as_bytes().get(start..).unwrap_or_default();
                    let done = SslTransport::encrypt(slf, data)?;
                    let rest = (done < data.len()).then(|| Piece::Bytes(object, start + done));
                    (done, rest)
                }
                Piece::Copy(bytes, start) => {
                    let data = bytes.get(start..).unwrap_or_default();
                    let done = SslTransport::encrypt(slf, data)?;
                    let rest = done < data.len();
                    (done, rest.then(|| Piece::Copy(bytes, start + done)))
                }
            };
            // Zero if the connection was lost meanwhile.
            inner.backlog_len.set(inner.backlog_len.get().saturating_sub(done));
            if let Some(rest) = rest {
                if inner.backlog_len.get() > 0 {
                    inner.backlog.borrow_mut().push_front(rest);
                }
                break;
            }
        }
        SslTransport::send_output(slf)
    }

    /// Encrypts and sends; returns how much. Stops when the transport below has enough.
    #[inline]
    fn encrypt(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<usize> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        let Some(session) = slf.get().session(py) else { return Ok(0) };
        let mut done = 0;
        inner.writing.set(true);
        let result = loop {
            let rest = data.get(done..).unwrap_or_default();
            if rest.is_empty()
                || inner.paused_by_below.get()
                || !matches!(inner.state.get(), State::Open | State::Flushing)
            {
                break Ok(done);
            }
            match session.write(py, rest.get(..PIECE).unwrap_or(rest)) {
                Ok(Step::Done(count)) => done += count,
                Ok(Step::Again) => break SslTransport::send_output(slf).map(|()| done),
                Err(error) => break Err(error),
            }
            if let Err(error) = SslTransport::send_output(slf) {
                break Err(error);
            }
        };
        inner.writing.set(false);
        result
    }

    /// Gives the transport below what the session has for the peer.
    #[inline]
    pub(super) fn send_output(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(session) = this.session(py) else { return Ok(()) };
        let output = session.take_output(py)?;
        if output.is_empty() {
            return Ok(());
        }
        let links = this.inner.get(py).links.borrow();
        let is_stream = links.below_is_stream;
        let below = links.below.as_ref().map(|below| below.bind(py).to_owned());
        drop(links);
        match below {
            Some(below) if is_stream => {
                // SAFETY: `connection_made` has looked at its type.
                let stream = unsafe { below.cast_unchecked::<StreamTransport>() };
                if let Some(output) = send(stream.as_borrowed(), output)? {
                    recycle(output);
                }
                Ok(())
            }
            Some(below) => {
                let data = memory::bytes(py, &output)?;
                recycle(output);
                below.call_method1(intern!(py, "write"), (data,)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Sees to it that the last words leave before the transport below is closed by force.
    pub(super) fn flush_below(slf: &Bound<'_, Self>) {
        let py = slf.py();
        if let Some(below) = slf.get().below(py)
            && let Ok(stream) = below.cast::<StreamTransport>()
        {
            flush(stream.as_borrowed());
        }
    }

    /// The transport below takes more.
    pub(super) fn below_takes_more(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        inner.paused_by_below.set(false);
        match inner.state.get() {
            State::Flushing => return SslTransport::flush(slf),
            State::Open => match SslTransport::write_backlog(slf) {
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    return SslTransport::fail(slf, error, FATAL_PROTOCOL);
                }
                result => result?,
            },
            _ => SslTransport::send_output(slf)?,
        }
        SslTransport::tell_pressure(slf)
    }

    /// Pauses or resumes the protocol, by the marks.
    #[inline]
    pub(super) fn tell_pressure(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        let len = slf.get().waiting_len(py);
        let (low, high) = inner.write_marks.get();
        let paused = inner.writing_paused.get();
        let wanted = match paused {
            false if len >= high => true,
            true if len <= low => false,
            paused => paused,
        };
        if wanted == paused {
            return Ok(());
        }
        inner.writing_paused.set(wanted);
        let Some(protocol) = slf.get().protocol(py) else { return Ok(()) };
        let name = match wanted {
            true => intern!(py, "pause_writing"),
            false => intern!(py, "resume_writing"),
        };
        match protocol.call_method0(name) {
            Ok(_) => Ok(()),
            Err(error) if leaves_run(py, &error) => Err(error),
            Err(error) => {
                let told = (name, exception(py, error));
                slf.call_method1(intern!(py, "_pressure_failed"), told).map(drop)
            }
        }
    }

    #[cold]
    fn wrote_after_end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let count = &slf.get().inner.get(py).lost_writes;
        if count.get() >= TOLD_FROM {
            slf.call_method0(intern!(py, "_wrote_after_end"))?;
        }
        count.set(count.get().saturating_add(1));
        Ok(())
    }
}

#[pymethods]
impl SslTransport {
    /// Puts bytes behind what was written, without encrypting them yet; for tests of asyncio's.
    #[pyo3(name = "_test__append_write_backlog")]
    fn append_write_backlog(&self, py: Python<'_>, data: Vec<u8>) {
        let inner = self.inner.get(py);
        inner.backlog_len.set(inner.backlog_len.get() + data.len());
        inner.backlog.borrow_mut().push_back(Piece::Copy(data, 0));
    }
}
