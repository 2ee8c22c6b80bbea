//! The wire breaks before there is a connection: while a name is asked for over TCP, and while an
//! address is tried. `phase_matrix.rs` has the rest.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use dns::{Say, Zone};
use reach::{everywhere, nobody, run_to_end, simulated};
use story::Story;
use tepal::names::{Family, Settings};
use tepal::{
    Address, CloseKind, EventLoop, Phase, ProblemCause, ProblemKind, Protocol, Target, Timeouts,
    Transport,
};
use tepal_sim::Route;

/// How far a server gets over TCP before it breaks off.
#[derive(Clone, Copy, Debug)]
enum Place {
    Accepted,
    Asked,
    /// It has sent so many bytes of its answer, the two of its length included.
    Sent(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Reset,
    Fin,
    Silence,
}

struct Breaking(Place, Fault);

impl Breaking {
    fn fail(&self, transport: &Transport) {
        match self.1 {
            // Behind what was just written.
            Fault::Reset => {
                let broken = transport.clone();
                let lp = transport.event_loop().clone();
                drop(lp.call_later(Duration::from_millis(1), move |_| broken.abort()));
            }
            Fault::Fin => drop(transport.write_eof()),
            Fault::Silence => {}
        }
    }
}

impl Protocol for Breaking {
    fn connection_established(&mut self, transport: &Transport) {
        if let Place::Accepted = self.0 {
            self.fail(transport);
        }
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        match self.0 {
            Place::Accepted => {}
            Place::Asked => self.fail(transport),
            Place::Sent(count) => {
                // 200 bytes are promised.
                let reply = [&[0, 200], &data[2..4], &[0x81, 0x80], &[0; 200]].concat();
                transport.write(&reply[..count]);
                self.fail(transport);
            }
        }
        data.len()
    }
    fn eof_received(&mut self, _: &Transport) -> bool {
        true
    }
}

fn connect(event_loop: &EventLoop, target: Target) -> (Story, Transport, Duration) {
    let story = Story::new();
    let begin = event_loop.time();
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(event_loop, &transport);
    (story, transport, event_loop.time().since(begin))
}

#[test]
fn wherever_a_name_server_breaks_off_the_question_ends_in_time_and_tells() {
    let places =
        [Place::Accepted, Place::Asked].into_iter().chain([1, 2, 3, 14, 201].map(Place::Sent));
    let mut cases = Vec::new();
    for place in places {
        for fault in [Fault::Reset, Fault::Fin, Fault::Silence] {
            for family in [Family::V4, Family::V6, Family::Unspecified] {
                cases.push((place, fault, family));
            }
        }
    }
    everywhere(|event_loop| {
        let limit =
            Duration::from_millis(if event_loop.driver_name() == "sim" { 400 } else { 150 });
        for &(place, fault, family) in &cases {
            let zone = Zone::new();
            zone.borrow_mut().otherwise = Some(Say::Truncated(60, Vec::new()));
            let serve = move |_: &Address| Breaking(place, fault);
            let listener = event_loop.listen(serve, "127.0.0.1:0").expect("a port");
            let server = common::address(&listener);
            let udp = dns::datagrams(event_loop, &zone, server);
            let resolver = event_loop.resolver(Settings {
                servers: Some(vec![server]),
                attempts: Some(1),
                timeout: Some(limit * 2),
                ..Settings::default()
            });
            let timeouts = Timeouts { dns: Some(limit), ..Timeouts::default() };
            let target = Target::host("breaks.test", 80).family(family);
            let target = target.resolver(&resolver).timeouts(timeouts);
            let (story, transport, took) = connect(event_loop, target);
            let what = format!("{place:?} {fault:?} {family:?} on {}", event_loop.driver_name());
            let hook = if fault == Fault::Silence { "timeout_dns" } else { "error_dns" };
            assert_eq!(story.events(), ["made", hook, "lost"], "{what}");
            let late = if event_loop.driver_name() == "sim" { 20 } else { 3_000 };
            assert!(took <= limit + Duration::from_millis(late), "{what}: {took:?}");
            let problem = transport.problem().expect("told");
            assert_eq!((problem.phase, problem.layer), (Phase::Resolve, None), "{what}");
            assert!(matches!(problem.cause, Some(ProblemCause::Resolve(_))), "{what}");
            let text = problem.to_string();
            let named = text.contains(&format!("{server} (tcp)")) && text.contains("breaks.test");
            assert!(named, "{what}: {text}");
            listener.close();
            udp.abort();
        }
    });
}

#[test]
fn a_name_server_that_takes_no_connection_is_told() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        zone.borrow_mut().otherwise = Some(Say::Truncated(60, Vec::new()));
        // Datagrams only: the SYN is answered by a reset.
        let server = nobody(event_loop);
        let udp = dns::datagrams(event_loop, &zone, server);
        let settings =
            Settings { servers: Some(vec![server]), attempts: Some(1), ..Settings::default() };
        let resolver = event_loop.resolver(settings);
        let target = Target::host("breaks.test", 80).resolver(&resolver);
        let (story, transport, _) = connect(event_loop, target);
        assert_eq!(story.events(), ["made", "error_dns", "lost"]);
        let text = transport.problem().expect("told").to_string();
        assert!(text.contains(&format!("{server} (tcp)")) && text.contains("refused"), "{text}");
        udp.abort();
    });
}

#[test]
fn whatever_becomes_of_a_syn_is_told() {
    // A reset, on every kernel.
    everywhere(|event_loop| {
        let nobody = nobody(event_loop);
        let (story, transport, _) = connect(event_loop, Target::address(nobody));
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
        let problem = transport.problem().expect("told");
        assert_eq!((problem.phase, problem.kind), (Phase::Connect, ProblemKind::Refused));
        assert!(matches!(&problem.cause, Some(ProblemCause::Io(_))), "{problem}");
    });
    // Silence, and what routers say: `networks.rs` has them on the real kernel.
    let (kernel, event_loop) = simulated();
    let far: SocketAddr = "192.0.2.1:9".parse().expect("an address");
    for (route, hook, kind, close) in [
        (Route::Blackhole, "timeout_connecting", ProblemKind::TimedOut, CloseKind::ConnectTimedOut),
        (Route::Error(113), "error_connecting", ProblemKind::Unreachable, CloseKind::ConnectFailed),
        (Route::Error(101), "error_connecting", ProblemKind::Unreachable, CloseKind::ConnectFailed),
        (Route::Error(13), "error_connecting", ProblemKind::NotPermitted, CloseKind::ConnectFailed),
    ] {
        kernel.set_route(far.ip(), route);
        let limit = Duration::from_secs(3);
        let target = Target::address(far).connecting(Some(limit));
        let (story, transport, took) = connect(&event_loop, target);
        assert_eq!(story.events(), ["made", hook, "lost"], "{kind:?}");
        let problem = transport.problem().expect("told");
        assert_eq!((problem.phase, problem.kind), (Phase::Connect, kind), "{problem}");
        assert_eq!(transport.closed().expect("over").kind, close);
        assert!(problem.to_string().contains("192.0.2.1:9"), "{problem}");
        assert!(took <= limit + Duration::from_millis(20), "{took:?}");
    }
    // Two silent addresses share the time out.
    kernel.set_route(far.ip(), Route::Blackhole);
    let second: SocketAddr = "192.0.2.1:10".parse().expect("an address");
    let target = Target::any_of([far, second]).connecting(Some(Duration::from_secs(4)));
    let (story, transport, _) = connect(&event_loop, target);
    assert_eq!(story.events(), ["made", "timeout_connecting", "lost"]);
    let problem = Rc::new(transport.problem().expect("told"));
    let spans: Vec<_> = problem.attempts.iter().filter_map(|attempt| attempt.elapsed).collect();
    assert!(spans.iter().all(|span| span.as_millis() / 100 == 20), "{problem}");
}
