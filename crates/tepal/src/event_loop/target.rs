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

use tepal_driver::Address;
use tepal_layers::{LayerSpec, Stack};

use super::{Loop, Protocol, Transport};
use crate::Closed;

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
    pub(super) stack: Stack,
    pub(super) handshaking: Option<Duration>,
}

/// The future of [`Loop::create_connection`]. Dropping it aborts a connection that it has not
/// given out.
pub struct Connecting {
    peer: Address,
    // None once it was given out.
    transport: Option<Transport>,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    result: Option<io::Result<()>>,
    waker: Option<Waker>,
}

/// Holds the place of the protocol until there is a connection.
struct Awaited {
    factory: Option<Box<dyn FnOnce() -> Box<dyn Protocol>>>,
    state: Rc<RefCell<State>>,
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

    /// One more layer, on top of those that were named before: from the wire upward.
    ///
    /// ```
    /// use tepal::{Lines, RateLimit, Target};
    ///
    /// let target = Target::address("127.0.0.1:6667".parse().unwrap())
    ///     .layer(RateLimit::new().write(1 << 16))
    ///     .layer(Lines::new(512));
    /// ```
    pub fn layer(mut self, spec: impl LayerSpec + 'static) -> Target {
        self.stack = self.stack.with(spec);
        self
    }

    /// All layers at once, from the wire upward.
    pub fn stack(mut self, stack: Stack) -> Target {
        self.stack = stack;
        self
    }

    /// How long the handshake of each layer may take; 30 seconds unless set.
    pub fn handshaking(mut self, timeout: Duration) -> Target {
        self.handshaking = Some(timeout);
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
        Target {
            peer,
            local: None,
            connecting: Some(CONNECTING),
            stack: Stack::new(),
            handshaking: None,
        }
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
        let awaited = Awaited { factory: Some(factory), state: Rc::clone(&state) };
        let peer = target.peer.clone();
        let transport = lp.connect(awaited, target);
        Connecting { peer, transport: Some(transport), state }
    }
}

impl Awaited {
    // The first result stands.
    fn finish(&self, result: io::Result<()>) {
        let waker = {
            let mut state = self.state.borrow_mut();
            state.result.get_or_insert(result);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn fail(&self, closed: &Closed) {
        let code = closed.error.as_ref().and_then(|error| error.raw_os_error());
        let kind = closed.error.as_ref().map_or(io::ErrorKind::Other, |error| error.kind());
        self.finish(Err(match code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(kind, closed.clone()),
        }));
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

    fn error_connecting(&mut self, _: &Transport, closed: &Closed) {
        self.fail(closed);
    }

    // Also when the factory has panicked.
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.fail(closed);
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
        Poll::Ready(match result {
            Ok(()) => Ok(transport),
            Err(error) => Err(ConnectError { peer: self.peer.clone(), error }),
        })
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
