//! What a chain has to tell, and how a layered stream ends.

use std::io;
use std::ops::ControlFlow;

use tepal_layers::{Chain, Error, ErrorKind, Event, How, Info, LayerId, Notice, Turn};

use super::requests::Next;
use super::{Found, Lost};
use crate::engine::{
    Consumed, Engine, Flow, Host, Outcome, StreamKey, StreamProtocol, flow_of, stream,
};
use crate::transport::stream::{EndOutput, Phase, Stream};
use crate::transport::{CloseKind, Closed};

impl<H: Host> Engine<H> {
    /// Tells anything but data.
    pub(super) fn tell(
        &self,
        key: StreamKey<H>,
        chain: &mut Chain,
        event: Event,
        turn: Turn<'_>,
    ) -> Flow {
        {
            let mut objects = self.core().objects.borrow_mut();
            let stream = stream(&mut objects, key).filter(|stream| stream.is_open());
            let Some(layers) = stream.and_then(|stream| stream.layers.as_mut()) else {
                return Flow::Continue(());
            };
            layers.look_at(chain);
        }
        match event {
            Event::Data => Flow::Continue(()),
            Event::Eof => self.tell_eof(key, chain),
            Event::Layer(notice) => self.tell_notice(key, chain, notice),
            Event::Established => self.tell_established(key, chain),
            Event::Failed(error) => self.tell_failed(key, chain, error, turn),
            Event::WriteEof => {
                if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
                    stream.end_output = EndOutput::Wanted;
                    stream.mark_dirty().then(|| self.core().dirty.borrow_mut().push(key));
                }
                Flow::Continue(())
            }
            Event::Closed => {
                let mut objects = self.core().objects.borrow_mut();
                if let Some(stream) = stream(&mut objects, key) {
                    stream.layers.iter_mut().for_each(|layers| layers.done = true);
                    stream.mark_dirty().then(|| self.core().dirty.borrow_mut().push(key));
                }
                Flow::Continue(())
            }
        }
    }

    /// Gives the protocol what there is, unless something was asked for that comes first. What it
    /// wrote is in the chain afterwards. Two look-ups of the stream: this is what most events are.
    pub(super) fn tell_data(
        &self,
        key: StreamKey<H>,
        chain: &mut Chain,
        turn: Turn<'_>,
    ) -> (Flow, Next) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else {
            return (Flow::Continue(()), Next::Gone);
        };
        // A layer may have asked for something too.
        let synced = stream.is_synced();
        match stream.apply_writes(chain, turn) {
            Some(Next::Tell) if synced => {}
            Some(next) => return (Flow::Continue(()), next),
            None => {
                drop(objects);
                return (Flow::Continue(()), self.apply_inbox(key, chain, turn));
            }
        }
        if let Some(layers) = &mut stream.layers {
            layers.look_at(chain);
        }
        let (joined, may_lend) = (stream.relay.is_some(), stream.may_lend);
        if joined || may_lend {
            drop(objects);
            let told = self.tell_data_elsewhere(key, chain, joined, turn);
            if let Some(flow) = told {
                return (flow, self.apply_inbox(key, chain, turn));
            }
            objects = core.objects.borrow_mut();
        }
        let taken = self::stream(&mut objects, key).and_then(|stream| stream.protocol.take());
        drop(objects);
        let Some(mut protocol) = taken else { return (Flow::Continue(()), Next::Wait) };
        let len = chain.data().len();
        let verdict = protocol.data_received(self, key, chain.data());
        match verdict {
            Ok(Consumed::All) => chain.took(len, turn),
            Ok(Consumed::Count(count)) => chain.took(count, turn),
            Err(_) => {}
        }
        let mut objects = core.objects.borrow_mut();
        let mut place = self::stream(&mut objects, key);
        let unused = match &mut place {
            Some(Stream { protocol: empty @ None, .. }) => {
                *empty = Some(protocol);
                None
            }
            // Another one was set meanwhile, or the stream is gone.
            _ => Some(protocol),
        };
        let next = match (&verdict, place) {
            (Ok(_), Some(stream)) => stream.apply_writes(chain, turn),
            _ => Some(Next::Gone),
        };
        drop(objects);
        drop(unused);
        if verdict.is_err() {
            self.stream_lose(key, Closed::new(CloseKind::ProtocolFailed));
            return (flow_of(&verdict), Next::Gone);
        }
        (Flow::Continue(()), next.unwrap_or_else(|| self.apply_inbox(key, chain, turn)))
    }

    // Data of a joined stream, or for memory that the protocol lends. `None`: it lends none.
    fn tell_data_elsewhere(
        &self,
        key: StreamKey<H>,
        chain: &mut Chain,
        joined: bool,
        turn: Turn<'_>,
    ) -> Option<Flow> {
        let len = chain.data().len();
        if joined {
            self.relay_deliver(key, chain.data());
            chain.took(len, turn);
            return Some(Flow::Continue(()));
        }
        if len == 0 {
            return None;
        }
        match self.call_lend(key, len) {
            ControlFlow::Break(()) => Some(Flow::Break(())),
            ControlFlow::Continue(None) => Some(Flow::Continue(())),
            ControlFlow::Continue(Some(None)) => None,
            ControlFlow::Continue(Some(Some(mut buffer))) => {
                let count = len.min(buffer.len());
                if count < len && chain.is_frame() {
                    let text = format!("the protocol lent {count} bytes for a frame of {len}");
                    chain.fail(Error::local(ErrorKind::WrongCount, text), turn);
                    return Some(self.give_back(key, buffer, true, 0));
                }
                buffer[..count].copy_from_slice(&chain.data()[..count]);
                // Before the call: what it asks for comes behind these bytes.
                chain.took(count, turn);
                Some(self.give_back(key, buffer, true, count))
            }
        }
    }

    fn tell_eof(&self, key: StreamKey<H>, chain: &Chain) -> Flow {
        let joined = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                stream.peer_eof = true;
                if let Some(layers) = &mut stream.layers {
                    layers.eof_layer = chain.eof_layer();
                }
                stream.relay.is_some()
            }
            None => return Flow::Continue(()),
        };
        if joined {
            return self.relay_eof(key).unwrap_or(Flow::Continue(()));
        }
        let keep_open = self.call_protocol(key, |protocol| protocol.eof_received(self, key))?;
        if keep_open == Some(false) {
            self.stream_end(key);
        }
        Flow::Continue(())
    }

    fn tell_notice(&self, key: StreamKey<H>, chain: &Chain, notice: Notice) -> Flow {
        self.update_names(key, chain);
        let id = chain.noticed_layer();
        match notice {
            Notice::Ready { layer, info } => {
                self.note_info(key, id, layer, Some(&info));
                self.call_protocol(key, |protocol| protocol.layer_ready(self, key, layer, &info))?;
            }
            Notice::Added { layer } => {
                self.call_protocol(key, |protocol| protocol.layer_added(self, key, layer))?;
            }
            Notice::Removed { layer, how } => {
                if how != How::Finished {
                    self.note_info(key, id, layer, None);
                }
                // The input goes on below the layer that has ended it.
                let ended = chain.eof_layer();
                if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
                    stream.peer_eof &= ended != Some(layer) || stream.closing;
                    stream.unanswered |= how == How::Unconfirmed;
                }
                self.finish_pop(key, id, Ok(how));
                self.call_protocol(key, |protocol| protocol.layer_removed(self, key, layer, how))?;
            }
            Notice::Request { layer, request } => {
                self.call_protocol(key, |protocol| {
                    protocol.layer_request(self, key, layer, &request)
                })?;
            }
            Notice::Idle { layer } => {
                self.call_protocol(key, |protocol| protocol.layer_idle(self, key, layer))?;
            }
        }
        Flow::Continue(())
    }

    // What a layer's handshake found out is kept as long as it holds.
    fn note_info(
        &self,
        key: StreamKey<H>,
        layer: Option<LayerId>,
        name: &'static str,
        info: Option<&Info>,
    ) {
        let mut objects = self.core().objects.borrow_mut();
        let recipe = stream(&mut objects, key).and_then(|stream| stream.recipe.as_mut());
        let (Some(recipe), Some(layer)) = (recipe, layer) else { return };
        recipe.infos.retain(|found| found.layer != layer);
        if let Some(info) = info.filter(|info| **info != Info::None) {
            recipe.infos.push(Found { layer, name, info: info.clone() });
        }
    }

    fn tell_established(&self, key: StreamKey<H>, chain: &Chain) -> Flow {
        self.update_names(key, chain);
        let forgotten = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) if stream.phase == Phase::Handshaking => {
                stream.phase = Phase::Established;
                stream.unanswered = false;
                stream.forget_addresses()
            }
            // Layers were pushed on a connection that stood already.
            _ => return Flow::Continue(()),
        };
        self.stream_abandon(forgotten);
        self.stream_begin_watch(key);
        self.call_protocol(key, |protocol| protocol.connection_established(self, key))?;
        Flow::Continue(())
    }

    fn tell_failed(
        &self,
        key: StreamKey<H>,
        chain: &mut Chain,
        error: Error,
        turn: Turn<'_>,
    ) -> Flow {
        let shaking = chain.handshaking();
        let before = stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|stream| stream.phase == Phase::Handshaking);
        // The wire may have failed under a handshake that is not to blame.
        let in_handshake = before || shaking.is_some_and(|layer| layer == error.layer());
        let mut closed = Closed::of_layer(error, in_handshake);
        if in_handshake {
            closed = closed.in_layer(shaking);
            // What the layer still has to say (an alert) goes out as far as the kernel takes it.
            self.move_output(key, chain, turn);
            if self.stream_next_address(key, &closed) {
                return Flow::Continue(());
            }
        }
        self.note_failed(key, &mut closed);
        // A wire that is broken takes no last words.
        let at_once = closed.layer_error.is_none();
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        stream.closing = true;
        let span = stream.closing_timeout.get().or(stream.shutdown_timeout.get());
        let Some(layers) = &mut stream.layers else { return Flow::Continue(()) };
        let write_failed = layers.write_failed.take();
        if at_once {
            drop(objects);
            let closed = write_failed.map_or(closed, |end| end.closed.in_layer(shaking));
            return self.fail_stream(key, closed, in_handshake);
        }
        layers.failed = Some(Box::new(closed.clone()));
        stream.mark_dirty().then(|| self.core().dirty.borrow_mut().push(key));
        drop(objects);
        if let Some(span) = span {
            self.arm_stream(key, span);
        }
        if in_handshake {
            self.tell_layer_failed(key, &closed)?;
        }
        Flow::Continue(())
    }

    // Whose hook it is: a handshake that took too long, or one that went wrong.
    fn tell_layer_failed(&self, key: StreamKey<H>, closed: &Closed) -> Flow {
        let late = closed.kind == CloseKind::HandshakeTimedOut;
        self.call_protocol(key, |protocol| match late {
            true => protocol.timeout_handshake(self, key, closed),
            false => protocol.error_layer(self, key, closed),
        })?;
        Flow::Continue(())
    }

    // The whole story of an outbound stream's failure, for whoever is told of it first.
    fn note_failed(&self, key: StreamKey<H>, closed: &mut Closed) {
        let now = self.now();
        let mut objects = self.core().objects.borrow_mut();
        if let Some(stream) = stream(&mut objects, key) {
            closed.problem = stream.problem_of(closed, now);
            if let Some(reaching) = &mut stream.outbound {
                reaching.problem.clone_from(&closed.problem);
            }
        }
    }

    // Ends a stream for a reason of its layers, at once.
    pub(in crate::transport) fn fail_stream(
        &self,
        key: StreamKey<H>,
        mut closed: Closed,
        in_handshake: bool,
    ) -> Flow {
        if in_handshake && self.stream_next_address(key, &closed) {
            return Flow::Continue(());
        }
        if closed.problem.is_none() {
            self.note_failed(key, &mut closed);
        }
        let told = match in_handshake {
            true => self.tell_layer_failed(key, &closed),
            false => Flow::Continue(()),
        };
        self.stream_lose(key, closed);
        told?;
        Flow::Continue(())
    }

    pub(super) fn fail_now(&self, key: StreamKey<H>, error: Error) {
        self.stream_lose(key, Closed::of_layer(error, false));
    }

    /// A pop has begun: it waits for this layer.
    pub(super) fn begin_pop(&self, key: StreamKey<H>, layer: LayerId) {
        let mut objects = self.core().objects.borrow_mut();
        let layers = stream(&mut objects, key).and_then(|s| s.layers.as_mut());
        if let Some(popping) = layers.and_then(|layers| layers.popping.as_mut()) {
            popping.layer = Some(layer);
        }
    }

    /// A pop has ended. `layer`: only if it is this one's.
    pub(super) fn finish_pop(
        &self,
        key: StreamKey<H>,
        layer: Option<LayerId>,
        result: Result<How, Error>,
    ) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(layers) = stream(&mut objects, key).and_then(|s| s.layers.as_mut()) else {
            return;
        };
        let is_this = |popping: &mut super::Popping<H>| layer.is_none() || layer == popping.layer;
        let popping = layers.popping.take_if(is_this);
        drop(objects);
        if let Some(popping) = popping {
            self.push_outcome(popping.completion, Outcome::Popped(result));
        }
    }

    /// The last bytes of a layered stream that closes may have left: ends it then.
    pub(in crate::transport) fn stream_finish(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        let Some(layers) = &mut stream.layers else { return };
        if !stream.output.is_empty()
            || layers.wire_len > 0
            || stream.end_output == EndOutput::Wanted
        {
            return;
        }
        let closed = match layers.failed.take() {
            Some(closed) => *closed,
            None if layers.done => Closed::new(CloseKind::Local),
            None => return,
        };
        drop(objects);
        self.stream_lose(key, closed);
    }

    /// Drops what a stream had for the layers that it has no more, with nothing borrowed.
    pub(in crate::transport) fn drop_shed(&self, shed: Lost<H>) {
        let Lost { chain, timer, .. } = shed;
        drop(chain);
        if let Some(timer) = timer {
            self.timer_remove(timer);
        }
    }

    /// A layered stream is lost: takes what must be dropped or told with nothing borrowed.
    pub(in crate::transport) fn stream_lose_layers(&self, lost: Option<Lost<H>>, closed: &Closed) {
        let Some(Lost { chain, files, popping, timer }) = lost else { return };
        drop(chain);
        for part in files {
            let text = "the connection ended before the file was sent";
            self.end_file(part, Some(io::Error::new(io::ErrorKind::ConnectionAborted, text)));
        }
        if let Some(timer) = timer {
            self.timer_remove(timer);
        }
        if let Some(popping) = popping {
            let error = closed.layer_error.clone().unwrap_or_else(|| {
                let text = "the connection ended before the layer was taken out";
                Error::misuse(ErrorKind::Closing, text)
            });
            self.push_outcome(popping.completion, Outcome::Popped(Err(error)));
        }
    }
}
