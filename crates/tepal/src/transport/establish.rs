//! From an attached protocol to an established connection: what inbound and outbound share.

use std::time::Duration;

use tepal_driver::Address;

use super::reach::{Outbound, Peer, Reaching, Timeouts};
use super::stream::{Phase, Stream};
use super::stream_options::StreamOptions;
use crate::engine::{Engine, Flow, Host, Step, StreamKey, StreamProtocol, stream};

impl<H: Host> Engine<H> {
    /// Makes an outbound stream to one address: [`stream_reach`](Self::stream_reach) with defaults.
    pub fn stream_connect(
        &self,
        peer: Address,
        local: Option<Address>,
        timeout: Option<Duration>,
        protocol: H::Protocol,
        options: StreamOptions,
    ) -> StreamKey<H> {
        let mut to = Outbound::to(Peer::Addresses(vec![peer]));
        to.local = local.into_iter().collect();
        to.timeouts = Timeouts { connecting: timeout, ..Timeouts::default() };
        to.timeouts.closing = options.closing_timeout;
        to.timeouts.handshake = Some(options.handshake_timeout);
        self.stream_reach(to, protocol, options)
    }

    /// Makes an outbound stream, attached to its protocol before the first packet leaves:
    /// `connection_made` comes in the next turn, then the peer's name is resolved and its addresses
    /// are tried. Bytes written early wait.
    ///
    /// Of `options` only the pressure counts; the times are those of `to`. Layers are set by
    /// [`stream_set_layers`](Self::stream_set_layers) right after this call.
    pub fn stream_reach(
        &self,
        to: Outbound<H>,
        protocol: H::Protocol,
        mut options: StreamOptions,
    ) -> StreamKey<H> {
        options.closing_timeout = to.timeouts.closing;
        options.handshake_timeout = to.timeouts.handshake.unwrap_or(Duration::MAX);
        let outbound = Some(Box::new(Reaching::new(to)));
        self.insert_stream(Stream { outbound, ..Stream::new(None) }, protocol, options)
    }

    pub(super) fn stream_made(&self, key: StreamKey<H>) -> Flow {
        match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => stream.made = true,
            None => return Flow::Continue(()),
        }
        self.call_protocol(key, |protocol| protocol.connection_made(self, key))?;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let (phase, outbound) = (stream.phase, stream.outbound.is_some());
        drop(objects);
        match phase {
            Phase::Attached if outbound => {
                self.push_step(key, Step::Connect);
                Flow::Continue(())
            }
            Phase::Attached => self.stream_wire_stands(key),
            // Another protocol begins where the first one left off.
            Phase::Established => self.stream_tell_established(key),
            // Ended, or told to wait first.
            _ => Flow::Continue(()),
        }
    }

    pub(super) fn stream_writable(&self, key: StreamKey<H>) -> Flow {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        stream.write_queued = false;
        stream.blocked = false;
        let connecting = stream.phase == Phase::Connecting;
        drop(objects);
        match connecting {
            true => self.stream_connecting_event(key),
            false => self.flush_stream(key),
        }
    }

    /// The kernel's part is done: layers begin, or bytes flow.
    pub(super) fn stream_wire_stands(&self, key: StreamKey<H>) -> Flow {
        let (timer, layered, total) = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                // A protocol that begins on a connection that stands has layers that stand.
                let layered = stream.layers.is_some() && stream.phase != Phase::Established;
                if !layered {
                    stream.phase = Phase::Established;
                }
                let now = self.now();
                let total = stream.outbound.as_ref().map(|reaching| reaching.handshake_end(now));
                // Closed before it was established: the timer is the closing one already.
                (stream.timer.filter(|_| !stream.closing), layered, total)
            }
            None => return Flow::Continue(()),
        };
        if let Some(timer) = timer {
            self.timer_disarm(timer);
        }
        if layered {
            if let Some(deadline) = total.filter(|at| *at != tepal_base::Instant::FAR) {
                self.arm_stream_at(key, deadline);
            }
            return self.stream_handshake(key);
        }
        self.stream_begin_watch(key);
        self.stream_tell_established(key)
    }

    fn stream_tell_established(&self, key: StreamKey<H>) -> Flow {
        self.call_protocol(key, |protocol| protocol.connection_established(self, key))?;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let (read, pump) = (stream.queue_read(), stream.queue_pump());
        drop(objects);
        if pump {
            self.push_step(key, Step::Pump);
        }
        if read {
            self.push_step(key, Step::Read);
        }
        // What was written early, and an early close.
        self.flush_stream(key)
    }
}
