//! How bytes flow through stacks: order, counts, pauses, marks, rates, joins.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::{address, run};
use layered::{Call, Pair, Script, everywhere, tls_client, tls_pair};
use tepal::layers::{Host, ProxyAnswer, SocksReply};
use tepal::{
    CloseKind, Detect, EventLoop, HttpConnect, HttpConnectServer, Idle, Info, LengthPrefixed,
    Lines, Listen, RateLimit, Socks5, SocksServer, Stack, Target, Transport,
};

fn quiet(_: &Transport, _: &Call<'_>) -> Option<usize> {
    None
}

fn echo(transport: &Transport, call: &Call<'_>) -> Option<usize> {
    if let Call::Data(data) = call {
        transport.write(data);
    }
    None
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn after(transport: &Transport, span: Duration, act: impl FnOnce(&Transport) + 'static) {
    let transport = transport.clone();
    transport.event_loop().clone().call_later(span, move |_| act(&transport));
}

const TICK: Duration = Duration::from_millis(20);

/// A proxy on this loop: connects where a client wants to go, answers, and joins the two. Stops
/// nothing.
fn proxy(event_loop: &EventLoop, stack: Stack) -> tepal::Server {
    let factory = |_: &tepal::Address| {
        let back: Rc<RefCell<Option<Transport>>> = Rc::default();
        let (front, _) = Script::new(move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Request(layer, request) => {
                    let Host::Ip(ip) = request.host else {
                        let refusal = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
                        transport.answer_proxy(layer, refusal).expect("it waits");
                        return None;
                    };
                    let (front, layer) = (transport.clone(), (*layer).to_owned());
                    let (script, _) = Script::new(move |back: &Transport, call: &Call<'_>| {
                        match call {
                            Call::Established => {
                                let local = back.local_address().expect("a socket");
                                let local = local.as_ip().expect("an IP address");
                                let answer = ProxyAnswer::Accept(local.ip(), local.port());
                                front.answer_proxy(&layer, answer).expect("it waits");
                            }
                            Call::Data(_) => return Some(0),
                            Call::Eof => return Some(1),
                            _ => {}
                        }
                        None
                    });
                    let target = Target::address((ip, request.port).into());
                    *back.borrow_mut() = Some(transport.event_loop().connect(script, target));
                }
                Call::Established => {
                    let back = back.borrow().clone().expect("it is answered then");
                    drop(transport.join(&back).expect("both stand"));
                }
                _ => {}
            }
            None
        });
        front
    };
    event_loop.listen(factory, Listen::on("127.0.0.1:0").stack(stack)).expect("listens")
}

// S36: TLS behind a SOCKS proxy, and inside the TLS of an https proxy.
#[test]
fn tls_passes_through_a_socks_proxy_and_through_the_tls_of_an_https_proxy() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let message = pattern(300_000);
        for https in [false, true] {
            let secret: fn(&str, &str) -> bool = |name, word| (name, word) == ("me", "secret");
            let stack = match https {
                false => Stack::new().with(SocksServer::new().auth(secret)),
                true => {
                    let connect = HttpConnectServer::new().auth(secret);
                    Stack::new().with(server.clone()).with(connect)
                }
            };
            let proxy = proxy(event_loop, stack);
            let far = Listen::on("127.0.0.1:0").layer(server.clone());
            let far = event_loop.listen(|_: &tepal::Address| Script::new(echo).0, far).expect("ok");
            let (host, port) = (address(&far).ip().to_string(), address(&far).port());
            // The host that TLS verifies is the target below it: the certificate is good for it.
            let inner = tls_client().server_name("server.test").build().expect("a client");
            let up = match https {
                false => Stack::new().with(
                    Socks5::new(&host, port)
                        .and_then(|s| s.credentials("me", "secret"))
                        .expect("ok"),
                ),
                true => Stack::new().with(client.clone()).with(
                    HttpConnect::new(&host, port)
                        .and_then(|http| http.credentials("me", "secret"))
                        .expect("ok"),
                ),
            };
            let (sent, expected, mut got) = (message.clone(), message.len(), 0);
            let (script, log) = Script::new(move |transport: &Transport, call: &Call<'_>| {
                match call {
                    Call::Made => {
                        transport.write(&sent);
                    }
                    Call::Data(data) => {
                        got += data.len();
                        if got == expected {
                            transport.close();
                        }
                    }
                    Call::Lost(_) => transport.event_loop().stop(),
                    _ => {}
                }
                None
            });
            let target = Target::address(address(&proxy)).stack(up.with(inner));
            let transport = event_loop.connect(script, target);
            run(event_loop);
            let seen = log.take();
            assert!(seen.bytes == message, "https: {https} {:?}", seen.closed);
            assert!(seen.closed.as_ref().expect("ended").is_clean(), "{:?}", seen.closed);
            let events: Vec<&str> = seen.events.iter().map(String::as_str).collect();
            if !https {
                assert_eq!(events[..3], ["made", "pause", "ready socks5"]);
                assert!(matches!(seen.infos[0].1, Info::Bound(Host::Ip(_), 1..)));
            }
            drop(transport);
            proxy.close();
            far.close();
        }
    });
}

#[test]
fn a_proxys_refusal_fails_the_handshake_with_its_own_reason() {
    everywhere(|event_loop| {
        let proxy = proxy(event_loop, Stack::new().with(SocksServer::new()));
        let (script, log) = Script::new(|transport: &Transport, call: &Call<'_>| {
            if let Call::Lost(_) = call {
                transport.event_loop().stop();
            }
            None
        });
        let socks = Socks5::new("unknown.test", 80).expect("a host");
        event_loop.connect(script, Target::address(address(&proxy)).layer(socks));
        run(event_loop);
        proxy.close();
        let closed = log.take().closed.expect("ended");
        assert_eq!((closed.kind, closed.layer()), (CloseKind::HandshakeFailed, Some("socks5")));
        let kind = closed.layer_error.expect("its reason").kind();
        assert_eq!(kind, tepal::layers::ErrorKind::Socks5(SocksReply::HostUnreachable));
    });
}

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

#[test]
fn a_join_of_a_tls_side_and_a_plain_side_relays_all_and_both_ends() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let far = event_loop
            .listen(
                |_: &tepal::Address| {
                    Script::new(|t: &Transport, c: &Call<'_>| {
                        match c {
                            Call::Data(data) => drop(t.write(data)),
                            Call::Eof => {
                                t.write(b"|end");
                                t.close();
                                return Some(1);
                            }
                            _ => {}
                        }
                        None
                    })
                    .0
                },
                "127.0.0.1:0",
            )
            .expect("listens");
        let to = address(&far);
        let counts = Rc::new(RefCell::new(None));
        let told = Rc::clone(&counts);
        // Terminates TLS and relays to the plain side.
        let relays = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                // What comes before the two are joined waits.
                transport.pause_reading();
                let (front, told) = (transport.clone(), Rc::clone(&told));
                let (script, _) = Script::new(move |back: &Transport, call: &Call<'_>| {
                    if let Call::Established = call {
                        let joined = front.join(back).expect("both stand");
                        let told = Rc::clone(&told);
                        back.event_loop().spawn(async move {
                            *told.borrow_mut() = Some(joined.await.expect("orderly ends"));
                        });
                    }
                    None
                });
                transport.event_loop().connect(script, Target::address(to));
            }
            None
        };
        let message = pattern(2_000_000);
        let sent = message.clone();
        let asks = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(&sent);
                transport.write_eof().expect("TLS 1.3 can");
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, asks), (stacks.1, relays));
        let (client, _) = pair.run(event_loop);
        far.close();
        assert_eq!(client.bytes.len(), message.len() + 4);
        assert!(client.bytes == [&message[..], b"|end"].concat());
        assert!(client.closed.as_ref().expect("ended").is_clean(), "{:?}", client.closed);
        let len = message.len() as u64;
        assert_eq!(*counts.borrow(), Some((len, len + 4)));
    });
}

#[test]
fn a_file_goes_through_tls_between_the_writes_around_it_and_not_through_frames() {
    let (client, server) = tls_pair();
    let path = std::env::temp_dir().join(format!("tepal-tls-file-{}", std::process::id()));
    let content = pattern(3_000_000);
    std::fs::write(&path, &content).expect("writes the file");
    common::on_every_driver(|event_loop| {
        let counts = Rc::new(RefCell::new(Vec::new()));
        for framed in [false, true] {
            let (place, told) = (path.clone(), Rc::clone(&counts));
            let sends = move |transport: &Transport, call: &Call<'_>| {
                if let Call::Established = call {
                    transport.write(b"before|");
                    let file = || std::fs::File::open(&place).expect("opens");
                    let sent = transport.send_file(file(), 1000, 2_000_000).expect("open");
                    transport.write(b"|between|");
                    let short = transport.send_file(file(), 2_999_990, 1000).expect("open");
                    transport.write(b"|after");
                    transport.close();
                    let told = Rc::clone(&told);
                    transport.event_loop().spawn(async move {
                        let kinds =
                            [sent.await, short.await].map(|sent| sent.map_err(|e| e.kind()));
                        told.borrow_mut().push(kinds);
                    });
                }
                None
            };
            let stack = |tls: &tepal::Tls| match framed {
                false => Stack::new().with(tls.clone()),
                true => Stack::new().with(tls.clone()).with(Lines::new(1000)),
            };
            let pair = Pair::connect(event_loop, (stack(&client), sends), (stack(&server), quiet));
            let (_, server) = pair.run(event_loop);
            let expected = match framed {
                true => b"before||between||after".to_vec(),
                false => [
                    b"before|",
                    &content[1000..2_001_000],
                    b"|between|",
                    &content[2_999_990..],
                    b"|after",
                ]
                .concat(),
            };
            assert!(server.bytes == expected, "{} bytes", server.bytes.len());
        }
        let refused = Err(std::io::ErrorKind::Unsupported);
        assert_eq!(*counts.borrow(), [[Ok(2_000_000), Ok(10)], [refused, refused]]);
    });
    std::fs::remove_file(&path).expect("removes the file");
}

// One connection at full speed does not hold up another (L6).
#[test]
fn a_firehose_through_tls_leaves_others_their_turn() {
    let (client, server) = tls_pair();
    let stacks = (Stack::new().with(client), Stack::new().with(server));
    everywhere(|event_loop| {
        let floods = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established | Call::Resume = call
                && !transport.is_closing()
            {
                while transport.write(&[1; 60_000]) == tepal::Crossing::None {}
            }
            None
        };
        let pinged = Rc::new(Cell::new(0));
        let count = Rc::clone(&pinged);
        let pings = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => drop(transport.write(b"ping")),
                Call::Data(_) => {
                    count.set(count.get() + 1);
                    match count.get() {
                        50 => transport.close(),
                        _ => drop(transport.write(b"ping")),
                    }
                }
                Call::Lost(_) => transport.event_loop().stop(),
                _ => {}
            }
            None
        };
        let hose = Pair::connect(event_loop, (stacks.0.clone(), floods), (stacks.1.clone(), quiet));
        let listen = Listen::on("127.0.0.1:0").stack(stacks.1.clone());
        let listener = event_loop.listen(|_: &tepal::Address| Script::new(echo).0, listen);
        let listener = listener.expect("listens");
        let (script, log) = Script::new(pings);
        event_loop.connect(script, Target::address(address(&listener)).stack(stacks.0.clone()));
        run(event_loop);
        assert_eq!(pinged.get(), 50);
        assert!(hose.server.borrow().bytes.len() > 1_000_000, "the hose ran meanwhile");
        assert!(log.borrow().closed.as_ref().expect("ended").is_clean());
        hose.listener.abort_connections();
        hose.listener.close();
        listener.close();
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
