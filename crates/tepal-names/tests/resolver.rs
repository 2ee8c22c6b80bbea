//! What the resolver does with names, servers, time and memory.

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{Asked, PTR, Reaction, World, address_record, alias, record, soa, wire_name};
use tepal_names::config::{Hosts, Nsswitch};
use tepal_names::error::{LookupErrorKind, ServerOutcome};
use tepal_names::resolver::{Origin, Settings, Started};
use tepal_names::{Family, RecordType};

fn good(asked: &Asked) -> Vec<Reaction> {
    vec![Reaction::Say(1, asked.good().bytes())]
}

fn no_name(asked: &Asked) -> Vec<Reaction> {
    vec![Reaction::Say(1, asked.reply().code(3).authority(soa("", 60, 60)).bytes())]
}

const ONE: &str = "nameserver 192.0.2.53";

#[test]
fn the_search_list_is_walked_as_glibc_walks_it() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("search a.test b.test", "host", &["host.a.test", "host.b.test", "host"]),
        ("search a.test b.test", "host.x", &["host.x", "host.x.a.test", "host.x.b.test"]),
        ("search a.test", "host.", &["host"]),
        ("search a.test\noptions ndots:2", "host.x", &["host.x.a.test", "host.x"]),
        ("search a.test\noptions ndots:0", "host", &["host", "host.a.test"]),
        ("search a.test\noptions no-tld-query", "host", &["host.a.test"]),
        ("search .", "host", &["host"]),
        ("", "host", &["host"]),
    ];
    for (conf, host, names) in cases {
        let mut world = World::new(&format!("{ONE}\n{conf}"), no_name);
        let error = world.lookup(host, Family::V4).unwrap_err();
        assert_eq!(error.kind, LookupErrorKind::NotFound);
        assert_eq!(world.names(), *names, "{conf} {host}");
    }
}

#[test]
fn the_search_stops_at_the_first_domain_that_knows_the_name() {
    let mut world = World::new("nameserver 192.0.2.53\nsearch a.test b.test c.test", |asked| {
        match asked.name.as_str() {
            "host.b.test" => good(asked),
            "host.a.test" | "other.b.test" | "other.x.b.test" => {
                vec![Reaction::Say(1, asked.reply().bytes())]
            }
            _ => no_name(asked),
        }
    });
    let answer = world.lookup("host", Family::V4).unwrap().into_host().unwrap();
    assert_eq!(&*answer.canonical, "host.b.test");
    assert_eq!(world.names(), ["host.a.test", "host.b.test"]);
    // A name that exists somewhere without addresses is "no data", not "not found"; but what was said
    // of the name as it was written counts more, where that was tried first.
    for (host, kind) in [
        ("other", LookupErrorKind::NoData),
        ("other.x", LookupErrorKind::NotFound),
        ("nothing", LookupErrorKind::NotFound),
    ] {
        assert_eq!(world.lookup(host, Family::V6).unwrap_err().kind, kind, "{host}");
    }
}

#[test]
fn dead_servers_are_not_asked_again_for_each_search_domain() {
    let mut world =
        World::new("nameserver 192.0.2.53\nsearch a.test b.test\noptions timeout:1", |_| vec![]);
    let error = world.lookup("host", Family::V4).unwrap_err();
    assert_eq!(error.kind, LookupErrorKind::ServersFailed);
    assert_eq!(world.names(), ["host.a.test"]);
}

#[test]
fn answers_are_kept_for_their_ttl_and_shared() {
    let mut world = World::new(ONE, good);
    world.addresses("host.test", Family::V4);
    world.now = world.now + Duration::from_secs(299);
    assert_eq!(world.addresses("HOST.test.", Family::V4), ["192.0.2.80"]);
    assert_eq!(world.asked.len(), 1);
    world.now = world.now + Duration::from_secs(1);
    world.addresses("host.test", Family::V4);
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn no_ttl_outlives_a_day_and_negative_answers_live_by_their_soa() {
    let mut world = World::new(ONE, |asked| match asked.name.as_str() {
        "long.test" => {
            let record = address_record("long.test", i32::MAX as u32, [1, 1, 1, 1].into());
            vec![Reaction::Say(1, asked.reply().answer(record).bytes())]
        }
        "huge.test" => {
            let record = address_record("huge.test", u32::MAX, [1, 1, 1, 1].into());
            vec![Reaction::Say(1, asked.reply().answer(record).bytes())]
        }
        "none.test" => vec![Reaction::Say(1, asked.reply().code(3).bytes())],
        "stranger.test" => {
            vec![Reaction::Say(1, asked.reply().code(3).authority(soa("other", 60, 60)).bytes())]
        }
        "never.test" => {
            let soa = soa("test", 1 << 30, 1 << 30);
            vec![Reaction::Say(1, asked.reply().code(3).authority(soa).bytes())]
        }
        _ => {
            let soa = soa("test", 100, 30);
            vec![Reaction::Say(1, asked.reply().code(3).authority(soa).bytes())]
        }
    });
    let count = |world: &mut World<'_>, name: &str, later: u64| {
        let _first = world.lookup(name, Family::V4);
        let before = world.asked.len();
        world.now = world.now + Duration::from_secs(later);
        let _second = world.lookup(name, Family::V4);
        world.asked.len() - before
    };
    assert_eq!(count(&mut world, "long.test", 86_399), 0);
    world.resolver.clear_cache();
    assert_eq!(count(&mut world, "long.test", 86_400), 1);
    assert_eq!(count(&mut world, "huge.test", 0), 1, "2^31 and more count as 0");
    assert_eq!(count(&mut world, "missing.test", 29), 0);
    assert_eq!(count(&mut world, "missing2.test", 30), 1, "the lesser of TTL and minimum");
    assert_eq!(count(&mut world, "never.test", 10_799), 0);
    world.resolver.clear_cache();
    assert_eq!(count(&mut world, "never.test", 10_800), 1, "three hours at most");
    assert_eq!(count(&mut world, "none.test", 0), 1, "without an SOA nothing is kept");
    assert_eq!(count(&mut world, "stranger.test", 0), 1, "nor with a stranger's");
}

#[test]
fn only_what_was_asked_is_kept() {
    let mut world = World::new(ONE, |asked| {
        if asked.name.starts_with("victim") {
            return good(asked);
        }
        let evil = IpAddr::from([6, 6, 6, 6]);
        let reply = if asked.name == "alias.test" {
            asked.reply().answer(alias("alias.test", "victim.test")).answer(address_record(
                "victim.test",
                300,
                evil,
            ))
        } else {
            asked.good()
        };
        let reply = reply
            .answer(address_record("victim2.test", 300, evil))
            .authority(address_record("victim3.test", 300, evil))
            .additional(address_record("victim4.test", 300, evil));
        vec![Reaction::Say(1, reply.bytes())]
    });
    world.addresses("host.test", Family::V4);
    assert_eq!(world.addresses("alias.test", Family::V4), ["6.6.6.6"]);
    assert_eq!(world.resolver.cached_count(), 2);
    for name in ["victim.test", "victim2.test", "victim3.test", "victim4.test"] {
        assert_eq!(world.addresses(name, Family::V4), ["192.0.2.80"], "{name}");
    }
}

#[test]
fn the_cache_has_an_end() {
    let settings = Settings { cache_size: 16, ..Settings::default() };
    let mut world = World::with(settings, ONE, good);
    for index in 0..100 {
        world.addresses(&format!("host{index}.test"), Family::V4);
        assert!(world.resolver.cached_count() <= 16);
    }
}

#[test]
fn equal_lookups_share_one_query_and_each_has_its_answer() {
    let mut world = World::new(ONE, good);
    for _ in 0..100 {
        let deadline = world.now + Duration::from_secs(5);
        let started = world.resolver.lookup_host("host.test", Family::V4, deadline, world.now);
        assert!(matches!(started, Started::Pending(_)));
    }
    let all = world.run();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|each| each.result.is_ok()));
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn a_joined_lookup_keeps_its_own_deadline() {
    let mut world = World::new(ONE, |asked| vec![Reaction::Say(3_000, asked.good().bytes())]);
    let start = world.now;
    for seconds in [1, 5] {
        let deadline = start + Duration::from_secs(seconds);
        world.resolver.lookup_host("host.test", Family::V4, deadline, start);
    }
    let all = world.run();
    assert_eq!(all[0].at.since(start), Duration::from_secs(1));
    assert_eq!(all[0].result.as_ref().unwrap_err().kind, LookupErrorKind::DeadlinePassed);
    assert_eq!(all[1].at.since(start), Duration::from_secs(3));
    assert!(all[1].result.is_ok());
}

#[test]
fn a_cancelled_lookup_closes_its_sockets_and_is_never_heard_of_again() {
    let mut world = World::new(ONE, |_| vec![]);
    let deadline = world.now + Duration::from_secs(5);
    let Started::Pending(id) =
        world.resolver.lookup_host("host.test", Family::Unspecified, deadline, world.now)
    else {
        panic!("it needs packets");
    };
    world.transmit();
    assert_eq!(world.open_sockets(), 2);
    world.resolver.cancel(id, world.now);
    assert!(world.run().is_empty());
    world.resolver.cancel(id, world.now);
}

#[test]
fn a_cancelled_lookup_gives_its_place_to_one_that_waits() {
    let settings = Settings { max_sockets: 1, ..Settings::default() };
    let mut world =
        World::with(
            settings,
            ONE,
            |asked| {
                if asked.name == "slow.test" { vec![] } else { good(asked) }
            },
        );
    let deadline = world.now + Duration::from_secs(5);
    let Started::Pending(slow) =
        world.resolver.lookup_host("slow.test", Family::V4, deadline, world.now)
    else {
        panic!("it needs packets");
    };
    world.resolver.lookup_host("host.test", Family::V4, deadline, world.now);
    world.transmit();
    assert_eq!(world.names(), ["slow.test"]);
    world.resolver.cancel(slow, world.now);
    let start = world.now;
    assert!(world.only().is_ok());
    assert_eq!(world.now.since(start), Duration::from_millis(1));
}

#[test]
fn timeouts_follow_resolv_conf_and_servers_take_turns() {
    let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions timeout:2 attempts:2";
    let mut world = World::new(conf, |_| vec![]);
    let start = world.now;
    let error = world.lookup("host.test", Family::V4).unwrap_err();
    let turns: Vec<_> = world
        .asked
        .iter()
        .map(|asked| (asked.server.ip().to_string(), asked.at.since(start).as_secs()))
        .collect();
    // glibc: the time-out for the first server, then doubled per server over their number.
    let expected = [("192.0.2.1", 0), ("192.0.2.2", 2), ("192.0.2.1", 4), ("192.0.2.2", 6)];
    assert_eq!(turns, expected.map(|(server, at)| (server.to_owned(), at)));
    assert_eq!(world.now.since(start).as_secs(), 8);
    assert_eq!(error.servers.len(), 4);
    assert!(error.kind.is_temporary());
}

#[test]
fn a_short_deadline_is_shared_among_the_servers() {
    let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3";
    let mut world = World::new(conf, |asked| match asked.server.ip().to_string().as_str() {
        "192.0.2.3" => good(asked),
        _ => vec![],
    });
    let start = world.now;
    let deadline = start + Duration::from_secs(3);
    world.resolver.lookup_host("host.test", Family::V4, deadline, start);
    assert!(world.only().is_ok());
    assert_eq!(world.now.since(start).as_millis(), 2001);
}

#[test]
fn a_slow_server_is_still_heard_while_the_next_is_asked() {
    let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions timeout:1";
    let mut world = World::new(conf, |asked| match asked.server.ip().to_string().as_str() {
        "192.0.2.1" => vec![Reaction::Say(1_200, asked.good().bytes())],
        _ => vec![],
    });
    let start = world.now;
    assert!(world.lookup("host.test", Family::V4).is_ok());
    assert_eq!(world.now.since(start).as_millis(), 1_200);
}

#[test]
fn the_next_server_answers_for_one_that_fails_and_rotation_begins_elsewhere() {
    let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2";
    let fails_first = |asked: &Asked| match asked.server.ip().to_string().as_str() {
        "192.0.2.1" => vec![Reaction::Say(1, asked.reply().code(2).bytes())],
        _ => good(asked),
    };
    let mut world = World::new(conf, fails_first);
    assert!(world.lookup("host.test", Family::V4).is_ok());
    assert_eq!(world.asked.len(), 2);

    let mut world = World::new(&format!("{conf}\noptions rotate"), good);
    for index in 0..4 {
        world.addresses(&format!("host{index}.test"), Family::V4);
    }
    let servers: Vec<_> = world.asked.iter().map(|asked| asked.server.ip().to_string()).collect();
    assert_eq!(servers, ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]);
}

#[test]
fn names_that_need_no_server_reach_none() {
    let mut world = World::new(ONE, |asked| panic!("asked for {}", asked.name));
    for (host, address, origin) in [
        ("127.1", "127.0.0.1", Origin::Literal),
        ("0x7f.1", "127.0.0.1", Origin::Literal),
        ("fe80::1%3", "fe80::1%3", Origin::Literal),
        ("localhost", "::1", Origin::Localhost),
        ("LOCALHOST.", "::1", Origin::Localhost),
        ("a.b.localhost", "::1", Origin::Localhost),
    ] {
        let answer = world.lookup(host, Family::Unspecified).unwrap().into_host().unwrap();
        assert_eq!(answer.addresses[0].to_string(), address, "{host}");
        assert_eq!(answer.origin, origin, "{host}");
    }
    for (host, kind) in [
        ("x.onion", LookupErrorKind::NeverResolved),
        ("ONION", LookupErrorKind::NeverResolved),
        ("fe80::1%nope", LookupErrorKind::UnknownZone),
    ] {
        assert_eq!(world.lookup(host, Family::Unspecified).unwrap_err().kind, kind, "{host}");
    }
    let started = world.resolver.lookup_records("a.onion", RecordType::TXT, world.now, world.now);
    assert!(matches!(started, Started::Finished(Err(_))));
    let other = world.lookup("127.0.0.1", Family::V6).unwrap_err();
    assert_eq!(other.kind, LookupErrorKind::OtherFamily);
    for host in ["", "a..b", &"x".repeat(64), "a b"] {
        let error = world.lookup(host, Family::V4).unwrap_err();
        assert!(matches!(error.kind, LookupErrorKind::InvalidName(_)), "{host}");
    }
}

#[test]
fn hosts_come_first_and_are_read_anew_when_they_change() {
    let mut world = World::new(ONE, good);
    world.resolver.set_hosts(Hosts::parse("10.0.0.1 host.test alias\n10.0.0.2 host.test\n"));
    assert_eq!(world.addresses("Host.Test", Family::Unspecified), ["10.0.0.1", "10.0.0.2"]);
    let answer = world.lookup("alias", Family::V4).unwrap().into_host().unwrap();
    assert_eq!((&*answer.canonical, answer.origin), ("host.test", Origin::Hosts));
    world.resolver.set_hosts(Hosts::parse(""));
    assert_eq!(world.addresses("host.test", Family::V4), ["192.0.2.80"]);

    let settings = Settings { hosts: false, ..Settings::default() };
    let mut world = World::with(settings, ONE, good);
    world.resolver.set_hosts(Hosts::parse("10.0.0.1 host.test\n"));
    assert_eq!(world.addresses("host.test", Family::V4), ["192.0.2.80"]);
}

#[test]
fn nsswitch_decides_and_a_name_of_another_module_fails_with_a_hint() {
    let mut world = World::new(ONE, no_name);
    let mut fail = |line: &str, host: &str| {
        world.resolver.set_nsswitch(Nsswitch::parse(line));
        let before = world.asked.len();
        let error = world.lookup(host, Family::V4).unwrap_err();
        let hint = error.to_string().contains("SystemResolver");
        (error.kind, hint, world.asked.len() > before)
    };
    use LookupErrorKind::{NotFound, OtherModule};
    let mdns = "hosts: files mdns4_minimal [NOTFOUND=return] dns";
    assert_eq!(fail(mdns, "printer.local"), (OtherModule, true, false));
    assert_eq!(fail(mdns, "host1.test"), (NotFound, true, true));
    assert_eq!(fail("hosts: files ldap", "host2.test"), (OtherModule, true, false));
    assert_eq!(fail("hosts: files", "host3.test"), (NotFound, false, false));
    assert_eq!(fail("hosts: files dns", "host4.test"), (NotFound, false, true));
    let resolved = "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns";
    assert_eq!(fail(resolved, "host5.test"), (NotFound, true, true));
    assert_eq!(fail("hosts: files [NOTFOUND=return] dns", "host6.test"), (NotFound, false, false));
}

#[test]
fn dns_before_files_and_back_on_failure() {
    let mut world = World::new(ONE, |asked| match asked.name.as_str() {
        "both.test" => good(asked),
        "broken.test" => vec![Reaction::Say(1, asked.reply().code(2).bytes())],
        _ => no_name(asked),
    });
    world.resolver.set_nsswitch(Nsswitch::parse("hosts: dns files"));
    world.resolver.set_hosts(Hosts::parse("10.0.0.1 both.test broken.test only.test\n"));
    assert_eq!(world.addresses("both.test", Family::V4), ["192.0.2.80"]);
    assert_eq!(world.addresses("broken.test", Family::V4), ["10.0.0.1"]);
    assert_eq!(world.addresses("only.test", Family::V4), ["10.0.0.1"]);
    world.resolver.set_nsswitch(Nsswitch::parse("hosts: dns [TRYAGAIN=return] files"));
    let error = world.lookup("broken.test", Family::V4).unwrap_err();
    assert_eq!(error.kind, LookupErrorKind::ServersFailed);
    assert_eq!(error.servers[0].outcome, ServerOutcome::Code(2));
}

#[test]
fn the_machines_own_name_is_known_where_nsswitch_says_so() {
    let mut world = World::new(ONE, no_name);
    world.resolver.set_hostname(Some("MyBox"), vec![]);
    assert!(world.lookup("mybox", Family::V4).is_err());
    world.resolver.set_nsswitch(Nsswitch::parse("hosts: files myhostname dns"));
    assert_eq!(world.addresses("mybox", Family::Unspecified), ["127.0.0.2", "::1"]);
    let own = IpAddr::from([192, 0, 2, 7]);
    world.resolver.set_hostname(Some("mybox"), vec![own.into()]);
    assert_eq!(world.addresses("mybox", Family::Unspecified), ["192.0.2.7"]);
    let Started::Finished(names) = world.resolver.lookup_address(own, world.now, world.now) else {
        panic!("no packet is needed");
    };
    assert_eq!(&*names.unwrap().into_names().unwrap().names[0], "mybox");
}

#[test]
fn addresses_have_names_that_could_be_hosts() {
    let mut world = World::new(ONE, |asked| {
        assert_eq!(asked.record_type, PTR);
        let evil = [&[7][..], b"$(evil)", &[0]].concat();
        let reply = match asked.name.as_str() {
            "80.2.0.192.in-addr.arpa" => asked
                .reply()
                .answer(record(&asked.name, PTR, 9, &evil))
                .answer(record(&asked.name, PTR, 9, &wire_name("Host.test"))),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa" => {
                asked.reply().answer(record(&asked.name, PTR, 9, &wire_name("six.test")))
            }
            _ => asked.reply().answer(record(&asked.name, PTR, 9, &evil)),
        };
        vec![Reaction::Say(1, reply.bytes())]
    });
    let mut names = |address: &str| {
        let deadline = world.now + Duration::from_secs(9);
        let address = address.parse().unwrap();
        match world.resolver.lookup_address(address, deadline, world.now) {
            Started::Finished(result) => result,
            Started::Pending(_) => world.only(),
        }
        .map(|answer| answer.into_names().unwrap().names.join(" "))
    };
    assert_eq!(names("192.0.2.80").unwrap(), "host.test");
    assert_eq!(names("2001:db8::1").unwrap(), "six.test");
    assert!(names("192.0.2.66").is_err());
    assert_eq!(names("127.0.0.1").unwrap(), "localhost");
}

#[test]
fn records_of_every_kind_are_shown_as_a_zone_file_has_them() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("A", &[192, 0, 2, 1], "192.0.2.1"),
        ("AAAA", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "2001:db8::1"),
        ("NS", b"\x02ns\x04test\x00", "ns.test."),
        ("CNAME", b"\x01c\x04test\x00", "c.test."),
        ("MX", b"\x00\x0a\x02mx\x04test\x00", "10 mx.test."),
        ("TXT", b"\x05hello\x04a\"b\\\x01\xff", r#""hello" "a\"b\\" "\255""#),
        ("SRV", b"\x00\x01\x00\x02\x14\x66\x01s\x04test\x00", "1 2 5222 s.test."),
        ("SOA", b"\x01n\x00\x01m\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\xff\xff\xff\xff", "n. m. 1 2 3 4 4294967295"),
        ("PTR", b"\x01p\x00", "p."),
        ("HTTPS", b"\x00\x01\x00\x00\x01\x00\x06\x02h2\x02h3\x00\x03\x00\x02\x20\xfb\x00\x04\x00\x04\x7f\x00\x00\x01", r#"1 . alpn="h2,h3" port=8443 ipv4hint=127.0.0.1"#),
        ("NAPTR", b"\x00\x64\x00\x0a\x01s\x07SIP+D2U\x00\x04_sip\x04_udp\x00", r#"100 10 "s" "SIP+D2U" "" _sip._udp."#),
        ("SSHFP", &[4, 2, 0xab, 0xcd], "4 2 ABCD"),
        ("TLSA", &[3, 1, 1, 0xab, 0xcd], "3 1 1 ABCD"),
        ("CAA", b"\x80\x05issueca.example; a=\"1\"", r#"128 issue "ca.example; a=\"1\"""#),
        ("CAA", b"\x00\x05issue", r#"0 issue """#),
        ("TYPE65280", &[1, 0xab], "\\# 2 01AB"),
    ];
    for (name, data, shown) in cases {
        let record_type: RecordType = name.parse().unwrap();
        let mut world = World::new(ONE, |asked| {
            let reply = asked.reply().answer(record(&asked.name, record_type.0, 60, data));
            vec![Reaction::Say(1, reply.bytes())]
        });
        let deadline = world.now + Duration::from_secs(9);
        world.resolver.lookup_records("host.test", record_type, deadline, world.now);
        let answer = world.only().unwrap().into_records().unwrap();
        let line = answer.records[0].to_string();
        assert_eq!(line, format!("host.test. 60 IN {name} {shown}"));
    }
}

#[test]
fn records_that_are_broken_are_no_answer() {
    let cases: &[(&str, &[u8])] = &[
        ("A", &[192, 0, 2]),
        ("MX", b"\x00\x0a\x02mx"),
        ("CAA", b"\x00"),
        ("CAA", b"\x00\x00value"),
        ("CAA", b"\x00\x09issue"),
        ("CAA", b"\x00\x05is.ueca"),
        ("TLSA", &[3, 1]),
        ("SSHFP", &[4]),
        ("NAPTR", b"\x00\x64\x00\x0a\x01s\x07SIP"),
        ("NAPTR", b"\x00\x64\x00\x0a\x01s\x00\x00\x00more"),
        ("SVCB", b"\x00\x01\x00\x00\x03\x00\x02\x20\xfb\x00\x01\x00\x00"),
    ];
    for (name, data) in cases {
        let record_type: RecordType = name.parse().unwrap();
        let mut world = World::new(ONE, |asked| {
            let reply = asked.reply().answer(record(&asked.name, record_type.0, 60, data));
            vec![Reaction::Say(1, reply.bytes())]
        });
        let deadline = world.now + Duration::from_secs(2);
        world.resolver.lookup_records("host.test", record_type, deadline, world.now);
        let error = world.only().expect_err(name);
        assert_eq!(error.kind, LookupErrorKind::DeadlinePassed, "{name} {data:?}");
    }
}

#[test]
fn trust_ad_asks_for_and_believes_the_servers_vouching() {
    for (conf, trusted) in [(ONE.to_owned(), false), (format!("{ONE}\noptions trust-ad"), true)] {
        let mut world =
            World::new(&conf, |asked| vec![Reaction::Say(1, asked.good().flag(0x20).bytes())]);
        let deadline = world.now + Duration::from_secs(9);
        world.resolver.lookup_records("host.test", RecordType::A, deadline, world.now);
        assert_eq!(world.only().unwrap().into_records().unwrap().authenticated, trusted);
        assert_eq!(world.asked[0].authentic_data, trusted);
    }
}

#[test]
fn other_servers_mean_another_cache() {
    let mut world = World::new(ONE, good);
    world.addresses("host.test", Family::V4);
    let conf =
        |text: &str| tepal_names::config::ResolvConf::parse(text, &<_>::default(), &<_>::default());
    world.resolver.set_resolv_conf(conf("nameserver 192.0.2.53\noptions rotate"));
    world.addresses("host.test", Family::V4);
    assert_eq!(world.asked.len(), 1);
    world.resolver.set_resolv_conf(conf("nameserver 192.0.2.99"));
    world.addresses("host.test", Family::V4);
    assert_eq!(world.asked[1].server.to_string(), "192.0.2.99:53");
}
