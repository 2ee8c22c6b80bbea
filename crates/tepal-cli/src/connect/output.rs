use std::io;
use std::rc::Rc;

use tepal::{CloseKind, Closed, Protocol, Transport};

use super::Session;
use crate::exit::Failure;

/// Standard output's protocol: it only takes.
pub(super) struct Output(pub(super) Rc<Session>);

impl Protocol for Output {
    fn resume_writing(&mut self, _: &Transport) {
        self.0.network.get().into_iter().for_each(Transport::resume_reading);
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        if closed.kind != CloseKind::Local {
            let error = match closed.error.as_ref().and_then(|error| error.raw_os_error()) {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::ErrorKind::BrokenPipe.into(),
            };
            self.0.report.phase("output", &error);
            self.0.settle(Err(Failure::of_output(&error)));
        }
        self.0.lp.stop();
    }
}
