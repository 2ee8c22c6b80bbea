//! Layers in any order above each other, over a wire that takes and brings bytes when it likes:
//! nothing may stand still, and frames stay frames. Each seed is one run.
#![cfg(feature = "tls")]

mod common;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tepal_layers::check::{Bench, Shift};
use tepal_layers::{
    Event, Idle, LengthPrefixed, Limits, Lines, Netstrings, Place, RateLimit, Side, Stack, Tap,
    Turn,
};

/// A small generator (splitmix64), so that a seed is a run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) % end.max(1) as u64) as usize
    }
}

/// Two to five layers, the same for both ends, and whether frames come out at the top as they went
/// in: some layer makes frames, and none above it is without an idea of them.
fn stacks(chance: &mut Chance) -> (Stack, Stack, bool) {
    let (mut up, mut down) = (Stack::new(), Stack::new());
    let (mut framed, mut lines) = (false, false);
    for _ in 0..2 + chance.below(4) {
        macro_rules! both {
            ($spec:expr) => {{
                up = up.with($spec);
                down = down.with($spec);
            }};
        }
        match chance.below(8) {
            0 => both!(Idle::new(Duration::from_secs(3600))),
            1 => both!(Tap::text(|_| {})),
            2 => both!(RateLimit::new().read(3_000_000).write(2_000_000)),
            3 => {
                both!(Shift(0));
                framed = false;
            }
            // What TLS, a length or another line makes of bytes is no line.
            4 | 5 | 7 if lines => both!(Netstrings::new(4 << 20)),
            4 => {
                up = up.with(common::client().server_name("server.test").build().unwrap());
                down = down.with(common::server().build().unwrap());
                framed = false;
                continue;
            }
            5 => both!(LengthPrefixed::new(4 << 20)),
            6 => both!(Netstrings::new(4 << 20)),
            _ => {
                both!(Lines::new(4 << 20));
                lines = true;
            }
        }
        let top = up.names().last();
        framed |= top.is_some_and(|name| ["lines", "length", "netstrings"].contains(&name));
    }
    (up, down, framed)
}

/// One end: its chain, what it is to read, and what its protocol has got.
struct End {
    bench: Bench,
    wire: VecDeque<u8>,
    got: Vec<Vec<u8>>,
    closed: bool,
}

impl End {
    fn new(stack: &Stack, side: Side, limits: Limits) -> End {
        let bench = Bench::at(stack, &Place::new(side), limits).unwrap();
        End { bench, wire: VecDeque::new(), got: Vec::new(), closed: false }
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut Bench, Turn<'_>) -> T) -> T {
        let workspace = Rc::clone(&self.bench.workspace);
        let turn = Turn::new(self.bench.now, &workspace);
        act(&mut self.bench, turn)
    }

    fn poll(&mut self) {
        while let Some(event) = self.turn(|bench, turn| bench.chain.poll_event(turn)) {
            match event {
                Event::Data => {
                    let data = self.bench.chain.data().to_vec();
                    self.turn(|bench, turn| bench.chain.took(data.len(), turn));
                    self.got.push(data);
                }
                Event::Failed(error) => panic!("{error:?} {:?}", self.bench.chain),
                Event::Closed => self.closed = true,
                _ => {}
            }
        }
    }

    fn send(&mut self, most: usize, to: &mut End) {
        let output = self.bench.chain.output().to_vec();
        let count = output.len().min(most);
        to.wire.extend(&output[..count]);
        self.turn(|bench, turn| bench.chain.sent(count, turn));
        self.poll();
    }

    fn receive(&mut self, most: usize) -> bool {
        if !self.bench.chain.wants_read() || self.wire.is_empty() {
            return false;
        }
        let count = self.wire.len().min(most);
        let mut bytes: Vec<u8> = self.wire.drain(..count).collect();
        self.turn(|bench, turn| bench.chain.receive(turn, &mut bytes));
        self.poll();
        true
    }
}

/// Moves everything that can move, and the clock where nothing else can.
fn settle(ends: &mut [End; 2], done: impl Fn(&[End; 2]) -> bool) {
    for _ in 0..200_000 {
        let [one, other] = ends;
        one.send(usize::MAX, other);
        other.send(usize::MAX, one);
        let moved = one.receive(100_000) | other.receive(100_000);
        if moved || !one.bench.chain.output().is_empty() || !other.bench.chain.output().is_empty() {
            continue;
        }
        if done(ends) {
            return;
        }
        let due = ends.iter().filter_map(|end| end.bench.chain.deadline()).min();
        let chains = ends.each_ref().map(|end| &end.bench.chain);
        let now = due.unwrap_or_else(|| panic!("something stands still: {chains:?}"));
        for end in ends.iter_mut() {
            end.bench.now = end.bench.now.max(now);
            end.turn(|bench, turn| bench.chain.handle_timeout(turn));
            end.poll();
        }
        let span = ends[0].bench.now.since(tepal_base::Instant::from_nanos(1_000_000_000));
        assert!(span < Duration::from_secs(3000), "something stands still");
    }
    panic!("it never comes to rest");
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let (up, down, framed) = stacks(&mut chance);
    let limits = Limits { link: [200, 1000, 5000, 64 << 10][chance.below(4)], ..Limits::default() };
    let what = format!("seed {seed}: {up:?}, link {}", limits.link);
    println!("{what}");
    let mut ends = [End::new(&up, Side::Client, limits), End::new(&down, Side::Server, limits)];
    let mut written: [Vec<Vec<u8>>; 2] = Default::default();
    for _ in 0..20 + chance.below(60) {
        let at = chance.below(2);
        let [one, other] = &mut ends;
        let (own, peer) = if at == 0 { (one, other) } else { (other, one) };
        match chance.below(10) {
            0..=3 => {
                let most = [1, 50, 3000, 150_000][chance.below(4)];
                let len = chance.below(most);
                let byte = b'a' + chance.below(26) as u8;
                let bytes = vec![byte; len];
                own.turn(|bench, turn| bench.chain.write(&bytes, turn)).unwrap();
                own.poll();
                if framed || len > 0 {
                    written[at].push(bytes);
                }
            }
            4 => own.bench.chain.pause_reading(),
            5 => {
                own.bench.chain.resume_reading();
                own.poll();
            }
            6 | 7 => own.send(1 + chance.below(70_000), peer),
            _ => drop(own.receive(1 + chance.below(70_000))),
        }
    }
    for end in &mut ends {
        end.bench.chain.resume_reading();
        end.poll();
    }
    let total = |all: &[Vec<u8>]| all.iter().map(Vec::len).sum::<usize>();
    let (sums, counts) =
        (written.each_ref().map(|all| total(all)), written.each_ref().map(Vec::len));
    settle(&mut ends, |[client, server]| {
        let came = |end: &End, from: usize| match framed {
            true => end.got.len() >= counts[from],
            false => total(&end.got) >= sums[from],
        };
        let left = |end: &End| end.bench.chain.write_len() > 0;
        came(server, 0) && came(client, 1) && !left(server) && !left(client)
    });
    for (end, written) in [(&ends[1], &written[0]), (&ends[0], &written[1])] {
        match framed {
            true => {
                let lens = |all: &[Vec<u8>]| all.iter().map(Vec::len).collect::<Vec<_>>();
                let (got, sent) = (lens(&end.got), lens(written));
                assert!(end.got == *written, "{what}: frames {got:?} of {sent:?}");
            }
            false => assert!(end.got.concat() == written.concat(), "{what}: bytes differ"),
        }
        assert_eq!(end.bench.chain.write_len(), 0, "{what}");
    }
    ends.iter_mut().for_each(|end| end.bench.chain.close());
    ends.iter_mut().for_each(End::poll);
    settle(&mut ends, |ends| ends.iter().all(|end| end.closed));
}

#[test]
fn any_layers_in_any_order_carry_frames_and_bytes_and_end() {
    for seed in 0..32 {
        run(seed);
    }
}
