//! Addresses that come while others are tried already.

use tepal_base::Instant;

use super::{Mode, Strategy};

impl<E, A> Strategy<E, A> {
    /// More addresses may come, since the name is still being asked for: until
    /// [`handle_addresses`](Strategy::handle_addresses) or
    /// [`handle_no_more`](Strategy::handle_no_more), having none left to try is no failure before
    /// the deadline.
    pub fn expect_more(&mut self) {
        self.expects_more = true;
    }

    /// The name is answered: these are its addresses, in order of preference.
    ///
    /// Those that were tried, or are being tried, are left out. The others are put among those
    /// whose turn has not come as if they had been there before (RFC 8305, section 3): families
    /// go on alternating, beginning with the one that was not tried last. What runs goes on, and
    /// the time of the next start stands, unless nothing runs. Indices of attempts that have
    /// started stay.
    pub fn handle_addresses(&mut self, addresses: impl IntoIterator<Item = A>, now: Instant)
    where
        A: PartialEq,
    {
        self.expects_more = false;
        let old = self.attempts.split_off(self.next).into_iter().map(|attempt| attempt.address);
        let mut waiting: Vec<A> = Vec::new();
        for address in addresses.into_iter().chain(old) {
            let known = self.attempts.iter().any(|attempt| attempt.address == address);
            if !known && !waiting.contains(&address) {
                waiting.push(address);
            }
        }
        if let Mode::Race { .. } = self.mode {
            let last = self.attempts.last().map(|attempt| (self.family)(&attempt.address));
            waiting = interleave(waiting, self.family, last.map(|family| !family));
        }
        self.attempts.extend(waiting.into_iter().map(super::Attempt::new));
        if !self.ended {
            self.advance(now);
        }
    }

    /// No more addresses come.
    pub fn handle_no_more(&mut self, now: Instant) {
        self.expects_more = false;
        if !self.ended {
            self.advance(now);
        }
    }
}

/// Alternates families, beginning with `first`, or else with the first address's; the order within
/// each stays.
pub(super) fn interleave<A>(
    addresses: Vec<A>,
    family: fn(&A) -> bool,
    first: Option<bool>,
) -> Vec<A> {
    let first = first.unwrap_or_else(|| addresses.first().is_some_and(family));
    let count = addresses.len();
    let (leading, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| family(address) == first);
    let (mut leading, mut other) = (leading.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(count);
    while mixed.len() < count {
        mixed.extend(leading.next());
        mixed.extend(other.next());
    }
    mixed
}
