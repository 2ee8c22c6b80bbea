//! What becomes of bytes that were written and have not left.

mod common;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use common::address;
use reach::{Sink, again, everywhere, nobody, run_to_end, run_until, simulated};
use story::Story;
use tepal::{EventLoop, Lines, Listen, Loop, Protocol, Restart, Target, Transport, Unsent};

#[test]
fn bytes_written_early_wait_through_failed_attempts() {
    // With layers and without: what no layer has taken is not lost with them.
    for layered in [false, true] {
        everywhere(|event_loop| {
            let bytes = Rc::default();
            let sink = Rc::clone(&bytes);
            let target = nobody(event_loop);
            let failures = Cell::new(0);
            let lp: Loop = (**event_loop).clone();
            let story = Story::new()
                .on("made", |transport| {
                    transport.write(b"early ");
                    transport.write(b"bytes");
                })
                .on("error_connecting", move |transport| {
                    failures.set(failures.get() + 1);
                    if failures.get() == 3 {
                        // Now somebody listens.
                        let sink = Rc::clone(&sink);
                        let mut listen = Listen::on(target);
                        if layered {
                            listen = listen.layer(Lines::new(64));
                        }
                        let serve = move |_: &tepal::Address| Sink(Rc::clone(&sink));
                        drop(lp.listen(serve, listen).expect("the port is free"));
                    }
                    again(transport);
                });
            let mut to = Target::address(target);
            if layered {
                to = to.layer(Lines::new(64));
            }
            let transport = event_loop.connect(story.clone(), to);
            let got: Rc<RefCell<Vec<u8>>> = Rc::clone(&bytes);
            run_until(event_loop, move || got.borrow().len() == 11);
            assert_eq!(*bytes.borrow(), b"early bytes");
            assert_eq!(story.count("error_connecting"), 3);
            transport.close();
            run_to_end(event_loop, &transport);
        });
    }
}

/// Reads nothing on its first connection, then everything.
fn late_reader(event_loop: &EventLoop) -> (SocketAddr, Rc<RefCell<Vec<u8>>>) {
    struct Late {
        deaf: bool,
        bytes: Rc<RefCell<Vec<u8>>>,
    }
    impl Protocol for Late {
        fn connection_established(&mut self, transport: &Transport) {
            if self.deaf {
                transport.pause_reading();
            }
        }
        fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
            self.bytes.borrow_mut().extend_from_slice(data);
            data.len()
        }
    }
    let bytes = Rc::default();
    let shared = Rc::clone(&bytes);
    let first = Cell::new(true);
    let serve =
        move |_: &tepal::Address| Late { deaf: first.replace(false), bytes: Rc::clone(&shared) };
    (address(&event_loop.listen(serve, "127.0.0.1:0").expect("a port")), bytes)
}

#[test]
fn s62_unsent_bytes_are_dropped_and_counted_or_kept_when_asked() {
    const LEN: usize = 32 << 20;
    for keep in [false, true] {
        let (_, event_loop) = simulated();
        let (server, bytes) = late_reader(&event_loop);
        let first = Cell::new(true);
        let story = Story::new().on("established", move |transport| {
            if first.replace(false) {
                transport.write(&vec![7; LEN]);
            } else {
                transport.write(b"!");
            }
        });
        let transport = event_loop.connect(story.clone(), server);
        let writing = transport.clone();
        run_until(&event_loop, move || writing.write_buffer_size() > 0);
        let unsent = if keep { Unsent::Keep } else { Unsent::Drop };
        let waiting = transport.write_buffer_size();
        assert!(transport.reconnect_with(None, Restart::Connect, unsent));
        let got = Rc::clone(&bytes);
        run_until(&event_loop, move || got.borrow().last() == Some(&b'!'));
        let closed = story.0.borrow().ends[0].clone();
        assert_eq!(closed.unsent, waiting as u64, "told either way");
        let expected = if keep { waiting + 1 } else { 1 };
        assert_eq!(bytes.borrow().len(), expected);
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
        run_to_end(&event_loop, &transport);
    }
}
