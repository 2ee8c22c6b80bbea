//! Many lookups at once, losses, and few sockets.

mod common;

use std::time::Duration;

use common::{Reaction, World, alias};
use tepal_names::Family;
use tepal_names::error::Over;
use tepal_names::resolver::Settings;

#[test]
fn five_thousand_lookups_with_losses_end_in_time_with_512_sockets() {
    let mut dice = common::Dice(99);
    let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions timeout:1";
    let mut world = World::new(conf, move |asked| match dice.roll(100) {
        0..5 => vec![],
        5..10 if asked.over == Over::Udp => {
            vec![Reaction::Say(5, asked.reply().flag(0x0200).bytes())]
        }
        10..12 => {
            let garbage = (0..100).map(|_| dice.roll(256) as u8).collect();
            vec![Reaction::Raw(3, garbage), Reaction::Say(20, asked.good().bytes())]
        }
        _ => vec![Reaction::Say(1 + dice.roll(50), asked.good().bytes())],
    });
    let start = world.now;
    let deadline = start + Duration::from_secs(15);
    for index in 0..5_000 {
        let host = format!("host{index}.test");
        world.resolver.lookup_host(&host, Family::Unspecified, deadline, start);
        assert!(world.resolver.socket_count() <= 512);
    }
    let all = world.run();
    assert_eq!(all.len(), 5_000);
    assert!(all.iter().all(|each| each.at <= deadline));
    assert!(world.most_sockets <= 512, "{}", world.most_sockets);
    let failed = all.iter().filter(|each| each.result.is_err()).count();
    assert!(failed < 10, "{failed} failed");
}

#[test]
fn a_lookup_that_never_gets_a_socket_ends_by_its_deadline() {
    let settings = Settings { max_sockets: 1, ..Settings::default() };
    let mut world = World::with(settings, "nameserver 192.0.2.53", |_| vec![]);
    let deadline = world.now + Duration::from_secs(2);
    for index in 0..50 {
        world.resolver.lookup_host(&format!("h{index}.test"), Family::V4, deadline, world.now);
    }
    let all = world.run();
    assert_eq!(all.len(), 50);
    assert!(all.iter().all(|each| each.at <= deadline && each.result.is_err()));
    assert_eq!(world.most_sockets, 1);
}

#[test]
fn any_traffic_ends_every_lookup_by_its_deadline() {
    for seed in 1..400 {
        let mut dice = common::Dice(seed * 0x9e37_79b9);
        let mut server_dice = common::Dice(seed * 0x85eb_ca6b);
        let settings = Settings { max_sockets: 1 + dice.roll(6) as usize, ..Settings::default() };
        let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.test b.test\n\
                    options timeout:1 attempts:2";
        let mut world = World::with(settings, conf, move |asked| {
            (0..server_dice.roll(4))
                .map(|_| {
                    let delay = server_dice.roll(2_500);
                    let mut bytes = match server_dice.roll(4) {
                        0 => asked.reply().code(server_dice.roll(8) as u16),
                        1 => asked.reply().flag(0x0200),
                        2 => asked.reply().answer(alias(&asked.name, "next.test")),
                        _ => asked.good(),
                    }
                    .bytes();
                    for _ in 0..server_dice.roll(3) {
                        let at = server_dice.roll(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << server_dice.roll(8);
                    }
                    match server_dice.roll(6) {
                        0 => Reaction::Fail(delay, tepal_names::error::SocketFault::Refused),
                        1 => Reaction::Raw(delay, bytes),
                        _ => Reaction::Say(delay, bytes),
                    }
                })
                .collect()
        });
        world.piece = 1 + dice.roll(9) as usize;
        let start = world.now;
        for index in 0..20 {
            let deadline = start + Duration::from_millis(dice.roll(8_000));
            let host = format!("h{}", index % 7);
            world.resolver.lookup_host(&host, Family::Unspecified, deadline, start);
        }
        for finished in world.run() {
            assert!(finished.at.since(start) <= Duration::from_secs(8));
        }
    }
}
