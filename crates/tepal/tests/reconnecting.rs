//! Connecting anew with the same protocol: asked for in every hook, and followed through a change
//! of address. Plans are in `plans.rs`, what becomes of written bytes in `unsent.rs`.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, address};
use dns::{Say, Zone, put};
use reach::{
    Sink, again, echo_server, everywhere, fickle_server, nobody, run_to_end, run_until, simulated,
};
use story::Story;
use tepal::layers::Info;
use tepal::names::Settings;
use tepal::{Backoff, CloseKind, Listen, Phase, Protocol, Target, Timeouts, Transport};
use tepal_sim::Route;

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

#[test]
fn a_peer_that_moves_is_found_by_its_name() {
    let (_, event_loop) = simulated();
    let zone = Zone::new();
    put(&zone, "moving.test", 1, &["127.0.0.2"]);
    let server = dns::serve(&event_loop, &zone);
    let settings = Settings { servers: Some(vec![server]), ..Settings::default() };
    let resolver = event_loop.resolver(settings);
    event_loop.set_resolver(Some(&resolver));
    let serve =
        |at: &str| event_loop.listen(|_: &tepal::Address| reach::Fickle, at).expect("a port");
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
