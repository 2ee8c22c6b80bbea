//! The run: turn after turn, each of them poll, queue, run, flush.

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tepal_base::{Instant, Key};
use tepal_driver::{Event, Retired};

use crate::names::Names;

use super::{Engine, Flow, Host, Object, ObjectKey, Occasion, State, Step, TimerWork, Work};

/// Every turn looks at the kernel, as asyncio's do and as programs expect that yield a few turns
/// for their I/O to happen, until so many looks in a row, made while work was ready, have found
/// nothing.
const LOOKS_IN_VAIN: u32 = 64;

/// From then on not every turn looks, since one that only runs callbacks costs a tenth of a look.
/// Every fourth reads the clock instead, and after [`SPAN_PER_POLL`] the loop looks: slow callbacks
/// hold a descriptor up for eight turns, quick ones for a few microseconds.
const TURNS_PER_CLOCK: u32 = 4;
const SPAN_PER_POLL: Duration = Duration::from_micros(20);

/// The most turns without a look: for a clock that stands still meanwhile, as a simulated one may.
const TURNS_PER_POLL: u32 = 64;

impl<H: Host> Engine<H> {
    /// Runs until [`stop`](Engine::stop) or until a job breaks the run.
    ///
    /// # Errors
    ///
    /// `Misuse` as [`io::ErrorKind::ResourceBusy`] if the loop runs already, `BrokenPipe` if it is
    /// closed; and what the driver's wait failed with, which leaves the loop runnable.
    pub fn run(&self) -> io::Result<Flow> {
        self.run_between(|| ())
    }

    /// As [`run`](Engine::run), and calls `between` after each piece of work, with nothing
    /// borrowed: for a host's own work that borrows what a job cannot.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Engine::run).
    pub fn run_between(&self, mut between: impl FnMut()) -> io::Result<Flow> {
        let core = self.core();
        match core.state.get() {
            State::Idle => core.state.set(State::Running),
            State::Running => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "this loop is running already",
                ));
            }
            State::Closed => {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "this loop is closed"));
            }
        }
        // Whatever ends the run, a panic included, leaves a loop that can run again.
        let _idle = IdleOnDrop(&core.state);
        let _stop = OnDrop(&core.stopping, false);
        // Whoever makes one turn at a time (a guest in another loop) expects a look in each.
        core.looks_in_vain.set(0);
        loop {
            if self.poll()?.is_break() {
                return Ok(Flow::Break(()));
            }
            let flow = self.run_ready(&mut between);
            let flow = match self.flush() {
                ControlFlow::Continue(()) if !core.interrupted.take() => flow,
                _ => ControlFlow::Break(()),
            };
            core.turns.set(core.turns.get().wrapping_add(1));
            if flow.is_break() || core.stopping.get() {
                return Ok(flow);
            }
        }
    }

    // Looks at the kernel, unless ready work lets that wait, and queues what is due.
    fn poll(&self) -> io::Result<Flow> {
        let core = self.core();
        self.take_remote(false);
        // A layer may write to another stream while streams are flushed.
        let busy = core.stopping.get()
            || !core.ready.borrow().is_empty()
            || !core.dirty.borrow().is_empty();
        let deadline = match busy {
            true if self.may_skip_poll() => {
                self.queue_due_timers();
                return Ok(Flow::Continue(()));
            }
            true => Some(Instant::ZERO),
            // A host's source may know of signals that have woken nobody: those before the run.
            false if self.take_signals() => Some(Instant::ZERO),
            false => core.timers.borrow_mut().next_deadline(),
        };
        core.turns_since_poll.set(0);
        let result = self.wait(deadline);
        self.take_remote(true);
        self.take_signals();
        self.queue_due_timers();
        result
    }

    // Whether this turn need not look at the kernel; called only if it has work.
    #[inline]
    fn may_skip_poll(&self) -> bool {
        let core = self.core();
        if core.looks_in_vain.get() < LOOKS_IN_VAIN {
            return false;
        }
        let turns = core.turns_since_poll.get() + 1;
        core.turns_since_poll.set(turns);
        if !turns.is_multiple_of(TURNS_PER_CLOCK) {
            return true;
        }
        let now = self.now();
        // The clock is not read at a poll, since most polls are not followed by skipped ones.
        if turns == TURNS_PER_CLOCK {
            core.skipping_since.set(now);
        }
        turns < TURNS_PER_POLL && now.since(core.skipping_since.get()) < SPAN_PER_POLL
    }

    fn wait(&self, mut deadline: Option<Instant>) -> io::Result<Flow> {
        let core = self.core();
        if deadline != Some(Instant::ZERO) && !self.fall_asleep() {
            deadline = Some(Instant::ZERO);
        }
        let mut wait = core.driver.borrow_mut().prepare(deadline);
        let flow = core.host.wait(&mut *wait);
        let mut events = core.events.take();
        let result = core.driver.borrow_mut().collect(wait, &mut events);
        core.looks_in_vain.set(match deadline == Some(Instant::ZERO) && events.is_empty() {
            true => core.looks_in_vain.get().saturating_add(1),
            false => 0,
        });
        // Looked at only when their turn comes: a pass over all objects here would load them into
        // the cache and, in a long batch, lose them again before they are used.
        let mut ready = core.ready.borrow_mut();
        let look = core.looks.get().wrapping_add(1);
        core.looks.set(look);
        for Event { token, readiness } in events.drain(..) {
            ready.push(Work::Event(Key::from_bits(token), readiness, look));
        }
        drop(ready);
        core.events.set(events);
        result.map(|()| flow)
    }

    fn queue_due_timers(&self) {
        let core = self.core();
        let mut timers = core.timers.borrow_mut();
        if timers.next_deadline().is_none() {
            return;
        }
        let now = core.driver.borrow_mut().now();
        let mut ready = core.ready.borrow_mut();
        while let Some(key) = timers.pop_due(now) {
            ready.push(Work::Timer(key));
        }
    }

    // Runs exactly what the queue holds now.
    fn run_ready(&self, between: &mut impl FnMut()) -> Flow {
        let core = self.core();
        let end = core.ready.borrow().end();
        loop {
            let Some(work) = core.ready.borrow_mut().pop_before(end) else {
                return Flow::Continue(());
            };
            self.run_work(work)?;
            if core.interrupted.get() {
                core.interrupted.set(false);
                return Flow::Break(());
            }
            between();
        }
    }

    #[inline]
    fn run_work(&self, work: Work<H>) -> Flow {
        match work {
            Work::Job(job) => self.host().run_job(self, job),
            Work::Event(key, readiness, look) => self.run_event(key, readiness, look),
            Work::Timer(key) => self.run_timer(key),
            Work::Object(key, step) => self.run_step(key, step),
            Work::Complete(completion, outcome) => self.host().complete(self, completion, *outcome),
            Work::Signal(signal) => self.run_signal(signal),
            Work::Trigger(id) => self.run_trigger(id),
            Work::Untrigger(id) => {
                self.trigger_remove(id);
                Flow::Continue(())
            }
        }
    }

    pub(super) fn run_step(&self, key: ObjectKey<H>, step: Step) -> Flow {
        enum Is {
            Stream,
            Datagram,
            Listener,
            Exchange,
        }
        let is = match self.core().objects.borrow().get(key) {
            Some(Object::Stream(_)) => Is::Stream,
            Some(Object::Datagram(_)) => Is::Datagram,
            Some(Object::Listener(_)) => Is::Listener,
            Some(Object::Exchange(_)) => Is::Exchange,
            Some(Object::Watch(_) | Object::Child(_)) | None => return Flow::Continue(()),
        };
        match is {
            Is::Stream => self.stream_step(key, step),
            Is::Datagram => self.datagram_step(key, step),
            Is::Listener => self.listener_step(key, step),
            Is::Exchange => self.exchange_step(key, step),
        }
    }

    fn run_timer(&self, key: super::timers::TimerKey<TimerWork<H>>) -> Flow {
        let core = self.core();
        let Some(work) = core.timers.borrow_mut().start_due(key) else {
            return Flow::Continue(());
        };
        match work {
            TimerWork::Once(job) => {
                let gone = core.timers.borrow_mut().remove(key);
                drop(gone);
                self.host().run_job(self, job)
            }
            TimerWork::Repeat(mut callback) => {
                let flow = self.host().call(self, &mut callback, Occasion::Timer);
                let unused = core.timers.borrow_mut().finish(key, TimerWork::Repeat(callback));
                drop(unused);
                flow
            }
            TimerWork::Layers(object) => {
                let unused = core.timers.borrow_mut().finish(key, TimerWork::Layers(object));
                drop(unused);
                self.run_step(object, Step::LayerTimeout)
            }
            TimerWork::Watch(object) => {
                let unused = core.timers.borrow_mut().finish(key, TimerWork::Watch(object));
                drop(unused);
                self.run_step(object, Step::Watch)
            }
            TimerWork::Object(object) => {
                let unused = core.timers.borrow_mut().finish(key, TimerWork::Object(object));
                drop(unused);
                self.run_step(object, Step::Timeout)
            }
            TimerWork::Resolver(resolver) => {
                let unused = core.timers.borrow_mut().finish(key, TimerWork::Resolver(resolver));
                drop(unused);
                self.resolver_timeout(resolver);
                Flow::Continue(())
            }
        }
    }

    fn run_trigger(&self, id: usize) -> Flow {
        let core = self.core();
        let taken = core.triggers.borrow_mut().get_mut(&id).and_then(Option::take);
        let Some(mut callback) = taken else { return Flow::Continue(()) };
        let flow = self.host().call(self, &mut callback, Occasion::Triggered);
        let mut triggers = core.triggers.borrow_mut();
        let unused = match triggers.get_mut(&id) {
            Some(place) => place.replace(callback),
            None => Some(callback),
        };
        drop(triggers);
        drop(unused);
        flow
    }

    /// Closes the loop: descriptors are closed, nothing is called, what waits is dropped. Returns
    /// how many transports were open.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` while the loop runs.
    pub fn close(&self) -> io::Result<usize> {
        let core = self.core();
        match core.state.get() {
            State::Running => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "a running loop cannot be closed",
                ));
            }
            State::Closed => return Ok(0),
            State::Idle => core.state.set(State::Closed),
        }
        Ok(self.clear())
    }

    /// Drops what a loop that is closed was given all the same, as [`close`](Engine::close) does;
    /// nothing of it would ever be called, and what holds the loop would keep it for ever. Does
    /// nothing to a loop that is open. To be called with nothing borrowed.
    #[inline]
    pub fn drop_if_closed(&self) {
        if self.core().state.get() == State::Closed {
            self.clear();
        }
    }

    // How many of the objects were transports that were open.
    fn clear(&self) -> usize {
        let core = self.core();
        let mut open = 0;
        // Dropping host values may queue or open more, hence until nothing is left.
        loop {
            let jobs = core.ready.borrow_mut().take_all();
            let timers = core.timers.borrow_mut().take_all();
            let objects = core.objects.borrow_mut().drain();
            let remote = self.close_remote();
            let signals = self.close_signals();
            let triggers = std::mem::take(&mut *core.triggers.borrow_mut());
            let names = core.names.replace(Names::new());
            core.watched.borrow_mut().clear();
            core.close_pipes();
            core.dirty.borrow_mut().clear();
            if jobs.is_empty()
                && timers.is_empty()
                && objects.is_empty()
                && remote.is_empty()
                && signals.is_empty()
                && triggers.is_empty()
                && names.is_empty()
            {
                return open;
            }
            for object in objects {
                open += usize::from(match &object {
                    Object::Stream(stream) => !stream.is_lingering(),
                    object => matches!(object, Object::Datagram(_)),
                });
                self.close_object(object);
            }
            drop((jobs, timers, remote, signals, triggers, names));
        }
    }
}

impl<H: Host> Engine<H> {
    /// Ends the run behind the work that is under way, as a job's break does; for callbacks that
    /// leave the run and cost their connection nothing. The connection goes on with the next run
    /// as if the callback had returned.
    pub fn interrupt(&self) {
        self.core().interrupted.set(true);
    }

    /// Whether the run is about to end by [`interrupt`](Self::interrupt): then nothing else is
    /// told.
    pub fn is_interrupted(&self) -> bool {
        self.core().interrupted.get()
    }

    /// Lets go of the driver of a closed loop, with the descriptors that it has for itself; for
    /// hosts whose users may hold a closed loop for long. The clock goes on, as a real driver's.
    ///
    /// Does nothing to a loop that is open.
    pub fn retire_driver(&self) {
        let core = self.core();
        if core.state.get() == State::Closed {
            core.shared.cut_off();
            let old = core.driver.replace(Box::new(Retired));
            drop(old);
        }
    }
}

// Ends a run, unless the loop was closed in it, as only a fork does.
struct IdleOnDrop<'a>(&'a Cell<State>);

impl Drop for IdleOnDrop<'_> {
    fn drop(&mut self) {
        if self.0.get() == State::Running {
            self.0.set(State::Idle);
        }
    }
}

// Sets a cell when it goes out of scope.
struct OnDrop<'a, T: Copy>(&'a Cell<T>, T);

impl<T: Copy> Drop for OnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}
