use std::rc::Rc;

use tepal::layers::{How, Info};
use tepal::{Closed, Protocol, Transport};

use super::talk::Talk;
use crate::chain::{Chain, PassedOn};
use crate::exit::Exit;

/// The protocol of a connection that a client is passed on by.
pub(super) struct Back {
    talk: Rc<Talk>,
    name: String,
}

impl Back {
    pub(super) fn connect(talk: &Rc<Talk>, chain: &Chain, front: &Transport) -> Transport {
        let name = chain.wire.place.to_string();
        talk.report.phase("connecting", format_args!("to {name}"));
        let target = chain.target(passed_on(front));
        talk.station.lp.connect(Back { talk: Rc::clone(talk), name }, target)
    }
}

/// Whose connection it is: as a header has told, else as the socket does.
fn passed_on(front: &Transport) -> PassedOn {
    if let Some(Info::Proxy(told)) = front.layer_info("proxy")
        && let Some((source, destination)) = told.addresses
    {
        return PassedOn::From(source, destination);
    }
    let ip = |address: std::io::Result<tepal::Address>| address.ok()?.as_ip();
    match (ip(front.peer_address()), ip(front.local_address())) {
        (Some(source), Some(destination)) => PassedOn::From(source, destination),
        _ => PassedOn::Unknown,
    }
}

impl Protocol for Back {
    fn layer_ready(&mut self, _: &Transport, layer: &str, info: &Info) {
        self.talk.report.layer_ready(layer, info);
    }

    fn layer_removed(&mut self, _: &Transport, layer: &str, how: How) {
        self.talk.report.layer_removed(layer, how);
    }

    fn connection_established(&mut self, transport: &Transport) {
        self.talk.report.established(transport);
        self.talk.join(transport);
    }

    fn timeout_idle(&mut self, transport: &Transport) {
        let text = "nothing has passed for as long as timeout-idle says";
        self.talk.fail(Exit::Lost, format_args!("{}: {text}", self.name));
        transport.close();
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.talk.side_ended(&self.name, closed);
        if closed.problem.is_some() {
            // It was never joined, or it was lost, and the client is to know.
            self.talk.hang_up();
        }
    }
}
