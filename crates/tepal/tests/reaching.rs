//! Reaching a peer: phases, deadlines, hooks, addresses in order, failures that tell.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Echo, address, on_every_driver};
use dns::{Say, Shared, Zone, put};
use story::Story;
use tepal::names::Settings;
use tepal::{
    Addresses, CloseKind, EventLoop, Phase, ProblemKind, Resolver, Target, Timeouts, Transport,
};
use tepal_sim::{Config, Route, SimKernel};

fn simulated() -> (SimKernel, EventLoop) {
    let kernel = SimKernel::new(Config::seeded(11));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    (kernel, event_loop)
}

/// On every driver of this machine, and on the simulated one.
fn everywhere(test: impl Fn(&EventLoop)) {
    on_every_driver(&test);
    test(&simulated().1);
}

fn resolver(event_loop: &EventLoop, zone: &Shared) -> Resolver {
    let server = dns::serve(event_loop, zone);
    let resolver =
        event_loop.resolver(Settings { servers: Some(vec![server]), ..Settings::default() });
    event_loop.set_resolver(Some(&resolver));
    resolver
}

fn echo_server(event_loop: &EventLoop) -> SocketAddr {
    address(&event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0").expect("a port"))
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// Runs the loop until the transport is over.
fn run_to_end(event_loop: &EventLoop, transport: &Transport) {
    let transport = transport.clone();
    let lp = (**event_loop).clone();
    let end = async move {
        for _ in 0..1_000_000 {
            if transport.phase() == Phase::Closed && transport.closed().is_some() {
                // What follows the end in the same turn.
                lp.sleep(Duration::from_millis(1)).await;
                return;
            }
            lp.sleep(Duration::from_millis(1)).await;
        }
        panic!("the connection never ends");
    };
    event_loop.run_until_complete(end).expect("the loop runs");
}

#[test]
fn s55_s57_s58_s67_the_protocol_is_attached_first_and_told_of_success() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        put(&zone, "echo.test", 60, &["127.0.0.1"]);
        let _resolver = resolver(event_loop, &zone);
        let server = echo_server(event_loop);
        let asked = zone.clone();
        let story = Story::new()
            .on("made", move |transport| {
                assert!(asked.borrow().asked.is_empty(), "made before the first query leaves");
                assert_eq!(transport.phase(), Phase::Resolve);
                transport.write(b"early");
            })
            .on("established", |transport| assert_eq!(transport.phase(), Phase::Established))
            .on("data", |transport| transport.close());
        let transport = event_loop.connect(story.clone(), Target::host("echo.test", server.port()));
        assert!(story.events().is_empty(), "not inside the call");
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "established", "data", "lost"]);
        assert_eq!(story.0.borrow().bytes, b"early");
        assert!(transport.problem().is_none());
    });
}

#[test]
fn s56_a_future_makes_its_protocol_on_success_only() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        put(&zone, "echo.test", 60, &["127.0.0.1"]);
        let _resolver = resolver(event_loop, &zone);
        let server = echo_server(event_loop);
        let story = Story::new();
        let made = story.clone();
        let target = Target::host("echo.test", server.port());
        let connecting = event_loop.create_connection(move || made, target);
        let transport = event_loop.run_until_complete(connecting).expect("runs").expect("connects");
        assert_eq!(story.events(), ["made", "established"]);
        transport.abort();

        let connecting = event_loop.create_connection(
            || -> Story { panic!("no protocol without a connection") },
            Target::host("nobody.test", 80),
        );
        let error = event_loop.run_until_complete(connecting).expect("runs").expect_err("unknown");
        let problem = error.problem().expect("the whole story");
        assert_eq!((problem.phase, problem.kind), (Phase::Resolve, ProblemKind::NameNotFound));
        assert_eq!((problem.host.as_deref(), problem.port), (Some("nobody.test"), Some(80)));
        assert_eq!(error.error.kind(), std::io::ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.contains("nobody.test port 80") && text.contains("does not exist"), "{text}");
    });
}

#[test]
fn s21_the_next_address_is_tried_without_user_code() {
    everywhere(|event_loop| {
        let server = echo_server(event_loop);
        let zone = Zone::new();
        // Nobody listens at the first two.
        put(&zone, "many.test", 60, &["127.0.0.3", "127.0.0.2", "127.0.0.1"]);
        let _resolver = resolver(event_loop, &zone);
        let story = Story::new().on("established", |transport| {
            transport.close();
        });
        let target = Target::host("many.test", server.port());
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "established", "lost"]);
    });
}

#[test]
fn s64_a_failure_names_everything_that_was_tried() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        put(&zone, "many.test", 60, &["127.0.0.3", "127.0.0.2"]);
        let _resolver = resolver(event_loop, &zone);
        let server = echo_server(event_loop);
        let story = Story::new();
        let target = Target::host("many.test", server.port()).label("alice");
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
        let problem = transport.problem().expect("the whole story");
        assert_eq!((problem.phase, problem.kind), (Phase::Connect, ProblemKind::Refused));
        assert_eq!(problem.attempts.len(), 2);
        assert_eq!(problem.attempt, 1);
        let text = problem.to_string();
        for part in ["many.test", "127.0.0.3:", "127.0.0.2:", "as alice", "refused", "attempt 1"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let closed = transport.closed().expect("it is over");
        assert_eq!(closed.kind, CloseKind::ConnectFailed);
        assert_eq!(closed.problem.expect("the same").to_string(), text);
    });
}

#[test]
fn s66_s68_each_phase_has_its_deadline_and_its_hook() {
    let limits = Timeouts { dns: seconds(2), connecting: seconds(3), ..Timeouts::default() };
    let (_, event_loop) = simulated();
    let zone = Zone::new();
    zone.borrow_mut().otherwise = Some(Say::Nothing);
    let _resolver = resolver(&event_loop, &zone);
    let story = Story::new();
    let begin = event_loop.time();
    let transport =
        event_loop.connect(story.clone(), Target::host("slow.test", 80).timeouts(limits));
    run_to_end(&event_loop, &transport);
    assert_eq!(story.events(), ["made", "timeout_dns", "lost"]);
    let took = event_loop.time().since(begin);
    assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2100), "{took:?}");
    let problem = transport.problem().expect("told");
    assert_eq!((problem.phase, problem.kind), (Phase::Resolve, ProblemKind::TimedOut));
    assert!(problem.to_string().contains("said nothing"), "{problem}");

    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let story = Story::new();
    let begin = event_loop.time();
    let target = Target::address("192.0.2.1:80".parse().expect("an address")).timeouts(limits);
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(&event_loop, &transport);
    assert_eq!(story.events(), ["made", "timeout_connecting", "lost"]);
    let took = event_loop.time().since(begin);
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3100), "{took:?}");
    assert_eq!(transport.closed().expect("over").kind, CloseKind::ConnectTimedOut);
}

#[test]
fn the_time_is_shared_out_among_silent_addresses() {
    let (kernel, event_loop) = simulated();
    let silent = ["192.0.2.1:9", "192.0.2.2:9", "192.0.2.3:9"];
    let silent = silent.map(|text| text.parse::<SocketAddr>().expect("an address"));
    for address in silent {
        kernel.set_route(address.ip(), Route::Blackhole);
    }
    let story = Story::new();
    let transport =
        event_loop.connect(story.clone(), Target::any_of(silent).connecting(seconds(9)));
    run_to_end(&event_loop, &transport);
    let problem = transport.problem().expect("told");
    let took = problem.attempts.iter().map(|attempt| attempt.elapsed.expect("was tried"));
    assert_eq!(took.collect::<Vec<_>>(), [3, 3, 3].map(Duration::from_secs));
}

#[test]
fn s22_addresses_are_tried_one_at_a_time_in_order() {
    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let server = echo_server(&event_loop);
    let first: SocketAddr = "192.0.2.1:9".parse().expect("an address");
    let story = Story::new().on("established", |transport| transport.close());
    let target = Target::any_of([first, server]).connecting(seconds(10));
    let begin = event_loop.time();
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(&event_loop, &transport);
    assert_eq!(story.events(), ["made", "established", "lost"]);
    assert!(event_loop.time().since(begin) >= Duration::from_secs(5), "the first had its share");
}

#[test]
fn s23_s24_a_race_starts_the_next_after_a_while_and_closes_the_losers() {
    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let server = echo_server(&event_loop);
    let open = kernel.ledger().open_descriptors;
    let first: SocketAddr = "192.0.2.1:9".parse().expect("an address");

    // The first answers in time: no other connect was made.
    let story = Story::new().on("established", |transport| transport.close());
    let target = Target::any_of([server, first]).addresses(Addresses::Race);
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(&event_loop, &transport);
    assert_eq!(story.events(), ["made", "established", "lost"]);
    assert_eq!(event_loop.redundant_connects(), 0);

    // The first is silent: the second begins after 250 ms and wins.
    let begin = event_loop.time();
    let story = Story::new().on("established", |transport| transport.close());
    let target = Target::any_of([first, server]).addresses(Addresses::Race);
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(&event_loop, &transport);
    assert_eq!(story.events(), ["made", "established", "lost"]);
    let took = event_loop.time().since(begin);
    assert!(took >= Duration::from_millis(250) && took < Duration::from_millis(300), "{took:?}");
    assert_eq!(event_loop.redundant_connects(), 1);
    event_loop.run_until_complete(event_loop.sleep(Duration::from_secs(5))).expect("runs");
    assert_eq!(kernel.ledger().open_descriptors, open, "the loser is closed");
}

#[test]
fn s65_run_raises_nothing_and_each_failure_surfaces_once() {
    everywhere(|event_loop| {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let nobody = closed.local_addr().expect("bound");
        drop(closed);
        let story = Story::new();
        let transport = event_loop.connect(story.clone(), nobody);
        let awaited = event_loop.run_until_complete(transport.established()).expect("runs");
        assert_eq!(awaited.expect_err("nobody is there").closed.kind, CloseKind::ConnectFailed);
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
        // Not awaited: it stays silent.
        let story = Story::new();
        let transport = event_loop.connect(story.clone(), nobody);
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
    });
}

#[test]
fn s18_the_local_address_is_bound_first() {
    everywhere(|event_loop| {
        let server = echo_server(event_loop);
        let local: SocketAddr = "127.0.0.5:0".parse().expect("an address");
        let target = Target::address(server).local(local);
        let connecting = event_loop.create_connection(Story::new, target);
        let transport = event_loop.run_until_complete(connecting).expect("runs").expect("connects");
        let bound = transport.local_address().expect("bound").as_ip().expect("IP");
        assert_eq!(bound.ip(), local.ip());
        transport.abort();

        let other: SocketAddr = "[::1]:0".parse().expect("an address");
        let target = Target::address(server).local(other);
        let connecting = event_loop.create_connection(Story::new, target);
        let error = event_loop.run_until_complete(connecting).expect("runs").expect_err("other");
        assert!(error.to_string().contains("no local address is of its family"), "{error}");
    });
}

#[test]
fn a_close_in_any_phase_ends_it_at_once() {
    for event in ["made", "established"] {
        let (kernel, event_loop) = simulated();
        let server = echo_server(&event_loop);
        let open = kernel.ledger().open_descriptors;
        let story = Story::new().on(event, |transport| transport.close());
        let transport = event_loop.connect(story.clone(), server);
        run_to_end(&event_loop, &transport);
        assert_eq!(story.count("lost"), 1);
        assert_eq!(transport.closed().expect("over").kind, CloseKind::Local, "{event}");
        event_loop.run_until_complete(event_loop.sleep(Duration::from_secs(5))).expect("runs");
        assert_eq!(kernel.ledger().open_descriptors, open);
    }
    // While the name is looked up, and while the address is silent.
    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let zone = Zone::new();
    zone.borrow_mut().otherwise = Some(Say::Nothing);
    let _resolver = resolver(&event_loop, &zone);
    let open = kernel.ledger().open_descriptors;
    for target in [Target::host("slow.test", 80), Target::host("192.0.2.1", 80)] {
        let story = Story::new();
        let transport = event_loop.connect(story.clone(), target);
        let closing = transport.clone();
        event_loop.call_later(Duration::from_millis(10), move |_| closing.close());
        run_to_end(&event_loop, &transport);
        assert_eq!(story.events(), ["made", "lost"]);
        assert_eq!(kernel.ledger().open_descriptors, open);
    }
    assert!(event_loop.timer_count() <= 1, "none but the resolver's");
}

#[test]
fn s69_a_quiet_connection_is_told_and_stays_up() {
    let (_, event_loop) = simulated();
    let server = echo_server(&event_loop);
    let limits = Timeouts { idle: seconds(10), ..Timeouts::default() };
    let story = Story::new().on("timeout_idle", |transport| {
        assert_eq!(transport.phase(), Phase::Established);
    });
    let transport = event_loop.connect(story.clone(), Target::address(server).timeouts(limits));
    let writing = transport.clone();
    event_loop.call_later(Duration::from_secs(15), move |_| {
        writing.write(b"keep alive");
    });
    let sleep = |until: u64| {
        let span = Duration::from_millis(until * 1000);
        event_loop.run_until_complete(event_loop.sleep(span)).expect("runs");
    };
    sleep(9);
    assert_eq!(story.count("timeout_idle"), 0);
    sleep(2); // 11
    assert_eq!(story.count("timeout_idle"), 1, "after ten seconds");
    sleep(11); // 22: the write at 15 has moved the second from 20 to 25
    assert_eq!(story.count("timeout_idle"), 1);
    sleep(4); // 26
    assert_eq!(story.count("timeout_idle"), 2);
    assert!(transport.is_established());
}

#[test]
fn silence_a_stuck_peer_and_age_end_a_connection() {
    let (_, event_loop) = simulated();
    let server = echo_server(&event_loop);
    let read = Timeouts { read: seconds(10), ..Timeouts::default() };
    let session = Timeouts { session: seconds(10), ..Timeouts::default() };
    for (limits, kind) in [(read, CloseKind::ReadTimedOut), (session, CloseKind::SessionTimedOut)] {
        let begin = event_loop.time();
        let story = Story::new();
        let transport = event_loop.connect(story.clone(), Target::address(server).timeouts(limits));
        run_to_end(&event_loop, &transport);
        assert_eq!(transport.closed().expect("over").kind, kind);
        let took = event_loop.time().since(begin);
        assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(10_100));
        assert_eq!(transport.problem().expect("told").kind, ProblemKind::TimedOut);
        assert_eq!(story.events(), ["made", "established", "lost"]);
    }

    // A peer that reads nothing.
    struct Deaf;
    impl tepal::Protocol for Deaf {
        fn connection_established(&mut self, transport: &Transport) {
            transport.pause_reading();
        }
    }
    let deaf = event_loop.listen(|_: &tepal::Address| Deaf, "127.0.0.1:0").expect("a port");
    let write = Timeouts { write: seconds(10), ..Timeouts::default() };
    let begin = event_loop.time();
    let story = Story::new().on("established", |transport| {
        transport.write(&vec![0; 8 << 20]);
    });
    let target = Target::address(address(&deaf)).timeouts(write);
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(&event_loop, &transport);
    assert_eq!(transport.closed().expect("over").kind, CloseKind::WriteTimedOut);
    assert!(event_loop.time().since(begin) >= Duration::from_secs(10));
    assert!(transport.closed().expect("over").unsent > 0);
}

#[test]
fn s18_datagrams_go_to_a_peer_by_name_from_the_bound_port() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        put(&zone, "sip.test", 60, &["127.0.0.1"]);
        let _resolver = resolver(event_loop, &zone);
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let peer = event_loop.datagram(common::Nothing, Some(any.into()), None).expect("a port");
        let port = peer.local_address().expect("bound").as_ip().expect("IP").port();
        // A port that was free a moment ago.
        let probe = event_loop.datagram(common::Nothing, Some(any.into()), None).expect("a port");
        let local = probe.local_address().expect("bound").as_ip().expect("IP");
        probe.abort();
        event_loop.run_until_complete(event_loop.sleep(Duration::from_millis(1))).expect("runs");
        let target = Target::host("sip.test", port).local(local);
        let connecting = event_loop.connect_datagram(common::Nothing, target);
        let endpoint = event_loop.run_until_complete(connecting).expect("runs").expect("connects");
        assert_eq!(endpoint.local_address().expect("bound"), local.into());
        endpoint.abort();
        peer.abort();

        let connecting =
            event_loop.connect_datagram(common::Nothing, Target::host("nobody.test", 1));
        let error = event_loop.run_until_complete(connecting).expect("runs").expect_err("unknown");
        let problem = error.problem().expect("told");
        assert_eq!((problem.phase, problem.kind), (Phase::Resolve, ProblemKind::NameNotFound));
        let target = Target::host("sip.test", 1).local("[::1]:0".parse().expect("an address"));
        let connecting = event_loop.connect_datagram(common::Nothing, target);
        let error =
            event_loop.run_until_complete(connecting).expect("runs").expect_err("no family");
        let said = "sip.test port 1 from [::1]:0: 127.0.0.1:1 failed";
        assert!(error.to_string().contains(said), "{error}");
    });
}
