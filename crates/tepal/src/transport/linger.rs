//! Closing a connection whose peer still sends.
//!
//! When a socket is closed that holds unread bytes, or that gets bytes afterwards, TCP answers with
//! a reset; and a reset makes the peer's kernel throw away what we sent last, even if it arrived
//! (RFC 1122, 4.2.2.13; RFC 9112, 9.6 tells servers of it). So a close with input waiting ends our
//! direction only, and then reads and drops what comes until the peer ends its own, for a short
//! time. The protocol has been told of the end by then; nothing of this is seen above the
//! descriptor.
//!
//! A layer that leaves without waiting for its peer's goodbye counts as input waiting: a server of
//! TLS 1.3 sends its tickets behind the handshake, and they find a client gone that said little.

use std::io;
use std::time::Duration;

use tepal_driver::Half;

use super::stream::Stream;
use crate::engine::{Engine, Flow, Host, Step, StreamKey, stream};

/// How long input is drained at most. Two round trips of a slow line are enough for the peer to get
/// our last bytes and our end; a peer that goes on sending then has been warned.
const LINGER: Duration = Duration::from_secs(2);

impl<H: Host> Stream<H> {
    /// Whether closing now could cost the peer bytes that it was sent.
    pub(super) fn may_linger(&self) -> bool {
        let input = self.readable || self.unanswered;
        input && !self.peer_eof && self.sent > 0 && self.descriptor.is_some()
    }

    pub(crate) fn is_lingering(&self) -> bool {
        self.lingering
    }
}

impl<H: Host> Engine<H> {
    /// Ends our direction and begins to drain. The stream no longer counts as its server's.
    pub(super) fn linger(&self, key: StreamKey<H>) {
        let core = self.core();
        let (descriptor, listener) = {
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            stream.lingering = true;
            stream.offer = false;
            (stream.descriptor, stream.listener.take())
        };
        let ended = descriptor.map(|socket| core.driver.borrow_mut().shutdown(socket, Half::Write));
        if matches!(ended, Some(Ok(()))) {
            self.arm_stream(key, LINGER);
            self.push_step(key, Step::Read);
        } else {
            // No socket, or gone already: there is nothing to wait for.
            self.stream_discard(key);
        }
        if let Some(listener) = listener {
            self.listener_release(listener);
        }
    }

    /// Drops what has come.
    pub(super) fn drain(&self, key: StreamKey<H>) -> Flow {
        let core = self.core();
        let descriptor = stream(&mut core.objects.borrow_mut(), key).and_then(|s| s.descriptor);
        let Some(descriptor) = descriptor else { return Flow::Continue(()) };
        let target = self.take_scratch();
        let received = core.driver.borrow_mut().receive(descriptor, target);
        self.give_scratch(received.buffer);
        match received.result {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The peer's end, or an error that ends the connection all the same.
            Ok(0) | Err(_) => {
                self.stream_discard(key);
                return Flow::Continue(());
            }
        }
        if let Some(stream) = stream(&mut core.objects.borrow_mut(), key) {
            stream.readable = received.more;
        }
        self.read_on(key);
        Flow::Continue(())
    }

    pub(super) fn linger_timeout(&self, key: StreamKey<H>) -> Flow {
        let lingers =
            stream(&mut self.core().objects.borrow_mut(), key).is_some_and(|s| s.lingering);
        if lingers {
            self.stream_discard(key);
        }
        Flow::Continue(())
    }
}
