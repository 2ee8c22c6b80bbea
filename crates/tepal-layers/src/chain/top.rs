use super::{Chain, Phase};
use crate::link::{InMark, Link};
use crate::{Error, ErrorKind, Event, Pauses, Turn};

impl Chain {
    /// The next thing to tell the protocol, if there is any. Moves what can be moved first.
    ///
    /// When it returns `None` without [`has_work`](Chain::has_work), every byte that can move has
    /// moved: send the [`output`](Chain::output).
    pub fn poll_event(&mut self, turn: Turn<'_>) -> Option<Event> {
        loop {
            match self.plain_data() {
                Some(true) => return Some(Event::Data),
                Some(false) => {}
                None => {
                    if let Some(event) = self.ready_event(turn) {
                        return Some(event);
                    }
                }
            }
            if self.dirty == 0 || self.budget == 0 {
                return None;
            }
            self.pump(turn, &mut []);
        }
    }

    /// The bytes of [`Event::Data`]: one frame above a framing layer, else all there are.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.links.last().map(|link| link.inbound.visible()).unwrap_or_default()
    }

    /// Whether [`data`](Chain::data) is one frame, to be taken whole or not at all.
    #[inline]
    pub fn is_frame(&self) -> bool {
        let inbound = self.links.last().map(|link| &link.inbound);
        matches!(inbound.and_then(|inbound| inbound.next_mark()), Some(InMark::Frame))
    }

    /// Tells how many bytes of [`data`](Chain::data) the protocol has used.
    ///
    /// The rest stays, heads the next data, and is offered again at once if the count is above
    /// zero, else when more bytes have come. A frame is used whole or not at all. A wrong count,
    /// or a full input buffer of which nothing is used, fails the connection with
    /// [`WrongCount`](ErrorKind::WrongCount) or [`InputStalled`](ErrorKind::InputStalled).
    pub fn took(&mut self, count: usize, turn: Turn<'_>) {
        let top = self.links.len() - 1;
        let inbound = &mut self.links[top].inbound;
        let visible = inbound.visible_len();
        let is_frame = matches!(inbound.next_mark(), Some(InMark::Frame));
        if count > visible || (is_frame && count != 0 && count != visible) {
            let message = match is_frame {
                true => format!("the protocol used {count} bytes of a frame of {visible}"),
                false => format!("the protocol used {count} bytes of {visible}"),
            };
            return self.fail(Error::local(ErrorKind::WrongCount, message), turn);
        }
        inbound.consume(count);
        if is_frame {
            let used = count == visible;
            inbound.seen = !used;
            if used {
                inbound.take_mark();
            }
        } else {
            self.offered = if count > 0 { 0 } else { visible };
        }
        if count < visible && count == 0 && inbound.len() >= self.limits.input {
            return self.fail_stalled(turn);
        }
        if inbound.is_empty() && !inbound.has_marks() {
            inbound.release(turn.workspace);
        } else if !is_frame {
            inbound.shrink(turn.workspace);
        }
        if let Some(floor) = self.floors.last() {
            self.dirty |= u64::from(floor.refused_up) << (top - 1);
        }
    }

    pub(super) fn fail_stalled(&mut self, turn: Turn<'_>) {
        let message = "the input buffer is full and the protocol takes nothing out of it";
        self.fail(Error::local(ErrorKind::InputStalled, message), turn);
    }

    /// Tells the protocol nothing below `count` bytes, except at the end. 0 and 1 mean any.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) above the input limit, which would stall.
    pub fn set_read_low(&mut self, count: usize) -> Result<(), Error> {
        if count > self.limits.input {
            let message = "the low mark of reading is above the input limit";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        self.low = count;
        let top = self.links.len() - 1;
        self.dirty |= (1 << top) >> 1;
        Ok(())
    }

    /// Sets how much the protocol may leave unread; see [`Limits::input`](super::Limits::input). If it has left as much
    /// already, the connection fails.
    pub fn set_input_limit(&mut self, limit: usize, turn: Turn<'_>) {
        self.limits.input = limit.max(1);
        self.low = self.low.min(self.limits.input);
        if self.offered >= self.limits.input {
            self.fail_stalled(turn);
        }
    }

    /// Shows the protocol again what it has left, because it is another one.
    pub fn offer_again(&mut self) {
        self.offered = 0;
        let top = self.links.len() - 1;
        self.links[top].inbound.seen = false;
    }

    /// Stops data and EOF from being told, also what is buffered in any layer, until
    /// [`resume_reading`](Chain::resume_reading).
    pub fn pause_reading(&mut self) {
        let top = self.links.len() - 1;
        self.links[top].inbound.pauses.set(Pauses::PROTOCOL, true);
    }

    /// Ends [`pause_reading`](Chain::pause_reading). Poll for events afterwards.
    pub fn resume_reading(&mut self) {
        let top = self.links.len() - 1;
        self.links[top].inbound.pauses.set(Pauses::PROTOCOL, false);
        self.dirty |= (1 << top) >> 1;
    }

    /// Whether [`poll_event`](Chain::poll_event) has something to tell without moving anything.
    pub fn has_event(&self) -> bool {
        if self.phase == Phase::Failed {
            return false;
        }
        let Some(Link { inbound, .. }) = self.links.last() else { return false };
        if !self.events.is_empty()
            || (!self.announced && self.floors.iter().all(|floor| floor.ready))
        {
            return true;
        }
        let visible = inbound.visible_len();
        match inbound.next_mark() {
            Some(InMark::Notice(_)) if visible == 0 => true,
            _ if !self.announced => inbound.has_fault(),
            _ if !inbound.pauses.is_empty() => false,
            Some(InMark::Frame) => !inbound.seen,
            None => visible > self.offered && visible >= self.low && self.phase == Phase::Open,
            Some(_) => true,
        }
    }

    // Where there can be nothing to tell but data: whether there is some.
    #[inline]
    fn plain_data(&self) -> Option<bool> {
        let inbound = &self.links.last()?.inbound;
        let plain = self.phase == Phase::Open
            && self.announced
            && !inbound.has_marks()
            && self.events.is_empty();
        plain.then(|| {
            let len = inbound.len();
            inbound.pauses.is_empty() && len > self.offered && len >= self.low
        })
    }

    fn ready_event(&mut self, turn: Turn<'_>) -> Option<Event> {
        if self.phase == Phase::Failed {
            return None;
        }
        // What layers have told stands before the end of them all.
        let is_end = |event: &Event| matches!(event, Event::Closed);
        if self.events.front().is_some_and(|event| !is_end(event)) {
            return self.events.pop_front();
        }
        let top = self.links.len() - 1;
        if self.phase != Phase::Open {
            self.discard_input(top, turn);
        }
        let inbound = &mut self.links[top].inbound;
        let visible = inbound.visible_len();
        if visible == 0 && matches!(inbound.next_mark(), Some(InMark::Notice(_))) {
            return self.take_event(top);
        }
        if !self.announced && self.floors.iter().all(|floor| floor.ready) {
            self.announced = true;
            return Some(Event::Established);
        }
        if let Some(end) = self.events.pop_front() {
            return Some(end);
        }
        if !self.announced {
            // Bytes may stand here already, if a layer was put in during the handshakes. They are
            // told behind `Established`, or never.
            return self.take_fault(top, turn);
        }
        if !inbound.pauses.is_empty() {
            return None;
        }
        match inbound.next_mark() {
            Some(InMark::Frame) => (!inbound.seen).then_some(Event::Data),
            None => (visible > self.offered && visible >= self.low).then_some(Event::Data),
            // The last chance for what the protocol has left because of the low mark.
            Some(InMark::Notice(_) | InMark::Eof(_) | InMark::Fault(_))
                if visible > self.offered =>
            {
                Some(Event::Data)
            }
            Some(_) => self.take_event(top),
        }
    }

    fn take_fault(&mut self, top: usize, turn: Turn<'_>) -> Option<Event> {
        let inbound = &mut self.links[top].inbound;
        if !inbound.has_fault() {
            return None;
        }
        inbound.clear(turn.workspace);
        while !matches!(inbound.next_mark(), Some(InMark::Fault(_)) | None) {
            inbound.take_mark();
        }
        self.take_event(top)
    }

    fn take_event(&mut self, top: usize) -> Option<Event> {
        let mark = self.links[top].inbound.take_mark()?;
        if let Some(floor) = self.floors.last() {
            self.dirty |= u64::from(floor.refused_up) << (top - 1);
        }
        match mark {
            InMark::Notice(told) => {
                let (layer, notice) = *told;
                self.noticed = Some(layer);
                Some(Event::Layer(notice))
            }
            InMark::Eof(layer) => {
                self.eof_layer = Some(layer);
                Some(Event::Eof)
            }
            InMark::Fault(error) => {
                self.phase = Phase::Failed;
                self.failed = Some(error.clone());
                Some(Event::Failed(error))
            }
            InMark::Frame => None,
        }
    }

    // After `close` nobody wants what still comes; what layers and the wire tell stays.
    fn discard_input(&mut self, top: usize, turn: Turn<'_>) {
        let inbound = &mut self.links[top].inbound;
        if inbound.is_empty() && !inbound.has_marks() {
            return;
        }
        inbound.clear(turn.workspace);
        while matches!(inbound.next_mark(), Some(InMark::Eof(_))) {
            inbound.take_mark();
        }
        if let Some(floor) = self.floors.last() {
            self.dirty |= u64::from(floor.refused_up) << (top - 1);
        }
    }
}
