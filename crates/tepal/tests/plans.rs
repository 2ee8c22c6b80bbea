//! Plans: connections that are made anew without code, and how long is waited.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::address;
use dns::{Zone, put};
use reach::{echo_server, everywhere, fickle_server, nobody, run_to_end, run_until, simulated};
use story::Story;
use tepal::names::Settings;
use tepal::{Backoff, Protocol, Target, Transport};

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
    let plan = Backoff { steady: Duration::ZERO, ..Backoff::default() };
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

/// Hangs up each connection after the time that a test has set.
struct Short(Rc<Cell<Duration>>);

impl Protocol for Short {
    fn connection_established(&mut self, transport: &Transport) {
        let (life, peer) = (self.0.get(), transport.clone());
        let lp = transport.event_loop().clone();
        drop(transport.event_loop().spawn(async move {
            lp.sleep(life).await;
            peer.close();
        }));
    }
}

#[test]
fn a_peer_that_accepts_and_hangs_up_is_tried_less_and_less_often() {
    let (_, event_loop) = simulated();
    let life = Rc::new(Cell::new(Duration::ZERO));
    let shared = Rc::clone(&life);
    let serve = move |_: &tepal::Address| Short(Rc::clone(&shared));
    let server = address(&event_loop.listen(serve, "127.0.0.1:0").expect("a port"));
    let times = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&times);
    let story = Story::new().on("established", move |transport| {
        noted.borrow_mut().push(transport.event_loop().time());
    });
    let plan = Backoff { jitter: 0.0, ..Backoff::default() };
    let transport = event_loop.connect(story.clone(), Target::address(server).backoff(plan));
    let count = Rc::clone(&times);
    run_until(&event_loop, move || count.borrow().len() == 10);
    let waits = |times: &[tepal::Instant]| -> Vec<u64> {
        let pairs = times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64);
        pairs.map(|millis| millis / 100 * 100).collect()
    };
    let grown = waits(&times.borrow());
    assert_eq!(grown, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);

    // A connection that stood for long enough begins the plan anew; one that fell a little short
    // of it does not.
    for (lived, expected) in [(9_900, 69_900), (10_100, 10_600)] {
        life.set(Duration::from_millis(lived));
        times.borrow_mut().clear();
        let count = Rc::clone(&times);
        run_until(&event_loop, move || count.borrow().len() == 2);
        assert_eq!(waits(&times.borrow()), [expected], "after {lived} ms");
    }
    transport.close();
    run_to_end(&event_loop, &transport);
}

#[test]
fn retries_of_a_peer_that_hangs_up_are_counted() {
    everywhere(|event_loop| {
        let server = fickle_server(event_loop);
        let story = Story::new().on("established", |transport| {
            transport.write(b"x");
        });
        let (first, jitter) = (Duration::from_millis(1), 0.0);
        let plan = Backoff { first, jitter, attempts: Some(3), ..Backoff::default() };
        let target = Target::address(server).backoff(plan);
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(event_loop, &transport);
        assert_eq!((story.count("established"), story.count("lost")), (4, 4));
    });
}
