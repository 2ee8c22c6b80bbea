//! `tepal connect`: a chain joined to standard input and output.

mod input;
mod network;
mod output;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tepal::{Backoff, Closed, EventLoop, Loop, TimerHandle, Transport};

use crate::arguments::Connect;
use crate::chain::PassedOn;
use crate::exit::{Exit, Failure};
use crate::hint::told;
use crate::report::Report;
use input::Input;
use network::Network;
use output::Output;

/// What the three transports of a run share: the connection, standard input, standard output.
struct Session {
    lp: Loop,
    report: Report,
    settings: Settings,
    network: OnceCell<Transport>,
    input: OnceCell<Transport>,
    output: OnceCell<Transport>,
    input_ended: Cell<bool>,
    peer_ended: Cell<bool>,
    // Ends a connection of which one direction has ended and the other is quiet.
    quiet: RefCell<Option<TimerHandle>>,
    // The first thing that ended the run.
    outcome: RefCell<Option<Result<Exit, Failure>>>,
}

/// What the command line says of it.
struct Settings {
    name: String,
    lines: Option<usize>,
    retry: Option<Option<u32>>,
    after_input: Option<Duration>,
    after_peer: Option<Duration>,
    keep_open: bool,
}

pub(crate) fn run(connect: Connect) -> Result<Exit, Failure> {
    let event_loop = EventLoop::new()?;
    let Connect { chain, verbosity, retry, after_input, after_peer, keep_open } = connect;
    let session = Rc::new(Session {
        lp: event_loop.clone(),
        report: Report::new(&event_loop, verbosity, None),
        settings: Settings {
            name: chain.wire.place.to_string(),
            lines: chain.lines,
            retry,
            after_input,
            after_peer,
            keep_open,
        },
        network: OnceCell::new(),
        input: OnceCell::new(),
        output: OnceCell::new(),
        input_ended: Cell::new(false),
        peer_ended: Cell::new(false),
        quiet: RefCell::default(),
        outcome: RefCell::default(),
    });
    let mut target = chain.target(PassedOn::Nobodys);
    if let Some(attempts) = retry {
        target = target.backoff(Backoff { attempts, ..Backoff::default() });
    }
    let network = event_loop.connect(Network(Rc::clone(&session)), target);
    // Nothing was put there before.
    let _ = session.network.set(network);
    event_loop.run_forever()?;
    session.outcome.take().unwrap_or(Ok(Exit::Success))
}

impl Session {
    /// The connection stands: what is typed goes there, and what comes from there is shown.
    fn begin(self: &Rc<Session>) {
        if let Err(error) = self.attach() {
            self.end(Err(Failure::new(Exit::Stdio, format!("standard input or output: {error}"))));
        }
    }

    fn attach(self: &Rc<Session>) -> std::io::Result<()> {
        let output = self.lp.attach_borrowed(Output(Rc::clone(self)), 1)?;
        // A terminal is one file: what is typed there is standard input's to read.
        output.pause_reading();
        // A reader that takes its time (a pager) takes it also at the end.
        output.set_closing_timeout(None);
        let input = self.lp.attach_borrowed(Input::new(self), 0)?;
        let _ = (self.output.set(output), self.input.set(input));
        Ok(())
    }

    /// Standard input has ended.
    fn input_ended(self: &Rc<Session>) {
        if self.input_ended.replace(true) {
            return;
        }
        let Some(network) = self.network.get() else { return };
        if self.peer_ended.get() {
            return network.close();
        }
        if self.settings.keep_open {
            self.report.phase("input", "ended; the peer is not told");
        } else if let Err(error) = network.write_eof() {
            self.report.phase("input", format_args!("ended; the peer cannot be told: {error}"));
        } else {
            self.report.phase("input", "ended; the peer is told");
        }
        self.wait_while_quiet();
    }

    /// The peer has ended its direction.
    fn peer_ended(self: &Rc<Session>) {
        self.peer_ended.set(true);
        self.report.phase("peer", "ended its direction");
        match self.network.get() {
            Some(network) if self.input_ended.get() => network.close(),
            _ => self.wait_while_quiet(),
        }
    }

    /// Bytes have passed, or one direction has ended: the wait for the other one begins anew.
    fn wait_while_quiet(self: &Rc<Session>) {
        if let Some(before) = self.quiet.take() {
            before.cancel();
        }
        let limit = match (self.input_ended.get(), self.peer_ended.get()) {
            (true, false) => self.settings.after_input,
            (false, true) => self.settings.after_peer,
            _ => None,
        };
        let Some(limit) = limit else { return };
        let session = Rc::clone(self);
        let handle = self.lp.call_later(limit, move |_| {
            session.report.phase("quiet", format_args!("for {limit:?}: closing"));
            session.network.get().into_iter().for_each(Transport::close);
        });
        self.quiet.replace(Some(handle));
    }

    /// The connection is over, or was never made: what it brought is still written.
    fn network_ended(&self, closed: &Closed) {
        match Exit::of(closed) {
            Exit::Success => {
                self.report.phase("closed", closed);
                self.settle(Ok(Exit::Success));
            }
            exit => self.settle(Err(Failure::new(exit, self.words(closed)))),
        }
        self.input.get().into_iter().for_each(Transport::abort);
        match self.output.get() {
            Some(output) if !output.is_closing() => output.close(),
            _ => self.lp.stop(),
        }
    }

    // Of a connection by address the record does not say to whom it led.
    fn words(&self, closed: &Closed) -> String {
        match &closed.problem {
            Some(_) => told(closed),
            None => format!("{}: {}", self.settings.name, told(closed)),
        }
    }

    /// Ends the run at once.
    fn end(&self, outcome: Result<Exit, Failure>) {
        self.settle(outcome);
        self.lp.stop();
    }

    fn settle(&self, outcome: Result<Exit, Failure>) {
        self.outcome.borrow_mut().get_or_insert(outcome);
    }
}
