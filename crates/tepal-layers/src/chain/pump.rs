use tepal_base::Instant;

use super::guard::guard;
use super::{Chain, Phase};
use crate::link::{InMark, OutMark};
use crate::{Error, ErrorKind, How, Io, Pauses, Status, Turn};

/// What one step costs at least, in bytes of the budget: about the time of copying as many.
pub(super) const STEP_COST: usize = 64;

impl Chain {
    /// Steps layers while one is dirty and the budget lasts. `lent` is the wire's buffer; returns
    /// how many bytes of it are dealt with.
    pub(super) fn pump(&mut self, turn: Turn<'_>, lent: &mut [u8]) -> usize {
        let mut taken = 0;
        while self.dirty != 0 && self.budget > 0 {
            let index = self.dirty.trailing_zeros() as usize;
            self.dirty &= !(1 << index);
            let lent = if index == 0 { lent.get_mut(taken..) } else { None };
            if lent.as_ref().is_none_or(|lent| lent.is_empty()) && self.send_only(index, turn) {
                continue;
            }
            taken += self.step(index, turn, lent.unwrap_or_default());
        }
        self.check_wire();
        self.find_deadline();
        taken
    }

    /// Acts on deadlines that have passed. Harmless to call early. Poll for events afterwards.
    pub fn handle_timeout(&mut self, turn: Turn<'_>) {
        let past = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= turn.now);
        let mut index = 0;
        while let Some(floor) = self.floors.get_mut(index) {
            if past(floor.deadline) {
                floor.deadline = None;
                self.dirty |= 1 << index;
            }
            if past(floor.limit) && !floor.dead {
                floor.limit = None;
                if self.expire(index, turn) {
                    continue;
                }
            }
            index += 1;
        }
        self.pump(turn, &mut []);
    }

    // One step of one layer, and what follows from it for its neighbours.
    fn step(&mut self, index: usize, turn: Turn<'_>, lent: &mut [u8]) -> usize {
        let top = self.links.len() - 1;
        let up_left = match self.floors.get(index + 1) {
            Some(upper) => upper.need.max(upper.left),
            None => self.offered.max(self.low),
        };
        // A frame that has been written fills the links down to the layer that wants it whole.
        let whole = self.wants_frames(index);
        let Some(floor) = self.floors.get_mut(index) else { return 0 };
        let (lower, upper) = self.links.split_at_mut(index + 1);
        let (below, above) = (&mut lower[index], &mut upper[0]);
        if floor.dead {
            return lent.len(); // nobody will ever look at them
        }
        let gated = below.inbound.pauses.contains(Pauses::CHANGE);
        let mut appended = 0;
        if !lent.is_empty() && (gated || !below.inbound.is_empty() || below.inbound.has_marks()) {
            // Bytes are there already, so these have to stand behind them: all, or what the layer
            // lacks, so that the rest can be used where it is.
            appended = match floor.need.saturating_sub(below.inbound.len()) {
                0 => lent.len(),
                _ if gated => lent.len(),
                lacking => lacking.min(lent.len()),
            };
            below.inbound.extend_toward(&lent[..appended], floor.need, turn.workspace);
        }
        let lent = &mut lent[appended..];
        let lent_len = lent.len();
        let (in_len, in_marks) = (below.inbound.len(), below.inbound.mark_count());
        let (up_len, up_marks) = (above.inbound.len(), above.inbound.mark_count());
        let (out_len, down_len) = (above.outbound.len(), below.outbound.len());
        let (out_marks, down_marks) = (above.outbound.mark_count(), below.outbound.mark_count());
        // What the reader above has seen and left, because it needs more, takes no room.
        let up_limit = self.limits.link.saturating_add(up_left);
        let mut nothing = None;
        let inbound = match gated {
            true => nothing.insert(crate::link::Inbound::default()),
            false => &mut below.inbound,
        };
        let mut io = Io::new(
            (inbound, &mut below.outbound),
            (&mut above.inbound, &mut above.outbound),
            lent,
            &mut floor.need,
            (up_limit, self.limits.link, whole),
            (floor.id, floor.name, floor.ready, floor.finishing, self.phase == Phase::Closing),
            turn,
        );
        let layer = &mut floor.layer;
        let result = guard(|| Ok((layer.step(&mut io)?, layer.deadline())));
        let (taken, held, ready) = (io.from_below.taken(), io.from_below.held, io.ready);
        floor.refused_up = io.to_above.refused;
        floor.refused_down = io.to_below.refused;
        let took_frame = io.from_above.took_frame;
        floor.deadline = result.as_ref().ok().and_then(|(_, deadline)| *deadline);
        let became_ready = ready && !floor.ready;
        floor.ready = ready;

        // The neighbours.
        let blocked = floor.refused_up && (!below.inbound.is_empty() || taken < lent_len);
        let was_paused = !below.inbound.pauses.is_empty();
        below.inbound.pauses.set(Pauses::BLOCKED, blocked);
        below.inbound.pauses.set(Pauses::HELD, held);
        let left = if floor.refused_up || held { 0 } else { below.inbound.len() };
        let freed_below = below.inbound.len() < in_len
            || below.inbound.mark_count() < in_marks
            || was_paused
            || left > floor.left
            || floor.need > left;
        floor.left = left;
        if below.inbound.is_empty() && !below.inbound.has_marks() {
            below.inbound.release(turn.workspace);
        }
        let sent_bytes = below.outbound.len() > down_len;
        let sent_down = sent_bytes || below.outbound.mark_count() > down_marks;
        let took_out = out_len.saturating_sub(above.outbound.len());
        let freed_above = took_out > 0 || above.outbound.mark_count() < out_marks;
        let took_in = taken + in_len.saturating_sub(below.inbound.len());
        self.budget = self.budget.saturating_sub(STEP_COST + took_in + took_out);
        let pushed_up = above.inbound.len() != up_len || above.inbound.mark_count() != up_marks;
        let refused = (floor.refused_up, held);
        if pushed_up && index + 1 < top {
            let enough = above.inbound.len() >= self.floors[index + 1].need;
            if enough || above.inbound.has_marks() {
                self.dirty |= 1 << (index + 1);
            }
        }
        if index > 0 {
            let lower = &self.floors[index - 1];
            if sent_down || (freed_below && lower.refused_up) {
                self.dirty |= 1 << (index - 1);
            }
            // What a layer sends of itself is a frame, and else a part of the one it came from.
            if sent_bytes && whole && (took_out == 0 || took_frame) {
                let below = &mut self.links[index].outbound;
                if !below.ends_with_mark() {
                    below.mark(OutMark::Frame);
                }
            }
        }
        if freed_above
            && let Some(upper) = self.floors.get(index + 1)
            && upper.refused_down
        {
            self.dirty |= 1 << (index + 1);
        }
        // What was lent is used where it is as soon as nothing stands before it; and a layer that
        // got what it lacked may lack more.
        if appended > 0 && taken < lent_len && refused == (false, false) {
            self.dirty |= 1 << index;
        }
        if became_ready {
            self.floors[index].limit = None;
            self.start_handshake(turn);
        }
        match result.map(|(status, _)| status) {
            Ok(Status::Open) => self.settle(index, turn),
            Ok(Status::Done(how)) => self.remove(index, how, turn),
            Ok(Status::Become(layers)) => self.replace(index, layers, turn),
            Err(error) => self.fail_layer(index, error),
        }
        appended + taken
    }

    // Whether a layer below that one makes frames of what is written.
    #[inline]
    fn wants_frames(&self, index: usize) -> bool {
        self.framed && self.floors.iter().take(index).any(|lower| lower.keeps_writes)
    }

    // Moves marks past a layer that has seen all it could before them.
    fn settle(&mut self, index: usize, turn: Turn<'_>) {
        let floor = &mut self.floors[index];
        let (lower, upper) = self.links.split_at_mut(index + 1);
        let (below, above) = (&mut lower[index], &mut upper[0]);
        let bit = 1u64 << index;
        let stuck = !floor.refused_up && below.inbound.pauses.is_empty();
        if below.inbound.has_marks() && stuck {
            self.dirty |= bit | (bit << 1) | (bit >> 1);
            match below.inbound.take_mark() {
                // Read as a stream: the frame's end means nothing here.
                None | Some(InMark::Frame) => {}
                Some(InMark::Notice(notice)) => above.inbound.mark(InMark::Notice(notice)),
                Some(InMark::Eof(by)) => {
                    let rest = below.inbound.len();
                    below.inbound.consume(rest);
                    if !above.inbound.ended {
                        above.inbound.mark(InMark::Eof(by));
                    }
                }
                Some(InMark::Fault(error)) => {
                    floor.dead = true;
                    above.inbound.mark(InMark::Fault(error));
                }
            }
        }
        self.mask_dirty();
        self.settle_writes(index, turn);
    }

    fn settle_writes(&mut self, index: usize, turn: Turn<'_>) {
        let whole = self.wants_frames(index);
        let floor = &mut self.floors[index];
        let (lower, upper) = self.links.split_at_mut(index + 1);
        let (below, above) = (&mut lower[index], &mut upper[0]);
        let Some(mark) = above.outbound.mark_at_front() else { return };
        match *mark {
            OutMark::Frame if floor.refused_down || !floor.ready => return,
            OutMark::Eof if !floor.ready => return,
            OutMark::Finish(id) if id == floor.id => {
                if !floor.finishing {
                    floor.finishing = true;
                    self.dirty |= 1 << index;
                    if !floor.ready {
                        self.abandon(index, turn);
                    }
                }
                return;
            }
            _ => {}
        }
        let id = floor.id;
        let empty = !above.outbound.is_partial();
        match above.outbound.take_mark() {
            // What the layer made of one frame is one frame to those below, if they want any.
            Some(OutMark::Frame) if whole && (empty || !below.outbound.ends_with_mark()) => {
                below.outbound.mark(OutMark::Frame);
            }
            None | Some(OutMark::Frame) => {}
            Some(OutMark::Insert(new)) => {
                if !self.insert_waiting(new, id, turn) {
                    self.links[index].outbound.mark(OutMark::Insert(new));
                }
            }
            Some(mark) => below.outbound.mark(mark),
        }
        self.dirty |= 1 << index;
        if index > 0 {
            self.dirty |= 1 << (index - 1);
        }
        if self.floors.get(index + 1).is_some_and(|upper| upper.refused_down) {
            self.dirty |= 1 << (index + 1);
        }
    }

    fn mask_dirty(&mut self) {
        self.dirty &= self.all();
    }

    /// The layer is dead: what it has pushed up still arrives, then its error does.
    pub(super) fn fail_layer(&mut self, index: usize, error: Error) {
        let floor = &mut self.floors[index];
        floor.dead = true;
        floor.deadline = None;
        floor.limit = None;
        let error = error.in_layer(floor.name);
        self.links[index + 1].inbound.mark(InMark::Fault(error.clone()));
        self.failed.get_or_insert(error);
        self.dirty |= 1 << (index + 1);
        self.mask_dirty();
    }

    /// Fails the whole chain, for a reason that no layer gave: [`Event::Failed`](crate::Event::Failed)
    /// follows. What the protocol has not taken until now it will not be shown again.
    pub fn fail(&mut self, error: Error, turn: Turn<'_>) {
        self.failed.get_or_insert_with(|| error.clone());
        let top = self.links.len() - 1;
        let inbound = &mut self.links[top].inbound;
        inbound.clear(turn.workspace);
        inbound.pauses.set(Pauses::PROTOCOL, false);
        inbound.mark(InMark::Fault(error));
    }

    // A layer's time is up; returns whether it is gone.
    fn expire(&mut self, index: usize, turn: Turn<'_>) -> bool {
        let floor = &self.floors[index];
        if !floor.ready {
            let message = "the handshake did not end in time";
            self.fail_layer(index, Error::remote(ErrorKind::HandshakeTimeout, message));
            return false;
        }
        if floor.late == super::Late::Keep {
            self.remove(index, How::TimedOut, turn);
            return true;
        }
        let message = "the peer did not answer the close in time";
        self.fail_layer(index, Error::remote(ErrorKind::CloseTimeout, message));
        false
    }

    pub(super) fn find_deadline(&mut self) {
        self.deadline = None;
        for floor in self.floors.iter().filter(|floor| !floor.dead) {
            for at in [floor.deadline, floor.limit].into_iter().flatten() {
                self.deadline = Some(self.deadline.map_or(at, |earlier| earlier.min(at)));
            }
        }
    }
}
