use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tepal_base::{CallOnce, Instant, Key};

use super::host::{Job, RustHost};
use super::{EventLoop, Loop, Remote, WeakLoop};
use crate::engine::{Flow, TimerKey};

/// A future that runs on a loop; itself a future of its value. Dropping it lets the future go on.
///
/// # Panics
///
/// Awaiting a task whose future panicked, or was dropped with the loop, panics.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// let task = event_loop.spawn(async { 6 * 7 });
/// assert!(!task.is_finished());
/// assert_eq!(event_loop.run_until_complete(task)?, 42);
/// # Ok(())
/// # }
/// ```
pub struct Task<T>(Option<async_task::Task<T>>);

/// The future of [`Loop::sleep`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use std::time::Duration;
///
/// let begin = event_loop.time();
/// event_loop.run_until_complete(event_loop.sleep(Duration::from_millis(1)))?;
/// assert!(event_loop.time().since(begin) >= Duration::from_millis(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited or polled"]
pub struct Sleep {
    lp: WeakLoop,
    deadline: Instant,
    waker: Rc<RefCell<Option<Waker>>>,
    timer: Option<TimerKey<RustHost>>,
}

/// The future of [`Loop::timeout`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use std::time::Duration;
/// use tepal::Elapsed;
///
/// let never = std::future::pending::<()>();
/// let limited = event_loop.timeout(Duration::from_millis(1), never);
/// assert_eq!(event_loop.run_until_complete(limited)?, Err(Elapsed));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited or polled"]
pub struct Timeout<F> {
    sleep: Sleep,
    future: Option<Pin<Box<F>>>,
}

/// A future took longer than [`Loop::timeout`] allowed.
///
/// ```
/// assert_eq!(tepal::Elapsed.to_string(), "the time is up");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl<T: 'static> Task<T> {
    pub(super) fn spawn(lp: &Loop, future: impl Future<Output = T> + 'static) -> Task<T> {
        let (id, remote) = (lp.engine().host().id, lp.remote());
        let schedule = move |runnable: async_task::Runnable| match Loop::on_this_thread(id) {
            Some(lp) => {
                lp.engine().call_soon(Job::Poll(runnable));
            }
            None => {
                let job = Box::new(move |_: &Loop| {
                    runnable.run();
                });
                // The loop is closed. The future may not be dropped on this thread, so it leaks.
                if let Err(job) = remote.hand_over(job) {
                    std::mem::forget(job);
                }
            }
        };
        let tasks = &lp.engine().host().tasks;
        let listed = Listed { lp: lp.downgrade(), key: tasks.borrow_mut().insert(None) };
        let key = listed.key;
        let future = async move {
            let _listed = listed;
            future.await
        };
        let (runnable, task) = async_task::spawn_local(future, schedule);
        if let Some(place) = tasks.borrow_mut().get_mut(key) {
            *place = Some(runnable.waker());
        }
        runnable.schedule();
        Task(Some(task))
    }

    // The future is dropped with the loop.
    pub(super) fn of_closed_loop() -> Task<T> {
        Task(None)
    }

    /// Drops the future at its next turn; it is not run on. Its value is lost.
    pub fn cancel(mut self) {
        drop(self.0.take());
    }

    /// Whether the future is done.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(|task| task.is_finished())
    }
}

/// The place of a future among those of its loop, as long as the future exists.
struct Listed {
    lp: WeakLoop,
    key: Key<Option<Waker>>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(lp) = self.lp.get() {
            let waker = lp.engine().host().tasks.borrow_mut().remove(self.key);
            drop(waker);
        }
    }
}

/// Queues all futures, for a loop that is about to drop its queue: so they are dropped too.
pub(super) fn queue_all(lp: &Loop) {
    let tasks = lp.engine().host().tasks.borrow_mut().drain();
    tasks.into_iter().flatten().for_each(Waker::wake);
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let task = self.0.as_mut().expect("the loop was open when the task was spawned");
        Pin::new(task).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

impl Sleep {
    pub(super) fn new(lp: &Loop, deadline: Instant) -> Sleep {
        Sleep { lp: lp.downgrade(), deadline, waker: Rc::default(), timer: None }
    }

    /// When the sleep ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Without a loop there is no time, and nobody who would poll.
        let Some(lp) = self.lp.get().filter(|lp| !lp.is_closed()) else { return Poll::Pending };
        if lp.time() >= self.deadline {
            return Poll::Ready(());
        }
        let old = self.waker.replace(Some(context.waker().clone()));
        drop(old);
        if self.timer.is_none() {
            let waker = Rc::clone(&self.waker);
            let job = Job::Call(CallOnce::new(move |_: &Loop| {
                let waker = waker.take();
                waker.into_iter().for_each(Waker::wake);
            }));
            let deadline = self.deadline;
            self.timer = Some(lp.engine().call_at(deadline, job));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(lp), Some(timer)) = (self.lp.get(), self.timer) {
            lp.engine().timer_remove(timer);
        }
    }
}

impl<F: Future> Timeout<F> {
    pub(super) fn new(sleep: Sleep, future: F) -> Timeout<F> {
        Timeout { sleep, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(future) = &mut self.future
            && let Poll::Ready(value) = future.as_mut().poll(context)
        {
            return Poll::Ready(Ok(value));
        }
        match Pin::new(&mut self.sleep).poll(context) {
            Poll::Ready(()) => {
                self.future = None;
                Poll::Ready(Err(Elapsed))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

impl std::error::Error for Elapsed {}

pub(super) fn run_until_complete<F: Future>(
    event_loop: &EventLoop,
    future: F,
) -> io::Result<F::Output> {
    let lp: &Loop = event_loop;
    let ring = Arc::new(Ring {
        due: AtomicBool::new(false),
        id: lp.engine().host().id,
        remote: lp.remote(),
    });
    let waker = Waker::from(Arc::clone(&ring));
    let mut future = pin!(future);
    let mut value = None;
    waker.wake_by_ref();
    // A break, like a stop, shows as a future without a value.
    let result = lp.engine().run_between(|| {
        if value.is_none()
            && ring.due.swap(false, Ordering::AcqRel)
            && let Poll::Ready(ready) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            value = Some(ready);
            lp.stop();
        }
    });
    lp.engine().host().raise();
    let _: Flow = result?;
    value.ok_or_else(|| {
        let text = "the loop was stopped before the future was done";
        io::Error::new(io::ErrorKind::Interrupted, text)
    })
}

// Wakes the future that a run is for: a job in the queue says that its turn has come.
struct Ring {
    due: AtomicBool,
    id: u64,
    remote: Remote,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        let ring = Arc::clone(&self);
        let due = move |_: &Loop| ring.due.store(true, Ordering::Release);
        match Loop::on_this_thread(self.id) {
            Some(lp) => drop(lp.call_soon(due)),
            // Closed: nobody waits for the future any more.
            None => drop(self.remote.call_soon_threadsafe(due)),
        }
    }
}
