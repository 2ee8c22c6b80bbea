//! The engine: one scheduler for every host language.
//!
//! [`Engine`] holds the ready queue, the timers, the driver and every transport; it is generic over
//! a [`Host`], which says what a callback and a protocol are. The Rust API of this crate is one
//! host; the Python package is another. Authors of programs need nothing from here.
//!
//! # How it stays sound under re-entry
//!
//! User code runs only between steps, with nothing borrowed. Each method borrows what it needs for
//! a few lines and gives it back. A protocol or callback that is being called has been moved out of
//! its place, so a call that arrives meanwhile finds the place empty rather than borrowed. What is
//! named by keys may be gone when a key is used; every method says what happens then.

mod events;
mod fork;
mod host;
mod listener;
mod objects;
mod operations;
mod remote;
mod signals;
mod state;
mod timed;
mod timers;
mod turn;
mod visit;
mod watchers;
mod work;

use std::fmt;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::SystemTime;

use tepal_base::{Buffer, Instant, JobId};
use tepal_driver::{Driver, SignalSource};

pub(crate) use host::flow_of;
pub use host::{
    Consumed, DatagramProtocol, Failure, Flow, Host, Occasion, StreamProtocol, Verdict,
};
pub(crate) use listener::domain_of;
pub use listener::{AcceptFault, ListenerKey};
pub use objects::{Object, ObjectKey, StreamKey};
pub(crate) use objects::{datagram, stream};
pub use operations::{ChildKey, Outcome, Report};
pub use remote::{Remote, Trigger};
pub(crate) use state::Core;
pub use timed::TimerKey;
pub use visit::Held;
pub use watchers::WatchKey;
pub(crate) use work::{Step, TimerWork, Work};

pub use crate::transport::{FileCut, Outbound, Peer};
pub(crate) use crate::transport::{local_for, local_of};

use state::State;

/// A loop of a host. Cloning gives another handle to the same loop.
///
/// `!Send`: it belongs to the thread that runs it. [`Engine::remote`] is what other threads use.
pub struct Engine<H: Host>(Rc<Core<H>>);

/// A handle that does not keep the loop alive.
pub struct WeakEngine<H: Host>(Weak<Core<H>>);

/// How much is read at once: what one turn gives to one connection. 256 KiB is asyncio's figure,
/// and holds a 64 KiB message with whatever follows it, so that a read comes back short and needs
/// no second one to learn that nothing is left.
pub(crate) const READ_LEN: usize = 256 * 1024;

impl<H: Host> Engine<H> {
    /// A loop over a driver.
    pub fn new(host: H, driver: Box<dyn Driver>) -> Engine<H> {
        Engine(Rc::new(Core::new(host, driver)))
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.0.host
    }

    /// A handle that does not keep the loop alive.
    pub fn downgrade(&self) -> WeakEngine<H> {
        WeakEngine(Rc::downgrade(&self.0))
    }

    /// The engine below, as `TEPAL_DRIVER` spells it.
    pub fn driver_name(&self) -> &'static str {
        self.0.driver_name
    }

    /// The loop's clock, monotonic.
    pub fn now(&self) -> Instant {
        self.0.driver.borrow_mut().now()
    }

    /// The wall clock, which may jump.
    pub fn wall(&self) -> SystemTime {
        self.0.driver.borrow_mut().wall()
    }

    /// Random bytes of the system's cryptographic generator.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn entropy(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.driver.borrow_mut().entropy(bytes)
    }

    /// How many turns the loop has made.
    pub fn turns(&self) -> u64 {
        self.0.turns.get()
    }

    /// Whether the loop runs now.
    pub fn is_running(&self) -> bool {
        self.0.state.get() == State::Running
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.0.state.get() == State::Closed
    }

    /// Queues a job for the next turn (or for this one, before the loop runs).
    #[inline]
    pub fn call_soon(&self, job: H::Job) -> JobId {
        self.push(Work::Job(job))
    }

    /// Takes a queued job back. `None` if it ran or was cancelled.
    pub fn cancel_soon(&self, id: JobId) -> Option<H::Job> {
        let work = self.0.ready.borrow_mut().cancel(id);
        match work {
            Some(Work::Job(job)) => Some(job),
            _ => None,
        }
    }

    /// Whether a queued job still waits.
    pub fn is_queued(&self, id: JobId) -> bool {
        self.0.ready.borrow().is_queued(id)
    }

    /// What other threads and signal handlers use.
    pub fn remote(&self) -> Remote<H> {
        Remote::new(Arc::clone(&self.0.shared))
    }

    /// Ends the run after this turn; before a run, after its first turn.
    pub fn stop(&self) {
        self.0.stopping.set(true);
    }

    /// Replaces where signals come from; for hosts whose language owns signal dispositions.
    pub fn set_signal_source(&self, source: Box<dyn SignalSource>) {
        let old = self.0.signals.borrow_mut().set_source(source);
        drop(old);
    }

    /// Gives the driver to `f`. Nothing of the engine may be called in it.
    pub fn with_driver<R>(&self, f: impl FnOnce(&mut dyn Driver) -> R) -> R {
        f(&mut **self.0.driver.borrow_mut())
    }

    pub(crate) fn core(&self) -> &Core<H> {
        &self.0
    }

    #[inline]
    pub(crate) fn push(&self, work: Work<H>) -> JobId {
        self.0.ready.borrow_mut().push(work)
    }

    pub(crate) fn push_step(&self, key: ObjectKey<H>, step: Step) {
        self.push(Work::Object(key, step));
    }

    /// Tells a completion in the next turn.
    pub(crate) fn push_outcome(&self, completion: H::Completion, outcome: Outcome) {
        self.push(Work::Complete(completion, Box::new(outcome)));
    }

    pub(crate) fn take_scratch(&self) -> Buffer {
        self.0.scratch.take().unwrap_or_else(|| Buffer::zeroed(READ_LEN))
    }

    pub(crate) fn give_scratch(&self, buffer: Buffer) {
        self.0.scratch.set(Some(buffer));
    }
}

impl<H: Host> WeakEngine<H> {
    /// The loop, if it still exists.
    pub fn upgrade(&self) -> Option<Engine<H>> {
        self.0.upgrade().map(Engine)
    }
}

impl<H: Host> Clone for Engine<H> {
    fn clone(&self) -> Self {
        Engine(Rc::clone(&self.0))
    }
}

impl<H: Host> Clone for WeakEngine<H> {
    fn clone(&self) -> Self {
        WeakEngine(Weak::clone(&self.0))
    }
}

impl<H: Host> fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("driver", &self.0.driver_name)
            .field("state", &self.0.state.get())
            .finish_non_exhaustive()
    }
}

impl<H: Host> fmt::Debug for WeakEngine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakEngine")
    }
}
