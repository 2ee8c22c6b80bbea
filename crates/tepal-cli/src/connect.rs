//! `tepal connect`: the connection that a chain describes, and what serves it.

use tepal::EventLoop;

use crate::arguments::Connect;
use crate::datagrams;
use crate::exit::{Exit, Failure};
use crate::service::{Service, Station};

pub(crate) fn run(connect: Connect) -> Result<Exit, Failure> {
    if connect.chain.wire.is_udp() {
        return datagrams::connect(connect);
    }
    let event_loop = EventLoop::new()?;
    let Connect { chain, service, verbosity, retry } = connect;
    // Before standard input and output a signal ends us as it ends any program.
    let heeds = !matches!(service, Service::Stdio(_));
    let station = Station::new(&event_loop, chain, service, verbosity);
    if heeds {
        station.heed_signals()?;
    }
    station.connect(retry);
    Ok(station.run(&event_loop)?)
}
