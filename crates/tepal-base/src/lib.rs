//! The ground floor of tepal: plain values that every other crate speaks in.
//!
//! * [`Instant`]: a point of the monotonic clock, as `u64` nanoseconds.
//! * [`Slab`] and [`Key`]: objects named by tokens that notice reuse.
//! * [`Segment`] and [`ByteQueue`]: bytes on their way out, owned, pooled or lent by a host.
//! * [`Buffer`] and [`Pool`]: memory that bytes are read into.
//! * [`CallOnce`]: a callback that needs no allocation if it is small.
//! * [`JobQueue`]: callbacks that are ready to run, each of which can be cancelled in O(1).
//!
//! Nothing here does I/O, reads a clock or starts a thread. Types are `!Send` where they may hold
//! memory of a host (such as a Python object), because that memory may be released only by the
//! thread that runs the loop.

#![warn(missing_docs)]

mod buffer;
mod call;
mod job;
mod pool;
mod queue;
mod segment;
mod slab;
mod time;

pub use buffer::Buffer;
pub use call::CallOnce;
pub use job::{JobId, JobQueue};
pub use pool::Pool;
pub use queue::ByteQueue;
pub use segment::{ForeignBytes, Segment};
pub use slab::{Key, Slab};
pub use time::Instant;
