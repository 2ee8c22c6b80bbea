//! Connecting anew with the same protocol: asked for in every hook, planned, followed through a
//! change of address, without a leak.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, address, on_every_driver};
use dns::{Say, Zone, put};
use story::Story;
use tepal::layers::Info;
use tepal::names::Settings;
use tepal::{
    Backoff, CloseKind, EventLoop, Lines, Listen, Loop, Phase, Protocol, Restart, Target, Timeouts,
    Transport, Unsent,
};
use tepal_sim::{Config, Route, SimKernel};

fn simulated() -> (SimKernel, EventLoop) {
    let kernel = SimKernel::new(Config::seeded(23));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    (kernel, event_loop)
}

fn everywhere(test: impl Fn(&EventLoop)) {
    on_every_driver(&test);
    test(&simulated().1);
}

fn echo_server(event_loop: &EventLoop) -> SocketAddr {
    address(&event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0").expect("a port"))
}

/// Closes each connection at its first byte, after answering it.
struct Fickle;

impl Protocol for Fickle {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        transport.write(data);
        transport.close();
        data.len()
    }
}

fn fickle_server(event_loop: &EventLoop) -> SocketAddr {
    address(&event_loop.listen(|_: &tepal::Address| Fickle, "127.0.0.1:0").expect("a port"))
}

fn nobody(event_loop: &EventLoop) -> SocketAddr {
    let server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0").expect("a port");
    let address = address(&server);
    server.close();
    address
}

/// Runs until `done` says so, at most ten thousand virtual seconds or twenty real ones.
fn run_until(event_loop: &EventLoop, mut done: impl FnMut() -> bool + 'static) {
    let lp: Loop = (**event_loop).clone();
    let limit = match event_loop.driver_name() {
        "sim" => Duration::from_secs(100_000),
        _ => Duration::from_secs(20),
    };
    let end = event_loop.time() + limit;
    let waiting = async move {
        while !done() {
            assert!(lp.time() < end, "it takes too long");
            lp.sleep(Duration::from_millis(1)).await;
        }
        lp.sleep(Duration::from_millis(2)).await;
    };
    event_loop.run_until_complete(waiting).expect("the loop runs");
}

fn run_to_end(event_loop: &EventLoop, transport: &Transport) {
    let transport = transport.clone();
    run_until(event_loop, move || {
        transport.phase() == Phase::Closed && transport.closed().is_some()
    });
}

fn again(transport: &Transport) {
    assert!(transport.reconnect(None), "an outbound connection");
}

#[test]
fn s59_s60_s62_the_same_protocol_goes_on_after_the_peer_has_closed() {
    everywhere(|event_loop| {
        let server = fickle_server(event_loop);
        let losses = Rc::new(Cell::new(0));
        let count = Rc::clone(&losses);
        let story = Story::new()
            .on("established", |transport| {
                transport.write(b"x");
            })
            .on("lost", move |transport| {
                count.set(count.get() + 1);
                if count.get() < 3 {
                    again(transport);
                    assert_eq!(transport.phase(), Phase::Waiting);
                }
            });
        let transport = event_loop.connect(story.clone(), server);
        run_to_end(event_loop, &transport);
        let once = ["established", "data", "eof", "lost"];
        let mut expected = vec!["made"];
        (0..3).for_each(|_| expected.extend(once));
        assert_eq!(story.events(), expected, "made once, lost once for each establishment");
        assert_eq!(story.0.borrow().bytes, b"xxx");
        assert_eq!(transport.closed().expect("over").kind, CloseKind::PeerEof);
    });
}

#[test]
fn s62_a_protocol_that_never_asks_sees_no_change() {
    everywhere(|event_loop| {
        let server = fickle_server(event_loop);
        let story = Story::new().on("established", |transport| {
            transport.write(b"x");
        });
        let transport = event_loop.connect(story.clone(), server);
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "established", "data", "eof", "lost"]);
    });
}

#[test]
fn s61_s63_reconnect_is_legal_in_every_hook_though_nothing_ever_connected() {
    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let zone = Zone::new();
    let key = |name: &str, kind| (name.to_owned(), kind);
    for kind in [dns::A, dns::AAAA] {
        zone.borrow_mut().answers.insert(key("silent.test", kind), Say::Nothing);
    }
    let server = dns::serve(&event_loop, &zone);
    let settings = Settings { servers: Some(vec![server]), ..Settings::default() };
    let resolver = event_loop.resolver(settings);
    event_loop.set_resolver(Some(&resolver));
    let limits = Timeouts {
        dns: Some(Duration::from_secs(1)),
        connecting: Some(Duration::from_secs(1)),
        ..Timeouts::default()
    };
    for (event, target) in [
        ("error_dns", Target::host("nobody.test", 80)),
        ("timeout_dns", Target::host("silent.test", 80)),
        ("error_connecting", Target::address(nobody(&event_loop))),
        ("timeout_connecting", Target::host("192.0.2.1", 80)),
    ] {
        let story = Story::new();
        let attempts = Rc::new(Cell::new(0));
        let count = Rc::clone(&attempts);
        let begin = event_loop.time();
        let story = story.on(event, move |transport| {
            count.set(count.get() + 1);
            let problem = transport.problem().expect("told");
            assert_eq!(problem.attempt, count.get(), "attempts are counted");
            if count.get() < 4 {
                // As after a DNS error in the founding discussion.
                assert!(transport.reconnect(Some(Duration::from_secs(20))));
            }
        });
        let transport = event_loop.connect(story.clone(), target.timeouts(limits));
        run_to_end(&event_loop, &transport);
        assert_eq!(story.events(), ["made", event, event, event, event, "lost"], "{event}");
        assert!(event_loop.time().since(begin) >= Duration::from_secs(60), "{event}");
    }
}

#[test]
fn s61_connection_lost_of_a_failed_attempt_may_reconnect_too() {
    everywhere(|event_loop| {
        let nobody = nobody(event_loop);
        let left = Cell::new(2);
        let story = Story::new().on("lost", move |transport| {
            if left.replace(left.get() - 1) > 0 {
                again(transport);
            }
        });
        let transport = event_loop.connect(story.clone(), nobody);
        run_to_end(event_loop, &transport);
        assert_eq!(story.count("error_connecting"), 3);
        assert_eq!(story.count("lost"), 3);
        assert_eq!(story.count("made"), 1);
    });
}

#[test]
fn a_plan_reconnects_without_code_and_ends_with_its_attempts() {
    let (_, event_loop) = simulated();
    let nobody = nobody(&event_loop);
    let story = Story::new();
    let begin = event_loop.time();
    let plan = Backoff { attempts: Some(4), jitter: 0.0, ..Backoff::default() };
    let transport = event_loop.connect(story.clone(), Target::address(nobody).backoff(plan));
    let awaited = event_loop.run_until_complete(transport.established()).expect("runs");
    let problem = awaited.expect_err("nobody is there").problem().cloned().expect("told");
    assert_eq!(problem.attempt, 5, "the first and four more");
    let waited = event_loop.time().since(begin);
    assert!(waited >= Duration::from_millis(7500), "0.5 + 1 + 2 + 4 s: {waited:?}");
    assert!(waited < Duration::from_millis(7600), "{waited:?}");
    assert_eq!(story.count("error_connecting"), 5);
    assert_eq!(story.count("lost"), 1, "one at the end");
}

#[test]
fn a_plan_does_not_bring_back_what_its_owner_closed() {
    for event in ["made", "established", "data"] {
        everywhere(|event_loop| {
            let server = echo_server(event_loop);
            let story = Story::new();
            let story = match event {
                "data" => story
                    .on("established", |transport| {
                        transport.write(b"x");
                    })
                    .on("data", |transport| transport.abort()),
                event => story.on(event, |transport| transport.close()),
            };
            let target = Target::address(server).backoff(Backoff::default());
            let transport = event_loop.connect(story.clone(), target);
            run_to_end(event_loop, &transport);
            assert_eq!(story.count("lost"), 1, "{event}");
            assert!(story.count("established") <= 1, "{event}");
        });
    }
}

#[test]
fn a_close_while_waiting_is_the_end() {
    everywhere(|event_loop| {
        let nobody = nobody(event_loop);
        let story = Story::new().on("error_connecting", |transport| {
            assert!(transport.reconnect(Some(Duration::from_secs(3600))));
        });
        let transport = event_loop.connect(story.clone(), nobody);
        let waiting = transport.clone();
        run_until(event_loop, move || waiting.phase() == Phase::Waiting);
        let timers = event_loop.timer_count();
        transport.close();
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
        assert!(event_loop.timer_count() <= timers);
    });
}

#[test]
fn an_established_connection_may_be_given_up_for_another() {
    everywhere(|event_loop| {
        let server = echo_server(event_loop);
        let first = Cell::new(true);
        let story = Story::new().on("established", move |transport| {
            if first.replace(false) {
                again(transport);
            } else {
                transport.write(b"second");
            }
        });
        let transport = event_loop.connect(story.clone(), server);
        let seen = story.clone();
        run_until(event_loop, move || seen.count("data") == 1);
        assert_eq!(story.events(), ["made", "established", "lost", "established", "data"]);
        assert_eq!(story.0.borrow().ends[0].kind, CloseKind::Reconnecting);
        assert!(transport.problem().is_none());
        transport.close();
        run_to_end(event_loop, &transport);
        assert_eq!(story.count("lost"), 2);
    });
}

#[test]
fn an_attempt_that_runs_is_given_up_silently() {
    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let open = kernel.ledger().open_descriptors;
    let story = Story::new();
    let transport = event_loop.connect(story.clone(), Target::host("192.0.2.1", 80));
    let trying = transport.clone();
    run_until(&event_loop, move || trying.phase() == Phase::Connect);
    assert_eq!(kernel.ledger().open_descriptors, open + 1);
    again(&transport);
    let trying = transport.clone();
    run_until(&event_loop, move || trying.phase() == Phase::Connect);
    assert_eq!(kernel.ledger().open_descriptors, open + 1, "the first socket is closed");
    assert_eq!(story.events(), ["made"]);
    transport.abort();
    run_to_end(&event_loop, &transport);
    assert_eq!(story.events(), ["made", "lost"]);
    assert_eq!(kernel.ledger().open_descriptors, open);
}

/// Takes what comes, and says when it has all.
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Protocol for Sink {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        self.0.borrow_mut().extend_from_slice(data);
        data.len()
    }
}

#[test]
fn bytes_written_early_wait_through_failed_attempts() {
    // With layers and without: what no layer has taken is not lost with them.
    for layered in [false, true] {
        everywhere(|event_loop| {
            let bytes = Rc::default();
            let sink = Rc::clone(&bytes);
            let target = nobody(event_loop);
            let failures = Cell::new(0);
            let lp: Loop = (**event_loop).clone();
            let story = Story::new()
                .on("made", |transport| {
                    transport.write(b"early ");
                    transport.write(b"bytes");
                })
                .on("error_connecting", move |transport| {
                    failures.set(failures.get() + 1);
                    if failures.get() == 3 {
                        // Now somebody listens.
                        let sink = Rc::clone(&sink);
                        let mut listen = Listen::on(target);
                        if layered {
                            listen = listen.layer(Lines::new(64));
                        }
                        let serve = move |_: &tepal::Address| Sink(Rc::clone(&sink));
                        drop(lp.listen(serve, listen).expect("the port is free"));
                    }
                    again(transport);
                });
            let mut to = Target::address(target);
            if layered {
                to = to.layer(Lines::new(64));
            }
            let transport = event_loop.connect(story.clone(), to);
            let got: Rc<RefCell<Vec<u8>>> = Rc::clone(&bytes);
            run_until(event_loop, move || got.borrow().len() == 11);
            assert_eq!(*bytes.borrow(), b"early bytes");
            assert_eq!(story.count("error_connecting"), 3);
            transport.close();
            run_to_end(event_loop, &transport);
        });
    }
}

/// Reads nothing on its first connection, then everything.
fn late_reader(event_loop: &EventLoop) -> (SocketAddr, Rc<RefCell<Vec<u8>>>) {
    struct Late {
        deaf: bool,
        bytes: Rc<RefCell<Vec<u8>>>,
    }
    impl Protocol for Late {
        fn connection_established(&mut self, transport: &Transport) {
            if self.deaf {
                transport.pause_reading();
            }
        }
        fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
            self.bytes.borrow_mut().extend_from_slice(data);
            data.len()
        }
    }
    let bytes = Rc::default();
    let shared = Rc::clone(&bytes);
    let first = Cell::new(true);
    let serve =
        move |_: &tepal::Address| Late { deaf: first.replace(false), bytes: Rc::clone(&shared) };
    (address(&event_loop.listen(serve, "127.0.0.1:0").expect("a port")), bytes)
}

#[test]
fn s62_unsent_bytes_are_dropped_and_counted_or_kept_when_asked() {
    const LEN: usize = 32 << 20;
    for keep in [false, true] {
        let (_, event_loop) = simulated();
        let (server, bytes) = late_reader(&event_loop);
        let first = Cell::new(true);
        let story = Story::new().on("established", move |transport| {
            if first.replace(false) {
                transport.write(&vec![7; LEN]);
            } else {
                transport.write(b"!");
            }
        });
        let transport = event_loop.connect(story.clone(), server);
        let writing = transport.clone();
        run_until(&event_loop, move || writing.write_buffer_size() > 0);
        let unsent = if keep { Unsent::Keep } else { Unsent::Drop };
        let waiting = transport.write_buffer_size();
        assert!(transport.reconnect_with(None, Restart::Connect, unsent));
        let got = Rc::clone(&bytes);
        run_until(&event_loop, move || got.borrow().last() == Some(&b'!'));
        let closed = story.0.borrow().ends[0].clone();
        assert_eq!(closed.unsent, waiting as u64, "told either way");
        let expected = if keep { waiting + 1 } else { 1 };
        assert_eq!(bytes.borrow().len(), expected);
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
        run_to_end(&event_loop, &transport);
    }
}

#[test]
fn a_peer_that_moves_is_found_by_its_name() {
    let (_, event_loop) = simulated();
    let zone = Zone::new();
    put(&zone, "moving.test", 1, &["127.0.0.2"]);
    let server = dns::serve(&event_loop, &zone);
    let settings = Settings { servers: Some(vec![server]), ..Settings::default() };
    let resolver = event_loop.resolver(settings);
    event_loop.set_resolver(Some(&resolver));
    let serve = |at: &str| event_loop.listen(|_: &tepal::Address| Fickle, at).expect("a port");
    let old = serve("127.0.0.2:7000");
    let plan = Backoff { first: Duration::from_secs(2), ..Backoff::default() };
    let peers = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&peers);
    let story = Story::new().on("established", move |transport| {
        noted.borrow_mut().push(transport.peer_address().expect("a peer").to_string());
        transport.write(b"x");
    });
    let target = Target::host("moving.test", 7000).backoff(plan);
    let transport = event_loop.connect(story.clone(), target);
    let seen = story.clone();
    run_until(&event_loop, move || seen.count("lost") == 1);
    old.close();
    put(&zone, "moving.test", 1, &["127.0.0.3"]);
    let _new = serve("127.0.0.3:7000");
    let seen = story.clone();
    run_until(&event_loop, move || seen.count("lost") == 2);
    assert_eq!(story.count("made"), 1);
    assert_eq!(*peers.borrow(), ["127.0.0.2:7000", "127.0.0.3:7000"]);
    transport.close();
    run_to_end(&event_loop, &transport);
}

/// Notes whether each TLS session was resumed.
struct Resuming {
    resumed: Rc<RefCell<Vec<bool>>>,
    rounds: usize,
}

impl Protocol for Resuming {
    fn layer_ready(&mut self, _: &Transport, _: &str, info: &Info) {
        if let Info::Tls(info) = info {
            self.resumed.borrow_mut().push(info.resumed);
        }
    }
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(b"x");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if self.resumed.borrow().len() < self.rounds {
            again(transport);
        } else {
            transport.close();
        }
        data.len()
    }
}

#[test]
fn s41_tls_sessions_are_resumed_from_one_connection_to_the_next() {
    let (client, server) = layered::tls_pair();
    everywhere(|event_loop| {
        let listen = Listen::on("127.0.0.1:0").layer(server.clone());
        let server = event_loop.listen(|_: &tepal::Address| Echo, listen).expect("a port");
        let resumed = Rc::new(RefCell::new(Vec::new()));
        let protocol = Resuming { resumed: Rc::clone(&resumed), rounds: 3 };
        let target = Target::address(address(&server)).layer(client.clone());
        let transport = event_loop.connect(protocol, target);
        run_to_end(event_loop, &transport);
        assert_eq!(resumed.borrow()[1..], [true, true]);
    });
}

#[test]
fn s70_a_failed_tls_handshake_has_its_hook_and_may_be_tried_again() {
    // The server's certificate is for another name.
    let client = layered::tls_client().server_name("wrong.test").build().expect("a client");
    let server = layered::tls_server().build().expect("a server");
    everywhere(|event_loop| {
        let listen = Listen::on("127.0.0.1:0").layer(server.clone());
        let server = event_loop.listen(|_: &tepal::Address| Echo, listen).expect("a port");
        let left = Cell::new(2);
        let story = Story::new().on("error_ssl", move |transport| {
            let problem = transport.problem().expect("told");
            assert_eq!((problem.phase, problem.layer), (Phase::Handshake, Some("tls")));
            if left.replace(left.get() - 1) > 0 {
                again(transport);
            }
        });
        let target = Target::address(address(&server)).layer(client.clone());
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "error_ssl", "error_ssl", "error_ssl", "lost"]);
        let problem = transport.problem().expect("told").to_string();
        assert!(problem.contains("cannot set up tls with"), "{problem}");
    });
}

#[test]
fn s66_a_handshake_has_its_deadline() {
    let client = layered::tls_client().build().expect("a client");
    let (_, event_loop) = simulated();
    // A server that says nothing.
    let server = address(
        &event_loop
            .listen(|_: &tepal::Address| Sink(Rc::default()), "127.0.0.1:0")
            .expect("a port"),
    );
    let total = Timeouts { total: Some(Duration::from_secs(7)), ..Timeouts::default() };
    let each = Timeouts { handshake: Some(Duration::from_secs(7)), ..Timeouts::default() };
    for limits in [total, each] {
        let begin = event_loop.time();
        let story = Story::new();
        let target = Target::address(server).layer(client.clone()).timeouts(limits);
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(&event_loop, &transport);
        assert_eq!(story.events(), ["made", "timeout_handshake", "lost"]);
        let took = event_loop.time().since(begin);
        assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(13), "{took:?}");
        assert_eq!(transport.closed().expect("over").kind, CloseKind::HandshakeTimedOut);
    }
}

#[test]
fn ten_thousand_flaps_leave_nothing_behind() {
    const FLAPS: usize = 10_000;
    let (kernel, event_loop) = simulated();
    let zone = Zone::new();
    put(&zone, "flapping.test", 60, &["127.0.0.1"]);
    let server = dns::serve(&event_loop, &zone);
    let settings = Settings { servers: Some(vec![server]), ..Settings::default() };
    let resolver = event_loop.resolver(settings);
    event_loop.set_resolver(Some(&resolver));
    let server = fickle_server(&event_loop);
    // Runs once, so that what is made once is there.
    let warm = event_loop.connect(Story::new(), Target::host("flapping.test", server.port()));
    let trying = warm.clone();
    run_until(&event_loop, move || trying.is_established());
    warm.abort();
    run_to_end(&event_loop, &warm);
    event_loop.run_until_complete(event_loop.sleep(Duration::from_secs(70))).expect("runs");
    let before = (kernel.ledger().open_descriptors, event_loop.timer_count());

    struct Flapping(Rc<Cell<usize>>);
    impl Protocol for Flapping {
        fn connection_established(&mut self, transport: &Transport) {
            transport.write(b"x");
        }
        fn connection_lost(&mut self, transport: &Transport, _: &tepal::Closed) {
            self.0.set(self.0.get() + 1);
            if self.0.get() == FLAPS {
                transport.close();
                transport.event_loop().stop();
            }
        }
    }
    let losses = Rc::new(Cell::new(0));
    let plan = Backoff { jitter: 0.5, ..Backoff::default() };
    let begin = event_loop.time();
    let target = Target::host("flapping.test", server.port()).backoff(plan);
    let transport = event_loop.connect(Flapping(Rc::clone(&losses)), target);
    event_loop.run_forever().expect("runs");
    assert_eq!(losses.get(), FLAPS);
    let took = event_loop.time().since(begin).as_secs_f64() / FLAPS as f64;
    // Each success begins the plan anew: half a second, give or take the jitter.
    assert!((0.48..0.52).contains(&took), "no drift: {took} s for each");
    run_to_end(&event_loop, &transport);
    event_loop.run_until_complete(event_loop.sleep(Duration::from_secs(70))).expect("runs");
    assert_eq!((kernel.ledger().open_descriptors, event_loop.timer_count()), before);
}
