//! Handshakes and the addresses of a peer: the next one after a failure, and handshakes as part of
//! a race.

mod common;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Echo, address};
use reach::{everywhere, nobody, rude_server, run_to_end, silent_server, simulated};
use story::Story;
use tepal::{
    Addresses, CloseKind, EventLoop, Handshakes, Listen, Phase, Problem, ProblemKind, Socks5,
    SocksServer, Target, Timeouts, Tls, Transport,
};
use tepal_sim::{Config, Disturbance, Route, SimKernel};

fn tls_server(event_loop: &EventLoop, tls: &Tls) -> SocketAddr {
    let listen = Listen::on("127.0.0.1:0").layer(tls.clone());
    address(&event_loop.listen(|_: &tepal::Address| Echo, listen).expect("a port"))
}

/// Says what was written early, and closes when it is answered.
fn early() -> Story {
    Story::new()
        .on("made", |transport| {
            transport.write(b"early");
        })
        .on("data", |transport| transport.close())
}

fn limits(millis: u64) -> Timeouts {
    Timeouts { handshake: Some(Duration::from_millis(millis)), ..Timeouts::default() }
}

fn connect(event_loop: &EventLoop, story: &Story, target: Target) -> Transport {
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(event_loop, &transport);
    transport
}

fn problem(transport: &Transport) -> std::sync::Arc<Problem> {
    transport.problem().expect("told")
}

const ORDERS: [(Addresses, Handshakes); 4] = [
    (Addresses::Linear, Handshakes::Next),
    (Addresses::Race, Handshakes::Next),
    (Addresses::Linear, Handshakes::Race),
    (Addresses::Race, Handshakes::Race),
];

#[test]
fn s21_the_next_address_is_tried_when_a_handshake_fails() {
    let (client, server) = layered::tls_pair();
    let other = layered::tls_server().certificate(layered::certificate("other"));
    let other = other.build().expect("a server");
    for (addresses, handshakes) in ORDERS {
        everywhere(|event_loop| {
            let good = tls_server(event_loop, &server);
            let bad = [
                rude_server(event_loop, Transport::abort),
                rude_server(event_loop, Transport::close),
                rude_server(event_loop, |transport| {
                    transport.write(b"220 this is no TLS\r\n");
                }),
                tls_server(event_loop, &other),
                nobody(event_loop),
                silent_server(event_loop),
            ];
            for first in bad {
                let story = early();
                let target = Target::any_of([first, good])
                    .layer(client.clone())
                    .addresses(addresses)
                    .handshakes(handshakes)
                    .timeouts(limits(400));
                let transport = connect(event_loop, &story, target);
                let expected = ["made", "established", "data", "lost"];
                assert_eq!(story.events(), expected, "{first} {addresses:?} {handshakes:?}");
                assert_eq!(story.0.borrow().bytes, b"early");
                assert_eq!(transport.closed().expect("over").kind, CloseKind::Local);
            }
        });
    }
}

#[test]
fn when_every_address_fails_the_story_names_each_with_its_layer() {
    let (client, _) = layered::tls_pair();
    for (addresses, handshakes) in ORDERS {
        everywhere(|event_loop| {
            let reset = rude_server(event_loop, Transport::abort);
            let cut = rude_server(event_loop, Transport::close);
            let refused = nobody(event_loop);
            let story = early();
            let target = Target::any_of([reset, cut, refused])
                .layer(client.clone())
                .addresses(addresses)
                .handshakes(handshakes);
            let transport = connect(event_loop, &story, target);
            let how = format!("{addresses:?} {handshakes:?}");
            assert_eq!(story.events(), ["made", "error_ssl", "lost"], "{how}");
            let problem = problem(&transport);
            // A handshake got farther than a connect that was refused.
            assert_eq!((problem.phase, problem.layer), (Phase::Handshake, Some("tls")), "{how}");
            let mut tried: Vec<_> = problem
                .attempts
                .iter()
                .map(|attempt| (attempt.address.clone(), attempt.layer, attempt.error.is_some()))
                .collect();
            tried.sort_by_key(|(address, ..)| address.to_string());
            let mut expected = vec![
                (reset.into(), Some("tls"), true),
                (cut.into(), Some("tls"), true),
                (refused.into(), None, true),
            ];
            expected.sort_by_key(|(address, ..): &(tepal::Address, _, _)| address.to_string());
            assert_eq!(tried, expected, "{how}");
            let text = problem.to_string();
            for address in [reset, cut, refused] {
                assert!(text.contains(&address.to_string()), "{text}");
            }
        });
    }
}

#[test]
fn the_first_address_decides_where_that_is_asked_for() {
    let (client, server) = layered::tls_pair();
    everywhere(|event_loop| {
        let good = tls_server(event_loop, &server);
        let bad = rude_server(event_loop, Transport::close);
        let story = early();
        let target = Target::any_of([bad, good]).layer(client.clone()).handshakes(Handshakes::Once);
        let transport = connect(event_loop, &story, target);
        assert_eq!(story.events(), ["made", "error_ssl", "lost"]);
        assert_eq!(problem(&transport).address, Some(bad.into()));
    });
}

#[test]
fn credentials_that_were_refused_are_not_tried_elsewhere() {
    for (addresses, handshakes) in ORDERS {
        everywhere(|event_loop| {
            let proxy = |event_loop: &EventLoop| {
                let layer = SocksServer::new().auth(|_, password| password == "right");
                let listen = Listen::on("127.0.0.1:0").layer(layer);
                event_loop.listen(|_: &tepal::Address| Echo, listen).expect("a port")
            };
            let (first, second) = (proxy(event_loop), proxy(event_loop));
            let socks = Socks5::new("peer.test", 80).expect("a target");
            let socks = socks.credentials("user", "wrong").expect("credentials");
            let target = Target::any_of([address(&first), address(&second)])
                .layer(socks)
                .addresses(addresses)
                .handshakes(handshakes);
            let story = Story::new();
            let transport = connect(event_loop, &story, target);
            assert_eq!(story.events(), ["made", "error_layer", "lost"]);
            let problem = problem(&transport);
            assert_eq!((problem.layer, problem.kind), (Some("socks5"), ProblemKind::Layer));
            assert_eq!(problem.attempts[1].elapsed, None, "{problem}");
        });
    }
}

#[test]
fn s23_a_race_with_handshakes_is_won_by_who_finishes_them_first() {
    let (client, server) = layered::tls_pair();
    let (kernel, event_loop) = simulated();
    let good = tls_server(&event_loop, &server);
    let silent = silent_server(&event_loop);
    let open = kernel.ledger().open_descriptors;
    for (handshakes, most) in [(Handshakes::Race, 300), (Handshakes::Next, 30_300)] {
        let begin = event_loop.time();
        let took = std::rc::Rc::new(std::cell::Cell::new(Duration::ZERO));
        let noted = took.clone();
        let story = early().on("established", move |transport| {
            noted.set(transport.event_loop().time().since(begin));
            assert_eq!(transport.layers(), ["tls"]);
        });
        let target = Target::any_of([silent, good])
            .layer(client.clone())
            .addresses(Addresses::Race)
            .handshakes(handshakes);
        connect(&event_loop, &story, target);
        assert_eq!(story.events(), ["made", "established", "data", "lost"]);
        let least = if handshakes == Handshakes::Race { 250 } else { 30_000 };
        let millis = took.get().as_millis();
        assert!((least..most).contains(&millis), "{handshakes:?}: {millis} ms");
    }
    // Of the two that connected in the first race one was in vain.
    assert_eq!(event_loop.redundant_connects(), 1);
    event_loop.run_until_complete(event_loop.sleep(Duration::from_secs(120))).expect("runs");
    assert_eq!(kernel.ledger().open_descriptors, open, "the losers are closed");
}

#[test]
fn the_time_of_the_whole_is_shared_out_among_handshakes() {
    let (client, server) = layered::tls_pair();
    for (addresses, handshakes) in ORDERS {
        let (_, event_loop) = simulated();
        let good = tls_server(&event_loop, &server);
        let silent = silent_server(&event_loop);
        let total = Timeouts { total: Some(Duration::from_secs(8)), ..Timeouts::default() };
        let story = early();
        let target = Target::any_of([silent, good])
            .layer(client.clone())
            .addresses(addresses)
            .handshakes(handshakes)
            .timeouts(total);
        let begin = event_loop.time();
        connect(&event_loop, &story, target.clone());
        let how = format!("{addresses:?} {handshakes:?}");
        if addresses == Addresses::Race && handshakes == Handshakes::Next {
            // A race that has been won is over: what is left has what time is left.
            assert_eq!(story.events(), ["made", "timeout_handshake", "lost"], "{how}");
        } else {
            assert_eq!(story.events(), ["made", "established", "data", "lost"], "{how}");
        }
        assert!(event_loop.time().since(begin) < Duration::from_secs(9), "{how}");
    }
}

#[test]
fn a_close_or_a_reconnect_during_a_race_of_handshakes_leaves_nothing_open() {
    let (client, _) = layered::tls_pair();
    let (kernel, event_loop) = simulated();
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let silent = [silent_server(&event_loop), silent_server(&event_loop)];
    let lost: SocketAddr = "192.0.2.1:9".parse().expect("an address");
    let open = kernel.ledger().open_descriptors;
    for again in [false, true] {
        let story = Story::new();
        let target = Target::any_of([silent[0], lost, silent[1]])
            .layer(client.clone())
            .addresses(Addresses::Race)
            .handshakes(Handshakes::Race);
        let transport = event_loop.connect(story.clone(), target);
        let shaking = transport.clone();
        let begin = event_loop.time();
        let lp = (*event_loop).clone();
        reach::run_until(&event_loop, move || {
            shaking.phase() == Phase::Handshake
                && lp.time().since(begin) > Duration::from_millis(600)
        });
        // Three clients, and the server's two.
        assert_eq!(kernel.ledger().open_descriptors, open + 5);
        if again {
            reach::again(&transport);
            reach::run_until(&event_loop, || true);
        }
        transport.close();
        run_to_end(&event_loop, &transport);
        event_loop.run_until_complete(event_loop.sleep(Duration::from_secs(5))).expect("runs");
        assert_eq!(story.events(), ["made", "lost"]);
        assert_eq!(kernel.ledger().open_descriptors, open);
    }
}

#[test]
fn a_disturbed_kernel_changes_nothing_but_the_time_of_a_race_of_handshakes() {
    let (client, server) = layered::tls_pair();
    let mut reached = 0;
    for seed in 0..40 {
        for (addresses, handshakes) in ORDERS {
            let config = Config { disturbance: Disturbance::stormy(), ..Config::seeded(seed) };
            let kernel = SimKernel::new(config);
            let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
            let good = tls_server(&event_loop, &server);
            let others = [
                rude_server(&event_loop, Transport::abort),
                silent_server(&event_loop),
                nobody(&event_loop),
                rude_server(&event_loop, Transport::close),
            ];
            let mut tried = others.to_vec();
            tried.insert(seed as usize % (others.len() + 1), good);
            let story = early();
            let target = Target::any_of(tried)
                .layer(client.clone())
                .addresses(addresses)
                .handshakes(handshakes)
                .timeouts(limits(2_000));
            let transport = connect(&event_loop, &story, target);
            let what = format!("seed {seed}, {addresses:?} {handshakes:?}");
            let expected = ["made", "established", "data", "lost"];
            // A storm may also refuse the good one; then the story says so, once.
            if story.count("established") == 1 && story.events() == expected {
                assert_eq!(story.0.borrow().bytes, b"early", "{what}");
                reached += 1;
            } else {
                assert_eq!(story.count("lost"), 1, "{what}: {:?}", story.events());
                assert!(transport.problem().is_some(), "{what}");
            }
            drop((transport, story));
            drop(event_loop);
            let ledger = kernel.ledger();
            assert_eq!((ledger.open_descriptors, ledger.leaked_descriptors), (0, 0), "{what}");
        }
    }
    assert!(reached >= 150, "{reached} of 160");
}
