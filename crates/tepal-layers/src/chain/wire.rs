use tepal_base::ByteQueue;

use super::{Chain, Phase};
use crate::link::InMark;
use crate::{Error, Pauses, Turn};

impl Chain {
    /// Takes the bytes that the protocol has left unread out of a chain that
    /// [is spent](Chain::is_spent), and whether it has seen all of them.
    pub fn take_unread(&mut self, turn: Turn<'_>) -> (Vec<u8>, bool) {
        let inbound = &mut self.links[0].inbound;
        let unread = inbound.visible().to_vec();
        inbound.clear(turn.workspace);
        let seen = std::mem::take(&mut self.offered) >= unread.len();
        (unread, seen)
    }

    /// Feeds bytes from the wire. They may be changed in place; none is kept where it is.
    pub fn receive(&mut self, turn: Turn<'_>, bytes: &mut [u8]) {
        if bytes.is_empty() || self.failed.is_some() || self.phase == Phase::Closed {
            return;
        }
        if self.receive_only(turn, bytes) {
            return;
        }
        let mut taken = 0;
        if let Some(lowest) = self.floors.first() {
            let waiting = self.links[0].inbound.len() + bytes.len();
            if lowest.need <= waiting && !lowest.dead {
                self.dirty |= 1;
                taken = self.pump(turn, bytes);
            }
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        if !rest.is_empty() {
            let need = self.floors.first().map_or(0, |lowest| lowest.need);
            let inbound = &mut self.links[0].inbound;
            inbound.extend_toward(rest, need, turn.workspace);
            if !self.floors.is_empty() {
                inbound.shrink(turn.workspace);
            }
        }
    }

    /// Tells that the wire's peer has ended its side (FIN).
    pub fn receive_eof(&mut self, turn: Turn<'_>) {
        if !self.received_eof && self.failed.is_none() {
            self.received_eof = true;
            self.links[0].inbound.mark(InMark::Eof(""));
            self.dirty |= u64::from(!self.floors.is_empty());
            self.pump(turn, &mut []);
        }
    }

    /// Tells that the wire is broken. What was received before still reaches the protocol, then
    /// [`Event::Failed`](crate::Event::Failed) with this error does.
    pub fn receive_error(&mut self, error: Error, turn: Turn<'_>) {
        if self.failed.is_none() {
            self.failed = Some(error.clone());
            self.links[0].inbound.mark(InMark::Fault(error));
            self.dirty |= u64::from(!self.floors.is_empty());
            self.pump(turn, &mut []);
        }
    }

    /// Bytes for the wire, in order. Send any number of them, then say so with
    /// [`sent`](Chain::sent).
    #[inline]
    pub fn output(&self) -> &ByteQueue {
        &self.links[0].outbound.queue
    }

    /// Tells that the wire has taken the first `count` bytes of the output.
    pub fn sent(&mut self, count: usize, turn: Turn<'_>) {
        let link = &mut self.links[0];
        link.outbound.consume(count.min(link.outbound.len()), turn.workspace);
        if link.outbound.len() <= self.limits.link / 2
            && let Some(floor) = self.floors.first()
        {
            self.dirty |= u64::from(floor.refused_down);
        }
        self.check_wire();
    }

    /// Moves the output to the end of another queue, as [`sent`](Chain::sent) does; returns how
    /// many bytes. Segments change hands.
    ///
    /// For an owner that keeps bytes of its own between the chain and the wire. It does so while
    /// it holds few: layers fill what it has emptied.
    pub fn take_output(&mut self, into: &mut ByteQueue, turn: Turn<'_>) -> usize {
        let link = &mut self.links[0].outbound;
        let count = link.visible_len();
        if count > 0 {
            link.move_to(into, turn.workspace);
            self.sent(0, turn);
        }
        count
    }

    /// Whether the wire is to be read: nobody above has paused what arrives there.
    #[inline]
    pub fn wants_read(&self) -> bool {
        let inbound = &self.links[0].inbound;
        inbound.pauses.is_empty()
            && !self.received_eof
            && self.failed.is_none()
            && self.phase != Phase::Closed
            && (!self.floors.is_empty()
                || inbound.len() < self.low.max(self.offered) + self.limits.link)
    }

    /// Why the wire is not to be read, if it is not.
    pub fn read_pauses(&self) -> Pauses {
        self.links[0].inbound.pauses
    }
}
