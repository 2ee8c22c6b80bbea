use std::io;
use std::rc::Rc;

use tepal::{CloseKind, Closed, Protocol, Transport};

use super::Session;
use crate::exit::Exit;

/// Standard output's protocol: it only takes.
pub(super) struct Output(pub(super) Rc<Session>);

impl Protocol for Output {
    fn resume_writing(&mut self, _: &Transport) {
        self.0.network.resume_reading();
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        if closed.kind != CloseKind::Local {
            let error = match closed.error.as_ref().and_then(|error| error.raw_os_error()) {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::ErrorKind::BrokenPipe.into(),
            };
            let talk = &self.0.talk;
            talk.report.phase("output", &error);
            // A reader that has gone is no news.
            match error.kind() {
                io::ErrorKind::BrokenPipe => talk.fail_silently(Exit::Stdio),
                _ => talk.fail(Exit::Stdio, format_args!("standard output: {error}")),
            }
        }
        self.0.talk.station.lp.stop();
    }
}
