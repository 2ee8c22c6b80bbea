use std::rc::Rc;
use std::time::Duration;

use tepal_base::Instant;

use crate::{
    Chain, Error, ErrorKind, Event, Info, Keepsakes, Limits, Notice, Place, Side, Stack, Turn,
    Workspace,
};

/// What a protocol above a chain has seen, in order. Bytes that came in several pieces are one
/// piece here, unless each is a frame.
#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    /// Bytes, or one frame.
    Data(Vec<u8>),
    /// The end of the bytes.
    Eof,
    /// A notice about a layer.
    Layer(Notice),
    /// All handshakes done.
    Established,
    /// The end by a failure.
    Failed(Error),
    /// The writing side of the wire is to be ended.
    WriteEof,
    /// The wire is to be closed.
    Closed,
}

/// One chain with a protocol that takes everything and remembers it, over a wire made of vectors,
/// with a clock that the test moves.
#[derive(Debug)]
pub struct Bench {
    /// The chain, to call anything on it.
    pub chain: Chain,
    /// What the protocol has seen.
    pub seen: Vec<Seen>,
    /// Bytes that the chain wants sent and nobody has fetched yet: see [`sent`](Bench::sent).
    pub wire: Vec<u8>,
    /// Shared by all chains of this bench.
    pub workspace: Rc<Workspace>,
    /// What layers leave for the next attempt.
    pub keepsakes: Keepsakes,
    /// The time.
    pub now: Instant,
    // What was seen last was no frame, so bytes behind it belong to it.
    open: bool,
}

impl Bench {
    /// A chain of the stack, with nothing done yet.
    ///
    /// # Errors
    ///
    /// As [`Chain::with`].
    pub fn new(stack: &Stack, side: Side) -> Result<Bench, Error> {
        Bench::at(stack, &Place::new(side), Limits::default())
    }

    /// A chain with all settings.
    ///
    /// # Errors
    ///
    /// As [`Chain::with`].
    pub fn at(stack: &Stack, place: &Place, limits: Limits) -> Result<Bench, Error> {
        let workspace = Rc::new(Workspace::default());
        let mut keepsakes = Keepsakes::default();
        let now = Instant::from_nanos(1_000_000_000);
        let turn = Turn::new(now, &workspace);
        let chain = Chain::with(stack, place, limits, &mut keepsakes, turn)?;
        let (seen, wire) = (Vec::new(), Vec::new());
        Ok(Bench { chain, seen, wire, workspace, keepsakes, now, open: false })
    }

    /// Feeds bytes from the wire and takes all events.
    pub fn receive(&mut self, bytes: &[u8]) {
        let mut lent = bytes.to_vec();
        self.chain.receive(Turn::new(self.now, &self.workspace), &mut lent);
        // What was lent is gone when the call returns.
        lent.fill(0xdd);
        self.settle();
    }

    /// Ends the wire's reading side and takes all events.
    pub fn receive_eof(&mut self) {
        self.chain.receive_eof(Turn::new(self.now, &self.workspace));
        self.settle();
    }

    /// Writes, and takes all events. An error is remembered by the chain and returned.
    ///
    /// # Errors
    ///
    /// As [`Chain::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let result = self.chain.write(bytes, Turn::new(self.now, &self.workspace));
        self.settle();
        result
    }

    /// Takes all events and fetches all output.
    pub fn settle(&mut self) {
        let workspace = Rc::clone(&self.workspace);
        let turn = Turn::new(self.now, &workspace);
        let mut steps = 0u32;
        loop {
            while let Some(event) = self.chain.poll_event(turn) {
                steps += 1;
                assert!(steps < 10_000_000, "a chain that never comes to rest");
                self.see(event);
            }
            let count = self.chain.output().len();
            if count == 0 {
                break;
            }
            self.wire.extend(self.chain.output().to_vec());
            self.chain.sent(count, turn);
        }
    }

    fn see(&mut self, event: Event) {
        let seen = match event {
            Event::Data => {
                let data = self.chain.data().to_vec();
                let joins = std::mem::replace(&mut self.open, !self.chain.is_frame());
                self.chain.took(data.len(), Turn::new(self.now, &self.workspace));
                match self.seen.last_mut() {
                    Some(Seen::Data(before)) if joins && self.open => {
                        before.extend(data);
                        return;
                    }
                    _ => Seen::Data(data),
                }
            }
            Event::Eof => Seen::Eof,
            Event::Layer(notice) => Seen::Layer(notice),
            Event::Established => Seen::Established,
            Event::Failed(error) => Seen::Failed(error),
            Event::WriteEof => Seen::WriteEof,
            Event::Closed => Seen::Closed,
        };
        self.seen.push(seen);
    }

    /// The bytes that the chain wants sent, once.
    pub fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.wire)
    }

    /// Moves the clock to the chain's deadline if that is within `span`, else by `span`; returns
    /// whether a deadline was met.
    pub fn pass_time(&mut self, span: Duration) -> bool {
        let end = self.now + span;
        let due = self.chain.deadline().filter(|at| *at <= end);
        self.now = due.unwrap_or(end).max(self.now);
        if due.is_some() {
            self.chain.handle_timeout(Turn::new(self.now, &self.workspace));
            self.settle();
        }
        due.is_some()
    }

    /// All data seen, joined.
    pub fn data(&self) -> Vec<u8> {
        let data = self.seen.iter().filter_map(|seen| match seen {
            Seen::Data(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }

    /// Each piece of data seen.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let data = self.seen.iter().filter_map(|seen| match seen {
            Seen::Data(bytes) => Some(bytes.clone()),
            _ => None,
        });
        data.collect()
    }

    /// The failure, if the protocol has been told of one.
    pub fn failure(&self) -> Option<&Error> {
        self.seen.iter().find_map(|seen| match seen {
            Seen::Failed(error) => Some(error),
            _ => None,
        })
    }

    /// The failure's kind.
    pub fn failure_kind(&self) -> Option<ErrorKind> {
        self.failure().map(Error::kind)
    }

    /// What the layer of that name told when it was ready.
    pub fn info(&self, name: &str) -> Option<Info> {
        self.seen.iter().rev().find_map(|seen| match seen {
            Seen::Layer(Notice::Ready { layer, info }) if *layer == name => Some(info.clone()),
            _ => None,
        })
    }

    /// Whether an event was seen.
    pub fn saw(&self, seen: &Seen) -> bool {
        self.seen.contains(seen)
    }
}
