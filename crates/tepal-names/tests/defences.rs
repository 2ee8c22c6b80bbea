//! What a stranger can do to a lookup, and what the resolver learns of its servers.

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::IpAddr;

use common::{Asked, Reaction, World, address_record, cookie_option, opt};
use tepal_names::Family;
use tepal_names::error::Over;

fn good(asked: &Asked) -> Vec<Reaction> {
    vec![Reaction::Say(1, asked.good().bytes())]
}

const ONE: &str = "nameserver 192.0.2.53";

#[test]
fn ids_and_cases_of_many_queries_are_spread_evenly() {
    let mut world = World::new(ONE, good);
    for index in 0..10_000 {
        world.addresses(&format!("abcdefghij.h{index}.test"), Family::V4);
    }
    // Chi square over 256 buckets of ids: the mean is 255, its deviation 22.6; 400 is 6 away.
    let mut buckets = [0f64; 256];
    for asked in &world.asked {
        buckets[usize::from(asked.id >> 8)] += 1.0;
    }
    let expected = world.asked.len() as f64 / 256.0;
    let chi: f64 = buckets.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(chi < 400.0, "{chi}");
    assert!(world.asked.iter().map(|asked| asked.id).collect::<HashSet<_>>().len() > 8_900);
    for letter in 1..11 {
        let upper =
            world.asked.iter().filter(|asked| asked.question[letter].is_ascii_uppercase()).count();
        assert!((4_700..5_300).contains(&upper), "letter {letter}: {upper}");
    }
}

#[test]
fn a_flood_of_every_wrong_id_is_never_believed() {
    let evil = IpAddr::from([6, 6, 6, 6]);
    let mut world = World::new(ONE, |asked| match asked.over {
        Over::Udp => (0..=u16::MAX)
            .map(|offset| {
                // Ids from far away upward, the right one among them, in lower case.
                let mut reply =
                    asked.reply().id(asked.id.wrapping_add(32_768).wrapping_add(offset));
                reply.question = asked.question.to_ascii_lowercase();
                Reaction::Say(1, reply.answer(address_record(&asked.name, 300, evil)).bytes())
            })
            .collect(),
        Over::Tcp => good(asked),
    });
    assert_eq!(world.addresses("host.test", Family::V4), ["192.0.2.80"]);
    assert_eq!(world.asked[1].over, Over::Tcp);
}

#[test]
fn a_server_without_edns_or_case_is_remembered() {
    let mut world = World::new(ONE, |asked| {
        if asked.edns {
            return vec![Reaction::Say(1, asked.reply().code(1).bytes())];
        }
        let mut reply = asked.good();
        reply.question.make_ascii_lowercase();
        vec![Reaction::Say(1, reply.bytes())]
    });
    world.addresses("host1.test", Family::V4);
    let learning = world.asked.len();
    assert!(learning > 1);
    world.addresses("host2.test", Family::V4);
    assert_eq!(world.asked.len(), learning + 1);
    let last = world.asked.last().unwrap();
    assert!(!last.edns && last.over == Over::Udp);
    assert_eq!(last.question, last.question.to_ascii_lowercase());
}

#[test]
fn a_server_that_drops_edns_is_asked_without_in_the_second_round() {
    let mut world = World::new(ONE, |asked| if asked.edns { vec![] } else { good(asked) });
    assert!(world.lookup("host.test", Family::V4).is_ok());
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn cookies_are_returned_and_their_absence_is_not_believed() {
    let forge = RefCell::new(false);
    let mut world = World::new(ONE, |asked| {
        let cookie = asked.cookie.clone().expect("EDNS is on");
        let mut full = cookie[..8].to_vec();
        full.extend([9; 8]);
        if *forge.borrow() && asked.over == Over::Udp {
            return vec![Reaction::Say(1, asked.good().bytes())];
        }
        vec![Reaction::Say(1, asked.good().additional(opt(0, &cookie_option(&full))).bytes())]
    });
    world.addresses("host1.test", Family::V4);
    world.addresses("host2.test", Family::V4);
    assert_eq!(world.asked[0].cookie.as_ref().unwrap().len(), 8);
    assert_eq!(world.asked[1].cookie.as_ref().unwrap()[8..], [9; 8]);
    *forge.borrow_mut() = true;
    world.addresses("host3.test", Family::V4);
    assert_eq!(world.asked.last().unwrap().over, Over::Tcp);
}
