//! A relay between a client and a server that breaks the wire at one place of their conversation.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, CloseKind, Closed, Loop, Protocol, Server, Transport};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Reset,
    Fin,
    Silence,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Client,
    Server,
}

/// Where the wire breaks, how, and on whose side.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The number of the piece (bytes, or an end) that does not pass any more.
    pub at: usize,
    /// Its first half still passes.
    pub half: bool,
    pub fault: Fault,
    pub victim: End,
}

/// One relayed connection.
pub struct Wire {
    cut: Option<Cut>,
    /// How many pieces have passed, in both directions.
    pub passed: usize,
    pub broken: bool,
    // The side of the client, and that of the server.
    sides: [Option<Transport>; 2],
    // Told when the wire breaks.
    on_cut: Option<Box<dyn FnOnce()>>,
}

pub type Shared = Rc<RefCell<Wire>>;

struct Side {
    wire: Shared,
    end: End,
}

impl Wire {
    /// Relays the first connection to `server`; `on_cut` is told when the wire breaks.
    pub fn relay(
        lp: &Loop,
        server: SocketAddr,
        cut: Option<Cut>,
        on_cut: impl FnOnce() + 'static,
    ) -> (Shared, Server) {
        let wire = Rc::new(RefCell::new(Wire {
            cut,
            passed: 0,
            broken: false,
            sides: [None, None],
            on_cut: Some(Box::new(on_cut)),
        }));
        let (shared, to) = (Rc::clone(&wire), lp.clone());
        let accept = move |_: &Address| {
            let back = Side { wire: Rc::clone(&shared), end: End::Server };
            shared.borrow_mut().sides[1] = Some(to.connect(back, server));
            Side { wire: Rc::clone(&shared), end: End::Client }
        };
        let listener = lp.listen(accept, "127.0.0.1:0").expect("a port");
        (wire, listener)
    }

    /// Lets go of what is still open.
    pub fn end(wire: &Shared) {
        let sides = wire.borrow_mut().sides.each_mut().map(Option::take);
        sides.iter().flatten().for_each(Transport::abort);
    }

    fn side(&self, end: End) -> Option<Transport> {
        self.sides[usize::from(end == End::Server)].clone()
    }
}

fn other(end: End) -> End {
    match end {
        End::Client => End::Server,
        End::Server => End::Client,
    }
}

/// A piece has come from one end; `None` is its end.
fn pass(wire: &Shared, from: End, piece: Option<&[u8]>) {
    let (cut, to, on_cut) = {
        let mut wire = wire.borrow_mut();
        if wire.broken {
            return;
        }
        let cut = wire.cut.filter(|cut| cut.at == wire.passed);
        wire.passed += 1;
        wire.broken = cut.is_some();
        let on_cut = if cut.is_some() { wire.on_cut.take() } else { None };
        (cut, wire.side(other(from)), on_cut)
    };
    let Some(to) = to else { return };
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    match (cut, piece) {
        (None, Some(bytes)) => drop(to.write(bytes)),
        // A peer that is gone already takes no end.
        (None, None) => drop(to.write_eof()),
        (Some(Cut { half: true, .. }), Some(bytes)) => drop(to.write(&half(bytes))),
        _ => {}
    }
    let Some(cut) = cut else { return };
    if let Some(told) = on_cut {
        told();
    }
    // What has just been written leaves first.
    let wire = Rc::clone(wire);
    let lp = to.event_loop().clone();
    drop(lp.call_later(Duration::from_millis(1), move |_| {
        let victim = wire.borrow().side(cut.victim);
        match (victim, cut.fault) {
            (Some(victim), Fault::Reset) => victim.abort(),
            (Some(victim), Fault::Fin) => drop(victim.write_eof()),
            _ => {}
        }
    }));
}

impl Protocol for Side {
    fn connection_made(&mut self, transport: &Transport) {
        let place = usize::from(self.end == End::Server);
        self.wire.borrow_mut().sides[place] = Some(transport.clone());
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        pass(&self.wire, self.end, Some(data));
        data.len()
    }

    fn eof_received(&mut self, _: &Transport) -> bool {
        let was_broken = self.wire.borrow().broken;
        pass(&self.wire, self.end, None);
        // After the break nobody waits for the rest of it.
        !was_broken
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        let (cut, to) = {
            let wire = self.wire.borrow();
            (wire.cut.filter(|_| wire.broken), wire.side(other(self.end)))
        };
        let Some(to) = to else { return };
        match cut {
            // Each end is to find out by itself.
            Some(Cut { fault: Fault::Silence, .. }) => {}
            Some(cut) if cut.victim == self.end => to.abort(),
            Some(_) => {}
            None if closed.kind == CloseKind::Reset => to.abort(),
            None => to.close(),
        }
    }
}
