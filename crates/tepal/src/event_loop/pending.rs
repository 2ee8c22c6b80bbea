use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// An operation that the loop carries out: a future of its result. Dropping it does not stop the
/// operation.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Command, ProcessProtocol};
///
/// struct Quiet;
/// impl ProcessProtocol for Quiet {}
///
/// let command = Command { program: "true".into(), ..Command::default() };
/// let ended = event_loop.subprocess(Quiet, command)?.wait();
/// assert!(!ended.is_finished());
/// assert!(event_loop.run_until_complete(ended)?.success());
/// # Ok(())
/// # }
/// ```
pub struct Pending<T>(Rc<RefCell<State<T>>>);

enum State<T> {
    Waiting(Option<Waker>),
    Done(Option<T>),
}

impl<T> Pending<T> {
    /// An operation and what ends it.
    pub(super) fn new() -> (Pending<T>, impl FnOnce(T)) {
        let state = Rc::new(RefCell::new(State::Waiting(None)));
        let shared = Rc::clone(&state);
        let finish = move |value| {
            let before = shared.replace(State::Done(Some(value)));
            if let State::Waiting(Some(waker)) = before {
                waker.wake();
            }
        };
        (Pending(state), finish)
    }

    /// Whether the operation has ended.
    pub fn is_finished(&self) -> bool {
        matches!(*self.0.borrow(), State::Done(_))
    }
}

/// # Panics
///
/// When polled again after it was ready.
impl<T> Future for Pending<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        match &mut *state {
            State::Done(value) => {
                Poll::Ready(value.take().expect("a future is not polled after it is ready"))
            }
            State::Waiting(waker) => {
                let old = waker.replace(context.waker().clone());
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("finished", &self.is_finished()).finish()
    }
}
