//! The engine's timers: its users' and those of its own objects.

use std::fmt;
use std::time::Duration;

use tepal_base::{Instant, Key};

use super::timers;
use super::work::TimerWork;
use super::{Engine, Host, ObjectKey};
use crate::names::ResolverKey;

/// The name of a timer of an engine.
pub struct TimerKey<H: Host>(pub(super) timers::TimerKey<TimerWork<H>>);

impl<H: Host> Engine<H> {
    /// Runs a job once the clock has reached `deadline`, never before.
    pub fn call_at(&self, deadline: Instant, job: H::Job) -> TimerKey<H> {
        TimerKey(self.0.timers.borrow_mut().insert_armed(TimerWork::Once(job), deadline))
    }

    /// Runs a job after a delay.
    pub fn call_later(&self, delay: Duration, job: H::Job) -> TimerKey<H> {
        self.call_at(self.now() + delay, job)
    }

    /// A restartable timer, stopped.
    pub fn timer(&self, callback: H::Callback) -> TimerKey<H> {
        TimerKey(self.0.timers.borrow_mut().insert(TimerWork::Repeat(callback)))
    }

    /// Arms a timer for `deadline`, whether it runs or not. `false` if it is gone.
    pub fn timer_arm(&self, timer: TimerKey<H>, deadline: Instant) -> bool {
        self.0.timers.borrow_mut().arm(timer.0, deadline)
    }

    /// Stops a timer and keeps it. Whether it was active.
    pub fn timer_disarm(&self, timer: TimerKey<H>) -> bool {
        self.0.timers.borrow_mut().disarm(timer.0)
    }

    /// Whether the timer is armed, or due in this turn.
    pub fn timer_is_active(&self, timer: TimerKey<H>) -> bool {
        self.0.timers.borrow().is_active(timer.0)
    }

    /// When an armed timer fires.
    pub fn timer_deadline(&self, timer: TimerKey<H>) -> Option<Instant> {
        self.0.timers.borrow().deadline(timer.0)
    }

    /// Removes a timer of either kind. Whether it was there.
    pub fn timer_remove(&self, timer: TimerKey<H>) -> bool {
        // The callback is dropped after the borrow: that may be user code.
        let gone = self.0.timers.borrow_mut().remove(timer.0);
        gone.is_some()
    }

    /// How many timers are kept, armed or not.
    pub fn timer_count(&self) -> usize {
        self.0.timers.borrow().len()
    }

    /// Arms the deadline of a resolver, making its timer at the first use.
    pub(crate) fn arm_resolver(
        &self,
        key: ResolverKey<H>,
        timer: Option<TimerKey<H>>,
        deadline: Instant,
    ) -> TimerKey<H> {
        self.arm_timer(timer, deadline, || TimerWork::Resolver(key))
    }

    /// Arms the deadline of an object, making its timer at the first use; `None` disarms.
    pub(crate) fn arm_object(
        &self,
        key: ObjectKey<H>,
        timer: Option<TimerKey<H>>,
        deadline: Instant,
    ) -> TimerKey<H> {
        self.arm_timer(timer, deadline, || TimerWork::Object(key))
    }

    pub(crate) fn arm_timer(
        &self,
        timer: Option<TimerKey<H>>,
        deadline: Instant,
        work: impl FnOnce() -> TimerWork<H>,
    ) -> TimerKey<H> {
        let mut timers = self.0.timers.borrow_mut();
        let timer = timer.unwrap_or_else(|| TimerKey(timers.insert(work())));
        timers.arm(timer.0, deadline);
        timer
    }
}

impl<H: Host> TimerKey<H> {
    /// The key as one word, for hosts whose objects keep only a number.
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The key that [`to_bits`](TimerKey::to_bits) made a word of; any other word finds nothing.
    pub const fn from_bits(bits: u64) -> TimerKey<H> {
        TimerKey(Key::from_bits(bits))
    }
}

impl<H: Host> Clone for TimerKey<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Host> Copy for TimerKey<H> {}

impl<H: Host> fmt::Debug for TimerKey<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::fmt(&self.0, f)
    }
}
