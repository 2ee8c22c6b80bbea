//! A peer that follows a script inside the loop, so that the same test runs on every kernel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Closed, EventLoop, Protocol, Transport};

use super::{address, run};

/// What the peer does next, each in a turn of its own.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Vec<u8>),
    /// Ends its direction, and reads on.
    Eof,
    Close,
    Reset,
    /// Stops reading.
    Pause,
}

/// What the peer heard.
#[derive(Default, Debug)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub closed: Option<Closed>,
}

/// Runs a server whose only connection has `protocol`, against a peer that follows `steps`, until
/// the protocol stops the loop; and then until the peer has heard of the end.
pub fn serve<P: Protocol>(
    event_loop: &EventLoop,
    protocol: P,
    steps: impl IntoIterator<Item = Step>,
) -> Heard {
    let protocol = RefCell::new(Some(protocol));
    let server = event_loop
        .listen(move |_| protocol.borrow_mut().take().expect("one connection"), "127.0.0.1:0")
        .expect("listens");
    let heard: Rc<RefCell<Heard>> = Rc::default();
    let steps = Rc::new(RefCell::new(steps.into_iter().collect()));
    event_loop.connect(Peer { steps, heard: Rc::clone(&heard) }, address(&server));
    run(event_loop);
    server.close();
    while heard.borrow().closed.is_none() {
        event_loop.call_later(Duration::from_millis(1), |lp| lp.stop());
        run(event_loop);
    }
    heard.take()
}

struct Peer {
    steps: Rc<RefCell<VecDeque<Step>>>,
    heard: Rc<RefCell<Heard>>,
}

fn go_on(transport: &Transport, steps: Rc<RefCell<VecDeque<Step>>>) {
    let next = steps.borrow_mut().pop_front();
    match next {
        None => return,
        Some(Step::Write(bytes)) => {
            transport.write_segment(bytes);
        }
        // It may have ended by now.
        Some(Step::Eof) => drop(transport.write_eof()),
        Some(Step::Close) => transport.close(),
        Some(Step::Reset) => transport.abort(),
        Some(Step::Pause) => transport.pause_reading(),
    }
    let transport = transport.clone();
    let lp = transport.event_loop().clone();
    lp.call_later(Duration::from_millis(2), move |_| go_on(&transport, steps));
}

impl Protocol for Peer {
    fn connection_established(&mut self, transport: &Transport) {
        go_on(transport, Rc::clone(&self.steps));
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        self.heard.borrow_mut().bytes.extend_from_slice(data);
        data.len()
    }
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.heard.borrow_mut().closed = Some(closed.clone());
    }
}
