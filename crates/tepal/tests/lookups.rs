//! Answers with their source and their time, in a hurry or not, and names that must not be asked
//! for.

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

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asking::{everywhere, resolver, simulated};
use common::{Echo, address};
use dns::{Say, Zone, put};
use reach::run_to_end;
use story::Story;
use tepal::layers::{HttpConnectServer, ProxyAnswer, ProxyRequest};
use tepal::names::{Family, HostAnswer, Origin, Settings};
use tepal::{
    Address, Addresses, EventLoop, HttpConnect, Listen, ProblemCause, Protocol, Socks4, Socks5,
    SocksServer, Stack, Target, Timeouts, Transport,
};

/// The answer, and whether nobody had to be asked.
fn look_up(event_loop: &EventLoop, host: &str, family: Family) -> (HostAnswer, bool) {
    let asked = event_loop.lookup_host(host, family);
    let at_once = asked.is_answered();
    let answer = event_loop.run_until_complete(asked).expect("runs").expect("is there");
    (answer, at_once)
}

#[test]
fn an_answer_tells_where_it_comes_from_and_how_long_it_holds() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/hosts", "127.0.0.7 printer.corp.test printer\n");
    let zone = Zone::new();
    put(&zone, "www.test", 300, &["127.0.0.9", "::1"]);
    let _resolver = resolver(&event_loop, &zone, Settings::default());
    let shown = |answer: &HostAnswer| -> Vec<String> {
        answer.addresses.iter().map(ToString::to_string).collect()
    };

    let (literal, at_once) = look_up(&event_loop, "127.1", Family::Unspecified);
    assert_eq!((literal.origin, at_once), (Origin::Literal, true));
    assert_eq!(shown(&literal), ["127.0.0.1"]);
    let (hosts, at_once) = look_up(&event_loop, "printer", Family::Unspecified);
    assert_eq!((hosts.origin, at_once, hosts.expires), (Origin::Hosts, true, None));
    assert_eq!((&*hosts.canonical, shown(&hosts)), ("printer.corp.test", vec!["127.0.0.7".into()]));

    let begin = event_loop.time();
    let (asked, at_once) = look_up(&event_loop, "www.test", Family::Unspecified);
    assert_eq!((asked.origin, at_once), (Origin::Dns, false));
    // In the order of trying.
    assert_eq!(shown(&asked), ["::1", "127.0.0.9"]);
    let ttl = asked.expires.expect("a server's").since(begin);
    assert!(ttl >= Duration::from_secs(300) && ttl < Duration::from_secs(301), "{ttl:?}");
    kernel.advance(Duration::from_secs(100));
    let (cached, at_once) = look_up(&event_loop, "www.test", Family::Unspecified);
    assert_eq!((cached.origin, at_once, cached.expires), (Origin::Dns, true, asked.expires));
    kernel.advance(Duration::from_secs(201));
    let (fresh, at_once) = look_up(&event_loop, "www.test", Family::Unspecified);
    assert!(!at_once && fresh.expires > cached.expires, "its time was over");
    let (only, _) = look_up(&event_loop, "www.test", Family::V4);
    assert_eq!(shown(&only), ["127.0.0.9"]);

    let unknown = event_loop.lookup_host("nobody.test", Family::Unspecified);
    let error = event_loop.run_until_complete(unknown).expect("runs").expect_err("there is none");
    assert!(error.to_string().contains("nobody.test"), "{error}");
}

#[test]
fn an_ipv6_question_into_a_black_hole_costs_a_race_50_ms() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        put(&zone, "half.test", 60, &["127.0.0.1"]);
        zone.borrow_mut().answers.insert(("half.test".into(), dns::AAAA), Say::Nothing);
        let settings = Settings { timeout: Some(Duration::from_secs(1)), ..Settings::default() };
        let _resolver = resolver(event_loop, &zone, settings);
        let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("a port");
        for (addresses, least, most) in [(Addresses::Race, 49, 60), (Addresses::Linear, 999, 1_010)]
        {
            // The second time IPv4 comes from the cache.
            for round in ["asked", "cached"] {
                let begin = event_loop.time();
                let took = Rc::new(RefCell::new(None));
                let noted = Rc::clone(&took);
                let story = Story::new().on("established", move |transport| {
                    let now = transport.event_loop().time();
                    *noted.borrow_mut() = Some(now.since(begin).as_millis());
                    transport.close();
                });
                let target = Target::host("half.test", address(&server).port());
                let transport = event_loop.connect(story.clone(), target.addresses(addresses));
                run_to_end(event_loop, &transport);
                assert_eq!(story.events(), ["made", "established", "lost"]);
                let took = took.borrow().expect("established");
                // A busy machine may be late.
                let in_time = took < most || event_loop.driver_name() != "sim";
                assert!(took >= least && in_time, "{addresses:?} {round}: {took} ms");
            }
        }
    });
}

/// A proxy that goes nowhere: it notes where its clients want to go, and then echoes.
struct Noting(Rc<RefCell<Vec<String>>>);

impl Protocol for Noting {
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        self.0.borrow_mut().push(format!("{}:{}", request.host, request.port));
        let answer = ProxyAnswer::Accept([127, 0, 0, 1].into(), 1);
        transport.answer_proxy(layer, answer).expect("it waits");
    }
}

#[test]
fn names_behind_a_proxy_are_the_proxys_affair() {
    let (kernel, event_loop) = simulated();
    // The system's own server notes everything that it is asked.
    let zone = Zone::new();
    dns::serve_at(&event_loop, &zone, ([127, 0, 0, 1], 53).into());
    kernel.put_file("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    for host in ["server.test", "hidden.onion", "xn--bcher-kva.test"] {
        let socks5 = Socks5::new(host, 6697).expect("a target");
        let socks4 = Socks4::new(host, 6697).expect("a target");
        let http = HttpConnect::new(host, 6697).expect("a target");
        let stack = Stack::new;
        for (up, down) in [
            (stack().with(socks5), stack().with(SocksServer::new())),
            (stack().with(socks4), stack().with(SocksServer::new())),
            (stack().with(http), stack().with(HttpConnectServer::new())),
        ] {
            let wanted = Rc::new(RefCell::new(Vec::new()));
            let noted = Rc::clone(&wanted);
            let serve = move |_: &Address| Noting(Rc::clone(&noted));
            let listen = Listen::on("127.0.0.1:0").stack(down);
            let proxy = event_loop.listen(serve, listen).expect("a port");
            let story = Story::new().on("established", |transport| transport.close());
            // The proxy by a literal, as a user writes it.
            let target = Target::host("127.0.0.1", address(&proxy).port()).stack(up);
            let transport = event_loop.connect(story.clone(), target);
            run_to_end(&event_loop, &transport);
            assert_eq!(story.events(), ["made", "established", "lost"], "{host}");
            assert_eq!(*wanted.borrow(), [format!("{host}:6697")]);
        }
    }
    assert!(zone.borrow().asked.is_empty(), "{:?}", zone.borrow().asked);
    let read = kernel.calls().get("read_file").copied().unwrap_or(0);
    assert_eq!(read, 0, "not even resolv.conf was looked at");
}

#[test]
fn onion_names_are_never_asked_for() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        let _resolver = resolver(event_loop, &zone, Settings::default());
        for name in ["hidden.onion", "HIDDEN.Onion.", "deep.hidden.onion"] {
            let story = Story::new();
            let transport = event_loop.connect(story.clone(), Target::host(name, 80));
            run_to_end(event_loop, &transport);
            assert_eq!(story.events(), ["made", "error_dns", "lost"], "{name}");
            let problem = transport.problem().expect("told");
            assert!(matches!(problem.cause, Some(ProblemCause::Resolve(_))), "{problem}");
            let records = event_loop.lookup_records(name, tepal::names::RecordType::TXT);
            event_loop.run_until_complete(records).expect("runs").expect_err("never");
        }
        assert!(zone.borrow().asked.is_empty());
    });
}

#[test]
fn what_resolv_conf_may_look_like_ends_in_time_and_tells() {
    let zone = Zone::new();
    put(&zone, "a.b.c.d.test", 60, &["127.0.0.9"]);
    put(&zone, "www.deep.corp.test", 60, &["127.0.0.8"]);
    for (conf, host, expected) in [
        // No server is named: the one on this machine (resolv.conf(5)).
        ("", "a.b.c.d.test", Ok("127.0.0.9")),
        ("search corp.test\n", "a.b.c.d.test", Ok("127.0.0.9")),
        // More dots than `ndots`, fewer than them, and none.
        (
            "nameserver 127.0.0.1\nsearch x.test y.test\noptions ndots:15\n",
            "a.b.c.d.test",
            Ok("127.0.0.9"),
        ),
        ("nameserver 127.0.0.1\nsearch corp.test\n", "www.deep", Ok("127.0.0.8")),
        ("nameserver 127.0.0.1\nsearch deep.corp.test\n", "www", Ok("127.0.0.8")),
        ("nameserver 127.0.0.1\nsearch corp.test\n", "www.deep.", Err("www.deep.")),
        // Servers that are nowhere, before one that is.
        (
            "nameserver 192.0.2.1\nnameserver 198.51.100.1\nnameserver 127.0.0.1\n",
            "a.b.c.d.test",
            Ok("127.0.0.9"),
        ),
        ("nameserver 192.0.2.1\nnameserver 198.51.100.1\n", "a.b.c.d.test", Err("192.0.2.1:53")),
        // Only IPv6, and nonsense.
        ("nameserver ::1\n", "a.b.c.d.test", Ok("127.0.0.9")),
        (
            "nameserver fe80::1%nowhere\nnameserver rubbish\noptions ndots:x timeout:-1\nnameserver 127.0.0.1\n",
            "a.b.c.d.test",
            Ok("127.0.0.9"),
        ),
    ] {
        let (kernel, event_loop) = simulated();
        for address in ["127.0.0.1:53", "[::1]:53"] {
            dns::serve_at(&event_loop, &zone, address.parse().expect("an address"));
        }
        kernel.set_route("198.51.100.1".parse().expect("one"), tepal_sim::Route::Blackhole);
        kernel.put_file("/etc/resolv.conf", conf);
        let begin = event_loop.time();
        let timeouts = Timeouts { dns: Some(Duration::from_secs(12)), ..Timeouts::default() };
        let story = Story::new();
        let target = Target::host(host, 9).timeouts(timeouts);
        let transport = event_loop.connect(story.clone(), target);
        run_to_end(&event_loop, &transport);
        let took = event_loop.time().since(begin);
        assert!(took <= Duration::from_millis(12_020), "{conf:?}: {took:?}");
        let text = transport.problem().expect("nobody listens").to_string();
        match expected {
            Ok(address) => assert!(text.contains(address), "{conf:?}: {text}"),
            Err(part) => {
                assert!(text.starts_with("cannot find") && text.contains(part), "{conf:?}: {text}");
            }
        }
    }
}
