//! How bytes flow through stacks: order, counts, pauses, marks, rates.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use layered::{Call, Pair, echo, everywhere, pattern, quiet, tls_pair};
use tepal::{CloseKind, Detect, Idle, Info, LengthPrefixed, Lines, RateLimit, Stack, Transport};

fn after(transport: &Transport, span: Duration, act: impl FnOnce(&Transport) + 'static) {
    let transport = transport.clone();
    transport.event_loop().clone().call_later(span, move |_| act(&transport));
}

const TICK: Duration = Duration::from_millis(20);

// S51: also for lines that stand in the layer already.
#[test]
fn a_pause_holds_back_what_the_layers_have_ready() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let writes = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                for line in ["one", "two", "three", "four"] {
                    transport.write(line.as_bytes());
                }
                transport.close();
            }
            None
        };
        let times = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&times);
        let pauses = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(_) = call {
                noted.borrow_mut().push(transport.event_loop().time());
                transport.pause_reading();
                after(transport, TICK, Transport::resume_reading);
            }
            None
        };
        let stack = |tls: &tepal::Tls| Stack::new().with(tls.clone()).with(Lines::new(64));
        let pair = Pair::connect(event_loop, (stack(&client), writes), (stack(&server), pauses));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.frames, [&b"one"[..], b"two", b"three", b"four"]);
        let times = times.borrow();
        assert!(times.windows(2).all(|two| two[1].since(two[0]) >= TICK), "{times:?}");
        assert_eq!(server.events.last().map(String::as_str), Some("lost"));
        assert!(server.closed.expect("ended").is_clean());
    });
}

// S52, S53: bytes in all layers count, and zero is told once.
#[test]
fn the_marks_count_the_bytes_of_every_layer_and_io_out_comes_when_all_have_left() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        const LEN: usize = 12_000_000;
        let writes = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.set_write_buffer_limits(1000, 5000).expect("in order");
                    // The last bytes of the handshake may still be there, and count.
                    assert_eq!(transport.write(&[1; 4000]), tepal::Crossing::None);
                    assert_eq!(transport.write(&[1; 1001]), tepal::Crossing::High);
                    // More than the kernel and the links hold, and the peer does not read yet.
                    transport.write(&[1; LEN - 5001]);
                }
                Call::Resume => assert!(transport.write_buffer_size() <= 1000),
                Call::Out => {
                    assert_eq!(transport.write_buffer_size(), 0);
                    transport.close();
                }
                _ => {}
            }
            None
        };
        let late = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.pause_reading();
                after(transport, TICK, Transport::resume_reading);
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, writes), (stacks.1, late));
        let (client, server) = pair.run(event_loop);
        assert_eq!(server.bytes.len(), LEN);
        let told: Vec<&str> = client.events.iter().map(String::as_str).collect();
        assert_eq!(told[2..6], ["established", "pause", "resume", "out"], "{told:?}");
    });
}

// S54.
#[test]
fn a_long_stream_in_blocks_needs_no_more_memory_than_the_mark_and_a_block() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        const BLOCK: usize = 16 * 1024;
        const BLOCKS: usize = 300;
        struct Sending {
            left: Cell<usize>,
            most: Cell<usize>,
        }
        impl Sending {
            fn pump(&self, transport: &Transport) {
                while self.left.get() > 0 {
                    self.left.set(self.left.get() - 1);
                    let crossing = transport.write(&[7; BLOCK]);
                    self.most.set(self.most.get().max(transport.write_buffer_size()));
                    if crossing == tepal::Crossing::High {
                        return;
                    }
                }
                transport.close();
            }
        }
        let sending = Rc::new(Sending { left: Cell::new(BLOCKS), most: Cell::new(0) });
        let state = Rc::clone(&sending);
        let sends = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established | Call::Resume = call {
                state.pump(transport);
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, sends), (stacks.1, quiet));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.bytes.len(), BLOCK * BLOCKS);
        let (_, high) = (16 * 1024, 64 * 1024);
        assert!(sending.most.get() <= high + BLOCK, "{} bytes", sending.most.get());
    });
}

// S71, S74, S77: one message per call, and no buffer of the protocol's own.
#[test]
fn counts_over_tls_offer_the_rest_at_once_and_wait_after_a_zero() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let writes = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(b"\x03abc\x01d\x05ef");
                after(transport, TICK, |transport| {
                    transport.write(b"ghi\x00\x02");
                    after(transport, TICK, |transport| {
                        transport.write(b"jk");
                        transport.close();
                    });
                });
            }
            None
        };
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let reads = move |_: &Transport, call: &Call<'_>| {
            let Call::Data(data) = call else { return None };
            counted.set(counted.get() + 1);
            let len = 1 + usize::from(data[0]);
            Some(if data.len() < len { 0 } else { len })
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, writes), (stacks.1, reads));
        let (_, server) = pair.run(event_loop);
        let messages: Vec<&[u8]> = server
            .frames
            .iter()
            .map(|frame| &frame[..])
            .filter(|frame| !frame.is_empty())
            .collect();
        assert_eq!(messages, [&b"\x03abc"[..], b"\x01d", b"\x05efghi", b"\x00", b"\x02jk"]);
        // Five messages, and two looks at what was not whole yet.
        assert_eq!(calls.get(), 7);
    });
}

#[test]
fn a_low_mark_lets_a_large_message_through_tls_in_one_look() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        const LEN: usize = 3_000_000;
        let writes = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(&[9; LEN]);
                transport.write(b"end");
                transport.close();
            }
            None
        };
        let reads = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Made => {
                    transport.set_read_limit(LEN);
                    transport.set_read_low(LEN).expect("within the limit");
                }
                Call::Data(data) if data.len() >= LEN => return Some(LEN),
                _ => {}
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, writes), (stacks.1, reads));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.frames.iter().map(Vec::len).collect::<Vec<_>>(), [LEN, 3]);
    });
}

// Linear: a frame of 16 MiB in small pieces is looked at once.
#[test]
fn a_frame_of_sixteen_mebibytes_arrives_whole() {
    everywhere(|event_loop| {
        const LEN: usize = 16 << 20;
        let stack = || Stack::new().with(LengthPrefixed::new(LEN));
        let writes = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(&[5; LEN]);
                transport.close();
            }
            None
        };
        let pair = Pair::connect(event_loop, (stack(), writes), (stack(), quiet));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.frames.iter().map(Vec::len).collect::<Vec<_>>(), [LEN]);
    });
}

// S37.
#[test]
fn a_rate_limit_holds_its_rate_and_buffers_no_more_than_the_marks() {
    everywhere(|event_loop| {
        // Virtual seconds are cheap; real ones are not.
        let seconds = if event_loop.driver_name() == "sim" { 10.0 } else { 0.5 };
        const RATE: u64 = 200_000;
        let len = (RATE as f64 * seconds) as usize;
        let began = Rc::new(Cell::new(None));
        let begin = Rc::clone(&began);
        let mut left = len;
        let writes = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established | Call::Resume = call {
                if begin.get().is_none() {
                    begin.set(Some(transport.event_loop().time()));
                }
                while left > 0 {
                    let now = left.min(5000);
                    left -= now;
                    if transport.write(&pattern(now)) == tepal::Crossing::High {
                        return None;
                    }
                }
                transport.close();
            }
            None
        };
        let ended = Rc::new(Cell::new(None));
        let end = Rc::clone(&ended);
        let reads = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Eof = call {
                end.set(Some(transport.event_loop().time()));
            }
            None
        };
        let limited = Stack::new().with(RateLimit::new().write(RATE).burst(1000));
        let pair = Pair::connect(event_loop, (limited, writes), (Stack::new(), reads));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.bytes.len(), len);
        let took = ended.get().expect("ended").since(began.get().expect("begun")).as_secs_f64();
        let rate = len as f64 / took;
        let within = if event_loop.driver_name() == "sim" { 0.01 } else { 0.05 };
        // On a busy machine it may be slower, never faster.
        assert!(rate <= RATE as f64 * (1.0 + within), "{rate}");
        if event_loop.driver_name() == "sim" {
            assert!(rate >= RATE as f64 * (1.0 - within), "{rate}");
        }
    });
}

// S69.
#[test]
fn quiet_is_told_and_costs_nothing() {
    everywhere(|event_loop| {
        let mut told = 0;
        let keeps_alive = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Idle = call {
                told += 1;
                match told {
                    1 => drop(transport.write(b"still there?")),
                    _ => transport.close(),
                }
            }
            None
        };
        let up = Stack::new().with(Idle::new(TICK));
        let pair = Pair::connect(event_loop, (up, keeps_alive), (Stack::new(), echo));
        let (client, server) = pair.run(event_loop);
        assert_eq!(server.bytes, b"still there?");
        assert_eq!(client.bytes, b"still there?");
        assert_eq!(client.events.iter().filter(|event| *event == "idle").count(), 2);
    });
}

#[test]
fn one_port_serves_tls_and_plain_text() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        for secure in [false, true] {
            let detect = Detect::new()
                .tls("tls", Stack::new().with(server.clone()))
                .otherwise("plain", Stack::new());
            let up = match secure {
                true => Stack::new().with(client.clone()),
                false => Stack::new(),
            };
            let asks = |transport: &Transport, call: &Call<'_>| {
                match call {
                    Call::Established => drop(transport.write(b"hello")),
                    Call::Data(_) => transport.close(),
                    _ => {}
                }
                None
            };
            let pair = Pair::connect(event_loop, (up, asks), (Stack::new().with(detect), echo));
            let (client, server) = pair.run(event_loop);
            assert_eq!((client.bytes, server.bytes), (b"hello".to_vec(), b"hello".to_vec()));
            let chosen = server.infos.iter().find(|(layer, _)| layer == "detect");
            let name = if secure { "tls" } else { "plain" };
            assert_eq!(chosen.map(|(_, info)| info), Some(&Info::Detected(name.into())));
        }
    });
}

/// Answers in plain, pushes a layer and writes through it, all in one callback.
struct Changes;

impl tepal::Protocol for Changes {
    fn data_received(&mut self, transport: &tepal::Transport, data: &[u8]) -> usize {
        // The first read asks for lent memory too; the second takes the short way.
        if data == b"wait" {
            return data.len();
        }
        transport.write(b"plain");
        transport.push_layer(tepal::LengthPrefixed::new(100)).expect("stands");
        transport.write(b"framed");
        let late = transport.clone();
        let lp = transport.event_loop().clone();
        // What has not left by then is lost.
        lp.call_later(std::time::Duration::from_millis(50), move |_| late.abort());
        data.len()
    }
    fn connection_lost(&mut self, transport: &tepal::Transport, _: &tepal::Closed) {
        transport.event_loop().stop();
    }
}

#[test]
fn a_write_behind_a_push_leaves_without_waiting_for_another() {
    common::on_every_driver_and_simulated(|event_loop| {
        let steps = [b"wait".to_vec(), b"go".to_vec()].map(common::script::Step::Write);
        let heard = common::script::serve(event_loop, Changes, steps);
        assert_eq!(heard.bytes, b"plain\x00\x00\x00\x06framed");
    });
}

// Twisted #1780, #11026: a pause before the first byte was forgotten by the layer above.
#[test]
fn a_pause_in_connection_made_holds_back_the_first_bytes_and_not_the_handshake() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let resumed = Rc::new(Cell::new(false));
        let flag = Rc::clone(&resumed);
        let waits = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Made => transport.pause_reading(),
                Call::Established => {
                    let flag = Rc::clone(&flag);
                    after(transport, TICK, move |transport| {
                        flag.set(true);
                        transport.resume_reading();
                    });
                }
                Call::Data(_) | Call::Eof => assert!(flag.get(), "{call:?} while paused"),
                _ => {}
            }
            None
        };
        let writes = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.writelines([&b"first "[..], b"bytes"]);
                transport.close();
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, waits), (stacks.1, writes));
        let (client, _) = pair.run(event_loop);
        assert!(resumed.get());
        assert_eq!(client.bytes, b"first bytes");
        assert_eq!(client.kind(), CloseKind::PeerClosedLayer);
    });
}
