use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use tepal_base::JobId;
use tepal_driver::Interest;

use super::host::RustHost;
use super::{Loop, WeakLoop};
use crate::engine::{self, TimerKey, WatchKey};

pub use crate::engine::Trigger;

/// A callback queued by [`Loop::call_soon`]. Dropping it changes nothing, and it does not keep the
/// loop: once that is gone, nothing waits.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// let handle = event_loop.call_soon(|_| unreachable!("cancelled"));
/// assert!(handle.is_pending() && handle.cancel() && !handle.cancel());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    // By its number and not by a pointer: few handles are used, and all are dropped.
    lp: u64,
    id: JobId,
    // For the loop's thread only.
    of: PhantomData<*const Loop>,
}

/// A callback scheduled by [`Loop::call_later`] or [`Loop::call_at`]. As a [`Handle`], it may be
/// dropped and does not keep the loop.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// let handle = event_loop.call_later(Duration::from_secs(60), |_| ());
/// assert!(handle.is_pending());
/// drop(event_loop);
/// assert!(!handle.is_pending());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TimerHandle {
    lp: WeakLoop,
    key: TimerKey<RustHost>,
}

/// A restartable timer, made by [`Loop::timer`], where there is an example. Dropping the last clone
/// removes it. It does not keep the loop; once that is gone, its methods do nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use std::time::Duration;
///
/// let timer = event_loop.timer(Duration::from_secs(20), |_, _| println!("nothing was heard"));
/// timer.start();
/// timer.again(); // something was heard: 20 seconds from now
/// timer.set(Duration::from_secs(60)); // from the next `start` or `again` on
/// assert!(timer.is_active() && timer.stop());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "dropping a timer removes it"]
pub struct Timer(Rc<TimerInner>);

struct TimerInner {
    lp: WeakLoop,
    key: Cell<Option<TimerKey<RustHost>>>,
    interval: Cell<Duration>,
}

/// One descriptor, watched in both directions; made by [`Loop::watch`]. Dropping it ends the
/// watching; the descriptor stays open.
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::os::unix::net::UnixStream;
/// use tepal::Interest;
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let mut watcher = event_loop.watch(ours.as_raw_fd(), Interest::READ, |lp, ready| {
///     assert!(ready.read && !ready.write);
///     lp.stop();
/// })?;
/// watcher.start()?;
/// theirs.write_all(b"x")?;
/// event_loop.run_forever()?;
/// watcher.set(Interest::WRITE)?; // no new object, and no descriptor named
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a watcher removes it"]
pub struct Watcher {
    lp: WeakLoop,
    key: WatchKey<RustHost>,
    events: Interest,
    started: bool,
}

/// A loop as other threads see it. `Send`, `Sync`, cheap to clone.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// let remote = event_loop.remote();
/// let worker = std::thread::spawn(move || remote.call_soon_threadsafe(|lp| lp.stop()));
/// event_loop.run_forever()?;
/// worker.join().expect("the worker is done")
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Remote(engine::Remote<RustHost>);

impl Handle {
    pub(super) fn new(lp: &Loop, id: JobId) -> Handle {
        Handle { lp: lp.engine().host().id, id, of: PhantomData }
    }

    /// Takes the callback back. Whether it had not run yet.
    pub fn cancel(&self) -> bool {
        let job = Loop::on_this_thread(self.lp).and_then(|lp| lp.engine().cancel_soon(self.id));
        job.is_some()
    }

    /// Whether the callback still waits.
    pub fn is_pending(&self) -> bool {
        Loop::on_this_thread(self.lp).is_some_and(|lp| lp.engine().is_queued(self.id))
    }
}

impl TimerHandle {
    pub(super) fn new(lp: &Loop, key: TimerKey<RustHost>) -> TimerHandle {
        TimerHandle { lp: lp.downgrade(), key }
    }

    /// Takes the callback back. Whether it had not run yet.
    pub fn cancel(&self) -> bool {
        self.lp.get().is_some_and(|lp| lp.engine().timer_remove(self.key))
    }

    /// Whether the callback still waits.
    pub fn is_pending(&self) -> bool {
        self.lp.get().is_some_and(|lp| lp.engine().timer_is_active(self.key))
    }
}

impl Timer {
    pub(super) fn new(
        lp: &Loop,
        interval: Duration,
        mut callback: impl FnMut(&Loop, &Timer) + 'static,
    ) -> Timer {
        let inner = Rc::new(TimerInner {
            lp: lp.downgrade(),
            key: Cell::new(None),
            interval: Cell::new(interval),
        });
        // Weak, or the timer would keep itself.
        let weak = Rc::downgrade(&inner);
        let key = lp.engine().timer(Box::new(move |lp, _| {
            if let Some(inner) = weak.upgrade() {
                callback(lp, &Timer(inner));
            }
        }));
        inner.key.set(Some(key));
        Timer(inner)
    }

    fn key(&self) -> TimerKey<RustHost> {
        self.0.key.get().expect("set by `new` before the timer is given out")
    }

    /// Arms the timer for once, an interval from now. Does nothing while it is active.
    pub fn start(&self) {
        if !self.is_active() {
            self.again();
        }
    }

    /// Arms the timer anew for an interval from now, active or not.
    pub fn again(&self) {
        if let Some(lp) = self.0.lp.get() {
            lp.engine().timer_arm(self.key(), lp.time() + self.0.interval.get());
        }
    }

    /// Another name for [`again`](Timer::again).
    pub fn restart(&self) {
        self.again();
    }

    /// Disarms the timer. Whether it was active.
    pub fn stop(&self) -> bool {
        self.0.lp.get().is_some_and(|lp| lp.engine().timer_disarm(self.key()))
    }

    /// Sets the interval for later [`start`](Timer::start) and [`again`](Timer::again); a deadline
    /// that runs stays.
    pub fn set(&self, interval: Duration) {
        self.0.interval.set(interval);
    }

    /// The interval.
    pub fn interval(&self) -> Duration {
        self.0.interval.get()
    }

    /// Whether the timer will fire.
    pub fn is_active(&self) -> bool {
        self.0.lp.get().is_some_and(|lp| lp.engine().timer_is_active(self.key()))
    }
}

impl Drop for TimerInner {
    fn drop(&mut self) {
        if let (Some(lp), Some(key)) = (self.lp.get(), self.key.get()) {
            lp.engine().timer_remove(key);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("interval", &self.interval())
            .field("active", &self.is_active())
            .finish()
    }
}

impl Watcher {
    pub(super) fn new(lp: &Loop, key: WatchKey<RustHost>, events: Interest) -> Watcher {
        Watcher { lp: lp.downgrade(), key, events, started: false }
    }

    /// Starts reporting. Does nothing if it has started.
    ///
    /// # Errors
    ///
    /// `EPERM` for a regular file, `EBADF` for a descriptor that its owner has closed.
    pub fn start(&mut self) -> io::Result<()> {
        self.ask(self.events)?;
        self.started = true;
        Ok(())
    }

    /// Stops reporting and stays.
    ///
    /// # Errors
    ///
    /// As for [`start`](Watcher::start).
    pub fn stop(&mut self) -> io::Result<()> {
        self.started = false;
        self.ask(Interest::NONE)
    }

    fn ask(&self, events: Interest) -> io::Result<()> {
        match self.lp.get() {
            Some(lp) => lp.engine().watch_set(self.key, events),
            None => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the loop is gone")),
        }
    }

    /// Asks for other events, started or not.
    ///
    /// # Errors
    ///
    /// As for [`start`](Watcher::start).
    pub fn set(&mut self, events: Interest) -> io::Result<()> {
        self.events = events;
        match self.started {
            true => self.start(),
            false => Ok(()),
        }
    }

    /// Whether it reports.
    pub fn is_active(&self) -> bool {
        self.started
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(lp) = self.lp.get() {
            lp.engine().watch_remove(self.key);
        }
    }
}

impl Remote {
    pub(super) fn new(remote: engine::Remote<RustHost>) -> Remote {
        Remote(remote)
    }

    /// Runs `callback` on the loop in its next turn; callbacks of one thread keep their order. Many
    /// calls before the loop wakes cost one system call.
    ///
    /// Any thread. In a handler installed by `sigaction(2)` use [`Loop::trigger`] instead.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the loop is closed; the callback is dropped.
    pub fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce(&Loop) + Send + 'static,
    ) -> io::Result<()> {
        self.0.call_soon_threadsafe(Box::new(callback)).map_err(|job| {
            drop(job);
            io::Error::new(io::ErrorKind::BrokenPipe, "the loop is closed")
        })
    }

    // For a task's waker, which must not drop the task on this thread.
    pub(super) fn hand_over(
        &self,
        job: super::host::RemoteJob,
    ) -> Result<(), super::host::RemoteJob> {
        self.0.call_soon_threadsafe(job)
    }

    /// Makes the loop end its run after a turn.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the loop is closed.
    pub fn stop(&self) -> io::Result<()> {
        self.call_soon_threadsafe(|lp| lp.stop())
    }
}
