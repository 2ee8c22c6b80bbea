//! Seeded chance: random bytes, changed transcripts, and random operations on whole stacks. Each
//! run is the same run; the fuzz targets under `fuzz/` go further with the same oracles.
#![cfg(feature = "tls")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use tepal_layers::check::{Bench, Pair, Seen, Shift};
use tepal_layers::{
    Delimiter, Detect, ErrorKind, HttpConnect, HttpConnectServer, Idle, Late, LayerSpec,
    LengthPrefixed, Limits, Lines, Netstrings, Notice, PeerClose, Place, ProxyHeader, RateLimit,
    Residual, Side, Socks4, Socks5, SocksServer, Stack, Turn,
};

/// A small generator (splitmix64), so that a seed is a run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most + 1);
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Stacks with a transcript that each takes from its peer.
fn parsers() -> Vec<(Stack, Side, Vec<u8>)> {
    let stack = |spec: Arc<dyn LayerSpec>| Stack::new().with_shared(spec);
    let client = Side::Client;
    let server = Side::Server;
    let v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a\x04\0\0";
    vec![
        (
            stack(Arc::new(Lines::new(20).delimiter(b"\r\n"))),
            client,
            b"one\r\ntwo\r\n\r\n".to_vec(),
        ),
        (stack(Arc::new(Delimiter::new(b"--", 20))), client, b"one--two----".to_vec()),
        (
            stack(Arc::new(LengthPrefixed::new(20).width(2))),
            client,
            b"\0\x03abc\0\0\0\x01x".to_vec(),
        ),
        (stack(Arc::new(Netstrings::new(20))), client, b"3:abc,0:,1:x,".to_vec()),
        (
            stack(Arc::new(Socks5::new("a", 1).unwrap().credentials("u", "p").unwrap())),
            client,
            b"\x05\x02\x01\0\x05\0\0\x03\x04name\0\x50rest".to_vec(),
        ),
        (
            stack(Arc::new(Socks4::new("a", 1).unwrap())),
            client,
            b"\0\x5a\0\x50\x01\x02\x03\x04rest".to_vec(),
        ),
        (
            stack(Arc::new(SocksServer::new())),
            server,
            b"\x05\x01\0\x05\x01\0\x03\x04name\0\x50rest".to_vec(),
        ),
        (
            stack(Arc::new(SocksServer::new())),
            server,
            b"\x04\x01\0\x50\0\0\0\x01me\0name\0rest".to_vec(),
        ),
        (
            stack(Arc::new(HttpConnect::new("a", 1).unwrap())),
            client,
            b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nVia: x\r\n\r\nrest".to_vec(),
        ),
        (
            stack(Arc::new(HttpConnectServer::new())),
            server,
            b"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\nrest".to_vec(),
        ),
        (
            stack(Arc::new(ProxyHeader::new().danger_trust_all())),
            server,
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nrest".to_vec(),
        ),
        (
            stack(Arc::new(ProxyHeader::new().danger_trust_all())),
            server,
            [&v2[..], b"rest"].concat(),
        ),
        (
            stack(Arc::new(
                Detect::new().prefix("a", b"abc", Stack::new()).otherwise("b", Stack::new()),
            )),
            server,
            b"abcd".to_vec(),
        ),
    ]
}

/// The outcome of an input that comes in pieces of the given sizes, again and again.
fn outcome(stack: &Stack, side: Side, input: &[u8], sizes: &[usize]) -> Vec<Seen> {
    let mut bench = Bench::new(stack, side).unwrap();
    let (mut rest, mut index) = (input, 0);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes[index % sizes.len()].clamp(1, rest.len()));
        bench.receive(now);
        rest = later;
        index += 1;
    }
    bench.receive_eof();
    let mut seen = std::mem::take(&mut bench.seen);
    seen.retain(|seen| *seen != Seen::Established);
    seen
}

#[test]
fn no_parser_panics_hangs_or_depends_on_how_its_input_is_cut() {
    let mut chance = Chance(1);
    for (stack, side, transcript) in parsers() {
        for _ in 0..400 {
            let mut input = transcript.clone();
            match chance.below(4) {
                0 => input = chance.bytes(80),
                1 => input.truncate(chance.below(input.len())),
                2 => {
                    let at = chance.below(input.len());
                    let bytes = chance.bytes(5);
                    input.splice(at..at, bytes);
                }
                _ => {
                    for _ in 0..=chance.below(3) {
                        let at = chance.below(input.len());
                        input[at] = chance.next() as u8;
                    }
                }
            }
            let whole = outcome(&stack, side, &input, &[usize::MAX]);
            let sizes: Vec<usize> = (0..5).map(|_| 1 + chance.below(9)).collect();
            assert_eq!(
                outcome(&stack, side, &input, &sizes),
                whole,
                "{stack:?} {input:?} {sizes:?}"
            );
            assert_eq!(outcome(&stack, side, &input, &[1]), whole, "{stack:?} {input:?}");
        }
    }
}

#[test]
fn changed_tls_records_fail_the_same_way_however_they_are_cut_and_tell_nothing_false() {
    let mut chance = Chance(2);
    let sent: &[u8] = b"what was really sent";
    for round in 0..300 {
        let (client, server) =
            (common::client().build().unwrap(), common::server().build().unwrap());
        let mut pair = common::pair_of(&client, &server);
        // The change is made in the handshake or behind it, on either way.
        let to_server = round % 2 == 0;
        let after = round % 3 == 0;
        if after {
            pair.run();
        }
        pair.client.write(sent).unwrap();
        pair.server.write(sent).unwrap();
        let mut changed = false;
        for _ in 0..20 {
            pair.client.settle();
            pair.server.settle();
            let (mut up, mut down) = (pair.client.sent(), pair.server.sent());
            let target = if to_server { &mut up } else { &mut down };
            if !changed && !target.is_empty() && (after || chance.below(2) == 0) {
                changed = true;
                let at = chance.below(target.len());
                match chance.below(4) {
                    0 => target[at] ^= 1 << chance.below(8),
                    1 => target.truncate(at),
                    2 => target.insert(at, chance.next() as u8),
                    _ => drop(target.remove(at)),
                }
            }
            for chunk in up.chunks(1 + chance.below(300)) {
                pair.server.receive(chunk);
            }
            for chunk in down.chunks(1 + chance.below(300)) {
                pair.client.receive(chunk);
            }
        }
        pair.client.receive_eof();
        pair.server.receive_eof();
        for side in [&pair.client, &pair.server] {
            assert!(sent.starts_with(&side.data()), "round {round}");
            assert!(side.failure().is_some(), "round {round}: a cut is never clean");
            assert!(!side.saw(&Seen::Eof), "round {round}");
        }
    }
}

/// Random operations at both ends of a wire. Whatever they are, the bytes of each end arrive once
/// and in order, as far as they arrive, and nothing comes behind a failure.
#[test]
fn random_operations_keep_the_laws() {
    for seed in 0..400 {
        let mut chance = Chance(1000 + seed);
        let tls = chance.below(2) == 0;
        let stack = |side: Side, chance: &mut Chance| {
            let mut stack = Stack::new();
            if chance.below(2) == 0 {
                stack = stack.with(RateLimit::new().read(200_000).write(300_000));
            }
            if tls {
                stack = match side {
                    Side::Client => {
                        stack.with(common::client().server_name("server.test").build().unwrap())
                    }
                    Side::Server => {
                        stack.with(common::server().peer_close(PeerClose::Pop).build().unwrap())
                    }
                };
            }
            if chance.below(2) == 0 {
                stack = stack.with(Idle::new(Duration::from_secs(1)));
            }
            stack
        };
        let (up, down) = (stack(Side::Client, &mut chance), stack(Side::Server, &mut chance));
        let limits = Limits { link: 1 + chance.below(40_000), ..Limits::default() };
        let places = (Place::new(Side::Client), Place::new(Side::Server));
        let mut pair = Pair::at((&up, &places.0), (&down, &places.1), limits).unwrap();
        let mut written = [Vec::new(), Vec::new()];
        let mut popped = false;
        for _ in 0..60 {
            let client = chance.below(2) == 0;
            let side = if client { &mut pair.client } else { &mut pair.server };
            let turn_workspace = std::rc::Rc::clone(&side.workspace);
            let turn = Turn::new(side.now, &turn_workspace);
            match chance.below(12) {
                0..=3 => {
                    let bytes = chance.bytes(30_000);
                    if side.chain.write(&bytes, turn).is_ok() {
                        written[usize::from(!client)].extend(bytes);
                    }
                }
                4 => side.chain.pause_reading(),
                5 => side.chain.resume_reading(),
                6 => pair.pass_time(Duration::from_millis(chance.below(300) as u64)),
                7 => pair.piece = chance.below(2000),
                8 => side.chain.set_budget(chance.below(5000)),
                9 if tls && client && !popped && side.chain.handshaking().is_none() => {
                    let late = Late::Close;
                    popped =
                        side.chain.pop(Some("tls"), Duration::from_secs(60), late, turn).is_ok();
                }
                _ => pair.run(),
            }
            for side in [&mut pair.client, &mut pair.server] {
                if chance.below(3) == 0 {
                    side.chain.set_budget(usize::MAX);
                }
            }
        }
        for side in [&mut pair.client, &mut pair.server] {
            side.chain.set_budget(usize::MAX);
            side.chain.resume_reading();
        }
        pair.run();
        pair.pass_time(Duration::from_secs(30));
        pair.run();
        for (side, written) in [(&pair.server, &written[0]), (&pair.client, &written[1])] {
            assert_eq!(side.failure(), None, "seed {seed}");
            assert_eq!(side.data().len(), written.len(), "seed {seed}");
            assert!(side.data() == *written, "seed {seed}: bytes are changed or out of order");
            assert_eq!((side.chain.read_len(), side.chain.write_len()), (0, 0), "seed {seed}");
            let established = side.seen.iter().filter(|seen| **seen == Seen::Established).count();
            assert_eq!(established, 1, "seed {seed}");
        }
        let gone = |side: &Bench| {
            let removed =
                |seen: &&Seen| matches!(seen, Seen::Layer(Notice::Removed { layer: "tls", .. }));
            side.seen.iter().filter(removed).count()
        };
        assert_eq!((gone(&pair.client), gone(&pair.server)), (popped.into(), popped.into()));
        // And the end: each side closes, each hears of it.
        pair.client.chain.close();
        pair.run();
        pair.pass_time(Duration::from_secs(5));
        pair.server.chain.close();
        pair.run();
        pair.pass_time(Duration::from_secs(5));
        for side in [&pair.client, &pair.server] {
            assert!(side.saw(&Seen::Closed), "seed {seed}: {:?}", side.chain);
        }
    }
}

#[test]
fn random_pushes_and_pops_of_a_cipher_keep_every_byte() {
    for seed in 0..200 {
        let mut chance = Chance(5000 + seed);
        let mut bench = Bench::new(&Stack::new(), Side::Client).unwrap();
        let (mut expected, mut depth) = (Vec::new(), 0u8);
        for _ in 0..40 {
            let workspace = std::rc::Rc::clone(&bench.workspace);
            let turn = Turn::new(bench.now, &workspace);
            match chance.below(4) {
                0 if depth < 20 => {
                    let spec: Arc<dyn LayerSpec> = Arc::new(Shift(1));
                    let below = (depth > 0 && chance.below(2) == 0).then_some("shift");
                    let keepsakes = &mut Default::default();
                    match bench.chain.push(&spec, below, Residual::Feed, keepsakes, turn) {
                        Ok(_) => depth += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Closing),
                    }
                }
                1 if depth > 0 => {
                    let minute = Duration::from_secs(60);
                    if bench.chain.pop(None, minute, Late::Close, turn).is_ok() {
                        depth -= 1;
                    }
                }
                2 => bench.settle(),
                _ => {
                    let bytes = chance.bytes(3000);
                    expected.extend(bytes.iter().map(|byte| byte.wrapping_add(depth)));
                    bench.chain.write(&bytes, turn).unwrap();
                }
            }
        }
        bench.settle();
        assert!(bench.sent() == expected, "seed {seed}");
        assert_eq!(bench.chain.layers().count(), usize::from(depth));
    }
}
