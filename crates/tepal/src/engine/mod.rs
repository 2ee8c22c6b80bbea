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
mod timers;
mod turn;
mod visit;
mod watchers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tepal_base::{Buffer, Instant, JobId, JobQueue, Key, Slab};
use tepal_driver::{Driver, Event, Readiness, Signal, SignalSource};
use tepal_layers::Workspace;

pub use crate::transport::FileCut;
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
pub use visit::Held;
pub use watchers::WatchKey;

pub(crate) use crate::transport::local_for;
pub use crate::transport::{Outbound, Peer};

use remote::Shared;
use timers::{TimerKey as Keyed, Timers};

use crate::names::{Names, ResolverKey};
use crate::transport::Pipe;

/// A loop of a host. Cloning gives another handle to the same loop.
///
/// `!Send`: it belongs to the thread that runs it. [`Engine::remote`] is what other threads use.
pub struct Engine<H: Host>(Rc<Core<H>>);

/// A handle that does not keep the loop alive.
pub struct WeakEngine<H: Host>(Weak<Core<H>>);

pub(crate) struct Core<H: Host> {
    host: H,
    pub(crate) driver: RefCell<Box<dyn Driver>>,
    driver_name: &'static str,
    ready: RefCell<JobQueue<Work<H>>>,
    timers: RefCell<Timers<TimerWork<H>>>,
    pub(crate) objects: RefCell<Slab<Object<H>>>,
    watched: RefCell<HashMap<RawFd, ObjectKey<H>>>,
    signals: RefCell<signals::Signals<H>>,
    shared: Arc<Shared<H>>,
    triggers: RefCell<BTreeMap<usize, Option<H::Callback>>>,
    // Streams with bytes to send at the end of the turn.
    pub(crate) dirty: RefCell<Vec<StreamKey<H>>>,
    // The stream whose bytes a protocol looks at now: it is flushed behind that, without the list.
    pub(crate) reading: Cell<Option<StreamKey<H>>>,
    // The stream whose chain the pump has.
    pub(crate) pumping: Cell<Option<StreamKey<H>>>,
    // Blocks for what is on its way, in all layers.
    pub(crate) workspace: Workspace,
    // Empty pipes for joins.
    pub(crate) pipes: RefCell<Vec<Pipe>>,
    pub(crate) large_pipes: Cell<usize>,
    pub(crate) names: RefCell<Names<H>>,
    pub(crate) redundant_connects: Cell<u64>,
    // The memory that streams are read into; away while a protocol looks at it.
    scratch: Cell<Option<Buffer>>,
    events: Cell<Vec<Event>>,
    // How often the kernel was looked at.
    looks: Cell<u32>,
    state: Cell<State>,
    stopping: Cell<bool>,
    // The run ends behind the work that is under way.
    interrupted: Cell<bool>,
    // Looks at the kernel in a row that did not wait and found nothing.
    looks_in_vain: Cell<u32>,
    // Since the last look; and the clock at the first of them that read it.
    turns_since_poll: Cell<u32>,
    skipping_since: Cell<Instant>,
    turns: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Running,
    Closed,
}

/// What waits in the ready queue.
pub(crate) enum Work<H: Host> {
    Job(H::Job),
    Timer(Keyed<TimerWork<H>>),
    // What a look at the kernel found, and which look that was.
    Event(ObjectKey<H>, Readiness, u32),
    Object(ObjectKey<H>, Step),
    Complete(H::Completion, Box<Outcome>),
    Signal(Signal),
    Trigger(usize),
    // Nobody can fire it any more.
    Untrigger(usize),
}

/// What is due to happen to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Tell the protocol of its transport.
    Made,
    /// Start the connection attempt.
    Connect,
    /// There may be something to pull, or bytes that were kept to offer again.
    Read,
    /// There may be room to send, or a connect has ended.
    Write,
    /// Tell the protocol what changed on the sending side.
    Notify,
    /// The end has come: tell the protocol and let go.
    Lost,
    /// The object's own timer is due.
    Timeout,
    /// A stream's layers have something to move or to tell.
    Pump,
    /// A deadline of a stream's layers has passed.
    LayerTimeout,
    /// The question of an outbound stream is answered.
    Resolved,
    /// What is watched of an established stream may be due.
    Watch,
}

pub(crate) enum TimerWork<H: Host> {
    /// Runs once and is gone.
    Once(H::Job),
    /// A restartable timer.
    Repeat(H::Callback),
    /// A deadline of an object.
    Object(ObjectKey<H>),
    /// A deadline of a stream's layers.
    Layers(ObjectKey<H>),
    /// A limit of an established stream.
    Watch(ObjectKey<H>),
    /// The deadline of a resolver.
    Resolver(ResolverKey<H>),
}

/// The name of a timer of an engine.
pub struct TimerKey<H: Host>(Keyed<TimerWork<H>>);

/// How much is read at once: what one turn gives to one connection. 256 KiB is asyncio's figure,
/// and holds a 64 KiB message with whatever follows it, so that a read comes back short and needs
/// no second one to learn that nothing is left.
pub(crate) const READ_LEN: usize = 256 * 1024;
/// The block that gathers small writes: a few full TCP segments. 64 of them are kept.
const BLOCK_LEN: usize = 16 * 1024;

impl<H: Host> Engine<H> {
    /// A loop over a driver.
    pub fn new(host: H, mut driver: Box<dyn Driver>) -> Engine<H> {
        let shared = Arc::new(Shared::new(driver.waker()));
        let source = driver.signals();
        Engine(Rc::new(Core {
            host,
            driver_name: driver.name(),
            driver: RefCell::new(driver),
            ready: RefCell::new(JobQueue::new()),
            timers: RefCell::new(Timers::new()),
            objects: RefCell::new(Slab::new()),
            watched: RefCell::new(HashMap::new()),
            signals: RefCell::new(signals::Signals::new(source)),
            shared,
            triggers: RefCell::new(BTreeMap::new()),
            dirty: RefCell::new(Vec::new()),
            reading: Cell::new(None),
            pumping: Cell::new(None),
            workspace: Workspace::new(BLOCK_LEN),
            pipes: RefCell::new(Vec::new()),
            large_pipes: Cell::new(0),
            names: RefCell::new(Names::new()),
            redundant_connects: Cell::new(0),
            scratch: Cell::new(None),
            events: Cell::new(Vec::new()),
            looks: Cell::new(0),
            state: Cell::new(State::Idle),
            stopping: Cell::new(false),
            interrupted: Cell::new(false),
            looks_in_vain: Cell::new(0),
            turns_since_poll: Cell::new(0),
            skipping_since: Cell::new(Instant::ZERO),
            turns: Cell::new(0),
        }))
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

    /// Arms the deadline of a resolver, making its timer at the first use.
    pub(crate) fn arm_resolver(
        &self,
        key: ResolverKey<H>,
        timer: Option<TimerKey<H>>,
        deadline: Instant,
    ) -> TimerKey<H> {
        let mut timers = self.0.timers.borrow_mut();
        let timer = timer.unwrap_or_else(|| TimerKey(timers.insert(TimerWork::Resolver(key))));
        timers.arm(timer.0, deadline);
        timer
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
