//! The pump: moves what can be moved through a stream's chain, and tells what is to be told.

use tepal_layers::{Chain, Error, Event, Turn};

use super::requests::Next;
use crate::engine::{Engine, Flow, Host, Step, StreamKey, TimerWork, stream};
use crate::transport::read::Reading;
use crate::transport::stream::{Phase, Stream};

/// What one pumping may move, with 64 bytes counted for each step of a layer: one full read and
/// what its bytes become. More waits for the next turn, so that no connection stalls the others.
const BUDGET: usize = 512 * 1024;

/// The chain is emptied into the stream's output while that holds less: what a socket's buffer
/// commonly takes at once.
pub(super) const OUTPUT: usize = 64 * 1024;

/// What the pump begins with.
pub(in crate::transport) enum Feed<'a> {
    Nothing,
    Bytes(&'a mut [u8]),
    Eof,
    Error(Error),
    Timeout,
}

/// A chain out of its stream, and what may follow at once.
pub(in crate::transport) struct Taken {
    chain: Box<Chain>,
    // None: something was asked for.
    next: Option<Next>,
}

impl<H: Host> Stream<H> {
    /// Takes the chain out, for the pump. `None`: there is none yet, or the pump has it.
    pub(in crate::transport) fn take_chain(&mut self, turn: Turn<'_>) -> Option<Taken> {
        let layers = self.layers.as_mut()?;
        layers.pump_queued = false;
        let mut chain = layers.chain.take()?;
        let next = self.apply_writes(&mut chain, turn);
        Some(Taken { chain, next })
    }
}

impl<H: Host> Engine<H> {
    /// Pumps, tells the protocol what there is to tell, and sends what has come out of it.
    pub(in crate::transport) fn stream_pump(&self, key: StreamKey<H>, feed: Feed<'_>) -> Flow {
        let turn = Turn::new(self.now(), &self.core().workspace);
        let taken = self.take_chain(key, turn);
        self.stream_pump_taken(key, taken, feed, turn)
    }

    /// The same with a chain that was taken; `None`: it has to be made, if it may.
    pub(in crate::transport) fn stream_pump_taken(
        &self,
        key: StreamKey<H>,
        mut taken: Option<Taken>,
        feed: Feed<'_>,
        turn: Turn<'_>,
    ) -> Flow {
        let core = self.core();
        if taken.is_none() {
            if let Err(error) = self.adopt_chain(key) {
                self.fail_now(key, error);
            }
            taken = self.take_chain(key, turn);
        }
        let Some(Taken { mut chain, next }) = taken else { return self.flush_stream(key) };
        let outer = core.pumping.replace(Some(key));
        let reading = Reading::begin(core, key);
        chain.set_budget(BUDGET);
        let mut next = next.unwrap_or_else(|| self.apply_inbox(key, &mut chain, turn));
        let mut flow = Flow::Continue(());
        if next != Next::Gone {
            match feed {
                Feed::Nothing => {}
                Feed::Bytes(bytes) => chain.receive(turn, bytes),
                Feed::Eof => chain.receive_eof(turn),
                Feed::Error(error) => chain.receive_error(error, turn),
                Feed::Timeout => chain.handle_timeout(turn),
            }
        }
        while next == Next::Tell {
            match chain.poll_event(turn) {
                Some(Event::Data) => (flow, next) = self.tell_data(key, &mut chain, turn),
                Some(event) => {
                    self.move_output(key, &mut chain, turn);
                    flow = self.tell(key, &mut chain, event, turn);
                    next = self.apply_inbox(key, &mut chain, turn);
                }
                // What leaves may make room for more.
                None if chain.output_is_full()
                    && self.move_output(key, &mut chain, turn) > 0
                    && chain.has_work() =>
                {
                    next = self.apply_inbox(key, &mut chain, turn);
                }
                None => break,
            }
            if flow.is_break() || self.is_interrupted() {
                break;
            }
        }
        core.pumping.set(outer);
        drop(reading);
        let sent = self.put_chain(key, chain, true, turn);
        flow?;
        sent
    }

    /// Pumps without telling anything: for the end of the turn. What there is to tell is queued.
    pub(in crate::transport) fn stream_advance(&self, key: StreamKey<H>) {
        let core = self.core();
        let turn = Turn::new(self.now(), &core.workspace);
        let Some(Taken { mut chain, next }) = self.take_chain(key, turn) else { return };
        let outer = core.pumping.replace(Some(key));
        chain.set_budget(BUDGET);
        let mut next = next.unwrap_or_else(|| self.apply_inbox(key, &mut chain, turn));
        while next != Next::Gone {
            chain.advance(turn);
            if self.move_output(key, &mut chain, turn) == 0 || !chain.has_work() {
                break;
            }
            next = self.apply_inbox(key, &mut chain, turn);
        }
        core.pumping.set(outer);
        // It sends nothing, so there is nobody to tell.
        let _ = self.put_chain(key, chain, false, turn);
    }

    fn take_chain(&self, key: StreamKey<H>, turn: Turn<'_>) -> Option<Taken> {
        stream(&mut self.core().objects.borrow_mut(), key)?.take_chain(turn)
    }

    // Gives the chain back, or lets go of it if the stream is gone, and sends what has left it.
    fn put_chain(
        &self,
        key: StreamKey<H>,
        mut chain: Box<Chain>,
        send: bool,
        turn: Turn<'_>,
    ) -> Flow {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else {
            drop(objects);
            drop(chain);
            return Flow::Continue(());
        };
        if stream.phase == Phase::Lost {
            // What the callback that lost it has used is not unread.
            let read_len = chain.read_len() as u64;
            if let Some(closed) = stream.closed_mut() {
                closed.unread = read_len;
            }
            stream.take_back(&mut chain, turn);
            drop(objects);
            drop(chain);
            return Flow::Continue(());
        }
        if send && stream.output.len() < OUTPUT && stream.is_open() {
            chain.take_output(&mut stream.output, turn);
        }
        let (holds, open) = (stream.holds_inbox(), stream.is_open());
        let Some(layers) = stream.layers.as_mut().filter(|_| open) else {
            drop(objects);
            drop(chain);
            return Flow::Continue(());
        };
        layers.look_at_all(&chain);
        if layers.inbox.is_empty() {
            layers.inbox.framed = chain.keeps_writes();
        }
        let deadline = chain.deadline();
        let rearm = deadline != layers.armed;
        layers.armed = deadline;
        let timer = layers.timer;
        // A file waits for room, and whoever makes room pumps.
        let asked = !layers.inbox.is_empty() && !holds && !layers.inbox.has_file_in_front();
        let more = stream.made && (chain.has_work() || asked || chain.has_event());
        layers.chain = Some(chain);
        let queue = more && !std::mem::replace(&mut layers.pump_queued, true);
        let read = stream.queue_read();
        let closing = stream.closing;
        let after = if send { self.send_output(key, stream) } else { None };
        // What has left may have made room in the layers.
        let room = send && stream.has_layer_work();
        let bare = send && stream.is_bare();
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
        if let Some(after) = after {
            self.flushed(key, after)?;
        }
        if room {
            self.stream_advance(key);
        }
        if bare {
            self.shed_layers(key);
        }
        if closing {
            self.watch_shutdown(key);
            if send {
                self.stream_finish(key);
            }
        }
        Flow::Continue(())
    }

    pub(super) fn note_change(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        if let Some(recipe) = stream(&mut objects, key).and_then(|s| s.recipe.as_mut()) {
            recipe.changed = true;
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
            && stream.closing_timeout.get().is_none()
            && layers.inbox.is_empty()
            && stream.is_open()
            && stream.buffered() == 0
            && !layers.done;
        let (span, armed) = (stream.shutdown_timeout.get(), stream.timer);
        drop(objects);
        if let Some(span) = span.filter(|_| waits)
            && armed.is_none_or(|timer| !self.timer_is_active(timer))
        {
            self.arm_stream(key, span);
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
