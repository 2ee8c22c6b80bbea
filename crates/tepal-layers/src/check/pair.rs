use std::time::Duration;

use super::Bench;
use crate::{Error, Limits, Place, Side, Stack};

/// Two chains, each at one end of a wire.
#[derive(Debug)]
pub struct Pair {
    /// The end that connected.
    pub client: Bench,
    /// The end that accepted.
    pub server: Bench,
    /// How many bytes the wire delivers at once; 0 is all there are.
    pub piece: usize,
    /// Every byte that went from client to server.
    pub upstream: Vec<u8>,
    /// Every byte that went from server to client.
    pub downstream: Vec<u8>,
}

impl Pair {
    /// Two chains that have not exchanged anything yet.
    ///
    /// # Errors
    ///
    /// As [`Chain::with`](crate::Chain::with).
    pub fn new(client: &Stack, server: &Stack) -> Result<Pair, Error> {
        let place = Place::new(Side::Client);
        Pair::at((client, &place), (server, &Place::new(Side::Server)), Limits::default())
    }

    /// Two chains with all settings.
    ///
    /// # Errors
    ///
    /// As [`Chain::with`](crate::Chain::with).
    pub fn at(
        client: (&Stack, &Place),
        server: (&Stack, &Place),
        limits: Limits,
    ) -> Result<Pair, Error> {
        Ok(Pair {
            client: Bench::at(client.0, client.1, limits)?,
            server: Bench::at(server.0, server.1, limits)?,
            piece: 0,
            upstream: Vec::new(),
            downstream: Vec::new(),
        })
    }

    /// Moves bytes both ways until neither end has any.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            self.client.settle();
            self.server.settle();
            let (up, down) = (self.client.sent(), self.server.sent());
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.upstream.extend(&up);
            self.downstream.extend(&down);
            deliver(&mut self.server, &up, self.piece);
            deliver(&mut self.client, &down, self.piece);
        }
        panic!("two chains that never come to rest");
    }

    /// Moves both clocks, deadline by deadline, and the bytes that this frees.
    pub fn pass_time(&mut self, span: Duration) {
        let end = self.client.now + span;
        self.run();
        loop {
            let due = [self.client.chain.deadline(), self.server.chain.deadline()];
            let Some(next) = due.into_iter().flatten().filter(|at| *at <= end).min() else { break };
            for side in [&mut self.client, &mut self.server] {
                let left = next.since(side.now);
                side.pass_time(left);
                side.now = side.now.max(next);
            }
            self.run();
        }
        self.client.now = end;
        self.server.now = end;
    }
}

fn deliver(to: &mut Bench, bytes: &[u8], piece: usize) {
    let piece = if piece == 0 { bytes.len().max(1) } else { piece };
    bytes.chunks(piece).for_each(|chunk| to.receive(chunk));
}
