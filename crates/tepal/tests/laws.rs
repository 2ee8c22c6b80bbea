//! What must hold whatever the kernel does: every byte once and in order, one beginning and one
//! end per connection, nothing left behind. The same program runs on the kernel of this machine
//! and on a simulated one that is as unfriendly as POSIX allows, for many seeds.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::{address, on_every_driver};
use layered::tls_pair;
use tepal::{
    CloseKind, Closed, EventLoop, Late, LayerSpec, Listen, Loop, Protocol, RateLimit, Residual,
    Stack, Target, Transport,
};
use tepal_sim::{Config, Disturbance, SimDriver};

/// A small generator, so that a seed names a run.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit
    }
}

/// What one side of a connection is told, in order.
#[derive(Default, Debug)]
struct Story {
    made: u32,
    established: u32,
    ended: u32,
    lost: u32,
    received: Vec<u8>,
    closed: Option<Closed>,
}

impl Story {
    fn check_order(&self, event: &str) {
        assert_eq!(self.lost, 0, "{event} after connection_lost");
        assert!(event == "made" || self.made == 1, "{event} before connection_made");
    }
}

/// Sends a seeded stream in pieces of any size, and uses what it gets in counts of any size.
struct Side {
    story: Rc<RefCell<Story>>,
    random: Random,
    to_send: Vec<u8>,
    sent: usize,
    held: bool,
    echo: bool,
    // Puts layers in and takes them out meanwhile.
    changes: bool,
    done: Rc<dyn Fn(&Loop)>,
}

impl Side {
    fn pump(&mut self, transport: &Transport) {
        while !self.held && self.sent < self.to_send.len() {
            let most = [7, 100, 3000, 40_000][self.random.below(4)];
            let end = (self.sent + 1 + self.random.below(most)).min(self.to_send.len());
            let piece = &self.to_send[self.sent..end];
            let crossing = match self.random.below(3) {
                0 => transport.write_segment(piece.to_vec()),
                _ => transport.write(piece),
            };
            self.sent = end;
            self.held = crossing == tepal::Crossing::High;
        }
        if self.sent == self.to_send.len() && !self.echo {
            transport.write_eof().expect("open until the peer ends too");
        }
    }
}

impl Side {
    // A passive layer comes, on top or at the wire, or goes. What cannot be now is refused.
    fn change(&mut self, transport: &Transport) {
        let spec: Arc<dyn LayerSpec> = Arc::new(RateLimit::new().write(1 << 40));
        let names = transport.layers();
        match self.random.below(10) {
            0 if names.len() < 10 => {
                drop(transport.push_layer_with(&spec, None, Residual::Feed));
            }
            1 if names.len() < 10 => {
                let lowest = names.first().copied();
                drop(transport.push_layer_with(&spec, lowest, Residual::Feed));
            }
            2 | 3 => {
                drop(transport.pop_layer(Some("rate"), Duration::from_secs(1), Late::Close));
            }
            _ => {}
        }
    }
}

impl Protocol for Side {
    fn connection_made(&mut self, transport: &Transport) {
        let mut story = self.story.borrow_mut();
        story.check_order("made");
        story.made += 1;
        transport.set_write_buffer_limits(1000, 5000).expect("in order");
    }

    fn connection_established(&mut self, transport: &Transport) {
        self.story.borrow_mut().check_order("established");
        self.story.borrow_mut().established += 1;
        self.pump(transport);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.story.borrow_mut().check_order("data");
        if self.changes {
            self.change(transport);
        }
        assert!(transport.is_reading() && !data.is_empty());
        let used = match self.random.below(4) {
            0 => data.len(),
            1 => data.len().min(1),
            _ => 1 + self.random.below(data.len()),
        };
        self.story.borrow_mut().received.extend_from_slice(&data[..used]);
        if self.echo {
            transport.write(&data[..used]);
        }
        if self.random.below(8) == 0 {
            transport.pause_reading();
            let transport = transport.clone();
            let delay = Duration::from_micros(self.random.below(300) as u64);
            transport.event_loop().clone().call_later(delay, move |_| transport.resume_reading());
        }
        used
    }

    fn eof_received(&mut self, _: &Transport) -> bool {
        let mut story = self.story.borrow_mut();
        story.check_order("eof");
        story.ended += 1;
        false
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.story.borrow_mut().check_order("pause");
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.story.borrow_mut().check_order("resume");
        self.held = false;
        self.pump(transport);
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        {
            let mut story = self.story.borrow_mut();
            story.check_order("lost");
            story.lost += 1;
            story.closed = Some(closed.clone());
        }
        (self.done)(transport.event_loop());
    }
}

/// Runs `count` connections of seeded streams against an echo, all in one loop.
fn echo_of_seeded_streams(event_loop: &EventLoop, seed: u64, count: usize, len: usize) {
    let plain = (Stack::new(), Stack::new());
    echo_over_stacks(event_loop, seed, (count, len), plain, false);
}

/// The same over layers, which change meanwhile if it is wanted.
fn echo_over_stacks(
    event_loop: &EventLoop,
    seed: u64,
    (count, len): (usize, usize),
    (up, down): (Stack, Stack),
    changes: bool,
) {
    let kind = match up.names().any(|name| name == "tls") {
        true => CloseKind::PeerClosedLayer,
        false => CloseKind::PeerEof,
    };
    let mut random = Random(seed);
    let sides = Rc::new(RefCell::new(2 * count));
    let done: Rc<dyn Fn(&Loop)> = Rc::new(move |lp| {
        *sides.borrow_mut() -= 1;
        if *sides.borrow() == 0 {
            lp.stop();
        }
    });
    let stories: Rc<RefCell<Vec<Rc<RefCell<Story>>>>> = Rc::default();
    let (log, end, mut chance) = (Rc::clone(&stories), Rc::clone(&done), random.clone());
    let server = event_loop
        .listen(
            move |_| {
                let story: Rc<RefCell<Story>> = Rc::default();
                log.borrow_mut().push(Rc::clone(&story));
                Side {
                    story,
                    random: Random(chance.below(1 << 30) as u64),
                    to_send: Vec::new(),
                    sent: 0,
                    held: false,
                    echo: true,
                    changes,
                    done: Rc::clone(&end),
                }
            },
            Listen::on("127.0.0.1:0").stack(down),
        )
        .expect("listens");
    let mut clients = Vec::new();
    for _ in 0..count {
        let to_send: Vec<u8> = (0..random.below(len)).map(|_| random.below(256) as u8).collect();
        let story: Rc<RefCell<Story>> = Rc::default();
        clients.push((Rc::clone(&story), to_send.clone()));
        let random = Random(random.below(1 << 30) as u64);
        let done = Rc::clone(&done);
        let side =
            Side { story, random, to_send, sent: 0, held: false, echo: false, changes, done };
        event_loop.connect(side, Target::address(address(&server)).stack(up.clone()));
    }
    // In the simulation this is virtual time: a hang ends at once.
    let limit = event_loop.call_later(Duration::from_secs(60), |_| panic!("it hangs"));
    event_loop.set_panic_hook(|panic| std::panic::resume_unwind(panic));
    event_loop.run_forever().expect("the loop runs");
    limit.cancel();
    server.close();

    for (story, sent) in &clients {
        let story = story.borrow();
        assert!(story.received == *sent, "seed {seed}: bytes came back wrong");
        let told = (story.made, story.established, story.ended, story.lost);
        let far: Vec<_> = stories.borrow().iter().map(|s| s.borrow().closed.clone()).collect();
        assert_eq!(told, (1, 1, 1, 1), "seed {seed}: {:?} {far:?}", story.closed);
        let closed = story.closed.as_ref().expect("a record");
        assert_eq!((closed.kind, closed.unsent, closed.unread), (kind, 0, 0));
    }
    assert_eq!(stories.borrow().len(), count);
    for story in &*stories.borrow() {
        let story = story.borrow();
        assert_eq!((story.made, story.established, story.lost), (1, 1, 1));
    }
}

#[test]
fn every_byte_comes_once_and_in_order_on_this_kernel() {
    on_every_driver(|event_loop| {
        for seed in 0..3 {
            echo_of_seeded_streams(event_loop, seed, 20, 200_000);
        }
    });
}

#[test]
fn every_byte_comes_once_and_in_order_on_a_hostile_kernel() {
    for seed in 0..150 {
        let mut config = Config::seeded(seed);
        config.disturbance = Disturbance::stormy();
        let driver = SimDriver::with(config);
        let kernel = driver.kernel().clone();
        let event_loop = EventLoop::with_driver(Box::new(driver));
        echo_of_seeded_streams(&event_loop, seed, 4, 20_000);
        drop(event_loop);
        let ledger = kernel.ledger();
        assert_eq!((ledger.open_descriptors, ledger.registered), (0, 0), "seed {seed}: {ledger:?}");
        assert_eq!(ledger.leaked_descriptors, 0, "seed {seed}: {ledger:?}");
    }
}

#[test]
fn every_byte_comes_once_and_in_order_through_layers_that_come_and_go() {
    let (client, server) = tls_pair();
    let rate = || RateLimit::new().write(1 << 40).read(1 << 40);
    let stacks = [
        (Stack::new(), Stack::new()),
        (Stack::new().with(rate()), Stack::new().with(rate())),
        (Stack::new().with(client.clone()), Stack::new().with(server.clone())),
        (Stack::new().with(rate()).with(client), Stack::new().with(server).with(rate())),
    ];
    on_every_driver(|event_loop| {
        for (seed, stacks) in (0..).zip(&stacks) {
            echo_over_stacks(event_loop, seed, (10, 200_000), stacks.clone(), true);
        }
    });
    for seed in 0..80 {
        let mut config = Config::seeded(seed);
        config.disturbance = Disturbance::stormy();
        let driver = SimDriver::with(config);
        let kernel = driver.kernel().clone();
        let event_loop = EventLoop::with_driver(Box::new(driver));
        let stacks = stacks[seed as usize % stacks.len()].clone();
        echo_over_stacks(&event_loop, seed, (3, 20_000), stacks, true);
        drop(event_loop);
        let ledger = kernel.ledger();
        assert_eq!((ledger.open_descriptors, ledger.registered), (0, 0), "seed {seed}: {ledger:?}");
    }
}

#[test]
fn a_day_of_timers_passes_at_once_in_virtual_time_and_none_is_early() {
    let event_loop = EventLoop::with_driver(Box::new(SimDriver::new(1)));
    let fired = Rc::new(RefCell::new(Vec::new()));
    let mut random = Random(7);
    for n in 0..10_000usize {
        let deadline =
            event_loop.time() + Duration::from_nanos(random.below(86_400_000_000_000) as u64);
        let log = Rc::clone(&fired);
        event_loop.call_at(deadline, move |lp| {
            assert_eq!(lp.time(), deadline, "virtual time stops exactly at each deadline");
            log.borrow_mut().push((deadline, n));
        });
    }
    event_loop.call_later(Duration::from_secs(86_400), |lp| lp.stop());
    event_loop.set_panic_hook(|panic| std::panic::resume_unwind(panic));
    event_loop.run_forever().expect("runs");
    assert_eq!(fired.borrow().len(), 10_000);
    assert!(fired.borrow().is_sorted_by_key(|entry| entry.0));
}

#[test]
fn waiting_for_nothing_in_the_simulation_is_an_error_and_no_hang() {
    let event_loop = EventLoop::with_driver(Box::new(SimDriver::new(1)));
    let error = event_loop.run_forever().expect_err("nothing can ever happen");
    assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
    event_loop.call_soon(|lp| lp.stop());
    event_loop.run_forever().expect("the loop can run again");
}
