//! Addresses of a name that come while others are tried already (RFC 8305, sections 3 and 4).

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asking::{everywhere, resolver, simulated};
use common::{Echo, address};
use dns::{A, AAAA, Shared, Zone, put};
use reach::{run_to_end, run_until};
use story::Story;
use tepal::names::Settings;
use tepal::{
    Address, Addresses, EventLoop, Phase, Resolver, Server, Socks4, Target, Timeouts, Transport,
};
use tepal_sim::Route;

const LATE: Duration = Duration::from_millis(400);
/// Sooner than any limit that is set here, however busy the machine is.
const SOON: Duration = Duration::from_secs(30);
const LIMIT: Option<Duration> = Some(Duration::from_secs(120));

/// A name of both families, whose questions of one type are answered late.
fn named(event_loop: &EventLoop, v4: &str, late: u16, delay: Duration) -> (Shared, Resolver) {
    let zone = Zone::new();
    put(&zone, "both.test", 60, &[v4, "::1"]);
    zone.borrow_mut().delays.insert(late, delay);
    let settings = Settings { timeout: LIMIT, ..Settings::default() };
    let resolver = resolver(event_loop, &zone, settings);
    (zone, resolver)
}

/// A server at `[::1]`, at whose port nobody listens on `127.0.0.1`.
fn server_of_v6(event_loop: &EventLoop) -> Server {
    event_loop.listen(|_: &Address| Echo, "[::1]:0").expect("a port")
}

/// How a race went, and how long it took to be established; `ZERO` if it was not.
fn race(event_loop: &EventLoop, target: Target) -> (Story, Transport, Duration) {
    let begin = event_loop.time();
    let took = Rc::new(Cell::new(Duration::ZERO));
    let noted = Rc::clone(&took);
    let story = Story::new().on("established", move |transport| {
        noted.set(transport.event_loop().time().since(begin));
        transport.close();
    });
    let limits = Timeouts { dns: LIMIT, connecting: LIMIT, ..Timeouts::default() };
    let target = target.addresses(Addresses::Race).timeouts(limits);
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(event_loop, &transport);
    (story, transport, took.get())
}

fn tried(transport: &Transport) -> Vec<String> {
    let problem = transport.problem().expect("it failed");
    problem.attempts.iter().map(|attempt| attempt.address.to_string()).collect()
}

#[test]
fn an_address_that_comes_late_is_tried_when_the_first_ones_have_failed() {
    everywhere(|event_loop| {
        let server = server_of_v6(event_loop);
        let (zone, resolver) = named(event_loop, "127.0.0.1", AAAA, LATE);
        let target = Target::host("both.test", address(&server).port());
        let (story, transport, took) = race(event_loop, target);
        assert_eq!(story.events(), ["made", "established", "lost"], "{:?}", transport.problem());
        assert!(took >= LATE && took < SOON, "{took:?}");
        assert_eq!(zone.borrow().asked.len(), 2, "nobody was asked twice");
        assert_eq!(resolver.socket_count(), 0);
    });
}

#[test]
fn ipv6_that_is_there_first_is_tried_at_once() {
    everywhere(|event_loop| {
        let server = server_of_v6(event_loop);
        let (_zone, resolver) = named(event_loop, "127.0.0.1", A, Duration::from_secs(600));
        let target = Target::host("both.test", address(&server).port());
        let (story, _, took) = race(event_loop, target);
        assert_eq!(story.events(), ["made", "established", "lost"]);
        assert!(took < SOON, "IPv4 is not waited for: {took:?}");
        assert_eq!(resolver.socket_count(), 0, "nor is it asked for any more");
        assert_eq!(event_loop.redundant_connects(), 0);
    });
}

#[test]
fn a_failure_waits_for_the_rest_of_the_answer_and_names_all_addresses() {
    everywhere(|event_loop| {
        let port = reach::nobody(event_loop).port();
        let (zone, _resolver) = named(event_loop, "127.0.0.1", AAAA, LATE);
        let begin = event_loop.time();
        let (story, transport, _) = race(event_loop, Target::host("both.test", port));
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
        assert!(event_loop.time().since(begin) >= LATE);
        assert_eq!(tried(&transport), [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);

        // There is no more: the failure comes with that answer, and not later.
        put(&zone, "both.test", 60, &["127.0.0.1"]);
        let _fresh = asking::resolver(event_loop, &zone, Settings::default());
        let (story, transport, _) = race(event_loop, Target::host("both.test", port));
        assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
        assert_eq!(tried(&transport), [format!("127.0.0.1:{port}")]);
    });
}

#[test]
fn a_handshake_that_fails_leaves_the_late_address() {
    everywhere(|event_loop| {
        // On IPv4 somebody hangs up; on IPv6 nobody listens.
        let server = reach::rude_server(event_loop, |transport| transport.close());
        let (_zone, resolver) = named(event_loop, "127.0.0.1", AAAA, LATE);
        let proxy = Socks4::new("192.0.2.9", 7).expect("valid");
        let target = Target::host("both.test", server.port()).layer(proxy);
        let (story, transport, _) = race(event_loop, target);
        assert_eq!(story.events(), ["made", "error_layer", "lost"]);
        let port = server.port();
        assert_eq!(tried(&transport), [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
        assert_eq!(resolver.socket_count(), 0);
    });
}

#[test]
fn a_race_that_is_given_up_asks_no_more() {
    everywhere(|event_loop| {
        let port = reach::nobody(event_loop).port();
        let (_zone, resolver) = named(event_loop, "127.0.0.1", AAAA, Duration::from_secs(60));
        let story = Story::new();
        let target = Target::host("both.test", port).addresses(Addresses::Race);
        let transport = event_loop.connect(story.clone(), target);
        let asks = transport.clone();
        run_until(event_loop, move || asks.phase() == Phase::Connect);
        assert_eq!(resolver.socket_count(), 1);
        transport.abort();
        assert_eq!(resolver.socket_count(), 0);
        run_to_end(event_loop, &transport);
        assert_eq!(story.events(), ["made", "lost"]);
    });
}

#[test]
fn a_silent_address_is_left_behind_at_the_time_of_the_next_start() {
    // 50 ms for IPv6, then 250 ms for the address that is silent, which began then.
    for (delay, expected) in [(100, 300), (299, 300), (500, 500)] {
        let (kernel, event_loop) = simulated();
        kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
        let server = server_of_v6(&event_loop);
        let (_zone, _resolver) =
            named(&event_loop, "192.0.2.1", AAAA, Duration::from_millis(delay));
        let target = Target::host("both.test", address(&server).port());
        let (story, _, took) = race(&event_loop, target);
        assert_eq!(story.events(), ["made", "established", "lost"]);
        let took = took.as_millis();
        assert!((expected..expected + 5).contains(&took), "AAAA after {delay} ms: {took} ms");
        assert_eq!(event_loop.redundant_connects(), 1);
    }
}
