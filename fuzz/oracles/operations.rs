//! Random operations on chains, against the laws: what is written arrives once and in order as far
//! as it arrives, every end is told once and is the last thing told, and nothing is left behind.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tepal_layers::check::{Bench, Pair, Seen, Shift};
use tepal_layers::{
    ErrorKind, Idle, Late, LayerSpec, Limits, Notice, Place, RateLimit, Residual, Side, Stack,
    Turn, Which,
};

use super::choices;
use super::records::both_ends;

/// Lists of operations: a code and a number each.
pub const LISTS: &[&[u8]] = &[
    b"\0\xff\x80\x20\x0a\0\x01\x10\x89\0\x0a\0\x02\x05",
    b"\0\x40\x04\0\x80\x40\x0a\0\x05\0\x06\xff\x0a\0",
    b"\x07\x03\0\xff\x0a\0\x88\x01\x80\xff\x0a\0\x09\0\x80\x20\0\x20",
    b"\x0c\0\0\x20\x0a\0\x8d\0",
];

/// Either two chains on one wire, or one whose layers come and go.
pub fn layer_ops(data: &[u8]) {
    let (choice, limit, list) = choices(data);
    // A long list costs time and finds nothing that a short one does not.
    let list = &list.as_chunks::<2>().0[..(list.len() / 2).min(100)];
    if choice & 0x80 == 0 {
        two_ends(choice, limit, list);
    } else {
        one_end(list);
    }
}

fn stack_of(side: Side, choice: u8) -> Stack {
    let mut stack = Stack::new();
    if choice & 1 == 1 {
        stack = stack.with(RateLimit::new().read(200_000).write(300_000));
    }
    if choice & 2 == 2 {
        let (client, server) = both_ends();
        stack = stack.with(if side == Side::Client { client.clone() } else { server.clone() });
    }
    if choice & 4 == 4 {
        stack = stack.with(Idle::new(Duration::from_secs(1)));
    }
    stack
}

fn two_ends(choice: u8, limit: u8, list: &[[u8; 2]]) {
    let tls = choice & 2 == 2;
    let stacks =
        (stack_of(Side::Client, choice), stack_of(Side::Server, choice >> 3 & !2 | choice & 2));
    let places = (Place::new(Side::Client), Place::new(Side::Server));
    let limits = Limits { link: 1 + usize::from(limit) * 200, ..Limits::default() };
    let ends = Pair::at((&stacks.0, &places.0), (&stacks.1, &places.1), limits);
    let mut pair = ends.expect("good settings");
    let mut written = [Vec::new(), Vec::new()];
    let mut wrote_eof = [false; 2];
    let mut next = 0u8;
    let (mut closed, mut cut) = (false, false);
    for &[code, number] in list {
        let from = usize::from(code >> 7);
        let side = if from == 0 { &mut pair.client } else { &mut pair.server };
        let workspace = Rc::clone(&side.workspace);
        let turn = Turn::new(side.now, &workspace);
        match code & 15 {
            0..=3 => {
                let len = usize::from(number) << (2 * (code & 3));
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                match side.chain.write(&bytes, turn) {
                    Ok(()) => written[from].extend(bytes),
                    Err(error) => {
                        assert!(wrote_eof[from] || closed || side.chain.error() == Some(&error))
                    }
                }
            }
            4 => side.chain.pause_reading(),
            5 => side.chain.resume_reading(),
            6 => pair.pass_time(Duration::from_millis(number.into())),
            7 => pair.piece = usize::from(number),
            8 => side.chain.set_budget(usize::from(number) * 20),
            9 => side.chain.set_budget(usize::MAX),
            12 => wrote_eof[from] |= side.chain.write_eof().is_ok(),
            13 => {
                closed = true;
                side.chain.close();
            }
            14 if number == 7 => {
                // Both directions end where they are; what was on its way is lost.
                cut = true;
                pair.client.receive_eof();
                pair.server.receive_eof();
                break;
            }
            15 => {
                assert!(side.chain.set_read_low(usize::from(number)).is_ok());
            }
            _ => pair.run(),
        }
        for (side, written) in [(&pair.server, &written[0]), (&pair.client, &written[1])] {
            arrives_in_order(side, written);
        }
    }
    for side in [&mut pair.client, &mut pair.server] {
        side.chain.set_budget(usize::MAX);
        assert!(side.chain.set_read_low(0).is_ok());
        side.chain.resume_reading();
    }
    pair.run();
    pair.pass_time(Duration::from_secs(60));
    for (to, from) in [(1, 0), (0, 1)] {
        let side = if to == 1 { &pair.server } else { &pair.client };
        arrives_in_order(side, &written[from]);
        ends_once(side);
        if cut || closed {
            // A cut is clean only where the end had been said before.
            assert!(!cut || closed || !tls || wrote_eof[from] || !side.saw(&Seen::Eof));
            continue;
        }
        assert_eq!(side.failure(), None);
        assert!(side.data() == written[from], "{} of {}", side.data().len(), written[from].len());
        assert_eq!((side.chain.read_len(), side.chain.write_len()), (0, 0));
        assert_eq!(side.seen.iter().filter(|seen| **seen == Seen::Established).count(), 1);
        let told = side.saw(&Seen::Eof) || (!tls && wrote_eof[from]);
        assert_eq!(told, wrote_eof[from]);
    }
}

fn arrives_in_order(side: &Bench, written: &[u8]) {
    assert!(written.starts_with(&side.data()), "bytes are changed, lost or out of order");
}

fn ends_once(side: &Bench) {
    let last = |seen: &Seen| matches!(seen, Seen::Failed(_) | Seen::Closed);
    let first = side.seen.iter().position(last);
    assert!(first.is_none_or(|at| at + 1 == side.seen.len()), "{:?}", side.seen);
    assert!(side.seen.iter().filter(|seen| **seen == Seen::Eof).count() <= 1);
}

// Each byte leaves as it must by the layers there were when it was written.
fn one_end(list: &[[u8; 2]]) {
    let mut bench = Bench::new(&Stack::new(), Side::Client).expect("nothing to go wrong");
    let (mut expected, mut depth, mut next) = (Vec::new(), 0u8, 0u8);
    for &[code, number] in list {
        let workspace = Rc::clone(&bench.workspace);
        let turn = Turn::new(bench.now, &workspace);
        match code & 7 {
            0 if depth < 20 => {
                let spec: Arc<dyn LayerSpec> = Arc::new(Shift(1));
                let below = (depth > 0 && number & 1 == 1).then_some("shift");
                let keepsakes = &mut Default::default();
                match bench.chain.push(&spec, below, Residual::Feed, keepsakes, turn) {
                    Ok(_) => depth += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Closing),
                }
            }
            1 if depth > 0 => {
                // Any of them, by its id; the number says which.
                let at = usize::from(number) % usize::from(depth);
                let which = bench.chain.layer_ids().nth(at).map_or(Which::Top, |(id, _)| id.into());
                let popped = bench.chain.pop(which, Duration::from_secs(60), Late::Close, turn);
                depth -= u8::from(popped.is_ok());
            }
            2 => bench.settle(),
            3 => bench.chain.set_budget(usize::from(number) * 10),
            4 => bench.chain.set_budget(usize::MAX),
            _ => {
                let bytes: Vec<u8> = (0..number)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                expected.extend(bytes.iter().map(|byte| byte.wrapping_add(depth)));
                assert!(bench.chain.write(&bytes, turn).is_ok());
            }
        }
    }
    bench.chain.set_budget(usize::MAX);
    bench.settle();
    assert!(bench.sent() == expected, "bytes left in another form than they were written for");
    assert_eq!(bench.chain.layers().count(), usize::from(depth));
    let gone = |seen: &&Seen| matches!(seen, Seen::Layer(Notice::Removed { .. }));
    let came = |seen: &&Seen| matches!(seen, Seen::Layer(Notice::Added { .. }));
    let count = |f: fn(&&Seen) -> bool| bench.seen.iter().filter(f).count();
    assert_eq!(count(came) - count(gone), usize::from(depth));
}
