//! What was asked for, carried out in order while the pump has the chain.

use std::io;

use tepal_base::{ByteQueue, Segment};
use tepal_layers::{Chain, Error, Turn, Which};

use super::{Pushed, Request, Told};
use crate::engine::{Engine, Host, StreamKey, stream};
use crate::transport::file::FilePart;
use crate::transport::stream::Stream;

/// How much of a file is read at once: four TLS records.
const FILE_BLOCK: usize = 64 * 1024;

/// What may follow when everything asked for has been carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The protocol may be told what there is.
    Tell,
    /// Not yet.
    Wait,
    /// The stream is lost.
    Gone,
}

impl<H: Host> Stream<H> {
    /// Carries out the writes that are next in the inbox and, once it is empty, tells the chain
    /// what else its owner has set. `None`: something else was asked for.
    #[inline]
    pub(super) fn apply_writes(&mut self, chain: &mut Chain, turn: Turn<'_>) -> Option<Next> {
        if self.is_synced() && self.made && self.is_open() {
            let layers = self.layers.as_ref()?;
            if layers.inbox.is_empty() {
                return Some(Next::Tell);
            }
        }
        self.apply_asked(chain, turn)
    }

    fn apply_asked(&mut self, chain: &mut Chain, turn: Turn<'_>) -> Option<Next> {
        // Also if the next address is tried, for which another chain will be built.
        if !self.is_open() {
            return Some(Next::Gone);
        }
        let holds = self.holds_inbox();
        let Some(layers) = &mut self.layers else { return Some(Next::Gone) };
        if !holds && !layers.inbox.is_empty() {
            let before = layers.inbox.len();
            while chain.can_write() && layers.inbox.write_to(chain, turn) {}
            layers.write_len += before - layers.inbox.len();
            // A file goes on when some of what waits has left.
            let waits = layers.inbox.has_file_in_front()
                && chain.write_len() + self.output.len() > self.high;
            if !waits && !layers.inbox.is_empty() {
                return None;
            }
        }
        self.sync_chain(chain, turn);
        // Nothing is told before `connection_made`: a protocol may have been set just now.
        Some(if self.made { Next::Tell } else { Next::Wait })
    }

    fn sync_chain(&mut self, chain: &mut Chain, turn: Turn<'_>) {
        let told = self.told();
        let Some(layers) = &mut self.layers else { return };
        let before = std::mem::replace(&mut layers.told, told);
        if std::mem::take(&mut layers.offer_again) {
            chain.offer_again();
        }
        if before == told {
            return;
        }
        if before.limit != told.limit {
            chain.set_input_limit(told.limit, turn);
        }
        if before.low != told.low {
            // Never above the limit: `stream_set_read_low` has checked it.
            let _ = chain.set_read_low(told.low);
        }
        if before.paused != told.paused && !chain.is_closing() {
            match told.paused {
                true => chain.pause_reading(),
                false => chain.resume_reading(),
            }
        }
    }

    #[inline]
    fn told(&self) -> Told {
        let held = self.relay.as_ref().is_some_and(|relay| relay.is_held());
        Told { paused: self.paused || held, low: self.read_low, limit: self.read_limit }
    }

    /// Whether the chain knows what its owner has set.
    #[inline]
    pub(super) fn is_synced(&self) -> bool {
        let synced = |layers: &super::Layers<H>| !layers.offer_again && layers.told == self.told();
        self.layers.as_deref().is_some_and(synced)
    }
}

impl<H: Host> Engine<H> {
    /// Carries out what was asked for, and tells the chain what else its owner has set.
    pub(super) fn apply_inbox(&self, key: StreamKey<H>, chain: &mut Chain, turn: Turn<'_>) -> Next {
        loop {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Next::Gone };
            if let Some(next) = stream.apply_writes(chain, turn) {
                return next;
            }
            let Some(layers) = &mut stream.layers else { return Next::Gone };
            let Some((request, bytes)) = layers.inbox.pop(turn.workspace) else { continue };
            drop(objects);
            self.apply(key, chain, request, bytes, turn);
        }
    }

    fn apply(
        &self,
        key: StreamKey<H>,
        chain: &mut Chain,
        request: Request<H>,
        mut bytes: ByteQueue,
        turn: Turn<'_>,
    ) {
        match request {
            Request::Write(_) => {
                if chain.write_queue(&mut bytes, turn).is_err() {
                    // The chain has failed, and says so itself. The bytes were accepted: they
                    // count as unsent.
                    let mut objects = self.core().objects.borrow_mut();
                    if let Some(layers) = stream(&mut objects, key).and_then(|s| s.layers.as_mut())
                    {
                        layers.stranded_len += bytes.len();
                        layers.stranded.push(bytes);
                    }
                }
            }
            Request::File(part) => self.feed_file(key, chain, part),
            Request::WriteEof => {
                // Refused at the call if the layers cannot; one that came in since may.
                if let Err(error) = chain.write_eof() {
                    self.report_layer(error, "the writing side could not be ended");
                }
            }
            Request::Close => chain.close(),
            Request::Wake => chain.wake(),
            Request::Push(pushed) => {
                self.note_change(key);
                let below = pushed.below.as_deref();
                let Pushed { id, layer, target, residual, .. } = pushed;
                if let Err(error) = chain.push_layer(id, layer, target, below, residual, turn) {
                    // Going on without the layer would send in clear what it was to protect.
                    self.fail_now(key, error);
                }
                self.update_names(key, chain);
            }
            Request::Pop { layer, name, timeout, late } => {
                self.note_change(key);
                let which = layer.map_or(Which::Named(name), Which::Id);
                match chain.pop(which, timeout, late, turn) {
                    Ok(id) => self.begin_pop(key, id),
                    Err(error) => self.finish_pop(key, None, Err(error)),
                }
            }
            Request::Command { layer, command } => {
                if let Err(error) = chain.command(&layer, &*command) {
                    self.report_layer(error, "a layer refused a command");
                }
            }
        }
    }

    // Gives the next block of a file to the layers, which need the bytes.
    fn feed_file(&self, key: StreamKey<H>, chain: &mut Chain, mut part: FilePart<H>) {
        if chain.keeps_writes() {
            let text = "a layer makes a frame of each write: it cannot take a file";
            return self.end_file(part, Some(io::Error::new(io::ErrorKind::Unsupported, text)));
        }
        let block = part.read(&mut **self.core().driver.borrow_mut(), FILE_BLOCK);
        match block {
            Ok(block) if block.is_empty() => self.end_file(part, None),
            Err(error) => self.end_file(part, Some(error)),
            // A chain that has failed says so itself, and its end ends the file.
            Ok(block) => {
                let _ = chain.write_segment(Segment::from(block));
                let mut objects = self.core().objects.borrow_mut();
                match stream(&mut objects, key).and_then(|s| s.layers.as_mut()) {
                    Some(layers) => {
                        layers.owes_io_out = true;
                        layers.inbox.unpop(part);
                    }
                    None => {
                        drop(objects);
                        let error = io::Error::from(io::ErrorKind::ConnectionAborted);
                        self.end_file(part, Some(error));
                    }
                }
            }
        }
    }

    fn report_layer(&self, error: Error, context: &'static str) {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        self.host().report(self, crate::engine::Report { context, error });
    }
}
