//! The timer store.
//!
//! Deadlines are kept in a binary heap, the timers themselves in a slab. Cancelling and postponing
//! touch the slab only, so both are O(1): the heap's entry stays behind and is recognised as stale
//! when it comes to the top. Stale entries never outnumber live ones by more than a constant
//! ([`SLACK`]), because the heap is swept once they do; so cancelling is O(1) amortised, and a
//! store from which everything was cancelled is empty.
//!
//! An armed timer first waits in a list of its own, and goes into the heap when the loop asks for
//! the next deadline, which it does once a turn. Most timers are limits that are never reached, and
//! many are cancelled in the turn that armed them: those never see the heap, and the last one to be
//! armed leaves not even a stale entry.
//!
//! A timer that is re-armed for later (an idle time-out, pushed back at every message) keeps its
//! old heap entry, which is moved to the true deadline when it surfaces. That makes re-arming two
//! stores, at the price of one extra push per *elapsed* interval.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tepal_base::{Instant, Key, Slab};

/// Timers by deadline; for equal deadlines, in the order in which they were armed.
pub(crate) struct Timers<T> {
    entries: Slab<Entry<T>>,
    heap: BinaryHeap<Reverse<HeapEntry<T>>>,
    // What was armed since the loop last looked, in the order of arming: a part of the heap that is
    // not sorted yet.
    fresh: Vec<HeapEntry<T>>,
    // Entries of both whose timer is gone, disarmed, or armed anew for earlier.
    stale: usize,
    next_seq: u64,
}

/// The name of a timer.
pub(crate) type TimerKey<T> = Key<Entry<T>>;

// Laid out by hand: a million timers are a matter of cache lines.
pub(crate) struct Entry<T> {
    // What to do; taken out while it runs.
    work: Option<T>,
    // When it fires, and the number of its arming; of no meaning unless it is armed.
    deadline: Instant,
    seq: u64,
    // The number of the heap entry that stands for this timer, or NONE. Invariant: while it is
    // armed, that entry is for no later than `deadline`.
    queued: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    // Disarmed, or running, or never armed.
    Stopped,
    // Will fire at `deadline`.
    Armed,
    // The deadline has come; the turn's queue holds the key.
    Due,
}

/// The number of no heap entry: they count from 1.
const NONE: u64 = 0;

// Ordered by deadline, then by the order of arming.
#[derive(Debug)]
struct HeapEntry<T> {
    deadline: Instant,
    seq: u64,
    key: TimerKey<T>,
}

/// How many stale entries a store may hold beyond the number of its timers: below this, sweeping
/// costs more than it frees.
const SLACK: usize = 64;

impl<T> Timers<T> {
    pub(crate) const fn new() -> Timers<T> {
        Timers {
            entries: Slab::new(),
            heap: BinaryHeap::new(),
            fresh: Vec::new(),
            stale: 0,
            next_seq: 1,
        }
    }

    /// A stopped timer.
    pub(crate) fn insert(&mut self, work: T) -> TimerKey<T> {
        self.entries.insert(Entry {
            work: Some(work),
            deadline: Instant::ZERO,
            seq: NONE,
            queued: NONE,
            state: State::Stopped,
        })
    }

    /// A timer that is armed for `deadline`.
    #[inline]
    pub(crate) fn insert_armed(&mut self, work: T, deadline: Instant) -> TimerKey<T> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let work = Some(work);
        let entry = Entry { work, deadline, seq, queued: seq, state: State::Armed };
        let key = self.entries.insert(entry);
        self.fresh.push(HeapEntry { deadline, seq, key });
        key
    }

    /// Removes a timer, armed or not. The caller drops the work, which is user code.
    pub(crate) fn remove(&mut self, key: TimerKey<T>) -> Option<Entry<T>> {
        let entry = self.entries.remove(key)?;
        if entry.queued != NONE {
            self.forget(entry.queued);
        }
        Some(entry)
    }

    /// Arms a timer, running or not, for `deadline`. `false` if it is gone.
    pub(crate) fn arm(&mut self, key: TimerKey<T>, deadline: Instant) -> bool {
        let seq = self.next_seq;
        let Some(entry) = self.entries.get_mut(key) else { return false };
        self.next_seq += 1;
        let postponed =
            entry.state == State::Armed && entry.queued != NONE && entry.deadline <= deadline;
        (entry.state, entry.deadline, entry.seq) = (State::Armed, deadline, seq);
        if postponed {
            return true;
        }
        let before = std::mem::replace(&mut entry.queued, seq);
        if before != NONE {
            self.forget(before);
        }
        self.fresh.push(HeapEntry { deadline, seq, key });
        true
    }

    /// Stops a timer without removing it; also one that is due and has not run. Whether it ran on.
    pub(crate) fn disarm(&mut self, key: TimerKey<T>) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let active = entry.state != State::Stopped;
        entry.state = State::Stopped;
        let queued = std::mem::replace(&mut entry.queued, NONE);
        if queued != NONE {
            self.forget(queued);
        }
        active
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        self.surface()?;
        self.heap.peek().map(|Reverse(top)| top.deadline)
    }

    /// The next timer whose deadline is not after `now`; it is then due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<TimerKey<T>> {
        self.surface()?;
        let Reverse(top) = self.heap.peek()?;
        if top.deadline > now {
            return None;
        }
        let Reverse(top) = self.heap.pop()?;
        let entry = self.entries.get_mut(top.key)?;
        entry.state = State::Due;
        entry.queued = NONE;
        Some(top.key)
    }

    /// Takes the work of a due timer out, to run it. `None` if it was stopped or armed anew
    /// meanwhile, or is gone.
    pub(crate) fn start_due(&mut self, key: TimerKey<T>) -> Option<T> {
        let entry = self.entries.get_mut(key)?;
        if entry.state != State::Due {
            return None;
        }
        entry.state = State::Stopped;
        entry.work.take()
    }

    /// Puts the work back after it ran. Gives it back if the timer was removed meanwhile.
    pub(crate) fn finish(&mut self, key: TimerKey<T>, work: T) -> Option<T> {
        match self.entries.get_mut(key) {
            Some(entry) => entry.work.replace(work),
            None => Some(work),
        }
    }

    /// Whether the timer is armed, or due and waiting for its turn.
    pub(crate) fn is_active(&self, key: TimerKey<T>) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.state != State::Stopped)
    }

    /// The deadline of an armed timer.
    pub(crate) fn deadline(&self, key: TimerKey<T>) -> Option<Instant> {
        let entry = self.entries.get(key)?;
        (entry.state == State::Armed).then_some(entry.deadline)
    }

    /// Removes every timer. The caller drops them.
    pub(crate) fn take_all(&mut self) -> Vec<Entry<T>> {
        self.heap.clear();
        self.fresh.clear();
        self.stale = 0;
        self.entries.drain()
    }

    /// The work of every timer that is not running.
    pub(crate) fn works(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|(_, entry)| entry.work.as_ref())
    }

    /// How many timers there are, armed or not.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    // Makes the heap's top a live entry with its true deadline. `None`: no timer is armed.
    #[inline]
    fn surface(&mut self) -> Option<()> {
        if !self.fresh.is_empty() {
            self.sort_fresh();
        }
        loop {
            let Reverse(top) = self.heap.peek()?;
            let (key, seq) = (top.key, top.seq);
            let armed = match self.entries.get(key) {
                Some(entry) if entry.state == State::Armed && entry.queued == seq => {
                    Some((entry.deadline, entry.seq))
                }
                _ => None,
            };
            match armed {
                Some((_, now)) if now == seq => return Some(()),
                Some((deadline, now)) => {
                    let mut top = self.heap.peek_mut()?;
                    top.0 = HeapEntry { deadline, seq: now, key };
                    drop(top);
                    self.entries.get_mut(key)?.queued = now;
                }
                None => {
                    self.heap.pop();
                    self.stale -= 1;
                }
            }
        }
    }

    // Puts what was armed into the heap, without what is stale already.
    fn sort_fresh(&mut self) {
        for entry in self.fresh.drain(..) {
            if self.entries.get(entry.key).is_some_and(|timer| timer.queued == entry.seq) {
                self.heap.push(Reverse(entry));
            } else {
                self.stale -= 1;
            }
        }
        // A turn that has armed very many is rare.
        self.fresh.shrink_to(4 * SLACK);
    }

    // The entry of this number stands for nothing any more.
    #[inline]
    fn forget(&mut self, seq: u64) {
        if self.fresh.last().is_some_and(|last| last.seq == seq) {
            self.fresh.pop();
            return;
        }
        self.stale += 1;
        if self.stale > self.heap.len() + self.fresh.len() - self.stale + SLACK {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let entries = &self.entries;
        self.fresh
            .retain(|fresh| entries.get(fresh.key).is_some_and(|entry| entry.queued == fresh.seq));
        self.heap.retain(|Reverse(top)| {
            entries.get(top.key).is_some_and(|entry| entry.queued == top.seq)
        });
        if self.heap.capacity() > 4 * SLACK {
            self.heap.shrink_to(2 * self.heap.len());
        }
        if self.fresh.capacity() > 4 * SLACK {
            self.fresh.shrink_to(2 * self.fresh.len());
        }
        self.stale = 0;
    }
}

impl<T> PartialEq for HeapEntry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}
impl<T> Eq for HeapEntry<T> {}
impl<T> PartialOrd for HeapEntry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for HeapEntry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.deadline, self.seq).cmp(&(other.deadline, other.seq))
    }
}

#[cfg(test)]
mod tests;
