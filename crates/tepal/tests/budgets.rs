//! What common things may cost: calls of the driver, and allocations on the loop's thread.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use common::{address, client, echo, on_every_driver, run, run_with, with_faults};
use counting::{LIVE_BYTES, allocations};
use tepal::{Protocol, Timeouts, Transport};
use tepal_driver::faults::{FaultDriver, Faults, Operation};
use tepal_sim::{Config, SimKernel};

/// Messages echoed before anything is counted, and those that are.
const WARM: u64 = 200;
const COUNTED: u64 = 1000;

/// Echoes whole messages, and calls something at the first and the last of those that count.
struct Measured<F> {
    len: usize,
    limits: Timeouts,
    messages: u64,
    at: F,
}

impl<F: FnMut() + 'static> Protocol for Measured<F> {
    fn connection_established(&mut self, transport: &Transport) {
        transport.set_timeouts(self.limits);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if data.len() < self.len {
            return 0;
        }
        self.messages += 1;
        if self.messages == WARM || self.messages == WARM + COUNTED {
            (self.at)();
        }
        transport.write(&data[..self.len]);
        self.len
    }
}

/// Has messages of `len` bytes echoed, one after the other; `at` runs before and after those that
/// count.
fn measure(event_loop: &tepal::EventLoop, len: usize, at: impl FnMut() + 'static) {
    measure_within(event_loop, Timeouts::default(), len, at);
}

fn measure_within(
    event_loop: &tepal::EventLoop,
    limits: Timeouts,
    len: usize,
    at: impl FnMut() + 'static,
) {
    let at = Cell::new(Some(at));
    let factory =
        move |_: &_| Measured { len, limits, messages: 0, at: at.take().expect("one connection") };
    let server = event_loop.listen(factory, "127.0.0.1:0").expect("listens");
    let to = address(&server);
    run_with(event_loop, move || {
        let mut stream = client(to);
        let message = vec![7; len];
        // One more, so that the last that counts has been answered too.
        (0..=WARM + COUNTED).for_each(|_| echo(&mut stream, &message));
    });
    server.close();
}

fn counts(faults: &Faults) -> Vec<(Operation, u64)> {
    let failable = Operation::ALL.into_iter().filter(|operation| operation.can_fail());
    failable.map(|operation| (operation, faults.count(operation))).collect()
}

/// What was called between two snapshots.
fn between(before: &[(Operation, u64)], after: &[(Operation, u64)]) -> Vec<(Operation, u64)> {
    let pairs = before.iter().zip(after).map(|(a, b)| (a.0, b.1 - a.1));
    pairs.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn an_echo_costs_one_receive_one_send_and_one_wait() {
    with_faults(|event_loop, faults| {
        let snapshots = Rc::new(RefCell::new(Vec::new()));
        let (log, script) = (Rc::clone(&snapshots), faults.clone());
        measure(event_loop, 100, move || log.borrow_mut().push(counts(&script)));
        let snapshots = snapshots.borrow();
        let calls = between(&snapshots[0], &snapshots[1]);
        // And nothing else: no change of what is waited for, no option, no address.
        let wanted = [Operation::Receive, Operation::Send, Operation::Wait];
        assert_eq!(calls, wanted.map(|operation| (operation, COUNTED)));
    });
}

#[test]
fn connections_that_are_ready_together_share_a_wait() {
    const PEERS: usize = 8;
    with_faults(|event_loop, faults| {
        let heard = Rc::new(Cell::new(0));
        struct Counts(Rc<Cell<usize>>);
        impl Protocol for Counts {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
                self.0.set(self.0.get() + 1);
                transport.write(data);
                if self.0.get() == PEERS {
                    // The next turn begins when all have been sent; it looks once more.
                    transport.event_loop().call_soon(|lp| lp.stop());
                }
                data.len()
            }
        }
        let count = Rc::clone(&heard);
        let server =
            event_loop.listen(move |_| Counts(Rc::clone(&count)), "127.0.0.1:0").expect("listens");
        let mut clients: Vec<_> = (0..PEERS).map(|_| client(address(&server))).collect();
        for round in 0..4 {
            heard.set(0);
            // The loop stands still meanwhile, so that it finds all of them at once.
            clients.iter_mut().for_each(|stream| stream.write_all(b"hello").expect("writes"));
            let before = counts(faults);
            run(event_loop);
            let calls = between(&before, &counts(faults));
            for stream in &mut clients {
                let mut back = [0; 5];
                stream.read_exact(&mut back).expect("was sent");
                assert_eq!(&back, b"hello");
            }
            // In the first round they are accepted, too.
            if round > 0 {
                let all = PEERS as u64;
                let wanted =
                    [(Operation::Receive, all), (Operation::Send, all), (Operation::Wait, 2)];
                assert_eq!(calls, wanted);
            }
        }
    });
}

#[test]
fn a_connection_is_registered_and_closed_once_and_asks_for_nothing_else() {
    const CONNECTIONS: u64 = 100;
    with_faults(|event_loop, faults| {
        let server = event_loop.listen(|_| common::Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        let before = counts(faults);
        run_with(event_loop, move || {
            for _ in 0..CONNECTIONS {
                let mut stream = client(at);
                echo(&mut stream, b"once");
                stream.shutdown(std::net::Shutdown::Write).expect("ends");
                assert_eq!(stream.read(&mut [0]).expect("ends too"), 0);
            }
        });
        let calls = between(&before, &counts(faults));
        for (operation, count) in &calls {
            let most = match operation {
                Operation::Register | Operation::Close | Operation::Send => CONNECTIONS,
                // One comes at a time, and nobody asks whether another does.
                Operation::Accept => CONNECTIONS,
                // The second is the end.
                Operation::Receive => 2 * CONNECTIONS,
                // The peer comes, speaks and leaves; and after each of these one turn tells of it:
                // `connection_made`, the first `io_out`, `connection_lost`. A client that is quick
                // shares some of them. Then the end of the test, and what it finds.
                Operation::Wait => 6 * CONNECTIONS + 3,
                _ => 0,
            };
            assert!(*count <= most, "{operation:?}: {count} calls, {most} allowed, of {calls:?}");
        }
        assert_eq!(server.connection_count(), 0);
    });
}

#[test]
fn an_idle_loop_sleeps_in_one_wait() {
    with_faults(|event_loop, faults| {
        let server = event_loop.listen(|_| common::Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        let (sender, receiver) = std::sync::mpsc::channel();
        run_with(event_loop, move || {
            let mut clients: Vec<_> = (0..10).map(|_| client(at)).collect();
            clients.iter_mut().for_each(|stream| echo(stream, b"and then silence"));
            sender.send(clients).expect("the test lives");
        });
        let clients = receiver.recv().expect("connected");
        let before = counts(faults);
        event_loop.call_later(Duration::from_millis(60), |lp| lp.stop());
        run(event_loop);
        let calls = between(&before, &counts(faults));
        // A kernel's timer may end early by less than its grain, and the wait is taken up again.
        let [(Operation::Wait, waits)] = calls[..] else { panic!("{calls:?}") };
        assert!(waits <= 2, "{waits} waits");
        drop(clients);
    });
}

/// How many waits 640 turns of one callback make, each of which takes `span`.
fn waits_of_a_chain(span: Duration) -> u64 {
    fn next(lp: &tepal::Loop, kernel: &SimKernel, span: Duration, left: u32) {
        kernel.advance(span);
        let kernel = kernel.clone();
        match left {
            0 => lp.stop(),
            _ => drop(lp.call_soon(move |lp| next(lp, &kernel, span, left - 1))),
        }
    }
    let kernel = SimKernel::new(Config::default());
    let faults = Faults::new(1);
    let driver = FaultDriver::new(Box::new(kernel.driver()), &faults);
    let event_loop = tepal::EventLoop::with_driver(Box::new(driver));
    next(&event_loop, &kernel, span, 640);
    event_loop.run_forever().expect("the loop runs");
    faults.count(Operation::Wait)
}

#[test]
fn turns_full_of_callbacks_look_at_the_kernel_by_the_clock() {
    // The first 64 turns, all in vain; then quick ones every 64th turn at the least, slow ones
    // every eighth.
    let rest = 640 - 64;
    assert_eq!(waits_of_a_chain(Duration::ZERO), 64 + rest / 64);
    assert_eq!(waits_of_a_chain(Duration::from_micros(1)), 64 + rest / 24);
    assert_eq!(waits_of_a_chain(Duration::from_millis(1)), 64 + rest / 8);
}

#[test]
fn an_echo_allocates_nothing() {
    on_every_driver(|event_loop| {
        // Copied and gathered, and given to the kernel at once.
        for len in [1, 100, 4000, 20_000] {
            let snapshots = Rc::new(RefCell::new(Vec::with_capacity(2)));
            let log = Rc::clone(&snapshots);
            measure(event_loop, len, move || log.borrow_mut().push(allocations()));
            let [before, after] = snapshots.borrow()[..] else { panic!("two snapshots") };
            let driver = event_loop.driver_name();
            assert_eq!(after - before, 0, "{COUNTED} echoes of {len} bytes on {driver}");
        }
    });
}

// Limits of quiet and silence cost a message one store: their timer is moved when it is due.
#[test]
fn an_echo_of_a_watched_connection_costs_what_any_other_does() {
    let span = Some(Duration::from_secs(60));
    let limits =
        Timeouts { idle: span, read: span, write: span, session: span, ..Timeouts::default() };
    on_every_driver(|event_loop| {
        let snapshots = Rc::new(RefCell::new(Vec::with_capacity(2)));
        let (log, lp) = (Rc::clone(&snapshots), (**event_loop).clone());
        let before = lp.timer_count();
        measure_within(event_loop, limits, 100, move || {
            log.borrow_mut().push((allocations(), lp.timer_count()));
        });
        let [first, last] = snapshots.borrow()[..] else { panic!("two snapshots") };
        assert_eq!(last.0 - first.0, 0, "allocations on {}", event_loop.driver_name());
        assert_eq!((first.1, last.1), (before + 2, before + 2), "one, and that of the test");
    });
    with_faults(|event_loop, faults| {
        let snapshots = Rc::new(RefCell::new(Vec::new()));
        let (log, script) = (Rc::clone(&snapshots), faults.clone());
        measure_within(event_loop, limits, 100, move || log.borrow_mut().push(counts(&script)));
        let snapshots = snapshots.borrow();
        let wanted = [Operation::Receive, Operation::Send, Operation::Wait];
        let calls = between(&snapshots[0], &snapshots[1]);
        assert_eq!(calls, wanted.map(|operation| (operation, COUNTED)));
    });
}

// S32
#[test]
fn an_idle_connection_holds_less_than_600_bytes_and_no_read_buffer() {
    // Just before the arrays of all connections double: they are nearly full then.
    const COUNT: usize = 960;
    tepal::raise_descriptor_limit().expect("allowed");
    on_every_driver(|event_loop| {
        let server = event_loop.listen(|_| common::Echo, "127.0.0.1:0").expect("listens");
        let to = address(&server);
        let mut clients = Vec::with_capacity(COUNT + 24);
        let mut connect = |count: usize| {
            for _ in 0..count {
                let mut stream = client(to);
                stream.write_all(b"once").expect("writes");
                clients.push(stream);
                event_loop.stop();
                event_loop.run_forever().expect("runs");
            }
            while server.connection_count() < clients.len() {
                event_loop.stop();
                event_loop.run_forever().expect("runs");
            }
            LIVE_BYTES.with(Cell::get)
        };
        // The first pay for what all share: the memory that is read into, lists of the loop.
        connect(24);
        (0..10).for_each(|_| {
            event_loop.stop();
            event_loop.run_forever().expect("runs");
        });
        let before = connect(0);
        let each = (connect(COUNT) - before) as f64 / COUNT as f64;
        let driver = event_loop.driver_name();
        assert!(each < 600.0, "{each} bytes for each connection on {driver}");
    });
}

#[test]
fn arming_a_timer_again_allocates_nothing() {
    on_every_driver(|event_loop| {
        let timer = event_loop.timer(Duration::from_secs(60), |_, _| ());
        let push_back = || timer.again();
        let toggle = || {
            timer.start();
            timer.stop();
        };
        // The store keeps a bounded number of entries of the past.
        (0..1000).for_each(|_| push_back());
        (0..1000).for_each(|_| toggle());
        let before = allocations();
        (0..100_000).for_each(|_| push_back());
        (0..100_000).for_each(|_| toggle());
        assert_eq!(allocations() - before, 0);
    });
}

#[test]
fn a_small_callback_costs_no_allocation() {
    on_every_driver(|event_loop| {
        let turns = Rc::new(Cell::new(0));
        fn again(lp: &tepal::Loop, turns: Rc<Cell<u32>>) {
            turns.set(turns.get() + 1);
            match turns.get() {
                2000 => lp.stop(),
                _ => drop(lp.call_soon(move |lp| again(lp, turns))),
            }
        }
        let mut costs = Vec::with_capacity(2);
        for _ in 0..2 {
            turns.set(0);
            let before = allocations();
            again(event_loop, Rc::clone(&turns));
            event_loop.run_forever().expect("runs");
            costs.push(allocations() - before);
        }
        // The first run has made the queues as large as they must be.
        assert_eq!(costs[1], 0, "allocations for 2000 callbacks");
    });
}
