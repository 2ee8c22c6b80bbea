use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tepal_base::{CallOnce, Instant};

use super::host::{Job, RustHost};
use super::{EventLoop, Loop};
use crate::engine::TimerKey;

/// A future that runs on a loop; itself a future of its value. Dropping it lets the future go on.
///
/// # Panics
///
/// Awaiting a task whose future panicked, or was dropped with the loop, panics.
pub struct Task<T>(Option<async_task::Task<T>>);

/// The future of [`Loop::sleep`].
#[derive(Debug)]
pub struct Sleep {
    lp: Loop,
    deadline: Instant,
    waker: Rc<RefCell<Option<Waker>>>,
    timer: Option<TimerKey<RustHost>>,
}

/// The future of [`Loop::timeout`].
#[derive(Debug)]
pub struct Timeout<F> {
    sleep: Sleep,
    future: Option<Pin<Box<F>>>,
}

/// A future took longer than [`Loop::timeout`] allowed.
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
        let (runnable, task) = async_task::spawn_local(future, schedule);
        runnable.schedule();
        Task(Some(task))
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

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let task = self.0.as_mut().expect("present until the task is consumed");
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
        Sleep { lp: lp.clone(), deadline, waker: Rc::default(), timer: None }
    }

    /// When the sleep ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.lp.time() >= self.deadline {
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
            self.timer = Some(self.lp.engine().call_at(deadline, job));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.lp.engine().timer_remove(timer);
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

pub(super) fn run_until_complete<F>(event_loop: &EventLoop, future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let result = Rc::new(Cell::new(None));
    let slot = Rc::clone(&result);
    let lp: Loop = (**event_loop).clone();
    let task = event_loop.spawn(async move {
        slot.set(Some(Caught(Box::pin(future)).await));
        lp.stop();
    });
    event_loop.run_forever()?;
    match result.take() {
        Some(Ok(value)) => Ok(value),
        Some(Err(panic)) => resume_unwind(panic),
        None => {
            task.cancel();
            let text = "the loop was stopped before the future was done";
            Err(io::Error::new(io::ErrorKind::Interrupted, text))
        }
    }
}

// A future whose panic becomes its value.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
