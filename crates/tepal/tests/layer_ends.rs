//! How layered connections end, and that each way is told apart from the others.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::time::Duration;

use layered::{Call, Pair, Plug, Seen, certificate, everywhere, tls_client, tls_pair, tls_server};
use tepal::layers::{CloseMode, ErrorKind, Fault};
use tepal::{CloseKind, EventLoop, Lines, Listen, Stack, Target, Transport};
use tepal_sim::{Config, SimKernel};

/// How many bytes a protocol says it has used.
type Count = fn(&Transport, &[u8]) -> usize;

fn quiet(_: &Transport, _: &Call<'_>) -> Option<usize> {
    None
}

/// Says something once it may, and ends so.
fn says(
    word: &'static [u8],
    end: fn(&Transport),
) -> impl FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static {
    move |transport, call| {
        if let Call::Established = call {
            transport.write(word);
            end(transport);
        }
        None
    }
}

/// A client over `up` that only listens, and a server over `down` that does something.
fn ends(
    event_loop: &EventLoop,
    up: &Stack,
    down: (&Stack, impl FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static),
) -> (Seen, Seen) {
    Pair::connect(event_loop, (up.clone(), quiet), (down.0.clone(), down.1)).run(event_loop)
}

// S44, S78, S80: one client, five peers that go in five ways.
#[test]
fn a_goodbye_a_truncation_a_fin_and_a_reset_are_told_apart() {
    let (client, server) = tls_pair();
    let silent = tls_server().close(CloseMode::None).build().expect("a server");
    let plain = Stack::new();
    let up = Stack::new().with(client);
    let down = Stack::new().with(server);
    let cut = Stack::new().with(silent);
    everywhere(|event_loop| {
        let (goodbye, _) = ends(event_loop, &up, (&down, says(b"bye", Transport::close)));
        assert_eq!(goodbye.kind(), CloseKind::PeerClosedLayer, "{:?}", goodbye.closed);
        assert!(goodbye.events.contains(&"eof".to_owned()));

        let (truncated, server) = ends(event_loop, &up, (&cut, says(b"bye", Transport::close)));
        assert_eq!(truncated.kind(), CloseKind::TlsTruncated);
        assert!(!truncated.events.contains(&"eof".to_owned()), "a cut is never a clean end (L9)");
        assert_eq!(server.kind(), CloseKind::Local, "it did what it was told (S43)");

        let (fin, _) = ends(event_loop, &plain, (&plain, says(b"bye", Transport::close)));
        assert_eq!(fin.kind(), CloseKind::PeerEof);

        for stack in [(&up, &down), (&plain, &plain)] {
            let (reset, _) = ends(event_loop, stack.0, (stack.1, says(b"", Transport::abort)));
            assert_eq!(reset.kind(), CloseKind::Reset, "{:?}", reset.closed);
            let closed = reset.closed.expect("ended");
            assert_eq!(closed.half, Some(tepal::Half::Read));
            assert!(closed.layer_error.is_none() && closed.error.is_some(), "S46: {closed:?}");
        }
        for seen in [&goodbye, &truncated, &fin] {
            assert_eq!(seen.bytes, b"bye", "what came before the end has arrived (L2)");
        }
        assert!(goodbye.closed.expect("ended").is_clean());
        let truncated = truncated.closed.expect("ended");
        assert_eq!((truncated.is_clean(), truncated.layer()), (false, Some("tls")));
        assert!(truncated.error.is_none(), "S46: no error of the kernel's");
    });
}

// S45: the alert is the reason, on the side that was refused.
#[test]
fn a_refused_client_certificate_is_told_as_the_peers_alert() {
    let refusing = tls_server().client_roots(layered::ca()).build().expect("a server");
    let cases =
        [("none", tls_client()), ("another root's", tls_client().certificate(certificate("self")))];
    for (what, client) in cases {
        let up = Stack::new().with(client.build().expect("a client"));
        let down = Stack::new().with(refusing.clone());
        everywhere(|event_loop| {
            // It writes on, as a client of TLS 1.3 may that does not know yet; S45 says that the
            // alert is the reason all the same, and not the broken pipe.
            let busy = |transport: &Transport, call: &Call<'_>| {
                if let Call::Established = call {
                    let writer = transport.clone();
                    let timer =
                        transport.event_loop().timer(Duration::from_micros(50), move |_, timer| {
                            writer.write(&[1; 2000]);
                            if !writer.is_closing() {
                                timer.again();
                            }
                        });
                    timer.start();
                }
                None
            };
            let pair = Pair::connect(event_loop, (up.clone(), busy), (down.clone(), quiet));
            let (client, server) = pair.run(event_loop);
            let closed = client.closed.expect("ended");
            assert_eq!(closed.kind, CloseKind::TlsAlert, "{what}: {closed:?}");
            let error = closed.layer_error.expect("with the alert");
            assert!(
                matches!(error.kind(), ErrorKind::TlsAlert(42..=49 | 116)),
                "{what}: {error:?}"
            );
            assert_eq!(error.fault(), Fault::Remote);
            assert_eq!(server.kind(), CloseKind::HandshakeFailed, "{what}");
            assert_eq!(server.events, ["made", "error_layer", "lost"], "{what}");
        });
    }
}

#[test]
fn a_certificate_of_another_host_fails_the_handshake_before_anything_is_sent() {
    let client = tls_client().server_name("nobody.test").build().expect("a client");
    let (_, server) = tls_pair();
    let (up, down) = (Stack::new().with(client), Stack::new().with(server));
    everywhere(|event_loop| {
        let early = |transport: &Transport, call: &Call<'_>| {
            if let Call::Made = call {
                transport.write(b"secret");
            }
            None
        };
        let pair = Pair::connect(event_loop, (up.clone(), early), (down.clone(), quiet));
        let (client, server) = pair.run(event_loop);
        let closed = client.closed.expect("ended");
        assert_eq!(closed.kind, CloseKind::HandshakeFailed);
        assert_eq!(closed.layer_error.as_ref().map(|e| e.kind()), Some(ErrorKind::TlsCertificate));
        assert!(closed.unsent >= 6, "{closed:?}");
        assert_eq!(client.events, ["made", "error_layer", "lost"]);
        assert_eq!(server.kind(), CloseKind::TlsAlert);
        assert!(server.bytes.is_empty());
    });
}

#[test]
fn a_peer_that_speaks_no_tls_or_hangs_up_in_the_handshake_fails_it() {
    let (client, _) = tls_pair();
    let (up, plain) = (Stack::new().with(client), Stack::new());
    everywhere(|event_loop| {
        let greeting = says(b"220 mail.test ESMTP\r\n", |_| ());
        let (client, _) = ends(event_loop, &up, (&plain, greeting));
        assert_eq!(client.kind(), CloseKind::HandshakeFailed, "{:?}", client.closed);
        let hangs_up = |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(_) = call {
                transport.close();
            }
            None
        };
        let (client, _) = ends(event_loop, &up, (&plain, hangs_up));
        let closed = client.closed.expect("ended");
        assert_eq!(closed.kind, CloseKind::HandshakeFailed);
        assert_eq!(closed.layer_error.map(|e| e.kind()), Some(ErrorKind::EofInHandshake));
    });
}

// S66 for handshakes: a peer that says nothing, without any code of the user's.
#[test]
fn a_silent_peer_ends_the_handshake_in_time_on_either_side() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let limit = Duration::from_millis(40);
        for server_waits in [false, true] {
            let (script, log) = layered::Script::new(|transport: &Transport, call: &Call<'_>| {
                if let Call::Lost(_) = call {
                    transport.event_loop().stop();
                }
                None
            });
            let (other, _) = layered::Script::new(quiet);
            let mut scripts = Some(script);
            let began = event_loop.time();
            let listener;
            if server_waits {
                let listen = Listen::on("127.0.0.1:0").layer(server.clone()).handshaking(limit);
                let factory = move |_: &tepal::Address| scripts.take().expect("one connection");
                listener = event_loop.listen(factory, listen).expect("listens");
                event_loop.connect(other, common::address(&listener));
            } else {
                let mut others = Some(other);
                let factory = move |_: &tepal::Address| others.take().expect("one connection");
                listener = event_loop.listen(factory, "127.0.0.1:0").expect("listens");
                let target = Target::address(common::address(&listener))
                    .layer(client.clone())
                    .handshaking(limit);
                event_loop.connect(scripts.take().expect("one connection"), target);
            }
            common::run(event_loop);
            listener.close();
            listener.abort_connections();
            let closed = log.take().closed.expect("ended");
            assert_eq!(closed.kind, CloseKind::HandshakeTimedOut);
            let took = event_loop.time().since(began);
            assert!(took >= limit && took < limit * 50, "{took:?}");
        }
    });
}

// S42 for a whole close, and uvloop #471: it does not wait on.
#[test]
fn a_close_that_no_peer_answers_ends_by_its_time_out_and_says_so() {
    let kernel = SimKernel::new(Config::seeded(1));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    let (client, server) = tls_pair();
    let (up, down) = (Stack::new().with(client), Stack::new().with(Plug).with(server));
    let began = event_loop.time();
    let closes = |transport: &Transport, call: &Call<'_>| {
        if let Call::Data(b"deaf") = call {
            transport.close();
            assert!(transport.is_closing(), "CPython gh-118950");
        }
        None
    };
    let deaf = |transport: &Transport, call: &Call<'_>| {
        if let Call::Established = call {
            transport.command_layer("plug", ()).expect("it is there");
            transport.write(b"deaf");
            let sleeper = transport.clone();
            transport.event_loop().call_later(Duration::from_secs(9), move |_| sleeper.abort());
        }
        None
    };
    let (client, _) = Pair::connect(&event_loop, (up, closes), (down, deaf)).run(&event_loop);
    assert_eq!(client.kind(), CloseKind::ClosingTimedOut);
    assert!(!client.closed.expect("ended").is_clean());
    let took = event_loop.time().since(began);
    assert!(took >= Duration::from_secs(5), "{took:?}");
}

// S47: on TLS 1.3 one direction ends alone, and the peer hears it as the end of input.
#[test]
fn the_end_of_writing_ends_one_direction_of_tls_only() {
    let (client, server) = tls_pair();
    let (up, down) = (Stack::new().with(client), Stack::new().with(server));
    everywhere(|event_loop| {
        let asks = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(b"question");
                transport.write_eof().expect("TLS 1.3 can");
                transport.write(b"too late");
            }
            None
        };
        let answers = |transport: &Transport, call: &Call<'_>| {
            if let Call::Eof = call {
                transport.write(b"answer");
                transport.close();
                return Some(1);
            }
            None
        };
        let pair = Pair::connect(event_loop, (up.clone(), asks), (down.clone(), answers));
        let (client, server) = pair.run(event_loop);
        assert_eq!(server.bytes, b"question");
        assert_eq!(client.bytes, b"answer");
        assert!(client.closed.expect("ended").is_clean());
        assert!(server.closed.expect("ended").is_clean());
    });
}

// L1: bytes that were accepted and cannot leave are counted, in all layers.
#[test]
fn an_abort_counts_what_every_layer_held() {
    let (client, server) = tls_pair();
    let up = Stack::new().with(client).with(Lines::new(1 << 20));
    let down = Stack::new().with(Plug).with(server).with(Lines::new(1 << 20));
    everywhere(|event_loop| {
        const LEN: usize = 200_000;
        let writes = |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(b"deaf") = call {
                for _ in 0..60 {
                    transport.write(&[b'a'; LEN]);
                }
                assert_eq!(transport.write_buffer_size(), 60 * LEN);
                let transport = transport.clone();
                let limit = Duration::from_millis(50);
                transport.event_loop().clone().call_later(limit, move |_| {
                    assert!(transport.write_buffer_size() > 10 * LEN);
                    transport.abort();
                });
            }
            None
        };
        let deaf = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.command_layer("plug", ()).expect("it is there");
                transport.write(b"deaf");
                let sleeper = transport.clone();
                let limit = Duration::from_millis(100);
                transport.event_loop().call_later(limit, move |_| sleeper.abort());
            }
            None
        };
        let pair = Pair::connect(event_loop, (up.clone(), writes), (down.clone(), deaf));
        let (client, _) = pair.run(event_loop);
        let closed = client.closed.expect("ended");
        assert_eq!(closed.kind, CloseKind::Aborted);
        assert!(closed.unsent > 10 * LEN as u64, "{closed:?}");
    });
}

#[test]
fn a_wrong_count_a_stall_and_a_panic_cost_a_layered_connection_and_nothing_else() {
    let (client, server) = tls_pair();
    let (up, down) = (Stack::new().with(client), Stack::new().with(server));
    everywhere(|event_loop| {
        event_loop.set_panic_hook(|_| std::ops::ControlFlow::Continue(()));
        let cases: [(CloseKind, Count); 3] = [
            (CloseKind::WrongCount, |_, data| data.len() + 1),
            (CloseKind::InputStalled, |transport, _| {
                transport.set_read_limit(3000);
                0
            }),
            (CloseKind::ProtocolFailed, |_, _| std::panic::panic_any("a test's own panic")),
        ];
        for (kind, act) in cases {
            let wrong = move |transport: &Transport, call: &Call<'_>| match call {
                Call::Data(data) => Some(act(transport, data)),
                _ => None,
            };
            let writes = |transport: &Transport, call: &Call<'_>| {
                if let Call::Established = call {
                    for _ in 0..10 {
                        transport.write(&[1; 1000]);
                    }
                }
                None
            };
            let pair = Pair::connect(event_loop, (up.clone(), wrong), (down.clone(), writes));
            let (client, _) = pair.run(event_loop);
            assert_eq!(client.kind(), kind, "{:?}", client.closed);
        }
    });
}
