//! What messages over TLS may cost: allocations on the loop's thread.

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "common/layered.rs"]
mod layered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::{address, on_every_driver, run_with};
use counting::allocations;
use layered::tls_pair;
use tepal::{EventLoop, Listen, Protocol, Target, Tls, Transport};

/// Messages echoed before anything is counted, and those that are.
const WARM: u64 = 50;
const COUNTED: u64 = 200;

/// Echoes whole messages, and calls something at the first and the last of those that count.
struct Measured<F> {
    len: usize,
    messages: u64,
    at: F,
}

impl<F: FnMut() + 'static> Protocol for Measured<F> {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if data.len() < self.len {
            return 0;
        }
        self.messages += 1;
        if self.messages == WARM || self.messages == WARM + COUNTED {
            (self.at)();
        }
        transport.write(&data[..self.len]);
        self.len
    }
}

/// Sends a message, and the next when all of it has come back.
struct Asks {
    message: Vec<u8>,
    missing: usize,
    // One more than is counted, so that the last that counts has been answered too.
    left: u64,
}

impl Protocol for Asks {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(&self.message);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.missing -= data.len();
        if self.missing == 0 {
            self.missing = self.message.len();
            self.left -= 1;
            match self.left {
                0 => transport.event_loop().stop(),
                _ => drop(transport.write(&self.message)),
            }
        }
        data.len()
    }
}

/// How many allocations `COUNTED` echoes of `len` bytes make on the server's thread.
fn allocations_of_echoes(event_loop: &EventLoop, (up, down): (Tls, Tls), len: usize) -> u64 {
    let snapshots = Rc::new(RefCell::new(Vec::with_capacity(2)));
    let log = Rc::clone(&snapshots);
    let at = Cell::new(Some(move || log.borrow_mut().push(allocations())));
    let factory =
        move |_: &_| Measured { len, messages: 0, at: at.take().expect("one connection") };
    let listen = Listen::on("127.0.0.1:0").layer(down);
    let server = event_loop.listen(factory, listen).expect("listens");
    let to = address(&server);
    run_with(event_loop, move || {
        let own = EventLoop::new().expect("a loop");
        let asks = Asks { message: vec![7; len], missing: len, left: WARM + COUNTED + 1 };
        own.connect(asks, Target::address(to).layer(up));
        common::run(&own);
    });
    server.close();
    let [before, after] = snapshots.borrow()[..] else { panic!("two snapshots") };
    after - before
}

#[test]
fn a_record_allocates_only_what_rustls_does() {
    let pair = tls_pair();
    on_every_driver(|event_loop| {
        for (len, records) in [(100, 1), (1024, 1), (16 << 10, 1), (64 << 10, 4)] {
            let count = allocations_of_echoes(event_loop, pair.clone(), len);
            // rustls takes memory for each record that it decrypts or encrypts. A message that
            // comes in pieces may cost one more.
            let most = COUNTED * records * 2 + COUNTED / 4;
            let driver = event_loop.driver_name();
            assert!(count <= most, "{count} for {COUNTED} echoes of {len} bytes on {driver}");
        }
    });
}
