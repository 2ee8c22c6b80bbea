//! Parts of files in the output of a stream.
//!
//! A file part has a place in the order of writes: after the bytes that were queued before it. The
//! kernel reads it straight from the file, so nothing of it is held in memory. Where it does not do
//! that for the two (a file of a pseudo file system, a terminal), blocks are read and sent.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};

use tepal_driver::{Descriptor, Sent};

use super::layers::Request;
use super::stream::Phase;
use crate::engine::{Engine, Host, Outcome, StreamKey, stream};

/// The file parts that wait, in order.
pub(super) type Files<H> = VecDeque<FilePart<H>>;

pub(super) struct FilePart<H: Host> {
    // How many bytes of the stream leave before this part.
    pub(super) at: u64,
    file: Descriptor,
    offset: u64,
    left: u64,
    sent: u64,
    // The kernel does not send this file to this stream by itself.
    copied: bool,
    completion: Option<H::Completion>,
}

/// What is read at once of a file that must be copied. What the stream does not take is read again
/// later, so more would be wasted on a slow one.
const COPY_LEN: usize = 64 * 1024;

/// Why a file was sent in part only: the inner error of what
/// [`Outcome::FileSent`] tells then.
#[derive(Debug)]
pub struct FileCut {
    /// How many of its bytes the kernel took.
    pub sent: u64,
    /// What stopped it.
    pub source: io::Error,
}

impl fmt::Display for FileCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {} bytes)", self.source, self.sent)
    }
}

impl std::error::Error for FileCut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What came of one step of sending a file.
pub(super) enum FileStep {
    /// The kernel takes no more now.
    Blocked,
    /// Some of it has left.
    More,
    /// The part is through, or the file ended before it was.
    Done,
    /// It failed; the connection is unharmed if the file was at fault.
    Failed(io::Error),
}

impl<H: Host> FilePart<H> {
    pub(super) fn is(&self, file: Descriptor) -> bool {
        self.file == file
    }

    pub(super) fn completion(&self) -> Option<&H::Completion> {
        self.completion.as_ref()
    }

    /// Reads the next block, for layers that need the bytes. Empty: the part is through.
    pub(super) fn read(
        &mut self,
        driver: &mut dyn tepal_driver::Driver,
        most: usize,
    ) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let mut block = vec![0; len];
        let count = match len {
            0 => 0,
            _ => driver.read_at(self.file, self.offset, &mut block)?,
        };
        block.truncate(count);
        self.offset += count as u64;
        self.sent += count as u64;
        self.left = self.left.saturating_sub(count as u64);
        Ok(block)
    }

    pub(super) fn send(
        &mut self,
        stream: Descriptor,
        driver: &mut dyn tepal_driver::Driver,
    ) -> FileStep {
        if self.left == 0 {
            return FileStep::Done;
        }
        let count = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut sent = match self.copied {
            true => self.send_copy(stream, driver, count),
            false => driver.send_file(stream, self.file, self.offset, count),
        };
        if !self.copied && sent.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::Unsupported) {
            self.copied = true;
            sent = self.send_copy(stream, driver, count);
        }
        match sent {
            Ok(sent) => {
                let count = sent.count as u64;
                self.offset += count;
                self.sent += count;
                self.left = self.left.saturating_sub(count);
                match (sent.blocked, count) {
                    (true, _) => FileStep::Blocked,
                    (false, 0) => FileStep::Done,
                    (false, _) => FileStep::More,
                }
            }
            Err(error) => FileStep::Failed(error),
        }
    }

    fn send_copy(
        &self,
        stream: Descriptor,
        driver: &mut dyn tepal_driver::Driver,
        count: usize,
    ) -> io::Result<Sent> {
        let mut block = vec![0; count.min(COPY_LEN)];
        match driver.read_at(self.file, self.offset, &mut block)? {
            0 => Ok(Sent { count: 0, blocked: false }),
            count => driver.send(stream, &[IoSlice::new(&block[..count])]),
        }
    }
}

impl<H: Host> Engine<H> {
    /// Queues `count` bytes of a file from `offset` on, behind what was written before. The engine
    /// owns `file` from now on and closes it. `completion` gets [`Outcome::FileSent`] with the
    /// bytes that the kernel took: fewer than `count` if the file is shorter.
    ///
    /// Where layers need the bytes they are read block by block, no more than the high mark at
    /// once, and the count is of those that the layers took. A layer that makes a frame of each
    /// write cannot take a file: the completion gets `Unsupported`.
    ///
    /// # Errors
    ///
    /// The completion comes back with `NotConnected` if the stream is closing; the file is closed.
    pub fn stream_send_file(
        &self,
        key: StreamKey<H>,
        file: Descriptor,
        offset: u64,
        count: u64,
        completion: H::Completion,
    ) -> Result<(), (io::Error, H::Completion)> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let open = stream(&mut objects, key).filter(|s| !s.is_ending() && !s.has_ended_output());
        let Some(stream) = open else {
            drop(objects);
            let _ = core.driver.borrow_mut().close(file);
            let error = io::Error::new(io::ErrorKind::NotConnected, "the transport is closing");
            return Err((error, completion));
        };
        if let Some(layers) = &mut stream.layers {
            let part = FilePart {
                at: 0,
                file,
                offset,
                left: count,
                sent: 0,
                copied: false,
                completion: Some(completion),
            };
            layers.inbox.push(Request::File(part));
            stream.mark_dirty().then(|| core.dirty.borrow_mut().push(key));
            return Ok(());
        }
        let at = stream.sent + (stream.output.len() + stream.piped()) as u64;
        let (sent, copied, completion) = (0, false, Some(completion));
        let part = FilePart { at, file, offset, left: count, sent, copied, completion };
        stream.files.get_or_insert_default().push_back(part);
        if !stream.dirty && !stream.blocked && stream.phase == Phase::Established {
            stream.dirty = true;
            core.dirty.borrow_mut().push(key);
        }
        Ok(())
    }

    /// Gives up a file that [`stream_send_file`](Self::stream_send_file) queued: no more of it
    /// leaves, and its completion tells in a later turn what did. The value is the same count;
    /// `None` if the file is through already.
    pub fn stream_cut_file(&self, key: StreamKey<H>, file: Descriptor) -> Option<u64> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let stream = stream(&mut objects, key)?;
        let part = match (&mut stream.layers, &mut stream.files) {
            (Some(layers), _) => layers.inbox.take_file(file),
            (None, Some(files)) => {
                let place = files.iter().position(|part| part.is(file));
                place.and_then(|place| files.remove(place))
            }
            (None, None) => None,
        }?;
        // A stream that is closing may have waited for nothing else.
        stream.mark_dirty().then(|| core.dirty.borrow_mut().push(key));
        drop(objects);
        let sent = part.sent;
        self.end_file(part, None);
        Some(sent)
    }

    /// A file part is through or given up: closes the file and tells.
    pub(super) fn end_file(&self, mut part: FilePart<H>, error: Option<io::Error>) {
        // Reading it is over; nothing can be lost by a failing close.
        let _ = self.core().driver.borrow_mut().close(part.file);
        let Some(completion) = part.completion.take() else { return };
        let result = match error {
            None => Ok(part.sent),
            Some(error) if part.sent == 0 => Err(error),
            Some(error) => {
                Err(io::Error::new(error.kind(), FileCut { sent: part.sent, source: error }))
            }
        };
        self.push_outcome(completion, Outcome::FileSent(result));
    }
}
