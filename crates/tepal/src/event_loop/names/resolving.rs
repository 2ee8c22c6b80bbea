use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engine::Outcome;
use crate::event_loop::host::RustHost;
use crate::event_loop::{Loop, Pending};
use crate::names::{LookupKey, ResolveError};

/// The future of a question about names. Dropping it gives the question up.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let event_loop = tepal::EventLoop::new()?;
/// let lookup = event_loop.resolve("127.1", 80); // a literal: no server is asked
/// let limited = event_loop.timeout(Duration::from_secs(5), lookup);
/// let found = event_loop.run_until_complete(limited)?.expect("in time").expect("an address");
/// assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the future gives the question up"]
pub struct Resolving<T> {
    pub(super) state: State<T>,
    pub(super) take: fn(Outcome) -> Result<T, ResolveError>,
}

pub(super) enum State<T> {
    Answered(Option<Result<T, ResolveError>>),
    Waiting { lp: Loop, key: LookupKey<RustHost>, pending: Pending<Outcome> },
}

impl<T> Resolving<T> {
    /// Whether the answer is there: nobody had to be asked, or has answered and was not polled yet.
    pub fn is_answered(&self) -> bool {
        match &self.state {
            State::Answered(_) => true,
            State::Waiting { pending, .. } => pending.is_finished(),
        }
    }

    pub(super) fn into_state(mut self) -> State<T> {
        std::mem::replace(&mut self.state, State::Answered(None))
    }
}

/// # Panics
///
/// When polled again after it was ready.
impl<T: Unpin> Future for Resolving<T> {
    type Output = Result<T, ResolveError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.state {
            State::Answered(result) => {
                Poll::Ready(result.take().expect("a future is not polled after it is ready"))
            }
            State::Waiting { pending, .. } => match Pin::new(pending).poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(outcome) => {
                    let result = (this.take)(outcome);
                    // What is left has nothing to cancel.
                    drop(std::mem::replace(&mut this.state, State::Answered(None)));
                    Poll::Ready(result)
                }
            },
        }
    }
}

impl<T> Drop for Resolving<T> {
    fn drop(&mut self) {
        if let State::Waiting { lp, key, .. } = &self.state {
            let unused = lp.engine().lookup_cancel(*key);
            drop(unused);
        }
    }
}

impl<T> fmt::Debug for Resolving<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = matches!(self.state, State::Answered(_));
        f.debug_struct("Resolving").field("answered", &answered).finish_non_exhaustive()
    }
}
