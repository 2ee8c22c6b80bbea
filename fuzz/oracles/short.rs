//! The short ways through a chain against the whole way: a layer that offers them, and the same
//! layer behind a wrapper that hides them, are driven by the same operations and must not differ.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tepal_base::Instant;
use tepal_layers::check::{Bench, Pair, Seen};
use tepal_layers::{
    Error, ErrorKind, FromAbove, How, Idle, Info, Io, Layer, LayerSpec, LengthPrefixed, Limits,
    Lines, Passed, Place, RateLimit, Side, Site, Stack, Status, ToAbove, ToBelow, Turn, WriteEof,
};

use super::choices;
use super::records::both_ends;

/// Lists of operations: a code and a number each.
pub const LISTS: &[&[u8]] = &[
    b"\0\x05\x0a\0\0\x45\x0a\0\x02\x20\x0a\0\0\x81\x0a\0",
    b"\0\x3f\x01\x07\x0a\0\x02\xff\x02\x03\x0a\0\x04\0\0\x11\x0a\0\x05\0\x0a\0",
    b"\x02\x40\x0a\0\x08\x02\0\x09\0\x0a\0\x0b\x03\x09\0\x0a\0\x0c\0\0\x07\x0a\0",
    b"\x03\xff\x02\x08\x0a\0\0\xc1\x0a\0\x02\x04\x0a\0",
    b"\x02\x10\x0d\0\0\x08\x0a\0\0\x80\x0a\0",
    b"\x0f\x08\0\x03\x0a\0\0\x06\x0a\0\x06\xff\x0e\0\x0a\0",
];

/// Either a chain of a layer that is made for this, compared in every byte, or two that speak TLS.
pub fn short_ways(data: &[u8]) {
    let (choice, limit, list) = choices(data);
    let list = &list.as_chunks::<2>().0[..(list.len() / 2).min(100)];
    if choice & 0x80 == 0 {
        one_end(choice, limit, list);
    } else {
        two_ends(choice, limit, list);
    }
}

/// A spec whose layers are steps only.
#[derive(Debug)]
struct Whole(Arc<dyn LayerSpec>);

struct WholeLayer(Box<dyn Layer>);

impl LayerSpec for Whole {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(WholeLayer(self.0.build(site)?)))
    }
}

impl Layer for WholeLayer {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        self.0.step(io)
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }

    fn keeps_writes(&self) -> bool {
        self.0.keeps_writes()
    }

    fn passes_on(&self) -> bool {
        self.0.passes_on()
    }

    fn write_eof(&self) -> WriteEof {
        self.0.write_eof()
    }

    fn handle_command(&mut self, command: &dyn Any) -> Result<(), Error> {
        self.0.handle_command(command)
    }
}

/// Records of up to 63 bytes behind a byte with their length and kind, under a key that changes
/// with each: what TLS is, without its chance.
#[derive(Clone, Debug, Default)]
struct Records {
    key_in: u8,
    key_out: u8,
    ended: bool,
    answer: Vec<u8>,
    failed: bool,
}

const LEN: u8 = 0x3f;
const ASKS: u8 = 0x40;
const ENDS: u8 = 0x80;
const FAILS: u8 = 0xc0;

impl Records {
    fn open(&mut self, head: u8, body: &mut [u8], to: &mut ToAbove<'_>) {
        match head & !LEN {
            ENDS => self.ended = true,
            FAILS => self.failed = true,
            kind => {
                body.iter_mut().for_each(|byte| *byte ^= self.key_in);
                to.push(body);
                if kind == ASKS {
                    self.seal(b"!", self.key_in);
                }
            }
        }
        self.key_in = self.key_in.wrapping_add(1);
    }

    fn seal(&mut self, plain: &[u8], salt: u8) {
        self.answer.push(plain.len() as u8);
        self.answer.extend(plain.iter().map(|byte| byte ^ self.key_out ^ salt));
        self.key_out = self.key_out.wrapping_add(1);
    }

    fn send(&mut self, piece: &[u8], to: &mut ToBelow<'_>) -> usize {
        let count = piece.len().min(LEN.into());
        self.seal(&piece[..count], 0);
        to.send(&std::mem::take(&mut self.answer));
        count
    }
}

impl LayerSpec for Records {
    fn name(&self) -> &'static str {
        "records"
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Layer for Records {
    fn name(&self) -> &'static str {
        "records"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        while !(self.ended || self.failed) && io.to_above.may_push() {
            let bytes = io.from_below.bytes();
            let Some((&mut head, body)) = bytes.split_first_mut() else { break };
            let len = usize::from(head & LEN);
            match body.get_mut(..len) {
                Some(body) => {
                    self.open(head, body, &mut io.to_above);
                    io.from_below.consume(1 + len);
                    if self.ended {
                        io.to_above.push_eof();
                    }
                }
                None => {
                    io.from_below.need(1 + len);
                    break;
                }
            }
        }
        if !self.answer.is_empty() {
            io.to_below.send(&std::mem::take(&mut self.answer));
        }
        if self.failed {
            return Err(Error::remote(ErrorKind::FrameMalformed, "the record says so"));
        }
        while !io.from_above.is_empty() && io.to_below.room() > 0 {
            let count = self.send(io.from_above.bytes(), &mut io.to_below);
            io.from_above.consume(count);
        }
        match io.finishing() {
            true => Ok(Status::Done(How::Closed)),
            false => Ok(Status::Open),
        }
    }

    fn receive_only(&mut self, bytes: &mut [u8], to_above: &mut ToAbove<'_>) -> Option<Passed> {
        let calm = self.answer.is_empty() && !self.ended && !self.failed;
        let (&mut head, body) = bytes.split_first_mut().filter(|_| calm)?;
        let len = usize::from(head & LEN);
        // The end and the failure are told by a step, which then finds nothing else.
        let body = body.get_mut(..len).filter(|_| head & ENDS == 0)?;
        self.open(head, body, to_above);
        Some(Passed { used: 1 + len, more: !self.answer.is_empty() })
    }

    fn send_only(
        &mut self,
        from_above: &mut FromAbove<'_>,
        to_below: &mut ToBelow<'_>,
    ) -> Result<bool, Error> {
        let plain = self.answer.is_empty() && !self.failed;
        let mut sent = false;
        while plain && !from_above.is_empty() && to_below.room() > 0 {
            let count = self.send(from_above.bytes(), to_below);
            from_above.consume(count);
            sent = true;
        }
        Ok(sent)
    }
}

fn stack_of(choice: u8, whole: bool) -> Stack {
    let records = Records::default();
    let mut stack = Stack::new();
    if choice & 1 == 1 {
        stack = stack.with(RateLimit::new().read(200_000).write(300_000));
    }
    if choice & 8 == 8 {
        stack = stack.with(LengthPrefixed::new(1000).width(1));
    }
    stack = match whole {
        true => stack.with(Whole(Arc::new(records))),
        false => stack.with(records),
    };
    if choice & 2 == 2 {
        stack = stack.with(Idle::new(Duration::from_secs(1)));
    }
    if choice & 4 == 4 {
        stack = stack.with(Lines::new(1000));
    }
    stack
}

fn one_end(choice: u8, limit: u8, list: &[[u8; 2]]) {
    let limits = Limits { link: 1 + usize::from(limit) * 20, ..Limits::default() };
    let place = Place::new(Side::Server);
    let bench = |whole| Bench::at(&stack_of(choice, whole), &place, limits).expect("good settings");
    let mut twins = [bench(false), bench(true)];
    // A short way costs less of the budget, so under one the two are at different places.
    let mut budgeted = false;
    let mut keys = 0;
    for &[code, number] in list {
        // Each wants the same bytes: what is made up is made once.
        let record = record(number, &mut keys, code);
        for bench in &mut twins {
            operate(bench, code, number, &record);
        }
        budgeted |= code & 15 == 8;
        let [short, whole] = &twins;
        if !budgeted {
            assert_eq!(short.seen, whole.seen);
            assert_eq!(short.wire, whole.wire);
        }
        // What a layer has to say behind a short way is for the step that follows.
        if !budgeted && code & 15 == 10 {
            let state = |bench: &Bench| {
                let chain = &bench.chain;
                let lens = (chain.read_len(), chain.write_len(), chain.output().len());
                (lens, chain.wants_read(), chain.deadline(), chain.error().cloned())
            };
            assert_eq!(state(short), state(whole));
        }
    }
    for bench in &mut twins {
        bench.chain.set_budget(usize::MAX);
        bench.chain.resume_reading();
        bench.settle();
        for _ in 0..100 {
            bench.pass_time(Duration::from_secs(1));
        }
        bench.receive_eof();
    }
    let [short, whole] = &twins;
    assert_eq!(short.seen, whole.seen);
    assert_eq!(short.wire, whole.wire);
}

fn record(number: u8, keys: &mut u8, code: u8) -> Vec<u8> {
    let len = number & LEN;
    let mut record = vec![number];
    record.extend((0..len).map(|at| at.wrapping_mul(7) ^ code ^ *keys));
    *keys = keys.wrapping_add(1);
    record
}

fn operate(bench: &mut Bench, code: u8, number: u8, record: &[u8]) {
    let workspace = Rc::clone(&bench.workspace);
    let turn = Turn::new(bench.now, &workspace);
    match code & 15 {
        0 => bench.chain.receive(turn, &mut record.to_vec()),
        // A part of one, and the next has to wait for the rest.
        1 => {
            let part = record.len() / 2;
            bench.chain.receive(turn, &mut record[..part].to_vec());
            bench.chain.receive(turn, &mut record[part..].to_vec());
        }
        2 | 3 => {
            let len = usize::from(number) << (4 * (code & 1));
            // Refused after an end, by both alike: the state that is compared says so.
            let bytes: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
            drop(bench.chain.write(&bytes, turn));
        }
        4 => bench.chain.pause_reading(),
        5 => bench.chain.resume_reading(),
        6 => drop(bench.pass_time(Duration::from_millis(number.into()))),
        7 => bench.chain.receive(turn, &mut [record, record].concat()),
        8 => bench.chain.set_budget(usize::from(number) * 20),
        9 => bench.chain.set_budget(usize::MAX),
        11 => {
            // One event, of which not all is used.
            if let Some(tepal_layers::Event::Data) = bench.chain.poll_event(turn) {
                let data = bench.chain.data();
                let count = data.len().min(number.into());
                // A frame is used whole or not at all.
                let count = if bench.chain.is_frame() && count < data.len() { 0 } else { count };
                bench.seen.push(Seen::Data(data[..count].to_vec()));
                bench.chain.took(count, turn);
            }
        }
        12 => drop(bench.chain.write_eof()),
        13 => bench.chain.close(),
        14 => bench.chain.receive_eof(turn),
        15 => assert!(bench.chain.set_read_low(number.into()).is_ok()),
        _ => bench.settle(),
    }
}

// Ciphertext is another in each run, but as long as in the other.
fn two_ends(choice: u8, limit: u8, list: &[[u8; 2]]) {
    let limits = Limits { link: 1 + usize::from(limit) * 200, ..Limits::default() };
    let places = (Place::new(Side::Client), Place::new(Side::Server));
    let pair = |whole: bool| {
        let stack = |tls: &tepal_layers::Tls| {
            let stack = match whole {
                true => Stack::new().with(Whole(Arc::new(tls.clone()))),
                false => Stack::new().with(tls.clone()),
            };
            if choice & 4 == 4 { stack.with(Lines::new(10_000)) } else { stack }
        };
        let (client, server) = both_ends();
        let stacks = (stack(client), stack(server));
        let mut pair = Pair::at((&stacks.0, &places.0), (&stacks.1, &places.1), limits)
            .expect("good settings");
        pair.run();
        // A signature's length is chance.
        (pair.upstream, pair.downstream) = (Vec::new(), Vec::new());
        pair
    };
    let mut twins = [pair(false), pair(true)];
    for &[code, number] in list {
        for pair in &mut twins {
            let side = if code & 0x80 == 0 { &mut pair.client } else { &mut pair.server };
            match code & 15 {
                // Nobody but a peer makes records: these are for the other oracle.
                0 | 1 | 7 | 14 => pair.run(),
                6 => pair.pass_time(Duration::from_millis(number.into())),
                10 => pair.piece = usize::from(number),
                code => operate(side, code, number, &[]),
            }
        }
    }
    for pair in &mut twins {
        for side in [&mut pair.client, &mut pair.server] {
            side.chain.set_budget(usize::MAX);
            side.chain.resume_reading();
        }
        pair.run();
        pair.pass_time(Duration::from_secs(60));
    }
    let told = |pair: &Pair| {
        let ends = [&pair.client, &pair.server].map(|side| (side.seen.clone(), side.data()));
        (ends, pair.upstream.len(), pair.downstream.len())
    };
    assert_eq!(told(&twins[0]), told(&twins[1]));
}
