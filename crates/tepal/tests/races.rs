//! One address after another, or a race: on the real kernel too.

mod common;
#[path = "common/hole.rs"]
mod hole;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::on_every_driver;
use hole::Hole;
use reach::{again, echo_server, everywhere, nobody, run_to_end};
use story::Story;
use tepal::{Addresses, EventLoop, Phase, ProblemKind, Target, Transport};

/// How long it took until it was established.
fn connect(event_loop: &EventLoop, target: Target) -> (Story, Transport, Duration) {
    let begin = event_loop.time();
    let took = Rc::new(Cell::new(Duration::ZERO));
    let noted = Rc::clone(&took);
    let story = Story::new().on("established", move |transport| {
        noted.set(transport.event_loop().time().since(begin));
        transport.close();
    });
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(event_loop, &transport);
    (story, transport, took.get())
}

#[test]
fn s22_a_silent_address_has_its_share_of_the_time_and_then_the_next_has_the_rest() {
    on_every_driver(|event_loop| {
        let (hole, server) = (Hole::new(), echo_server(event_loop));
        let target = Target::any_of([hole.address, server]);
        let target = target.connecting(Some(Duration::from_secs(2)));
        let (story, transport, took) = connect(event_loop, target);
        assert_eq!(story.events(), ["made", "established", "lost"]);
        assert!(took >= Duration::from_secs(1), "{took:?}");
        assert_eq!(transport.closed().expect("over").kind, tepal::CloseKind::Local);
        assert_eq!(event_loop.redundant_connects(), 0, "one at a time");
    });
}

#[test]
fn s23_s24_a_race_goes_around_a_silent_address_and_needs_no_second_connect_otherwise() {
    on_every_driver(|event_loop| {
        let (hole, server) = (Hole::new(), echo_server(event_loop));
        let race = |first, second| Target::any_of([first, second]).addresses(Addresses::Race);
        let (story, _, _) = connect(event_loop, race(server, hole.address));
        assert_eq!(story.events(), ["made", "established", "lost"]);
        assert_eq!(event_loop.redundant_connects(), 0);
        let (story, _, took) = connect(event_loop, race(hole.address, server));
        assert_eq!(story.events(), ["made", "established", "lost"]);
        assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(10), "{took:?}");
        assert_eq!(event_loop.redundant_connects(), 1);
    });
}

#[test]
fn s66_s68_a_connect_that_is_not_answered_is_told_in_time_and_may_be_tried_again() {
    on_every_driver(|event_loop| {
        let hole = Hole::new();
        let story = Story::new().on("timeout_connecting", {
            let left = Cell::new(2);
            move |transport| {
                let problem = transport.problem().expect("told");
                assert_eq!((problem.phase, problem.kind), (Phase::Connect, ProblemKind::TimedOut));
                if left.replace(left.get() - 1) > 0 {
                    again(transport);
                }
            }
        });
        let limit = Duration::from_millis(50);
        let target = Target::address(hole.address).connecting(Some(limit));
        let begin = event_loop.time();
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(event_loop, &transport);
        let expected =
            ["made", "timeout_connecting", "timeout_connecting", "timeout_connecting", "lost"];
        assert_eq!(story.events(), expected);
        assert!(event_loop.time().since(begin) >= limit * 3);
    });
}

#[test]
fn s61_s63_reconnect_works_where_nothing_ever_connected() {
    everywhere(|event_loop| {
        let left = Cell::new(3);
        let story = Story::new().on("error_connecting", move |transport| {
            if left.replace(left.get() - 1) > 0 {
                again(transport);
                assert_eq!(transport.phase(), Phase::Waiting);
            }
        });
        let transport = event_loop.connect(story.clone(), Target::address(nobody(event_loop)));
        run_to_end(event_loop, &transport);
        assert_eq!(story.count("error_connecting"), 4);
        assert_eq!((story.count("made"), story.count("lost")), (1, 1));
    });
}
