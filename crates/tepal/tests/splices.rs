//! Joins whose bytes stay in the kernel: nothing is lost, doubled or held without bound.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use common::{address, run, with_faults_and_simulated};
use tepal::{CloseKind, Closed, Crossing, EventLoop, Protocol, Transport};
use tepal_driver::faults::{Faults, Operation};

/// More than the kernel's buffers of two connections hold while nobody reads.
const LEN: usize = 12_000_000;

/// What stands at some place of the stream: compared and copied at once, since there is much of it.
fn pattern(at: usize, len: usize) -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| (0..2_000_000).map(|n| (n % 251) as u8).collect());
    &bytes[at % 251..][..len]
}

/// Writes the pattern while there is room, then ends its direction.
struct Source {
    sent: Rc<Cell<usize>>,
}

impl Source {
    fn pump(&self, transport: &Transport) {
        while self.sent.get() < LEN {
            let at = self.sent.get();
            let block = pattern(at, 100_000.min(LEN - at));
            self.sent.set(at + block.len());
            if transport.write_segment(block) == Crossing::High {
                return;
            }
        }
        transport.write_eof().expect("open");
    }
}

impl Protocol for Source {
    fn connection_established(&mut self, transport: &Transport) {
        self.pump(transport);
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.pump(transport);
    }
}

/// Checks the pattern; reads only while it is told to.
#[derive(Default)]
struct Seen {
    received: Cell<usize>,
    transport: RefCell<Option<Transport>>,
    ended: Cell<bool>,
}

struct Sink {
    seen: Rc<Seen>,
    run: Rc<Run>,
    asleep: Duration,
}

impl Protocol for Sink {
    fn connection_established(&mut self, transport: &Transport) {
        *self.seen.transport.borrow_mut() = Some(transport.clone());
        transport.pause_reading();
        let awake = transport.clone();
        transport.event_loop().call_later(self.asleep, move |_| awake.resume_reading());
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        let at = self.seen.received.get();
        assert!(data == pattern(at, data.len()), "at {at}");
        self.seen.received.set(at + data.len());
        data.len()
    }
    fn eof_received(&mut self, _: &Transport) -> bool {
        self.seen.ended.set(true);
        false
    }
    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        self.run.ended(transport.event_loop());
    }
}

/// The two sides of the relay: the one to the source, and the one to the sink.
struct Near {
    target: std::net::SocketAddr,
    run: Rc<Run>,
}

struct Far {
    near: Transport,
    run: Rc<Run>,
}

#[derive(Default)]
struct Run {
    joined: RefCell<Option<std::io::Result<(u64, u64)>>>,
    far: RefCell<Option<Transport>>,
    far_closed: RefCell<Option<Closed>>,
    // Of the three that must have ended: the join, the far side, the sink.
    ends: Cell<u32>,
}

impl Run {
    fn ended(&self, lp: &tepal::Loop) {
        self.ends.set(self.ends.get() + 1);
        if self.ends.get() == 3 {
            lp.stop();
        }
    }
}

impl Protocol for Near {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        let far = Far { near: transport.clone(), run: Rc::clone(&self.run) };
        transport.event_loop().connect(far, self.target);
    }
}

impl Protocol for Far {
    fn connection_established(&mut self, transport: &Transport) {
        *self.run.far.borrow_mut() = Some(transport.clone());
        let joined = self.near.join(transport).expect("both are established");
        let (run, lp) = (Rc::clone(&self.run), transport.event_loop().clone());
        transport.event_loop().spawn(async move {
            *run.joined.borrow_mut() = Some(joined.await);
            run.ended(&lp);
        });
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        *self.run.far_closed.borrow_mut() = Some(closed.clone());
        self.run.ended(transport.event_loop());
    }
}

/// A source, a relay and a sink in one loop, until the join has ended.
fn relay(
    event_loop: &EventLoop,
    asleep: Duration,
    at: impl FnOnce(&Rc<Run>, &Rc<Seen>),
) -> Outcome {
    let (seen, all, sent): (Rc<Seen>, Rc<Run>, Rc<Cell<usize>>) = Default::default();
    let (sink, run_of) = (Rc::clone(&seen), Rc::clone(&all));
    let sink = move |_: &_| Sink { seen: Rc::clone(&sink), run: Rc::clone(&run_of), asleep };
    let sink = event_loop.listen(sink, "127.0.0.1:0").expect("listens");
    let (target, run_of) = (address(&sink), Rc::clone(&all));
    let near = event_loop
        .listen(move |_| Near { target, run: Rc::clone(&run_of) }, "127.0.0.1:0")
        .expect("listens");
    event_loop.connect(Source { sent: Rc::clone(&sent) }, address(&near));
    at(&all, &seen);
    run(event_loop);
    near.close();
    sink.close();
    let joined = all.joined.take().expect("the join has ended");
    let far = all.far_closed.take().expect("the far side has ended");
    Outcome {
        joined,
        far,
        received: seen.received.get(),
        ended: seen.ended.get(),
        sent: sent.get(),
    }
}

/// Calls `act` with the far side a hundred milliseconds after it was joined.
fn once_joined(lp: &tepal::Loop, run: Rc<Run>, act: impl FnOnce(&Transport) + 'static) {
    let far = run.far.borrow().clone();
    match far {
        Some(far) => drop(lp.call_later(Duration::from_millis(100), move |_| act(&far))),
        None => drop(lp.call_later(Duration::from_millis(1), move |lp| once_joined(lp, run, act))),
    }
}

struct Outcome {
    joined: std::io::Result<(u64, u64)>,
    far: Closed,
    received: usize,
    ended: bool,
    sent: usize,
}

#[test]
fn every_byte_arrives_whether_the_kernel_splices_refuses_or_cuts_short() {
    type Script = fn(&Faults);
    let scripts: [Script; 8] = [
        |_| {},
        |faults| faults.fail(Operation::Splice, 1, libc::ENOSYS),
        |faults| faults.fail(Operation::Splice, 2, libc::ENOSYS),
        |faults| faults.fail(Operation::Splice, 3, libc::ENOSYS),
        |faults| faults.fail(Operation::Splice, 8, libc::ENOSYS),
        |faults| faults.fail(Operation::Pipe, 1, libc::EMFILE),
        |faults| faults.short(Some(70_000)),
        |faults| faults.short(Some(300_000)),
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        with_faults_and_simulated(|event_loop, faults| {
            let name = event_loop.driver_name();
            script(faults);
            let outcome = relay(event_loop, Duration::from_millis(5), |_, _| {});
            let counts = outcome.joined.expect("ends cleanly");
            assert_eq!((counts, outcome.received), ((LEN as u64, 0), LEN), "{index} on {name}");
            assert!(outcome.ended && outcome.far.unsent == 0);
            let spliced = faults.count(Operation::Splice);
            // Without pipes none; and none where reads are seldom long enough.
            let may_copy = [5, 6, 7].contains(&index) || name == "sim";
            assert!(spliced > 0 || may_copy, "{index} on {name}: {spliced}");
        });
    }
}

#[test]
fn a_sink_that_does_not_read_holds_the_source_back() {
    with_faults_and_simulated(|event_loop, _| {
        let outcome = relay(event_loop, Duration::from_secs(3600), |run, seen| {
            let (run, seen) = (Rc::clone(run), Rc::clone(seen));
            once_joined(event_loop, Rc::clone(&run), move |far| {
                // No more than a mark and a read, whatever the kernel's own buffers hold.
                assert!(far.write_buffer_size() < 400_000, "{}", far.write_buffer_size());
                assert_eq!(seen.received.get(), 0);
                let sink = seen.transport.borrow();
                sink.as_ref().expect("connected").abort();
            });
        });
        let name = event_loop.driver_name();
        assert!(outcome.joined.is_err(), "on {name}");
        assert_eq!(outcome.far.kind, CloseKind::Reset, "on {name}: {:?}", outcome.far);
        assert!(outcome.sent <= LEN && outcome.received == 0);
    });
}

#[test]
fn closing_the_far_side_still_sends_what_waits_in_the_pipe() {
    with_faults_and_simulated(|event_loop, _| {
        let outcome = relay(event_loop, Duration::from_millis(400), |run, _| {
            let run = Rc::clone(run);
            // The sink sleeps, so all buffers are full by then.
            once_joined(event_loop, run, Transport::close);
        });
        let name = event_loop.driver_name();
        assert!(outcome.joined.is_err(), "on {name}");
        assert_eq!((outcome.far.kind, outcome.far.unsent), (CloseKind::Local, 0), "on {name}");
        assert!(outcome.ended && outcome.received > 0, "on {name}: {}", outcome.received);
    });
}
