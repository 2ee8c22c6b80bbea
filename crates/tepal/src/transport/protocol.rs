//! A stream's protocol: how it is given, called and replaced.

use std::ops::ControlFlow;

use tepal_driver::{Half, Interest};

use super::Closed;
use super::stream::Stream;
use super::stream_options::Reads;
use crate::engine::{Engine, Host, Step, StreamKey, Verdict, flow_of, stream};

impl<H: Host> Engine<H> {
    /// Gives a new stream its protocol, and queues the first callback.
    pub(crate) fn stream_begin(&self, key: StreamKey<H>, protocol: H::Protocol) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else {
            drop(objects);
            drop(protocol);
            return;
        };
        stream.protocol = Some(protocol);
        if let Some(descriptor) = stream.descriptor {
            let interest = match stream.reads {
                Reads::Nothing => Interest::NONE,
                Reads::Bytes | Reads::Gone => Interest::READ,
            };
            let registered = core.driver.borrow_mut().register(descriptor, key.to_bits(), interest);
            if let Err(error) = registered {
                drop(objects);
                self.push_step(key, Step::Made);
                self.stream_lose(key, Closed::failed(Half::Both, error));
                return;
            }
        }
        drop(objects);
        self.push_step(key, Step::Made);
    }

    /// Calls the protocol, unless it is gone, with nothing borrowed. A failure costs the
    /// connection. `Continue(None)`: it was not called, or failed.
    #[inline]
    pub(super) fn call_protocol<R>(
        &self,
        key: StreamKey<H>,
        call: impl FnOnce(&mut H::Protocol) -> Verdict<R>,
    ) -> ControlFlow<(), Option<R>> {
        let core = self.core();
        let taken = stream(&mut core.objects.borrow_mut(), key).and_then(|s| s.protocol.take());
        let Some(mut protocol) = taken else { return ControlFlow::Continue(None) };
        let verdict = call(&mut protocol);
        let mut objects = core.objects.borrow_mut();
        let unused = match stream(&mut objects, key) {
            Some(stream @ Stream { protocol: None, .. }) => {
                stream.protocol = Some(protocol);
                None
            }
            // Another one was set meanwhile, or the stream is gone.
            _ => Some(protocol),
        };
        drop(objects);
        drop(unused);
        match verdict {
            Ok(value) => ControlFlow::Continue(Some(value)),
            Err(_) => {
                self.stream_fail(key);
                flow_of(&verdict)?;
                ControlFlow::Continue(None)
            }
        }
    }

    /// Replaces the protocol; from within its own callback too. The old one is dropped.
    pub fn stream_set_protocol(&self, key: StreamKey<H>, protocol: H::Protocol) {
        let mut objects = self.core().objects.borrow_mut();
        let old = match stream(&mut objects, key) {
            Some(stream) => {
                // The new one has not seen what the old one left.
                stream.offer |= !stream.unread.is_empty();
                (stream.may_lend, stream.wants_io_out) = (true, true);
                stream.layers.iter_mut().for_each(|layers| layers.offer_again = true);
                if stream.queue_pump() {
                    self.push_step(key, Step::Pump);
                }
                if stream.queue_read() {
                    self.push_step(key, Step::Read);
                }
                stream.protocol.replace(protocol)
            }
            None => Some(protocol),
        };
        drop(objects);
        drop(old);
    }

    /// Replaces the protocol by one that then hears everything from `connection_made` on, in the
    /// next turn, as if the established connection were new.
    pub fn stream_begin_again(&self, key: StreamKey<H>, protocol: H::Protocol) {
        self.stream_set_protocol(key, protocol);
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.made = false;
        }
        self.push_step(key, Step::Made);
    }

    /// Says that the protocol does nothing in
    /// [`io_out`](crate::engine::StreamProtocol::io_out), which is not called again until another
    /// protocol is set.
    pub fn stream_decline_io_out(&self, key: StreamKey<H>) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.wants_io_out = false;
            stream.drained = false;
        }
    }
}
