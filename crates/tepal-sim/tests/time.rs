//! The clock moves in waits only, waits end, and those that could not are told.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use common::{Hand, v4};
use tepal_base::Instant;
use tepal_driver::{Domain, Driver, Interest, Kind, Wake, Waker};
use tepal_sim::{Config, SimKernel};

const SECOND: Duration = Duration::from_secs(1);

fn deadlock_of(hand: &mut Hand) -> String {
    let error = hand.wait_until(None).expect_err("nothing can end this wait");
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    error.to_string()
}

#[test]
fn the_clock_stands_still_between_waits() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let (client, server) = hand.pair();
    for _ in 0..100 {
        hand.send(client, "ping");
        hand.receive(server, 10);
    }
    assert_eq!(hand.driver.now(), Instant::ZERO);
    assert_eq!(kernel.now(), Instant::ZERO);
}

#[test]
fn a_wait_ends_exactly_at_its_deadline_and_not_before() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    for nanos in [1, 999, 86_400_000_000_000] {
        let deadline = kernel.now() + Duration::from_nanos(nanos);
        assert!(hand.wait_until(Some(deadline)).expect("it ends").is_empty());
        assert_eq!(kernel.now(), deadline);
    }
    let passed = kernel.now() - SECOND;
    let now = kernel.now();
    assert!(!hand.driver.prepare(Some(passed)).blocks());
    hand.wait_until(Some(passed)).expect("it ends");
    assert_eq!(kernel.now(), now, "the clock never goes back");
    assert!(hand.driver.prepare(Some(now + SECOND)).blocks());
    assert!(hand.driver.prepare(None).blocks());
}

#[test]
fn something_ready_takes_no_time() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let (client, server) = hand.pair();
    hand.driver.register(server, 1, Interest::READ).expect("registered");
    hand.send(client, "x");
    assert_eq!(hand.wait(SECOND).len(), 1);
    assert_eq!(kernel.now(), Instant::ZERO);
}

#[test]
fn an_arrival_before_the_deadline_ends_the_wait_at_its_own_time() {
    let latency = Duration::from_millis(30);
    let (mut hand, kernel) = Hand::sim(Config { latency: latency..=latency, ..Config::default() });
    let (client, server) = hand.pair();
    hand.driver.register(server, 1, Interest::READ).expect("registered");
    let sent = kernel.now();
    hand.send(client, "x");
    assert_eq!(hand.receive(server, 1), "EAGAIN", "nothing arrives without time");
    assert_eq!(hand.wait(SECOND).len(), 1);
    assert_eq!(kernel.now(), sent + latency);
    assert_eq!(hand.receive(server, 1), "x");
}

#[test]
fn a_wait_that_nothing_can_end_fails_and_names_what_it_waited_for() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    assert!(deadlock_of(&mut hand).contains("waits for: nothing"));
    let error = hand.wait_until(Some(Instant::FAR)).expect_err("never is no deadline");
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    let listener = hand.tcp();
    hand.driver.bind(listener, &v4(8080)).expect("it binds");
    hand.driver.listen(listener, 1).expect("it listens");
    hand.driver.register(listener, 42, Interest::READ).expect("registered");
    let text = deadlock_of(&mut hand);
    assert!(text.contains("tcp 127.0.0.1:8080, listening (token 42, read)"), "{text}");
}

#[test]
fn an_edge_that_was_not_used_up_is_a_deadlock_and_not_a_second_report() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let (client, server) = hand.pair();
    hand.driver.register(server, 1, Interest::READ).expect("registered");
    hand.send(client, "abc");
    assert_eq!(hand.wait_until(None).expect("an edge").len(), 1);
    assert_eq!(hand.receive(server, 1), "a");
    assert!(deadlock_of(&mut hand).contains("connected (token 1, read)"));
}

#[test]
fn a_program_that_spins_without_time_passing_is_stopped() {
    let (mut hand, kernel) = Hand::sim(Config { stall_limit: 100, ..Config::default() });
    let spin = |hand: &mut Hand| (0..101).find_map(|_| hand.wait_until(Some(Instant::ZERO)).err());
    let error = spin(&mut hand).expect("the 101st wait fails");
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    assert!(error.to_string().contains("stood still for 100 waits"), "{error}");
    for _ in 0..1000 {
        hand.wait(Duration::from_nanos(1));
    }
    assert_eq!(kernel.now().as_nanos(), 1000);
}

#[test]
fn a_waker_ends_the_current_wait_or_the_next_one_once() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let waker = hand.driver.waker();
    waker.wake();
    waker.wake();
    assert!(hand.wait_until(None).expect("woken").is_empty());
    assert_eq!(kernel.now(), Instant::ZERO);
    deadlock_of(&mut hand);

    let mut wait = hand.driver.prepare(None);
    waker.wake();
    wait.wait();
    hand.driver.collect(wait, &mut Vec::new()).expect("woken");
}

#[test]
fn a_real_thread_may_wake_a_wait_that_is_told_to_be_patient() {
    let patience = Duration::from_secs(20);
    let (mut hand, kernel) = Hand::sim(Config { thread_patience: patience, ..Config::default() });
    let waker = hand.driver.waker();
    #[expect(clippy::disallowed_methods, reason = "wakers are for real threads")]
    let thread = std::thread::spawn(move || waker.wake());
    hand.wait_until(None).expect("woken long before the patience ends");
    assert_eq!(kernel.now(), Instant::ZERO, "real time is not simulated time");
    thread.join().expect("the thread ends");
}

#[test]
fn patience_ends() {
    let patience = Duration::from_millis(30);
    let (mut hand, _kernel) = Hand::sim(Config { thread_patience: patience, ..Config::default() });
    deadlock_of(&mut hand);
}

#[test]
fn the_wall_clock_follows_and_jumps_alone() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let start = hand.driver.wall();
    hand.wait(SECOND);
    assert_eq!(hand.driver.wall(), start + SECOND);
    let day = UNIX_EPOCH + 86_400 * SECOND;
    kernel.set_wall(day);
    assert_eq!(hand.driver.wall(), day);
    assert_eq!(hand.driver.now(), Instant::ZERO + SECOND);
    hand.wait(SECOND);
    assert_eq!(kernel.wall(), day + SECOND);
}

#[test]
fn advancing_by_hand_lets_things_arrive_in_their_order() {
    let latency = Duration::from_millis(10);
    let (mut hand, kernel) = Hand::sim(Config { latency: latency..=latency, ..Config::default() });
    let (client, server) = hand.pair();
    hand.send(client, "a");
    kernel.advance(latency / 2);
    hand.send(client, "b");
    kernel.advance(latency / 2);
    assert_eq!(hand.receive(server, 9), "a");
    kernel.advance(latency / 2);
    assert_eq!(hand.receive(server, 9), "b");
}

// ---- several loops on one kernel

/// Two loops of one kernel.
fn two() -> (Hand, Hand, SimKernel) {
    let kernel = SimKernel::new(Config::default());
    (Hand::new(kernel.driver()), Hand::new(kernel.driver()), kernel)
}

#[test]
fn the_clock_does_not_pass_another_loops_deadline() {
    let (mut a, mut b, kernel) = two();
    let at = |seconds| Some(Instant::ZERO + seconds * SECOND);
    // Both have begun, so neither may run ahead.
    a.wait_until(at(0)).expect("it looks");
    b.wait_until(at(0)).expect("it looks");
    a.wait_until(at(10)).expect("it gives way");
    assert_eq!(kernel.now(), Instant::ZERO);
    b.wait_until(at(3)).expect("it reaches its deadline");
    assert_eq!(Some(kernel.now()), at(3));
    // `b` has had its turn and not yet waited again: `a` gives way.
    a.wait_until(at(10)).expect("it gives way");
    assert_eq!(Some(kernel.now()), at(3));
    b.wait_until(at(20)).expect("it ends for a's sake");
    assert_eq!(Some(kernel.now()), at(10));
    a.wait_until(at(10)).expect("its deadline has come");
    assert!(!kernel.is_stuck());
}

#[test]
fn two_loops_talk_until_neither_can_do_more() {
    let (mut a, mut b, kernel) = two();
    let (listener, address) = a.listen(1);
    a.driver.register(listener, 1, Interest::READ).expect("registered");
    assert!(a.wait_until(None).expect("nothing yet").is_empty());
    assert!(kernel.is_stuck());
    let client = b.connecting(&address);
    b.driver.register(client, 2, Interest::BOTH).expect("registered");
    assert!(!kernel.is_stuck());
    assert_eq!(b.wait_until(None).expect("connected").len(), 1);
    assert_eq!(a.wait_until(None).expect("a connection").len(), 1);
    let (server, _) = a.driver.accept(listener).expect("a connection");
    a.driver.register(server, 3, Interest::READ).expect("registered");
    assert_eq!(b.send(client, "hello"), "sent 5");
    assert_eq!(a.wait_until(None).expect("bytes").len(), 1);
    assert_eq!(a.receive(server, 10), "hello");
    // Each may be stepped in vain, and no wait hangs or fails.
    for _ in 0..3 {
        assert!(a.wait_until(None).expect("no deadlock among several").is_empty());
        assert!(b.wait_until(None).expect("no deadlock among several").is_empty());
    }
    assert!(kernel.is_stuck());
    b.driver.waker().wake();
    assert!(!kernel.is_stuck());
}

#[test]
fn a_loop_that_is_never_stepped_does_not_hang_the_other() {
    let (mut a, mut b, _kernel) = two();
    b.wait_until(Some(Instant::ZERO)).expect("b is a loop");
    let end = Instant::ZERO + SECOND;
    let error = (0..20_000).find_map(|_| a.wait_until(Some(end)).err()).expect("it is told");
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    assert!(error.to_string().contains("driver 1, which could run and is not stepped"), "{error}");
    drop(b);
    a.wait_until(Some(end)).expect("alone again, it reaches its deadline");
    assert_eq!(a.driver.now(), end);
}

#[test]
fn a_driver_that_only_makes_calls_holds_nobody_up() {
    let (mut a, mut b, kernel) = two();
    let (listener, address) = b.listen(1);
    let client = a.connecting(&address);
    a.driver.register(client, 1, Interest::BOTH).expect("registered");
    assert_eq!(a.wait_until(None).expect("connected").len(), 1);
    let (server, _) = b.driver.accept(listener).expect("a connection");
    b.send(server, "hi");
    assert_eq!(a.wait_until(None).expect("bytes").len(), 1);
    a.wait(SECOND);
    assert_eq!(kernel.now(), Instant::ZERO + SECOND);
}

#[test]
fn descriptors_belong_to_their_driver() {
    let (mut a, mut b, _kernel) = two();
    let socket = a.open(Domain::Inet, Kind::Stream);
    assert_eq!(b.send(socket, "x"), "EBADF");
    assert_eq!(b.driver.close(socket).expect_err("not b's").raw_os_error(), Some(libc::EBADF));
    a.close(socket);
}

// ---- signals

/// Counts how often it is used, and looks at the kernel meanwhile, as user code may.
struct Counter {
    kernel: SimKernel,
    used: AtomicU32,
}

impl Wake for Counter {
    fn wake(&self) {
        assert!(self.kernel.now() >= Instant::ZERO);
        self.used.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_raised_signal_is_told_once_in_order_of_number() {
    let kernel = SimKernel::new(Config::default());
    let mut driver = kernel.driver();
    let counter = Arc::new(Counter { kernel: kernel.clone(), used: AtomicU32::new(0) });
    let waker: Waker = Arc::clone(&counter) as Waker;
    let mut source = driver.signals();
    assert!(!kernel.raise(driver.id(), libc::SIGTERM), "nobody listens");
    for signal in [libc::SIGTERM, libc::SIGINT] {
        source.subscribe(signal, &waker).expect("it can be caught");
    }
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGTERM] {
        assert!(kernel.raise(driver.id(), signal));
    }
    assert_eq!(counter.used.load(Ordering::Relaxed), 3);
    let mut pending = Vec::new();
    source.take_pending(&mut pending);
    source.take_pending(&mut pending);
    assert_eq!(pending, [libc::SIGINT, libc::SIGTERM]);
    assert!(source.unsubscribe(libc::SIGINT).expect("it listened"));
    assert!(!source.unsubscribe(libc::SIGINT).expect("not any more"));
    assert_eq!(kernel.ledger().signals, 1);
    drop(source);
    assert!(!kernel.raise(driver.id(), libc::SIGTERM));
    kernel.ledger().assert_balanced();
    assert_eq!(Arc::strong_count(&counter), 2, "the kernel has let its wakers go");
}

#[test]
fn a_signal_has_one_listener_and_some_have_none() {
    let kernel = SimKernel::new(Config::default());
    let mut driver = kernel.driver();
    let waker = driver.waker();
    let (mut one, mut two) = (driver.signals(), driver.signals());
    one.subscribe(libc::SIGHUP, &waker).expect("free");
    one.subscribe(libc::SIGHUP, &waker).expect("its own");
    let error = two.subscribe(libc::SIGHUP, &waker).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(!two.unsubscribe(libc::SIGHUP).expect("not two's"));
    for signal in [libc::SIGKILL, libc::SIGSTOP, 0, -1, 65, i32::MAX] {
        let error = one.subscribe(signal, &waker).expect_err("it cannot be caught");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    // The loop's own waker ends its wait.
    assert!(kernel.raise(driver.id(), libc::SIGHUP));
    let wait = driver.prepare(None);
    driver.collect(wait, &mut Vec::new()).expect("woken");
    drop(driver);
    one.take_pending(&mut Vec::new());
    let error = one.subscribe(libc::SIGHUP, &waker).expect_err("the driver is gone");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}
