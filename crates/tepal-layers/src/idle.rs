use std::time::Duration;

use tepal_base::Instant;

use crate::{Error, ErrorKind, How, Info, Io, Layer, LayerSpec, Notice, Site, Status};

/// Tells the protocol when nothing has passed for a while, in either direction: time for a
/// keep-alive. Command name `idle`.
///
/// [`Notice::Idle`] comes once per quiet time; the connection stays up. Where the layer stands
/// decides what counts: below TLS every record does, above a framing layer only whole frames.
#[derive(Clone, Debug)]
pub struct Idle {
    after: Duration,
}

impl Idle {
    /// After so long.
    pub const fn new(after: Duration) -> Idle {
        Idle { after }
    }
}

impl LayerSpec for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn wants_addresses(&self, _: crate::Side) -> bool {
        false
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        if self.after.is_zero() {
            return Err(Error::local(ErrorKind::InvalidSetting, "an idle time of zero"));
        }
        let (last, deadline) = (site.now, site.now + self.after);
        Ok(Box::new(IdleLayer { after: self.after, last, deadline }))
    }
}

struct IdleLayer {
    after: Duration,
    last: Instant,
    // Moved only when it has come, so that a busy connection does not move a timer per message.
    deadline: Instant,
}

impl Layer for IdleLayer {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn passes_on(&self) -> bool {
        true
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        let now = io.now();
        let down = io.to_below.pass(&mut io.from_above, usize::MAX);
        let up = io.to_above.pass(&mut io.from_below, usize::MAX);
        if down + up > 0 {
            self.last = now;
        }
        if self.deadline <= now {
            if self.last + self.after <= now {
                self.last = now;
                io.notify(Notice::Idle { layer: "idle" });
            }
            self.deadline = self.last + self.after;
        }
        Ok(if io.finishing() { Status::Done(How::Closed) } else { Status::Open })
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }
}
