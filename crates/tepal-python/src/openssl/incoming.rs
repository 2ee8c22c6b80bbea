//! What arrives on an `ssl=` connection, decrypted, and given to the protocol.

use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{ffi, intern};
use tepal::engine::Consumed;

use super::flow::{FATAL_PROTOCOL, This};
use super::session::{Drained, Plain};
use super::transport::{SslTransport, State, Told};
use crate::errors::leaves_run;
use crate::memory;
use crate::object::Ref;
use crate::stream::{Manner, consumed, feed_reader};

/// What is left unread of a connection with a counting protocol at most; as the engine has it.
const UNREAD_MOST: usize = 256 * 1024;

impl SslTransport {
    /// Gives the protocol what can be decrypted. Its exception ends the connection.
    pub(super) fn read(slf: This<'_, '_>, fresh: &[u8]) -> PyResult<()> {
        let py = slf.py();
        if !matches!(slf.get().inner.get(py).state.get(), State::Open | State::Flushing) {
            return Ok(());
        }
        match SslTransport::read_and_write(slf, fresh) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                SslTransport::fail(slf, error, FATAL_PROTOCOL)
            }
            result => result,
        }
    }

    #[inline]
    fn read_and_write(slf: This<'_, '_>, fresh: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if !inner.reading_paused.get() {
            // After a close of ours nobody wants what still comes.
            let wanted = inner.state.get() == State::Open || !inner.closed.get();
            match inner.manner.get() {
                _ if !wanted => SslTransport::read_and_drop(slf)?,
                Manner::Buffered => SslTransport::read_buffered(slf)?,
                manner => SslTransport::read_bytes(slf, manner, fresh)?,
            }
            if inner.backlog_len.get() > 0 {
                SslTransport::write_backlog(slf)?;
            } else {
                SslTransport::send_output(slf)?;
            }
            SslTransport::tell_pressure(slf)?;
        }
        SslTransport::regulate_reading(slf)
    }

    #[inline]
    fn read_bytes(slf: This<'_, '_>, manner: Manner, fresh: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let Some(session) = slf.get().session(py) else { return Ok(()) };
        let Drained { data, ended, error } = session.drain(py, fresh);
        if let Some(data) = data
            && let Some(protocol) = slf.get().protocol(py)
        {
            match manner {
                Manner::Reader => {
                    feed_reader(py, &Ref::new(protocol), data.as_bytes())?;
                }
                Manner::Counted => SslTransport::give_counted(slf, &protocol, &data)?,
                _ => {
                    call_one(&protocol, intern!(py, "data_received"), data.as_any())?;
                }
            }
        }
        if let Some(error) = error {
            return Err(error);
        }
        if ended { SslTransport::peer_closed(slf) } else { Ok(()) }
    }

    fn read_and_drop(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let Some(session) = slf.get().session(py) else { return Ok(()) };
        let Drained { ended, error, .. } = session.drain(py, &[]);
        match error {
            Some(error) => Err(error),
            None if ended => SslTransport::peer_closed(slf),
            None => Ok(()),
        }
    }

    // A protocol that tells how much it used is shown the rest again.
    fn give_counted(
        slf: This<'_, '_>,
        protocol: &Bound<'_, PyAny>,
        data: &Bound<'_, PyBytes>,
    ) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        let mut rest = inner.unread.take();
        let mut shown = match rest.is_empty() {
            true => data.clone(),
            false => {
                rest.extend_from_slice(data.as_bytes());
                memory::bytes(py, &rest)?
            }
        };
        loop {
            let count = call_one(protocol, intern!(py, "data_received"), shown.as_any())?;
            let all = shown.as_bytes();
            let used = match count.is_none() {
                true => all.len(),
                false => match consumed(&count, all.len())? {
                    Consumed::All => all.len(),
                    Consumed::Count(count) => count,
                },
            };
            let left = all.get(used..).unwrap_or_default();
            if left.is_empty() {
                return Ok(());
            }
            let goes_on = used > 0 && inner.state.get() == State::Open;
            if !goes_on || inner.reading_paused.get() {
                if left.len() >= UNREAD_MOST {
                    let text = "the protocol leaves its input unread, and the buffer is full";
                    return Err(PyValueError::new_err(text));
                }
                inner.unread.replace(left.to_vec());
                return Ok(());
            }
            shown = memory::bytes(py, left)?;
        }
    }

    fn read_buffered(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let (Some(session), Some(protocol)) = (slf.get().session(py), slf.get().protocol(py))
        else {
            return Ok(());
        };
        let hint = session.input_len(py);
        let object = protocol.call_method1(intern!(py, "get_buffer"), (hint,))?;
        let mut target = Target::new(&object)?;
        let (mut filled, mut ended, mut failed) = (0, false, None);
        while filled < target.len() {
            match session.read(py, target.from(filled)) {
                Ok(Plain::Bytes(count)) => filled += count,
                Ok(Plain::Again) => break,
                Ok(Plain::End) => {
                    ended = true;
                    break;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let is_full = filled == target.len() && filled > 0;
        drop(target);
        if is_full {
            let more = slf.getattr(intern!(py, "_reading_resumed"))?;
            slf.get().call_soon(py, more, None)?;
        }
        if filled > 0 {
            protocol.call_method1(intern!(py, "buffer_updated"), (filled,))?;
        }
        match failed {
            Some(error) => Err(error),
            None if ended => SslTransport::peer_closed(slf),
            None => Ok(()),
        }
    }

    // The peer's close_notify.
    fn peer_closed(slf: This<'_, '_>) -> PyResult<()> {
        SslTransport::tell_eof(slf)?;
        SslTransport::start_shutdown(slf)
    }

    pub(super) fn tell_eof(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if inner.told.get() != Told::Made {
            return Ok(());
        }
        inner.told.set(Told::Eof);
        let Some(protocol) = slf.get().protocol(py) else { return Ok(()) };
        let kept =
            protocol.call_method0(intern!(py, "eof_received")).and_then(|kept| kept.is_truthy());
        match kept {
            Ok(false) => Ok(()),
            Ok(true) => slf.call_method0(intern!(py, "_eof_kept_open")).map(drop),
            Err(error) if leaves_run(py, &error) => Err(error),
            Err(error) => SslTransport::fail(slf, error, "Error calling eof_received()"),
        }
    }

    /// Keeps what waits to be decrypted between the marks.
    #[inline]
    pub(super) fn regulate_reading(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner.get(py);
        if !inner.reading_paused.get() && !inner.below_paused.get() {
            // All that came has been looked at.
            return Ok(());
        }
        let Some(session) = slf.get().session(py) else { return Ok(()) };
        let len = session.input_len(py);
        let (low, high) = inner.read_marks.get();
        let wanted = match inner.below_paused.get() {
            false if len >= high => true,
            true if len <= low => false,
            paused => paused,
        };
        if inner.below_paused.replace(wanted) != wanted
            && let Some(below) = slf.get().below(py)
        {
            let name = match wanted {
                true => intern!(py, "pause_reading"),
                false => intern!(py, "resume_reading"),
            };
            below.call_method0(name)?;
        }
        Ok(())
    }
}

/// `object.name(argument)`.
#[inline]
fn call_one<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), argument.as_ptr()];
    // SAFETY: two live references; the result is owned or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            arguments.as_ptr(),
            2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// Memory that a `BufferedProtocol` lends.
struct Target {
    view: Box<ffi::Py_buffer>,
}

impl Target {
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Target> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the view is filled here and released when the target is dropped.
        let got = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_WRITABLE)
        };
        if got < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        let target = Target { view };
        match target.len() {
            0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
            _ => Ok(target),
        }
    }

    fn len(&self) -> usize {
        self.view.len as usize
    }

    fn from(&mut self, start: usize) -> &mut [std::mem::MaybeUninit<u8>] {
        // SAFETY: an export of at least one byte keeps its memory where it is; it was lent to us to
        // write to, and `start` is at most its length.
        unsafe {
            let data = self.view.buf.cast::<std::mem::MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(data.add(start), self.len() - start)
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: it was filled, and is released once, with the GIL held.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.view) };
    }
}
