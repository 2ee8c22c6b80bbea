//! A connection whose last layer is gone is a plain one: nothing stands between the kernel and its
//! protocol, and what a layer has left behind is still there. And which layer is meant, of several.

mod common;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::{address, with_faults_and_simulated};
use layered::{Call, Pair, Script, everywhere};
use reach::{Sink, echo_server, run_to_end, run_until, simulated};
use story::Story;
use tepal::layers::ErrorKind;
use tepal::{
    How, Late, LayerId, Listen, ProxyHeader, RateLimit, Restart, Stack, Target, Transport, Unsent,
    Which,
};
use tepal_driver::faults::Operation;

const SECOND: Duration = Duration::from_secs(1);

/// A layer that does nothing to the bytes.
fn passive() -> RateLimit {
    RateLimit::new().write(1 << 40).read(1 << 40)
}

/// A large write with nothing queued is the kernel's at once, without a copy: only of a plain one.
#[test]
fn writes_go_to_the_kernel_at_once_when_the_last_layer_is_gone() {
    const LEN: usize = 20_000;
    with_faults_and_simulated(|event_loop, faults| {
        let to = echo_server(event_loop);
        let (at_once, faults) = (Rc::new(RefCell::new(Vec::new())), faults.clone());
        let log = Rc::clone(&at_once);
        let got = Cell::new(0);
        let (script, seen) = Script::new(move |transport, call| {
            let write = || {
                let before = faults.count(Operation::Send);
                transport.write(&[7; LEN]);
                log.borrow_mut().push(faults.count(Operation::Send) - before);
            };
            match call {
                Call::Established => write(),
                Call::Data(data) => {
                    got.set(got.get() + data.len());
                    match got.get() {
                        LEN => drop(transport.pop_layer(None, SECOND, Late::Close)),
                        n if n == LEN + 1 => write(),
                        n if n == 2 * LEN + 1 => transport.close(),
                        _ => {}
                    }
                }
                Call::Removed("rate", How::Closed) => drop(transport.write(b"x")),
                Call::Lost(_) => transport.event_loop().stop(),
                _ => {}
            }
            None
        });
        event_loop.connect(script, Target::address(to).layer(passive()));
        common::run(event_loop);
        assert_eq!(seen.borrow().bytes.len(), 2 * LEN + 1, "{:?}", seen.borrow().events);
        assert_eq!(*at_once.borrow(), [0, 1]);
        // What the loop still holds of the server's side.
        let (lp, limit) = ((**event_loop).clone(), Duration::from_millis(5));
        event_loop.run_until_complete(async move { lp.sleep(limit).await }).expect("runs");
    });
}

#[test]
fn s71_what_the_protocol_has_left_is_there_when_the_last_layer_is_gone() {
    everywhere(|event_loop| {
        // It uses nothing of the first bytes, and one at a time of all.
        let up = |transport: &Transport, call: &Call<'_>| match call {
            Call::Data(b"abc") => {
                transport.pop_layer(Some("rate"), SECOND, Late::Close).expect("it stands");
                Some(0)
            }
            Call::Data(data) => {
                if data == b"f" {
                    transport.close();
                }
                Some(1)
            }
            Call::Removed(..) => {
                // In the next turn, when the chain is gone.
                let later = transport.clone();
                transport.event_loop().call_later(Duration::from_millis(1), move |_| {
                    assert!(later.layer_ids().is_empty());
                    later.write(b"go");
                });
                None
            }
            _ => None,
        };
        let down = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => drop(transport.write(b"abc")),
                Call::Data(_) => drop(transport.write(b"def")),
                _ => {}
            }
            None
        };
        let stack = Stack::new().with(passive());
        let (client, server) =
            Pair::connect(event_loop, (stack, up), (Stack::new(), down)).run(event_loop);
        assert_eq!(server.bytes, b"go");
        assert_eq!(client.bytes, b"abcdef", "{:?}", client.events);
        let frames: Vec<&[u8]> = client.frames.iter().map(Vec::as_slice).collect();
        // Nothing was used of the first offer; the second has all six.
        assert_eq!(frames, [&b""[..], b"a", b"b", b"c", b"d", b"e", b"f"]);
    });
}

#[test]
fn a_count_set_before_holds_and_the_end_is_told_once() {
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.set_read_low(4).expect("below the limit");
                    transport.pop_layer(None, SECOND, Late::Close).expect("it stands");
                }
                Call::Removed(..) => drop(transport.write(b"1")),
                _ => {}
            }
            None
        };
        let down = |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(_) = call {
                transport.write(b"abcdef");
                transport.write_eof().expect("a plain one can");
            }
            None
        };
        let stack = Stack::new().with(passive());
        let (client, _) =
            Pair::connect(event_loop, (stack, up), (Stack::new(), down)).run(event_loop);
        assert_eq!(client.bytes, b"abcdef");
        let eofs = client.events.iter().filter(|event| *event == "eof").count();
        assert_eq!(eofs, 1, "{:?}", client.events);
        assert_eq!(client.kind(), tepal::CloseKind::PeerEof);
    });
}

/// What was written on a connection that had become plain passes the layers of the next one.
#[test]
fn s62_bytes_kept_for_another_attempt_come_behind_what_its_layers_say() {
    const LEN: usize = 32 << 20;
    let (_, event_loop) = simulated();
    let bytes: Rc<RefCell<Vec<u8>>> = Rc::default();
    let (sink, first) = (Rc::clone(&bytes), Cell::new(true));
    let serve = move |_: &tepal::Address| -> Box<dyn tepal::Protocol> {
        match first.replace(false) {
            true => Box::new(Deaf),
            false => Box::new(Sink(Rc::clone(&sink))),
        }
    };
    struct Deaf;
    impl tepal::Protocol for Deaf {
        fn connection_established(&mut self, transport: &Transport) {
            transport.pause_reading();
        }
    }
    let server = event_loop.listen(serve, Listen::on("127.0.0.1:0")).expect("a port");
    let begun = Cell::new(false);
    let story = Story::new().on("established", move |transport| {
        if begun.replace(true) {
            transport.write(b"!");
            return;
        }
        let later = transport.clone();
        transport.event_loop().call_later(Duration::from_millis(1), move |_| {
            later.write(&vec![b'.'; LEN]);
        });
    });
    let header = ProxyHeader::new().version_1();
    let transport =
        event_loop.connect(story.clone(), Target::address(address(&server)).layer(header));
    let writing = transport.clone();
    run_until(&event_loop, move || writing.write_buffer_size() > 0);
    let waiting = transport.write_buffer_size();
    assert!(transport.reconnect_with(None, Restart::Connect, Unsent::Keep));
    let got = Rc::clone(&bytes);
    run_until(&event_loop, move || got.borrow().last() == Some(&b'!'));
    let bytes = bytes.borrow();
    let head = bytes.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    assert!(bytes.starts_with(b"PROXY TCP4 127.0.0.1 "), "{:?}", bytes.get(..20));
    assert_eq!(bytes.len() - head, waiting + 1);
    transport.close();
    run_to_end(&event_loop, &transport);
}

#[test]
fn of_two_layers_of_a_name_the_one_meant_is_taken_out() {
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                let transport = transport.clone();
                transport.event_loop().clone().spawn(async move {
                    let ids = || -> Vec<LayerId> {
                        transport.layer_ids().into_iter().map(|(id, _)| id).collect()
                    };
                    let pop = |which: Which<'static>| {
                        transport.pop_layer(which, SECOND, Late::Close).expect("it is there")
                    };
                    let lower = ids()[0];
                    let upper = transport.push_layer(passive()).expect("it stands");
                    transport.event_loop().sleep(Duration::from_millis(1)).await;
                    assert_eq!(ids(), [lower, upper]);
                    assert_eq!(pop(lower.into()).await, Ok(How::Closed));
                    assert_eq!(ids(), [upper]);
                    // A name means the topmost that has it.
                    let third = transport.push_layer(passive()).expect("it stands");
                    assert_eq!(pop("rate".into()).await, Ok(How::Closed));
                    assert_eq!(ids(), [upper]);
                    // What was pushed just now is the topmost.
                    transport.push_layer(passive()).expect("it stands");
                    assert_eq!(pop(Which::Top).await, Ok(How::Closed));
                    assert_eq!(ids(), [upper]);
                    let gone = transport.pop_layer(third, SECOND, Late::Close).map(drop);
                    assert_eq!(gone.expect_err("gone").kind(), ErrorKind::NoSuchLayer);
                    transport.write(b"done");
                    transport.close();
                });
            }
            None
        };
        let quiet = |_: &Transport, _: &Call<'_>| None;
        let stack = Stack::new().with(passive());
        let (client, server) =
            Pair::connect(event_loop, (stack, up), (Stack::new(), quiet)).run(event_loop);
        assert_eq!(server.bytes, b"done", "{:?}", client.events);
        assert!(client.closed.expect("ended").is_clean());
    });
}
