//! What a question costs the loop that needs no packet. Run with `cargo bench -p tepal`.
//!
//! The budget is 2 us for each row; the program fails if a median is above it.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tepal::names::{AddrInfoQuery, Hints, Settings, SocketType, SystemFiles};
use tepal::{Address, DatagramProtocol, DatagramTransport, EventLoop};

const ROUNDS: usize = 15;
/// Fewer, for tools that count instructions, by `TEPAL_BENCH_PER_ROUND`.
const PER_ROUND: u32 = 20_000;
const BUDGET: Duration = Duration::from_micros(2);

/// Answers every question with one address: `127.0.0.9` or `::9`.
struct Server;

impl DatagramProtocol for Server {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        query: &[u8],
        peer: Option<&Address>,
    ) {
        let end = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap_or(0) + 5;
        let mut data = if query[end - 3] == 1 { vec![127, 0, 0] } else { vec![0; 15] };
        data.push(9);
        let mut reply =
            [&query[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], &query[12..end]].concat();
        reply.extend([0xc0, 12, 0, query[end - 3], 0, 1, 0, 0, 0x0e, 0x10, 0, data.len() as u8]);
        reply.extend(data);
        let _ = transport.send_to(&reply, peer);
    }
}

fn main() {
    let event_loop = EventLoop::new().expect("a loop");
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let server = event_loop.datagram(Server, Some(any), None).expect("a socket");
    let server = server.local_address().expect("bound").as_ip().expect("an IP socket");
    let hosts = std::env::temp_dir().join(format!("tepal-bench-hosts-{}", std::process::id()));
    std::fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n127.0.0.7 printer\n")
        .expect("writes");
    event_loop.set_system_files(SystemFiles { hosts: hosts.clone(), ..SystemFiles::default() });
    let resolver =
        event_loop.resolver(Settings { servers: Some(vec![server]), ..Settings::default() });
    event_loop.set_resolver(Some(&resolver));
    let hints = Hints { socket_type: SocketType::STREAM, ..Hints::default() };
    let per_round = std::env::var("TEPAL_BENCH_PER_ROUND").ok().and_then(|text| text.parse().ok());
    let per_round = per_round.unwrap_or(PER_ROUND);
    let mut within = true;
    for (what, host) in [
        ("literal", "127.0.0.1"),
        ("hosts file, one address", "printer"),
        ("hosts file, two addresses in order", "localhost"),
        ("cached, both families in order", "www.example.test"),
    ] {
        let query = AddrInfoQuery { host: Some(host), service: Some("80"), hints, timeout: None };
        let first = event_loop.run_until_complete(event_loop.getaddrinfo(&query)).expect("runs");
        assert!(first.is_ok_and(|infos| !infos.is_empty()), "{host}");
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..per_round {
                    drop(black_box(event_loop.getaddrinfo(black_box(&query))));
                }
                start.elapsed() / per_round
            })
            .collect();
        times.sort();
        let median = times[ROUNDS / 2];
        println!("{what}: {median:?} a question (median of {ROUNDS}, least {:?})", times[0]);
        within &= median < BUDGET;
    }
    // The file lies in the folder for temporary ones; nothing depends on its end.
    let _ = std::fs::remove_file(hosts);
    // Unoptimized code (`cargo test --benches`) is run for its assertions alone.
    assert!(within || cfg!(debug_assertions), "over the budget of {BUDGET:?}");
}
