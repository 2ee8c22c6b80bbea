mod bound;
mod connecting;
mod datagram_target;
mod datagram_transport;
mod fate;
mod handles;
mod host;
mod layered;
mod names;
mod opening;
mod pending;
mod process;
mod protocol;
mod server;
mod system;
mod target;
mod task;
mod transport;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{ControlFlow, Deref};
use std::os::fd::RawFd;
use std::time::Duration;

use tepal_base::{CallOnce, Instant};
use tepal_driver::{Driver, Interest, Signal};

pub use connecting::{ConnectError, Connecting};
pub use datagram_transport::DatagramTransport;
pub use fate::Established;
pub use handles::{Handle, Remote, Timer, TimerHandle, Trigger, Watcher};
pub use names::{Reply, Resolve, Resolver, Resolving};
pub use pending::Pending;
pub use process::{Process, ProcessProtocol};
pub use protocol::{DatagramProtocol, Protocol};
pub use server::{Drain, Listen, Server};
pub use target::Target;
pub use task::{Elapsed, Sleep, Task, Timeout};
pub use transport::Transport;

use crate::engine::{Engine, Occasion, WeakEngine};
use host::{Job, RustEngine, RustHost};

/// A loop, and the right to run and to close it.
///
/// It belongs to the thread that made it. Dereferences to [`Loop`], which holds the methods that
/// callbacks use too. Dropping it closes the loop: descriptors are closed, queued callbacks are
/// dropped, and nothing is called.
///
/// ```
/// use std::time::Duration;
/// use tepal::EventLoop;
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = EventLoop::new()?;
/// event_loop.call_later(Duration::from_millis(1), |lp| lp.stop());
/// event_loop.run_forever()?;
/// assert_eq!(event_loop.run_until_complete(async { 6 * 7 })?, 42);
/// # Ok(())
/// # }
/// ```
pub struct EventLoop(Loop);

/// A loop as callbacks see it: cheap to clone, for this thread only.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// event_loop.call_soon(|lp| {
///     // What a callback gets is the loop, and may be kept.
///     let later = lp.clone();
///     lp.call_soon(move |_| later.stop());
/// });
/// event_loop.run_forever()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Loop(RustEngine);

/// For what may outlive the loop and must not keep its descriptors open.
#[derive(Clone, Debug)]
struct WeakLoop(WeakEngine<RustHost>);

impl WeakLoop {
    #[inline]
    fn get(&self) -> Option<Loop> {
        self.0.upgrade().map(Loop)
    }
}

thread_local! {
    // The loops of this thread, so that a waker used here finds its own without a lock.
    static LOOPS: RefCell<HashMap<u64, WeakEngine<RustHost>>> = RefCell::new(HashMap::new());
    static NEXT_LOOP: Cell<u64> = const { Cell::new(1) };
}

impl EventLoop {
    /// A loop over the driver that `TEPAL_DRIVER` names, or the platform's default.
    ///
    /// # Errors
    ///
    /// An unknown name in `TEPAL_DRIVER`, and the kernel's errors (no descriptors left).
    pub fn new() -> io::Result<EventLoop> {
        Ok(EventLoop::with_driver(tepal_driver::open_driver(None)?))
    }

    /// A loop over a driver of the caller's: one by name
    /// ([`tepal_driver::open_driver`]), or a simulated one.
    pub fn with_driver(driver: Box<dyn Driver>) -> EventLoop {
        let id = NEXT_LOOP.with(|next| next.replace(next.get() + 1));
        let engine = Engine::new(RustHost::new(id), driver);
        LOOPS.with_borrow_mut(|loops| loops.insert(id, engine.downgrade()));
        EventLoop(Loop(engine))
    }

    /// Runs until [`Loop::stop`].
    ///
    /// # Errors
    ///
    /// `ResourceBusy` inside a callback of this loop, and what the kernel's wait failed with.
    ///
    /// # Panics
    ///
    /// With what the [panic hook](EventLoop::set_panic_hook) itself panicked with, and with what a
    /// destructor of a callback did. The loop can be run again.
    pub fn run_forever(&self) -> io::Result<()> {
        let result = self.0.0.run();
        self.0.0.host().raise();
        result.map(|_: ControlFlow<()>| ())
    }

    /// Runs until `future` is done, and returns its value. The future may borrow what lives longer
    /// than this call, and is dropped at its end. It is polled in its place among the callbacks,
    /// like one that was [spawned](Loop::spawn).
    ///
    /// # Errors
    ///
    /// `Interrupted` if [`Loop::stop`] came first, and those of
    /// [`run_forever`](EventLoop::run_forever).
    ///
    /// # Panics
    ///
    /// With the future's own panic, and those of [`run_forever`](EventLoop::run_forever).
    pub fn run_until_complete<F: Future>(&self, future: F) -> io::Result<F::Output> {
        task::run_until_complete(self, future)
    }

    /// Closes the loop; see [`EventLoop`]. Returns how many transports were open.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` inside a callback of this loop.
    pub fn close(self) -> io::Result<usize> {
        self.end()
    }

    // Futures first, while what wakes them still finds the loop.
    fn end(&self) -> io::Result<usize> {
        // Abandoned by a forked child, where nothing of the parent's is dropped.
        if self.is_closed() {
            return Ok(0);
        }
        if !self.is_running() {
            task::queue_all(self);
        }
        let open = self.0.0.close()?;
        // They may hold the loop, which holds them.
        self.0.0.host().drop_hooks();
        Ok(open)
    }

    /// Says what happens when a callback panics, or the destructor of a protocol. By default the
    /// process's panic hook has printed the panic and the loop goes on. The hook gets the payload;
    /// `Break` ends [`run_forever`](EventLoop::run_forever) at once, with the rest of the turn still
    /// queued. A hook that panics, as by [`std::panic::resume_unwind`] with the payload, ends it the
    /// same way, and then the run unwinds.
    pub fn set_panic_hook(
        &self,
        hook: impl FnMut(Box<dyn Any + Send>) -> ControlFlow<()> + 'static,
    ) {
        self.0.0.host().set_panic_hook(Box::new(hook));
    }

    /// Says where troubles go that belong to no caller: a listener without descriptors, a
    /// connection lost while it was accepted. By default to standard error.
    pub fn set_trouble_hook(&self, hook: impl FnMut(&'static str, &io::Error) + 'static) {
        self.0.0.host().set_trouble_hook(Box::new(hook));
    }
}

impl Deref for EventLoop {
    type Target = Loop;

    fn deref(&self) -> &Loop {
        &self.0
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // Running: dropped inside a callback. The run ends, and the last handle frees the loop.
        if self.end().is_err() {
            self.0.stop();
        }
        LOOPS.with_borrow_mut(|loops| loops.remove(&self.0.0.host().id));
    }
}

impl Loop {
    pub(crate) fn from_engine(engine: &RustEngine) -> Loop {
        Loop(engine.clone())
    }

    pub(crate) fn engine(&self) -> &RustEngine {
        &self.0
    }

    fn is(&self, other: &Loop) -> bool {
        self.0.host().id == other.0.host().id
    }

    // A loop that is closed opens nothing: nobody would ever close it.
    fn check_open(&self) -> io::Result<()> {
        match self.is_closed() {
            true => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the loop is closed")),
            false => Ok(()),
        }
    }

    fn downgrade(&self) -> WeakLoop {
        WeakLoop(self.0.downgrade())
    }

    // The loop of this thread with this id.
    fn on_this_thread(id: u64) -> Option<Loop> {
        LOOPS.try_with(|loops| loops.borrow().get(&id)?.upgrade().map(Loop)).ok()?
    }

    /// Runs `callback` in the next turn. On a loop that is closed it is dropped, as it is by all
    /// that follows.
    pub fn call_soon(&self, callback: impl FnOnce(&Loop) + 'static) -> Handle {
        let handle = Handle::new(self, self.0.call_soon(Job::Call(CallOnce::new(callback))));
        self.0.drop_if_closed();
        handle
    }

    /// Runs `callback` once `delay` has passed: never early, and as soon as the turn in which it is
    /// due allows. For equal deadlines, in the order of calls.
    pub fn call_later(
        &self,
        delay: Duration,
        callback: impl FnOnce(&Loop) + 'static,
    ) -> TimerHandle {
        self.call_at(self.time() + delay, callback)
    }

    /// Runs `callback` once the loop's clock has reached `deadline`.
    pub fn call_at(
        &self,
        deadline: Instant,
        callback: impl FnOnce(&Loop) + 'static,
    ) -> TimerHandle {
        let job = Job::Call(CallOnce::new(callback));
        let handle = TimerHandle::new(self, self.0.call_at(deadline, job));
        self.0.drop_if_closed();
        handle
    }

    /// A restartable timer, created stopped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tepal::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event_loop = EventLoop::new()?;
    /// let mut left = 3;
    /// let timer = event_loop.timer(Duration::from_micros(50), move |lp, timer| {
    ///     left -= 1;
    ///     if left > 0 { timer.again() } else { lp.stop() }
    /// });
    /// timer.start();
    /// event_loop.run_forever()?;
    /// assert!(!timer.is_active());
    /// # Ok(())
    /// # }
    /// ```
    pub fn timer(
        &self,
        interval: Duration,
        callback: impl FnMut(&Loop, &Timer) + 'static,
    ) -> Timer {
        let timer = Timer::new(self, interval, callback);
        self.0.drop_if_closed();
        timer
    }

    /// A watcher of a descriptor of the caller's, created stopped. `callback` gets the events that
    /// are ready, as long as they are (level-triggered).
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the descriptor has a watcher, `EBADF` if it is not open; `BrokenPipe` if
    /// the loop is closed.
    pub fn watch(
        &self,
        fd: RawFd,
        events: Interest,
        mut callback: impl FnMut(&Loop, Interest) + 'static,
    ) -> io::Result<Watcher> {
        self.check_open()?;
        let key = self.0.watch(
            fd,
            Box::new(move |lp, why| {
                if let Occasion::Ready(events) = why {
                    callback(lp, events);
                }
            }),
        )?;
        Ok(Watcher::new(self, key, events))
    }

    /// Runs `callback` between two others each time the signal arrives; many arrivals in one turn
    /// may count as one. Replaces an earlier callback of this loop.
    ///
    /// Signals sent to one thread (`pthread_kill`) are not told apart from those sent to the
    /// process. Handlers that were installed before are called too.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another loop listens for this signal, `InvalidInput` if it cannot be caught;
    /// `BrokenPipe` if the loop is closed.
    pub fn add_signal_handler(
        &self,
        signal: Signal,
        mut callback: impl FnMut(&Loop, Signal) + 'static,
    ) -> io::Result<()> {
        self.check_open()?;
        let old = self.0.signal_add(signal, Box::new(move |lp, _| callback(lp, signal)))?;
        drop(old);
        Ok(())
    }

    /// Stops listening for a signal and restores what was installed before. Whether it was listened
    /// for.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn remove_signal_handler(&self, signal: Signal) -> io::Result<bool> {
        Ok(self.0.signal_remove(signal)?.is_some())
    }

    /// What a signal handler or another thread fires to run `callback` here, without a lock or an
    /// allocation.
    pub fn trigger(&self, mut callback: impl FnMut(&Loop) + 'static) -> Trigger {
        let (_, trigger) = self.0.trigger(Box::new(move |lp, _| callback(lp)));
        self.0.drop_if_closed();
        trigger
    }

    /// The loop as other threads see it.
    pub fn remote(&self) -> Remote {
        Remote::new(self.0.remote())
    }

    /// Runs a future on the loop. It starts in the next turn and goes on if the [`Task`] is
    /// dropped.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        match self.is_closed() {
            true => Task::of_closed_loop(),
            false => Task::spawn(self, future),
        }
    }

    /// Waits for `span` inside a future.
    pub fn sleep(&self, span: Duration) -> Sleep {
        Sleep::new(self, self.time() + span)
    }

    /// Limits a future to `span`; `Err(Elapsed)` if it took longer, and the future is dropped.
    pub fn timeout<F: Future>(&self, span: Duration, future: F) -> Timeout<F> {
        Timeout::new(self.sleep(span), future)
    }

    /// Ends [`EventLoop::run_forever`] after this turn.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// For the child process after a `fork(2)` that is not followed by `exec`: lets go of all that
    /// the parent's loop has, without a sign to the parent or to a peer. To be called in the child
    /// before anything else is done with the loop, dropping it included: the kernel's objects behind
    /// it are shared with the parent, whose registrations a drop would take away.
    ///
    /// The child's copies of descriptors are closed. No callback and no hook is called, and none is dropped. The
    /// loop is closed from then on; a run that the fork happened in ends when its current callback
    /// returns. Does nothing worse in a parent than ending its loop.
    pub fn abandon_after_fork(&self) {
        self.0.abandon_after_fork();
        self.0.host().forget_hooks();
    }

    /// The loop's clock: monotonic, never set back.
    pub fn time(&self) -> Instant {
        self.0.now()
    }

    /// How many connects were under way in vain when another one of their race won, in all races
    /// of this loop. It stays 0 while first addresses answer within the delay.
    pub fn redundant_connects(&self) -> u64 {
        self.0.redundant_connects()
    }

    /// How many timers are kept, armed or not: for tests that look for leaks.
    pub fn timer_count(&self) -> usize {
        self.0.timer_count()
    }

    /// Whether the loop runs now.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The driver's name: `epoll`, `poll`, `sim`.
    pub fn driver_name(&self) -> &'static str {
        self.0.driver_name()
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventLoop").field(&self.0.0).finish()
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loop").field(&self.0).finish()
    }
}
