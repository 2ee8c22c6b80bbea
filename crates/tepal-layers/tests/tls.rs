//! TLS: handshakes, certificates and data.
#![cfg(feature = "tls")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{FixedClock, ca, certificate, client, server, tls_info, tls_pair};
use tepal_layers::check::{Bench, Pair, Seen};
use tepal_layers::{
    Certificate, ErrorKind, Fault, KeyLog, RateLimit, Roots, Side, Stack, Tls, Turn,
};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn bytes_written_early_arrive_after_the_handshake_in_every_cut() {
    for piece in [0, 1, 2, 7, 100] {
        let mut pair = tls_pair(client(), server());
        pair.piece = piece;
        pair.client.write(b"hello ").unwrap();
        pair.client.write(b"world").unwrap();
        pair.server.write(b"welcome").unwrap();
        pair.run();
        assert_eq!(pair.server.data(), b"hello world");
        assert_eq!(pair.client.data(), b"welcome");
        let info = tls_info(&pair.client);
        assert_eq!((info.version, info.resumed), ("TLSv1.3", false));
        assert_eq!(info.server_name.as_deref(), Some("server.test"));
        assert_eq!(info.peer_certificates.len(), 1);
        assert!(info.cipher.starts_with("TLS_"), "{}", info.cipher);
        assert_eq!(tls_info(&pair.server).server_name.as_deref(), Some("server.test"));
        let ready = pair.client.seen.iter().position(|s| matches!(s, Seen::Layer(_)));
        let data = pair.client.seen.iter().position(|s| matches!(s, Seen::Data(_)));
        assert!(ready < data, "the notice stands before the data");
        assert!(!pair.upstream.windows(5).any(|bytes| bytes == b"hello"));
    }
}

#[test]
fn large_writes_arrive_whole_and_leave_with_bounded_memory() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    pair.client.write(&bytes).unwrap();
    pair.run();
    assert_eq!(pair.server.data(), bytes);
    // Nobody takes the output: only what the link has room for is encrypted.
    let turn = Turn::new(pair.client.now, &pair.client.workspace);
    pair.client.chain.write(&bytes, turn).unwrap();
    assert!(pair.client.chain.poll_event(turn).is_none());
    assert!(pair.client.chain.output().len() < (64 << 10) + 17_000);
    assert!(pair.client.chain.write_len() >= bytes.len());
    pair.run();
    assert_eq!(pair.server.data().len(), 2_000_000);
    assert_eq!(pair.client.chain.write_len(), 0);
}

#[test]
fn short_pieces_behind_a_long_one_leave_in_one_record_of_their_own() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    let pieces = [20_000, 100, 200, 50].map(|len| vec![7u8; len]);
    let turn = Turn::new(pair.client.now, &pair.client.workspace);
    for piece in &pieces {
        pair.client.chain.write_segment(piece.clone().into()).unwrap();
    }
    assert!(pair.client.chain.poll_event(turn).is_none());
    assert_eq!(pair.client.chain.write_len(), pair.client.chain.output().len());
    let output = pair.client.chain.output().to_vec();
    let (mut at, mut records) = (0, Vec::new());
    while let Some([_, _, _, high, low]) = output.get(at..at + 5) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        records.push(len - 17);
        at += 5 + len;
    }
    assert_eq!(records, [16 << 10, 20_000 - (16 << 10), 350]);
    pair.run();
    assert_eq!(pair.server.data(), pieces.concat());
}

#[test]
fn a_second_connection_of_the_same_spec_resumes_the_session() {
    let (client, server) = (client().build().unwrap(), server().build().unwrap());
    let connect = || {
        let mut pair = common::pair_of(&client, &server);
        pair.run();
        (tls_info(&pair.client).resumed, tls_info(&pair.server).resumed)
    };
    assert_eq!(connect(), (false, false));
    assert_eq!(connect(), (true, true));
    let (client, server) = (common::client().resume(false).build().unwrap(), &server);
    for _ in 0..2 {
        let mut pair = common::pair_of(&client, server);
        pair.run();
        assert!(!tls_info(&pair.client).resumed);
    }
}

#[test]
fn a_server_resumes_a_session_however_many_others_it_has_seen_since() {
    let (mine, server) = (client().build().unwrap(), server().build().unwrap());
    let connect = |client: &Tls| {
        let mut pair = common::pair_of(client, &server);
        pair.run();
        tls_info(&pair.client).resumed
    };
    assert!(!connect(&mine));
    for _ in 0..200 {
        assert!(!connect(&client().build().unwrap()));
    }
    assert!(connect(&mine));
}

#[test]
fn a_certificate_that_is_not_the_hosts_is_refused_and_the_peer_hears_why() {
    let far = Arc::new(FixedClock(9_000_000_000));
    let cases: Vec<(&str, Tls, Tls)> = vec![
        (
            "wrong host",
            client().server_name("nobody.test").build().unwrap(),
            server().build().unwrap(),
        ),
        (
            "self-signed",
            client().build().unwrap(),
            Tls::builder().certificate(certificate("self")).build().unwrap(),
        ),
        ("expired", client().clock(far).build().unwrap(), server().build().unwrap()),
        (
            "a client's",
            client().server_name("client.test").build().unwrap(),
            Tls::builder().certificate(certificate("client")).build().unwrap(),
        ),
        (
            "another root",
            client()
                .roots(Roots::from_pem(include_bytes!("data/self.pem")).unwrap())
                .build()
                .unwrap(),
            server().build().unwrap(),
        ),
        (
            "an address it has not",
            client().server_name("127.0.0.2").build().unwrap(),
            server().build().unwrap(),
        ),
    ];
    for (what, client, server) in cases {
        let mut pair = common::pair_of(&client, &server);
        pair.client.write(b"secret").unwrap();
        pair.run();
        let error = pair.client.failure().unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!((error.kind(), error.layer()), (ErrorKind::TlsCertificate, "tls"), "{what}");
        assert_eq!(error.fault(), Fault::Remote);
        assert!(matches!(pair.server.failure_kind(), Some(ErrorKind::TlsAlert(_))), "{what}");
        assert_eq!(pair.server.data(), b"");
    }
    let danger = Tls::builder().danger_accept_invalid_certificates();
    let mut pair = tls_pair(danger, Tls::builder().certificate(certificate("self")));
    pair.run();
    assert!(tls_info(&pair.client).version.starts_with("TLS"));
}

#[test]
fn an_address_is_verified_as_an_address() {
    let mut pair = tls_pair(client().server_name("127.0.0.1"), server());
    pair.run();
    assert_eq!(tls_info(&pair.server).server_name, None);
    assert!(pair.client.failure().is_none());
}

#[test]
fn the_protocols_agreed_on_are_told_and_none_in_common_is_a_handshake_failure() {
    let mut pair = tls_pair(client().alpn(["h2", "http/1.1"]), server().alpn(["http/1.1"]));
    pair.run();
    for side in [&pair.client, &pair.server] {
        assert_eq!(tls_info(side).alpn.as_deref(), Some(&b"http/1.1"[..]));
    }
    let mut pair = tls_pair(client().alpn(["h2"]), server().alpn(["http/1.1"]));
    pair.run();
    assert_eq!(pair.server.failure_kind(), Some(ErrorKind::TlsHandshake));
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsAlert(120)));
}

#[test]
fn a_client_without_the_certificate_asked_for_hears_the_alert() {
    let strict = || server().client_roots(ca());
    let mut pair = tls_pair(client(), strict());
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsAlert(116)));
    assert_eq!(pair.server.failure_kind(), Some(ErrorKind::TlsCertificate));
    let mut pair = tls_pair(client().certificate(certificate("self")), strict());
    pair.run();
    assert!(matches!(pair.client.failure_kind(), Some(ErrorKind::TlsAlert(_))));
    let mut pair = tls_pair(client().certificate(certificate("client")), strict());
    pair.client.write(b"it is me").unwrap();
    pair.run();
    assert_eq!(pair.server.data(), b"it is me");
    assert_eq!(tls_info(&pair.server).peer_certificates.len(), 1);
    let mut pair = tls_pair(client(), strict().client_certificate_optional());
    pair.run();
    assert!(tls_info(&pair.server).peer_certificates.is_empty());
}

#[test]
fn the_certificate_is_chosen_by_the_name_asked_for() {
    let both = server().certificate(certificate("other")).build().unwrap();
    for name in ["server.test", "other.test", "a.wild.test"] {
        let mut pair = common::pair_of(&client().server_name(name).build().unwrap(), &both);
        pair.run();
        assert!(pair.client.failure().is_none(), "{name}: {:?}", pair.client.failure());
    }
    let mut pair = common::pair_of(&client().server_name("a.b.wild.test").build().unwrap(), &both);
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::TlsCertificate));
}

#[test]
fn reloaded_certificates_serve_the_next_handshake() {
    let server = server().resume(false).build().unwrap();
    let asks = |name: &str| {
        let client = client().server_name(name).resume(false).build().unwrap();
        let mut pair = common::pair_of(&client, &server);
        pair.run();
        pair.client.failure().is_none()
    };
    assert_eq!((asks("server.test"), asks("other.test")), (true, false));
    server.reload(&[certificate("other")]).unwrap();
    assert_eq!((asks("server.test"), asks("other.test")), (false, true));
    assert!(server.reload(&[]).is_err());
}

#[test]
fn secrets_are_logged_only_when_asked_and_never_shown() {
    #[derive(Debug, Default)]
    struct Lines(Mutex<Vec<String>>);
    impl KeyLog for Lines {
        fn log(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }
    let log = Arc::new(Lines::default());
    let mut pair = tls_pair(client().key_log(Arc::clone(&log) as _), server());
    pair.run();
    let lines = log.0.lock().unwrap();
    assert!(lines.iter().any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")));
    assert!(lines.iter().all(|line| line.split(' ').count() == 3));
    let shown = format!("{:?} {:?}", server().build().unwrap(), certificate("server"));
    assert!(!shown.contains("KEY") && !shown.contains("[48"), "{shown}");
    let key = include_bytes!("data/server.key");
    let error = Certificate::from_pem(include_bytes!("data/other.pem"), key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSetting);
}

#[test]
fn a_peer_that_does_not_answer_a_handshake_is_given_up_in_time() {
    let tls = client().server_name("server.test").build().unwrap();
    let mut client = Bench::new(&Stack::new().with(tls), Side::Client).unwrap();
    client.settle();
    assert!(client.pass_time(MINUTE));
    assert_eq!(client.failure_kind(), Some(ErrorKind::HandshakeTimeout));
    assert_eq!(client.failure().unwrap().layer(), "tls");
}

#[test]
fn garbage_and_plain_text_are_refused_with_an_alert() {
    for input in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff",
        &[0; 64],
        b"\x15\x03\x01\x00\x02\x02\x28",
    ] {
        for piece in [1, 5, 100] {
            let stack = Stack::new().with(server().build().unwrap());
            let mut bench = Bench::new(&stack, Side::Server).unwrap();
            input.chunks(piece).for_each(|chunk| bench.receive(chunk));
            bench.receive_eof();
            let error = bench.failure().expect("a failure").clone();
            assert!(
                matches!(error.kind(), ErrorKind::TlsHandshake | ErrorKind::TlsAlert(40)),
                "{error:?}"
            );
            if error.kind() == ErrorKind::TlsHandshake {
                assert_eq!(bench.sent().first(), Some(&21), "an alert leaves");
            }
        }
    }
}

#[test]
fn a_handshake_above_its_limit_is_cut_off() {
    let stack = Stack::new().with(server().handshake_limit(2000).build().unwrap());
    let mut bench = Bench::new(&stack, Side::Server).unwrap();
    // A ClientHello that claims 60,000 bytes, in records of 1000.
    let mut sent = 0;
    let mut first = vec![1, 0, 0xea, 0x60];
    first.resize(1000, 0);
    while bench.failure().is_none() && sent < 60 {
        let mut record = vec![22, 3, 1, 3, 0xe8];
        record.extend(if sent == 0 { &first[..] } else { &[0; 1000] });
        bench.receive(&record);
        sent += 1;
    }
    assert_eq!(bench.failure_kind(), Some(ErrorKind::LimitExceeded));
    assert!(sent < 4);
}

#[test]
fn a_paused_protocol_gets_no_byte_from_any_layer_and_the_wire_is_not_read() {
    let mut pair = tls_pair(client(), server());
    pair.run();
    pair.client.chain.pause_reading();
    for _ in 0..4 {
        pair.server.write(&[1; 16_000]).unwrap();
        pair.run();
    }
    assert_eq!(pair.client.data(), b"");
    assert!(!pair.client.chain.wants_read());
    assert!(pair.client.chain.read_len() >= 64_000);
    pair.client.chain.resume_reading();
    pair.run();
    assert_eq!(pair.client.data().len(), 64_000);
    assert!(pair.client.chain.wants_read());
}

#[test]
fn a_paused_protocol_does_not_stop_the_handshake() {
    let mut pair = tls_pair(client(), server());
    pair.client.chain.pause_reading();
    pair.client.write(b"early").unwrap();
    pair.piece = 1;
    pair.run();
    assert_eq!(pair.server.data(), b"early");
    assert!(pair.client.saw(&Seen::Established));
}

#[test]
fn what_a_layer_lacks_is_told_before_a_byte_is_sent() {
    let stack = Stack::new().with(client().build().unwrap());
    let error = Bench::new(&stack, Side::Client).expect_err("no host name");
    assert_eq!((error.kind(), error.layer()), (ErrorKind::InvalidSetting, "tls"));
    let error = Bench::new(&stack, Side::Server).expect_err("no certificate");
    assert_eq!(error.fault(), Fault::Local);
    assert_eq!(Tls::builder().build().unwrap_err().kind(), ErrorKind::InvalidSetting);
}

#[test]
fn a_frame_larger_than_a_links_share_passes_through_every_layer_below_it() {
    let above = |tls: Tls| {
        Stack::new()
            .with(RateLimit::new())
            .with(tls)
            .with(RateLimit::new())
            .with(tepal_layers::LengthPrefixed::new(1 << 20))
    };
    let tls = client().server_name("server.test").build().unwrap();
    let mut pair = Pair::new(&above(tls), &above(server().build().unwrap())).unwrap();
    let frame: Vec<u8> = (0..1u32 << 20).map(|n| (n % 253) as u8).collect();
    for _ in 0..2 {
        pair.client.write(&frame).unwrap();
        pair.server.write(&frame).unwrap();
    }
    pair.run();
    for side in [&pair.client, &pair.server] {
        let frames = side.frames();
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|each| *each == frame));
    }
}
