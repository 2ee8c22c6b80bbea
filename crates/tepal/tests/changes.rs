//! Layers put in and taken out while the connection runs.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use layered::{Call, Pair, Plug, everywhere, tls_client, tls_pair, tls_server};
use tepal::layers::{ErrorKind, PeerClose};
use tepal::{
    CloseKind, Late, LayerSpec, LengthPrefixed, Lines, ProxyHeader, RateLimit, Residual, Stack,
    Tls, Transport,
};

const SECOND: Duration = Duration::from_secs(1);

fn shared(spec: impl LayerSpec + 'static) -> Arc<dyn LayerSpec> {
    Arc::new(spec)
}

/// Takes whole lines out of what was received, without a buffer of its own (S77).
fn first_line(data: &[u8]) -> Option<(&[u8], usize)> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    Some((&data[..end], end + 1))
}

// S39 for the beginning: plaintext, then TLS, on one TCP connection, no byte lost on either side.
#[test]
fn starttls_protects_what_comes_after_it_on_both_sides() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let tls = shared(client.clone());
        let mut secure = false;
        let up = move |transport: &Transport, call: &Call<'_>| match call {
            Call::Established => {
                transport.write(b"STARTTLS\n");
                None
            }
            Call::Data(b"220 ready\n") => {
                transport.push_layer_with(&tls, None, Residual::Reject).expect("it stands");
                assert_eq!(transport.layers(), ["tls"]);
                // Written at once; it leaves inside.
                transport.write(b"EHLO again\n");
                None
            }
            Call::Ready("tls", _) => {
                secure = true;
                None
            }
            Call::Data(data) => {
                assert!(secure, "only TLS brings {data:?}");
                assert_eq!(*data, b"250 EHLO again\n");
                transport.close();
                None
            }
            _ => None,
        };
        let tls = shared(server.clone());
        let down = move |transport: &Transport, call: &Call<'_>| {
            let Call::Data(data) = call else { return None };
            let (line, used) = first_line(data)?;
            if line == b"STARTTLS" {
                transport.write(b"220 ready\n");
                transport.push_layer_with(&tls, None, Residual::Reject).expect("it stands");
            } else {
                transport.write(&[b"250 ", line, b"\n"].concat());
            }
            Some(used)
        };
        let (client, server) =
            Pair::connect(event_loop, (Stack::new(), up), (Stack::new(), down)).run(event_loop);
        assert_eq!(client.bytes, b"220 ready\n250 EHLO again\n");
        assert_eq!(server.bytes, b"STARTTLS\nEHLO again\n");
        for events in [&client.events, &server.events] {
            let layer = events.iter().filter(|event| event.ends_with(" tls"));
            assert_eq!(layer.collect::<Vec<_>>(), ["added tls", "ready tls"], "{events:?}");
            assert_eq!(events.iter().filter(|event| *event == "established").count(), 1);
        }
        assert_eq!(client.kind(), CloseKind::Local);
        assert_eq!(server.kind(), CloseKind::PeerClosedLayer);
    });
}

#[test]
fn a_command_glued_behind_starttls_ends_the_connection_and_is_never_taken_for_a_protected_one() {
    let (_, server) = tls_pair();
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(b"STARTTLS\nEVIL\n");
            }
            None
        };
        let tls = shared(server.clone());
        let down = move |transport: &Transport, call: &Call<'_>| {
            let Call::Data(data) = call else { return None };
            let (line, used) = first_line(data)?;
            assert_eq!(line, b"STARTTLS", "the injected command is never offered");
            transport.push_layer_with(&tls, None, Residual::Reject).expect("it stands");
            Some(used)
        };
        let (_, server) =
            Pair::connect(event_loop, (Stack::new(), up), (Stack::new(), down)).run(event_loop);
        assert_eq!(server.kind(), CloseKind::ResidualRejected);
        let error = server.closed.expect("ended").layer_error.expect("with its reason");
        assert_eq!(error.kind(), ErrorKind::ResidualRejected);
    });
}

// CPython gh-142352, uvloop #707: the ClientHello behind the header was lost.
#[test]
fn a_proxy_header_and_the_client_hello_in_one_segment_lose_no_byte() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let source = "192.0.2.7:40000".parse().expect("an address");
        let destination = "192.0.2.1:443".parse().expect("an address");
        let header = ProxyHeader::new().addresses(source, destination);
        let accept = ProxyHeader::new().trust("127.0.0.0/8").expect("a network");
        // As layers of the beginning, and as one pushed by hand with its residual fed.
        for by_hand in [false, true] {
            let up_stack = Stack::new().with(header.clone()).with(client.clone());
            let up = |transport: &Transport, call: &Call<'_>| {
                match call {
                    Call::Made => {
                        transport.write(b"hello");
                    }
                    Call::Data(b"hello") => transport.close(),
                    _ => {}
                }
                None
            };
            let down_stack = match by_hand {
                false => Stack::new().with(accept.clone()).with(server.clone()),
                true => Stack::new(),
            };
            let (accept, tls) = (shared(accept.clone()), shared(server.clone()));
            let down = move |transport: &Transport, call: &Call<'_>| {
                let Call::Data(data) = call else { return None };
                if transport.layers().is_empty() && by_hand {
                    // Nothing of it is used: all of it is the new layers' input.
                    transport.push_layer_with(&accept, None, Residual::Feed).expect("stands");
                    transport.push_layer_with(&tls, None, Residual::Feed).expect("stands");
                    return Some(0);
                }
                transport.write(data);
                None
            };
            let pair = Pair::connect(event_loop, (up_stack, up), (down_stack, down));
            let (client, server) = pair.run(event_loop);
            assert_eq!(server.bytes, b"hello", "by hand: {by_hand} {:?}", server.closed);
            assert_eq!(client.bytes, b"hello");
            let proxy = server.infos.iter().find(|(layer, _)| layer == "proxy").map(|(_, i)| i);
            let Some(tepal::Info::Proxy(info)) = proxy else { panic!("{:?}", server.infos) };
            assert_eq!(info.addresses, Some((source, destination)));
        }
    });
}

// S39, S40, S41.
#[test]
fn tls_ends_and_tcp_goes_on_in_plain_text_and_then_in_a_second_session_that_resumes() {
    everywhere(|event_loop| {
        // The same values for both sessions: a spec holds the tickets.
        let client = shared(tls_client().build().expect("a client"));
        let server = shared(tls_server().peer_close(PeerClose::Pop).build().expect("a server"));
        let (first, again) = (Arc::clone(&client), Arc::clone(&client));
        let up = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.write(b"one\n");
                }
                Call::Data(b"1 one\n") => {
                    let popped = transport.pop_layer(None, SECOND, Late::Close).expect("tls");
                    transport.write(b"two\n");
                    let waiting = transport.clone();
                    transport.event_loop().spawn(async move {
                        popped.await.expect("the peer answers");
                        assert!(waiting.layers().is_empty());
                    });
                }
                Call::Data(b"0 two\n") => {
                    transport.write(b"again\n");
                }
                Call::Data(b"0 go\n") => {
                    transport.push_layer_with(&again, None, Residual::Reject).expect("stands");
                    transport.write(b"three\n");
                }
                Call::Data(b"1 three\n") => transport.close(),
                _ => {}
            }
            None
        };
        let (then, tls) = (Arc::clone(&server), Arc::clone(&server));
        let down = move |transport: &Transport, call: &Call<'_>| {
            let Call::Data(data) = call else { return None };
            let (line, used) = first_line(data)?;
            let layers = transport.layers().len().to_string();
            let answer = if line == b"again" { b"go" } else { line };
            transport.write(&[layers.as_bytes(), b" ", answer, b"\n"].concat());
            if line == b"again" {
                transport.push_layer_with(&then, None, Residual::Reject).expect("stands");
            }
            Some(used)
        };
        let stack = |spec| Stack::new().with_shared(spec);
        let pair = Pair::connect(event_loop, (stack(first), up), (stack(tls), down));
        let (client, server) = pair.run(event_loop);
        assert_eq!(server.bytes, b"one\ntwo\nagain\nthree\n", "{:?}", client.events);
        assert_eq!(client.bytes, b"1 one\n0 two\n0 go\n1 three\n");
        assert!(client.events.contains(&"removed tls Closed".to_owned()), "{:?}", client.events);
        assert!(server.events.contains(&"removed tls ByPeer".to_owned()), "{:?}", server.events);
        let resumed = |seen: &layered::Seen| -> Vec<bool> {
            seen.all_tls().iter().map(|info| info.resumed).collect()
        };
        assert_eq!(resumed(&client), [false, true]);
        assert_eq!(resumed(&server), [false, true]);
    });
}

// The side that is closed upon has asked for nothing: by default it is the end of its input.
#[test]
fn a_peers_goodbye_is_the_end_of_input_unless_it_was_told_to_take_the_layer_out() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let up = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(b"bye");
                let popped = transport.pop_layer(None, SECOND, Late::Close).expect("tls");
                let transport = transport.clone();
                transport.event_loop().clone().spawn(async move {
                    popped.await.expect("the peer closes too");
                    transport.close();
                });
            }
            None
        };
        let quiet = |_: &Transport, _: &Call<'_>| None;
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let (client, server) =
            Pair::connect(event_loop, (stacks.0, up), (stacks.1, quiet)).run(event_loop);
        assert_eq!(server.bytes, b"bye");
        assert_eq!(server.events.iter().filter(|event| *event == "eof").count(), 1);
        assert_eq!(server.kind(), CloseKind::PeerClosedLayer);
        assert!(client.closed.expect("ended").is_clean());
    });
}

// S42, both policies.
#[test]
fn a_peer_that_never_says_goodbye_costs_the_layer_or_the_connection_as_asked_and_in_time() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        for late in [Late::Close, Late::Keep] {
            let outcome = Rc::new(RefCell::new(None));
            let told = Rc::clone(&outcome);
            let up = move |transport: &Transport, call: &Call<'_>| {
                if let Call::Data(b"deaf") = call {
                    let limit = Duration::from_millis(30);
                    let popped = transport.pop_layer(Some("tls"), limit, late).expect("tls");
                    let (transport, told) = (transport.clone(), Rc::clone(&told));
                    transport.event_loop().clone().spawn(async move {
                        *told.borrow_mut() = Some(popped.await);
                        assert_eq!(transport.is_closing(), late == Late::Close);
                        transport.write(b"plain");
                        transport.close();
                    });
                }
                None
            };
            // It has the goodbye and does not look at it.
            let deaf = |transport: &Transport, call: &Call<'_>| {
                if let Call::Established = call {
                    transport.command_layer("plug", ()).expect("it is there");
                    transport.write(b"deaf");
                    let sleeper = transport.clone();
                    let limit = Duration::from_millis(200);
                    transport.event_loop().call_later(limit, move |_| sleeper.abort());
                }
                None
            };
            let plugged = Stack::new().with(Plug).with(server.clone());
            let stacks = (Stack::new().with(client.clone()), plugged);
            let pair = Pair::connect(event_loop, (stacks.0, up), (stacks.1, deaf));
            let (client, _) = pair.run(event_loop);
            let outcome = outcome.take().expect("the pop has ended");
            match late {
                Late::Close => {
                    let error = outcome.expect_err("the connection is dropped");
                    assert_eq!(error.kind(), ErrorKind::CloseTimeout);
                    let closed = client.closed.expect("ended");
                    assert_eq!(closed.kind, CloseKind::ClosingTimedOut);
                    assert_eq!((closed.layer(), closed.is_clean()), (Some("tls"), false));
                }
                _ => {
                    assert_eq!(outcome, Ok(tepal::How::TimedOut));
                    assert!(client.closed.expect("ended").is_clean());
                }
            }
        }
    });
}

#[test]
fn a_framing_layer_that_comes_and_goes_leaves_every_byte_in_its_place() {
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                // All of it at once: plain, two frames, plain again.
                transport.write(b"plain ");
                transport.push_layer(LengthPrefixed::new(100)).expect("stands");
                transport.write(b"frame one");
                transport.write(b"frame two");
                transport.pop_layer(None, SECOND, Late::Close).expect("stands");
                // One change at a time, from here on.
                let more = transport.push_layer(Lines::new(64)).expect_err("too soon");
                assert_eq!(more.kind(), ErrorKind::Closing);
                transport.write(b" plain again");
                transport.close();
            }
            None
        };
        let quiet = |_: &Transport, _: &Call<'_>| None;
        let (client, server) =
            Pair::connect(event_loop, (Stack::new(), up), (Stack::new(), quiet)).run(event_loop);
        let expected = b"plain \0\0\0\x09frame one\0\0\0\x09frame two plain again".to_vec();
        assert_eq!(String::from_utf8_lossy(&server.bytes), String::from_utf8_lossy(&expected));
        assert!(client.closed.expect("ended").is_clean());
    });
}

#[test]
fn what_cannot_be_changed_is_told_at_the_call_and_changes_nothing() {
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Made => {
                    let early = transport.push_layer(Lines::new(64)).expect_err("not connected");
                    assert_eq!(early.kind(), ErrorKind::Closing);
                }
                Call::Established => {
                    let none = transport.pop_layer(None, SECOND, Late::Close);
                    assert_eq!(none.expect_err("no layer").kind(), ErrorKind::NoSuchLayer);
                    let lines = shared(Lines::new(64));
                    let below = transport.push_layer_with(&lines, Some("tls"), Residual::Feed);
                    assert_eq!(below.expect_err("no layer").kind(), ErrorKind::NoSuchLayer);
                    let bad = transport
                        .push_layer(tls_server().build().expect("for a server"))
                        .expect_err("no roots");
                    assert_eq!((bad.layer(), bad.kind()), ("tls", ErrorKind::InvalidSetting));
                    let order = transport.command_layer("lines", ());
                    assert_eq!(order.expect_err("no layer").kind(), ErrorKind::NoSuchLayer);
                    assert!(transport.layers().is_empty());
                    transport.write(b"still plain");
                    transport.close();
                    let late = transport.push_layer(Lines::new(64)).expect_err("closing");
                    assert_eq!(late.kind(), ErrorKind::Closing);
                }
                _ => {}
            }
            None
        };
        let quiet = |_: &Transport, _: &Call<'_>| None;
        let (client, server) =
            Pair::connect(event_loop, (Stack::new(), up), (Stack::new(), quiet)).run(event_loop);
        assert_eq!(server.bytes, b"still plain");
        assert_eq!(client.kind(), CloseKind::Local);
    });
}

#[test]
fn a_layer_pushed_below_another_stands_under_what_was_written_before() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.write(b"first");
                    let limit = shared(RateLimit::new().write(1 << 30));
                    transport.push_layer_with(&limit, Some("lines"), Residual::Reject).expect("in");
                    transport.write(b"second");
                }
                Call::Added("rate") => assert_eq!(transport.layers(), ["tls", "rate", "lines"]),
                Call::Data(b"second") => transport.close(),
                _ => {}
            }
            None
        };
        let echo = |transport: &Transport, call: &Call<'_>| {
            if let Call::Data(data) = call {
                transport.write(data);
            }
            None
        };
        let stack = |tls: &Tls| Stack::new().with(tls.clone()).with(Lines::new(64));
        let pair = Pair::connect(event_loop, (stack(&client), up), (stack(&server), echo));
        let (client, _) = pair.run(event_loop);
        assert_eq!(client.frames, [&b"first"[..], b"second"]);
        assert!(client.events.contains(&"added rate".to_owned()), "{:?}", client.events);
    });
}

// RELIABILITY 22: pauses inside callbacks count, and a pushed layer keeps them.
#[test]
fn a_pause_holds_across_a_push_and_a_pop() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let up = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(&[7; 1000]);
                transport.write_eof().expect("TLS 1.3 can");
            }
            None
        };
        let resumed = Rc::new(RefCell::new(0));
        let step = Rc::clone(&resumed);
        let down = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.pause_reading();
                    let (transport, step) = (transport.clone(), Rc::clone(&step));
                    transport.event_loop().clone().call_later(
                        Duration::from_millis(20),
                        move |lp| {
                            *step.borrow_mut() = 1;
                            let limit = shared(RateLimit::new());
                            transport
                                .push_layer_with(&limit, None, Residual::Feed)
                                .expect("stands");
                            lp.call_later(Duration::from_millis(20), move |_| {
                                *step.borrow_mut() = 2;
                                transport.resume_reading();
                            });
                        },
                    );
                }
                Call::Data(_) | Call::Eof => {
                    assert_eq!(*step.borrow(), 2, "{call:?} while paused");
                }
                _ => {}
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, up), (stacks.1, down));
        let (_, server) = pair.run(event_loop);
        assert_eq!(server.bytes, [7; 1000]);
        assert!(server.events.contains(&"added rate".to_owned()));
    });
}
