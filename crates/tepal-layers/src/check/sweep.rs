use super::{Bench, Seen};
use crate::{Notice, Side, Stack};

/// One layer (or a stack of them), what a peer sends it, and what the protocol writes.
#[derive(Debug)]
pub struct Case<'a> {
    /// What is tested.
    pub stack: &'a Stack,
    /// Which end it is.
    pub side: Side,
    /// What arrives from the wire.
    pub input: &'a [u8],
    /// What is written at the start.
    pub writes: &'a [&'a [u8]],
    /// Bytes that may follow the input without changing what came before; empty for none.
    pub tail: &'a [u8],
}

/// What came of a case: what was seen, what was sent, and the error of the first failed call.
#[derive(Clone, PartialEq, Debug)]
struct Outcome {
    seen: Vec<Seen>,
    sent: Vec<u8>,
}

/// Feeds the input whole, byte by byte, split at every place, in pieces of every small size, with
/// a tail glued behind, under every schedule of pauses of period 2 to 4, and with the end of input
/// at each byte; returns what was seen when it came whole.
///
/// # Errors
///
/// In words: which way of feeding it gave another outcome.
pub fn check_layer(case: &Case<'_>) -> Result<Vec<Seen>, String> {
    let whole = run(case, &[case.input], &[], false)?;
    let same = |what: &str, got: Outcome| match got == whole {
        true => Ok(()),
        false => Err(format!("{what} differs:\n  whole {whole:?}\n  here  {got:?}")),
    };
    for size in 1..=case.input.len().min(9) {
        let pieces: Vec<&[u8]> = case.input.chunks(size).collect();
        same(&format!("in pieces of {size}"), run(case, &pieces, &[], false)?)?;
    }
    for at in 1..case.input.len() {
        let (head, rest) = case.input.split_at(at);
        same(&format!("split at {at}"), run(case, &[head, rest], &[], false)?)?;
    }
    // A reader that pauses: bit i of the schedule is the state before piece i, again and again.
    for period in 2..=4u32 {
        for schedule in 1..(1u32 << period) {
            let pauses: Vec<bool> = (0..period).map(|bit| schedule >> bit & 1 == 1).collect();
            for size in [1, 3, case.input.len().max(1)] {
                let pieces: Vec<&[u8]> = case.input.chunks(size).collect();
                let what = format!("paused by {pauses:?} in pieces of {size}");
                same(&what, run(case, &pieces, &pauses, false)?)?;
            }
        }
    }
    if !case.tail.is_empty() && !whole.seen.iter().any(|seen| matches!(seen, Seen::Failed(_))) {
        let glued = [case.input, case.tail].concat();
        let apart = run(case, &[case.input, case.tail], &[], false)?;
        let got = run(case, &[&glued], &[], false)?;
        if got != apart {
            return Err(format!("a tail differs:\n  apart {apart:?}\n  glued {got:?}"));
        }
    }
    // The end at each byte: the same whether the bytes before came whole or one by one.
    for at in 0..=case.input.len() {
        let head = case.input.get(..at).unwrap_or_default();
        let bytes: Vec<&[u8]> = head.chunks(1).collect();
        let (joined, single) = (run(case, &[head], &[], true)?, run(case, &bytes, &[], true)?);
        if joined != single {
            return Err(format!("an end at {at} differs:\n  {joined:?}\n  {single:?}"));
        }
        let ended = |seen: &Seen| matches!(seen, Seen::Eof | Seen::Failed(_) | Seen::Closed);
        if !joined.seen.iter().any(ended) {
            return Err(format!("an end at {at} was told to nobody: {joined:?}"));
        }
    }
    Ok(whole.seen)
}

fn run(case: &Case<'_>, pieces: &[&[u8]], pauses: &[bool], eof: bool) -> Result<Outcome, String> {
    let mut bench = Bench::new(case.stack, case.side).map_err(|error| error.to_string())?;
    for write in case.writes {
        bench.write(write).or(Ok::<(), String>(()))?;
    }
    bench.settle();
    let mut paused = false;
    for (index, piece) in pieces.iter().enumerate() {
        if let Some(&pause) = pauses.get(index % pauses.len().max(1)) {
            if paused && !pause {
                bench.chain.resume_reading();
            } else if pause {
                bench.chain.pause_reading();
            }
            paused = pause;
        }
        let before = count_data(&bench.seen);
        bench.receive(piece);
        if paused && count_data(&bench.seen) != before {
            return Err("data was told during a pause".to_owned());
        }
    }
    bench.chain.resume_reading();
    bench.settle();
    if eof {
        bench.receive_eof();
    }
    let seen = std::mem::take(&mut bench.seen);
    Ok(Outcome { seen: normal(seen), sent: bench.sent() })
}

fn count_data(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Data(_))).count()
}

// Whether `Established` is told before or after a notice is no matter of bytes.
fn normal(seen: Vec<Seen>) -> Vec<Seen> {
    let added =
        |seen: &Seen| !matches!(seen, Seen::Established | Seen::Layer(Notice::Added { .. }));
    seen.into_iter().filter(added).collect()
}
