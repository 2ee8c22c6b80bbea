//! Frames through the loop: each write is one, also an empty one.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use layered::{Call, Log, Pair, Script, everywhere, quiet, tls_pair};
use tepal::layers::Netstrings;
use tepal::{
    Delimiter, Late, LengthPrefixed, Lines, Listen, RateLimit, Stack, Target, Transport, Which,
};

fn stacks() -> Vec<(Stack, Stack)> {
    let same = |stack: Stack| (stack.clone(), stack);
    let (client, server) = tls_pair();
    vec![
        same(Stack::new().with(Lines::new(64))),
        same(Stack::new().with(Delimiter::new(b"\r\n", 64))),
        same(Stack::new().with(LengthPrefixed::new(64))),
        same(Stack::new().with(Netstrings::new(64))),
        // A layer above that keeps no writes apart passes frames on as they are.
        same(Stack::new().with(Lines::new(64)).with(RateLimit::new().write(1 << 30))),
        (
            Stack::new().with(client).with(Lines::new(64)),
            Stack::new().with(server).with(Lines::new(64)),
        ),
    ]
}

fn write_with_gaps(transport: &Transport, call: &Call<'_>) -> Option<usize> {
    match call {
        // Before there is a connection, let alone a layer.
        Call::Made => {
            transport.write(b"");
            transport.write(b"a");
        }
        Call::Established => {
            transport.write(b"");
            transport.write_segment(Vec::new());
            transport.writelines([&b"b"[..], b"", b"c"]);
            transport.write(b"");
            transport.close();
        }
        _ => {}
    }
    None
}

const WITH_GAPS: [&[u8]; 8] = [b"", b"a", b"", b"", b"b", b"", b"c", b""];

#[test]
fn an_empty_write_is_an_empty_frame_where_a_layer_makes_frames() {
    everywhere(|event_loop| {
        for (up, down) in stacks() {
            let pair = Pair::connect(event_loop, (up.clone(), write_with_gaps), (down, quiet));
            let (_, server) = pair.run(event_loop);
            assert_eq!(server.frames, WITH_GAPS, "over {up:?}");
            assert!(server.closed.expect("ended").is_clean());
        }
    });
}

#[test]
fn an_empty_write_alone_leaves_at_the_end_of_its_turn() {
    everywhere(|event_loop| {
        let writes = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.write(b"");
                }
                Call::Data(line) => {
                    assert_eq!(line, b"heard");
                    transport.close();
                }
                _ => {}
            }
            None
        };
        let answers = |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(line) = call {
                assert_eq!(line, b"");
                transport.write(b"heard");
            }
            None
        };
        let stack = Stack::new().with(Lines::new(64));
        let pair = Pair::connect(event_loop, (stack.clone(), writes), (stack, answers));
        let (client, _) = pair.run(event_loop);
        assert_eq!(client.frames, [b"heard"]);
    });
}

#[test]
fn an_empty_write_is_nothing_where_no_layer_makes_frames() {
    everywhere(|event_loop| {
        let (client, server) = tls_pair();
        let stacks =
            [(Stack::new(), Stack::new()), (Stack::new().with(client), Stack::new().with(server))];
        for (up, down) in stacks {
            let pair = Pair::connect(event_loop, (up, write_with_gaps), (down, quiet));
            let (_, server) = pair.run(event_loop);
            assert_eq!(server.bytes, b"abc");
            assert!(server.frames.iter().all(|data| !data.is_empty()));
        }
    });
}

#[test]
fn an_empty_write_behind_a_push_is_a_frame_of_the_new_layer_and_behind_its_pop_nothing() {
    everywhere(|event_loop| {
        let writes = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.write(b"");
                    transport.push_layer(Netstrings::new(64)).expect("can be pushed");
                    transport.write(b"");
                    drop(
                        transport
                            .pop_layer(Which::Top, Duration::from_secs(5), Late::Close)
                            .expect("can be popped"),
                    );
                    transport.write(b"");
                }
                Call::Removed("netstrings", _) => {
                    transport.write(b"");
                    transport.write(b"plain");
                    transport.close();
                }
                _ => {}
            }
            None
        };
        let pair = Pair::connect(event_loop, (Stack::new(), writes), (Stack::new(), quiet));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.bytes, b"0:,plain");
    });
}

// The first connection that comes is joined to the second.
fn join_two(event_loop: &tepal::EventLoop, stack: Stack) -> tepal::Server {
    let first: Rc<RefCell<Option<Transport>>> = Rc::default();
    let joins = move |transport: &Transport, call: &Call<'_>| {
        if let Call::Established = call {
            let Some(other) = first.borrow_mut().take() else {
                *first.borrow_mut() = Some(transport.clone());
                return None;
            };
            // What ends it is the business of both ends.
            drop(other.join(transport).expect("both are established"));
        }
        // None of it: it is for the other side.
        matches!(call, Call::Data(_)).then_some(0)
    };
    let joins = Rc::new(RefCell::new(joins));
    let factory = move |_: &tepal::Address| {
        let joins = Rc::clone(&joins);
        Script::with_log(&Log::default(), move |transport: &Transport, call: &Call<'_>| {
            (joins.borrow_mut())(transport, call)
        })
    };
    let listen = Listen::on("127.0.0.1:0").stack(stack);
    event_loop.listen(factory, listen).expect("listens")
}

#[test]
fn joined_streams_pass_empty_frames_on() {
    everywhere(|event_loop| {
        let lines = || Stack::new().with(Lines::new(64));
        let server = join_two(event_loop, lines());
        let address = common::address(&server);
        let left = Rc::new(Cell::new(2));
        let end = move |transport: &Transport| {
            left.set(left.get() - 1);
            if left.get() == 0 {
                transport.event_loop().stop();
            }
        };
        let ends = end.clone();
        let (reads, log) = Script::new(move |transport: &Transport, call: &Call<'_>| {
            if let Call::Lost(_) = call {
                ends(transport);
            }
            None
        });
        event_loop.connect(reads, Target::address(address).stack(lines()));
        let (writes, _) = Script::new(move |transport: &Transport, call: &Call<'_>| {
            if let Call::Lost(_) = call {
                end(transport);
            }
            write_with_gaps(transport, call)
        });
        event_loop.connect(writes, Target::address(address).stack(lines()));
        common::run(event_loop);
        server.close();
        assert_eq!(log.borrow().frames, WITH_GAPS);
    });
}
