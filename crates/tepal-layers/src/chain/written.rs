//! What was written to a chain and can be written again, to another one.

use tepal_base::ByteQueue;

use super::Chain;
use crate::Turn;
use crate::link::{OutMark, Outbound};

/// What a chain gives back of what was written to it.
#[derive(Default, Debug)]
pub struct Written {
    /// The writes, oldest first: with framing layers each is one frame, else they are bytes in
    /// order.
    pub writes: Vec<ByteQueue>,
    /// Every layer passes bytes on as they are, so what has left the chain is of the same kind and
    /// comes before these.
    pub reaches_wire: bool,
}

impl Chain {
    /// Takes back what was written and no layer has changed: what no layer has taken, and what only
    /// layers have taken that [pass bytes on](crate::Layer::passes_on). A frame of which a part
    /// is gone is dropped whole, and so is what was written behind a change of layers, which
    /// another chain does not begin with.
    ///
    /// For a chain that is over, before it is dropped.
    pub fn take_written(&mut self, turn: Turn<'_>) -> Written {
        let mut lowest = self.links.len() - 1;
        while lowest > 0 && self.floors[lowest - 1].layer.passes_on() {
            lowest -= 1;
        }
        let mut first = self.framed && self.links[lowest].outbound.is_partial();
        let mut all = Outbound::default();
        for link in &mut self.links[lowest..] {
            all.take_all(&mut link.outbound, turn.workspace);
        }
        let mut writes = Vec::new();
        loop {
            let mut piece = ByteQueue::new();
            all.move_to(&mut piece, turn.workspace);
            let mark = all.take_mark();
            let is_whole = !self.framed || matches!(mark, Some(OutMark::Frame));
            // Without frames an empty piece is nothing; with them it is an empty frame.
            if is_whole && !std::mem::take(&mut first) && (self.framed || !piece.is_empty()) {
                writes.push(piece);
            }
            if matches!(mark, None | Some(OutMark::Insert(_))) {
                break;
            }
        }
        let reaches_wire = lowest == 0 && !self.framed;
        Written { writes, reaches_wire }
    }
}
