use super::manners::check_manners;
use super::{Bench, Seen, Shift};
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
/// a tail glued behind, under every schedule of pauses of period 2 to 4, with steps for which there
/// is no reason, with a neighbour below, and with the end of input at each byte; returns what was
/// seen when it came whole.
///
/// Looks at the manners, too: nothing is pushed up during a pause, no write is sent to a full wire
/// nor forgotten on a free one, a close ends at the latest with the peer's end, and a deadline that
/// has passed is not asked for again.
///
/// The outcome has to depend on the bytes alone: give a layer that draws lots, such as TLS, a
/// [`Bench`] of its own.
///
/// # Errors
///
/// In words: which way of feeding it gave another outcome, or what it owes its neighbours.
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
    let bytes: Vec<&[u8]> = case.input.chunks(1).collect();
    same("stepped without a reason", run_with(case, &bytes, &[], false, true)?)?;
    // Not alone in its chain, a layer gets each message by a whole step.
    let specs = case.stack.specs().iter().cloned();
    let below = specs.fold(Stack::new().with(Shift(0)), Stack::with_shared);
    let beside = Case { stack: &below, ..*case };
    same("with a neighbour below", run(&beside, &[case.input], &[], false)?)?;
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
    check_manners(case)?;
    Ok(whole.seen)
}

fn run(case: &Case<'_>, pieces: &[&[u8]], pauses: &[bool], eof: bool) -> Result<Outcome, String> {
    run_with(case, pieces, pauses, eof, false)
}

fn run_with(
    case: &Case<'_>,
    pieces: &[&[u8]],
    pauses: &[bool],
    eof: bool,
    needless: bool,
) -> Result<Outcome, String> {
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
        let before = (count_data(&bench.seen), bench.chain.data().len());
        let layers = bench.chain.layers().count();
        bench.receive(piece);
        if needless {
            bench.chain.wake();
            bench.settle();
        }
        if paused && count_data(&bench.seen) != before.0 {
            return Err("data was told during a pause".to_owned());
        }
        // What a layer leaves behind it goes up by itself.
        let stays = layers > 0 && bench.chain.layers().count() == layers;
        if paused && stays && bench.chain.data().len() > before.1 {
            return Err(format!("pushed up during a pause: {:?}", bench.chain.data()));
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

// Whether `Established` is told before or after a notice is no matter of bytes. Nor is the neighbour.
fn normal(seen: Vec<Seen>) -> Vec<Seen> {
    let kept = |seen: &Seen| match seen {
        Seen::Established | Seen::Layer(Notice::Added { .. }) => false,
        Seen::Layer(Notice::Ready { layer, .. } | Notice::Removed { layer, .. }) => {
            *layer != Shift::NAME
        }
        _ => true,
    };
    seen.into_iter().filter(kept).collect()
}
