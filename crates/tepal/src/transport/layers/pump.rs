//! The pump: moves what can be moved through a stream's chain, and tells what is to be told.

use std::io;

use tepal_base::{ByteQueue, Segment};
use tepal_layers::{Chain, Error, Turn, Which};

use super::{Pushed, Request, Told};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, TimerWork, stream};
use crate::transport::file::FilePart;
use crate::transport::stream::{Phase, Stream};

/// What one pumping may move, with 64 bytes counted for each step of a layer: one full read and
/// what its bytes become. More waits for the next turn, so that no connection stalls the others.
const BUDGET: usize = 512 * 1024;

/// The chain is emptied into the stream's output while that holds less: what a socket's buffer
/// commonly takes at once.
pub(super) const OUTPUT: usize = 64 * 1024;

/// How much of a file is read at once: four TLS records.
const FILE_BLOCK: usize = 64 * 1024;

/// What the pump begins with.
pub(in crate::transport) enum Feed<'a> {
    Nothing,
    Bytes(&'a mut [u8]),
    Eof,
    Error(Error),
    Timeout,
}

/// What may follow when everything asked for has been carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The protocol may be told what there is.
    Tell,
    /// Not yet.
    Wait,
    /// The stream is lost.
    Gone,
}

impl<H: Host> Engine<H> {
    /// Pumps, and tells the protocol what there is to tell.
    pub(in crate::transport) fn stream_pump(&self, key: StreamKey<H>, feed: Feed<'_>) -> Flow {
        let core = self.core();
        let mut taken = self.take_chain(key);
        if taken.is_none() {
            if let Err(error) = self.adopt_chain(key) {
                self.fail_now(key, error);
            }
            taken = self.take_chain(key);
        }
        let Some((mut chain, asked)) = taken else { return Flow::Continue(()) };
        let outer = core.pumping.replace(Some(key));
        let turn = Turn::new(self.now(), &core.workspace);
        chain.set_budget(BUDGET);
        let mut flow = Flow::Continue(());
        if !asked || self.apply_inbox(key, &mut chain, turn) != Next::Gone {
            match feed {
                Feed::Nothing => {}
                Feed::Bytes(bytes) => chain.receive(turn, bytes),
                Feed::Eof => chain.receive_eof(turn),
                Feed::Error(error) => chain.receive_error(error, turn),
                Feed::Timeout => chain.handle_timeout(turn),
            }
            while self.apply_inbox(key, &mut chain, turn) == Next::Tell {
                let event = chain.poll_event(turn);
                let moved = self.move_output(key, &mut chain, turn);
                flow = match event {
                    Some(event) => self.tell(key, &mut chain, event, turn),
                    // What has left may have made room for more.
                    None if moved > 0 && chain.has_work() => continue,
                    None => break,
                };
                if flow.is_break() || self.is_interrupted() {
                    break;
                }
            }
        }
        core.pumping.set(outer);
        self.put_chain(key, chain);
        flow
    }

    /// Pumps without telling anything: for the end of the turn. What there is to tell is queued.
    pub(in crate::transport) fn stream_advance(&self, key: StreamKey<H>) {
        let core = self.core();
        let Some((mut chain, _)) = self.take_chain(key) else { return };
        let outer = core.pumping.replace(Some(key));
        let turn = Turn::new(self.now(), &core.workspace);
        chain.set_budget(BUDGET);
        while self.apply_inbox(key, &mut chain, turn) != Next::Gone {
            chain.advance(turn);
            if self.move_output(key, &mut chain, turn) == 0 || !chain.has_work() {
                break;
            }
        }
        core.pumping.set(outer);
        self.put_chain(key, chain);
    }

    // The chain, and whether something has been asked for.
    fn take_chain(&self, key: StreamKey<H>) -> Option<(Box<Chain>, bool)> {
        let mut objects = self.core().objects.borrow_mut();
        let stream = stream(&mut objects, key)?;
        let layers = stream.layers.as_mut()?;
        layers.pump_queued = false;
        Some((layers.chain.take()?, !layers.inbox.is_empty()))
    }

    // Gives the chain back, or lets go of it if the stream is gone.
    fn put_chain(&self, key: StreamKey<H>, chain: Box<Chain>) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else {
            drop(objects);
            return drop(chain);
        };
        if stream.phase == Phase::Lost {
            // What the callback that lost it has used is not unread.
            let read_len = chain.read_len() as u64;
            if let Some(closed) = stream.closed_mut() {
                closed.unread = read_len;
            }
            drop(objects);
            return drop(chain);
        }
        let (holds, open) = (stream.holds_inbox(), stream.is_open());
        let Some(layers) = stream.layers.as_mut().filter(|_| open) else {
            drop(objects);
            return drop(chain);
        };
        layers.look_at_all(&chain);
        layers.inbox.framed = chain.keeps_writes();
        let deadline = chain.deadline();
        let rearm = deadline != layers.armed;
        layers.armed = deadline;
        let timer = layers.timer;
        // A file waits for room, and whoever makes room pumps.
        let asked = !holds && !layers.inbox.is_empty() && !layers.inbox.has_file_in_front();
        let more = stream.made && (chain.has_work() || chain.has_event() || asked);
        layers.chain = Some(chain);
        let queue = more && !std::mem::replace(&mut layers.pump_queued, true);
        let read = stream.queue_read();
        let closing = stream.closing;
        drop(objects);
        if queue {
            self.push_step(key, Step::Pump);
        }
        if read {
            self.push_step(key, Step::Read);
        }
        if rearm {
            self.arm_layers(key, timer, deadline);
        }
        if closing {
            self.watch_shutdown(key);
        }
    }

    fn arm_layers(
        &self,
        key: StreamKey<H>,
        timer: Option<crate::engine::TimerKey<H>>,
        deadline: Option<tepal_base::Instant>,
    ) {
        match (timer, deadline) {
            (Some(timer), None) => {
                self.timer_disarm(timer);
            }
            (timer, Some(deadline)) => {
                let timer = self.arm_timer(timer, deadline, || TimerWork::Layers(key));
                let mut objects = self.core().objects.borrow_mut();
                if let Some(layers) = stream(&mut objects, key).and_then(|s| s.layers.as_mut()) {
                    layers.timer = Some(timer);
                }
            }
            (None, None) => {}
        }
    }

    // A stream whose closing has no time limit still waits for the answers of its peers' layers
    // within one: a peer that is gone would otherwise hold it for ever.
    fn watch_shutdown(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        let Some(layers) = &stream.layers else { return };
        let waits = stream.closing
            && stream.closing_timeout.is_none()
            && layers.inbox.is_empty()
            && stream.is_open()
            && stream.buffered() == 0
            && !layers.done;
        let (span, armed) = (stream.shutdown_timeout, stream.timer);
        drop(objects);
        if waits && armed.is_none_or(|timer| !self.timer_is_active(timer)) {
            self.arm_stream(key, span);
        }
    }

    // Carries out what was asked for, and tells the chain what else its owner has set.
    fn apply_inbox(&self, key: StreamKey<H>, chain: &mut Chain, turn: Turn<'_>) -> Next {
        loop {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Next::Gone };
            // Also if the next address is tried, for which another chain will be built.
            if !stream.is_open() {
                return Next::Gone;
            }
            let holds = stream.holds_inbox();
            let Some(layers) = &mut stream.layers else { return Next::Gone };
            // A file goes on when some of what waits has left.
            let full = layers.inbox.has_file_in_front()
                && chain.write_len() + stream.output.len() > stream.high;
            let next = match holds || full || layers.inbox.is_empty() {
                true => None,
                false => layers.inbox.pop(turn.workspace),
            };
            let Some((request, bytes)) = next else {
                Self::sync_chain(stream, chain, turn);
                // Nothing is told before `connection_made`: a protocol may have been set just now.
                return if stream.made { Next::Tell } else { Next::Wait };
            };
            drop(objects);
            self.apply(key, chain, request, bytes, turn);
        }
    }

    fn sync_chain(stream: &mut Stream<H>, chain: &mut Chain, turn: Turn<'_>) {
        let held = stream.relay.as_ref().is_some_and(|relay| relay.is_held());
        let told =
            Told { paused: stream.paused || held, low: stream.read_low, limit: stream.read_limit };
        let Some(layers) = &mut stream.layers else { return };
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
                let below = pushed.below.as_deref();
                let Pushed { id, layer, target, residual, .. } = pushed;
                if let Err(error) = chain.push_layer(id, layer, target, below, residual, turn) {
                    // Going on without the layer would send in clear what it was to protect.
                    self.fail_now(key, error);
                }
                self.update_names(key, chain);
            }
            Request::Pop { layer, name, timeout, late } => {
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

    pub(super) fn update_names(&self, key: StreamKey<H>, chain: &Chain) {
        let can_write_eof = chain.can_write_eof();
        let mut objects = self.core().objects.borrow_mut();
        if let Some(layers) = stream(&mut objects, key).and_then(|s| s.layers.as_mut()) {
            layers.look_at_all(chain);
            layers.can_write_eof = can_write_eof;
        }
    }

    fn report_layer(&self, error: Error, context: &'static str) {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        self.host().report(self, crate::engine::Report { context, error });
    }

    // Empties the chain into the stream's output; how many bytes.
    pub(super) fn move_output(
        &self,
        key: StreamKey<H>,
        chain: &mut Chain,
        turn: Turn<'_>,
    ) -> usize {
        if chain.output().is_empty() {
            return 0;
        }
        let mut objects = self.core().objects.borrow_mut();
        match stream(&mut objects, key) {
            Some(stream) if stream.output.len() < OUTPUT && stream.is_open() => {
                let moved = chain.take_output(&mut stream.output, turn);
                stream.mark_dirty().then(|| self.core().dirty.borrow_mut().push(key));
                moved
            }
            _ => 0,
        }
    }
}
