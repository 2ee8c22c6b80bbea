//! IPv4 and IPv6: asked at once, and how long one waits for the other.

mod common;

use std::time::Duration;

use common::{A, AAAA, Asked, Reaction, World};
use tepal_names::Family;
use tepal_names::error::LookupErrorKind;

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
fn in_a_hurry_ipv6_is_waited_for_50_ms_once_ipv4_is_there() {
    let black = |silent: u16| {
        move |asked: &Asked| if asked.record_type == silent { vec![] } else { good(asked) }
    };
    for (silent, most) in [(AAAA, 55), (A, 5_005)] {
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
            assert!((most - 10..=most).contains(&took), "{round}: {took} ms");
        }
    }
    // Nothing is lost where both answer.
    let mut world = World::new(ONE, good);
    world.hurry = true;
    assert_eq!(world.addresses("host.test", Family::Unspecified).len(), 2);
}
