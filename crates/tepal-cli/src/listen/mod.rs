//! `tepal listen`: each connection that is accepted is passed on, answered or given to a program.

mod back;
mod child;
mod front;
mod places;
mod talk;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, EventLoop, Loop, Process, Server, Signal};

use crate::arguments::Listen;
use crate::chain::Chain;
use crate::exit::{Exit, Failure};
use crate::report::{Verbosity, say};
use front::Front;
use talk::Talk;

/// What is done with each connection.
#[derive(Debug)]
pub(crate) enum Service {
    /// It is passed on over a connection of its own.
    To(Box<Chain>),
    /// It gets back what it sends.
    Echo,
    /// It becomes the standard input and output of a program.
    Exec(OsString, Vec<OsString>),
}

/// A run: what its connections share.
struct Station {
    lp: Loop,
    verbosity: Verbosity,
    front: Chain,
    service: Service,
    once: bool,
    drain: Duration,
    servers: RefCell<Vec<Server>>,
    children: RefCell<Vec<Process>>,
    accepted: Cell<u64>,
    // Connections with all that belongs to them: the other side, the program.
    open: Cell<usize>,
    stopping: Cell<bool>,
    signalled: Cell<bool>,
    outcome: Cell<Exit>,
}

const SIGINT: Signal = 2;
const SIGTERM: Signal = 15;

pub(crate) fn run(listen: Listen) -> Result<Exit, Failure> {
    let event_loop = EventLoop::new()?;
    let Listen { chain, service, verbosity, quiet, once, max_connections, drain } = listen;
    let places = places::find(&event_loop, &chain.wire)?;
    let station = Rc::new(Station {
        lp: event_loop.clone(),
        verbosity,
        front: chain,
        service,
        once,
        drain,
        servers: RefCell::default(),
        children: RefCell::default(),
        accepted: Cell::new(0),
        open: Cell::new(0),
        stopping: Cell::new(false),
        signalled: Cell::new(false),
        outcome: Cell::new(Exit::Success),
    });
    let most = if once { Some(1) } else { max_connections };
    let servers = places::open(&station, &places, most)?;
    if !quiet {
        for address in servers.iter().flat_map(Server::local_addresses) {
            say(format_args!("listening on {address}"));
        }
    }
    station.servers.replace(servers);
    for signal in [SIGINT, SIGTERM] {
        let station = Rc::clone(&station);
        event_loop.add_signal_handler(signal, move |_, _| station.signalled())?;
    }
    event_loop.run_forever()?;
    // What did not end by itself ends with us.
    for child in station.children.take() {
        // One that has ended needs no signal.
        let _ = child.terminate();
    }
    Ok(station.outcome.get())
}

impl Station {
    /// A client has come.
    fn accept(self: &Rc<Station>, peer: &Address) -> Front {
        let number = self.accepted.replace(self.accepted.get() + 1) + 1;
        if self.once {
            // Not here: the listening socket is in use by who calls us.
            let station = Rc::clone(self);
            self.lp.call_soon(move |_| station.stop_accepting());
        }
        let refused = self.stopping.get() || (self.once && number > 1);
        Front::new(Talk::begin(self, number, peer), refused)
    }

    /// A connection and all that belongs to it is over.
    fn ended(&self, exit: Exit) {
        self.open.set(self.open.get() - 1);
        if self.once {
            self.outcome.set(exit);
        }
        if self.stopping.get() && self.open.get() == 0 {
            self.lp.stop();
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
            say(format_args!("{open} connections are left to end, for {:?}", self.drain));
            let station = Rc::clone(self);
            self.lp.call_later(self.drain, move |_| station.cut_off());
        }
    }

    fn cut_off(&self) {
        if self.open.get() > 0 {
            say(format_args!("{} connections are cut off", self.open.get()));
            self.outcome.set(Exit::Lost);
        }
        self.lp.stop();
    }
}
