//! SOCKS, CONNECT and PROXY: both ends of each.

use tepal_layers::check::Seen;
use tepal_layers::{
    ErrorKind, Host, HttpConnect, HttpConnectServer, Info, Notice, ProxyHeader, Side, Socks4,
    Socks5, SocksServer, Stack,
};

use super::{CANARY, Outcome, choices, parse};

/// Replies of a SOCKS4 proxy.
pub const SOCKS4: &[&[u8]] = &[
    b"\0\x5a\0\x50\x01\x02\x03\x04rest",
    b"\x04\x5a\0\x50\x01\x02\x03\x04",
    b"\0\x5b\0\0\0\0\0\0",
    b"\0\x5d\0\0",
];

/// Any reply to a SOCKS4 request.
pub fn socks4_reply(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    let host = if choice & 1 == 0 { "192.0.2.1" } else { "name.test" };
    let spec = Socks4::new(host, 80).and_then(|spec| spec.user_id("me")).expect("good settings");
    let outcome = parse(&Stack::new().with(spec), Side::Client, cut, input);
    match input {
        [0 | 4, 90, _, _, _, _, _, _, rest @ ..] => assert_eq!(outcome.data(), rest),
        _ => assert!(outcome.failed() && outcome.data().is_empty()),
    }
}

/// Replies of a SOCKS5 proxy.
pub const SOCKS5: &[&[u8]] = &[
    b"\x05\0\x05\0\0\x01\x01\x02\x03\x04\0\x50rest",
    b"\x05\x02\x01\0\x05\0\0\x03\x04name\0\x50rest",
    b"\x05\x02\x01\0\x05\0\0\x04\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\0\x50",
    b"\x05\x02\x01\x01",
    b"\x05\xff",
    b"\x05\0\x05\x05\0\x01\0\0\0\0\0\0",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
];

/// Any replies to a SOCKS5 client, with credentials and without. The credentials leave only when
/// they were asked for.
pub fn socks5_client(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    let mut spec = Socks5::new("name.test", 80).expect("a good host");
    if choice & 1 == 1 {
        spec = spec.credentials("me", CANARY).expect("good credentials");
    }
    let outcome = parse(&Stack::new().with(spec), Side::Client, cut, input);
    let told = outcome.sent.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
    assert_eq!(told, choice & 1 == 1 && input.starts_with(&[5, 2]));
    if !outcome.failed() {
        let tail = outcome.data();
        assert!(input.ends_with(&tail));
        let bound = outcome
            .seen
            .iter()
            .any(|seen| matches!(seen, Seen::Layer(Notice::Ready { info: Info::Bound(..), .. })));
        assert!(bound && input.len() - tail.len() > 2 + 4 + 2);
    }
}

/// What clients of SOCKS say.
pub const SOCKS_SERVER: &[&[u8]] = &[
    b"\x05\x01\0\x05\x01\0\x03\x04name\0\x50rest",
    b"\x05\x02\0\x02\x05\x01\0\x01\x01\x02\x03\x04\0\x50rest",
    b"\x05\x01\x02\x01\x02me\x0fcanary-pa55word\x05\x01\0\x03\x04name\0\x50rest",
    b"\x05\x01\x02\x01\x02me\x05wrong",
    b"\x04\x01\0\x50\x01\x02\x03\x04me\0rest",
    b"\x04\x01\0\x50\0\0\0\x01me\0name\0rest",
    b"\x05\x01\0\x05\x02\0\x01\0\0\0\0\0\0",
    b"GET / HTTP/1.1\r\n\r\n",
];

/// Any client of our SOCKS proxy.
pub fn socks_server(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    let mut spec = SocksServer::new();
    if choice & 1 == 1 {
        spec = spec.auth(|user, password| (user, password) == ("me", CANARY));
    }
    let outcome = parse(&Stack::new().with(spec), Side::Server, cut, input);
    request_holds(&outcome, input);
    if choice & 1 == 1 && asked(&outcome).is_some() {
        let known = input.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert!(known, "let in without the password");
    }
}

/// What proxies answer to CONNECT, and what clients ask for with it.
pub const CONNECT: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nrest",
    b"HTTP/1.0 200 Connection established\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\nrest",
    b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\nbody",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"CONNECT name.test:443 HTTP/1.1\r\nHost: name.test:443\r\n\r\nrest",
    b"CONNECT [::1]:443 HTTP/1.1\r\nProxy-Authorization: Basic bWU6Y2FuYXJ5LXBhNTV3b3Jk\r\n\r\n",
    b"CONNECT 1.2.3.4:80 HTTP/1.0\r\n\r\n",
];

/// Any answer to our CONNECT, and any request for one.
pub fn http_connect_head(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    if choice & 1 == 0 {
        let spec = HttpConnect::new("name.test", 443).expect("a good host");
        let spec = spec.credentials("me", CANARY).expect("good credentials");
        let outcome = parse(&Stack::new().with(spec), Side::Client, cut, input);
        answer_holds(&outcome, input);
    } else {
        let mut spec = HttpConnectServer::new();
        if choice & 2 == 2 {
            spec = spec.auth(|user, password| (user, password) == ("me", CANARY));
        }
        let outcome = parse(&Stack::new().with(spec), Side::Server, cut, input);
        request_holds(&outcome, input);
        if asked(&outcome).is_some() {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut twin = httparse::Request::new(&mut fields);
            let used = twin.parse(input).expect("the twin accepts it too").unwrap();
            assert_eq!(outcome.data(), &input[used..]);
            assert_eq!(twin.method, Some("CONNECT"));
        }
    }
}

// What we take for success another parser takes for the same, with the same bytes behind it.
fn answer_holds(outcome: &Outcome, input: &[u8]) {
    let status = outcome.seen.iter().find_map(|seen| match seen {
        Seen::Layer(Notice::Ready { info: Info::HttpStatus(status), .. }) => Some(*status),
        Seen::Failed(error) => match error.kind() {
            ErrorKind::HttpStatus(status) => Some(status),
            _ => None,
        },
        _ => None,
    });
    let Some(status) = status else { return assert!(outcome.failed()) };
    let mut rest = input;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut twin = httparse::Response::new(&mut fields);
        let used = twin.parse(rest).expect("the twin accepts it too").unwrap();
        rest = &rest[used..];
        match twin.code.expect("a whole head has a status") {
            100..=199 if twin.code != Some(status) => {}
            code => {
                assert_eq!(code, status);
                assert!(outcome.failed() || (200..300).contains(&code));
                assert!(outcome.failed() || outcome.data() == rest);
                return;
            }
        }
    }
}

fn asked(outcome: &Outcome) -> Option<(Host, u16)> {
    outcome.seen.iter().find_map(|seen| match seen {
        Seen::Layer(Notice::Request { request, .. }) => Some((request.host.clone(), request.port)),
        _ => None,
    })
}

// A request that we tell of has a host that can go anywhere without harm, and what is behind it
// arrives. Anything else fails.
fn request_holds(outcome: &Outcome, input: &[u8]) {
    match asked(outcome) {
        Some((host, _)) => {
            assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host));
            assert!(!outcome.failed() && input.ends_with(&outcome.data()));
        }
        None => assert!(outcome.failed() && outcome.data().is_empty()),
    }
}

/// Lines of version 1.
pub const PROXY_1: &[&[u8]] = &[
    b"PROXY TCP4 1.2.3.4 5.6.7.8 56 443\r\nrest",
    b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\nrest",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff 1 2\r\nrest",
];

/// Anything where a header is mandatory, as a line of version 1 or whatever it is.
pub fn proxy_v1(data: &[u8]) {
    let (_, cut, input) = choices(data);
    header_holds(cut, input);
}

/// What follows the signature of version 2.
pub const PROXY_2: &[&[u8]] = &[
    b"\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0arest",
    b"\x21\x11\0\x13\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a\x04\0\x04\0\0\0\0rest",
    b"\x21\x11\0\x13\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a\x03\0\x04\0\0\0\0rest",
    b"\x20\0\0\0rest",
    b"\x21\x21\0\x24\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
      \0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\0\x01\0\x02",
];

/// Any header of version 2.
pub fn proxy_v2_tlv(data: &[u8]) {
    let (_, cut, rest) = choices(data);
    header_holds(cut, &[b"\r\n\r\n\0\r\nQUIT\n", rest].concat());
}

fn header_holds(cut: u8, input: &[u8]) {
    let accept = ProxyHeader::new().danger_trust_all();
    let outcome = parse(&Stack::new().with(accept), Side::Server, cut, input);
    let info = outcome.seen.iter().find_map(|seen| match seen {
        Seen::Layer(Notice::Ready { info: Info::Proxy(info), .. }) => Some(info.clone()),
        _ => None,
    });
    let Some(info) = info else { return assert!(outcome.failed() && outcome.data().is_empty()) };
    let tail = outcome.data();
    assert!(input.ends_with(&tail));
    let header = &input[..input.len() - tail.len()];
    // Written again it is read as the same. A line can be written in one way only, but for what
    // UNKNOWN is followed by.
    let mut again = ProxyHeader::new();
    again = match info.addresses {
        Some((from, to)) => again.addresses(from, to),
        None => again.local(),
    };
    for (kind, value) in info.tlvs.iter().filter(|(kind, _)| *kind != 3) {
        again = again.extension(*kind, value);
    }
    if info.version == 1 {
        again = again.version_1();
    }
    if info.tlvs.iter().any(|(kind, _)| *kind == 3) {
        again = again.checksum();
    }
    let mut bench = tepal_layers::check::Bench::new(&Stack::new().with(again), Side::Client)
        .expect("good settings");
    bench.settle();
    let written = bench.sent();
    if info.version == 1 && info.addresses.is_some() {
        // Another spelling of an IPv6 address is the same address.
        assert!(written == header || written.starts_with(b"PROXY TCP6 "));
    }
    let accept = ProxyHeader::new().danger_trust_all().max_length(usize::MAX);
    let second = parse(&Stack::new().with(accept), Side::Server, cut, &written);
    assert!(!second.failed(), "{written:?}");
}
