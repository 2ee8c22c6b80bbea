//! Reaching a peer by name whatever fails and whatever its protocol does: it ends once, in time,
//! and leaves nothing. On the simulated kernel, so each case takes no time and is the same again.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, address};
use dns::{Say, Zone, put};
use story::Story;
use tepal::names::Settings;
use tepal::{
    Addresses, Backoff, EventLoop, Handshakes, Listen, Phase, Protocol, Restart, Target, Timeouts,
    Tls, Transport, Unsent,
};
use tepal_driver::faults::{FaultDriver, Faults, Operation};
use tepal_sim::{Config, Disturbance, Route, SimKernel};

/// A limit for each case, in virtual time.
const LIMIT: Duration = Duration::from_secs(120);

fn limits() -> Timeouts {
    let second = Some(Duration::from_secs(1));
    let five = Some(Duration::from_secs(5));
    Timeouts {
        total: Some(Duration::from_secs(10)),
        dns: five,
        connecting: five,
        handshake: second,
        idle: second,
        read: five,
        write: five,
        session: Some(Duration::from_secs(30)),
        closing: second,
    }
}

/// Runs until the transport is over; what is wrong otherwise.
fn run_to_end(event_loop: &EventLoop, transport: &Transport) -> Result<(), String> {
    let (lp, transport) = ((**event_loop).clone(), transport.clone());
    let end = event_loop.time() + LIMIT;
    let waiting = async move {
        loop {
            if transport.phase() == Phase::Closed && transport.closed().is_some() {
                lp.sleep(Duration::from_millis(5)).await;
                return Ok(());
            }
            if lp.time() > end {
                return Err(format!("still {} after {LIMIT:?}", transport.phase()));
            }
            lp.sleep(Duration::from_millis(5)).await;
        }
    };
    let task = event_loop.spawn(waiting);
    // A wait that was told to fail ends the run; the next one goes on.
    for _ in 0..20 {
        if task.is_finished() {
            return event_loop.run_until_complete(task).map_err(|error| error.to_string())?;
        }
        let lp = (**event_loop).clone();
        let _ = event_loop.run_until_complete(async move {
            lp.sleep(Duration::from_secs(10)).await;
        });
    }
    Err("the loop does not come to an end".to_owned())
}

/// The order of calls that every transport keeps to.
fn check_order(story: &Story) -> Result<(), String> {
    let events = story.events();
    let count = |event: &str| events.iter().filter(|seen| *seen == event).count();
    if count("made") > 1 {
        return Err(format!("made more than once: {events:?}"));
    }
    if count("lost") > count("established") + 1 {
        return Err(format!("lost too often: {events:?}"));
    }
    if count("made") == 1 && events.last().map(String::as_str) != Some("lost") {
        return Err(format!("something after the end, or no end: {events:?}"));
    }
    Ok(())
}

/// Where the case's client goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Tls,
    Race,
    /// A race of which handshakes are part, and whose first address is silent.
    Shaking,
}

/// One connection by name to a server on the same loop, which echoes once and closes.
fn connect(event_loop: &EventLoop, way: Way, tls: &(Tls, Tls), story: &Story) -> Option<Transport> {
    struct Once;
    impl Protocol for Once {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
            transport.write(data);
            transport.close();
            data.len()
        }
    }
    let zone = Zone::new();
    put(&zone, "peer.test", 60, &["127.0.0.1", "127.0.0.2"]);
    let (client, server) = tls.clone();
    let mut listen = Listen::on("127.0.0.1:0");
    if let Way::Tls | Way::Shaking = way {
        listen = listen.layer(server);
    }
    let server = event_loop.listen(|_: &tepal::Address| Once, listen).ok()?;
    if let Way::Shaking = way {
        // It takes what comes, as the first of the two addresses.
        struct Silent;
        impl Protocol for Silent {}
        put(&zone, "peer.test", 60, &["127.0.0.2", "127.0.0.1"]);
        let silent = SocketAddr::from(([127, 0, 0, 2], address(&server).port()));
        drop(event_loop.listen(|_: &tepal::Address| Silent, silent).ok()?);
    }
    let zone_server = dns::try_serve(event_loop, &zone, "127.0.0.1:0".parse().ok()?).ok()?;
    let settings = Settings { servers: Some(vec![zone_server]), ..Settings::default() };
    let resolver = event_loop.resolver(settings);
    let mut target = Target::host("peer.test", address(&server).port())
        .timeouts(limits())
        .resolver(&resolver)
        .backoff(Backoff { attempts: Some(2), ..Backoff::default() });
    match way {
        Way::Plain => {}
        Way::Tls => target = target.layer(client),
        Way::Race => target = target.addresses(Addresses::Race),
        Way::Shaking => {
            target = target.layer(client).addresses(Addresses::Race).handshakes(Handshakes::Race);
        }
    }
    Some(event_loop.connect(story.clone(), target))
}

fn writing() -> Story {
    let left = Cell::new(2);
    Story::new()
        .on("established", |transport| {
            transport.write(b"hello");
        })
        .on("lost", move |transport| {
            if left.replace(left.get() - 1) == 1 {
                transport.close();
            }
        })
}

#[test]
fn whichever_call_fails_a_connection_by_name_ends_once_and_in_time() {
    fail_each_call(Way::Plain);
}

#[test]
fn whichever_call_fails_a_connection_over_tls_ends_once_and_in_time() {
    fail_each_call(Way::Tls);
}

#[test]
fn whichever_call_fails_a_race_ends_once_and_in_time() {
    fail_each_call(Way::Race);
}

#[test]
fn whichever_call_fails_a_race_of_handshakes_ends_once_and_in_time() {
    fail_each_call(Way::Shaking);
}

fn fail_each_call(way: Way) {
    let errors = [libc::EMFILE, libc::ECONNRESET, libc::EINVAL, libc::EAGAIN];
    // Making certificates and keys takes longer than all else.
    let tls = layered::tls_pair();
    let case = |nth: u64, errno: i32| -> Result<u64, String> {
        let kernel = SimKernel::new(Config::seeded(5));
        let faults = Faults::new(1);
        let driver = FaultDriver::new(Box::new(kernel.driver()), &faults);
        let event_loop = EventLoop::with_driver(Box::new(driver));
        event_loop.set_trouble_hook(|_, _| ());
        if nth > 0 {
            faults.fail_any(nth, errno);
        }
        let story = writing();
        // A server that could not be started is another test's matter.
        if let Some(transport) = connect(&event_loop, way, &tls, &story) {
            run_to_end(&event_loop, &transport)?;
            check_order(&story)?;
        }
        let calls = faults.calls();
        faults.clear();
        drop(event_loop);
        match kernel.ledger() {
            ledger if ledger.open_descriptors == 0 => Ok(calls),
            ledger => Err(format!("left open: {ledger}")),
        }
    };
    let calls = case(0, 0).expect("nothing fails");
    assert!(calls > 50, "{calls} calls");
    let mut problems = Vec::new();
    for errno in errors {
        // Most calls of a run are waits; the first hundreds have all kinds.
        let most = if let Way::Tls | Way::Shaking = way { 160 } else { 250 };
        for nth in 1..calls.min(most) {
            if let Err(problem) = case(nth, errno) {
                problems.push(format!("{way:?}, call {nth}, error {errno}: {problem}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_descriptor_no_connection_and_then_it_works_again() {
    let kernel = SimKernel::new(Config::seeded(5));
    let faults = Faults::new(1);
    let driver = FaultDriver::new(Box::new(kernel.driver()), &faults);
    let event_loop = EventLoop::with_driver(Box::new(driver));
    let server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0").expect("a port");
    let failures = Rc::new(Cell::new(0));
    let count = Rc::clone(&failures);
    let heal = faults.clone();
    let story = Story::new()
        .on("error_connecting", move |transport| {
            count.set(count.get() + 1);
            if count.get() == 3 {
                heal.clear();
            }
            assert!(transport.reconnect(Some(Duration::from_millis(1))));
        })
        .on("established", |transport| transport.close());
    faults.fail_always(Operation::Open, libc::EMFILE);
    let transport = event_loop.connect(story.clone(), address(&server));
    run_to_end(&event_loop, &transport).expect("ends");
    assert_eq!((failures.get(), story.count("established")), (3, 1));
}

const HOOKS: [&str; 11] = [
    "made",
    "established",
    "data",
    "eof",
    "lost",
    "error_dns",
    "timeout_dns",
    "error_connecting",
    "timeout_connecting",
    "timeout_handshake",
    "timeout_idle",
];

const ACTS: [&str; 12] = [
    "close",
    "abort",
    "reconnect",
    "reconnect twice",
    "reconnect, close",
    "close, reconnect",
    "abort, reconnect",
    "reconnect from the addresses, kept",
    "write, close",
    "new limits",
    "new protocol",
    "panic",
];

fn act(act: &'static str, transport: &Transport) {
    let soon = Some(Duration::from_millis(10));
    match act {
        "close" => transport.close(),
        "abort" => transport.abort(),
        "reconnect" => drop(transport.reconnect(soon)),
        "reconnect twice" => {
            transport.reconnect(Some(Duration::from_secs(3600)));
            transport.reconnect(None);
        }
        "reconnect, close" => {
            transport.reconnect(soon);
            transport.close();
        }
        "close, reconnect" => {
            transport.close();
            transport.reconnect(soon);
        }
        "abort, reconnect" => {
            transport.abort();
            transport.reconnect(soon);
        }
        "reconnect from the addresses, kept" => {
            transport.write(b"kept");
            transport.reconnect_with(soon, Restart::Connect, Unsent::Keep);
        }
        "write, close" => {
            transport.write(b"last words");
            transport.close();
        }
        "new limits" => transport.set_timeouts(limits()),
        "new protocol" => transport.set_protocol(Echo),
        "panic" => panic!("on purpose"),
        other => panic!("no such act: {other}"),
    }
}

#[test]
fn whatever_a_protocol_does_in_whichever_hook_it_ends() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut problems = Vec::new();
    for hook in HOOKS {
        for what in ACTS {
            for storm in [false, true] {
                if let Err(problem) = hook_case(hook, what, storm) {
                    problems.push(format!("{what} in {hook}, storm {storm}: {problem}"));
                }
            }
        }
    }
    std::panic::set_hook(quiet);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn hook_case(hook: &'static str, what: &'static str, storm: bool) -> Result<(), String> {
    let disturbance = if storm { Disturbance::stormy() } else { Disturbance::default() };
    let kernel = SimKernel::new(Config { disturbance, ..Config::seeded(17) });
    kernel.set_route("192.0.2.1".parse().expect("an address"), Route::Blackhole);
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    let zone = Zone::new();
    put(&zone, "peer.test", 60, &["127.0.0.1"]);
    for kind in [dns::A, dns::AAAA] {
        let silent = ("silent.test".to_owned(), kind);
        zone.borrow_mut().answers.insert(silent, Say::Nothing);
    }
    let resolver = {
        let server = dns::serve(&event_loop, &zone);
        event_loop.resolver(Settings { servers: Some(vec![server]), ..Settings::default() })
    };
    struct Once(bool);
    impl Protocol for Once {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
            transport.write(data);
            if self.0 {
                transport.close();
            }
            data.len()
        }
    }
    let closes = hook != "timeout_idle";
    let server = event_loop
        .listen(move |_: &tepal::Address| Once(closes), "127.0.0.1:0")
        .map_err(|error| error.to_string())?;
    let port = address(&server).port();
    let (client, _) = layered::tls_pair();
    let target = match hook {
        "error_dns" => Target::host("nobody.test", port),
        "timeout_dns" => Target::host("silent.test", port),
        "error_connecting" => Target::host("127.0.0.9", port),
        "timeout_connecting" => Target::host("192.0.2.1", port),
        // The server speaks no TLS: it sends our hello back, or says nothing of its own.
        "timeout_handshake" => {
            let deaf = event_loop
                .listen(|_: &tepal::Address| Deaf, "127.0.0.1:0")
                .map_err(|error| error.to_string())?;
            Target::host("peer.test", address(&deaf).port()).layer(client)
        }
        _ => Target::host("peer.test", port),
    };
    let left = Cell::new(3);
    let fired = Rc::new(Cell::new(0));
    let count = Rc::clone(&fired);
    let story = Story::new();
    let story = match hook {
        "made" | "established" => story,
        _ => story.on("established", |transport| {
            transport.write(b"hello");
        }),
    };
    let story = story.on(hook, move |transport| {
        count.set(count.get() + 1);
        if left.replace(left.get() - 1) > 0 {
            act(what, transport);
        } else {
            transport.close();
        }
        if hook == "established" {
            transport.write(b"hello");
        }
    });
    let target = target.timeouts(limits()).resolver(&resolver);
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(&event_loop, &transport)?;
    // A disturbed kernel may refuse what a case needs, and a new protocol hears of nothing more.
    if fired.get() == 0 && !storm {
        return Err(format!("was never called: {:?}", story.events()));
    }
    if !matches!(what, "panic" | "new protocol") {
        check_order(&story)?;
    }
    drop((transport, resolver));
    drop(event_loop);
    match kernel.ledger() {
        ledger if ledger.open_descriptors == 0 => Ok(()),
        ledger => Err(format!("left open: {ledger}")),
    }
}

struct Deaf;

impl Protocol for Deaf {}
