//! Waiting, which is all that moves the clock.
//!
//! A wait that finds something ready takes no time. Otherwise the clock jumps to whatever comes
//! first: the deadline, an arrival on the network, the deadline of another loop on the same
//! kernel. It never jumps while another loop could run, so that several loops, stepped one after
//! another, see one consistent time: then the wait ends with nothing and the test steps the other.
//!
//! A wait that nothing can end is the simulation's gain over a real kernel: it fails at once and
//! says what was waited for, where a real program would hang.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use tepal_base::Instant;
use tepal_driver::{Event, Wait, Wake};

use crate::state::State;

/// What the kernel knows of a driver's waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    // Has waited at least once: it is a loop, and not a test's helper that makes calls only.
    active: bool,
    // Between `prepare` and `collect`: the deadline.
    armed: Option<Option<Instant>>,
    // Its last wait found nothing and ended for the sake of another loop: its deadline then.
    asleep: Option<Option<Instant>>,
    // Waits in a row that gave way to another loop while the clock stood still.
    gave_way: u32,
}

/// A loop that has given way this often, to loops that are never stepped, is told so.
const MOST_GIVING_WAY: u32 = 10_000;

impl State {
    /// Arms a wait; tells whether it may block, and whether only a real thread could end it.
    pub(crate) fn prepare(&mut self, driver: usize, deadline: Option<Instant>) -> (bool, bool) {
        self.run_due();
        // "Never" is no deadline, and the clock must not jump there.
        let deadline = deadline.filter(|deadline| *deadline != Instant::FAR);
        let may_block = deadline.is_none_or(|deadline| deadline > self.now);
        let waiting = &mut self.driver(driver).waiting;
        waiting.active = true;
        waiting.asleep = None;
        waiting.armed = Some(deadline);
        let stuck = deadline.is_none()
            && self.timeline.next().is_none()
            && self.is_alone()
            && !self.has_ready(driver);
        (may_block, stuck)
    }

    pub(crate) fn collect(&mut self, driver: usize, events: &mut Vec<Event>) -> io::Result<()> {
        // Without `prepare` it only looks.
        let deadline = self.driver(driver).waiting.armed.take().unwrap_or(Some(Instant::ZERO));
        let started = self.now;
        let result = self.wait_until(driver, deadline, events);
        if self.now > started {
            self.stalled = 0;
        }
        if self.driver(driver).waiting.asleep.is_none() || self.now > started {
            self.driver(driver).waiting.gave_way = 0;
        }
        result
    }

    fn wait_until(
        &mut self,
        driver: usize,
        deadline: Option<Instant>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.stalled += 1;
        if self.stalled > self.config.stall_limit {
            self.stalled = 0;
            let waits = self.config.stall_limit;
            return Err(deadlock(format!("the clock stood still for {waits} waits")));
        }
        let found = events.len();
        loop {
            self.run_due();
            let woken = self.driver(driver).flag.take();
            self.gather(driver, events);
            let over = deadline.is_some_and(|deadline| deadline <= self.now);
            if woken || over || events.len() > found {
                return Ok(());
            }
            let runnable = self.others(driver).find(|other| self.could_run(*other));
            if let Some(other) = runnable {
                return self.give_way(driver, deadline, other);
            }
            let deadlines = self.others(driver).filter_map(|other| self.sleeps_until(other));
            let next = deadlines.chain(deadline).chain(self.timeline.next()).min();
            match next {
                Some(next) => self.now = self.now.max(next),
                None if !self.is_alone() => {
                    self.driver(driver).waiting.asleep = Some(deadline);
                    return Ok(());
                }
                None => return Err(deadlock(self.what_for(driver))),
            }
        }
    }

    fn give_way(
        &mut self,
        driver: usize,
        deadline: Option<Instant>,
        other: usize,
    ) -> io::Result<()> {
        let waiting = &mut self.driver(driver).waiting;
        waiting.asleep = Some(deadline);
        waiting.gave_way += 1;
        if waiting.gave_way <= MOST_GIVING_WAY {
            return Ok(());
        }
        waiting.gave_way = 0;
        Err(deadlock(format!(
            "driver {driver} gave way {MOST_GIVING_WAY} times to driver {other}, which could run \
             and is not stepped"
        )))
    }

    /// Whether no other driver could still bring something about, be it a loop yet or not.
    fn is_alone(&self) -> bool {
        self.drivers.iter().flatten().count() == 1
    }

    /// The other loops of this kernel.
    fn others(&self, driver: usize) -> impl Iterator<Item = usize> {
        let active = self.drivers.iter().enumerate().filter(move |(index, state)| {
            *index != driver && state.as_ref().is_some_and(|state| state.waiting.active)
        });
        active.map(|(index, _)| index)
    }

    /// Whether a loop has something to do: its last wait gave it something, or its next would.
    fn could_run(&self, driver: usize) -> bool {
        let Some(state) = self.drivers[driver].as_ref() else { return false };
        match state.waiting.asleep {
            None => true,
            Some(deadline) => {
                deadline.is_some_and(|deadline| deadline <= self.now)
                    || state.flag.is_set()
                    || self.has_ready(driver)
            }
        }
    }

    fn sleeps_until(&self, driver: usize) -> Option<Instant> {
        self.drivers[driver].as_ref()?.waiting.asleep?
    }

    /// Whether every loop sleeps and nothing can wake any of them.
    pub(crate) fn is_stuck(&self) -> bool {
        let mut loops = (0..self.drivers.len())
            .filter(|driver| {
                self.drivers[*driver].as_ref().is_some_and(|state| state.waiting.active)
            })
            .peekable();
        loops.peek().is_some()
            && self.timeline.next().is_none()
            && loops.all(|driver| !self.could_run(driver) && self.sleeps_until(driver).is_none())
    }

    fn what_for(&mut self, driver: usize) -> String {
        let waits: Vec<_> = (self.driver(driver).descriptors.iter())
            .filter_map(|(_, entry)| {
                let registration = entry.registration.as_ref()?;
                let interest = match (registration.interest.read, registration.interest.write) {
                    (true, true) => "read and write",
                    (true, false) => "read",
                    (false, true) => "write",
                    (false, false) => return None,
                };
                Some((registration.token, interest, entry.socket))
            })
            .collect();
        let waits: Vec<_> = waits
            .into_iter()
            .map(|(token, interest, id)| {
                format!("{} (token {token}, {interest})", self.describe(id))
            })
            .collect();
        let what = if waits.is_empty() { "nothing".to_owned() } else { waits.join("; ") };
        format!("no deadline and nothing in flight; driver {driver} waits for: {what}")
    }
}

fn deadlock(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::Deadlock, format!("simulated deadlock: {what}"))
}

/// The waker of a driver: a flag that any thread may set.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    set: AtomicBool,
    // The real thread in a wait that only a real thread can end.
    sleeper: Mutex<Option<Thread>>,
}

impl Flag {
    fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    pub(crate) fn take(&self) -> bool {
        self.set.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(&self) {
        // Never blocks: whoever holds the lock is the sleeper on its way to look at `set`, or
        // another thread that is waking it.
        if !self.set.swap(true, Ordering::SeqCst)
            && let Ok(sleeper) = self.sleeper.try_lock()
            && let Some(thread) = &*sleeper
        {
            thread.unpark();
        }
    }
}

/// The detached step of a wait. It has nothing to do, since simulated time moves in `collect`,
/// except in programs with real threads: see [`Config::thread_patience`](crate::Config).
pub(crate) struct SimWait {
    pub(crate) flag: std::sync::Arc<Flag>,
    pub(crate) blocks: bool,
    // Real time to wait for a real thread.
    pub(crate) patience: Duration,
}

/// A wake-up that was missed by the narrowest of margins costs this much real time.
const SLICE: Duration = Duration::from_millis(20);

impl Wait for SimWait {
    fn wait(&mut self) {
        if self.patience.is_zero() {
            return;
        }
        self.set_sleeper(Some(thread::current()));
        let mut left = self.patience;
        while !self.flag.is_set() && !left.is_zero() {
            let slice = left.min(SLICE);
            #[expect(clippy::disallowed_methods, reason = "the one place that waits for threads")]
            thread::park_timeout(slice);
            left -= slice;
        }
        self.set_sleeper(None);
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}

impl SimWait {
    fn set_sleeper(&self, thread: Option<Thread>) {
        *self.flag.sleeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = thread;
    }
}
