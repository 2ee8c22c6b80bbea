use std::rc::Rc;
use std::time::Duration;

use super::{Bench, Case, Seen};
use crate::{Event, Limits, Place, Turn};

/// What a layer owes its neighbours, whatever its bytes mean: room and pauses are asked for, a close
/// ends, and time that has passed is not waited for.
pub(super) fn check_manners(case: &Case<'_>) -> Result<(), String> {
    check_writes(case)?;
    check_close(case)
}

// A link of one byte: the first piece is one too many already.
fn bench(case: &Case<'_>) -> Result<Bench, String> {
    let limits = Limits { link: 1, ..Limits::default() };
    let bench = Bench::at(case.stack, &Place::new(case.side), limits);
    let mut bench = bench.map_err(|error| error.to_string())?;
    bench.settle();
    bench.receive(case.input);
    check_time(&mut bench)?;
    bench.sent();
    Ok(bench)
}

fn check_writes(case: &Case<'_>) -> Result<(), String> {
    let mut bench = bench(case)?;
    let writes = if case.writes.is_empty() { &[b"written".as_slice()] } else { case.writes };
    let workspace = Rc::clone(&bench.workspace);
    let mut full = None;
    for write in writes.iter().cycle().take(writes.len().max(8)) {
        let turn = Turn::new(bench.now, &workspace);
        if bench.chain.is_plain() || bench.chain.write(write, turn).is_err() {
            return Ok(()); // its work is done, or it has failed
        }
        while let Some(event) = bench.chain.poll_event(turn) {
            if let Event::Data = event {
                bench.chain.took(bench.chain.data().len(), turn);
            }
        }
        let len = bench.chain.output().len();
        match full {
            Some(before) if len > before => {
                return Err(format!("a write was sent to a full wire: {before} bytes, then {len}"));
            }
            _ => full = (len > 0).then_some(len),
        }
    }
    bench.settle();
    let waits = bench.chain.deadline().is_some() || bench.chain.handshaking().is_some();
    match bench.chain.write_len() {
        left if left > 0 && !waits && bench.chain.can_write() => {
            Err(format!("{left} bytes written were left behind, though the wire is free"))
        }
        _ => Ok(()),
    }
}

fn check_close(case: &Case<'_>) -> Result<(), String> {
    let mut bench = bench(case)?;
    bench.chain.close();
    bench.settle();
    check_time(&mut bench)?;
    let ended = |bench: &Bench| {
        bench.seen.iter().any(|seen| matches!(seen, Seen::Closed | Seen::Failed(_)))
    };
    if !ended(&bench) {
        bench.receive_eof(); // the peer has left
        bench.pass_time(Duration::from_secs(24 * 3600));
    }
    match ended(&bench) {
        true => Ok(()),
        false => Err(format!("a close that never ends: {:?}", bench.chain)),
    }
}

// A deadline that has passed costs a step, and not another one at once.
fn check_time(bench: &mut Bench) -> Result<(), String> {
    for _ in 0..100 {
        let due = bench.chain.deadline().is_some_and(|at| at <= bench.now);
        if !due {
            return Ok(());
        }
        bench.pass_time(Duration::ZERO);
    }
    Err("a deadline that has passed is asked for again and again".to_owned())
}
