use tepal_base::{ByteQueue, Segment};

use super::{Chain, Phase};
use crate::link::OutMark;
use crate::{Error, ErrorKind, Turn};

impl Chain {
    /// Queues a copy of the bytes: with framing layers, one frame.
    ///
    /// # Errors
    ///
    /// [`Closing`](ErrorKind::Closing) after `close`, `write_eof` or a failure; nothing is queued.
    pub fn write(&mut self, bytes: &[u8], turn: Turn<'_>) -> Result<(), Error> {
        self.check_writable()?;
        let top = self.links.len() - 1;
        self.links[top].outbound.queue.extend(bytes, &mut turn.workspace.pool());
        self.written();
        Ok(())
    }

    /// Queues bytes without a copy: with framing layers, one frame.
    ///
    /// # Errors
    ///
    /// As [`write`](Chain::write); the segment is then dropped.
    pub fn write_segment(&mut self, segment: Segment) -> Result<(), Error> {
        self.check_writable()?;
        let top = self.links.len() - 1;
        self.links[top].outbound.queue.push(segment);
        self.written();
        Ok(())
    }

    /// Queues all of a queue without a copy: with framing layers, as one frame (see
    /// [`keeps_writes`](Chain::keeps_writes)).
    ///
    /// # Errors
    ///
    /// As [`write`](Chain::write); the queue then keeps its bytes.
    pub fn write_queue(&mut self, queue: &mut ByteQueue, turn: Turn<'_>) -> Result<(), Error> {
        self.write_from(queue, queue.len(), turn)
    }

    /// As [`write_queue`](Chain::write_queue), for the first `count` bytes of the queue, which must
    /// hold as many.
    ///
    /// # Errors
    ///
    /// As [`write`](Chain::write); the queue then keeps its bytes.
    pub fn write_from(
        &mut self,
        queue: &mut ByteQueue,
        count: usize,
        turn: Turn<'_>,
    ) -> Result<(), Error> {
        self.check_writable()?;
        let top = self.links.len() - 1;
        queue.move_to(count, &mut self.links[top].outbound.queue, &mut turn.workspace.pool());
        self.written();
        Ok(())
    }

    /// Whether a write would be queued.
    #[inline]
    pub fn can_write(&self) -> bool {
        self.failed.is_none() && self.phase == Phase::Open && !self.wrote_eof
    }

    pub(super) fn check_writable(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.phase != Phase::Open => {
                Err(Error::misuse(ErrorKind::Closing, "the connection is closing"))
            }
            None if self.wrote_eof => {
                Err(Error::misuse(ErrorKind::Closing, "the writing side has been ended"))
            }
            None => Ok(()),
        }
    }

    fn written(&mut self) {
        let top = self.links.len() - 1;
        if self.framed {
            self.links[top].outbound.mark(OutMark::Frame);
        }
        self.dirty |= (1 << top) >> 1;
    }
}
