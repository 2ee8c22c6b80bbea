//! Whatever a protocol does in whichever callback, its connection ends once and leaves nothing.
//!
//! One test and not many: it counts the descriptors of the process.

#[path = "common/reentry_case.rs"]
mod case;
mod common;
#[path = "common/matrix.rs"]
mod matrix;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use case::{ACTS, Act, Bystander, CALLS, Case};
use common::{Echo, address, open_descriptors};
use matrix::Ticket;
use tepal::{EventLoop, Protocol, Transport};
use tepal_driver::faults::{FaultDriver, Faults};
use tepal_sim::SimDriver;

/// The other end: a message, the end of its direction, and then all that comes.
struct Peer(#[allow(dead_code, reason = "counted when it is dropped")] Ticket);

impl Protocol for Peer {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(b"hello");
        // The case may have ended the connection by then.
        let _ = transport.write_eof();
    }
}

/// The near side of the connection that is joined with.
struct Spare(#[allow(dead_code, reason = "counted when it is dropped")] Ticket);

impl Protocol for Spare {
    fn connection_established(&mut self, transport: &Transport) {
        transport.event_loop().stop();
    }
}

/// Starts a connection in one of two directions, both ends in this loop.
fn start(event_loop: &EventLoop, case: &Rc<Case>, inbound: bool) {
    if matches!(case.act, Act::Join | Act::JoinThenAbort) {
        let echo = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let spare = event_loop.connect(Spare(Ticket::new(&case.live)), address(&echo));
        event_loop.run_forever().expect("runs");
        echo.close();
        *case.spare.borrow_mut() = Some(spare);
    }
    let own = Rc::downgrade(case);
    let case_of = move || own.upgrade().expect("the case goes on");
    let server = match inbound {
        true => event_loop.listen(move |_| case_of().protocol(), "127.0.0.1:0"),
        false => event_loop.listen(move |_| Peer(Ticket::new(&case_of().live)), "127.0.0.1:0"),
    };
    let server = server.expect("listens");
    let at = address(&server);
    *case.server.borrow_mut() = Some(Rc::new(server));
    match inbound {
        true => event_loop.connect(Peer(Ticket::new(&case.live)), at),
        false => event_loop.connect(case.protocol(), at),
    };
}

fn run_case(event_loop: &EventLoop, case: &Rc<Case>, inbound: bool) {
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    let limit = event_loop.call_later(Duration::from_secs(5), move |lp| {
        flag.set(true);
        lp.stop();
    });
    let watched = Rc::clone(case);
    let watch =
        event_loop.timer(Duration::from_micros(50), move |lp, timer| match watched.is_over() {
            true => lp.stop(),
            false => timer.again(),
        });
    watch.start();
    start(event_loop, case, inbound);
    while !case.is_over() && !late.get() {
        event_loop.run_forever().expect("runs");
    }
    limit.cancel();
    drop(watch);
    // What may still be queued, so that a callback after the end is seen.
    for _ in 0..2 {
        event_loop.call_soon(|lp| lp.stop());
        event_loop.run_forever().expect("runs");
    }
    case.server.take().expect("it was started").close();
    if late.get() {
        let (lost, live) = (case.lost.get(), case.live.get());
        case.problem(format!("it did not end: lost {lost}, live {live}"));
        case.live.set(0);
    }
    if !case.fired.get() {
        case.problem("the callback never came".to_owned());
    }
}

/// `count_open` tells how many descriptors the loop has open.
fn every_case(event_loop: &EventLoop, count_open: &dyn Fn() -> usize) {
    let live = Rc::new(Cell::new(0));
    let of_sink = Rc::clone(&live);
    // Does not count itself when it is made; see `Act::Connect`.
    let sink = event_loop
        .listen(move |_| Bystander(Ticket(Rc::clone(&of_sink))), "127.0.0.1:0")
        .expect("listens");
    let mut problems = Vec::new();
    let mut before = None;
    for (inbound, call) in [true, false].into_iter().flat_map(|i| CALLS.map(|call| (i, call))) {
        for (act, lends) in ACTS.into_iter().flat_map(|act| [(act, false), (act, true)]) {
            if call.lends().is_some_and(|only| only != lends) {
                continue;
            }
            let case = Rc::new(Case {
                call,
                act,
                live: Rc::clone(&live),
                sink: address(&sink),
                lends,
                spare: RefCell::new(None),
                server: RefCell::new(None),
                fired: Cell::new(false),
                inside: Cell::new(false),
                made: Cell::new(0),
                established: Cell::new(0),
                lost: Cell::new(0),
                paused: Cell::new(false),
                problems: RefCell::new(Vec::new()),
            });
            run_case(event_loop, &case, inbound);
            let mut open = count_open();
            // A close with unread input drains it for a moment; the peer has ended by now.
            for _ in 0..300 {
                if before.is_none_or(|before| open == before) {
                    break;
                }
                event_loop.call_later(Duration::from_millis(10), |lp| lp.stop());
                event_loop.run_forever().expect("runs");
                open = count_open();
            }
            // The first case has opened what the loop keeps.
            if open != *before.get_or_insert(open) {
                case.problem(format!("{open} descriptors, and {before:?} before"));
                before = Some(open);
            }
            let way = if inbound { "inbound" } else { "outbound" };
            let lends = if lends { " lending" } else { "" };
            let texts = case.problems.take();
            problems
                .extend(texts.iter().map(|text| format!("{way}{lends} {call:?} {act:?}: {text}")));
        }
    }
    let driver = event_loop.driver_name();
    assert!(problems.is_empty(), "on {driver}:\n{}", problems.join("\n"));
}

/// On the drivers of this machine and on the simulated one.
fn on_each_kernel(disturb: impl Fn(&Faults)) {
    for name in tepal_driver::driver_names() {
        let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
        let faults = Faults::new(1);
        disturb(&faults);
        let driver = FaultDriver::new(driver, &faults);
        every_case(&EventLoop::with_driver(Box::new(driver)), &open_descriptors);
    }
    let driver = SimDriver::new(1);
    let kernel = driver.kernel().clone();
    let faults = Faults::new(1);
    disturb(&faults);
    let driver = FaultDriver::new(Box::new(driver), &faults);
    let count_open = move || kernel.ledger().open_descriptors;
    every_case(&EventLoop::with_driver(Box::new(driver)), &count_open);
}

#[test]
fn every_act_in_every_callback_leaves_one_end_and_no_descriptor() {
    on_each_kernel(|_| ());
    // Again with a kernel that takes and gives little, and wakes for nothing.
    on_each_kernel(|faults| {
        faults.short(Some(4096));
        faults.spurious(5);
        faults.interrupt(5);
    });
}
