//! What stands between two neighbours: a queue for each direction, with marks at positions in it,
//! and for each direction the reasons for which it is paused.

mod inbound;
mod outbound;
mod pauses;

pub(crate) use self::inbound::{InMark, Inbound, WORTH_MOVING};
pub(crate) use self::outbound::{OutMark, Outbound};
pub use self::pauses::Pauses;

/// Both directions.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
}
