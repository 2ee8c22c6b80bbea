//! Why a direction stands still.

use std::fmt;

/// Why one direction of a link stands still; empty when it does not.
///
/// A reason is set and cleared by its owner only, so nobody resumes what another one paused, and
/// an object between two links can tell a pause from its left from one from its right.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Pauses(u8);

impl Pauses {
    /// No reason.
    pub const NONE: Pauses = Pauses(0);
    /// The protocol (the user above the stack) asked for it.
    pub const PROTOCOL: Pauses = Pauses(1);
    /// The layer that reads here cannot pass on what it would make of more.
    pub const BLOCKED: Pauses = Pauses(2);
    /// The layer that reads here wants no more for now (a rate limit without tokens).
    pub const HELD: Pauses = Pauses(4);
    /// A layer is about to be inserted here.
    pub const CHANGE: Pauses = Pauses(8);

    /// Whether there is no reason.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all reasons of `other` are there.
    #[inline]
    pub const fn contains(self, other: Pauses) -> bool {
        self.0 & other.0 == other.0
    }

    #[inline]
    pub(crate) fn set(&mut self, reason: Pauses, on: bool) {
        if on {
            self.0 |= reason.0;
        } else {
            self.0 &= !reason.0;
        }
    }
}

impl fmt::Debug for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["PROTOCOL", "BLOCKED", "HELD", "CHANGE"];
        let mut set = f.debug_set();
        for (bit, name) in names.iter().enumerate() {
            if self.0 & 1 << bit != 0 {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_of_different_owners_do_not_lift_each_other() {
        let mut pauses = Pauses::NONE;
        pauses.set(Pauses::PROTOCOL, true);
        pauses.set(Pauses::HELD, true);
        pauses.set(Pauses::HELD, false);
        assert!(pauses.contains(Pauses::PROTOCOL) && !pauses.is_empty());
        assert_eq!(format!("{pauses:?}"), "{PROTOCOL}");
    }
}
