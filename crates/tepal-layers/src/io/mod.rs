//! What a layer sees during one step: bytes, ways and marks on its four sides.

mod inbound;
mod outbound;

use std::fmt;

use tepal_base::Instant;

pub use self::inbound::{FromBelow, ToAbove};
pub use self::outbound::{FromAbove, ToBelow};
use crate::link::{InMark, Inbound, Outbound};
use crate::{Info, LayerId, Notice, Turn};

/// What a layer sees of its surroundings during one step.
///
/// The four sides are fields, so that bytes of one can be handed to another.
pub struct Io<'a> {
    /// Bytes that came from below.
    pub from_below: FromBelow<'a>,
    /// The way up.
    pub to_above: ToAbove<'a>,
    /// Bytes that were written from above.
    pub from_above: FromAbove<'a>,
    /// The way down.
    pub to_below: ToBelow<'a>,
    pub(crate) now: Instant,
    pub(crate) finishing: bool,
    pub(crate) closing: bool,
    id: LayerId,
    pub(crate) name: &'static str,
    pub(crate) ready: bool,
    // How many bytes stood above before the step.
    up_len: usize,
}

impl<'a> Io<'a> {
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "one caller, and each is a field")]
    pub(crate) fn new(
        below: (&'a mut Inbound, &'a mut Outbound),
        above: (&'a mut Inbound, &'a mut Outbound),
        lent: &'a mut [u8],
        need: &'a mut usize,
        limits: (usize, usize, bool),
        state: (LayerId, &'static str, bool, bool, bool),
        turn: Turn<'a>,
    ) -> Io<'a> {
        let workspace = turn.workspace;
        let (id, name, ready, finishing, closing) = state;
        let up_len = above.0.len();
        Io {
            from_below: FromBelow::new(below.0, lent, need),
            to_above: ToAbove::new(above.0, limits.0, name, workspace),
            from_above: FromAbove::new(above.1, workspace),
            to_below: ToBelow::new(below.1, limits.1, limits.2, workspace),
            now: turn.now,
            finishing,
            closing,
            id,
            name,
            ready,
            up_len,
        }
    }

    /// Now.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether the owner wants the layer to end, and all that was written before has been shown
    /// or is still in [`from_above`](Io::from_above).
    #[inline]
    pub fn finishing(&self) -> bool {
        self.finishing
    }

    /// Whether the layer ends because the whole connection is closed, rather than this layer.
    #[inline]
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// Tells that bytes may flow through the layer now. Only the first call counts. The notice
    /// stands before the bytes that the layer has pushed in this step.
    pub fn ready(&mut self, info: Info) {
        if !self.ready {
            self.ready = true;
            let notice = (self.id, Notice::Ready { layer: self.name, info });
            self.to_above.link.mark_before(self.up_len, InMark::Notice(Box::new(notice)));
        }
    }

    /// Tells the protocol something, in order with the bytes pushed up.
    pub fn notify(&mut self, notice: Notice) {
        self.to_above.link.mark(InMark::Notice(Box::new((self.id, notice))));
    }
}

// Never the bytes: they may be secrets.
impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}
