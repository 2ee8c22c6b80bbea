//! Broken bytes from a seed: nothing panics, and a stream means the same however it is cut.
//! The targets in `fuzz/` do the same for longer.

mod common;

use common::{Asked, Dice, Reaction, World, alias, opt, soa};
use tepal_names::config::{Environment, Hosts, Nsswitch, Policy, ResolvConf, Services};
use tepal_names::{Family, HostName, Interfaces, parse_literal};

/// A good or negative reply with a few bits flipped, bytes cut out or doubled.
fn broken(asked: &Asked, dice: &mut Dice) -> Vec<u8> {
    let reply = match dice.roll(3) {
        0 => asked.reply().code(3).authority(soa("test", 60, 60)),
        1 => asked.good().answer(alias("x.test", "y.test")).additional(opt(0, &[0, 10, 0, 1, 1])),
        _ => asked.good(),
    };
    let mut bytes = reply.bytes();
    for _ in 0..=dice.roll(4) {
        // The id and the QR bit stay, so that the rest is looked at.
        let at = 3 + dice.roll(bytes.len() as u64 - 3) as usize;
        match dice.roll(3) {
            0 => bytes[at] = dice.roll(256) as u8,
            1 => bytes.truncate(at.max(4)),
            _ => bytes.insert(at, dice.roll(256) as u8),
        }
    }
    bytes
}

#[test]
fn a_stream_of_broken_messages_means_the_same_at_every_cut() {
    for seed in 1..300u64 {
        let run = |piece: usize| {
            let mut dice = Dice(seed * 0x9e37_79b9);
            let conf = "nameserver 192.0.2.53\noptions use-vc timeout:1 attempts:1";
            let mut world = World::new(conf, move |asked| {
                (1..=3).map(|at| Reaction::Say(at, broken(asked, &mut dice))).collect()
            });
            world.piece = piece;
            let result = world.lookup("host.test", Family::V4);
            (result, world.now)
        };
        let whole = run(usize::MAX);
        for piece in [1, 2, 3, 7] {
            assert_eq!(run(piece), whole, "seed {seed}, pieces of {piece}");
        }
    }
}

#[test]
fn a_stream_is_understood_at_every_single_cut() {
    let mut world = World::new("nameserver 192.0.2.53\noptions use-vc", |asked| {
        vec![Reaction::Say(1, asked.good().bytes())]
    });
    let mut cut = 1;
    loop {
        world.resolver.clear_cache();
        world.piece = cut;
        assert!(world.lookup("host.test", Family::V4).is_ok(), "cut at {cut}");
        cut += 1;
        if cut > 80 {
            return;
        }
    }
}

#[test]
fn broken_messages_never_panic_and_never_outlast_the_deadline() {
    let mut dice = Dice(77);
    let mut world =
        World::new("nameserver 192.0.2.53\noptions timeout:1 attempts:1", move |asked| {
            (0..6).map(|at| Reaction::Say(at, broken(asked, &mut dice))).collect()
        });
    for index in 0..1_000 {
        let start = world.now;
        let _any = world.lookup(&format!("h{index}.test"), Family::Unspecified);
        assert!(world.now.since(start).as_secs() <= 15);
    }
}

#[test]
fn any_text_is_a_system_file() {
    const WORDS: &[&str] = &[
        "nameserver",
        "search",
        "options",
        "ndots:",
        "timeout:9",
        "hosts:",
        "files",
        "dns",
        "[",
        "]",
        "!UNAVAIL=return",
        "127.0.0.1",
        "::1",
        "fe80::1%eth0",
        "%",
        "#",
        ";",
        "\n",
        "\n",
        "\t",
        " ",
        "\0",
        "\u{fffd}",
        "é",
        "label",
        "precedence",
        "::/0",
        "/129",
        "80/tcp",
        "a",
        ".",
        "99999999999999999999",
        "\r\n",
        ":",
        "=",
    ];
    let mut dice = Dice(5);
    let interfaces = Interfaces::new([("eth0", 2)]);
    for _ in 0..20_000 {
        let text: String =
            (0..dice.roll(40)).map(|_| WORDS[dice.roll(WORDS.len() as u64) as usize]).collect();
        let _ = (Hosts::parse(&text), Nsswitch::parse(&text), Policy::parse(&text));
        let _ =
            (Services::parse(&text), text.parse::<HostName>(), parse_literal(&text, &interfaces));
        let conf = ResolvConf::parse(&text, &Environment::default(), &interfaces);
        assert!((1..=3).contains(&conf.servers.len()));
    }
}
