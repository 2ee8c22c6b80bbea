//! The oracles of `fuzz/` on seeds that a small generator changes: each run is the same run. The
//! fuzz targets go further with the same functions.
#![cfg(feature = "tls")]

#[path = "../../../fuzz/oracles/mod.rs"]
#[allow(unreachable_pub, missing_docs, reason = "it is public for the fuzz targets")]
mod oracles;

use oracles::ORACLES;

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
}

/// The seed with choices before it, changed in up to four places.
fn change(seed: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut input = vec![chance.next() as u8, chance.next() as u8];
    input.extend(seed);
    for _ in 0..chance.below(5) {
        let at = chance.below(input.len());
        let end = at + chance.below(input.len() - at + 1).min(8);
        match chance.below(7) {
            0 => input.truncate(at.max(2)),
            1 => input.insert(at, chance.next() as u8),
            2 => drop(input.remove(at)),
            3 => input.extend_from_within(at..end),
            4 => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' '][chance.below(8)],
            5 => input[at] ^= 1 << chance.below(8),
            _ => input[at] = chance.next() as u8,
        }
        if input.is_empty() {
            break;
        }
    }
    input
}

fn run(name: &str, count: usize) {
    let oracle = oracles::oracle(name);
    let mut chance = Chance(7);
    for seed in oracle.seeds {
        for choice in 0..=255u8 {
            (oracle.check)(&[&[choice, choice.rotate_left(3)], *seed].concat());
            if count < 1000 && choice == 15 {
                break; // each costs a handshake
            }
        }
    }
    for _ in 0..count {
        let seed = oracle.seeds[chance.below(oracle.seeds.len())];
        let input = change(seed, &mut chance);
        let shown = input.clone();
        let result = std::panic::catch_unwind(|| (oracle.check)(&input));
        assert!(result.is_ok(), "{name}: {shown:?}");
    }
}

macro_rules! oracles {
    ($($name:ident: $count:literal,)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $count);
        })*

        /// No oracle is left out.
        #[test]
        fn every_oracle_is_run() {
            let run = [$(stringify!($name)),*];
            assert!(ORACLES.iter().all(|oracle| run.contains(&oracle.name)));
        }
    };
}

oracles! {
    socks4_reply: 5000,
    socks5_client: 5000,
    socks_server: 5000,
    http_connect_head: 5000,
    proxy_v1: 5000,
    proxy_v2_tlv: 5000,
    frame_line: 5000,
    frame_len: 5000,
    netstring: 5000,
    client_hello: 5000,
    tls_records: 150,
    layer_ops: 300,
    short_ways: 900,
    byte_queue: 10_000,
}
