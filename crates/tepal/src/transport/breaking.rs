//! How a join passes a reset on.
//!
//! What one side has sent before its connection was reset has been read, and waits in the other
//! side's output or in its kernel. A reset makes a kernel drop what it has not got rid of yet, so the
//! other side is reset only once its peer's host has confirmed all of it. No call tells of that
//! moment; it is asked for, at first soon and then less often. A peer that takes nothing for the
//! closing time-out is not waited for.

use std::time::Duration;

use tepal_base::Instant;

use super::relay::Relay;
use super::stream::Phase;
use crate::engine::{Engine, Host, StreamKey, stream};

/// Between the first two questions: a local peer has confirmed by then.
const FIRST: Duration = Duration::from_millis(1);
/// Between two of a peer that takes long.
const LAST: Duration = Duration::from_millis(256);
/// How long a peer may take nothing where no closing time-out is set.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream that is to be reset once what it has been given has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breaking {
    // How many bytes had not arrived when it was last asked for, and since when.
    left: usize,
    since: Instant,
    interval: Duration,
}

impl<H: Host> Engine<H> {
    /// The join of a stream has ended by a reset of the other side, `from`.
    pub(super) fn stream_break(&self, key: StreamKey<H>, from: StreamKey<H>) {
        let now = self.now();
        {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            if stream.phase != Phase::Established || stream.closing {
                drop(objects);
                return self.stream_abort(key);
            }
            // As if still joined to the side that is gone: nothing more is read here or told.
            let breaking = Breaking { left: usize::MAX, since: now, interval: FIRST };
            stream.relay = Some(Box::new(Relay::broken(from, breaking)));
        }
        self.stream_break_on(key);
    }

    /// Looks whether everything has arrived. `false`: the stream is not to be reset.
    pub(super) fn stream_break_on(&self, key: StreamKey<H>) -> bool {
        let core = self.core();
        let now = self.now();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key).filter(|stream| !stream.closing) else {
            return false;
        };
        let waits = stream.buffered();
        let patience = stream.closing_timeout.get().unwrap_or(PATIENCE);
        let (Some(descriptor), Some(relay)) = (stream.descriptor, &mut stream.relay) else {
            return false;
        };
        let Some(breaking) = &mut relay.breaking else { return false };
        let sent = core.driver.borrow_mut().unconfirmed(descriptor);
        // A socket that cannot tell has lost its connection.
        let left = waits + sent.unwrap_or(0);
        if left < breaking.left {
            (breaking.left, breaking.since) = (left, now);
        }
        let over = left == 0 || now.since(breaking.since) >= patience;
        let interval = breaking.interval;
        breaking.interval = (interval * 2).min(LAST);
        drop(objects);
        match over {
            true => self.stream_abort(key),
            false => self.arm_stream(key, interval),
        }
        true
    }
}
