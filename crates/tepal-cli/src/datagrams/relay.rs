use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, DatagramProtocol, DatagramTransport, Loop, Timer};

use crate::arguments::Listen;
use crate::report::{Report, say};
use crate::service::Service;

/// Addresses at which datagrams come, and what becomes of them.
pub(super) struct Relay {
    lp: Loop,
    listen: Listen,
    most: usize,
    // By the socket that a client sends to, and its address.
    flows: RefCell<HashMap<(u64, Address), Rc<Flow>>>,
    // Of sockets and flows, each its own.
    number: Cell<u64>,
}

/// What one client's datagrams are passed on by.
struct Flow {
    key: (u64, Address),
    report: Report,
    way: RefCell<Way>,
    /// Ends it when it was quiet.
    quiet: Timer,
}

/// Whether the socket is there.
enum Way {
    /// The name is being looked up; these wait for it.
    Opening(Vec<Vec<u8>>),
    Open(DatagramTransport),
    Gone,
}

/// A socket that clients send to.
struct Front {
    relay: Rc<Relay>,
    number: u64,
}

/// The socket of one flow.
struct Back {
    relay: Rc<Relay>,
    flow: Rc<Flow>,
    front: DatagramTransport,
}

/// How long a flow may be quiet, unless timeout-idle says it: the least that RFC 4787 (REQ-5) asks of
/// a NAT.
const QUIET: Duration = Duration::from_secs(120);

/// Clients at once; each has a socket.
const MOST: usize = 1024;

/// Datagrams that wait for a name; more are lost, as a network loses them.
const WAITING: usize = 16;

impl Relay {
    pub(super) fn new(lp: &Loop, listen: Listen) -> Relay {
        Relay {
            lp: lp.clone(),
            most: listen.max_connections.map_or(MOST, |most| most as usize),
            listen,
            flows: RefCell::default(),
            number: Cell::new(0),
        }
    }

    /// Listens at an address, and says at which.
    pub(super) fn open(self: &Rc<Relay>, address: &Address) -> io::Result<Address> {
        let number = self.number.replace(self.number.get() + 1);
        let front = Front { relay: Rc::clone(self), number };
        self.lp.datagram(front, Some(address.clone()), None)?.local_address()
    }

    fn pass_on(self: &Rc<Relay>, front: &DatagramTransport, key: (u64, Address), data: &[u8]) {
        let known = self.flows.borrow().get(&key).cloned();
        let Some(flow) = known.or_else(|| self.begin(front, key)) else { return };
        flow.quiet.again();
        let error = match &mut *flow.way.borrow_mut() {
            Way::Opening(waiting) => {
                if waiting.len() < WAITING {
                    waiting.push(data.to_vec());
                }
                None
            }
            Way::Open(back) => back.send_to(data, None).err(),
            Way::Gone => None,
        };
        if let Some(error) = error {
            flow.report.phase("lost", error);
        }
    }

    fn begin(self: &Rc<Relay>, front: &DatagramTransport, key: (u64, Address)) -> Option<Rc<Flow>> {
        let Service::To(chain) = &self.listen.service else { return None };
        if self.flows.borrow().len() >= self.most {
            return None;
        }
        let number = self.number.replace(self.number.get() + 1);
        let report = Report::new(&self.lp, self.listen.verbosity, Some(number));
        report.phase("accepted", format_args!("from {}", key.1));
        let (relay, ended) = (Rc::downgrade(self), key.clone());
        let limit = chain.wire.timeouts.idle.unwrap_or(QUIET);
        let quiet = self.lp.timer(limit, move |_, _| {
            if let Some(relay) = relay.upgrade() {
                relay.end(&ended);
            }
        });
        let way = RefCell::new(Way::Opening(Vec::new()));
        let flow = Rc::new(Flow { key: key.clone(), report, way, quiet });
        self.flows.borrow_mut().insert(key, Rc::clone(&flow));
        let back = Back { relay: Rc::clone(self), flow: Rc::clone(&flow), front: front.clone() };
        let opening = self.lp.connect_datagram(back, chain.wire.target());
        let (relay, opened) = (Rc::clone(self), Rc::clone(&flow));
        self.lp.spawn(async move {
            match opening.await {
                Ok(back) => opened.go_on(back),
                Err(error) => {
                    opened.report.failure(error);
                    relay.end(&opened.key);
                }
            }
        });
        Some(flow)
    }

    fn end(&self, key: &(u64, Address)) {
        let Some(flow) = self.flows.borrow_mut().remove(key) else { return };
        flow.quiet.stop();
        flow.report.phase("closed", "it was quiet, or was never opened");
        if let Way::Open(back) = flow.way.replace(Way::Gone) {
            back.close();
        }
    }
}

impl Flow {
    /// The socket is there: what has waited for it is sent.
    fn go_on(&self, back: DatagramTransport) {
        match self.way.replace(Way::Gone) {
            Way::Opening(waiting) => {
                for datagram in waiting {
                    if let Err(error) = back.send_to(&datagram, None) {
                        self.report.phase("lost", error);
                    }
                }
                self.way.replace(Way::Open(back));
            }
            // It has ended meanwhile.
            _ => back.close(),
        }
    }
}

impl DatagramProtocol for Front {
    fn datagram_received(
        &mut self,
        front: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        let Some(peer) = peer.filter(|peer| self.relay.listen.chain.wire.allows(peer)) else {
            return;
        };
        match &self.relay.listen.service {
            // What cannot be sent is lost, as a network loses it.
            Service::Echo => drop(front.send_to(data, Some(peer))),
            _ => self.relay.pass_on(front, (self.number, peer.clone()), data),
        }
    }

    fn pause_writing(&mut self, front: &DatagramTransport) {
        front.pause_reading();
    }

    fn resume_writing(&mut self, front: &DatagramTransport) {
        front.resume_reading();
    }

    fn connection_lost(&mut self, front: &DatagramTransport, closed: &tepal::Closed) {
        say(closed);
        front.event_loop().stop();
    }
}

impl DatagramProtocol for Back {
    fn datagram_received(&mut self, _: &DatagramTransport, data: &[u8], _: Option<&Address>) {
        self.flow.quiet.again();
        // What cannot be sent is lost, as a network loses it.
        let _ = self.front.send_to(data, Some(&self.flow.key.1));
    }

    fn error_received(&mut self, _: &DatagramTransport, error: &io::Error) {
        self.flow.report.phase("lost", error);
    }

    fn connection_lost(&mut self, _: &DatagramTransport, _: &tepal::Closed) {
        self.relay.end(&self.flow.key);
    }
}
