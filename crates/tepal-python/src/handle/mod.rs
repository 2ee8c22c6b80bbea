//! `Handle` and `TimerHandle`: callbacks with their arguments and their context.

mod attributes;
mod class;
mod object;

pub(crate) use class::add_types;
pub(crate) use object::{HandleRef, Parts};
