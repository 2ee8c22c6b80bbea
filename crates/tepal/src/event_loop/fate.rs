//! What becomes of a connection: its phases, its end, and connecting anew.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::host::RustEngine;
use super::{ConnectError, Transport};
use crate::{CloseKind, Closed, Phase, Problem, Restart, Timeouts, Unsent};

/// What became of a connection, shared by its protocol and all its transports, because it outlives
/// what the loop keeps.
pub(super) type ClosedCell = Rc<Fate>;

#[derive(Default)]
pub(super) struct Fate {
    closed: RefCell<Option<Closed>>,
    // No other attempt follows.
    over: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// The future of [`Transport::established`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::Protocol;
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// let server = event_loop.listen(|_: &tepal::Address| Quiet, "127.0.0.1:0")?;
/// let at = server.local_addresses()[0].as_ip().expect("an IP address");
/// let transport = event_loop.connect(Quiet, at);
/// let outcome = event_loop.run_until_complete(transport.established())?;
/// assert!(outcome.is_ok() && transport.is_established());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited or polled"]
pub struct Established(Transport);

impl Fate {
    pub(super) fn established(&self, engine: &RustEngine) {
        let gone = self.closed.replace(None);
        drop(gone);
        self.wake(engine);
    }

    pub(super) fn lost(&self, closed: &Closed) {
        let before = self.closed.replace(Some(closed.clone()));
        drop(before);
    }

    /// How it ended last, unless it is established again.
    pub(super) fn last(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    pub(super) fn finished(&self, engine: &RustEngine) {
        self.over.set(true);
        self.wake(engine);
    }

    // Nothing is borrowed: a waker is the user's code.
    fn wake(&self, engine: &RustEngine) {
        for waker in self.waiting.take() {
            engine.host().guard_aside(engine, || waker.wake());
        }
    }

    // A future that is polled often, beside others in one task, waits once.
    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

impl Transport {
    /// Waits until bytes may flow: at once if they may, else through all attempts.
    ///
    /// Fails when the connection is over and no attempt follows. Dropping the future changes
    /// nothing.
    pub fn established(&self) -> Established {
        Established(self.clone())
    }

    /// Connects anew with the same protocol, after `delay`; `None`: after the next wait of the
    /// target's [`Backoff`](crate::Backoff), at once if it has none. The peer's name is resolved
    /// again; bytes that have not left are dropped and counted. See
    /// [`reconnect_with`](Self::reconnect_with).
    pub fn reconnect(&self, delay: Option<Duration>) -> bool {
        self.reconnect_with(delay, Restart::Resolve, Unsent::Drop)
    }

    /// Connects anew, from the name or from the known addresses, with the bytes that have not left
    /// dropped or kept.
    ///
    /// Legal in every callback and between them. An attempt that runs is given up silently; a
    /// connection that stands is lost first, and `connection_lost` tells so. All layers are built
    /// anew, and TLS resumes its session. The protocol hears
    /// [`connection_established`](crate::Protocol::connection_established) again, and must bring
    /// its own state (a login, say) up to date: the loop restores none.
    ///
    /// Returns `false`, and does nothing, if this transport did not come from
    /// [`Loop::connect`](crate::Loop::connect), or is gone.
    pub fn reconnect_with(
        &self,
        delay: Option<Duration>,
        restart: Restart,
        unsent: Unsent,
    ) -> bool {
        self.lp.engine().stream_reconnect(self.key, delay, restart, unsent)
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.lp.engine().stream_phase(self.key)
    }

    /// Why the last attempt failed, or the last connection was lost; `None` once it is established
    /// again.
    pub fn problem(&self) -> Option<Arc<Problem>> {
        let closed = || self.closed.last()?.problem;
        self.lp.engine().stream_problem(self.key).or_else(closed)
    }

    /// Sets the limits of quiet, silence and age, which count from now, and those of closing.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.lp.engine().stream_set_timeouts(self.key, timeouts);
    }
}

impl Future for Established {
    type Output = Result<(), ConnectError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let transport = &self.0;
        if transport.is_established() {
            return Poll::Ready(Ok(()));
        }
        let fate = &transport.closed;
        if fate.over.get() || transport.lp.is_closed() {
            let closed = transport.closed().unwrap_or_else(|| Closed::new(CloseKind::Local));
            return Poll::Ready(Err(ConnectError::of(closed)));
        }
        fate.wait(context.waker());
        Poll::Pending
    }
}
