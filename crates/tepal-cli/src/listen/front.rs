use std::rc::Rc;

use tepal::layers::{How, Info};
use tepal::{Closed, Crossing, Protocol, Transport};

use super::back::Back;
use super::talk::Talk;
use super::{Service, child};
use crate::exit::Exit;

/// The protocol of an accepted connection.
pub(super) struct Front {
    // None once it has ended.
    talk: Option<Rc<Talk>>,
    refused: bool,
    // The other side, once it is asked for.
    back: Option<Transport>,
}

impl Front {
    pub(super) fn new(talk: Rc<Talk>, refused: bool) -> Front {
        Front { talk: Some(talk), refused, back: None }
    }

    fn serve(&mut self, talk: &Rc<Talk>, transport: &Transport) {
        match &talk.station.service {
            Service::Echo => {}
            Service::To(chain) => {
                // What the client sends meanwhile waits in its socket.
                transport.pause_reading();
                self.back = Some(Back::connect(talk, chain, transport));
            }
            Service::Exec(program, arguments) => {
                transport.pause_reading();
                if let Err(error) = child::start(talk, program, arguments) {
                    let name = program.to_string_lossy();
                    talk.fail(Exit::Child, format_args!("{name}: cannot be started: {error}"));
                    talk.hang_up();
                }
            }
        }
    }
}

impl Protocol for Front {
    fn connection_made(&mut self, transport: &Transport) {
        let Some(talk) = &self.talk else { return };
        if self.refused {
            return transport.abort();
        }
        talk.front.replace(Some(transport.clone()));
        transport.set_timeouts(talk.station.front.wire.timeouts);
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
        if let Some(talk) = self.talk.clone() {
            self.serve(&talk, transport);
        }
    }

    // Of an echo: all others are joined.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if transport.write(data) == Crossing::High {
            transport.pause_reading();
        }
        data.len()
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }

    fn timeout_idle(&mut self, transport: &Transport) {
        if let Some(talk) = &self.talk {
            talk.fail(Exit::Lost, "nothing has passed for as long as timeout-idle says");
        }
        transport.close();
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        let Some(talk) = self.talk.take() else { return };
        if !self.refused {
            talk.client_gone(closed);
        }
        // Once they are joined the other side ends by itself, with what it has still to send.
        if let Some(back) = self.back.take()
            && !back.is_established()
        {
            back.abort();
        }
    }
}
