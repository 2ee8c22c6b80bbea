//! The short ways: what one message needs when nothing else goes on, which is nearly always.
//!
//! A step looks at a layer's four sides, and at what its neighbours make of the change. A message
//! that meets empty links changes nothing there, so a layer that can is asked for no more than its
//! own work; whatever is not plain gets a step.

use super::guard::guard;
use super::pump::STEP_COST;
use super::{Chain, Phase};
use crate::{FromAbove, Passed, ToAbove, ToBelow, Turn};

impl Chain {
    /// Gives bytes from the wire to the only layer, without a step. `false`: it is for a step.
    pub(super) fn receive_only(&mut self, turn: Turn<'_>, bytes: &mut [u8]) -> bool {
        let calm = self.dirty == 0
            && self.phase == Phase::Open
            && self.announced
            && self.failed.is_none()
            && !self.received_eof
            && self.waiting.is_empty();
        let ([floor], [below, above], true) = (&mut self.floors[..], &mut self.links[..], calm)
        else {
            return false;
        };
        let plain = floor.ready
            && !(floor.finishing || floor.dead)
            && floor.need == 0
            && below.inbound.is_calm()
            && above.inbound.is_calm();
        if !plain {
            return false;
        }
        let limit = self.limits.link;
        let mut to = ToAbove::new(&mut above.inbound, limit, floor.name, turn.workspace);
        let Passed { used, more } = match guard(|| Ok(floor.layer.receive_only(bytes, &mut to))) {
            Ok(None) => return false,
            Ok(Some(passed)) => passed,
            Err(error) => {
                self.fail_layer(0, error);
                return true;
            }
        };
        let used = used.min(bytes.len());
        self.budget = self.budget.saturating_sub(STEP_COST + used);
        let rest = bytes.get(used..).unwrap_or_default();
        if more || !rest.is_empty() {
            below.inbound.extend_toward(rest, floor.need, turn.workspace);
            self.dirty |= 1;
        }
        true
    }

    /// A step of a layer that has nothing to do but to send what was written. `false`: it wants a
    /// whole one.
    pub(super) fn send_only(&mut self, index: usize, turn: Turn<'_>) -> bool {
        let framed = index.checked_sub(1).is_some_and(|lower| self.floors[lower].keeps_writes);
        let Some(floor) = self.floors.get_mut(index) else { return false };
        let (lower, upper) = self.links.split_at_mut(index + 1);
        let (below, above) = (&mut lower[index], &mut upper[0]);
        let plain = floor.ready
            && !(floor.finishing || floor.dead || floor.keeps_writes || framed)
            && self.phase == Phase::Open
            && floor.deadline.is_none()
            && below.inbound.is_calm()
            && !above.outbound.queue.is_empty()
            && above.outbound.next_mark().is_none();
        if !plain {
            return false;
        }
        let before = (above.outbound.len(), below.outbound.len());
        let mut from = FromAbove::new(&mut above.outbound, turn.workspace);
        let mut to = ToBelow::new(&mut below.outbound, self.limits.link, false, turn.workspace);
        let result = guard(|| floor.layer.send_only(&mut from, &mut to));
        let refused = to.refused;
        let took = before.0.saturating_sub(above.outbound.len());
        if index > 0 && below.outbound.len() > before.1 {
            self.dirty |= 1 << (index - 1);
        }
        if matches!(result, Ok(false)) {
            return false;
        }
        floor.refused_down = refused;
        self.budget = self.budget.saturating_sub(STEP_COST + took);
        if took > 0 && !refused && !above.outbound.queue.is_empty() {
            self.dirty |= 1 << index; // the rest is for a step
        }
        if took > 0 && self.floors.get(index + 1).is_some_and(|upper| upper.refused_down) {
            self.dirty |= 1 << (index + 1);
        }
        if let Err(error) = result {
            self.fail_layer(index, error);
        }
        true
    }
}
