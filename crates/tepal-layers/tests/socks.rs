//! SOCKS: every reply, however it is cut, means one thing.

use std::net::{IpAddr, Ipv4Addr};

use tepal_layers::check::{Bench, Case, Pair, Seen, check_layer};
use tepal_layers::{
    ErrorKind, Fault, Host, How, Info, Notice, ProxyAnswer, Side, Socks4, Socks5, SocksReply,
    SocksServer, Stack, Turn,
};

const CANARY: &str = "canary-password";

fn socks5() -> Stack {
    Stack::new().with(Socks5::new("target.test", 80).unwrap())
}

fn socks5_auth() -> Stack {
    Stack::new().with(Socks5::new("target.test", 80).unwrap().credentials("me", CANARY).unwrap())
}

fn socks4() -> Stack {
    Stack::new().with(Socks4::new("target.test", 80).unwrap())
}

/// How a client takes a reply: its failure, or what was bound and what follows.
fn outcome(stack: &Stack, side: Side, input: &[u8]) -> Result<(Info, Vec<u8>), Option<ErrorKind>> {
    let case = Case { stack, side, input, writes: &[b"early"], tail: b"glued" };
    let seen = check_layer(&case).unwrap_or_else(|error| panic!("{input:?}: {error}"));
    let (mut info, mut data) = (None, Vec::new());
    for each in seen {
        match each {
            Seen::Layer(Notice::Ready { info: ready, .. }) => info = Some(ready),
            Seen::Data(bytes) => data.extend(bytes),
            Seen::Failed(error) => {
                assert!(!format!("{error} {error:?}").contains(CANARY));
                assert_eq!(error.fault(), Fault::Remote);
                return Err(Some(error.kind()));
            }
            _ => {}
        }
    }
    info.map(|info| (info, data)).ok_or(None)
}

#[test]
fn every_malformed_or_refusing_socks5_reply_is_one_error_for_every_split() {
    let mut cases: Vec<(Vec<u8>, ErrorKind)> = Vec::new();
    // The choice of a method.
    for version in [0, 1, 4, 6, b'H', 0x16, 0xff] {
        cases.push((vec![version, 0], ErrorKind::Version(version)));
        cases.push((vec![version], ErrorKind::Version(version)));
    }
    cases.push((vec![5, 0xff], ErrorKind::NoAuthMethod));
    for method in [1, 2, 3, 0x80, 0xfe] {
        cases.push((vec![5, method], ErrorKind::Malformed));
    }
    // The reply: each code, whole and cut off behind the code.
    for code in 1..=40u8 {
        let kind = ErrorKind::Socks5(SocksReply::from_code(code).unwrap());
        cases.push((vec![5, 0, 5, code], kind));
        cases.push((vec![5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0], kind));
    }
    for version in [0, 1, 4, 6, b'H', 0xff] {
        cases.push((vec![5, 0, version, 0, 0, 1, 1, 2, 3, 4, 0, 80], ErrorKind::Version(version)));
    }
    for kind in [0, 2, 5, 6, 0x7f, 0xff] {
        cases.push((vec![5, 0, 5, 0, 0, kind], ErrorKind::Malformed));
    }
    cases.push((vec![5, 0, 5, 0, 0, 3, 0, 0, 80], ErrorKind::Malformed));
    cases.push((b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), ErrorKind::Version(b'H')));
    assert!(cases.len() >= 80, "{}", cases.len());
    for (input, kind) in cases {
        assert_eq!(outcome(&socks5(), Side::Client, &input), Err(Some(kind)), "{input:?}");
    }
    for (input, kind) in [
        (&[5, 2, 1, 1][..], ErrorKind::AuthRefused),
        (&[5, 2, 1, 0xff], ErrorKind::AuthRefused),
        (&[5, 2, 5, 0], ErrorKind::Malformed),
        (&[5, 2, 0, 0], ErrorKind::Malformed),
        (&[5, 1], ErrorKind::Malformed),
        (&[5, 2, 1, 0, 5, 2], ErrorKind::Socks5(SocksReply::NotAllowed)),
        (&[5, 0, 5, 5], ErrorKind::Socks5(SocksReply::ConnectionRefused)),
    ] {
        assert_eq!(outcome(&socks5_auth(), Side::Client, input), Err(Some(kind)), "{input:?}");
    }
}

#[test]
fn every_refusing_socks4_reply_is_one_error_for_every_split() {
    for code in (0..=255u8).filter(|code| *code != 90) {
        for len in [2, 8] {
            let mut input = vec![0, code, 0, 0, 0, 0, 0, 0];
            input.truncate(len);
            assert_eq!(
                outcome(&socks4(), Side::Client, &input),
                Err(Some(ErrorKind::Socks4(code)))
            );
        }
    }
    for version in [5, 1, b'H'] {
        let kind = ErrorKind::Version(version);
        assert_eq!(outcome(&socks4(), Side::Client, &[version, 0xff]), Err(Some(kind)));
    }
    let bound = Info::Bound(Host::Ip(Ipv4Addr::new(9, 8, 7, 6).into()), 258);
    for version in [0, 4] {
        let input = [&[version, 90, 1, 2, 9, 8, 7, 6][..], b"data"].concat();
        assert_eq!(outcome(&socks4(), Side::Client, &input), Ok((bound.clone(), b"data".to_vec())));
    }
}

#[test]
fn a_bound_address_of_any_length_is_told_and_none_of_it_stays_in_the_stream() {
    for len in [1usize, 2, 3, 4, 16, 200, 255] {
        let name = "n".repeat(len);
        let mut input = vec![5, 0, 5, 0, 0, 3, len as u8];
        input.extend(name.bytes());
        input.extend([1, 187]);
        input.extend(b"SSH-2.0-x");
        let expected = (Info::Bound(Host::Name(name), 443), b"SSH-2.0-x".to_vec());
        assert_eq!(outcome(&socks5(), Side::Client, &input), Ok(expected));
    }
    let four = [5, 0, 5, 0, 0, 1, 1, 2, 3, 4, 0, 80];
    let bound = Info::Bound(Host::Ip(IpAddr::from([1, 2, 3, 4])), 80);
    assert_eq!(outcome(&socks5(), Side::Client, &four), Ok((bound, vec![])));
    let mut six = vec![5, 0, 5, 0, 0, 4];
    six.extend([0; 15]);
    six.extend([1, 0, 80, b'x']);
    let bound = Info::Bound(Host::parse("::1").unwrap(), 80);
    assert_eq!(outcome(&socks5(), Side::Client, &six), Ok((bound, b"x".to_vec())));
    for cut in 0..six.len() - 1 {
        assert_eq!(outcome(&socks5(), Side::Client, &six[..cut]), Err(None), "waits at {cut}");
    }
}

#[test]
fn the_password_leaves_only_when_the_proxy_has_chosen_it() {
    let mut bench = Bench::new(&socks5_auth(), Side::Client).unwrap();
    bench.settle();
    assert_eq!(bench.sent(), [5, 2, 0, 2]);
    bench.receive(&[5, 0]);
    assert_eq!(bench.sent(), b"\x05\x01\x00\x03\x0btarget.test\x00\x50");
    let mut bench = Bench::new(&socks5_auth(), Side::Client).unwrap();
    bench.receive(&[5, 2]);
    assert!(String::from_utf8_lossy(&bench.sent()).contains(CANARY));
    assert!(!format!("{:?}", socks5_auth()).contains(CANARY));
    for bad in ["", &"x".repeat(256)] {
        let spec = Socks5::new("a", 1).unwrap();
        assert!(spec.clone().credentials(bad, "p").is_err() && spec.credentials("u", bad).is_err());
    }
}

#[test]
fn the_method_chosen_is_the_only_one_offered_on_the_next_attempt() {
    let stack = socks5_auth();
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.receive(&[5, 2]);
    let turn = Turn::new(bench.now, &bench.workspace);
    let place = tepal_layers::Place::new(Side::Client);
    let limits = tepal_layers::Limits::default();
    let next =
        tepal_layers::Chain::with(&stack, &place, limits, &mut bench.keepsakes, turn).unwrap();
    bench.chain = next;
    bench.sent();
    bench.settle();
    assert_eq!(bench.sent(), [5, 1, 2]);
}

#[test]
fn addresses_go_to_the_proxy_as_addresses_and_names_as_names() {
    for (host, request) in [
        ("1.2.3.4", &b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"[..]),
        ("::1", b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50"),
        ("a", b"\x05\x01\x00\x03\x01a\x00\x50"),
        ("x.onion", b"\x05\x01\x00\x03\x07x.onion\x00\x50"),
    ] {
        let stack = Stack::new().with(Socks5::new(host, 80).unwrap());
        let mut bench = Bench::new(&stack, Side::Client).unwrap();
        bench.receive(&[5, 0]);
        assert_eq!(&bench.sent()[3..], request);
    }
    let user = |host: &str| Socks4::new(host, 80).unwrap().user_id("me").unwrap();
    for (host, request) in [
        ("1.2.3.4", &b"\x04\x01\x00\x50\x01\x02\x03\x04me\0"[..]),
        ("a.test", b"\x04\x01\x00\x50\0\0\0\x01me\0a.test\0"),
    ] {
        let mut bench = Bench::new(&Stack::new().with(user(host)), Side::Client).unwrap();
        bench.settle();
        assert_eq!(bench.sent(), request);
    }
    assert!(Socks4::new("::1", 80).is_err());
    assert!(Socks4::new("a", 80).unwrap().user_id("a\0b").is_err());
}

fn request(bench: &Bench) -> Option<tepal_layers::ProxyRequest> {
    bench.seen.iter().find_map(|seen| match seen {
        Seen::Layer(Notice::Request { request, .. }) => Some(request.clone()),
        _ => None,
    })
}

#[test]
fn client_and_server_of_each_version_meet_and_leave_the_stream_clean() {
    let hooked = || SocksServer::new().auth(|user, password| (user, password) == ("me", CANARY));
    let clients = [
        (socks5(), SocksServer::new(), "socks5"),
        (socks5_auth(), hooked(), "socks5"),
        (socks4(), SocksServer::new(), "socks4"),
    ];
    for piece in [0, 1, 3] {
        for (client, server, name) in &clients {
            let mut pair = Pair::new(client, &Stack::new().with(server.clone())).unwrap();
            pair.piece = piece;
            pair.client.write(b"early").unwrap();
            pair.run();
            let asked = request(&pair.server).unwrap();
            assert_eq!((asked.host, asked.port), (Host::Name("target.test".into()), 80));
            assert_eq!(pair.server.data(), b"", "nothing before the answer");
            let answer = ProxyAnswer::Accept(IpAddr::from([1, 2, 3, 4]), 5);
            pair.server.chain.command("socks", &answer).unwrap();
            pair.server.write(b"from the target").unwrap();
            pair.run();
            assert_eq!(pair.server.data(), b"early");
            assert_eq!(pair.client.data(), b"from the target");
            let bound = Info::Bound(Host::Ip(IpAddr::from([1, 2, 3, 4])), 5);
            assert_eq!(pair.client.info(name), Some(bound));
            assert!(pair.client.chain.is_plain() && pair.server.chain.is_plain());
            let removed = Notice::Removed { layer: "socks", how: How::Finished };
            assert!(pair.server.saw(&Seen::Layer(removed)));
        }
    }
}

#[test]
fn what_the_server_refuses_is_told_to_the_client() {
    let rule = SocksServer::new().rule(|request| match request.port {
        80 => Err(SocksReply::NotAllowed),
        _ => Ok(()),
    });
    let mut pair = Pair::new(&socks5(), &Stack::new().with(rule.clone())).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::Socks5(SocksReply::NotAllowed)));
    assert_eq!(pair.server.failure_kind(), Some(ErrorKind::Forbidden));
    assert!(request(&pair.server).is_none());
    let mut pair = Pair::new(&socks4(), &Stack::new().with(rule)).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::Socks4(91)));

    let auth = SocksServer::new().auth(|_, password| password == "other");
    let mut pair = Pair::new(&socks5_auth(), &Stack::new().with(auth.clone())).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::AuthRefused));
    assert_eq!(pair.server.failure_kind(), Some(ErrorKind::AuthRefused));
    for (client, kind) in [(socks5(), ErrorKind::NoAuthMethod), (socks4(), ErrorKind::Socks4(91))] {
        let mut pair = Pair::new(&client, &Stack::new().with(auth.clone())).unwrap();
        pair.run();
        assert_eq!(pair.client.failure_kind(), Some(kind));
    }

    let mut pair = Pair::new(&socks5(), &Stack::new().with(SocksServer::new())).unwrap();
    assert!(
        pair.server.chain.command("socks", &ProxyAnswer::Refuse(SocksReply::NotAllowed)).is_err()
    );
    pair.run();
    let refused = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
    pair.server.chain.command("socks", &refused).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::Socks5(SocksReply::HostUnreachable)));
}

#[test]
fn every_malformed_request_is_one_error_for_every_split() {
    let mut cases: Vec<(Vec<u8>, ErrorKind)> = Vec::new();
    for version in (0..=255u8).filter(|version| ![4, 5].contains(version)).step_by(5) {
        cases.push((vec![version, 1, 0], ErrorKind::Version(version)));
    }
    for methods in [&[][..], &[1], &[2], &[1, 2, 3, 0xff]] {
        let mut input = vec![5, methods.len() as u8];
        input.extend(methods);
        cases.push((input, ErrorKind::NoAuthMethod));
    }
    for command in [0, 2, 3, 4, 0xff] {
        let input = vec![5, 1, 0, 5, command, 0, 1, 1, 2, 3, 4, 0, 80];
        cases.push((input, ErrorKind::Forbidden));
        cases.push((vec![4, command, 0, 80, 1, 2, 3, 4, 0], ErrorKind::Forbidden));
    }
    for kind in [0, 2, 5, 6, 0xff] {
        cases.push((vec![5, 1, 0, 5, 1, 0, kind], ErrorKind::Malformed));
    }
    cases.push((vec![5, 1, 0, 5, 1, 0, 3, 0, 0, 80], ErrorKind::Malformed));
    for name in [&b"a b"[..], b"a\r\nb", b"\xff", b"a/b", b"@", b"\0"] {
        let mut input = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
        input.extend(name);
        input.extend([0, 80]);
        cases.push((input, ErrorKind::Malformed));
    }
    for version in [0, 1, 4, 6] {
        cases.push((vec![5, 1, 0, version, 1, 0], ErrorKind::Malformed));
    }
    let long = |len: usize| [&[4, 1, 0, 80, 0, 0, 0, 1][..], &vec![b'u'; len]].concat();
    cases.push((long(256), ErrorKind::LimitExceeded));
    cases.push((long(400), ErrorKind::LimitExceeded));
    cases.push(([&long(2)[..], b"\0", &[b'h'; 256]].concat(), ErrorKind::LimitExceeded));
    cases.push(([&long(2)[..], b"\0a b\0"].concat(), ErrorKind::Malformed));
    cases.push(([&long(2)[..], b"\0\0"].concat(), ErrorKind::Malformed));
    assert!(cases.len() >= 80, "{}", cases.len());
    let stack = Stack::new().with(SocksServer::new());
    for (input, kind) in cases {
        assert_eq!(outcome(&stack, Side::Server, &input), Err(Some(kind)), "{input:?}");
    }
}
