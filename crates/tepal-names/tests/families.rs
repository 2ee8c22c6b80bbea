//! IPv4 and IPv6: asked at once, and how long one waits for the other.

mod common;

use std::time::Duration;

use common::{A, AAAA, Asked, Reaction, World};
use tepal_names::Family;
use tepal_names::error::LookupErrorKind;
use tepal_names::resolver::Started;

const ONE: &str = "nameserver 192.0.2.53";

fn good(asked: &Asked) -> Vec<Reaction> {
    vec![Reaction::Say(1, asked.good().bytes())]
}

#[test]
fn both_families_are_asked_at_once_on_sockets_of_their_own() {
    let mut world = World::new(ONE, good);
    let found = world.addresses("host.test", Family::Unspecified);
    assert_eq!(found, ["2001:db8::1", "192.0.2.80"]);
    let types: Vec<_> = world.asked.iter().map(|asked| asked.record_type).collect();
    assert_eq!(types, [A, AAAA]);
    assert_eq!(world.asked[0].at, world.asked[1].at);
    assert_eq!(world.most_sockets, 2);
}

#[test]
fn single_request_asks_one_after_the_other_and_no_aaaa_asks_once() {
    let mut world = World::new("nameserver 192.0.2.53\noptions single-request", good);
    assert_eq!(world.addresses("host.test", Family::Unspecified).len(), 2);
    assert_eq!(world.most_sockets, 1);
    let mut world = World::new("nameserver 192.0.2.53\noptions no-aaaa", good);
    assert_eq!(world.addresses("host.test", Family::Unspecified), ["192.0.2.80"]);
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn one_family_is_not_held_up_for_long_by_the_other() {
    let mut world =
        World::new(ONE, |asked| if asked.record_type == A { good(asked) } else { vec![] });
    let start = world.now;
    let answer = world.lookup("host.test", Family::Unspecified).unwrap().into_host().unwrap();
    assert_eq!(answer.addresses.len(), 1);
    assert_eq!(answer.missing.unwrap().kind, LookupErrorKind::DeadlinePassed);
    assert!(world.now.since(start) <= Duration::from_millis(5_001));
}

#[test]
fn in_a_hurry_what_is_there_is_told_and_the_rest_is_waited_for() {
    let black = |silent: u16| {
        move |asked: &Asked| if asked.record_type == silent { vec![] } else { good(asked) }
    };
    // IPv4 after the resolution delay, IPv6 at once.
    for (silent, delay) in [(AAAA, 50), (A, 0)] {
        let mut world = World::new(ONE, black(silent));
        world.hurry = true;
        // The second time the answer of the other family is in the cache already.
        for round in ["asked", "cached"] {
            let start = world.now;
            let answer = world.lookup("host.test", Family::Unspecified).unwrap();
            let answer = answer.into_host().unwrap();
            assert_eq!(answer.addresses.len(), 1, "{round}");
            assert!(answer.missing.is_some());
            let took = world.now.since(start).as_millis();
            assert!((4_990..=5_055).contains(&took), "{round}: {took} ms");
            let (at, early) = world.early.remove(0);
            assert_eq!((early.addresses, early.missing), (answer.addresses, None), "{round}");
            let took = at.since(start).as_millis();
            assert!((delay..delay + 5).contains(&took), "{round}: {took} ms");
            assert!(world.early.is_empty(), "told once");
        }
    }
}

#[test]
fn in_a_hurry_the_second_family_follows_and_is_not_announced_if_it_comes_in_time() {
    for (late, after, told) in
        [(AAAA, 49, None), (AAAA, 200, Some("192.0.2.80")), (A, 200, Some("2001:db8::1"))]
    {
        let mut world = World::new(ONE, |asked| {
            let delay = if asked.record_type == late { after } else { 1 };
            vec![Reaction::Say(delay, asked.good().bytes())]
        });
        world.hurry = true;
        let found = world.addresses("host.test", Family::Unspecified);
        assert_eq!(found, ["2001:db8::1", "192.0.2.80"], "{late} {after}");
        let early: Vec<_> = world.early.iter().map(|(_, e)| e.addresses[0].to_string()).collect();
        assert_eq!(early, told.into_iter().collect::<Vec<_>>(), "{late} {after}");
    }
    // A name without IPv6 holds nobody up.
    let mut world = World::new(ONE, |asked| match asked.record_type {
        AAAA => vec![Reaction::Say(1, asked.reply().bytes())],
        _ => good(asked),
    });
    world.hurry = true;
    let start = world.now;
    assert_eq!(world.addresses("host.test", Family::Unspecified), ["192.0.2.80"]);
    assert!(world.now.since(start) < Duration::from_millis(5) && world.early.is_empty());
}

#[test]
fn a_lookup_in_a_hurry_that_is_cancelled_tells_nothing() {
    let mut world =
        World::new(ONE, |asked| if asked.record_type == A { vec![] } else { good(asked) });
    let deadline = world.now + Duration::from_secs(15);
    let Started::Pending(id) =
        world.resolver.lookup_host("host.test", Family::Unspecified, deadline, world.now)
    else {
        panic!("it is not known");
    };
    world.resolver.hurry(id, world.now);
    world.resolver.cancel(id, world.now);
    assert!(world.run().is_empty() && world.early.is_empty());
}
