use std::rc::Rc;

use tepal::layers::{How, Info};
use tepal::{Backoff, Closed, Crossing, Protocol, Transport};

use super::back::Back;
use super::talk::Talk;
use super::{Service, child};
use crate::chain::PassedOn;
use crate::exit::Exit;
use crate::hint::told;
use crate::stdio::Session;

/// The protocol of the connection that is served: one that was accepted, or the one that was made.
pub(crate) struct Front {
    // None once it has ended.
    talk: Option<Rc<Talk>>,
    name: String,
    way: Way,
    // What serves it, once it is asked for.
    back: Option<Transport>,
    stdio: Option<Rc<Session>>,
}

/// How it came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Accepted,
    /// It came too late, or from elsewhere.
    Refused,
    /// It is made by us; so often it is tried again when it was not, the inner `None`: always.
    Made(Option<Option<u32>>),
}

impl Front {
    pub(super) fn accepted(talk: Rc<Talk>, refused: bool) -> Front {
        let name = talk.peer.get().map(|peer| format!("client {peer}")).unwrap_or_default();
        Front::new(talk, name, if refused { Way::Refused } else { Way::Accepted })
    }

    /// Makes it.
    pub(super) fn connect(talk: &Rc<Talk>, retry: Option<Option<u32>>) -> Transport {
        let chain = &talk.station.front;
        let mut target = chain.target(PassedOn::Nobodys);
        if let Some(attempts) = retry {
            target = target.backoff(Backoff { attempts, ..Backoff::default() });
        }
        let name = chain.wire.place.to_string();
        let front = Front::new(Rc::clone(talk), name, Way::Made(retry));
        talk.station.lp.connect(front, target)
    }

    fn new(talk: Rc<Talk>, name: String, way: Way) -> Front {
        Front { talk: Some(talk), name, way, back: None, stdio: None }
    }

    fn serve(&mut self, talk: &Rc<Talk>, transport: &Transport) {
        match &talk.station.service {
            Service::Echo => {}
            Service::To(chain) => {
                // What comes meanwhile waits in its socket.
                transport.pause_reading();
                self.back = Some(Back::connect(talk, chain, transport));
            }
            Service::Exec(program) => {
                transport.pause_reading();
                if let Err(error) = child::start(talk, program) {
                    let name = program.name.to_string_lossy();
                    talk.fail(Exit::Child, format_args!("{name}: cannot be started: {error}"));
                    talk.hang_up();
                }
            }
            Service::Stdio(ends) => {
                self.stdio = Session::begin(talk, transport, *ends);
            }
        }
    }

    /// It was not made; maybe it will be.
    fn not_made(&self, closed: &Closed) {
        let attempt = closed.problem.as_ref().map_or(1, |problem| problem.attempt);
        let again = match self.way {
            Way::Made(Some(None)) => true,
            Way::Made(Some(Some(times))) => attempt <= times,
            _ => false,
        };
        // The last failure is told at the end.
        if let Some(talk) = self.talk.as_ref().filter(|_| again) {
            talk.report.failure(format_args!("{}; trying again", told(closed)));
        }
    }
}

impl Protocol for Front {
    fn connection_made(&mut self, transport: &Transport) {
        let Some(talk) = &self.talk else { return };
        match self.way {
            Way::Refused => return transport.abort(),
            Way::Accepted => transport.set_timeouts(talk.station.front.wire.timeouts),
            Way::Made(_) => talk.report.phase("connecting", format_args!("to {}", self.name)),
        }
        talk.front.replace(Some(transport.clone()));
    }

    fn layer_ready(&mut self, _: &Transport, layer: &str, info: &Info) {
        if let Some(talk) = &self.talk {
            talk.report.layer_ready(layer, info);
        }
    }

    fn layer_removed(&mut self, _: &Transport, layer: &str, how: How) {
        if let Some(talk) = &self.talk {
            talk.report.layer_removed(layer, how);
        }
    }

    fn connection_established(&mut self, transport: &Transport) {
        let Some(talk) = self.talk.clone() else { return };
        if matches!(self.way, Way::Made(_)) {
            talk.report.established(transport);
            if let Ok(peer) = transport.peer_address() {
                talk.peer.get_or_init(|| peer);
            }
        }
        self.serve(&talk, transport);
    }

    // Of an echo, or for standard output: all others are joined.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        match &self.stdio {
            Some(session) => session.peer_sent(data),
            None if transport.write(data) == Crossing::High => transport.pause_reading(),
            None => {}
        }
        data.len()
    }

    fn eof_received(&mut self, _: &Transport) -> bool {
        match &self.stdio {
            Some(session) => {
                session.peer_ended();
                true
            }
            None => false,
        }
    }

    fn resume_writing(&mut self, transport: &Transport) {
        match &self.stdio {
            Some(session) => session.peer_takes_more(),
            None => transport.resume_reading(),
        }
    }

    fn timeout_idle(&mut self, transport: &Transport) {
        if let Some(talk) = &self.talk {
            let text = "nothing has passed for as long as timeout-idle says";
            talk.fail(Exit::Lost, format_args!("{}: {text}", self.name));
        }
        transport.close();
    }

    fn error_dns(&mut self, _: &Transport, closed: &Closed) {
        self.not_made(closed);
    }

    fn error_connecting(&mut self, _: &Transport, closed: &Closed) {
        self.not_made(closed);
    }

    fn error_layer(&mut self, _: &Transport, closed: &Closed) {
        self.not_made(closed);
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        // Bytes that were lost with a connection cannot be read again, so only what never stood is
        // tried again.
        transport.abort();
        let Some(talk) = self.talk.take() else { return };
        if self.way != Way::Refused {
            talk.front_gone(&self.name, closed);
        }
        if let Some(session) = self.stdio.take() {
            session.peer_gone();
        }
        // Once they are joined the other side ends by itself, with what it has still to send.
        if let Some(back) = self.back.take()
            && !back.is_established()
        {
            back.abort();
        }
    }
}
