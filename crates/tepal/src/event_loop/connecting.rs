use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Loop, Protocol, Target, Transport};
use crate::{Closed, Problem};

/// The future of [`Loop::create_connection`]. Dropping it aborts a connection that it has not
/// given out.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Address, Protocol};
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// let server = event_loop.listen(|_: &Address| Quiet, "127.0.0.1:0")?;
/// let address = server.local_addresses()[0].as_ip().expect("an IP address");
/// let transport = event_loop.run_until_complete(async {
///     event_loop.create_connection(|| Quiet, address).await
/// })?.expect("somebody listens");
/// assert!(transport.is_established());
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the future gives the attempt up"]
pub struct Connecting {
    peer: String,
    // None once it was given out.
    transport: Option<Transport>,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    result: Option<Result<(), ConnectError>>,
    waker: Option<Waker>,
}

/// Holds the place of the protocol until there is a connection.
struct Awaited {
    factory: Option<Box<dyn FnOnce() -> Box<dyn Protocol>>>,
    state: Rc<RefCell<State>>,
}

/// A connection could not be made, and no attempt follows.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Protocol, Target};
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// // A port that nobody listens at.
/// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// let connecting = event_loop.create_connection(|| Quiet, Target::address(free));
/// let error = event_loop.run_until_complete(connecting)?.expect_err("refused");
/// assert_eq!(error.error.kind(), std::io::ErrorKind::ConnectionRefused);
/// assert!(error.to_string().contains(&free.to_string()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// What the kernel said, or an error of the same meaning: `TimedOut` when a time was over,
    /// `NotFound` when there is no such name.
    pub error: io::Error,
    /// How it ended, with the whole story in [`Closed::problem`].
    pub closed: Closed,
}

impl Connecting {
    pub(super) fn start(
        lp: &Loop,
        factory: Box<dyn FnOnce() -> Box<dyn Protocol>>,
        target: Target,
    ) -> Connecting {
        let state = Rc::new(RefCell::new(State::default()));
        let awaited = Awaited { factory: Some(factory), state: Rc::clone(&state) };
        let peer = target.to_string();
        let transport = lp.connect(awaited, target);
        Connecting { peer, transport: Some(transport), state }
    }
}

impl Awaited {
    // The first result stands.
    fn finish(&self, result: Result<(), ConnectError>) {
        let waker = {
            let mut state = self.state.borrow_mut();
            state.result.get_or_insert(result);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Protocol for Awaited {
    fn connection_established(&mut self, transport: &Transport) {
        if let Some(factory) = self.factory.take() {
            transport.begin_with(factory());
            // Wakes the future behind the new protocol's first callbacks.
            self.finish(Ok(()));
        }
    }

    // Also when the factory has panicked.
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.finish(Err(ConnectError::of(closed.clone())));
    }
}

impl Future for Connecting {
    type Output = Result<Transport, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.state.borrow_mut();
        let Some(result) = state.result.take() else {
            let old = state.waker.replace(context.waker().clone());
            drop(state);
            drop(old);
            return Poll::Pending;
        };
        drop(state);
        let transport = self.transport.take().expect("a future is not polled after it is ready");
        Poll::Ready(result.map(|()| transport))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.transport.take().iter().for_each(Transport::abort);
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl ConnectError {
    pub(super) fn of(closed: Closed) -> ConnectError {
        let of_kernel = closed.error.as_ref().and_then(|error| error.raw_os_error());
        let error = match (of_kernel, &closed.problem, &closed.error) {
            (Some(code), ..) => io::Error::from_raw_os_error(code),
            (None, Some(problem), _) => problem.io_error(),
            (None, None, Some(error)) => io::Error::new(error.kind(), closed.clone()),
            (None, None, None) => io::Error::other(closed.clone()),
        };
        ConnectError { error, closed }
    }

    /// The whole story, unless it was the owner who closed the connection.
    pub fn problem(&self) -> Option<&Arc<Problem>> {
        self.closed.problem.as_ref()
    }
}

/// What was tried, where, and what each address said.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.closed.fmt(f)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        io::Error::new(error.error.kind(), error)
    }
}
