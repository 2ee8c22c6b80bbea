//! What the generated matrices of acts in callbacks share.

#[path = "listed.rs"]
mod listed;

use std::cell::Cell;
use std::rc::Rc;

pub(crate) use listed::listed;

/// Counts what holds it, from its making to its dropping.
pub(crate) struct Ticket(pub(crate) Rc<Cell<i32>>);

impl Ticket {
    pub(crate) fn new(live: &Rc<Cell<i32>>) -> Ticket {
        live.set(live.get() + 1);
        Ticket(Rc::clone(live))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
