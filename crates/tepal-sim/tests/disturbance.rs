//! Whatever the weather, bytes arrive once and in order; the same seed is the same weather.

mod common;

use std::io::{self, IoSlice};
use std::time::Duration;

use tepal_base::Buffer;
use tepal_driver::{Descriptor, Domain, Driver, Event, Half, Interest, Kind, Readiness};
use tepal_sim::{Config, Disturbance, SimDriver, SimKernel};

/// A client sends, half-closes and reads the echo; a server echoes. It pulls only after events and
/// only until it is told that nothing is left, as a loop does, so an edge that the simulation
/// lost would be a deadlock.
struct Echo {
    driver: SimDriver,
    ends: [End; 2],
    listener: Descriptor,
}

#[derive(Default)]
struct End {
    descriptor: Option<Descriptor>,
    // What is to be sent, and what was received.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    sent: usize,
    closes: bool,
    closed: bool,
    ended: bool,
}

const LISTENER: u64 = 9;

fn echo(config: Config, domain: Domain, size: usize) -> (Vec<u8>, SimKernel) {
    let mut driver = SimDriver::with(config);
    let kernel = driver.kernel().clone();
    let address = match domain {
        Domain::Unix => common::abstract_name("echo"),
        _ => common::v4(7),
    };
    let listener = driver.open(domain, Kind::Stream).expect("opens");
    driver.bind(listener, &address).expect("binds");
    driver.listen(listener, 1).expect("listens");
    driver.register(listener, LISTENER, Interest::READ).expect("registers");
    let client = driver.open(domain, Kind::Stream).expect("opens");
    driver.connect(client, &address).expect("connects");
    driver.register(client, 0, Interest::BOTH).expect("registers");
    let outgoing: Vec<u8> = (0..size).map(|index| (index * 7 + index / 251) as u8).collect();
    let client = End { descriptor: Some(client), outgoing, closes: true, ..End::default() };
    let mut echo = Echo { driver, ends: [client, End::default()], listener };
    while echo.ends.iter().any(|end| !(end.ended && end.closed)) {
        let wait = echo.driver.prepare(None);
        let mut events = Vec::new();
        echo.driver.collect(wait, &mut events).expect("no deadlock");
        for event in events {
            echo.handle(event);
        }
    }
    let [client, server] = echo.ends;
    for descriptor in [client.descriptor, server.descriptor, Some(listener)] {
        echo.driver.close(descriptor.expect("it was made")).expect("it is open");
    }
    let wait = echo.driver.prepare(Some(kernel.now() + Duration::from_secs(10)));
    echo.driver.collect(wait, &mut Vec::new()).expect("a deadline");
    assert_eq!(server.incoming, client.outgoing, "what the server saw");
    kernel.ledger().assert_balanced();
    (client.incoming, kernel)
}

impl Echo {
    fn handle(&mut self, event: Event) {
        if event.token == LISTENER {
            return self.accept();
        }
        let index = event.token as usize;
        if event.readiness.intersects(Readiness::READABLE | Readiness::READ_CLOSED) {
            self.pull(index);
        }
        self.push(index);
    }

    fn accept(&mut self) {
        match self.driver.accept(self.listener) {
            Ok((server, _)) => {
                self.driver.register(server, 1, Interest::READ).expect("registers");
                self.ends[1].descriptor = Some(server);
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }

    fn pull(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let descriptor = end.descriptor.expect("it has events");
        while !end.ended {
            let received = self.driver.receive(descriptor, Buffer::zeroed(1000));
            match received.result {
                Ok(0) => end.ended = true,
                Ok(count) => end.incoming.extend(&received.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("receive: {error}"),
            }
            if !received.more {
                break;
            }
        }
        if index == 1 {
            let from = end.outgoing.len();
            let echoed = end.incoming[from..].to_vec();
            end.outgoing.extend(echoed);
            end.closes = end.ended;
        }
    }

    fn push(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let descriptor = end.descriptor.expect("it has events");
        while end.sent < end.outgoing.len() {
            let slice = IoSlice::new(&end.outgoing[end.sent..]);
            let sent = self.driver.send(descriptor, &[slice]).expect("it can be sent");
            end.sent += sent.count;
            if sent.blocked {
                return;
            }
        }
        if end.closes && !end.closed {
            self.driver.shutdown(descriptor, Half::Write).expect("connected");
            end.closed = true;
        }
    }
}

fn stormy(seed: u64) -> Config {
    Config {
        seed,
        latency: Duration::ZERO..=Duration::from_millis(50),
        disturbance: Disturbance::stormy(),
        send_buffer: 1500,
        receive_buffer: 700,
        ..Config::default()
    }
}

#[test]
fn bytes_arrive_once_and_in_order_for_many_seeds() {
    for seed in 0..200 {
        for domain in [Domain::Inet, Domain::Unix] {
            let (echoed, kernel) = echo(stormy(seed), domain, 10_000);
            assert_eq!(echoed.len(), 10_000, "seed {seed}, {domain:?}");
            if domain == Domain::Inet {
                assert!(kernel.now().as_nanos() > 0, "latency takes time");
            }
        }
    }
}

#[test]
fn each_disturbance_alone_at_its_worst_leaves_streams_whole() {
    let none = Disturbance::default();
    for disturbance in [
        Disturbance { short_reads: 100, ..none },
        Disturbance { short_writes: 100, ..none },
        Disturbance { would_block: 100, ..none },
        Disturbance { spurious_events: 100, ..none },
        Disturbance { reordered_events: 100, ..none },
        Disturbance { pieces: 100, ..none },
        Disturbance { lost_datagrams: 100, doubled_datagrams: 100, ..none },
    ] {
        for domain in [Domain::Inet, Domain::Unix] {
            let config = Config { disturbance, ..Config::seeded(11) };
            assert_eq!(echo(config, domain, 5000).0.len(), 5000, "{disturbance:?}");
        }
    }
}

#[test]
fn tiny_buffers_move_everything() {
    for (send_buffer, receive_buffer) in [(1, 1), (1, 5000), (2, 3), (5000, 1)] {
        let config = Config { send_buffer, receive_buffer, ..Config::default() };
        assert_eq!(echo(config.clone(), Domain::Inet, 300).0.len(), 300, "{config:?}");
        assert_eq!(echo(config.clone(), Domain::Unix, 300).0.len(), 300, "{config:?}");
    }
}

#[test]
fn a_friendly_kernel_takes_no_time_and_few_calls() {
    let (_, kernel) = echo(Config::default(), Domain::Inet, 10_000);
    assert_eq!(kernel.now().as_nanos(), 10_000_000_000, "the last wait's deadline");
    assert!(kernel.calls()["send"] <= 12, "{:?}", kernel.calls());
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_line() {
    let run = |seed| {
        let (_, kernel) = echo(Config { record_trace: true, ..stormy(seed) }, Domain::Inet, 3000);
        (kernel.trace_hash(), kernel.trace(), kernel.now())
    };
    let (first, second) = (run(1), run(1));
    assert_eq!(first, second);
    assert!(first.1.len() > 100);
    assert_ne!(first.0, run(2).0);
    // The hash needs no lines.
    let (_, kernel) = echo(stormy(1), Domain::Inet, 3000);
    assert_eq!((kernel.trace_hash(), kernel.trace().len()), (first.0, 0));
}

#[test]
fn a_trace_tells_calls_results_and_arrivals() {
    let mut driver = SimDriver::with(Config { record_trace: true, ..Config::default() });
    let socket = driver.open(Domain::Inet, Kind::Stream).expect("opens");
    driver.connect(socket, &common::v4(1)).expect("starts");
    let _ = driver.receive(socket, Buffer::zeroed(8));
    let trace = driver.kernel().trace();
    let expected = [
        "0.000000000s d0 open Inet Stream -> Key(0v1)",
        "0.000000000s d0 connect Key(0v1) 127.0.0.1:1 -> InProgress",
        "0.000000000s ~ syn from s0 0",
        "0.000000000s ~ refused s0 0",
        "0.000000000s d0 receive Key(0v1) 8 -> ECONNREFUSED",
    ];
    assert_eq!(trace, expected);
}

#[test]
fn entropy_is_seeded_and_each_driver_has_its_own() {
    let draw = |driver: &mut SimDriver| {
        let mut bytes = [0; 33];
        driver.entropy(&mut bytes).expect("it never fails");
        bytes
    };
    let kernel = SimKernel::new(Config::seeded(1));
    let (mut a, mut b) = (kernel.driver(), kernel.driver());
    let first = draw(&mut a);
    assert_ne!(first, draw(&mut b));
    assert_ne!(first, draw(&mut a));
    assert_eq!(first, draw(&mut SimDriver::new(1)));
    assert_ne!(first, draw(&mut SimDriver::new(2)));
    assert!(first.iter().any(|byte| *byte != 0));
}

#[test]
fn entropy_does_not_change_the_weather() {
    let run = |draws: usize| {
        let mut driver = SimDriver::with(stormy(4));
        for _ in 0..draws {
            driver.entropy(&mut [0; 8]).expect("it never fails");
        }
        let (reader, writer) = driver.pipe().expect("a pipe");
        let sizes: Vec<_> = (0..50)
            .map(|_| {
                let sent = driver.send(writer, &[IoSlice::new(b"sixteen bytes....")]);
                let received = driver.receive(reader, Buffer::zeroed(9));
                (sent.expect("open").count, received.result.ok())
            })
            .collect();
        sizes
    };
    assert_eq!(run(0), run(5));
}
