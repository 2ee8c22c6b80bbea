//! A connection joined to standard input and output.

mod input;
mod output;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tepal::{Crossing, TimerHandle, Transport};

use crate::exit::Exit;
use crate::service::Talk;
use input::Input;
use output::Output;

/// What an end of one direction means for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    /// How long the peer may be quiet once the input has ended; the inner `None`: for ever. The outer
    /// one: nothing was said, so that a stream waits for the peer's end.
    pub(crate) after_input: Option<Option<Duration>>,
    /// How long the input may be quiet once the peer has ended its direction.
    pub(crate) after_peer: Option<Duration>,
    /// The peer is not told of the end of the input.
    pub(crate) keep_open: bool,
}

/// What the three transports of a run share: the connection, standard input, standard output.
pub(crate) struct Session {
    talk: Rc<Talk>,
    network: Transport,
    ends: Ends,
    input: OnceCell<Transport>,
    output: OnceCell<Transport>,
    input_ended: Cell<bool>,
    peer_ended: Cell<bool>,
    // Ends a connection of which one direction has ended and the other is quiet.
    quiet: RefCell<Option<TimerHandle>>,
}

impl Default for Ends {
    fn default() -> Ends {
        Ends { after_input: None, after_peer: Some(Duration::from_millis(500)), keep_open: false }
    }
}

impl Session {
    /// The connection stands: what is typed goes there, and what comes from there is shown. `None`
    /// if the one or the other cannot be, which ends the run.
    pub(crate) fn begin(talk: &Rc<Talk>, network: &Transport, ends: Ends) -> Option<Rc<Session>> {
        let session = Rc::new(Session {
            talk: Rc::clone(talk),
            network: network.clone(),
            ends,
            input: OnceCell::new(),
            output: OnceCell::new(),
            input_ended: Cell::new(false),
            peer_ended: Cell::new(false),
            quiet: RefCell::default(),
        });
        match session.attach() {
            Ok(()) => Some(session),
            Err(error) => {
                session.fail(format_args!("standard input or output: {error}"));
                None
            }
        }
    }

    fn attach(self: &Rc<Session>) -> std::io::Result<()> {
        let lp = &self.talk.station.lp;
        let output = lp.attach_borrowed(Output(Rc::clone(self)), 1)?;
        // A terminal is one file: what is typed there is standard input's to read.
        output.pause_reading();
        // A reader that takes its time (a pager) takes it also at the end.
        output.set_closing_timeout(None);
        let input = lp.attach_borrowed(Input::new(self), 0)?;
        // Nothing was put there before.
        let _ = (self.output.set(output), self.input.set(input));
        Ok(())
    }

    /// The longest line, if the connection is cut into lines.
    fn lines(&self) -> Option<usize> {
        self.talk.station.front.lines
    }

    /// The peer has sent something.
    pub(crate) fn peer_sent(self: &Rc<Session>, data: &[u8]) {
        let Some(output) = self.output.get() else { return };
        let mut crossing = output.write(data);
        if self.lines().is_some() && output.write(b"\n") == Crossing::High {
            crossing = Crossing::High;
        }
        if crossing == Crossing::High {
            self.network.pause_reading();
        }
        self.wait_while_quiet();
    }

    /// What waits to be sent to the peer has become little.
    pub(crate) fn peer_takes_more(&self) {
        self.input.get().into_iter().for_each(Transport::resume_reading);
    }

    /// Standard input has ended.
    fn input_ended(self: &Rc<Session>) {
        if self.input_ended.replace(true) {
            return;
        }
        if self.peer_ended.get() {
            return self.network.close();
        }
        let report = &self.talk.report;
        if self.ends.keep_open {
            report.phase("input", "ended; the peer is not told");
        } else if let Err(error) = self.network.write_eof() {
            report.phase("input", format_args!("ended; the peer cannot be told: {error}"));
        } else {
            report.phase("input", "ended; the peer is told");
        }
        self.wait_while_quiet();
    }

    /// The peer has ended its direction.
    pub(crate) fn peer_ended(self: &Rc<Session>) {
        self.peer_ended.set(true);
        self.talk.report.phase("peer", "ended its direction");
        match self.input_ended.get() {
            true => self.network.close(),
            false => self.wait_while_quiet(),
        }
    }

    /// Bytes have passed, or one direction has ended: the wait for the other one begins anew.
    fn wait_while_quiet(self: &Rc<Session>) {
        if let Some(before) = self.quiet.take() {
            before.cancel();
        }
        let limit = match (self.input_ended.get(), self.peer_ended.get()) {
            (true, false) => self.ends.after_input.flatten(),
            (false, true) => self.ends.after_peer,
            _ => None,
        };
        let Some(limit) = limit else { return };
        let session = Rc::clone(self);
        let handle = self.talk.station.lp.call_later(limit, move |_| {
            session.talk.report.phase("quiet", format_args!("for {limit:?}: closing"));
            session.network.close();
        });
        self.quiet.replace(Some(handle));
    }

    /// The connection is over: what it brought is still written.
    pub(crate) fn peer_gone(&self) {
        self.input.get().into_iter().for_each(Transport::abort);
        match self.output.get() {
            Some(output) if !output.is_closing() => output.close(),
            _ => self.talk.station.lp.stop(),
        }
    }

    /// Standard input or output failed, which ends the run at once.
    fn fail(&self, text: impl std::fmt::Display) {
        self.talk.fail(Exit::Stdio, text);
        self.talk.station.lp.stop();
    }
}
