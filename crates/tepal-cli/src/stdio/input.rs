use std::rc::Rc;

use tepal::{Closed, Crossing, Protocol, Transport};

use super::Session;

/// Standard input's protocol: what is read goes to the peer.
pub(super) struct Input {
    session: Rc<Session>,
    // A line whose end was not read yet.
    line: Vec<u8>,
}

impl Input {
    pub(super) fn new(session: &Rc<Session>) -> Input {
        Input { session: Rc::clone(session), line: Vec::new() }
    }

    // Each write is a frame, so a line is written whole. Returns how much was used: no more than
    // the peer's side has room for.
    fn write_lines(&mut self, network: &Transport, data: &[u8], most: usize) -> (usize, Crossing) {
        let mut used = 0;
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            used += piece.len();
            let whole = piece.strip_suffix(b"\n");
            self.line.extend_from_slice(whole.unwrap_or(piece));
            if self.line.len() > most {
                let text = "standard input: a line is longer than";
                self.session.fail(format_args!("{text} {most} bytes (lines,max=)"));
                return (data.len(), Crossing::None);
            }
            if whole.is_some() {
                let crossing = network.write(&self.line);
                self.line.clear();
                if crossing == Crossing::High {
                    return (used, crossing);
                }
            }
        }
        (used, Crossing::None)
    }
}

impl Protocol for Input {
    fn data_received(&mut self, input: &Transport, data: &[u8]) -> usize {
        let session = Rc::clone(&self.session);
        let network = &session.network;
        let (used, crossing) = match session.lines() {
            Some(most) => self.write_lines(network, data, most),
            None => (data.len(), network.write(data)),
        };
        if crossing == Crossing::High {
            input.pause_reading();
        }
        session.wait_while_quiet();
        used
    }

    fn eof_received(&mut self, _: &Transport) -> bool {
        // The last line counts also where its end is missing.
        if !self.line.is_empty() {
            self.session.network.write(&std::mem::take(&mut self.line));
        }
        self.session.input_ended();
        false
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        if !closed.is_clean() {
            self.session.fail(format_args!("standard input: {closed}"));
        }
    }
}
