//! TLS: every way to close, and what must never be taken for a clean end.
#![cfg(feature = "tls")]

mod common;

use std::time::Duration;

use common::{client, server, tls_pair};
use tepal_layers::check::Seen;
use tepal_layers::{CloseMode, ErrorKind, How, Late, Notice, Turn};

#[test]
fn a_close_is_clean_on_both_sides_in_every_mode() {
    use CloseMode::{None, Notify, Wait};
    for (mode, how) in [(Wait, How::Closed), (Notify, How::Unconfirmed), (None, How::Unconfirmed)] {
        let mut pair = tls_pair(client().close(mode), server());
        pair.client.write(b"last words").unwrap();
        pair.run();
        pair.client.chain.close();
        pair.run();
        assert_eq!(pair.server.data(), b"last words");
        assert_eq!(pair.server.saw(&Seen::Eof), mode != None);
        if mode == Wait {
            assert!(!pair.client.saw(&Seen::Closed), "it waits for the answer");
            pair.server.write(b"not wanted any more").unwrap();
            pair.server.chain.close();
            pair.run();
            assert!(pair.server.saw(&Seen::Closed));
        }
        assert!(pair.client.saw(&Seen::Closed));
        assert!(pair.client.saw(&Seen::Layer(Notice::Removed { layer: "tls", how })));
        assert_eq!(pair.client.data(), b"");
        if mode == None {
            pair.server.receive_eof();
            assert_eq!(pair.server.failure_kind(), Some(ErrorKind::TlsTruncated));
        }
    }
}

#[test]
fn an_end_without_close_notify_is_never_clean_wherever_it_is_cut() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    let before = pair.client.seen.len();
    pair.server.write(b"first").unwrap();
    pair.server.write(b"second").unwrap();
    pair.server.chain.close();
    pair.server.settle();
    let wire = pair.server.sent();
    assert!(wire.len() > 20 && before > 0);
    // The same session for every cut is not to be had: the records belong to one connection. So
    // each cut gets a connection of its own.
    for cut in 0..=wire.len() {
        let mut pair = tls_pair(client(), server());
        pair.run();
        pair.server.write(b"first").unwrap();
        pair.server.write(b"second").unwrap();
        pair.server.chain.close();
        pair.server.settle();
        let wire = pair.server.sent();
        let end = cut.min(wire.len());
        pair.client.receive(&wire[..end]);
        pair.client.receive_eof();
        if end < wire.len() {
            assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsTruncated), "cut at {end}");
            assert!(!pair.client.saw(&Seen::Eof));
        } else {
            assert_eq!(pair.client.data(), b"firstsecond");
            assert!(pair.client.saw(&Seen::Eof) && pair.client.failure().is_none());
        }
    }
}

#[test]
fn a_cut_handshake_is_told_apart_from_a_truncation() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    let (up, down) = (pair.upstream.len(), pair.downstream.len());
    for cut in (0..down.min(1200)).step_by(61) {
        let mut pair = tls_pair(client(), server());
        pair.client.settle();
        let hello = pair.client.sent();
        pair.server.receive(&hello);
        let flight = pair.server.sent();
        if cut >= flight.len() {
            break;
        }
        pair.client.receive(&flight[..cut]);
        pair.client.receive_eof();
        let error = pair.client.failure().expect("a failure");
        assert_eq!(error.kind(), ErrorKind::EofInHandshake, "cut at {cut}");
    }
    assert!(up > 0);
}

#[test]
fn a_changed_byte_in_a_record_fails_the_connection_and_tells_nothing() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    pair.client.write(b"attack at dawn").unwrap();
    pair.client.settle();
    let mut wire = pair.client.sent();
    let last = wire.len() - 1;
    wire[last] ^= 1;
    pair.server.receive(&wire);
    assert_eq!(pair.server.failure_kind(), Some(ErrorKind::TlsProtocol));
    assert_eq!(pair.server.data(), b"");
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsAlert(20)));
}

/// With its goodbye said, a TLS library may think that nothing can go wrong any more.
#[test]
fn a_bad_record_behind_our_own_close_is_an_error_and_no_panic() {
    for half in [true, false] {
        for bad in [0, 4, 20] {
            let mut pair = tls_pair(client(), server());
            pair.run();
            match half {
                true => pair.client.chain.write_eof().unwrap(),
                false => pair.client.chain.close(),
            }
            pair.client.settle();
            pair.server.write(b"attack at dawn").unwrap();
            pair.server.settle();
            let mut wire = pair.server.sent();
            wire[bad] ^= 0x80;
            pair.client.receive(&wire);
            pair.client.receive_eof();
            let kind = pair.client.failure_kind();
            // A length that lies makes the record one that never ends, which who has closed need
            // not wait for.
            let given_up = bad == 4 && !half && pair.client.saw(&Seen::Closed);
            let told = [Some(ErrorKind::TlsProtocol), Some(ErrorKind::TlsTruncated)];
            assert!(told.contains(&kind) || given_up, "{half} {bad}: {kind:?}");
            assert_eq!(pair.client.data(), b"");
        }
    }
}

#[test]
fn one_direction_can_be_ended_alone() {
    let mut pair = tls_pair(client(), server());
    assert!(!pair.client.chain.can_write_eof(), "not before the version is known");
    assert_eq!(pair.client.chain.write_eof().unwrap_err().kind(), ErrorKind::WriteEofRefused);
    pair.run();
    pair.client.write(b"question").unwrap();
    pair.client.chain.write_eof().unwrap();
    pair.run();
    assert_eq!(pair.server.data(), b"question");
    assert_eq!(pair.server.seen.last(), Some(&Seen::Eof));
    assert!(!pair.client.saw(&Seen::WriteEof), "TCP stays open both ways");
    assert_eq!(pair.client.write(b"more").unwrap_err().kind(), ErrorKind::Closing);
    pair.server.write(b"answer").unwrap();
    pair.run();
    assert_eq!(pair.client.data(), b"answer");
}

#[test]
fn a_peer_that_does_not_answer_the_close_costs_its_time_and_not_more() {
    for late in [Late::Close, Late::Keep] {
        let mut pair = tls_pair(client(), server());
        pair.run();
        let turn = Turn::new(pair.client.now, &pair.client.workspace);
        pair.client.chain.pop(None, Duration::from_secs(5), late, turn).unwrap();
        pair.client.write(b"plain").unwrap();
        pair.run();
        assert!(pair.server.saw(&Seen::Eof), "the peer takes it for the end of input");
        assert!(!pair.upstream.ends_with(b"plain"));
        assert!(!pair.client.pass_time(Duration::from_secs(4)));
        assert!(pair.client.pass_time(Duration::from_secs(2)));
        if late == Late::Close {
            assert_eq!(pair.client.failure_kind(), Some(ErrorKind::CloseTimeout));
            assert_eq!(pair.client.sent(), b"");
        } else {
            let how = How::TimedOut;
            assert!(pair.client.saw(&Seen::Layer(Notice::Removed { layer: "tls", how })));
            assert_eq!(pair.client.sent(), b"plain");
        }
    }
}
