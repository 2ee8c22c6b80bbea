//! How a stream ends: closed, aborted, lost, and told.

use std::io;
use std::time::Duration;

use tepal_driver::{Half, SocketOption};

use tepal_layers::{Error as LayerError, ErrorKind, Turn};

use super::layers::Request;
use super::reach::At;
use super::stream::{Phase, Stream};
use super::stream_options::Reads;
use super::{CloseKind, Closed};
use crate::engine::{Engine, Flow, Host, Object, Step, StreamKey, StreamProtocol, flow_of, stream};

impl<H: Host> Engine<H> {
    pub(super) fn stream_timeout(&self, key: StreamKey<H>) -> Flow {
        let phase = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => stream.phase,
            None => return Flow::Continue(()),
        };
        match phase {
            Phase::Resolving | Phase::Connecting | Phase::Waiting => self.stream_reach_timeout(key),
            Phase::Handshaking if !self.stream_is_closing(key) => {
                let text = "the attempt as a whole took too long";
                let error = LayerError::remote(ErrorKind::HandshakeTimeout, text);
                let shaking = self.stream_handshaking(key);
                let error = shaking.map_or(error.clone(), |layer| error.in_layer(layer));
                self.fail_stream(key, Closed::of_layer(error, true), true)
            }
            Phase::Established if self.stream_break_on(key) => Flow::Continue(()),
            Phase::Established | Phase::Handshaking => {
                self.stream_closing_timeout(key);
                Flow::Continue(())
            }
            Phase::Lost => self.linger_timeout(key),
            Phase::Attached => Flow::Continue(()),
        }
    }

    fn stream_closing_timeout(&self, key: StreamKey<H>) {
        let failed = stream(&mut self.core().objects.borrow_mut(), key)
            .and_then(|stream| stream.layers.as_mut())
            .and_then(|layers| layers.failed.take());
        self.stream_reset(key);
        self.stream_lose(
            key,
            match failed {
                Some(closed) => *closed,
                None => Closed::new(CloseKind::ClosingTimedOut),
            },
        );
    }

    /// Closes once everything written has left: no more is read, and `connection_lost` follows in
    /// a later turn.
    ///
    /// A connection that is not established, or that waits for another attempt, ends at once.
    pub fn stream_close(&self, key: StreamKey<H>) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.give_up();
        }
        self.stream_end(key);
    }

    /// Closes, though the owner has not said so: a plan may bring the connection back.
    pub(super) fn stream_end(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if stream.is_ending() {
            return;
        }
        stream.closing = true;
        let layered = stream.layers.is_some();
        let broken = stream.is_reading_out();
        let wait = match stream.phase {
            // Inbound and not told yet: what is written goes out once it is.
            Phase::Attached if stream.descriptor.is_some() => stream.has_output(),
            // Nothing was connected yet: there is nobody to send anything to.
            Phase::Attached | Phase::Resolving | Phase::Connecting | Phase::Waiting => false,
            Phase::Handshaking => true,
            Phase::Established | Phase::Lost => layered || stream.has_output() && !broken,
        };
        let timeout = stream.closing_timeout.get();
        if wait && !stream.dirty && (layered || !stream.blocked) {
            stream.dirty = true;
            self.core().dirty.borrow_mut().push(key);
        }
        if let Some(layers) = stream.layers.as_mut().filter(|_| wait) {
            // They finish from the top, each after what was written before.
            layers.inbox.push(Request::Close);
        }
        drop(objects);
        match (wait, timeout) {
            (false, _) => self.stream_lose(key, Closed::new(CloseKind::Local)),
            (true, Some(timeout)) => self.arm_stream(key, timeout),
            (true, None) => {}
        }
    }

    /// There is something to read on a stream that does not read.
    pub(super) fn stream_reader_gone(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        let told = std::mem::replace(&mut stream.readable, false);
        if !told || stream.reads == Reads::Nothing || stream.is_ending() {
            return;
        }
        let unsent = stream.has_output();
        drop(objects);
        self.stream_lose(
            key,
            match unsent {
                true => Closed::failed(Half::Write, io::ErrorKind::BrokenPipe.into()),
                false => Closed::new(CloseKind::PeerEof),
            },
        );
    }

    /// Bytes have left while closing: the time-out starts anew.
    pub(super) fn stream_closing_progress(&self, key: StreamKey<H>) {
        let timeout = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) if stream.is_open() => stream.closing_timeout.get(),
            _ => None,
        };
        if let Some(timeout) = timeout {
            self.arm_stream(key, timeout);
        }
    }

    /// Closes at once: what is buffered is dropped, and the peer gets a reset.
    pub fn stream_abort(&self, key: StreamKey<H>) {
        let lost = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                stream.give_up();
                stream.phase == Phase::Lost
            }
            None => true,
        };
        if !lost {
            self.stream_reset(key);
            self.stream_lose(key, Closed::new(CloseKind::Aborted));
        }
    }

    pub(super) fn stream_reset(&self, key: StreamKey<H>) {
        let core = self.core();
        if let Some(Stream { descriptor: Some(descriptor), .. }) =
            stream(&mut core.objects.borrow_mut(), key)
        {
            // Unix sockets and pipes have no reset; for them closing is all there is.
            let linger = SocketOption::Linger(Some(Duration::ZERO));
            let _ = core.driver.borrow_mut().set_option(*descriptor, &linger);
        }
    }

    /// The connection has ended. The first reason stands; the protocol is told in a later turn.
    pub(crate) fn stream_lose(&self, key: StreamKey<H>, mut closed: Closed) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if stream.phase == Phase::Lost {
            return;
        }
        if let Some(failed) = stream.take_read_out()
            && closed.kind != CloseKind::ProtocolFailed
        {
            closed = failed;
        }
        if closed.kind == CloseKind::Local && stream.peer_eof {
            let by = stream.layers.as_ref().and_then(|layers| layers.eof_layer);
            closed.kind = match by.is_some_and(|layer| !layer.is_empty()) {
                true => CloseKind::PeerClosedLayer,
                false => CloseKind::PeerEof,
            };
        }
        if closed.kind == CloseKind::ProtocolFailed {
            // A protocol that fails is not given another connection.
            stream.give_up();
        }
        if stream.outbound.is_some() && closed.problem.is_none() {
            closed.problem = stream.problem_of(&closed, self.now());
        }
        let mut abandoned = At::Nothing;
        if let Some(reaching) = &mut stream.outbound {
            abandoned = std::mem::replace(&mut reaching.step, At::Nothing);
            reaching.note_stood(self.now());
            if closed.problem.is_some() {
                reaching.problem.clone_from(&closed.problem);
            }
        }
        stream.phase = Phase::Lost;
        stream.closing = true;
        let read_len = stream.layers.as_ref().map_or(0, |layers| layers.read_len);
        closed.unsent = stream.buffered() as u64;
        closed.unread = (stream.unread.len() + read_len) as u64;
        let turn = Turn::new(self.now(), &self.core().workspace);
        let layers = stream.lose_layers(turn);
        let watch_timer = stream.watch.take().and_then(|watch| watch.timer);
        // What was written stays until it is known whether there will be another attempt.
        let (output, inbox) = match stream.outbound.is_some() {
            true => stream.drop_sealed(&self.core().workspace),
            false => stream.drop_output(),
        };
        let unread = std::mem::take(&mut stream.unread);
        let files = stream.files.take();
        let timer = stream.timer.take();
        let joined = stream.relay.is_some().then(|| closed.clone());
        stream.closed = Some(Box::new(closed.clone()));
        drop(objects);
        self.stream_lose_layers(layers, &closed);
        drop((output, inbox, unread));
        self.stream_abandon(abandoned);
        for part in files.into_iter().flat_map(|files| *files) {
            let text = "the connection ended before the file was sent";
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
            self.end_file(part, Some(error));
        }
        if let Some(closed) = joined {
            self.relay_lost(key, &closed);
        }
        for timer in [timer, watch_timer].into_iter().flatten() {
            self.timer_remove(timer);
        }
        self.push_step(key, Step::Lost);
    }

    pub(super) fn stream_lost(&self, key: StreamKey<H>) -> Flow {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let Some(closed) = stream.closed.clone() else { return Flow::Continue(()) };
        let established = stream.outbound.as_ref().is_none_or(|reaching| reaching.was_established);
        drop(objects);
        // A failed attempt is no loss: there was nothing to lose.
        if !established && self.stream_plans(key) {
            self.stream_revive(key);
            return Flow::Continue(());
        }
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = self::stream(&mut objects, key) else { return Flow::Continue(()) };
        let protocol = stream.protocol.take();
        let made = std::mem::replace(&mut stream.made, true);
        // Our last bytes were meant to arrive: those of a close, a layer's alert.
        let said = closed.kind == CloseKind::Local || closed.layer_error.is_some();
        let lingers = said && stream.may_linger();
        drop(objects);
        let mut verdict = Ok(());
        if let Some(mut protocol) = protocol {
            // A stream that failed before it was made is still made and lost, in this order.
            if !made {
                verdict = protocol.connection_made(self, key);
            }
            let lost = protocol.connection_lost(self, key, &closed);
            if lost.is_err()
                && let Some(stream) = self::stream(&mut core.objects.borrow_mut(), key)
            {
                stream.give_up();
            }
            verdict = verdict.and(lost);
            if self.stream_plans(key) {
                self.stream_put_back(key, protocol);
                self.stream_revive(key);
                return flow_of(&verdict);
            }
            let over = protocol.finished(self, key, &closed);
            verdict = verdict.and(over);
            drop(protocol);
        }
        if lingers {
            self.linger(key);
        } else {
            self.stream_discard(key);
        }
        flow_of(&verdict)
    }

    // Gives a protocol back that was called, unless another one was set meanwhile.
    fn stream_put_back(&self, key: StreamKey<H>, protocol: H::Protocol) {
        let mut objects = self.core().objects.borrow_mut();
        let unused = match stream(&mut objects, key) {
            Some(stream @ Stream { protocol: None, .. }) => stream.protocol.replace(protocol),
            _ => Some(protocol),
        };
        drop(objects);
        drop(unused);
    }

    /// Closes a stream that has no protocol yet.
    pub(crate) fn stream_discard(&self, key: StreamKey<H>) {
        let gone = self.core().objects.borrow_mut().remove(key);
        let (listener, timer) = match &gone {
            Some(Object::Stream(stream)) => (stream.listener, stream.timer),
            _ => (None, None),
        };
        if let Some(timer) = timer {
            self.timer_remove(timer);
        }
        gone.into_iter().for_each(|object| self.close_object(object));
        if let Some(listener) = listener {
            self.listener_release(listener);
        }
    }
}

impl<H: Host> Stream<H> {
    /// The owner wants no other attempt, whatever was planned.
    fn give_up(&mut self) {
        if let Some(reaching) = &mut self.outbound {
            (reaching.again, reaching.given_up) = (None, true);
        }
    }
}
