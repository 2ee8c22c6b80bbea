//! What TLS as a layer costs more than bare rustls, in CPU time of this thread: `cargo bench -p tepal-layers`.
//! (`make bench BENCH_ARGS=layers` measures the other layers.)
//!
//! Rivals run in the same process, interleaved, and the median of the rounds is shown, so that a
//! machine that drifts drifts for both. With `--test` everything runs once, briefly.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench reads clocks")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tepal_base::Instant;
use tepal_layers::{
    Certificate, Chain, Event, Host, Place, Roots, Side, Stack, Tls, Turn, Workspace,
};

const CA: &[u8] = include_bytes!("../tests/data/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../tests/data/server.pem");
const KEY: &[u8] = include_bytes!("../tests/data/server.key");

fn main() {
    let brief = std::env::args().any(|arg| arg == "--test");
    let rounds = if brief { 1 } else { 15 };
    for (len, count) in [(1024, 20_000), (64 << 10, 1000)] {
        echo(rounds, len, if brief { 10 } else { count });
    }
    handshakes(rounds, if brief { 2 } else { 100 });
}

/// CPU time of this thread in nanoseconds; wall time where there is no /proc.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = stat.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
    spent.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |span| span.as_nanos() as u64)
    })
}

fn timed(act: impl FnOnce()) -> f64 {
    let start = cpu();
    act();
    (cpu() - start) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn chain(stack: &Stack, turn: Turn<'_>) -> Chain {
    let mut chain = Chain::new(stack, &Place::new(Side::Server), turn).expect("a good stack");
    drain(&mut chain, turn, |_| {});
    chain
}

/// Takes all events, giving all data to `act`.
fn drain(chain: &mut Chain, turn: Turn<'_>, mut act: impl FnMut(&[u8])) {
    while let Some(event) = chain.poll_event(turn) {
        match event {
            Event::Data => {
                let data = chain.data();
                let count = data.len();
                act(data);
                chain.took(count, turn);
            }
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

/// Drops the output as a socket would that takes everything.
fn flush(chain: &mut Chain, turn: Turn<'_>, out: &mut Vec<u8>) {
    out.clear();
    chain.output().pieces().for_each(|piece| out.extend_from_slice(piece));
    chain.sent(out.len(), turn);
}

fn configs() -> (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>) {
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA).expect("PEM")).expect("a certificate");
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("PEM")],
            PrivateKeyDer::from_pem_slice(KEY).expect("PEM"),
        )
        .expect("a certificate");
    (Arc::new(client), Arc::new(server))
}

fn tls() -> (Tls, Tls) {
    let client = Tls::builder().roots(Roots::from_pem(CA).expect("PEM")).build();
    let certificate = Certificate::from_pem(CERTIFICATE, KEY).expect("PEM");
    let server = Tls::builder().certificate(certificate).build();
    (client.expect("settings"), server.expect("settings"))
}

fn rustls_client(config: &Arc<rustls::ClientConfig>) -> rustls::ClientConnection {
    let name = ServerName::try_from("server.test").expect("a name");
    rustls::ClientConnection::new(Arc::clone(config), name).expect("a client")
}

fn take_output<D>(from: &mut rustls::ConnectionCommon<D>, out: &mut Vec<u8>) {
    while from.wants_write() {
        from.write_tls(out).expect("a vector takes all");
    }
}

/// The server's work for each of `count` messages that are echoed; the client's is not counted.
fn echo(rounds: usize, len: usize, count: usize) {
    let (client_config, server_config) = configs();
    let (_, spec) = tls();
    let stack = Stack::new().with(spec);
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let message = vec![7; len];
    for _ in 0..rounds {
        // Bare rustls, as a loop without layers would use it.
        let mut client = rustls_client(&client_config);
        let mut server = rustls::ServerConnection::new(Arc::clone(&server_config)).expect("ok");
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.is_handshaking() || server.is_handshaking() {
            take_output(&mut client, &mut up);
            feed(&mut server, &mut up);
            take_output(&mut server, &mut down);
            feed(&mut client, &mut down);
        }
        let inputs = messages(&mut client, &message, count);
        let mut plain = vec![0; 64 << 10];
        bare.push(timed(|| {
            for input in &inputs {
                let mut input = input.as_slice();
                down.clear();
                while !input.is_empty() {
                    server.read_tls(&mut input).expect("room");
                    server.process_new_packets().expect("good records");
                    while let Ok(count @ 1..) = server.reader().read(&mut plain) {
                        server.writer().write_all(&plain[..count]).expect("room");
                        take_output(&mut server, &mut down);
                    }
                }
                black_box(&down);
            }
        }));

        let workspace = Workspace::default();
        let turn = Turn::new(Instant::from_nanos(1), &workspace);
        let mut client = rustls_client(&client_config);
        let mut chain = chain(&stack, turn);
        while client.is_handshaking() || chain.handshaking().is_some() {
            take_output(&mut client, &mut up);
            chain.receive(turn, &mut up);
            up.clear();
            drain(&mut chain, turn, |_| {});
            flush(&mut chain, turn, &mut down);
            feed(&mut client, &mut down);
        }
        let mut inputs = messages(&mut client, &message, count);
        let mut inbox = tepal_base::ByteQueue::new();
        ours.push(timed(|| {
            for input in &mut inputs {
                // As the loop does it: what the protocol writes is copied to an inbox.
                down.clear();
                for part in input.chunks_mut(256 << 10) {
                    chain.receive(turn, part);
                    drain(&mut chain, turn, |data| inbox.extend(data, &mut workspace.pool()));
                    chain.write_queue(&mut inbox, turn).expect("an open chain");
                    drain(&mut chain, turn, |_| {});
                    while !chain.output().is_empty() {
                        let start = down.len();
                        chain.output().pieces().for_each(|piece| down.extend_from_slice(piece));
                        chain.sent(down.len() - start, turn);
                        drain(&mut chain, turn, |_| {});
                    }
                }
                black_box(&down);
            }
        }));
    }
    let (bare, ours) = (median(bare) / count as f64, median(ours) / count as f64);
    let more = (ours / bare - 1.0) * 100.0;
    println!(
        "TLS echo of {len} bytes, server: bare rustls {bare:.0} ns, chain {ours:.0} ns ({more:+.1} %)"
    );
}

fn feed<D>(to: &mut rustls::ConnectionCommon<D>, bytes: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("room");
        to.process_new_packets().expect("good records");
    }
    bytes.clear();
}

fn messages(client: &mut rustls::ClientConnection, message: &[u8], count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|_| {
            let mut wire = Vec::new();
            for part in message.chunks(16 << 10) {
                client.writer().write_all(part).expect("room");
                take_output(client, &mut wire);
            }
            wire
        })
        .collect()
}

/// Both sides' work for a handshake, full and resumed.
fn handshakes(rounds: usize, count: usize) {
    for resumed in [false, true] {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (client_config, server_config) = configs();
            let (client_spec, server_spec) = tls();
            let fresh = |config: &Arc<rustls::ClientConfig>| {
                let mut config = (**config).clone();
                config.resumption = rustls::client::Resumption::disabled();
                Arc::new(config)
            };
            let client_config = if resumed { client_config } else { fresh(&client_config) };
            let client_spec = match resumed {
                true => client_spec,
                false => {
                    let roots = Roots::from_pem(CA).expect("PEM");
                    Tls::builder().roots(roots).resume(false).build().expect("settings")
                }
            };
            let shake = || {
                let mut client = rustls_client(&client_config);
                let mut server =
                    rustls::ServerConnection::new(Arc::clone(&server_config)).expect("ok");
                let (mut up, mut down) = (Vec::new(), Vec::new());
                while client.is_handshaking() || server.is_handshaking() {
                    take_output(&mut client, &mut up);
                    feed(&mut server, &mut up);
                    take_output(&mut server, &mut down);
                    feed(&mut client, &mut down);
                }
                take_output(&mut server, &mut down);
                feed(&mut client, &mut down);
            };
            shake();
            bare.push(timed(|| (0..count).for_each(|_| shake())));

            let workspace = Workspace::default();
            let turn = Turn::new(Instant::from_nanos(1), &workspace);
            let (up, down) = (Stack::new().with(client_spec), Stack::new().with(server_spec));
            let place = Place {
                host: Some(Host::parse("server.test").expect("a host")),
                ..Place::new(Side::Client)
            };
            let shake = || {
                let mut client = Chain::new(&up, &place, turn).expect("a good stack");
                let mut server =
                    Chain::new(&down, &Place::new(Side::Server), turn).expect("a good stack");
                let mut wire = Vec::new();
                while client.handshaking().is_some() || server.handshaking().is_some() {
                    drain(&mut client, turn, |_| {});
                    flush(&mut client, turn, &mut wire);
                    server.receive(turn, &mut wire);
                    drain(&mut server, turn, |_| {});
                    flush(&mut server, turn, &mut wire);
                    client.receive(turn, &mut wire);
                }
            };
            shake();
            ours.push(timed(|| (0..count).for_each(|_| shake())));
        }
        let (bare, ours) = (median(bare) / count as f64 / 1e3, median(ours) / count as f64 / 1e3);
        let what = if resumed { "resumed" } else { "full" };
        println!(
            "TLS handshake, {what}, both sides: bare rustls {bare:.0} us, chains {ours:.0} us"
        );
    }
}
