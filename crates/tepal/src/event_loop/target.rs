use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tepal_driver::{Address, SocketOption};
use tepal_layers::{LayerSpec, Stack};

use super::host::RustHost;
use super::{Loop, Protocol, Resolver, Transport};
use crate::engine::{Outbound, Peer};
use crate::names::Family;
use crate::{Addresses, Backoff, Closed, Problem, Timeouts};

/// Where to connect to, from where, through which layers, and for how long to try.
///
/// ```
/// use std::time::Duration;
/// use tepal::{Addresses, Backoff, Lines, Target, Timeouts};
///
/// let target = Target::host("irc.example.org", 6667)
///     .layer(Lines::new(512))
///     .addresses(Addresses::Race)
///     .timeouts(Timeouts { dns: Some(Duration::from_secs(5)), ..Timeouts::default() })
///     .backoff(Backoff::default());
/// assert_eq!(target.to_string(), "irc.example.org:6667");
/// ```
#[derive(Clone, Debug)]
pub struct Target {
    peer: Peer,
    local: Vec<Address>,
    resolver: Option<Resolver>,
    addresses: Addresses,
    timeouts: Timeouts,
    backoff: Option<Backoff>,
    options: Vec<SocketOption>,
    label: Option<Box<str>>,
    pub(super) stack: Stack,
}

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
pub struct ConnectError {
    /// What the kernel said, or an error of the same meaning: `TimedOut` when a time was over,
    /// `NotFound` when there is no such name.
    pub error: io::Error,
    /// How it ended, with the whole story in [`Closed::problem`].
    pub closed: Closed,
}

impl Target {
    /// A host by name, or by any literal that getaddrinfo(3) knows, and a port. Its addresses are
    /// looked up when the attempt begins, and tried one after another.
    pub fn host(host: &str, port: u16) -> Target {
        let family = Family::Unspecified;
        Target::to(Peer::Host { host: host.into(), port, family })
    }

    /// An IP address and port.
    pub fn address(peer: SocketAddr) -> Target {
        Target::from(Address::Ip(peer))
    }

    /// Several addresses of one peer, in the order of trying.
    pub fn any_of(addresses: impl IntoIterator<Item = SocketAddr>) -> Target {
        Target::to(Peer::Addresses(addresses.into_iter().map(Address::Ip).collect()))
    }

    /// The file of a Unix socket.
    pub fn unix(path: impl AsRef<Path>) -> Target {
        Target::from(Address::unix(path))
    }

    fn to(peer: Peer) -> Target {
        Target {
            peer,
            local: Vec::new(),
            resolver: None,
            addresses: Addresses::default(),
            timeouts: Timeouts::default(),
            backoff: None,
            options: Vec::new(),
            label: None,
            stack: Stack::new(),
        }
    }

    /// Only addresses of this family count, where the peer is a name.
    pub fn family(mut self, only: Family) -> Target {
        if let Peer::Host { family, .. } = &mut self.peer {
            *family = only;
        }
        self
    }

    /// In which way several addresses are tried: one after another, or as a race.
    pub fn addresses(mut self, addresses: Addresses) -> Target {
        self.addresses = addresses;
        self
    }

    /// How long each phase may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Target {
        self.timeouts = timeouts;
        self
    }

    /// A failed or lost connection is made anew by this plan, unless the owner closed it.
    pub fn backoff(mut self, backoff: Backoff) -> Target {
        self.backoff = Some(backoff);
        self
    }

    /// Who looks the name up, instead of the loop's own resolver.
    pub fn resolver(mut self, resolver: &Resolver) -> Target {
        self.resolver = Some(resolver.clone());
        self
    }

    /// Set on each socket before it is bound: `BindToDevice`, `Transparent`, buffer sizes.
    pub fn option(mut self, option: SocketOption) -> Target {
        self.options.push(option);
        self
    }

    /// Whose credentials are used, for messages. No secret: it is printed.
    pub fn label(mut self, label: &str) -> Target {
        self.label = Some(label.into());
        self
    }

    /// Binds the local side first, with its IPv6 scope; port 0 lets the kernel choose. Given once
    /// for each family, the one of the address that is tried counts; an address of a family that
    /// none was given for is not tried.
    pub fn local(mut self, local: SocketAddr) -> Target {
        self.local.push(Address::Ip(local));
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
        self.timeouts.handshake = Some(timeout);
        self
    }

    /// How long the connect may take; 30 seconds unless set, `None`: as long as the kernel tries.
    pub fn connecting(mut self, timeout: Option<Duration>) -> Target {
        self.timeouts.connecting = timeout;
        self
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn times(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(super) fn locals(&self) -> &[Address] {
        &self.local
    }

    pub(super) fn options(&self) -> &[SocketOption] {
        &self.options
    }

    pub(super) fn label_text(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub(super) fn chosen_resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// The peer as layers are told of it: a name, or nothing beyond the address.
    pub(super) fn host_name(&self) -> Option<tepal_layers::Host> {
        match &self.peer {
            Peer::Host { host, .. } => tepal_layers::Host::parse(host).ok(),
            Peer::Addresses(_) => None,
        }
    }

    pub(super) fn outbound(self) -> Outbound<RustHost> {
        let mut to = Outbound::to(self.peer);
        to.local = self.local;
        to.resolver = self.resolver.as_ref().map(Resolver::key);
        to.addresses = self.addresses;
        to.timeouts = self.timeouts;
        to.backoff = self.backoff;
        to.options = self.options;
        to.label = self.label;
        to.keep = self.resolver.map(|resolver| Rc::new(resolver) as Rc<dyn std::any::Any>);
        to
    }
}

impl From<Address> for Target {
    fn from(peer: Address) -> Target {
        Target::to(Peer::Addresses(vec![peer]))
    }
}

impl From<SocketAddr> for Target {
    fn from(peer: SocketAddr) -> Target {
        Target::address(peer)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Peer::Host { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Peer::Host { host, port, .. } => write!(f, "{host}:{port}"),
            Peer::Addresses(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    write!(f, "{}{address}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
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
