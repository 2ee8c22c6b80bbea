//! Rates over ten seconds of the loop's clock: one connection's, in either direction and in both,
//! and one that several share.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use layered::{Call, Log, Script};
use tepal::layers::Group;
use tepal::{Crossing, EventLoop, Listen, Loop, RateLimit, Stack, Target, Transport};

const SPAN: Duration = Duration::from_secs(10);
const RATE: u64 = 200_000;
const BLOCK: usize = 8 * 1024;
/// Where a protocol is told to pause, unless it has set another mark.
const HIGH: usize = 64 * 1024;

/// A kind of limit: the layers of both ends, how many connections have them, and what all of these
/// together read of each other in a second.
struct Kind {
    name: &'static str,
    client: Stack,
    server: Stack,
    connections: usize,
    to_server: Option<u64>,
    to_client: Option<u64>,
}

fn kinds() -> Vec<Kind> {
    let of = |limit: RateLimit| Stack::new().with(limit);
    let limit = RateLimit::new;
    let all_write = Group::new().write(RATE);
    let all_read = Group::new().read(RATE);
    let kind = |name, client, server, connections, to_server, to_client| Kind {
        name,
        client,
        server,
        connections,
        to_server,
        to_client,
    };
    vec![
        kind("written", of(limit().write(RATE)), Stack::new(), 1, Some(RATE), None),
        kind("read", Stack::new(), of(limit().read(RATE)), 1, Some(RATE), None),
        kind(
            "both ways",
            of(limit().write(RATE).read(RATE / 4)),
            Stack::new(),
            1,
            Some(RATE),
            Some(RATE / 4),
        ),
        kind(
            "written by a group",
            of(limit().group(&all_write)),
            Stack::new(),
            3,
            Some(RATE),
            None,
        ),
        kind("read by a group", Stack::new(), of(limit().group(&all_read)), 3, Some(RATE), None),
        // Its own limit binds a connection of a group, where that is the lower one.
        kind(
            "of each in a group",
            of(limit().write(RATE / 10).group(&Group::new().write(RATE))),
            Stack::new(),
            3,
            Some(3 * (RATE / 10)),
            None,
        ),
    ]
}

/// Writes as much as the marks allow, and counts what comes.
struct End {
    sends: bool,
    sent: Cell<usize>,
    received: Cell<usize>,
}

impl End {
    fn pump(&self, transport: &Transport) {
        if !self.sends {
            return;
        }
        loop {
            let block: Vec<u8> = (self.sent.get()..).take(BLOCK).map(byte_at).collect();
            self.sent.set(self.sent.get() + BLOCK);
            let crossing = transport.write(&block);
            assert!(transport.write_buffer_size() <= HIGH + BLOCK, "what waits is bounded");
            if crossing == Crossing::High {
                return;
            }
        }
    }

    fn take(&self, data: &[u8]) {
        let from = self.received.get();
        assert!(data.iter().copied().eq((from..).take(data.len()).map(byte_at)), "out of order");
        self.received.set(from + data.len());
    }
}

fn byte_at(place: usize) -> u8 {
    (place % 251) as u8
}

/// All connections of all kinds, which begin to send at one moment.
#[derive(Default)]
struct Scene {
    missing: Cell<usize>,
    ends: RefCell<Vec<(Transport, Rc<End>)>>,
}

impl Scene {
    /// A protocol of one end, and its count. The bytes that come are the other end's.
    fn script(
        self: &Rc<Self>,
        sends: bool,
    ) -> (Rc<End>, impl FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static) {
        let end = Rc::new(End { sends, sent: Cell::new(0), received: Cell::new(0) });
        let (scene, own) = (Rc::clone(self), Rc::clone(&end));
        self.missing.set(self.missing.get() + 1);
        let act = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    scene.ends.borrow_mut().push((transport.clone(), Rc::clone(&own)));
                    scene.missing.set(scene.missing.get() - 1);
                    if scene.missing.get() == 0 {
                        scene.start(transport.event_loop());
                    }
                }
                Call::Resume => own.pump(transport),
                Call::Data(data) => own.take(data),
                _ => {}
            }
            None
        };
        (end, act)
    }

    fn start(&self, event_loop: &Loop) {
        for (transport, end) in self.ends.borrow().iter() {
            end.pump(transport);
        }
        event_loop.call_later(SPAN, Loop::stop);
    }
}

/// Adds up by how much the loop was late, as far as a limit that may catch up for a twentieth of a
/// second cannot catch up.
fn watch_lateness(event_loop: &Loop, late: &Rc<Cell<Duration>>) {
    const TICK: Duration = Duration::from_millis(5);
    const CATCHES_UP: Duration = Duration::from_millis(40);
    let (late, due) = (Rc::clone(late), event_loop.time() + TICK);
    event_loop.call_later(TICK, move |lp| {
        late.set(late.get() + lp.time().since(due).saturating_sub(CATCHES_UP));
        watch_lateness(lp, &late);
    });
}

/// Holds all limits for ten seconds, and tells each kind's name, what it was to pass, and what it
/// passed.
fn hold(event_loop: &EventLoop) -> Vec<(&'static str, u64, u64)> {
    let scene = Rc::new(Scene::default());
    let mut counted = Vec::new();
    let mut listeners = Vec::new();
    for kind in kinds() {
        let (up, down): (Vec<_>, Vec<_>) = (0..kind.connections)
            .map(|_| {
                (scene.script(kind.to_server.is_some()), scene.script(kind.to_client.is_some()))
            })
            .unzip();
        let (down, mut acts): (Vec<_>, Vec<_>) = down.into_iter().unzip();
        let factory = move |_: &tepal::Address| {
            Script::with_log(&Log::default(), acts.pop().expect("as many as connect"))
        };
        let listen = Listen::on("127.0.0.1:0").stack(kind.server);
        let listener = event_loop.listen(factory, listen).expect("listens");
        let target = Target::address(common::address(&listener)).stack(kind.client);
        listeners.push(listener);
        let mut clients = Vec::new();
        for (end, act) in up {
            clients.push(end);
            event_loop.connect(Script::with_log(&Log::default(), act), target.clone());
        }
        counted.push((kind.name, kind.to_server, down));
        counted.push((kind.name, kind.to_client, clients));
    }
    common::run(event_loop);
    let passed = counted.into_iter().filter_map(|(name, rate, ends)| {
        let counts: Vec<u64> = ends.iter().map(|end| end.received.get() as u64).collect();
        let (all, wanted) = (counts.iter().sum(), rate? * SPAN.as_secs());
        let fair = wanted / counts.len() as u64 / 2;
        assert!(counts.iter().all(|count| *count > fair), "{name} starves one: {counts:?}");
        Some((name, wanted, all))
    });
    let passed = passed.collect();
    for (transport, _) in scene.ends.take() {
        transport.abort();
    }
    passed
}

#[test]
fn every_kind_of_limit_holds_its_rate_within_one_percent_over_ten_simulated_seconds() {
    let kernel = tepal_sim::SimKernel::new(tepal_sim::Config::seeded(7));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    for (name, wanted, passed) in hold(&event_loop) {
        assert!(passed.abs_diff(wanted) * 100 <= wanted, "{name}: {passed} of {wanted}");
    }
}

#[test]
fn every_kind_of_limit_holds_its_rate_within_one_percent_over_ten_real_seconds() {
    let event_loop = EventLoop::new().expect("a loop");
    let late = Rc::new(Cell::new(Duration::ZERO));
    watch_lateness(&event_loop, &late);
    for (name, wanted, passed) in hold(&event_loop) {
        // A machine that did not let the loop run in time has not been limited by us.
        let stood = (late.get().as_secs_f64() * wanted as f64 / SPAN.as_secs_f64()) as u64;
        let least = wanted - wanted / 100 - stood;
        let right = least..=wanted + wanted / 100;
        assert!(right.contains(&passed), "{name}: {passed} of {wanted}, {:?} late", late.get());
    }
}
