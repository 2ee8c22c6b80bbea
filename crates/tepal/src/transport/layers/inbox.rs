//! What users have asked for while the pump had the chain, in order.

use std::any::Any;
use std::collections::VecDeque;
use std::time::Duration;

use tepal_base::{ByteQueue, Segment};
use tepal_driver::Descriptor;
use tepal_layers::{Chain, Late, LayerId, Turn, Workspace};

use super::Pushed;
use crate::engine::Host;
use crate::transport::file::FilePart;

/// The queue of a stream's requests.
pub(in crate::transport) struct Inbox<H: Host> {
    requests: VecDeque<Request<H>>,
    // The bytes of all `Write`s, in order. Invariant: its length is the sum of theirs.
    bytes: ByteQueue,
    // Writes are kept apart, because a layer makes a frame of each, or may.
    pub(in crate::transport) framed: bool,
}

/// One thing asked for.
pub(in crate::transport) enum Request<H: Host> {
    /// This many bytes of the inbox's.
    Write(usize),
    /// A part of a file, behind the bytes before it.
    File(FilePart<H>),
    WriteEof,
    Close,
    Wake,
    Push(Pushed),
    Pop {
        // None: the topmost of that name.
        layer: Option<LayerId>,
        name: &'static str,
        timeout: Duration,
        late: Late,
    },
    Command {
        layer: String,
        command: Box<dyn Any>,
    },
}

impl<H: Host> Inbox<H> {
    pub(super) fn new() -> Inbox<H> {
        Inbox { requests: VecDeque::new(), bytes: ByteQueue::new(), framed: false }
    }

    /// How many bytes wait.
    pub(in crate::transport) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::transport) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(in crate::transport) fn write(&mut self, bytes: &[u8], workspace: &Workspace) {
        self.bytes.extend(bytes, &mut workspace.pool());
        self.note_write(bytes.len());
    }

    /// Bytes that were written on a connection that had no layer any more.
    pub(in crate::transport) fn adopt(&mut self, bytes: ByteQueue) {
        if !bytes.is_empty() {
            self.note_write(bytes.len());
            self.bytes = bytes;
        }
    }

    pub(in crate::transport) fn write_segment(&mut self, segment: Segment) {
        let len = segment.len();
        self.bytes.push(segment);
        self.note_write(len);
    }

    fn note_write(&mut self, len: usize) {
        match self.requests.back_mut() {
            Some(Request::Write(before)) if !self.framed => *before += len,
            _ => self.requests.push_back(Request::Write(len)),
        }
    }

    pub(in crate::transport) fn push(&mut self, request: Request<H>) {
        // A layer that comes in may make frames of the writes behind it.
        self.framed |= matches!(request, Request::Push(_));
        self.requests.push_back(request);
    }

    /// Gives the write that is next, if one is, to the chain, which must take writes.
    pub(super) fn write_to(&mut self, chain: &mut Chain, turn: Turn<'_>) -> bool {
        let Some(Request::Write(len)) = self.requests.front() else { return false };
        let written = chain.write_from(&mut self.bytes, *len, turn);
        debug_assert!(written.is_ok(), "the caller has asked the chain");
        self.requests.pop_front();
        true
    }

    /// The next request, and the bytes of a write.
    pub(super) fn pop(&mut self, workspace: &Workspace) -> Option<(Request<H>, ByteQueue)> {
        let request = self.requests.pop_front()?;
        let mut bytes = ByteQueue::new();
        if let Request::Write(len) = request {
            self.bytes.move_to(len, &mut bytes, &mut workspace.pool());
        }
        Some((request, bytes))
    }

    /// Whether a change waits behind which no other can be asked for.
    pub(super) fn changes(&self) -> bool {
        self.requests.iter().any(|request| match request {
            Request::Pop { .. } => true,
            Request::Push(pushed) => pushed.below.is_some(),
            _ => false,
        })
    }

    /// The layers that wait to be put in.
    pub(super) fn pushes(&self) -> impl Iterator<Item = &Pushed> {
        self.requests.iter().filter_map(|request| match request {
            Request::Push(pushed) => Some(pushed),
            _ => None,
        })
    }

    /// The same for another attempt, whose layers have other ids.
    pub(super) fn renew(mut self) -> Inbox<H> {
        let pushed: Vec<LayerId> = self.pushes().map(|pushed| pushed.id).collect();
        for request in &mut self.requests {
            if let Request::Pop { layer, .. } = request {
                *layer = layer.filter(|id| pushed.contains(id));
            }
        }
        self
    }

    /// Puts a file back that is not through.
    pub(super) fn unpop(&mut self, part: FilePart<H>) {
        self.requests.push_front(Request::File(part));
    }

    /// Whether a file is next.
    pub(super) fn has_file_in_front(&self) -> bool {
        matches!(self.requests.front(), Some(Request::File(_)))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &FilePart<H>> {
        self.requests.iter().filter_map(|request| match request {
            Request::File(part) => Some(part),
            _ => None,
        })
    }

    /// Takes one file out of the requests.
    pub(in crate::transport) fn take_file(&mut self, file: Descriptor) -> Option<FilePart<H>> {
        let is_it = |request: &Request<H>| matches!(request, Request::File(part) if part.is(file));
        let place = self.requests.iter().position(is_it)?;
        match self.requests.remove(place) {
            Some(Request::File(part)) => Some(part),
            _ => None,
        }
    }

    /// Takes the files out of the requests.
    pub(super) fn take_files(&mut self) -> Vec<FilePart<H>> {
        let (files, others): (VecDeque<_>, VecDeque<_>) =
            self.requests.drain(..).partition(|request| matches!(request, Request::File(_)));
        self.requests = others;
        let parts = files.into_iter().filter_map(|request| match request {
            Request::File(part) => Some(part),
            _ => None,
        });
        parts.collect()
    }

    /// The same without what concerns the layers of a connection that is over. What was written
    /// behind a change of layers was meant for what they make of it (TLS after STARTTLS), and the
    /// next connection begins without the change: it goes as well.
    pub(in crate::transport) fn of_writes(mut self, workspace: &Workspace) -> Inbox<H> {
        let changes =
            |request: &Request<H>| matches!(request, Request::Push(_) | Request::Pop { .. });
        let end = self.requests.iter().position(changes).unwrap_or(self.requests.len());
        self.requests.truncate(end);
        self.requests.retain(|request| matches!(request, Request::Write(_)));
        let len = self.requests.iter().map(|request| match request {
            Request::Write(len) => *len,
            _ => 0,
        });
        let mut bytes = ByteQueue::new();
        self.bytes.move_to(len.sum(), &mut bytes, &mut workspace.pool());
        self.bytes = bytes;
        self
    }

    /// Puts writes back before all others.
    pub(super) fn put_back(&mut self, writes: Vec<ByteQueue>, workspace: &Workspace) {
        let mut bytes = ByteQueue::new();
        for mut write in writes.into_iter().rev() {
            self.requests.push_front(Request::Write(write.len()));
            let count = bytes.len();
            bytes.move_to(count, &mut write, &mut workspace.pool());
            bytes = write;
        }
        let count = self.bytes.len();
        self.bytes.move_to(count, &mut bytes, &mut workspace.pool());
        self.bytes = bytes;
    }

    pub(in crate::transport) fn take(&mut self) -> Inbox<H> {
        std::mem::replace(self, Inbox::new())
    }
}
