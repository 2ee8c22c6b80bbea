//! The limit of each phase, on every driver: what is told when it has passed.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/hole.rs"]
mod hole;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::net::SocketAddr;
use std::time::Duration;

use common::{address, on_every_driver};
use dns::{Say, Zone};
use hole::Hole;
use reach::{run_to_end, silent_server};
use story::Story;
use tepal::names::Settings;
use tepal::{Address, CloseKind, EventLoop, Phase, ProblemKind, Protocol, Target, Timeouts};
use tepal::{Resolver, Transport};
use tepal_sim::Route;

const LIMIT: Duration = Duration::from_millis(100);
const SOON: Option<Duration> = Some(LIMIT);

/// Peers that keep one waiting, each in a phase of its own.
struct Peers {
    hole: SocketAddr,
    silent: SocketAddr,
    deaf: SocketAddr,
    _no_answers: Resolver,
}

/// Reads nothing.
struct Deaf;

impl Protocol for Deaf {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
    }
}

impl Peers {
    fn new(event_loop: &EventLoop, hole: SocketAddr) -> Peers {
        let zone = Zone::new();
        zone.borrow_mut().otherwise = Some(Say::Nothing);
        let deaf = event_loop.listen(|_: &Address| Deaf, "127.0.0.1:0").expect("a port");
        Peers {
            hole,
            silent: silent_server(event_loop),
            deaf: address(&deaf),
            _no_answers: asking::resolver(event_loop, &zone, Settings::default()),
        }
    }

    fn in_lookup(&self) -> Target {
        Target::host("slow.test.", 80)
    }

    fn in_connect(&self) -> Target {
        Target::address(self.hole)
    }

    fn in_handshake(&self) -> Target {
        Target::address(self.silent).layer(layered::tls_client().build().expect("a client"))
    }
}

/// On every driver of this machine, and on the simulated one.
fn everywhere(test: impl Fn(&EventLoop, &Peers)) {
    on_every_driver(|event_loop| {
        let hole = Hole::new();
        test(event_loop, &Peers::new(event_loop, hole.address));
    });
    let (kernel, event_loop) = reach::simulated();
    let hole: SocketAddr = "192.0.2.1:9".parse().expect("an address");
    kernel.set_route(hole.ip(), Route::Blackhole);
    test(&event_loop, &Peers::new(&event_loop, hole));
}

/// How it ended, once its limit had passed. Where time is simulated it is a little later; a busy
/// machine may be as late as it likes.
fn ends(event_loop: &EventLoop, story: Story, target: Target) -> (Transport, String, Duration) {
    let begin = event_loop.time();
    let transport = event_loop.connect(story, target);
    run_to_end(event_loop, &transport);
    let took = event_loop.time().since(begin);
    let simulated = event_loop.driver_name() == "sim";
    assert!(took >= LIMIT && (took < LIMIT * 4 || !simulated), "{took:?}");
    let told = transport.problem().map_or_else(String::new, |problem| problem.to_string());
    (transport, told, took)
}

type Way = fn(&Peers) -> Target;

/// Where an attempt hangs, and by what that is told.
const ATTEMPTS: [(Way, &str, Phase, CloseKind, &str); 3] = [
    (
        Peers::in_lookup,
        "timeout_dns",
        Phase::Resolve,
        CloseKind::ResolveTimedOut,
        "no answer came in time: 127.0.0.1:",
    ),
    (
        Peers::in_connect,
        "timeout_connecting",
        Phase::Connect,
        CloseKind::ConnectTimedOut,
        ": no answer in time (attempt 1, ",
    ),
    (
        Peers::in_handshake,
        "timeout_handshake",
        Phase::Handshake,
        CloseKind::HandshakeTimedOut,
        ": tls: the ",
    ),
];

#[test]
fn each_phase_of_an_attempt_ends_by_its_own_limit_and_by_that_of_the_whole() {
    let own = Timeouts { dns: SOON, connecting: SOON, handshake: SOON, ..Timeouts::default() };
    let whole = Timeouts { total: SOON, ..Timeouts::default() };
    everywhere(|event_loop, peers| {
        for limits in [own, whole] {
            for (target, hook, phase, kind, text) in ATTEMPTS {
                let story = Story::new();
                let target = target(peers).timeouts(limits);
                let (transport, told, _) = ends(event_loop, story.clone(), target);
                assert_eq!(story.events(), ["made", hook, "lost"]);
                let problem = transport.problem().expect("told");
                assert_eq!((problem.phase, problem.kind), (phase, ProblemKind::TimedOut), "{told}");
                assert_eq!(transport.closed().expect("over").kind, kind);
                assert!(told.contains(text), "{told}");
                // And which of the limits it was.
                assert_eq!(problem.total, limits.total);
                assert_eq!(
                    told.contains(" s, the whole may take 0.1 s)"),
                    limits == whole,
                    "{told}"
                );
            }
        }
    });
}

#[test]
fn an_established_connection_ends_by_each_of_its_limits() {
    let none = Timeouts::default();
    let silent: fn(&Peers) -> SocketAddr = |peers| peers.silent;
    let deaf: fn(&Peers) -> SocketAddr = |peers| peers.deaf;
    let waits: fn(&Transport) = |_| {};
    let writes: fn(&Transport) = |transport| {
        transport.write(&vec![7; 32 << 20]);
    };
    let closes: fn(&Transport) = |transport| {
        transport.write(&vec![7; 32 << 20]);
        transport.close();
    };
    let cases = [
        (
            Timeouts { read: SOON, ..none },
            silent,
            waits,
            CloseKind::ReadTimedOut,
            "nothing came for too long",
        ),
        (
            Timeouts { session: SOON, ..none },
            silent,
            waits,
            CloseKind::SessionTimedOut,
            "its time was over",
        ),
        (
            Timeouts { write: SOON, ..none },
            deaf,
            writes,
            CloseKind::WriteTimedOut,
            "the peer took nothing for too long",
        ),
        (
            Timeouts { closing: SOON, ..none },
            deaf,
            closes,
            CloseKind::ClosingTimedOut,
            "the peer took nothing of what was left to send",
        ),
    ];
    everywhere(|event_loop, peers| {
        for (limits, peer, acts, kind, text) in cases {
            let story = Story::new().on("established", acts);
            let target = Target::address(peer(peers)).timeouts(limits);
            let (transport, told, _) = ends(event_loop, story.clone(), target);
            assert_eq!(story.events(), ["made", "established", "lost"], "{kind:?}");
            let closed = transport.closed().expect("over");
            assert_eq!(closed.kind, kind, "{told}");
            assert_eq!(closed.unsent > 0, peer(peers) == peers.deaf, "{closed}");
            assert!(told.contains(text), "{told}");
        }
    });
}

#[test]
fn quiet_is_told_each_time_and_ends_nothing() {
    everywhere(|event_loop, peers| {
        let story = Story::new();
        let notes = story.clone();
        let story = story.on("timeout_idle", move |transport| {
            assert!(transport.is_established() && transport.problem().is_none());
            if notes.count("timeout_idle") == 3 {
                transport.close();
            }
        });
        let limits = Timeouts { idle: SOON, ..Timeouts::default() };
        let target = Target::address(peers.silent).timeouts(limits);
        let (transport, told, took) = ends(event_loop, story.clone(), target);
        let expected =
            ["made", "established", "timeout_idle", "timeout_idle", "timeout_idle", "lost"];
        assert_eq!(story.events(), expected);
        assert!(took >= LIMIT * 3 && told.is_empty(), "{took:?}: {told}");
        assert!(transport.closed().expect("over").is_clean());
    });
}
