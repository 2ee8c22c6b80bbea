//! HTTP CONNECT: a head is read strictly, and what stands behind it is the connection's.

use std::net::IpAddr;

use tepal_layers::check::{Bench, Case, Pair, Seen, check_layer};
use tepal_layers::{
    ErrorKind, Fault, Host, HttpConnect, HttpConnectServer, Info, Notice, ProxyAnswer, Side,
    SocksReply, Stack,
};

const CANARY: &str = "canary-password";

fn client() -> Stack {
    let spec = HttpConnect::new("target.test", 443).unwrap();
    Stack::new().with(spec.credentials("me", CANARY).unwrap())
}

fn outcome(stack: &Stack, side: Side, input: &[u8]) -> Result<(Info, Vec<u8>), Option<ErrorKind>> {
    let case = Case { stack, side, input, writes: &[b"early"], tail: b"glued" };
    let seen = check_layer(&case)
        .unwrap_or_else(|error| panic!("{:?}: {error}", String::from_utf8_lossy(input)));
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
fn every_malformed_head_is_one_error_for_every_split() {
    let status_lines = [
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 0200 OK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 OK",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 600 High",
        "HTTP/1.1 999 High",
        "HTTP/1.1 000 Zero",
        "HTTP/2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200",
        "HTTP/1.10 200 OK",
        "HTTP/01.1 200 OK",
        "HTTP/1 200 OK",
        "http/1.1 200 OK",
        "Http/1.1 200",
        " HTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP /1.1 200 OK",
        "HTTPS/1.1 200 OK",
        "200 OK",
        "ICY 200 OK",
        "SSH-2.0-OpenSSH_9",
        "",
        "HTTP/1.1 200\u{e9}",
        "HTTP/1.1 \u{662}00 OK",
        "GET / HTTP/1.1",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 20\u{b2} OK",
        "HTTP/1.1/200 OK",
        "HTTP/1.1 2OO OK",
    ];
    let mut heads: Vec<Vec<u8>> =
        status_lines.iter().map(|line| format!("{line}\r\n\r\n").into_bytes()).collect();
    let fields: [&[u8]; 32] = [
        b"no colon",
        b": no name",
        b"a b: c",
        b" folded: x",
        b"\tfolded: x",
        b"a : c",
        b"a\0: b",
        b"a: b\0",
        b"a: \x01",
        b"a: \x7f",
        b"a: b\rc: d",
        b"(a): b",
        b"a,b: c",
        b"a;b: c",
        b"a<: b",
        b"a@b: c",
        b"a[0]: c",
        b"a{b}: c",
        b"a\"b: c",
        b"a/b: c",
        b"a?b: c",
        b"a=b: c",
        b"a\\b: c",
        b"\xff: b",
        b"a\xe9: b",
        b"\x80",
        b"=",
        b" ",
        b"\t",
        b"a\x1b: b",
        b"a: \x1b[2J",
        b"a: b\x0b",
    ];
    for field in fields {
        heads.push([b"HTTP/1.1 200 OK\r\n", field, b"\r\n\r\n"].concat());
        heads.push([b"HTTP/1.1 407 Auth\r\nFine: yes\r\n", field, b"\r\n\r\n"].concat());
    }
    // Line ends that others may take for none, or for one.
    for bare in ["HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\na: b\n\r\n", "HTTP/1.1 200 OK\r\n\n"] {
        heads.push(bare.as_bytes().to_vec());
    }
    heads.push(b"\x05\x00\r\n\r\n".to_vec());
    heads.push(b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec());
    assert!(heads.len() >= 80, "{}", heads.len());
    for head in heads {
        let got = outcome(&client(), Side::Client, &head);
        assert_eq!(got, Err(Some(ErrorKind::Malformed)), "{:?}", String::from_utf8_lossy(&head));
    }
}

#[test]
fn every_refusing_status_is_its_own_error_and_no_body_is_waited_for() {
    for code in (300..=599).step_by(7).chain([407]) {
        let head = format!("HTTP/1.0 {code} No\r\nContent-Length: 1000000\r\n\r\n<html>");
        let kind = ErrorKind::HttpStatus(code);
        assert_eq!(outcome(&client(), Side::Client, head.as_bytes()), Err(Some(kind)));
    }
}

#[test]
fn any_2xx_opens_the_connection_and_bytes_glued_to_it_are_kept() {
    for (head, code) in [
        ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
        ("HTTP/1.0 200\r\n\r\n", 200),
        ("HTTP/1.1 200 \r\n\r\n", 200),
        ("HTTP/1.1 204 x\r\nVia: 1.1 a, 1.1 b\r\nEmpty:\r\n\r\n", 204),
        ("HTTP/1.1 299 x\r\nX: \u{e9}\t\r\n\r\n", 299),
        // The length means nothing here (RFC 9110, section 9.3.6).
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
    ] {
        let glued = [head.as_bytes(), b"220 mail\r\n"].concat();
        let expected = (Info::HttpStatus(code), b"220 mail\r\n".to_vec());
        assert_eq!(outcome(&client(), Side::Client, &glued), Ok(expected), "{head:?}");
        assert_eq!(
            outcome(&client(), Side::Client, head.as_bytes()),
            Ok((Info::HttpStatus(code), vec![]))
        );
    }
}

#[test]
fn a_head_without_end_is_cut_off() {
    let endless = |line: &[u8], count: usize| {
        let mut bench = Bench::new(&client(), Side::Client).unwrap();
        bench.receive(b"HTTP/1.1 200 OK\r\n");
        for _ in 0..count {
            bench.receive(line);
        }
        bench.failure_kind()
    };
    assert_eq!(endless(b"a: b\r\n", 99), None);
    assert_eq!(endless(b"a: b\r\n", 101), Some(ErrorKind::LimitExceeded));
    assert_eq!(endless(&[b'x'; 1000], 64), None);
    assert_eq!(endless(&[b'x'; 1000], 66), Some(ErrorKind::LimitExceeded));
    let mut bench = Bench::new(&client(), Side::Client).unwrap();
    for _ in 0..17 {
        bench.receive(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    assert_eq!(bench.failure_kind(), Some(ErrorKind::LimitExceeded));
}

#[test]
fn the_request_names_the_host_as_the_grammar_wants_and_nothing_can_be_smuggled_in() {
    for (host, authority) in [
        ("target.test", "target.test:8443"),
        ("1.2.3.4", "1.2.3.4:8443"),
        ("::1", "[::1]:8443"),
        ("[2001:db8::2]", "[2001:db8::2]:8443"),
    ] {
        let spec = HttpConnect::new(host, 8443).unwrap().header("X-A", "b").unwrap();
        let mut bench = Bench::new(&Stack::new().with(spec), Side::Client).unwrap();
        bench.write(b"early").unwrap();
        let request =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nX-A: b\r\n\r\n");
        assert_eq!(String::from_utf8(bench.sent()).unwrap(), request);
    }
    for bad in ["a\r\nb", "a b", "a\n", "", "a:1", "a/b"] {
        assert!(HttpConnect::new(bad, 1).is_err(), "{bad:?}");
    }
    let spec = || HttpConnect::new("a", 1).unwrap();
    for (name, value) in [
        ("a\r\n", "b"),
        ("", "b"),
        ("a b", "c"),
        ("a:", "b"),
        ("a", "b\r\nc: d"),
        ("a", "\0"),
        ("a", "é"),
    ] {
        assert!(spec().header(name, value).is_err(), "{name:?}: {value:?}");
    }
    for (user, password) in [("a:b", "c"), ("a\n", "b"), ("a", "b\r\nc: d")] {
        assert!(spec().credentials(user, password).is_err());
    }
    assert!(!format!("{:?}", client()).contains(CANARY));
    let mut bench = Bench::new(&client(), Side::Client).unwrap();
    bench.settle();
    let sent = String::from_utf8(bench.sent()).unwrap();
    assert!(sent.contains("\r\nProxy-Authorization: Basic bWU6Y2FuYXJ5LXBhc3N3b3Jk\r\n"), "{sent}");
}

#[test]
fn client_and_server_meet_and_leave_the_stream_clean() {
    let server = HttpConnectServer::new().auth(|user, password| (user, password) == ("me", CANARY));
    for piece in [0, 1, 7] {
        let mut pair = Pair::new(&client(), &Stack::new().with(server.clone())).unwrap();
        pair.piece = piece;
        pair.client.write(b"early").unwrap();
        pair.run();
        let request = pair.server.seen.iter().find_map(|seen| match seen {
            Seen::Layer(Notice::Request { request, .. }) => Some(request.clone()),
            _ => None,
        });
        let request = request.unwrap();
        assert_eq!((request.host, request.port), (Host::Name("target.test".into()), 443));
        assert_eq!(request.user.as_deref(), Some("me"));
        let answer = ProxyAnswer::Accept(IpAddr::from([1, 2, 3, 4]), 5);
        pair.server.chain.command("http-proxy", &answer).unwrap();
        pair.run();
        pair.server.write(b"hello").unwrap();
        pair.run();
        assert_eq!(
            (pair.server.data(), pair.client.data()),
            (b"early".to_vec(), b"hello".to_vec())
        );
        assert!(pair.client.chain.is_plain() && pair.server.chain.is_plain());
    }
    let strict = HttpConnectServer::new().auth(|_, _| false);
    let mut pair = Pair::new(&client(), &Stack::new().with(strict)).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::HttpStatus(407)));
    assert_eq!(pair.server.failure_kind(), Some(ErrorKind::AuthRefused));
    let rule = HttpConnectServer::new().rule(|_| Err(SocksReply::NotAllowed));
    let mut pair = Pair::new(&client(), &Stack::new().with(rule)).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::HttpStatus(403)));
    let mut pair = Pair::new(&client(), &Stack::new().with(HttpConnectServer::new())).unwrap();
    pair.run();
    let refuse = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
    pair.server.chain.command("http-proxy", &refuse).unwrap();
    pair.run();
    assert_eq!(pair.client.failure_kind(), Some(ErrorKind::HttpStatus(502)));
}

#[test]
fn every_request_but_a_strict_connect_gets_a_400() {
    let stack = Stack::new().with(HttpConnectServer::new());
    for line in [
        "GET / HTTP/1.1",
        "connect a:1 HTTP/1.1",
        "CONNECT a HTTP/1.1",
        "CONNECT a: HTTP/1.1",
        "CONNECT :1 HTTP/1.1",
        "CONNECT a:65536 HTTP/1.1",
        "CONNECT a:-1 HTTP/1.1",
        "CONNECT a:1",
        "CONNECT a:1 HTTP/2.0",
        "CONNECT  a:1 HTTP/1.1",
        "CONNECT a:1 HTTP/1.1 ",
        "CONNECT ::1:1 HTTP/1.1",
        "CONNECT [a]:1 HTTP/1.1",
        "CONNECT http://a:1 HTTP/1.1",
        "CONNECT a/b:1 HTTP/1.1",
        "",
        "CONNECT u@a:1 HTTP/1.1",
        "CONNECT a:+1 HTTP/1.1",
        "CONNECT a:000001 HTTP/1.1",
        "\u{5}\u{1}",
        "CONNECT a:1\tHTTP/1.1",
        "CONNECT [::1]1:1 HTTP/1.1",
        "CONNECT [::1:1 HTTP/1.1",
    ] {
        let head = format!("{line}\r\n\r\n");
        let got = outcome(&stack, Side::Server, head.as_bytes());
        assert_eq!(got, Err(Some(ErrorKind::Malformed)), "{line:?}");
        let mut bench = Bench::new(&stack, Side::Server).unwrap();
        bench.receive(head.as_bytes());
        assert!(bench.sent().starts_with(b"HTTP/1.1 400 "));
    }
}
