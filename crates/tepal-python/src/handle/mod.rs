//! `Handle` and `TimerHandle`: callbacks with their arguments and their context.

mod attributes;
mod calling;
mod class;
mod ends;
mod freed;
mod object;
mod queued;
mod reference;

pub(crate) use class::add_types;
pub(crate) use object::Parts;
pub(crate) use queued::{Queued, QueuedRun};
pub(crate) use reference::HandleRef;
