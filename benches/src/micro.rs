//! Costs inside the loop: callbacks, timers, the memory of a connection that waits.

use std::cell::Cell;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tepal::{Address, EventLoop, Interest, Loop, Protocol};

use crate::options::{Failure, Options};
use crate::statistics::median;
use crate::table::{self, Table};

pub(crate) const OPTIONS: &[&str] = &["rounds", "only", "write"];

/// Callbacks and timers of one round.
const MANY: usize = 1_000_000;

/// Connections whose memory is measured: below the descriptor limit of 20,000 with both ends here.
const CONNECTIONS: usize = 8_000;

/// `micro`
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let rounds: usize = options.value("rounds", 7)?;
    crate::cpu::raise_descriptor_limit();
    let only = options.text("only", "");
    let mut table = Table::new(["what", "median", "unit"].into_iter().map(str::to_owned).collect());
    let mut row = |what: &str, unit: &str, value: &dyn Fn() -> Result<f64, Failure>| {
        if what.contains(only) {
            table.push(vec![what.to_owned(), format!("{:.1}", value()?), unit.to_owned()]);
        }
        Ok::<(), Failure>(())
    };
    // First, while no memory has been freed that a connection could use again.
    row("an idle accepted connection", "bytes of memory", &idle_connection)?;
    let mut time = |what: &str, unit: &str, once: fn() -> Result<Duration, Failure>| {
        row(what, unit, &|| times(rounds, once))
    };
    time("call_soon and its run, a thousand in a turn", "ns each", call_soon)?;
    time("call_soon and its run, each from the one before", "ns", call_soon_chain)?;
    time("a million timers armed, then cancelled", "ns each", arm_then_cancel)?;
    time("call_later and cancel, one at a time", "ns", arm_and_cancel)?;
    time("a running timer re-armed", "ns", re_arm)?;
    time("call_soon_threadsafe and its run", "ns each", threadsafe)?;
    time("write interest on and off, by one watcher", "ns", reuse_watcher)?;
    time("write interest on and off, by a new watcher each time", "ns", renew_watcher)?;
    let text =
        format!("{}\n{}\n", table.markdown(), table::provenance("make bench BENCH_ARGS=micro"));
    println!("{text}");
    match options.text("write", "") {
        "" => Ok(()),
        path => table::write_between(path, "micro", &text),
    }
}

/// CPU time of this thread: what the wall clock shows on a machine that does nothing else, and little
/// more on one that does.
struct Spent(Duration);

impl Spent {
    fn now() -> Spent {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Spent(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    fn elapsed(&self) -> Duration {
        Spent::now().0 - self.0
    }
}

// The median of several rounds, in nanoseconds for each of MANY.
fn times(rounds: usize, once: impl Fn() -> Result<Duration, Failure>) -> Result<f64, Failure> {
    once()?;
    let mut samples = Vec::new();
    for _ in 0..rounds.max(1) {
        samples.push(once()?.as_nanos() as f64 / MANY as f64);
    }
    Ok(median(&samples))
}

// A thousand in each turn, so that the queue's memory stays in the cache as it does in a program.
fn call_soon() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let count = Rc::new(Cell::new(0usize));
    let start = Spent::now();
    for _ in 0..MANY / 1000 {
        for _ in 0..1000 {
            let count = Rc::clone(&count);
            event_loop.call_soon(move |_| count.set(count.get() + 1));
        }
        event_loop.stop();
        event_loop.run_forever()?;
    }
    let span = start.elapsed();
    match count.get() {
        MANY => Ok(span),
        _ => Err(Failure::run("callbacks were lost")),
    }
}

fn call_soon_chain() -> Result<Duration, Failure> {
    fn next(lp: &Loop, left: usize) {
        match left {
            0 => lp.stop(),
            _ => drop(lp.call_soon(move |lp| next(lp, left - 1))),
        }
    }
    let event_loop = EventLoop::new()?;
    next(&event_loop, MANY);
    let start = Spent::now();
    event_loop.run_forever()?;
    Ok(start.elapsed())
}

fn arm_then_cancel() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let start = Spent::now();
    let handles: Vec<_> = (0..MANY)
        .map(|n| event_loop.call_later(Duration::from_nanos(n as u64 * 7919), |_| ()))
        .collect();
    for handle in &handles {
        handle.cancel();
    }
    // Each was armed once and cancelled once.
    Ok(start.elapsed() / 2)
}

fn arm_and_cancel() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let start = Spent::now();
    for _ in 0..MANY {
        event_loop.call_later(Duration::from_secs(10), |_| ()).cancel();
    }
    Ok(start.elapsed())
}

fn re_arm() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let timer = event_loop.timer(Duration::from_secs(10), |_, _| ());
    timer.start();
    let start = Spent::now();
    (0..MANY).for_each(|_| timer.again());
    Ok(start.elapsed())
}

fn threadsafe() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let remote = event_loop.remote();
    let start = Spent::now();
    for _ in 0..MANY {
        remote.call_soon_threadsafe(|_| ())?;
    }
    event_loop.stop();
    event_loop.run_forever()?;
    Ok(start.elapsed())
}

/// Changes of a watcher in one round: each is a system call, so fewer than of the rest.
const CHANGES: usize = MANY / 10;

fn reuse_watcher() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let (ours, _theirs) = UnixStream::pair()?;
    let mut watcher = event_loop.watch(ours.as_raw_fd(), Interest::READ, |_, _| ())?;
    watcher.start()?;
    let start = Spent::now();
    for _ in 0..CHANGES {
        watcher.set(Interest::BOTH)?;
        watcher.set(Interest::READ)?;
    }
    Ok(start.elapsed() * (MANY / CHANGES) as u32)
}

fn renew_watcher() -> Result<Duration, Failure> {
    let event_loop = EventLoop::new()?;
    let (ours, _theirs) = UnixStream::pair()?;
    let fd = ours.as_raw_fd();
    let start = Spent::now();
    for _ in 0..CHANGES {
        for interest in [Interest::BOTH, Interest::READ] {
            event_loop.watch(fd, interest, |_, _| ())?.start()?;
        }
    }
    Ok(start.elapsed() * (MANY / CHANGES) as u32)
}

struct Idle;

impl Protocol for Idle {}

fn idle_connection() -> Result<f64, Failure> {
    let event_loop = EventLoop::new()?;
    let server = event_loop.listen(|_: &Address| Idle, "127.0.0.1:0")?;
    let address = server.local_addresses().first().and_then(Address::as_ip);
    let address = address.ok_or_else(|| Failure::run("listens at no IP address"))?;
    let mut peers = Vec::with_capacity(CONNECTIONS);
    let mut grow = |count: usize| -> Result<u64, Failure> {
        for _ in 0..count {
            peers.push(TcpStream::connect(address)?);
            event_loop.stop();
            event_loop.run_forever()?;
        }
        while server.connection_count() < peers.len() {
            event_loop.stop();
            event_loop.run_forever()?;
        }
        resident()
    };
    // The first thousand pays for what all share.
    let before = grow(1000)?;
    let after = grow(CONNECTIONS - 1000)?;
    Ok(after.saturating_sub(before) as f64 / (CONNECTIONS - 1000) as f64)
}

fn resident() -> Result<u64, Failure> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * 4096).ok_or_else(|| Failure::run("/proc/self/statm is unreadable"))
}
