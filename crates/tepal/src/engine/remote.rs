use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tepal_driver::{Cutoff, Waker};

use super::{Engine, Host, Work};

/// A loop as other threads see it: jobs can be handed over, and its wait ended.
///
/// `Send`, and cheap to clone. It does not keep the loop alive: once the loop is closed, jobs are
/// given back.
pub struct Remote<H: Host>(Arc<Shared<H>>);

/// Wakes one callback of a loop, from any thread or from a signal handler.
///
/// [`fire`](Trigger::fire) takes no lock and allocates nothing, so unlike
/// [`Remote::call_soon_threadsafe`] it may be called inside a handler that `sigaction(2)` installed
/// (libuv calls this `uv_async_send`, libev `ev_async_send`). Fires between two runs of the
/// callback count as one.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// let trigger = event_loop.trigger(|lp| lp.stop());
/// // Any thread, and any handler of a signal.
/// let thread = std::thread::spawn(move || trigger.fire());
/// event_loop.run_forever()?;
/// thread.join().expect("it has fired");
/// # Ok(())
/// # }
/// ```
pub struct Trigger {
    fired: Arc<AtomicBool>,
    link: Arc<dyn Ring>,
}

pub(super) struct Shared<H: Host> {
    inbox: Mutex<Inbox<H>>,
    attention: Attention,
}

struct Inbox<H: Host> {
    jobs: VecDeque<H::RemoteJob>,
    triggers: Vec<(usize, Arc<AtomicBool>)>,
    next_trigger: usize,
    // At how many triggers those that nobody can fire any more are swept out.
    sweep_at: usize,
    closed: bool,
}

const SWEEP: usize = 16;

// What a trigger needs of its loop, without the host's types.
trait Ring: Send + Sync {
    fn ring(&self);
}

/// Whether the loop must look at its inbox, and whether it takes a write to make it.
///
/// ```text
///            ring: AWAKE -> CALLED          (the loop looks before it sleeps: no write)
///            ring: ASLEEP -> CALLED         (one write; later rings find CALLED)
///   before a wait: AWAKE -> ASLEEP          (CALLED: do not block)
///    after a wait: any -> AWAKE, then the inbox is emptied
/// ```
struct Attention {
    state: AtomicU8,
    // What signal sources hold, too.
    waker: Waker,
    cutoff: Arc<Cutoff>,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const CALLED: u8 = 2;

impl<H: Host> Remote<H> {
    pub(super) fn new(shared: Arc<Shared<H>>) -> Remote<H> {
        Remote(shared)
    }

    /// Hands a job over; the loop runs it in its next turn, in the order of hand-over.
    ///
    /// Any thread. However many jobs are handed over before the loop wakes, one of them costs a
    /// system call. Not for use inside a raw signal handler: see [`Trigger`].
    ///
    /// # Errors
    ///
    /// The job itself if the loop is closed.
    pub fn call_soon_threadsafe(&self, job: H::RemoteJob) -> Result<(), H::RemoteJob> {
        let mut inbox = self.0.inbox();
        if inbox.closed {
            return Err(job);
        }
        inbox.jobs.push_back(job);
        drop(inbox);
        self.0.attention.ring();
        Ok(())
    }

    /// Ends the loop's wait, or its next one, without anything to do. Async-signal-safe.
    pub fn wake(&self) {
        self.0.attention.ring();
    }

    /// As [`wake`](Remote::wake); gives `around` the system call to make, if it takes one. For
    /// hosts that let a lock go meanwhile.
    pub fn wake_around(&self, around: impl FnOnce(&(dyn Fn() + Sync))) {
        let attention = &self.0.attention;
        if attention.call() {
            around(&|| attention.waker.wake());
        }
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.0.inbox().closed
    }
}

impl Trigger {
    /// Makes the callback run in the loop's next turn. Async-signal-safe; any thread.
    ///
    /// Does nothing once the trigger was removed or the loop closed.
    pub fn fire(&self) {
        self.fired.store(true, Ordering::Release);
        self.link.ring();
    }
}

impl<H: Host> Engine<H> {
    /// A trigger that runs `callback` on the loop. Its id removes it again; once it is dropped, it
    /// goes by itself in time.
    pub fn trigger(&self, callback: H::Callback) -> (usize, Trigger) {
        let fired = Arc::new(AtomicBool::new(false));
        let core = self.core();
        let mut inbox = core.shared.inbox();
        if inbox.triggers.len() >= inbox.sweep_at {
            inbox.triggers.retain_mut(|(id, fired)| {
                let gone = Arc::get_mut(fired).is_some_and(|fired| !*fired.get_mut());
                if gone {
                    // After a call that may be queued.
                    core.ready.borrow_mut().push(Work::Untrigger(*id));
                }
                !gone
            });
            inbox.sweep_at = (2 * inbox.triggers.len()).max(SWEEP);
        }
        inbox.next_trigger += 1;
        let id = inbox.next_trigger;
        inbox.triggers.push((id, Arc::clone(&fired)));
        drop(inbox);
        core.triggers.borrow_mut().insert(id, Some(callback));
        let link: Arc<dyn Ring> = Arc::<Shared<H>>::clone(&core.shared);
        (id, Trigger { fired, link })
    }

    /// Removes a trigger and its callback. Whether it was there.
    pub fn trigger_remove(&self, id: usize) -> bool {
        self.core().shared.inbox().triggers.retain(|trigger| trigger.0 != id);
        let gone = self.core().triggers.borrow_mut().remove(&id);
        gone.is_some()
    }

    /// Before a wait: whether it may block.
    pub(super) fn fall_asleep(&self) -> bool {
        let state = &self.core().shared.attention.state;
        state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// After a wait, and in turns without one: queues what other threads handed over.
    pub(super) fn take_remote(&self, waited: bool) {
        let core = self.core();
        let state = &core.shared.attention.state;
        if !waited && state.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        // Before the inbox is looked at: whoever rings from now on is seen by the next turn.
        if state.swap(AWAKE, Ordering::AcqRel) != CALLED {
            return;
        }
        let mut inbox = core.shared.inbox();
        let jobs = std::mem::take(&mut inbox.jobs);
        let mut ready = core.ready.borrow_mut();
        for (id, fired) in &inbox.triggers {
            if fired.swap(false, Ordering::AcqRel) {
                ready.push(Work::Trigger(*id));
            }
        }
        drop(inbox);
        drop(ready);
        for job in jobs {
            let job = core.host.accept_remote(job);
            core.ready.borrow_mut().push(Work::Job(job));
        }
    }

    /// Refuses further jobs and returns those that wait.
    pub(super) fn close_remote(&self) -> VecDeque<H::RemoteJob> {
        let mut inbox = self.core().shared.inbox();
        inbox.closed = true;
        inbox.triggers.clear();
        std::mem::take(&mut inbox.jobs)
    }
}

impl<H: Host> Shared<H> {
    pub(super) fn new(waker: Waker) -> Shared<H> {
        let cutoff = Arc::new(Cutoff::new(waker));
        let waker: Waker = Arc::<Cutoff>::clone(&cutoff);
        Shared {
            inbox: Mutex::new(Inbox {
                jobs: VecDeque::new(),
                triggers: Vec::new(),
                next_trigger: 0,
                sweep_at: SWEEP,
                closed: false,
            }),
            attention: Attention { state: AtomicU8::new(AWAKE), waker, cutoff },
        }
    }

    /// Shows the jobs that the loop has not seen. None, if another thread is handing one over.
    pub(super) fn visit<E>(
        &self,
        visit: impl FnMut(&H::RemoteJob) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.inbox.try_lock() {
            Ok(inbox) => inbox.jobs.iter().try_for_each(visit),
            Err(_) => Ok(()),
        }
    }

    /// Drops the driver's waker, whoever else holds this.
    pub(super) fn cut_off(&self) {
        self.attention.cutoff.cut();
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.attention.waker
    }

    // Nothing of a user's runs under this lock, so a poisoned one holds no half-made state.
    fn inbox(&self) -> MutexGuard<'_, Inbox<H>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Host> Ring for Shared<H> {
    fn ring(&self) {
        self.attention.ring();
    }
}

impl Attention {
    fn ring(&self) {
        if self.call() {
            self.waker.wake();
        }
    }

    // Whether the loop sleeps and must be woken.
    fn call(&self) -> bool {
        self.state.swap(CALLED, Ordering::AcqRel) == ASLEEP
    }
}

impl<H: Host> Clone for Remote<H> {
    fn clone(&self) -> Self {
        Remote(Arc::clone(&self.0))
    }
}

impl<H: Host> fmt::Debug for Remote<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trigger")
    }
}
