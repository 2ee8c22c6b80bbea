use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tepal_driver::{Address, Descriptor};

use super::host::{Bound, RustHost};
use super::transport::ClosedCell;
use super::{Loop, Protocol, Transport};
use crate::StreamOptions;
use crate::engine::{ObjectKey, Outcome};

/// Where to connect to, from where, and for how long to try.
///
/// ```
/// use std::time::Duration;
/// use tepal::Target;
///
/// let target = Target::address("127.0.0.1:6379".parse().unwrap())
///     .local("127.0.0.2:0".parse().unwrap())
///     .connecting(Some(Duration::from_secs(3)));
/// assert_eq!(target.to_string(), "127.0.0.1:6379");
/// ```
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) peer: Address,
    pub(super) local: Option<Address>,
    pub(super) connecting: Option<Duration>,
}

/// The future of [`Loop::create_connection`].
pub struct Connecting {
    lp: Loop,
    peer: Address,
    factory: Option<Box<dyn FnOnce() -> Box<dyn Protocol>>>,
    attempt: Option<ObjectKey<RustHost>>,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    result: Option<io::Result<Descriptor>>,
    waker: Option<Waker>,
}

/// A connection could not be made.
#[derive(Debug)]
pub struct ConnectError {
    /// Where to.
    pub peer: Address,
    /// What the kernel said, or `TimedOut` when the time-out came first.
    pub error: io::Error,
}

/// How long a connect may take: long enough for five SYNs of Linux's (1, 3, 7, 15 seconds).
const CONNECTING: Duration = Duration::from_secs(30);

impl Target {
    /// An IP address and port.
    pub fn address(peer: SocketAddr) -> Target {
        Target::from(Address::Ip(peer))
    }

    /// The file of a Unix socket.
    pub fn unix(path: impl AsRef<Path>) -> Target {
        Target::from(Address::unix(path))
    }

    /// Binds the local side first; port 0 lets the kernel choose.
    pub fn local(mut self, local: SocketAddr) -> Target {
        self.local = Some(Address::Ip(local));
        self
    }

    /// How long the connect may take; 30 seconds unless set, `None`: as long as the kernel tries.
    pub fn connecting(mut self, timeout: Option<Duration>) -> Target {
        self.connecting = timeout;
        self
    }
}

impl From<Address> for Target {
    fn from(peer: Address) -> Target {
        Target { peer, local: None, connecting: Some(CONNECTING) }
    }
}

impl From<SocketAddr> for Target {
    fn from(peer: SocketAddr) -> Target {
        Target::address(peer)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Connecting {
    pub(super) fn start(
        lp: &Loop,
        factory: Box<dyn FnOnce() -> Box<dyn Protocol>>,
        target: Target,
    ) -> Connecting {
        let state = Rc::new(RefCell::new(State::default()));
        let result = Rc::clone(&state);
        let completion = Box::new(move |lp: &Loop, outcome: Outcome| {
            let Outcome::Connected(outcome) = outcome else { return };
            // Nobody waits any more: the connection has no owner.
            if let (1, Ok(socket)) = (Rc::strong_count(&result), &outcome) {
                let _ = lp.engine().with_driver(|driver| driver.close(*socket));
                return;
            }
            let waker = {
                let mut state = result.borrow_mut();
                state.result = Some(outcome);
                state.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        });
        let attempt =
            lp.engine().attempt(&target.peer, target.local.as_ref(), target.connecting, completion);
        Connecting { lp: lp.clone(), peer: target.peer, factory: Some(factory), attempt, state }
    }
}

impl Future for Connecting {
    type Output = Result<Transport, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.state.borrow_mut();
        let Some(result) = state.result.take() else {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.attempt = None;
        let socket = match result {
            Ok(socket) => socket,
            Err(error) => {
                return Poll::Ready(Err(ConnectError { peer: self.peer.clone(), error }));
            }
        };
        let factory = self.factory.take().expect("a future is not polled after it is ready");
        let closed = ClosedCell::default();
        let protocol = Bound::new(factory(), closed.clone());
        let key = self.lp.engine().stream(socket, protocol, StreamOptions::default());
        Poll::Ready(Ok(Transport::new(self.lp.clone(), key, closed)))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt {
            self.lp.engine().attempt_cancel(attempt);
        }
        let untaken = self.state.borrow_mut().result.take();
        if let Some(Ok(socket)) = untaken {
            let _ = self.lp.engine().with_driver(|driver| driver.close(socket));
        }
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.peer, self.error)
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
