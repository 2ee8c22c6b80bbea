//! What a lookup costs that needs no packet. Run with `cargo bench -p tepal-names`.
//!
//! The budget is 2 us for each row; the program fails if a median is above it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a benchmark reads the clock

use std::hint::black_box;
use std::time::Duration;

use tepal_base::Instant;
use tepal_names::config::Hosts;
use tepal_names::resolver::{Settings, Started, Transmit};
use tepal_names::{Family, Resolver};

const ROUNDS: usize = 15;
const PER_ROUND: u32 = 20_000;
const BUDGET: Duration = Duration::from_micros(2);

fn main() {
    let mut resolver = Resolver::new(Settings::default(), [1; 32]);
    let mut hosts = String::new();
    for index in 0..100_000u32 {
        let [a, b, c, d] = (0x0a00_0000 + index).to_be_bytes();
        hosts += &format!("{a}.{b}.{c}.{d} host{index}.example alias{index}\n");
    }
    let start = std::time::Instant::now();
    resolver.set_hosts(Hosts::parse(&hosts));
    println!(
        "reading a hosts file of 100,000 lines: {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );

    let now = Instant::from_nanos(1);
    let deadline = now + Duration::from_secs(15);
    fill_cache(&mut resolver, now, deadline);

    let mut within = true;
    for (what, host, family) in [
        ("literal, IPv4", "127.0.0.1", Family::Unspecified),
        ("literal, IPv6", "2001:db8::1", Family::Unspecified),
        ("hosts file of 100,000 lines", "alias77777", Family::Unspecified),
        ("cached, IPv4", "www.example.com", Family::V4),
        ("cached, both families", "www.example.com", Family::Unspecified),
    ] {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let start = std::time::Instant::now();
                for _ in 0..PER_ROUND {
                    let started = resolver.lookup_host(black_box(host), family, deadline, now);
                    assert!(matches!(black_box(started), Started::Finished(Ok(_))));
                }
                start.elapsed() / PER_ROUND
            })
            .collect();
        times.sort();
        let median = times[ROUNDS / 2];
        println!("{what}: {median:?} a lookup (median of {ROUNDS}, least {:?})", times[0]);
        within &= median < BUDGET;
    }
    // Unoptimized code (`cargo test --benches`) is run for its assertions alone.
    assert!(within || cfg!(debug_assertions), "over the budget of {BUDGET:?}");
}

/// Answers one question for each family.
fn fill_cache(resolver: &mut Resolver, now: Instant, deadline: Instant) {
    let started = resolver.lookup_host("www.example.com", Family::Unspecified, deadline, now);
    assert!(matches!(started, Started::Pending(_)));
    while let Some(transmit) = resolver.poll_transmit() {
        let Transmit::Datagram { exchange, message, .. } = transmit else { continue };
        let mut reply = message[..12].to_vec();
        reply[2..4].copy_from_slice(&[0x81, 0x80]);
        reply[7] = 1;
        reply[11] = 0;
        let question = &message[12..12 + 17 + 4];
        reply.extend(question);
        reply.extend([0xc0, 12]);
        reply.extend(&question[17..]);
        reply.extend(3600u32.to_be_bytes());
        let is_v6 = question[18] == 28;
        let len: u16 = if is_v6 { 16 } else { 4 };
        reply.extend(len.to_be_bytes());
        reply.extend(vec![1; len.into()]);
        resolver.handle_datagram(exchange, &reply, now);
    }
    assert_eq!(resolver.cached_count(), 2);
}
