//! What layers cost without a loop: CPU time of this thread for chains that are fed by hand.

use rustix::time::{ClockId, clock_gettime};
use tepal::Instant;
use tepal::layers::{
    Chain, Error, Event, Idle, LengthPrefixed, Lines, Place, RateLimit, Side, Socks5, Stack, Turn,
    Workspace,
};

use crate::options::{Failure, Options};
use crate::statistics::median;
use crate::table::{self, Table};

pub(crate) const OPTIONS: &[&str] = &["rounds", "scale", "write"];

/// Messages of one round, each in and out, and of what size.
const MESSAGES: usize = 200_000;
const MESSAGE: usize = 1024;

/// Bytes of lines of one round, a line, and how many come at once.
const LINES: usize = 16 << 20;
const LINE: usize = 64;
const BATCH: usize = 1024;

/// Frames that come in pieces of 1 KiB: a linear cost is the same for each KiB of both.
const FRAMES: [usize; 2] = [1 << 20, 16 << 20];

/// `layers`
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let rounds: usize = options.value("rounds", 15)?;
    // A divisor, for a look that takes no time.
    let scale = options.value("scale", 1)?.max(1);
    let mut table = Table::new(["what", "median", "unit"].into_iter().map(str::to_owned).collect());
    let mut row = |what: &str, value: f64, unit: &str| {
        table.push(vec![what.to_owned(), format!("{value:.1}"), unit.to_owned()]);
    };
    for (what, cost) in passive(rounds, (MESSAGES / scale).max(1))? {
        row(&what, cost, "ns per message");
    }
    let (read, written) = lines(rounds, (LINES / scale).max(LINE * BATCH))?;
    row("64-byte lines read, a thousand at once", read, "million per s");
    row("64-byte lines written, a thousand in a turn", written, "million per s");
    for len in FRAMES {
        let len = (len / scale).next_multiple_of(1024);
        let what = format!("a frame of {} KiB that comes in pieces of 1 KiB", len >> 10);
        row(&what, growing(rounds, len)?, "ns per KiB");
    }
    let text =
        format!("{}\n{}\n", table.markdown(), table::provenance("make bench BENCH_ARGS=layers"));
    println!("{text}");
    match options.text("write", "") {
        "" => Ok(()),
        path => table::write_between(path, "layers", &text),
    }
}

/// What a message costs more behind a layer that has nothing to do: rounds are interleaved with
/// those of a chain without one.
fn passive(rounds: usize, count: usize) -> Result<Vec<(String, f64)>, Failure> {
    let rate = RateLimit::new().read(1 << 40).write(1 << 40);
    let idle = Idle::new(std::time::Duration::from_secs(60));
    let proxy = Socks5::new("192.0.2.1", 80).map_err(failure)?;
    let stacks = [
        ("", Stack::new()),
        ("a rate limit with room", Stack::new().with(rate)),
        ("a limit of quiet", Stack::new().with(idle)),
        ("SOCKS5 after its handshake", Stack::new().with(proxy)),
    ];
    let mut samples = vec![Vec::new(); stacks.len()];
    for _ in 0..rounds.max(1) {
        for ((_, stack), samples) in stacks.iter().zip(&mut samples) {
            samples.push(echo(stack, count)?);
        }
    }
    let bare = samples.remove(0);
    let rows = stacks[1..].iter().zip(samples).map(|((name, _), samples)| {
        let more: Vec<f64> = samples.iter().zip(&bare).map(|(with, bare)| with - bare).collect();
        ((*name).to_owned(), median(&more))
    });
    Ok(rows.collect())
}

/// Nanoseconds for a message in one direction.
fn echo(stack: &Stack, count: usize) -> Result<f64, Failure> {
    let workspace = Workspace::default();
    let turn = Turn::new(Instant::from_nanos(1), &workspace);
    let mut chain = chain(stack, turn)?;
    let (mut buffer, mut out) = ([7; MESSAGE], Vec::new());
    let spent = timed(|| {
        for _ in 0..count {
            let mut len = 0;
            chain.receive(turn, &mut buffer);
            drain(&mut chain, turn, |data| len += data.len())?;
            chain.write(&[8; MESSAGE][..len], turn).map_err(failure)?;
            drain(&mut chain, turn, |_| {})?;
            flush(&mut chain, turn, &mut out);
            if out.len() != MESSAGE {
                return Err(Failure::run("a message was lost"));
            }
        }
        Ok(())
    })?;
    Ok(spent / count as f64 / 2.0)
}

/// Millions of lines per second of CPU time, read and written.
fn lines(rounds: usize, bytes: usize) -> Result<(f64, f64), Failure> {
    let line = [&[b'x'; LINE - 1][..], b"\n"].concat();
    let mut batch = line.repeat(BATCH);
    let stack = Stack::new().with(Lines::new(LINE));
    let batches = bytes / batch.len();
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let workspace = Workspace::default();
        let turn = Turn::new(Instant::from_nanos(1), &workspace);
        let mut chain = chain(&stack, turn)?;
        let mut count = 0;
        let spent = timed(|| {
            for _ in 0..batches {
                chain.receive(turn, &mut batch);
                drain(&mut chain, turn, |data| count += usize::from(data.len() == LINE - 1))?;
            }
            Ok(())
        })?;
        reads.push(count as f64 / spent * 1e3);
        let (mut out, mut sent) = (Vec::new(), 0);
        let spent = timed(|| {
            for _ in 0..batches {
                for _ in 0..BATCH {
                    chain.write(&line[..LINE - 1], turn).map_err(failure)?;
                }
                drain(&mut chain, turn, |_| {})?;
                flush(&mut chain, turn, &mut out);
                sent += out.len();
            }
            Ok(())
        })?;
        writes.push((sent / LINE) as f64 / spent * 1e3);
        if (count, sent / LINE) != (batches * BATCH, batches * BATCH) {
            return Err(Failure::run("lines were lost"));
        }
    }
    Ok((median(&reads), median(&writes)))
}

/// Nanoseconds per KiB of one frame of that length.
fn growing(rounds: usize, len: usize) -> Result<f64, Failure> {
    let stack = Stack::new().with(LengthPrefixed::new(len));
    let mut samples = Vec::new();
    for _ in 0..rounds.max(1) {
        let workspace = Workspace::default();
        let turn = Turn::new(Instant::from_nanos(1), &workspace);
        let mut chain = chain(&stack, turn)?;
        let mut got = 0;
        let spent = timed(|| {
            chain.receive(turn, &mut (len as u32).to_be_bytes());
            for _ in 0..len / 1024 {
                chain.receive(turn, &mut [7; 1024]);
                drain(&mut chain, turn, |data| got += data.len())?;
            }
            Ok(())
        })?;
        if got != len {
            return Err(Failure::run("a frame was lost"));
        }
        samples.push(spent / (len / 1024) as f64);
    }
    Ok(median(&samples))
}

/// A client's chain whose handshakes are done: the peer is a proxy that grants everything.
fn chain(stack: &Stack, turn: Turn<'_>) -> Result<Chain, Failure> {
    let mut chain = Chain::new(stack, &Place::new(Side::Client), turn).map_err(failure)?;
    for mut reply in [&b"\x05\x00"[..], b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"].map(Vec::from)
    {
        drain(&mut chain, turn, |_| {})?;
        flush(&mut chain, turn, &mut Vec::new());
        if chain.handshaking().is_some() {
            chain.receive(turn, &mut reply);
        }
    }
    drain(&mut chain, turn, |_| {})?;
    match chain.handshaking() {
        None => Ok(chain),
        Some(layer) => Err(Failure::run(format!("{layer} is not ready"))),
    }
}

/// Takes all events, giving all data to `act`.
fn drain(chain: &mut Chain, turn: Turn<'_>, mut act: impl FnMut(&[u8])) -> Result<(), Failure> {
    while let Some(event) = chain.poll_event(turn) {
        match event {
            Event::Data => {
                let data = chain.data();
                let count = data.len();
                act(data);
                chain.took(count, turn);
            }
            Event::Failed(error) => return Err(failure(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Moves the output to `out`, as a socket would that takes everything.
fn flush(chain: &mut Chain, turn: Turn<'_>, out: &mut Vec<u8>) {
    out.clear();
    chain.output().pieces().for_each(|piece| out.extend_from_slice(piece));
    chain.sent(out.len(), turn);
}

/// CPU time of this thread in nanoseconds.
fn timed(act: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let start = now();
    act()?;
    Ok(now() - start)
}

fn failure(error: Error) -> Failure {
    Failure::run(error.to_string())
}
