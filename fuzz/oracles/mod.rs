//! What must hold for any bytes, as plain functions: the fuzz targets call them with what libFuzzer
//! makes up, and ordinary tests with seeds that a small generator changes.
//!
//! The first two bytes of an input are choices (the settings, and how the input is cut into
//! pieces); what follows is what a peer sends, or a list of operations.

pub mod frames;
pub mod hello;
pub mod operations;
pub mod proxies;
pub mod queue;
pub mod records;
pub mod short;

use std::fmt::Write;

use tepal_layers::check::{Bench, Seen};
use tepal_layers::{Notice, ProxyAnswer, Side, Stack};

/// One oracle with the inputs from which its fuzzing begins.
pub struct Oracle {
    /// The fuzz target's name.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub check: fn(&[u8]),
    /// What follows the two bytes of choices.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const ORACLES: &[Oracle] = &[
    Oracle { name: "socks4_reply", check: proxies::socks4_reply, seeds: proxies::SOCKS4 },
    Oracle { name: "socks5_client", check: proxies::socks5_client, seeds: proxies::SOCKS5 },
    Oracle { name: "socks_server", check: proxies::socks_server, seeds: proxies::SOCKS_SERVER },
    Oracle {
        name: "http_connect_head",
        check: proxies::http_connect_head,
        seeds: proxies::CONNECT,
    },
    Oracle { name: "proxy_v1", check: proxies::proxy_v1, seeds: proxies::PROXY_1 },
    Oracle { name: "proxy_v2_tlv", check: proxies::proxy_v2_tlv, seeds: proxies::PROXY_2 },
    Oracle { name: "frame_line", check: frames::frame_line, seeds: frames::LINES },
    Oracle { name: "frame_len", check: frames::frame_len, seeds: frames::LENGTHS },
    Oracle { name: "netstring", check: frames::netstring, seeds: frames::NETSTRINGS },
    Oracle { name: "client_hello", check: hello::client_hello, seeds: hello::HELLOS },
    Oracle { name: "tls_records", check: records::tls_records, seeds: records::EDITS },
    Oracle { name: "layer_ops", check: operations::layer_ops, seeds: operations::LISTS },
    Oracle { name: "short_ways", check: short::short_ways, seeds: short::LISTS },
    Oracle { name: "byte_queue", check: queue::byte_queue, seeds: queue::LISTS },
];

/// The oracle of that name.
pub fn oracle(name: &str) -> &'static Oracle {
    ORACLES.iter().find(|oracle| oracle.name == name).expect("an oracle of that name")
}

/// A password that must never be seen in a message.
pub const CANARY: &str = "canary-pa55word";

/// The two choices and the rest.
pub fn choices(data: &[u8]) -> (u8, u8, &[u8]) {
    match data {
        [first, second, rest @ ..] => (*first, *second, rest),
        [first] => (*first, 0, &[]),
        [] => (0, 0, &[]),
    }
}

/// What came of an input.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// What the protocol saw, without `Established`, whose place among notices is no matter of
    /// bytes.
    pub seen: Vec<Seen>,
    /// What the peer was sent.
    pub sent: Vec<u8>,
}

impl Outcome {
    /// All data, joined.
    pub fn data(&self) -> Vec<u8> {
        let data = self.seen.iter().filter_map(|seen| match seen {
            Seen::Data(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }

    /// Whether the stack failed.
    pub fn failed(&self) -> bool {
        self.seen.iter().any(|seen| matches!(seen, Seen::Failed(_)))
    }
}

/// Feeds the input whole, byte by byte, and in pieces of the sizes that `cut` stands for: the
/// outcome must be the same, and what must hold for every outcome is checked.
pub fn parse(stack: &Stack, side: Side, cut: u8, input: &[u8]) -> Outcome {
    let whole = feed(stack, side, input, &[usize::MAX]);
    let sizes =
        [1 + usize::from(cut & 7), 1 + usize::from(cut >> 3 & 7), 1 + usize::from(cut >> 6)];
    for sizes in [&[1][..], &sizes] {
        assert_eq!(feed(stack, side, input, sizes), whole, "in pieces of {sizes:?}: {input:?}");
    }
    let ends = |seen: &&Seen| matches!(seen, Seen::Eof | Seen::Failed(_));
    assert_eq!(whole.seen.iter().filter(ends).count(), 1, "one end: {whole:?}");
    let mut text = format!("{stack:?}");
    for seen in &whole.seen {
        if let Seen::Failed(error) = seen {
            // Writing to a string does not fail.
            let _fine = write!(text, "{error} {error:?}");
        }
    }
    assert!(!text.contains(CANARY), "{text}");
    whole
}

fn feed(stack: &Stack, side: Side, input: &[u8], sizes: &[usize]) -> Outcome {
    let mut bench = Bench::new(stack, side).expect("the settings are good");
    bench.settle();
    let mut answered = false;
    let mut answer = |bench: &mut Bench| {
        let asks = |seen: &Seen| match seen {
            Seen::Layer(Notice::Request { layer, .. }) => Some(*layer),
            _ => None,
        };
        if !answered && let Some(layer) = bench.seen.iter().find_map(asks) {
            answered = true;
            let accept = ProxyAnswer::Accept([192, 0, 2, 1].into(), 5);
            bench.chain.command(layer, &accept).expect("it waits for an answer");
            bench.settle();
        }
    };
    let (mut rest, mut index) = (input, 0);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes[index % sizes.len()].clamp(1, rest.len()));
        bench.receive(now);
        assert!(bench.chain.read_len() <= input.len());
        answer(&mut bench);
        rest = later;
        index += 1;
    }
    bench.receive_eof();
    let mut seen = std::mem::take(&mut bench.seen);
    seen.retain(|seen| *seen != Seen::Established);
    // What was told in one piece or in several is the same, unless each is a frame.
    Outcome { seen, sent: bench.sent() }
}
