//! TLS begun and ended while the connection runs, and inside itself.
#![cfg(feature = "tls")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{certificate, client, server, tls_info, tls_pair};
use tepal_layers::check::{Bench, Pair, Seen};
use tepal_layers::{
    ErrorKind, Host, How, Late, LayerSpec, Limits, Lines, Notice, PeerClose, Place, RateLimit,
    Residual, Side, Stack, Tls, Turn,
};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn tls_closed_and_tcp_kept_loses_and_doubles_no_byte() {
    for piece in [0, 1, 5] {
        let mut pair = tls_pair(client(), server().peer_close(PeerClose::Pop));
        pair.piece = piece;
        pair.run();
        pair.client.write(b"in tls|").unwrap();
        let turn = Turn::new(pair.client.now, &pair.client.workspace);
        pair.client.chain.pop(None, MINUTE, Late::Close, turn).unwrap();
        pair.client.write(b"in plain text|").unwrap();
        pair.server.write(b"answer in tls|").unwrap();
        pair.run();
        assert_eq!(pair.server.data(), b"in tls|in plain text|");
        assert!(pair.upstream.ends_with(b"in plain text|"));
        pair.server.write(b"plain answer|").unwrap();
        pair.run();
        assert_eq!(pair.client.data(), b"answer in tls|plain answer|");
        assert!(pair.downstream.ends_with(b"plain answer|"));
        assert!(pair.client.saw(&Seen::Layer(Notice::Removed { layer: "tls", how: How::Closed })));
        assert!(pair.server.saw(&Seen::Layer(Notice::Removed { layer: "tls", how: How::ByPeer })));
        assert!(pair.client.chain.is_plain() && pair.server.chain.is_plain());
        // The removal stands between the two kinds of bytes.
        let at = |seen: &[Seen]| {
            seen.iter().position(|s| matches!(s, Seen::Layer(Notice::Removed { .. })))
        };
        assert_eq!(
            pair.server.seen.get(at(&pair.server.seen).unwrap() + 1),
            Some(&Seen::Data(b"in plain text|".to_vec()))
        );

        // And a second TLS session on the same TCP connection resumes the first one.
        common::push(&mut pair.client, client().build().unwrap(), Residual::Reject);
        common::push(&mut pair.server, server().build().unwrap(), Residual::Feed);
        pair.client.write(b"in tls again").unwrap();
        pair.run();
        assert!(pair.server.data().ends_with(b"in tls again"));
        assert_eq!(tls_info(&pair.client).version, "TLSv1.3");
    }
}

#[test]
fn a_second_session_on_the_same_connection_is_a_resumed_one() {
    let (client, server) = (
        Arc::new(client().build().unwrap()) as Arc<dyn LayerSpec>,
        server().peer_close(PeerClose::Pop).build().unwrap(),
    );
    let place =
        Place { host: Some(Host::parse("server.test").unwrap()), ..Place::new(Side::Client) };
    let up = Stack::new().with_shared(Arc::clone(&client));
    let down = Stack::new().with(server.clone());
    let mut pair =
        Pair::at((&up, &place), (&down, &Place::new(Side::Server)), Limits::default()).unwrap();
    pair.run();
    let turn = Turn::new(pair.client.now, &pair.client.workspace);
    pair.client.chain.pop(Some("tls"), MINUTE, Late::Close, turn).unwrap();
    pair.run();
    let turn = Turn::new(pair.client.now, &pair.client.workspace);
    let keepsakes = &mut pair.client.keepsakes;
    pair.client.chain.push(&client, None, Residual::Reject, keepsakes, turn).unwrap();
    common::push(&mut pair.server, server, Residual::Feed);
    pair.run();
    assert!(tls_info(&pair.client).resumed);
}

#[test]
fn bytes_glued_behind_close_notify_reach_the_next_layer() {
    // One segment: the last record, close_notify, and a ClientHello of the next session.
    let mut pair = tls_pair(client(), server().peer_close(PeerClose::Pop));
    pair.run();
    let turn = Turn::new(pair.client.now, &pair.client.workspace);
    pair.client.chain.pop(None, MINUTE, Late::Close, turn).unwrap();
    pair.client.settle();
    let mut glued = pair.client.sent();
    let mut next = Bench::at(
        &Stack::new().with(client().build().unwrap()),
        &Place { host: Some(Host::parse("server.test").unwrap()), ..Place::new(Side::Client) },
        Limits::default(),
    )
    .unwrap();
    next.settle();
    glued.extend(next.sent());
    let turn = Turn::new(pair.server.now, &pair.server.workspace);
    pair.server.chain.receive(turn, &mut glued);
    let removed = match pair.server.chain.poll_event(turn) {
        Some(tepal_layers::Event::Layer(Notice::Removed { how, .. })) => how,
        other => panic!("{other:?}"),
    };
    assert_eq!(removed, How::ByPeer);
    common::push(&mut pair.server, server().build().unwrap(), Residual::Feed);
    let answer = pair.server.sent();
    // The first record is the old session's close_notify; the new ServerHello follows.
    assert_eq!(answer[0], 23);
    let behind = 5 + usize::from(u16::from_be_bytes([answer[3], answer[4]]));
    assert_eq!(answer[behind], 22);
    next.receive(&answer[behind..]);
    assert!(next.info("tls").is_some());
}

#[test]
fn starttls_on_both_sides_below_lines_keeps_the_order_of_bytes() {
    for piece in [0, 1, 3] {
        let lines = Stack::new().with(RateLimit::new()).with(Lines::new(100));
        let mut pair = Pair::new(&lines, &lines).unwrap();
        pair.piece = piece;
        pair.client.write(b"STARTTLS").unwrap();
        pair.run();
        pair.server.write(b"220 go ahead").unwrap();
        common::push_below(&mut pair.server, server().build().unwrap(), Some("lines"));
        pair.run();
        assert_eq!(pair.client.frames(), [b"220 go ahead"]);
        let tls = client().server_name("server.test").build().unwrap();
        common::push_below(&mut pair.client, tls, Some("lines"));
        pair.client.write(b"LOGIN secret").unwrap();
        pair.run();
        assert_eq!(pair.server.frames(), [&b"STARTTLS"[..], b"LOGIN secret"]);
        assert!(!pair.upstream.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(pair.server.chain.layers().collect::<Vec<_>>(), ["rate", "tls", "lines"]);
    }
}

#[test]
fn a_command_injected_behind_starttls_kills_the_connection() {
    for stack in [Stack::new().with(Lines::new(100)), Stack::new()] {
        let mut bench = Bench::new(&stack, Side::Server).unwrap();
        bench.settle();
        let turn = Turn::new(bench.now, &bench.workspace);
        bench.chain.receive(turn, &mut b"STARTTLS\nEVIL\n".to_vec());
        while let Some(event) = bench.chain.poll_event(turn) {
            if matches!(event, tepal_layers::Event::Data) {
                let framed = bench.chain.data() == b"STARTTLS";
                bench.chain.took(if framed { 8 } else { 9 }, turn);
                break;
            }
        }
        let below = (!stack.is_empty()).then_some("lines");
        common::push_below(&mut bench, server().build().unwrap(), below);
        assert_eq!(bench.failure_kind(), Some(ErrorKind::ResidualRejected));
        assert_eq!(bench.data(), b"", "the injected line is told to nobody");
    }
}

#[test]
fn tls_inside_tls_carries_bytes_both_ways() {
    let inner = client().server_name("other.test").build().unwrap();
    let up = Stack::new().with(client().server_name("server.test").build().unwrap()).with(inner);
    let down = Stack::new()
        .with(server().build().unwrap())
        .with(Tls::builder().certificate(certificate("other")).build().unwrap());
    let mut pair = Pair::new(&up, &down).unwrap();
    pair.client.write(&[7; 100_000]).unwrap();
    pair.server.write(b"down").unwrap();
    pair.run();
    assert_eq!((pair.server.data(), pair.client.data()), (vec![7; 100_000], b"down".to_vec()));
    pair.client.chain.close();
    pair.run();
    pair.server.chain.close();
    pair.run();
    assert!(pair.client.saw(&Seen::Closed) && pair.server.saw(&Seen::Closed));
}
