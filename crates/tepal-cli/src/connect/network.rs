use std::rc::Rc;

use tepal::layers::{How, Info};
use tepal::{Closed, Crossing, Protocol, Transport};

use super::Session;
use crate::exit::{Exit, Failure};
use crate::hint::told;

/// The connection's protocol: what comes goes to standard output.
pub(super) struct Network(pub(super) Rc<Session>);

impl Network {
    fn failed(&self, closed: &Closed) {
        let attempt = closed.problem.as_ref().map_or(1, |problem| problem.attempt);
        let again = match self.0.settings.retry {
            None => false,
            Some(None) => true,
            Some(Some(times)) => attempt <= times,
        };
        // The last failure is told at the end.
        if again {
            self.0.report.failure(format_args!("{}; trying again", told(closed)));
        }
    }
}

impl Protocol for Network {
    fn connection_made(&mut self, _: &Transport) {
        self.0.report.phase("connecting", format_args!("to {}", self.0.settings.name));
    }

    fn layer_ready(&mut self, _: &Transport, layer: &str, info: &Info) {
        self.0.report.layer_ready(layer, info);
    }

    fn layer_removed(&mut self, _: &Transport, layer: &str, how: How) {
        self.0.report.layer_removed(layer, how);
    }

    fn connection_established(&mut self, transport: &Transport) {
        self.0.report.established(transport);
        self.0.begin();
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some(output) = self.0.output.get() else { return data.len() };
        let mut crossing = output.write(data);
        if self.0.settings.lines.is_some() && output.write(b"\n") == Crossing::High {
            crossing = Crossing::High;
        }
        if crossing == Crossing::High {
            transport.pause_reading();
        }
        self.0.wait_while_quiet();
        data.len()
    }

    fn eof_received(&mut self, _: &Transport) -> bool {
        self.0.peer_ended();
        true
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.0.input.get().into_iter().for_each(Transport::resume_reading);
    }

    fn timeout_idle(&mut self, transport: &Transport) {
        let name = &self.0.settings.name;
        let text = format!("{name}: nothing has passed for as long as timeout-idle says");
        self.0.settle(Err(Failure::new(Exit::Lost, text)));
        transport.close();
    }

    fn error_dns(&mut self, _: &Transport, closed: &Closed) {
        self.failed(closed);
    }

    fn error_connecting(&mut self, _: &Transport, closed: &Closed) {
        self.failed(closed);
    }

    fn error_layer(&mut self, _: &Transport, closed: &Closed) {
        self.failed(closed);
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        // Bytes that were lost with a connection cannot be read again, so only what never stood is
        // tried again.
        transport.abort();
        self.0.network_ended(closed);
    }
}
