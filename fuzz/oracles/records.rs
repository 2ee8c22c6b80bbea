//! TLS between two of ours, over a wire that edits records.

use std::sync::{Arc, Once, OnceLock};

use tepal_layers::check::{Bench, Pair, Seen};
use tepal_layers::{Certificate, Limits, Place, Roots, Side, Stack, Tls, WallClock};

use super::choices;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/tepal-layers/tests/data/", $name))
    };
}

/// Stands within the certificates' time.
#[derive(Debug)]
struct FixedClock;

impl WallClock for FixedClock {
    fn unix_seconds(&self) -> Option<u64> {
        Some(1_800_000_000)
    }
}

/// Both ends, as values that are made once.
pub fn both_ends() -> &'static (Tls, Tls) {
    static ENDS: OnceLock<(Tls, Tls)> = OnceLock::new();
    ENDS.get_or_init(|| {
        let roots = Roots::from_pem(data!("ca.pem")).expect("the tests' authority");
        let client = Tls::builder().roots(roots).server_name("server.test").resume(false);
        let certificate = Certificate::from_pem(data!("server.pem"), data!("server.key"));
        let certificate = certificate.expect("the tests' certificate");
        let server = Tls::builder().certificate(certificate).resume(false);
        let clock = Arc::new(FixedClock);
        let client = client.clock(Arc::clone(&clock) as _).build().expect("good settings");
        (client, server.clock(clock).build().expect("good settings"))
    })
}

/// Lists of edits: what, where and a value, for one flight each.
pub const EDITS: &[&[u8]] = &[
    b"\0\0\0\0\0\x03\0\0\x20",
    b"\x07\0\0\0\0\x01\x07\0\0\x01\x80\x04",
    b"\x07\0\0\x07\0\0\x07\0\0\x01\xff\x01",
    b"\x07\0\0\x07\0\0\x05\0\0\x06\0\0",
    b"\x04\x80\0",
    b"\0\0\x01\x03\x10\0",
];

const SENT: &[u8] = b"what was really sent";

/// The assertion of rustls that our engine turns into an error is no finding, though the hook of a
/// fuzzer would take it for one.
fn expect_the_assertion() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let known = info.payload_as_str() == Some("assertion failed: !self.sent_fatal_alert");
            if !known {
                before(info);
            }
        }));
    });
}

/// Handshake records may be cut into smaller ones, and the stream into any pieces, without a
/// difference. Whatever else happens to the bytes, nothing false is told, and no end is clean
/// that the peer did not make.
pub fn tls_records(data: &[u8]) {
    expect_the_assertion();
    let (choice, cut, list) = choices(data);
    let (client, server) = both_ends();
    let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
    let places = (Place::new(Side::Client), Place::new(Side::Server));
    let ends = Pair::at((&stacks.0, &places.0), (&stacks.1, &places.1), Limits::default());
    let mut pair = ends.expect("good settings");
    let mut edits = list.as_chunks::<3>().0.iter();
    let mut changed = false;
    let closing = choice & 1 == 1;
    for side in [&mut pair.client, &mut pair.server] {
        side.write(SENT).expect("nothing has happened yet");
    }
    for round in 0..12 {
        if closing && round == 6 {
            pair.client.chain.close();
            pair.server.chain.close();
        }
        pair.client.settle();
        pair.server.settle();
        let (mut up, mut down) = (pair.client.sent(), pair.server.sent());
        for flight in [&mut up, &mut down] {
            if !flight.is_empty()
                && let Some(edit) = edits.next()
            {
                changed |= apply(*edit, flight);
            }
        }
        let size = 1 + usize::from(cut);
        up.chunks(size).for_each(|chunk| pair.server.receive(chunk));
        down.chunks(size).for_each(|chunk| pair.client.receive(chunk));
    }
    for side in [&mut pair.client, &mut pair.server] {
        side.receive_eof();
        told_nothing_false(side);
        if !changed {
            assert_eq!(side.data(), SENT, "{:?}", side.failure());
            assert_eq!((side.failure().is_none(), side.saw(&Seen::Closed)), (closing, closing));
        }
        if !closing {
            assert!(side.failure().is_some(), "a cut is never clean");
        }
    }
}

fn told_nothing_false(side: &Bench) {
    assert!(SENT.starts_with(&side.data()));
    let last = side.seen.iter().position(|seen| matches!(seen, Seen::Failed(_) | Seen::Closed));
    assert!(last.is_none_or(|at| at + 1 == side.seen.len()), "{:?}", side.seen);
}

// Whether the receiver may see a difference.
fn apply([what, place, value]: [u8; 3], flight: &mut Vec<u8>) -> bool {
    let at = usize::from(place) * flight.len() / 256;
    match what & 7 {
        0 => {
            recut(1 + usize::from(value), flight);
            return false;
        }
        1 => flight[at] ^= 1 << (value & 7),
        2 => flight.insert(at, value),
        3 => drop(flight.remove(at)),
        4 => flight.truncate(at),
        5 => {
            let first = record_len(flight);
            flight.extend_from_within(..first);
        }
        6 => {
            let first = record_len(flight);
            flight.rotate_left(first);
        }
        _ => return false,
    }
    true
}

/// Cuts each plain record of a handshake into records of that size (RFC 8446, section 5.1).
fn recut(size: usize, flight: &mut Vec<u8>) {
    let mut out = Vec::new();
    let mut rest = &flight[..];
    while !rest.is_empty() {
        let (record, behind) = rest.split_at(record_len(rest));
        match record.split_at_checked(5) {
            Some((head @ [22, ..], body)) => {
                for part in body.chunks(size) {
                    out.extend(&head[..3]);
                    out.extend((part.len() as u16).to_be_bytes());
                    out.extend(part);
                }
            }
            _ => out.extend(record),
        }
        rest = behind;
    }
    *flight = out;
}

fn record_len(bytes: &[u8]) -> usize {
    match bytes {
        [_, _, _, high, low, ..] => {
            (5 + usize::from(u16::from_be_bytes([*high, *low]))).min(bytes.len())
        }
        _ => bytes.len(),
    }
}
