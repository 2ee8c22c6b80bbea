//! Datagrams: a peer joined to standard input and output, and addresses at which they are sent back or
//! passed on. There are no connections, so each end is told by quiet.

mod peer;
mod relay;

use std::rc::Rc;

use tepal::{EventLoop, Signal};

use crate::arguments::{Connect, Listen};
use crate::chain::Mistake;
use crate::exit::{Exit, Failure};
use crate::listen::places;
use crate::report::{Report, say};
use crate::service::Service;
use peer::Session;
use relay::Relay;

const ENDING: [Signal; 2] = [2, 15];

/// `tepal connect udp:HOST:PORT`.
pub(crate) fn connect(connect: Connect) -> Result<Exit, Failure> {
    let Service::Stdio(ends) = connect.service else {
        let text =
            "a peer of datagrams is joined to standard input and output, and to nothing else";
        return Err(Failure::new(Exit::Usage, Mistake::new(text)));
    };
    let event_loop = EventLoop::new()?;
    let report = Report::new(&event_loop, connect.verbosity, None);
    Session::run(&event_loop, report, &connect.chain, ends)
}

/// `tepal listen udp:HOST:PORT`.
pub(crate) fn listen(listen: Listen) -> Result<Exit, Failure> {
    if let Service::Stdio(_) | Service::Exec(_) = listen.service {
        let text = "datagrams that come are sent back (--echo) or passed on (--to)";
        return Err(Failure::new(Exit::Usage, Mistake::new(text)));
    }
    let event_loop = EventLoop::new()?;
    let places = places::find(&event_loop, &listen.chain.wire)?;
    let quiet = listen.quiet;
    // Whoever is told where it listens may send a signal at once.
    for signal in ENDING {
        event_loop.add_signal_handler(signal, |lp, _| lp.stop())?;
    }
    let relay = Rc::new(Relay::new(&event_loop, listen));
    for address in places.addresses {
        let bound = relay.open(&address).map_err(|error| places::failure(&error))?;
        if !quiet {
            say(format_args!("listening on {bound}"));
        }
    }
    event_loop.run_forever()?;
    Ok(Exit::Success)
}
