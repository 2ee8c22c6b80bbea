//! All the plaintext there is, as one `bytes`.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::chunk::Chunk;
use super::{MOST, Plain, RECORD, Session, Way};

/// All the plaintext there was, and what stood behind it.
pub(in super::super) struct Drained<'py> {
    pub(in super::super) data: Option<Bound<'py, PyBytes>>,
    pub(in super::super) ended: bool,
    pub(in super::super) error: Option<PyErr>,
}

impl Session {
    /// Takes ciphertext in and reads all there is, as one `bytes`.
    pub(in super::super) fn drain<'py>(&self, py: Python<'py>, fresh: &[u8]) -> Drained<'py> {
        let mut drained = Drained { data: None, ended: false, error: None };
        if let Way::Direct { wire, .. } = &self.way
            && !self.busy.get()
            && self.late.borrow().is_empty()
        {
            // SAFETY: settled below. Until then this holds the GIL, or the session is busy: nobody
            // else comes to the wire.
            unsafe { wire.lend(fresh) };
            self.drain_all(py, &mut drained);
            wire.settle();
        } else if let Err(error) = self.feed(py, fresh) {
            drained.error = Some(error);
        } else {
            self.drain_all(py, &mut drained);
        }
        drained
    }

    fn drain_all<'py>(&self, py: Python<'py>, drained: &mut Drained<'py>) {
        loop {
            let room = match &self.way {
                Way::Buffers { .. } => MOST,
                Way::Direct { library, ssl, wire, .. } => {
                    // SAFETY: a live SSL; the question changes nothing.
                    let pending = unsafe { (library.has_pending)(ssl.as_ptr()) } != 0;
                    match wire.most_plain() {
                        0 if pending => RECORD,
                        0 if self.late.borrow().is_empty() => return,
                        most => most.clamp(64, MOST),
                    }
                }
            };
            let mut chunk = match Chunk::new(py, room) {
                Ok(chunk) => chunk,
                Err(error) => {
                    drained.error = Some(error);
                    return;
                }
            };
            let more = self.fill(py, &mut chunk, drained);
            if let Err(error) = chunk.append_to(py, &mut drained.data) {
                drained.error = Some(error);
                return;
            }
            if !more {
                return;
            }
        }
    }

    // Reads into a chunk until it is full; whether there may be more.
    fn fill(&self, py: Python<'_>, chunk: &mut Chunk, drained: &mut Drained<'_>) -> bool {
        while !chunk.room().is_empty() {
            match self.read(py, chunk.room()) {
                Ok(Plain::Bytes(count)) => {
                    chunk.used += count;
                    if self.is_empty() {
                        return false;
                    }
                }
                Ok(Plain::Again) => {
                    self.is_empty();
                    return false;
                }
                Ok(Plain::End) => {
                    drained.ended = true;
                    return false;
                }
                Err(error) => {
                    drained.error = Some(error);
                    return false;
                }
            }
        }
        true
    }
}
