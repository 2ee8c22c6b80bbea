//! One connection that plays a script.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use tepal::{CloseKind, Closed, Protocol, Transport};

use super::script::{Script, Step};

/// What became of the scripts of one [`Scripted`](super::Scripted).
#[derive(Default)]
pub(super) struct Played {
    /// Scripts that are not over.
    pub(super) left: usize,
    /// What did not go as written.
    pub(super) wrong: Vec<String>,
    connections: usize,
}

impl Played {
    pub(super) fn of(scripts: usize) -> Played {
        Played { left: scripts, ..Played::default() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0 || !self.wrong.is_empty()
    }
}

pub(super) struct Player {
    play: Option<Rc<RefCell<Play>>>,
}

struct Play {
    steps: VecDeque<Step>,
    received: Vec<u8>,
    peer_ended: bool,
    waiting: bool,
    is_over: bool,
    failed: bool,
    /// Which connection this is and which step comes next, from 1.
    connection: usize,
    step: usize,
    played: Rc<RefCell<Played>>,
}

/// What is done to the transport next.
enum Act {
    Send(Vec<u8>),
    SendEof,
    Wait(Duration),
    Close,
    Reset,
}

impl Player {
    /// Without a script, the connection is reset.
    pub(super) fn new(script: Option<Script>, played: &Rc<RefCell<Played>>) -> Player {
        let play = script.map(|script| {
            played.borrow_mut().connections += 1;
            Rc::new(RefCell::new(Play {
                steps: script.into_steps(),
                received: Vec::new(),
                peer_ended: false,
                waiting: false,
                is_over: false,
                failed: false,
                connection: played.borrow().connections,
                step: 1,
                played: Rc::clone(played),
            }))
        });
        Player { play }
    }

    fn go_on(&self, transport: &Transport) {
        if let Some(play) = &self.play {
            go_on(play, transport);
        }
    }
}

fn go_on(play: &Rc<RefCell<Play>>, transport: &Transport) {
    loop {
        let act = play.borrow_mut().next();
        let Some(act) = act else { return stop_if_over(play, transport) };
        match act {
            Act::Send(bytes) => drop(transport.write_segment(bytes)),
            Act::SendEof => {
                if let Err(error) = transport.write_eof() {
                    play.borrow_mut().fail(&format_args!("ending its direction failed: {error}"));
                    transport.abort();
                }
            }
            Act::Wait(span) => {
                let (play, transport) = (Rc::clone(play), transport.clone());
                let event_loop = transport.event_loop().clone();
                event_loop.call_later(span, move |_| {
                    play.borrow_mut().waiting = false;
                    go_on(&play, &transport);
                });
            }
            Act::Close => transport.close(),
            Act::Reset => transport.abort(),
        }
    }
}

// Who waits for the scripts is told.
fn stop_if_over(play: &Rc<RefCell<Play>>, transport: &Transport) {
    if play.borrow().played.borrow().is_over() {
        transport.event_loop().stop();
    }
}

impl Play {
    // The next thing to do; `None` while something is waited for, and when all is over.
    fn next(&mut self) -> Option<Act> {
        loop {
            if self.waiting || self.failed {
                return None;
            }
            let act = match self.steps.front() {
                None => return self.end(),
                Some(Step::Expect(bytes)) if self.received.starts_with(bytes) => {
                    self.received.drain(..bytes.len());
                    None
                }
                Some(Step::Expect(bytes)) => {
                    let may_come = bytes.starts_with(&self.received) && !self.peer_ended;
                    return if may_come { None } else { self.differs() };
                }
                Some(Step::ExpectEof | Step::ExpectReset) if !self.received.is_empty() => {
                    return self.differs();
                }
                Some(Step::ExpectEof) if self.peer_ended => None,
                // A reset is heard of as the connection's end.
                Some(Step::ExpectEof | Step::ExpectReset) => return None,
                Some(Step::Send(bytes)) => Some(Act::Send(bytes.clone())),
                Some(Step::Wait(span)) => {
                    self.waiting = true;
                    Some(Act::Wait(*span))
                }
                Some(Step::SendEof) => Some(Act::SendEof),
                Some(Step::Close) => Some(Act::Close),
                Some(Step::Reset) => Some(Act::Reset),
            };
            self.take_step();
            if act.is_some() {
                return act;
            }
        }
    }

    fn take_step(&mut self) {
        self.steps.pop_front();
        self.step += 1;
    }

    fn end(&mut self) -> Option<Act> {
        if !self.received.is_empty() {
            return self.differs();
        }
        let closes = self.peer_ended && !self.is_over;
        self.finish();
        closes.then_some(Act::Close)
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.played.borrow_mut().left -= 1;
        }
    }

    fn differs(&mut self) -> Option<Act> {
        let came = self.received.escape_ascii().to_string();
        let end = if self.peer_ended { " and then the end" } else { "" };
        self.fail(&format_args!("\"{came}\"{end} came"));
        Some(Act::Reset)
    }

    fn fail(&mut self, why: &dyn Display) {
        let step = self.steps.front().map_or("the end of the script".to_owned(), Step::to_string);
        let text = format!("connection {}, step {} ({step}): {why}", self.connection, self.step);
        self.failed = true;
        self.steps.clear();
        self.finish();
        self.played.borrow_mut().wrong.push(text);
    }

    fn lost(&mut self, closed: &Closed) {
        while matches!(self.steps.front(), Some(Step::Wait(_))) {
            self.take_step();
        }
        let is_reset = matches!(closed.kind, CloseKind::Reset | CloseKind::BrokenPipe);
        if is_reset && self.steps.front() == Some(&Step::ExpectReset) {
            self.take_step();
        }
        if self.steps.is_empty() {
            return self.finish();
        }
        let came = self.received.escape_ascii().to_string();
        self.fail(&format_args!("\"{came}\" came and then an end: {closed}"));
    }
}

impl Protocol for Player {
    fn connection_established(&mut self, transport: &Transport) {
        match &self.play {
            Some(_) => self.go_on(transport),
            None => transport.abort(),
        }
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if let Some(play) = &self.play {
            play.borrow_mut().received.extend_from_slice(data);
        }
        self.go_on(transport);
        data.len()
    }

    fn eof_received(&mut self, transport: &Transport) -> bool {
        let Some(play) = &self.play else { return false };
        play.borrow_mut().peer_ended = true;
        self.go_on(transport);
        !play.borrow().is_over
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        if let Some(play) = &self.play {
            play.borrow_mut().lost(closed);
            stop_if_over(play, transport);
        }
    }
}
