//! What is done with a connection: it is passed on, answered, given to a program, or joined to
//! standard input and output.

mod back;
mod child;
mod front;
mod keyboard;
mod talk;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, EventLoop, Loop, Process, Server, Signal, Transport};

use crate::chain::Chain;
use crate::exit::Exit;
use crate::report::{Report, Verbosity, say};
use crate::stdio::Ends;
pub(crate) use front::Front;
pub(crate) use talk::Talk;

/// What is done with each connection.
#[derive(Debug)]
pub(crate) enum Service {
    /// It is passed on over a connection of its own.
    To(Box<Chain>),
    /// It gets back what it sends.
    Echo,
    /// It becomes the standard input and output of a program.
    Exec(Program),
    /// It is joined to ours.
    Stdio(Ends),
}

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// It gets a terminal, and not a pair of sockets.
    pub(crate) pty: bool,
}

/// A run: what its connections share.
pub(crate) struct Station {
    pub(crate) lp: Loop,
    pub(crate) front: Chain,
    pub(crate) service: Service,
    verbosity: Verbosity,
    /// There is one connection, whose end is ours.
    once: bool,
    /// How long connections may take to end by themselves after the first signal.
    drain: Duration,
    servers: RefCell<Vec<Server>>,
    children: RefCell<Vec<Process>>,
    accepted: Cell<u64>,
    // Connections with all that belongs to them: the other side, the program.
    open: Cell<usize>,
    // The one connection there is has come.
    taken: Cell<bool>,
    stopping: Cell<bool>,
    signalled: Cell<bool>,
    outcome: Cell<Exit>,
}

const SIGINT: Signal = 2;
const SIGTERM: Signal = 15;
const ENDING: [Signal; 2] = [SIGINT, SIGTERM];

impl Station {
    pub(crate) fn new(
        lp: &Loop,
        front: Chain,
        service: Service,
        verbosity: Verbosity,
    ) -> Rc<Station> {
        Station::with(lp, front, service, verbosity, true, Duration::ZERO)
    }

    /// For many connections, or for the first of those that come.
    pub(crate) fn with(
        lp: &Loop,
        front: Chain,
        service: Service,
        verbosity: Verbosity,
        once: bool,
        drain: Duration,
    ) -> Rc<Station> {
        Rc::new(Station {
            lp: lp.clone(),
            front,
            service,
            verbosity,
            once,
            drain,
            servers: RefCell::default(),
            children: RefCell::default(),
            accepted: Cell::new(0),
            open: Cell::new(0),
            taken: Cell::new(false),
            stopping: Cell::new(false),
            signalled: Cell::new(false),
            outcome: Cell::new(Exit::Success),
        })
    }

    /// Runs until there is nothing left to do, and tells what came of it.
    pub(crate) fn run(&self, event_loop: &EventLoop) -> std::io::Result<Exit> {
        event_loop.run_forever()?;
        // What did not end by itself ends with us.
        for child in self.children.take() {
            // One that has ended needs no signal.
            let _ = child.terminate();
        }
        Ok(self.outcome.get())
    }

    /// These accept the connections.
    pub(crate) fn serve_at(&self, servers: Vec<Server>) {
        self.servers.replace(servers);
    }

    /// Lets the signals that end a program end this one in order.
    pub(crate) fn heed_signals(self: &Rc<Station>) -> std::io::Result<()> {
        for signal in ENDING {
            let station = Rc::clone(self);
            self.lp.add_signal_handler(signal, move |_, _| station.signalled())?;
        }
        Ok(())
    }

    /// A client has come.
    pub(crate) fn accept(self: &Rc<Station>, peer: &Address) -> Front {
        let number = self.accepted.replace(self.accepted.get() + 1) + 1;
        let stranger = !self.front.wire.allows(peer);
        let refused = stranger || self.stopping.get() || self.taken.get();
        if self.once && !refused {
            self.taken.set(true);
            // Not here: the listening socket is in use by who calls us.
            let station = Rc::clone(self);
            self.lp.call_soon(move |_| station.be_taken());
        }
        let report = Report::new(&self.lp, self.verbosity, Some(number));
        report.phase("accepted", format_args!("from {peer}"));
        if stranger {
            report.phase("refused", "allow= does not name its address");
        }
        Front::accepted(Talk::begin(self, report, Some(peer.clone())), refused)
    }

    /// Makes the one connection there is.
    pub(crate) fn connect(self: &Rc<Station>, retry: Option<Option<u32>>) -> Transport {
        self.stopping.set(true);
        let report = Report::new(&self.lp, self.verbosity, None);
        Front::connect(&Talk::begin(self, report, None), retry)
    }

    /// Something went wrong with a connection.
    fn failed(&self, exit: Exit) {
        if self.once && self.outcome.get() == Exit::Success {
            self.outcome.set(exit);
        }
    }

    /// A connection and all that belongs to it is over.
    fn ended(&self) {
        self.open.set(self.open.get() - 1);
        if self.stopping.get() && self.open.get() == 0 {
            self.lp.stop();
        }
    }

    /// The one connection has come.
    fn be_taken(&self) {
        self.stop_accepting();
        if let Service::Stdio(_) = self.service {
            // Who sits before standard input ends it as any program.
            for signal in ENDING {
                // One that is not there needs no removal.
                let _ = self.lp.remove_signal_handler(signal);
            }
        }
    }

    fn stop_accepting(&self) {
        self.stopping.set(true);
        self.servers.borrow().iter().for_each(Server::close);
        if self.open.get() == 0 {
            self.lp.stop();
        }
    }

    /// The first signal lets connections end by themselves, the second does not.
    fn signalled(self: &Rc<Station>) {
        self.stop_accepting();
        let open = self.open.get();
        if self.signalled.replace(true) || self.drain.is_zero() {
            self.cut_off();
        } else if open > 0 {
            say(format_args!("{} left to end, for {:?}", connections(open), self.drain));
            let station = Rc::clone(self);
            self.lp.call_later(self.drain, move |_| station.cut_off());
        }
    }

    fn cut_off(&self) {
        if self.open.get() > 0 {
            say(format_args!("{} cut off", connections(self.open.get())));
            self.outcome.set(Exit::Lost);
        }
        self.lp.stop();
    }
}

fn connections(count: usize) -> String {
    match count {
        1 => "1 connection is".to_owned(),
        count => format!("{count} connections are"),
    }
}
