//! Names resolved by the loop: without a thread, from the system's files and from servers.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asking::{addresses, ask, everywhere, query, resolver, simulated};
use common::on_every_driver;
use dns::{Say, Zone, put};
use tepal::names::{
    AddrInfo, AddrInfoError, AddrInfoQuery, NameInfoFlags, RecordType, Settings, SocketType,
};
use tepal::{EventLoop, Loop, Reply, Resolve};
use tepal_sim::{Config, SimKernel};

fn is_answered<T>(future: &tepal::Resolving<T>) -> bool {
    format!("{future:?}").contains("answered: true")
}

/// Refuses to be asked.
struct Untouchable;

impl Resolve for Untouchable {
    fn getaddrinfo(&self, _: &Loop, query: &AddrInfoQuery<'_>, _: Reply<Vec<AddrInfo>>) {
        panic!("asked for {query:?}");
    }
}

#[test]
fn s16_literals_never_meet_a_resolver() {
    everywhere(|event_loop| {
        let untouchable = event_loop.foreign_resolver(Untouchable);
        event_loop.set_resolver(Some(&untouchable));
        for (literal, address) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("127.1", "127.0.0.1:80"),
            ("0x7f.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("2001:db8::7", "[2001:db8::7]:80"),
            ("fe80::1%1", "[fe80::1%1]:80"),
            ("fe80::1%lo", "[fe80::1%1]:80"),
        ] {
            let asked = event_loop.getaddrinfo(&query(literal, "80"));
            assert!(is_answered(&asked), "{literal} is answered by the call itself");
            let infos = event_loop.run_until_complete(asked).expect("runs").expect(literal);
            assert_eq!(addresses(&infos), [address], "{literal}");
        }
        let unknown = ask(event_loop, "fe80::1%nosuch0", "80").expect_err("no such interface");
        assert_eq!(unknown.code, AddrInfoError::NoName);
    });
}

#[test]
fn s14_names_come_from_a_server_and_then_from_the_cache() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        put(&zone, "both.test", 60, &["192.0.2.7", "127.0.0.9", "::1"]);
        let _resolver = resolver(event_loop, &zone, Settings::default());
        let found = ask(event_loop, "both.test", "https").expect("is known");
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, ["127.0.0.9:443", "192.0.2.7:443", "[::1]:443"]);
        assert_eq!(zone.borrow().asked.len(), 2, "one question for each family");

        let again = event_loop.getaddrinfo(&query("BOTH.test.", "443"));
        assert!(is_answered(&again), "a cached answer is there at once");
        let again = event_loop.run_until_complete(again).expect("runs").expect("is known");
        assert_eq!(addresses(&again), found);
        assert_eq!(zone.borrow().asked.len(), 2);

        let unknown = ask(event_loop, "nobody.test", "80").expect_err("the server says so");
        assert_eq!(unknown.code, AddrInfoError::NoName);
        let text = unknown.to_string();
        assert!(text.contains("nobody.test") && text.contains("does not exist"), "{text}");
    });
}

#[test]
fn addresses_without_a_way_come_last() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        // Documentation addresses: nothing is there, and on a simulated kernel no way leads there.
        put(&zone, "mixed.test", 60, &["127.0.0.9", "::1"]);
        let _resolver = resolver(event_loop, &zone, Settings::default());
        let found = ask(event_loop, "mixed.test", "1").expect("is known");
        assert_eq!(found, ["[::1]:1", "127.0.0.9:1"], "RFC 6724, rule 6");
    });
    let (_kernel, event_loop) = simulated();
    let zone = Zone::new();
    put(&zone, "mixed.test", 60, &["2001:db8::1", "127.0.0.9"]);
    let _resolver = resolver(&event_loop, &zone, Settings::default());
    let found = ask(&event_loop, "mixed.test", "1").expect("is known");
    assert_eq!(found, ["127.0.0.9:1", "[2001:db8::1]:1"], "rule 1: no way to the first");
}

#[test]
fn an_answer_that_is_cut_off_is_fetched_over_tcp() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        let many: Vec<_> = (0..200).map(|n| dns::a([192, 0, 2, n])).collect();
        let key = |record_type| ("big.test".to_owned(), record_type);
        zone.borrow_mut().answers.insert(key(dns::A), Say::Truncated(60, many));
        zone.borrow_mut().answers.insert(key(dns::AAAA), Say::Records(60, vec![]));
        let _resolver = resolver(event_loop, &zone, Settings::default());
        assert_eq!(ask(event_loop, "big.test", "80").expect("comes by TCP").len(), 200);
        assert!(zone.borrow().asked.contains(&("big.test".to_owned(), dns::A, true)));
    });
}

#[test]
fn a_server_that_hangs_up_over_tcp_is_told_in_the_error() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        zone.borrow_mut().hangs_up = true;
        let settings = Settings { attempts: Some(1), ..Settings::default() };
        let _resolver = resolver(event_loop, &zone, settings);
        let key = |record_type| ("gone.test".to_owned(), record_type);
        zone.borrow_mut().answers.insert(key(dns::A), Say::Truncated(60, vec![]));
        zone.borrow_mut().answers.insert(key(dns::AAAA), Say::Truncated(60, vec![]));
        let error = ask(event_loop, "gone.test", "80").expect_err("no answer");
        assert_eq!(error.code, AddrInfoError::Again);
        assert!(error.is_temporary());
        assert!(error.to_string().contains("(tcp) closed the connection early"), "{error}");
    });
}

#[test]
fn a_silent_server_costs_the_deadline_and_no_more() {
    let (_kernel, event_loop) = simulated();
    let zone = Zone::new();
    zone.borrow_mut().otherwise = Some(Say::Nothing);
    let _resolver = resolver(&event_loop, &zone, Settings::default());
    let begin = event_loop.time();
    let asked = AddrInfoQuery { timeout: Some(Duration::from_secs(3)), ..query("x.test", "80") };
    let asked = event_loop.getaddrinfo(&asked);
    let error = event_loop.run_until_complete(asked).expect("runs").expect_err("nothing came");
    assert_eq!(error.code, AddrInfoError::Again);
    assert_eq!(event_loop.time().since(begin), Duration::from_secs(3));
    assert!(error.to_string().contains("said nothing"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    everywhere(|event_loop| {
        let closed = event_loop.datagram(common::Nothing, Some(local()), None).expect("a socket");
        let server = closed.local_address().expect("bound").as_ip().expect("IP");
        closed.abort();
        let settings =
            Settings { servers: Some(vec![server]), attempts: Some(1), ..Settings::default() };
        let resolver = event_loop.resolver(settings);
        event_loop.set_resolver(Some(&resolver));
        event_loop.run_until_complete(event_loop.sleep(Duration::from_millis(1))).expect("runs");
        let error = ask(event_loop, "x.test", "80").expect_err("nobody is there");
        assert!(error.to_string().contains("refused"), "{error}");
    });
}

fn local() -> tepal::Address {
    SocketAddr::from(([127, 0, 0, 1], 0)).into()
}

#[test]
fn addresses_have_names_and_ports_have_services() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/hosts", "127.0.0.3 printer.corp.test printer\n");
    kernel.put_file("/etc/services", "ipp 631/tcp\n");
    let zone = Zone::new();
    let name = "7.2.0.192.in-addr.arpa".to_owned();
    let names = Say::Records(60, vec![dns::wire("seven.test")]);
    zone.borrow_mut().answers.insert((name, dns::PTR), names);
    let _resolver = resolver(&event_loop, &zone, Settings::default());
    let ask = |address: &str, flags| {
        let address = address.parse().expect("an address");
        let asked = event_loop.getnameinfo(address, flags);
        event_loop.run_until_complete(asked).expect("runs")
    };
    let none = NameInfoFlags(0);
    let info = ask("127.0.0.3:631", none).expect("is in the hosts file");
    assert_eq!((&*info.host, &*info.service), ("printer.corp.test", "ipp"));
    let info = ask("192.0.2.7:80", none).expect("the server knows");
    assert_eq!((&*info.host, &*info.service), ("seven.test", "80"));
    let info = ask("192.0.2.8:80", none).expect("digits will do");
    assert_eq!(&*info.host, "192.0.2.8");
    let error = ask("192.0.2.8:80", NameInfoFlags::NAMEREQD).expect_err("there is no name");
    assert_eq!(error.code, AddrInfoError::NoName);
    let info = ask("[fe80::1%1]:80", NameInfoFlags::NUMERICHOST).expect("digits");
    assert_eq!(&*info.host, "fe80::1%lo");
}

#[test]
fn records_of_any_type_can_be_asked_for() {
    everywhere(|event_loop| {
        let zone = Zone::new();
        let text = Say::Records(60, vec![b"\x05hello".to_vec()]);
        zone.borrow_mut().answers.insert(("t.test".to_owned(), dns::TXT), text);
        let _resolver = resolver(event_loop, &zone, Settings::default());
        let asked = event_loop.lookup_records("t.test", RecordType::TXT);
        let answer = event_loop.run_until_complete(asked).expect("runs").expect("is there");
        assert_eq!(answer.records.len(), 1);
        assert!(
            format!("{:?}", answer.records[0]).contains("hello")
                || answer.records[0].to_string().contains("hello")
        );
    });
}

#[test]
fn a_question_that_is_dropped_leaves_nothing_behind() {
    let (kernel, event_loop) = simulated();
    let zone = Zone::new();
    zone.borrow_mut().otherwise = Some(Say::Nothing);
    let _resolver = resolver(&event_loop, &zone, Settings::default());
    let before = kernel.ledger().open_descriptors;
    let asked = event_loop.getaddrinfo(&query("x.test", "80"));
    assert_eq!(kernel.ledger().open_descriptors, before + 2, "a socket for each family");
    drop(asked);
    assert_eq!(kernel.ledger().open_descriptors, before);
}

#[test]
fn a_loop_that_is_closed_drops_its_questions() {
    let (kernel, event_loop) = simulated();
    let zone = Zone::new();
    zone.borrow_mut().otherwise = Some(Say::Nothing);
    let resolver = resolver(&event_loop, &zone, Settings::default());
    let asked = event_loop.getaddrinfo(&query("x.test", "80"));
    drop(event_loop);
    assert_eq!(kernel.ledger().open_descriptors, 0);
    drop((asked, resolver));
    kernel.ledger().assert_balanced();
}

#[test]
fn a_resolver_that_is_dropped_ends_its_questions() {
    let (kernel, event_loop) = simulated();
    let zone = Zone::new();
    zone.borrow_mut().otherwise = Some(Say::Nothing);
    let resolver = resolver(&event_loop, &zone, Settings::default());
    let before = kernel.ledger().open_descriptors;
    let asked = event_loop.getaddrinfo(&query("x.test", "80"));
    event_loop.set_resolver(None);
    drop(resolver);
    assert_eq!(kernel.ledger().open_descriptors, before);
    let error = event_loop.run_until_complete(asked).expect("runs").expect_err("it is gone");
    assert_eq!(error.code, AddrInfoError::Again);
}

/// Answers at once, later, or never, by the name.
struct Scripted(Rc<RefCell<Vec<String>>>);

impl Resolve for Scripted {
    fn getaddrinfo(&self, lp: &Loop, query: &AddrInfoQuery<'_>, reply: Reply<Vec<AddrInfo>>) {
        let host = query.host.unwrap_or_default().to_owned();
        self.0.borrow_mut().push(host.clone());
        let info = |address: &str| AddrInfo {
            socket_type: SocketType::STREAM,
            protocol: 6,
            canonical_name: None,
            address: address.parse().expect("an address"),
        };
        match &*host {
            "now" => reply.send(Ok(vec![info("127.0.0.1:1")])),
            "later" => {
                lp.call_later(Duration::from_millis(1), move |_| {
                    reply.send(Ok(vec![info("127.0.0.2:2")]));
                });
            }
            "empty" => reply.send(Ok(vec![])),
            _ => drop(reply),
        }
    }
}

#[test]
fn s14_another_resolver_can_take_the_place() {
    everywhere(|event_loop| {
        let asked = Rc::default();
        let scripted = event_loop.foreign_resolver(Scripted(Rc::clone(&asked)));
        event_loop.set_resolver(Some(&scripted));
        assert_eq!(ask(event_loop, "now", "1").expect("answers"), ["127.0.0.1:1"]);
        assert_eq!(ask(event_loop, "later", "1").expect("answers"), ["127.0.0.2:2"]);
        assert_eq!(ask(event_loop, "empty", "1").expect_err("none").code, AddrInfoError::NoData);
        let error = ask(event_loop, "dropped", "1").expect_err("it gave up");
        assert_eq!(error.code, AddrInfoError::Again);
        assert_eq!(*asked.borrow(), ["now", "later", "empty", "dropped"]);
        // Gone before it is answered.
        drop(event_loop.getaddrinfo(&query("later", "1")));
        event_loop.run_until_complete(event_loop.sleep(Duration::from_millis(2))).expect("runs");
        event_loop.set_resolver(None);
    });
}

#[test]
fn s15_the_system_resolver_runs_where_the_caller_says() {
    on_every_driver(|event_loop| {
        let (sender, receiver) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let worker = std::thread::spawn(move || {
            let mut count = 0;
            for job in receiver {
                job();
                count += 1;
            }
            count
        });
        let system = event_loop.system_resolver(move |job| sender.send(job).expect("it works"));
        event_loop.set_resolver(Some(&system));
        let local = ask(event_loop, "localhost", "80").expect("every system knows it");
        assert!(local.contains(&"127.0.0.1:80".to_owned()), "{local:?}");
        let error = ask(event_loop, "no such host", "80").expect_err("no name has spaces");
        assert!(matches!(error.code, AddrInfoError::NoName | AddrInfoError::Again), "{error}");
        let address = "127.0.0.1:80".parse().expect("an address");
        let digits = NameInfoFlags::NUMERICSERV;
        let names = event_loop.run_until_complete(event_loop.getnameinfo(address, digits));
        assert_eq!(&*names.expect("runs").expect("has a name").service, "80");
        event_loop.set_resolver(None);
        drop(system);
        assert_eq!(worker.join().expect("it works"), 3, "one job for each question");
    });
}

#[test]
fn s13_an_executor_that_drops_the_job_ends_the_question() {
    on_every_driver(|event_loop| {
        let system = event_loop.system_resolver(drop);
        event_loop.set_resolver(Some(&system));
        let error = ask(event_loop, "localhost", "80").expect_err("nobody did it");
        assert!(error.to_string().contains("executor"), "{error}");
        event_loop.set_resolver(None);
    });
}

// Every question gets an answer or an error by its deadline, whatever is lost on the way.
fn many_at_once(event_loop: &EventLoop, count: usize) {
    let zone = Zone::new();
    for n in 0..count {
        put(&zone, &format!("host{n}.test"), 60, &["127.0.0.1", "::1"]);
    }
    zone.borrow_mut().losses = (5, 5, 2);
    zone.borrow_mut().seed = 99;
    // The server's own socket overflows too.
    let (timeout, attempts) = (Some(Duration::from_millis(800)), Some(5));
    let settings = Settings { timeout, attempts, ..Settings::default() };
    let resolver = resolver(event_loop, &zone, settings);
    let lp: Loop = (**event_loop).clone();
    let timeout = Some(Duration::from_secs(15));
    let begin = event_loop.time();
    let asked: Vec<_> = (0..count)
        .map(|n| {
            let host = format!("host{n}.test");
            lp.spawn(lp.getaddrinfo(&AddrInfoQuery { timeout, ..query(&host, "80") }))
        })
        .collect();
    let most = Rc::new(std::cell::Cell::new(0));
    let watched = (Rc::clone(&most), resolver.clone());
    let watch = event_loop.timer(Duration::from_micros(100), move |_, timer| {
        watched.0.set(watched.0.get().max(watched.1.socket_count()));
        timer.again();
    });
    watch.start();
    let answers = event_loop.run_until_complete(async move {
        let mut answers = Vec::new();
        for task in asked {
            answers.push(task.await);
        }
        answers
    });
    let answers = answers.expect("runs");
    watch.stop();
    assert!(event_loop.time().since(begin) <= Duration::from_millis(15_100));
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answered > count * 99 / 100, "{answered} of {count}");
    assert!(most.get() <= 512, "{} sockets", most.get());
    assert_eq!(resolver.socket_count(), 0);
}

#[test]
fn five_thousand_questions_with_losses_end_in_time_with_512_sockets() {
    let config = Config { max_descriptors: 8192, ..Config::seeded(3) };
    let kernel = SimKernel::new(config);
    many_at_once(&EventLoop::with_driver(Box::new(kernel.driver())), 5000);
}

#[test]
fn the_same_on_the_real_kernel_and_without_a_thread() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    tepal::raise_descriptor_limit().expect("up to the hard limit");
    let before = threads();
    let event_loop = EventLoop::new().expect("a loop");
    many_at_once(&event_loop, 1000);
    assert!(threads() <= before, "no thread was started");
}
