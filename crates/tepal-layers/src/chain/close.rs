use super::{Chain, Phase};
use crate::layer::WriteEof;
use crate::link::OutMark;
use crate::{Error, ErrorKind, Event, Pauses, Turn};

impl Chain {
    /// Closes all layers from the top, each after what was written before has gone through it;
    /// then [`Event::Closed`] tells that the wire may be closed.
    ///
    /// No data is told any more, and nothing can be written. The layers wait for their peers as
    /// their specs say; the owner bounds that time, and asks [`handshaking`](Chain::handshaking)
    /// and [`layers`](Chain::layers) what it waited for.
    pub fn close(&mut self) {
        if self.phase != Phase::Open || self.failed.is_some() {
            return;
        }
        self.phase = Phase::Closing;
        let top = self.links.len() - 1;
        let link = &mut self.links[top];
        link.inbound.pauses.set(Pauses::PROTOCOL, false);
        // A pop that is under way already has its mark, and goes on as the connection's close.
        for floor in self.floors.iter_mut().rev() {
            floor.limit = floor.limit.filter(|_| !floor.ready);
            link.outbound.mark(OutMark::Finish(floor.id));
            // One that waits to be put in below it comes in first, and then has to go.
            for waiting in self.waiting.iter().filter(|waiting| waiting.above() == floor.id) {
                link.outbound.mark(OutMark::Finish(waiting.id()));
            }
        }
        self.dirty = self.all();
        self.check_wire();
    }

    /// Ends the writing side after all that was written. [`Event::WriteEof`] follows unless a
    /// layer has an own way to say so.
    ///
    /// # Errors
    ///
    /// [`WriteEofRefused`](ErrorKind::WriteEofRefused) if a layer cannot end one direction only
    /// (TLS 1.2), [`Closing`](ErrorKind::Closing) after `close`, `write_eof` or a failure.
    pub fn write_eof(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        if !self.can_write_eof() {
            let message = "a layer cannot end one direction only";
            return Err(Error::misuse(ErrorKind::WriteEofRefused, message));
        }
        self.wrote_eof = true;
        let top = self.links.len() - 1;
        self.links[top].outbound.mark(OutMark::Eof);
        self.dirty |= (1 << top) >> 1;
        self.check_wire();
        Ok(())
    }

    /// Whether [`write_eof`](Chain::write_eof) can be carried out by the layers there are.
    pub fn can_write_eof(&self) -> bool {
        let ends = |floor: &super::Floor| match floor.layer.write_eof() {
            WriteEof::Passes => None,
            WriteEof::Taken => Some(true),
            WriteEof::Refused => Some(false),
        };
        self.floors.iter().rev().find_map(ends).unwrap_or(true)
    }

    /// Whether [`close`](Chain::close) was called.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    /// Looks at what has come to the end of the wire's queue.
    pub(super) fn check_wire(&mut self) {
        while let Some(mark) = self.links[0].outbound.mark_at_front() {
            if matches!(mark, OutMark::Eof) && !self.links[0].outbound.queue.is_empty() {
                break; // bytes behind an end would be an error of a layer's: they still leave
            }
            match self.links[0].outbound.take_mark() {
                Some(OutMark::Eof) => self.events.push_back(Event::WriteEof),
                Some(OutMark::Insert(_) | OutMark::Frame | OutMark::Finish(_)) | None => {}
            }
        }
        if self.phase == Phase::Closing
            && self.floors.is_empty()
            && self.links[0].outbound.is_idle()
            && self.failed.is_none()
        {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed);
        }
    }

    /// As [`check_wire`](Chain::check_wire), for a waiting layer whose neighbour has gone.
    pub(super) fn check_stranded(&mut self, turn: Turn<'_>) {
        let waiting = self.waiting.first().map(|waiting| (waiting.above(), waiting.id()));
        if let Some((above, new)) = waiting
            && !self.floors.iter().any(|floor| floor.id == above)
        {
            self.insert_stranded(new, turn);
        }
    }
}
