//! `tepal listen`: each connection that is accepted is served.

pub(crate) mod places;

use tepal::{EventLoop, Server};

use crate::arguments::Listen;
use crate::datagrams;
use crate::exit::{Exit, Failure};
use crate::report::say;
use crate::service::Station;

pub(crate) fn run(listen: Listen) -> Result<Exit, Failure> {
    if listen.chain.wire.is_udp() {
        return datagrams::listen(listen);
    }
    let event_loop = EventLoop::new()?;
    let Listen { chain, service, verbosity, quiet, once, max_connections, drain } = listen;
    let places = places::find(&event_loop, &chain.wire)?;
    let station = Station::with(&event_loop, chain, service, verbosity, once, drain);
    let most = if once { Some(1) } else { max_connections };
    let servers = places::open(&station, &places, most)?;
    let addresses: Vec<_> =
        servers.iter().flat_map(Server::local_addresses).map(ToString::to_string).collect();
    station.serve_at(servers);
    // Whoever is told where it listens may send a signal at once.
    station.heed_signals()?;
    if !quiet {
        addresses.iter().for_each(|address| say(format_args!("listening on {address}")));
    }
    Ok(station.run(&event_loop)?)
}
