//! The PROXY protocol: mandatory, trusted only where told, and never taken for data.

use std::net::SocketAddr;
use std::sync::Arc;

use tepal_layers::check::{Bench, Case, Pair, Seen, check_layer};
use tepal_layers::{
    ErrorKind, Fault, Info, Limits, Notice, Place, ProxyHeader, ProxyInfo, Side, Stack, Untrusted,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn accept() -> Stack {
    Stack::new().with(ProxyHeader::new().danger_trust_all())
}

/// Version, addresses and fields of a header.
type Told = (u8, Option<(SocketAddr, SocketAddr)>, Vec<(u8, Vec<u8>)>);

fn outcome(input: &[u8]) -> Result<(Told, Vec<u8>), Option<ErrorKind>> {
    let stack = accept();
    let case = Case { stack: &stack, side: Side::Server, input, writes: &[], tail: b"glued" };
    let seen = check_layer(&case).unwrap_or_else(|error| panic!("{input:?}: {error}"));
    let (mut info, mut data) = (None, Vec::new());
    for each in seen {
        match each {
            Seen::Layer(Notice::Ready { info: Info::Proxy(ready), .. }) => info = Some(ready),
            Seen::Data(bytes) => data.extend(bytes),
            Seen::Failed(error) => {
                assert_eq!(error.fault(), Fault::Remote);
                return Err(Some(error.kind()));
            }
            _ => {}
        }
    }
    let told = |info: Arc<ProxyInfo>| (info.version, info.addresses, info.tlvs.clone());
    info.map(|info| (told(info), data)).ok_or(None)
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

fn addresses(from: &str, to: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((from.parse().unwrap(), to.parse().unwrap()))
}

#[test]
fn every_malformed_header_is_one_error_for_every_split() {
    let mut cases: Vec<(Vec<u8>, ErrorKind)> = Vec::new();
    // No header at all: told at the first byte that differs.
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01",
        b"PROXX",
        b"proxy TCP4",
        b"PROXYTCP4",
        b"\r\n\r\n\r\n",
        b"\0",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"EHLO",
        b"PROXY\tTCP4",
        b"\n",
        b"\r\r",
        b"P\r\n",
        b" PROXY ",
    ] {
        cases.push((other.to_vec(), ErrorKind::HeaderMissing));
    }
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 x\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1%lo ::2 1 2\r\n",
        "PROXY TCP6 [::1] [::2] 1 2\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY unknown\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY UNKNOWN\n",
        "PROXY \n",
        "PROXY TCP4 a b c d\r\n",
        "PROXY TCP4 host.test 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 99999999999 2\r\n",
    ] {
        cases.push((line.as_bytes().to_vec(), ErrorKind::Malformed));
    }
    cases.push((b"PROXY TCP4 \xff\r\n".to_vec(), ErrorKind::Malformed));
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat();
    assert_eq!(endless.len(), 107);
    cases.push((endless.clone(), ErrorKind::Malformed));
    cases.push(([&endless[..], b"\r\n"].concat(), ErrorKind::Malformed));
    // Version 2.
    for start in [0x00, 0x11, 0x31, 0x41, 0xf1, 0x01] {
        cases.push((v2(start, 0x11, &[0; 12]), ErrorKind::Version(start >> 4)));
        cases.push(([SIGNATURE, &[start]].concat(), ErrorKind::Version(start >> 4)));
    }
    for command in [0x22, 0x23, 0x2f] {
        cases.push((v2(command, 0x11, &[0; 12]), ErrorKind::Malformed));
    }
    for family in [0x10, 0x13, 0x20, 0x2f, 0x33, 0x40, 0x41, 0xff, 0x01, 0x02] {
        cases.push((v2(0x21, family, &[0; 216]), ErrorKind::Malformed));
    }
    for (family, least) in
        [(0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216), (0x32, 216)]
    {
        for len in [0, 1, least - 1] {
            cases.push((v2(0x21, family, &vec![0; len]), ErrorKind::Malformed));
        }
        // Extensions that end too early.
        for rest in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 0, 5], &[4, 0xff, 0xff, 1]] {
            let body = [&vec![0; least][..], rest].concat();
            cases.push((v2(0x21, family, &body), ErrorKind::Malformed));
        }
    }
    for len in [4097u16, 0x2000, 0xffff] {
        let start = [SIGNATURE, &[0x21, 0x11], &len.to_be_bytes()].concat();
        cases.push((start, ErrorKind::LimitExceeded));
    }
    for sum in [&[3, 0, 4, 1, 2, 3, 4][..], &[3, 0, 4, 0, 0, 0, 0]] {
        let body = [&[1; 12][..], sum].concat();
        cases.push((v2(0x21, 0x11, &body), ErrorKind::Checksum));
    }
    for sum in [&[3, 0, 3, 1, 2, 3][..], &[3, 0, 5, 0, 0, 0, 0, 0], &[3, 0, 0]] {
        let body = [&[1; 12][..], sum].concat();
        cases.push((v2(0x21, 0x11, &body), ErrorKind::Malformed));
    }
    assert!(cases.len() >= 80, "{}", cases.len());
    for (input, kind) in cases {
        let shown = String::from_utf8_lossy(&input);
        assert_eq!(outcome(&input), Err(Some(kind)), "{shown:?}");
    }
}

#[test]
fn good_headers_tell_who_is_behind_and_the_rest_is_data() {
    let four = addresses("1.2.3.4:56", "5.6.7.8:443");
    let six = addresses("[2001:db8::1]:0", "[::1]:65535");
    for (line, expected) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 56 443\r\n", four),
        ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", six),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN whatever  it may be\r\n", None),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            addresses(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
    ] {
        let info = (1, expected, vec![]);
        let input = [line.as_bytes(), b"PROXY data\r\n"].concat();
        assert_eq!(outcome(&input), Ok((info, b"PROXY data\r\n".to_vec())), "{line}");
    }
    let body = [1, 2, 3, 4, 5, 6, 7, 8, 0, 56, 1, 187];
    let with_tlvs = [&body[..], &[1, 0, 2, b'h', b'2', 4, 0, 0, 0xe0, 0, 1, 9]].concat();
    let tlvs = vec![(1, b"h2".to_vec()), (4, vec![]), (0xe0, vec![9])];
    for (input, addresses, tlvs) in [
        (v2(0x21, 0x11, &body), four, vec![]),
        (v2(0x21, 0x12, &body), four, vec![]),
        (v2(0x21, 0x11, &with_tlvs), four, tlvs),
        (v2(0x20, 0x11, &body), None, vec![]),
        (v2(0x20, 0x00, &[]), None, vec![]),
        (v2(0x20, 0x00, &[9; 30]), None, vec![]),
        (v2(0x20, 0xff, &[1]), None, vec![]),
        (v2(0x21, 0x00, &[]), None, vec![]),
        (v2(0x21, 0x31, &[b'/'; 216]), None, vec![]),
    ] {
        let info = (2, addresses, tlvs);
        let glued = [&input[..], b"data"].concat();
        assert_eq!(outcome(&glued), Ok((info, b"data".to_vec())), "{input:?}");
    }
}

#[test]
fn what_is_sent_is_what_is_taken() {
    let (from, to) = addresses("1.2.3.4:56", "5.6.7.8:443").unwrap();
    let (from6, to6) = addresses("[::1]:1", "[::2]:2").unwrap();
    let base = || ProxyHeader::new().addresses(from, to);
    for (send, version, expected, tlvs) in [
        (base(), 2, Some((from, to)), 0),
        (base().version_1(), 1, Some((from, to)), 0),
        (base().extension(1, b"h2").extension(5, b"id").checksum(), 2, Some((from, to)), 3),
        (ProxyHeader::new().addresses(from6, to6).checksum(), 2, Some((from6, to6)), 1),
        (ProxyHeader::new().addresses(from6, to6).version_1(), 1, Some((from6, to6)), 0),
        (base().local(), 2, None, 0),
        (base().local().version_1(), 1, None, 0),
        (ProxyHeader::new(), 2, None, 0),
        (ProxyHeader::new().addresses(from, to6), 2, None, 0),
    ] {
        for piece in [0, 1] {
            let mut pair = Pair::new(&Stack::new().with(send.clone()), &accept()).unwrap();
            pair.piece = piece;
            pair.client.write(b"hello").unwrap();
            pair.run();
            let Some(Info::Proxy(info)) = pair.server.info("proxy") else { panic!("no header") };
            assert_eq!((info.version, info.addresses, info.tlvs.len()), (version, expected, tlvs));
            assert_eq!(pair.server.data(), b"hello");
            assert!(pair.server.chain.is_plain());
        }
    }
}

#[test]
fn a_header_is_taken_only_from_whom_it_may_come() {
    let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nx";
    let accept = |spec: ProxyHeader, peer: &str| {
        let stack = Stack::new().with(spec);
        let place = Place { peer: Some(peer.parse().unwrap()), ..Place::new(Side::Server) };
        let mut bench = Bench::at(&stack, &place, Limits::default()).unwrap();
        bench.receive(line);
        bench
    };
    let trusting = || ProxyHeader::new().trust("10.1.0.0/16").unwrap().trust("fd00::/8").unwrap();
    for (peer, trusted) in [
        ("10.1.255.9:1", true),
        ("10.2.0.1:1", false),
        ("[fd12::1]:1", true),
        ("[fe80::1]:1", false),
        ("[::ffff:10.1.2.3]:1", true),
        ("[::ffff:10.2.2.3]:1", false),
    ] {
        let bench = accept(trusting(), peer);
        let kind = bench.failure_kind();
        assert_eq!(kind, (!trusted).then_some(ErrorKind::Untrusted), "{peer}");
        assert_eq!(bench.data(), if trusted { &b"x"[..] } else { b"" });
        let passed = accept(trusting().untrusted(Untrusted::Pass), peer);
        assert_eq!(passed.data(), if trusted { &b"x"[..] } else { &line[..] });
    }
    let all = accept(ProxyHeader::new().trust("0.0.0.0/0").unwrap(), "9.9.9.9:9");
    assert_eq!(all.data(), b"x");
    for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/x", "host", "10.0.0.0/"] {
        assert!(ProxyHeader::new().trust(bad).is_err(), "{bad:?}");
    }
    let nobody = Stack::new().with(ProxyHeader::new());
    assert!(Bench::new(&nobody, Side::Server).is_err());
}
