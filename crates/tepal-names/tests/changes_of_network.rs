//! Servers that change while they are asked, as when a machine moves to another network: what is
//! under way ends with the old ones, with all defences, and nothing of it reaches what begins later.

mod common;

use std::time::Duration;

use common::{Asked, Reaction, World, address_record};
use tepal_names::config::{Hosts, Nsswitch, ResolvConf};
use tepal_names::error::{LookupErrorKind, Over};
use tepal_names::resolver::Started;
use tepal_names::{Family, Resolver};

const OLD: &str = "nameserver 192.0.2.53\noptions timeout:2 attempts:1";
const NEW: &str = "nameserver 192.0.2.99\noptions timeout:2 attempts:1";

fn change(resolver: &mut Resolver) {
    resolver.set_resolv_conf(ResolvConf::parse(NEW, &<_>::default(), &<_>::default()));
}

/// Begins a lookup of the old server, and changes it before the first answer.
fn begin_and_change(world: &mut World<'_>) {
    let deadline = world.now + Duration::from_secs(15);
    let started = world.resolver.lookup_host("host.test", Family::V4, deadline, world.now);
    assert!(matches!(started, Started::Pending(_)));
    world.transmit();
    change(&mut world.resolver);
}

fn shown(result: Result<tepal_names::resolver::Answer, tepal_names::LookupError>) -> Vec<String> {
    let answer = result.expect("is answered").into_host().expect("a host's");
    answer.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn an_answer_that_is_cut_off_is_still_fetched_over_tcp() {
    let mut world = World::new(OLD, |asked| {
        let reply = if asked.over == Over::Udp { asked.reply().flag(0x0200) } else { asked.good() };
        vec![Reaction::Say(10, reply.bytes())]
    });
    begin_and_change(&mut world);
    assert_eq!(shown(world.only()), ["192.0.2.80"]);
    let over: Vec<Over> = world.asked.iter().map(|asked| asked.over).collect();
    assert_eq!(over, [Over::Udp, Over::Tcp]);
}

#[test]
fn a_forged_case_is_still_not_believed() {
    let mut world = World::new(OLD, |asked| {
        if asked.over == Over::Tcp {
            return vec![Reaction::Say(10, asked.good().bytes())];
        }
        let mut forged = asked.evil();
        let letter = forged.question.iter().position(u8::is_ascii_alphabetic).expect("a name");
        forged.question[letter] ^= 0x20;
        vec![Reaction::Say(10, forged.bytes())]
    });
    begin_and_change(&mut world);
    assert_eq!(shown(world.only()), ["192.0.2.80"]);
}

#[test]
fn a_server_without_edns_is_still_asked_without() {
    let mut world = World::new(OLD, |asked| {
        let reply = if asked.edns { asked.reply().code(1) } else { asked.good() };
        vec![Reaction::Say(10, reply.bytes())]
    });
    begin_and_change(&mut world);
    assert_eq!(shown(world.only()), ["192.0.2.80"]);
}

#[test]
fn a_lookup_walks_nsswitch_conf_as_it_was_when_it_began() {
    // DNS fails, and then: the hosts file of the line it began with, and DNS only once.
    let mut world = World::new(OLD, |asked| vec![Reaction::Say(10, asked.reply().code(3).bytes())]);
    world.resolver.set_hosts(Hosts::parse("192.0.2.7 host.test\n"));
    for (began, changed, expected) in [
        ("hosts: dns files", "hosts: files dns", Some("192.0.2.7")),
        ("hosts: dns files", "hosts: files", Some("192.0.2.7")),
        ("hosts: dns", "hosts: dns files", None),
        ("hosts: files [NOTFOUND=return] dns", "hosts: dns", Some("192.0.2.7")),
    ] {
        world.resolver.clear_cache();
        world.asked.clear();
        world.resolver.set_nsswitch(Nsswitch::parse(began));
        let deadline = world.now + Duration::from_secs(15);
        let result = match world.resolver.lookup_host("host.test", Family::V4, deadline, world.now)
        {
            Started::Finished(result) => result,
            Started::Pending(_) => {
                world.transmit();
                world.resolver.set_nsswitch(Nsswitch::parse(changed));
                world.only()
            }
        };
        assert!(world.asked.len() <= 1, "{began}: {}", world.asked.len());
        match expected {
            Some(address) => assert_eq!(shown(result), [address], "{began}"),
            None => assert_eq!(result.expect_err(began).kind, LookupErrorKind::NotFound),
        }
    }
}

/// Each network has its own address for a name, and the old one is slow.
fn by_network(asked: &Asked) -> Vec<Reaction> {
    let (delay, last) = if asked.server.to_string() == "192.0.2.53:53" { (500, 1) } else { (1, 2) };
    let record = address_record(&asked.name, 300, [192, 0, 2, last].into());
    vec![Reaction::Say(delay, asked.reply().answer(record).bytes())]
}

#[test]
fn a_later_lookup_neither_waits_for_the_old_servers_nor_hears_of_their_answer() {
    for change in [change, Resolver::clear_cache] {
        let mut world = World::new(OLD, by_network);
        let deadline = world.now + Duration::from_secs(15);
        world.resolver.lookup_host("host.test", Family::V4, deadline, world.now);
        world.transmit();
        change(&mut world.resolver);
        // The same question: it is asked anew.
        world.resolver.lookup_host("host.test", Family::V4, deadline, world.now);
        world.transmit();
        assert_eq!(world.asked.len(), 2);
        // And two that begin later still share one query, though the old one ends before.
        world.resolver.lookup_host("host.test", Family::V4, deadline, world.now);
        world.transmit();
        assert_eq!(world.asked.len(), 2);
        assert_eq!(world.run().len(), 3);
    }
    let mut world = World::new(OLD, by_network);
    begin_and_change(&mut world);
    assert_eq!(shown(world.only()), ["192.0.2.1"], "who asked the old one hears of the old one");
    assert_eq!(shown(world.lookup("host.test", Family::V4)), ["192.0.2.2"], "it was not kept");
    assert_eq!(shown(world.lookup("host.test", Family::V4)), ["192.0.2.2"]);
    assert_eq!(world.asked.len(), 2, "what the new one said was kept");
}

#[test]
fn the_end_of_an_old_query_leaves_a_new_one_of_the_same_name_to_be_joined() {
    // The old server is the quick one here.
    let mut world = World::new(OLD, |asked| {
        let delay = if asked.server.to_string() == "192.0.2.53:53" { 10 } else { 500 };
        vec![Reaction::Say(delay, asked.good().bytes())]
    });
    begin_and_change(&mut world);
    let deadline = world.now + Duration::from_secs(15);
    let Started::Pending(new) =
        world.resolver.lookup_host("host.test", Family::V4, deadline, world.now)
    else {
        panic!("it is asked")
    };
    world.transmit();
    // The old query ends.
    world.now = world.now + Duration::from_millis(10);
    world.due();
    assert!(world.resolver.poll_finished().expect("the old one").1.is_ok());
    assert!(matches!(
        world.resolver.lookup_host("host.test", Family::V4, deadline, world.now),
        Started::Pending(id) if id != new
    ));
    world.transmit();
    assert_eq!(world.asked.len(), 2, "the new query is shared");
    assert_eq!(world.run().len(), 2);
}
