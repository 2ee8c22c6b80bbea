//! `tepal listen`: each connection that is accepted is served.

mod places;

use tepal::{EventLoop, Server};

use crate::arguments::Listen;
use crate::exit::{Exit, Failure};
use crate::report::say;
use crate::service::Station;

pub(crate) fn run(listen: Listen) -> Result<Exit, Failure> {
    let event_loop = EventLoop::new()?;
    let Listen { chain, service, verbosity, quiet, once, max_connections, drain } = listen;
    let places = places::find(&event_loop, &chain.wire)?;
    let station = Station::with(&event_loop, chain, service, verbosity, once, drain);
    let most = if once { Some(1) } else { max_connections };
    let servers = places::open(&station, &places, most)?;
    if !quiet {
        for address in servers.iter().flat_map(Server::local_addresses) {
            say(format_args!("listening on {address}"));
        }
    }
    station.serve_at(servers);
    station.heed_signals()?;
    Ok(station.run(&event_loop)?)
}
