//! What others have lost, each test named after that: bugs of event loops, TLS bindings and proxy
//! clients of the last years, as far as a layer could have them. The same through the loop is
//! tested in tepal; refusals and malformed replies have tables of their own in `socks.rs`,
//! `connect.rs` and `proxy.rs`, ends without close_notify in `tls.rs` and `peers/closing.rs`.
#![cfg(feature = "tls")]

mod common;

use std::rc::Rc;
use std::time::Duration;

use common::{client, push, server, tls_info, tls_pair};
use tepal_layers::check::{Bench, Pair, Seen};
use tepal_layers::{
    CloseMode, ErrorKind, HttpConnect, HttpConnectServer, Info, Limits, Lines, Notice, Place,
    ProxyAnswer, ProxyHeader, RateLimit, Residual, Side, Socks5, SocksServer, Stack, Turn,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What a TLS client sends first.
fn client_hello() -> (Bench, Vec<u8>) {
    let tls = client().server_name("server.test").build().unwrap();
    let mut user = Bench::new(&Stack::new().with(tls), Side::Client).unwrap();
    user.write(b"early").unwrap();
    let hello = user.sent();
    (user, hello)
}

/// Completes a handshake that a glued ClientHello has begun.
fn complete(user: &mut Bench, own: &mut Bench) {
    for _ in 0..4 {
        let (down, up) = (own.sent(), user.sent());
        user.receive(&down);
        own.receive(&up);
    }
    assert_eq!(own.data(), b"early");
}

// A start of TLS lost what had been read already.
#[test]
fn a_hello_in_the_segment_of_a_proxy_header_is_not_lost() {
    for pushed in [false, true] {
        let (mut user, hello) = client_hello();
        let header = ProxyHeader::new().danger_trust_all();
        let tls = server().build().unwrap();
        let stack = Stack::new().with(header);
        let stack = if pushed { stack } else { stack.with(tls.clone()) };
        let mut own = Bench::new(&stack, Side::Server).unwrap();
        let mut segment = [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", &hello[..]].concat();
        if pushed {
            // The owner decides on TLS when it has seen who is behind the proxy, and has the
            // beginning of the hello already.
            let workspace = Rc::clone(&own.workspace);
            let turn = Turn::new(own.now, &workspace);
            own.chain.receive(turn, &mut segment);
            while let Some(event) = own.chain.poll_event(turn) {
                if let tepal_layers::Event::Data = event {
                    own.chain.took(0, turn);
                }
            }
            push(&mut own, tls, Residual::Feed);
        } else {
            own.receive(&segment);
        }
        complete(&mut user, &mut own);
        assert_eq!(own.failure(), None);
    }
}

#[test]
fn bytes_behind_a_proxys_yes_are_not_lost() {
    let cases: [(Stack, &[u8]); 3] = [
        (
            Stack::new().with(HttpConnect::new("a.test", 1).unwrap()),
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbehind",
        ),
        (
            Stack::new().with(Socks5::new("a.test", 1).unwrap()),
            b"\x05\0\x05\0\0\x03\x01a\0\x50behind",
        ),
        (
            Stack::new().with(Socks5::new("a.test", 1).unwrap()),
            b"\x05\0\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50behind",
        ),
    ];
    for (stack, answer) in cases {
        for size in 1..=answer.len() {
            let mut own = Bench::new(&stack, Side::Client).unwrap();
            answer.chunks(size).for_each(|piece| own.receive(piece));
            assert_eq!(own.data(), b"behind", "{stack:?} in pieces of {size}");
        }
    }
}

/// What clients ask of a proxy's server side, each with five bytes behind it.
fn requests_to_proxies() -> [(Stack, &'static [u8]); 3] {
    [
        (Stack::new().with(SocksServer::new()), b"\x05\x01\0\x05\x01\0\x03\x01a\0\x50early"),
        (Stack::new().with(SocksServer::new()), b"\x04\x01\0\x50\0\0\0\x01\0a\0early"),
        (
            Stack::new().with(HttpConnectServer::new()),
            b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nearly",
        ),
    ]
}

fn accept() -> ProxyAnswer {
    ProxyAnswer::Accept([1, 2, 3, 4].into(), 5)
}

// A client that speaks at once found its first bytes dropped by the proxy's server side.
#[test]
fn bytes_that_a_client_sends_before_our_yes_are_not_lost() {
    for (stack, request) in requests_to_proxies() {
        let mut own = Bench::new(&stack, Side::Server).unwrap();
        own.receive(request);
        assert_eq!(own.data(), b"", "nothing before the answer");
        let layer = own.chain.layers().next().unwrap();
        own.chain.command(layer, &accept()).unwrap();
        own.settle();
        assert_eq!(own.data(), b"early");
    }
}

// A proxy that did not read while it dialled learnt of its client's end when the dial was over.
#[test]
fn the_end_of_a_client_that_is_not_answered_yet_is_not_lost() {
    for (stack, request) in requests_to_proxies() {
        let (silent, early) = (&request[..request.len() - 5], request);
        for pieces in [silent, early] {
            let mut own = Bench::new(&stack, Side::Server).unwrap();
            pieces.iter().for_each(|byte| own.receive(&[*byte]));
            assert!(own.chain.wants_read() && own.failure().is_none(), "{stack:?}");
            own.receive_eof();
            if pieces == silent {
                assert_eq!(own.failure_kind(), Some(ErrorKind::EofInHandshake), "{stack:?}");
                continue;
            }
            // Who has said something may have said all, and wait for what comes back.
            let layer = own.chain.layers().next().unwrap();
            own.chain.command(layer, &accept()).unwrap();
            own.settle();
            assert_eq!(own.data(), b"early", "{stack:?}");
            assert!(own.saw(&Seen::Eof) && own.failure().is_none(), "{stack:?}");
        }
    }
}

// Nor does a client that says much before it is answered cost more memory than that of one.
#[test]
fn no_bound_is_lost_for_what_a_client_sends_before_our_yes() {
    for (stack, request) in requests_to_proxies() {
        let mut own = Bench::new(&stack, Side::Server).unwrap();
        own.receive(request);
        let mut said = 5;
        while own.chain.wants_read() {
            own.receive(&[b'+'; 1000]);
            said += 1000;
            assert!(said < 20_000, "{stack:?} reads without end");
        }
        assert!(said >= 16 << 10, "{stack:?} stops after {said}");
        let layer = own.chain.layers().next().unwrap();
        own.chain.command(layer, &accept()).unwrap();
        own.settle();
        assert_eq!(own.data().len(), said, "{stack:?}");
        own.receive_eof();
        assert!(own.saw(&Seen::Eof), "{stack:?}");
    }
}

// The tail of a list of writes stayed behind when the first of them filled the way.
#[test]
fn the_tail_of_many_writes_is_not_lost_in_a_full_way() {
    let small = Limits { link: 100, ..Limits::default() };
    let stack = Stack::new().with(RateLimit::new().write(1_000_000)).with(Lines::new(10_000));
    let places = (Place::new(Side::Client), Place::new(Side::Server));
    let mut pair = Pair::at((&stack, &places.0), (&stack, &places.1), small).unwrap();
    let lines: Vec<Vec<u8>> = (0..500u32).map(|n| vec![b'a' + (n % 26) as u8; 50]).collect();
    for line in &lines {
        let workspace = Rc::clone(&pair.client.workspace);
        let turn = Turn::new(pair.client.now, &workspace);
        pair.client.chain.write(line, turn).unwrap();
    }
    pair.client.chain.close();
    pair.pass_time(MINUTE);
    assert_eq!(pair.server.frames(), lines);
    assert!(pair.client.saw(&Seen::Closed));
}

// A pause from inside the first callback was forgotten when TLS was ready.
#[test]
fn a_pause_before_the_handshake_is_not_lost_when_it_is_done() {
    let mut pair = tls_pair(client(), server());
    pair.client.chain.pause_reading();
    pair.server.write(b"not yet").unwrap();
    pair.run();
    assert!(pair.client.saw(&Seen::Established));
    assert_eq!(pair.client.data(), b"");
    pair.client.chain.resume_reading();
    pair.run();
    assert_eq!(pair.client.data(), b"not yet");
}

// A closed TLS connection read on for half a minute.
#[test]
fn no_time_is_lost_reading_for_a_connection_that_is_closed() {
    for mode in [CloseMode::Wait, CloseMode::Notify, CloseMode::None] {
        let mut pair = tls_pair(client().close(mode), server());
        pair.run();
        pair.client.chain.close();
        assert!(pair.client.chain.is_closing(), "told at once");
        for _ in 0..50 {
            pair.server.write(&[7; 10_000]).unwrap();
            pair.run();
            assert!(pair.client.chain.read_len() < 40_000, "nothing piles up");
        }
        assert_eq!(pair.client.data(), b"");
        assert_eq!(pair.client.saw(&Seen::Closed), mode != CloseMode::Wait);
        pair.server.chain.close();
        pair.run();
        assert!(pair.client.saw(&Seen::Closed) && !pair.client.chain.wants_read());
        assert_eq!(pair.client.chain.deadline(), None);
    }
}

// Both sides closed at once, and each waited for the other for ever.
#[test]
fn no_close_is_lost_when_both_sides_close_at_once() {
    for piece in [0, 1] {
        let mut pair = tls_pair(client(), server());
        pair.piece = piece;
        pair.run();
        for side in [&mut pair.client, &mut pair.server] {
            side.write(b"last words").unwrap();
            side.chain.close();
        }
        pair.run();
        for side in [&pair.client, &pair.server] {
            assert!(side.saw(&Seen::Closed), "{:?}", side.seen);
        }
    }
}

// The peer is gone, and what waits for its close_notify waited for ever.
#[test]
fn a_close_is_not_lost_with_the_peer_that_should_answer_it() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    pair.client.chain.close();
    pair.client.settle();
    pair.client.receive_eof();
    assert!(pair.client.saw(&Seen::Closed) && pair.client.failure().is_none());
}

// The reason of the end came twice, or a second one behind it.
#[test]
fn the_reason_of_an_end_is_told_once_and_nothing_behind_it() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    let reset = std::io::Error::from_raw_os_error(104);
    let workspace = Rc::clone(&pair.client.workspace);
    let turn = Turn::new(pair.client.now, &workspace);
    pair.client.receive(&[23, 3, 3, 0, 20]);
    for _ in 0..2 {
        pair.client.chain.receive_error(tepal_layers::Error::os(&reset), turn);
        pair.client.receive_eof();
        pair.client.receive(b"more");
        pair.client.chain.close();
        pair.client.settle();
    }
    let ends = |seen: &&Seen| matches!(seen, Seen::Failed(_) | Seen::Closed | Seen::Eof);
    assert_eq!(pair.client.seen.iter().filter(ends).count(), 1);
    assert!(matches!(pair.client.failure_kind(), Some(ErrorKind::Io(_, Some(104)))));
    assert!(pair.client.write(b"late").is_err());
}

// Sessions were lost from one connection to the next, because each rebuilt its configuration.
#[test]
fn a_session_is_not_lost_by_a_connection_that_fails() {
    let (up, down) = (client().build().unwrap(), server().build().unwrap());
    let mut pair = common::pair_of(&up, &down);
    pair.run();
    assert!(!tls_info(&pair.client).resumed);
    pair.client.receive_eof();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsTruncated));
    let mut pair = common::pair_of(&up, &down);
    pair.run();
    assert!(tls_info(&pair.client).resumed);
}

// What a layer told of its end came behind the end of all, where nobody listens any more.
#[test]
fn the_goodbye_of_a_layer_is_not_lost_behind_the_end_of_all() {
    let stack = Stack::new().with(RateLimit::new()).with(Lines::new(10));
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.settle();
    bench.chain.close();
    bench.settle();
    let removed = |seen: &&Seen| matches!(seen, Seen::Layer(Notice::Removed { .. }));
    assert_eq!(bench.seen.iter().filter(removed).count(), 2);
    assert_eq!(bench.seen.last(), Some(&Seen::Closed));
}

// A connection that was given up during its handshake was told to be established.
#[test]
fn no_truth_is_lost_about_a_handshake_that_was_given_up() {
    let (user, _) = client_hello();
    for mut bench in
        [user, Bench::new(&Stack::new().with(SocksServer::new()), Side::Server).unwrap()]
    {
        bench.settle();
        bench.chain.close();
        bench.settle();
        assert!(!bench.saw(&Seen::Established), "{:?}", bench.seen);
    }
}

// A layer that had been refused room was not woken when there was some.
#[test]
fn no_byte_is_lost_in_the_narrowest_way() {
    for link in [1, 2, 3] {
        let limits = Limits { link, ..Limits::default() };
        let stack = Stack::new().with(RateLimit::new()).with(RateLimit::new());
        let places = (Place::new(Side::Client), Place::new(Side::Server));
        let mut pair = Pair::at((&stack, &places.0), (&stack, &places.1), limits).unwrap();
        // In one direction only, so that nothing else wakes it.
        pair.client.write(&[1; 3000]).unwrap();
        pair.run();
        assert_eq!(pair.server.data().len(), 3000);
    }
}

// The address that a proxy is bound to stayed in the stream, or was waited for in ten bytes.
#[test]
fn no_byte_of_the_stream_is_lost_to_a_bound_address_of_another_length() {
    for name_len in [1usize, 2, 3, 255] {
        let name = vec![b'n'; name_len];
        let answer =
            [&b"\x05\0\x05\0\0\x03"[..], &[name_len as u8], &name, b"\0\x50", b"x"].concat();
        let stack = Stack::new().with(Socks5::new("a", 1).unwrap());
        let mut bench = Bench::new(&stack, Side::Client).unwrap();
        bench.receive(&answer);
        assert_eq!(bench.data(), b"x");
        assert!(matches!(bench.info("socks5"), Some(Info::Bound(_, 80))));
    }
}
