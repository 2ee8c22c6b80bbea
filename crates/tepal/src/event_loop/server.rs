use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tepal_driver::{Address, Descriptor, Domain, Driver, Kind, SocketOption, UnixAddress};
use tepal_layers::{LayerSpec, Stack};

use super::host::{Factory, RustHost};
use super::{Loop, Sleep};
use crate::StreamOptions;
use crate::engine::ListenerKey;

/// Where and how to listen.
///
/// ```
/// use tepal::Listen;
///
/// let listen = Listen::on("127.0.0.1:0").and("[::1]:0").backlog(64).max_connections(1000);
/// ```
#[derive(Debug)]
pub struct Listen {
    places: Vec<Place>,
    backlog: u32,
    reuse_port: bool,
    max_connections: usize,
    stack: Stack,
    handshaking: Option<Duration>,
}

#[derive(Debug)]
enum Place {
    Address(Address),
    Fd(OwnedFd),
    Wrong(String),
}

/// A set of listening sockets. Dropping it leaves them open: the loop owns them.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Address, Listen, Protocol};
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// let listen = Listen::on("127.0.0.1:0").max_connections(100);
/// let server = event_loop.listen(|_: &Address| Quiet, listen)?;
/// println!("listening on {}", server.local_addresses()[0]);
/// assert_eq!(server.connection_count(), 0);
/// server.close(); // connections go on; see `drain`
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    lp: Loop,
    listeners: Vec<ListenerKey<RustHost>>,
    addresses: Vec<Address>,
    state: Rc<ServerState>,
}

/// What a server shares with the loop's host.
#[derive(Default)]
pub(super) struct ServerState {
    waker: RefCell<Option<Waker>>,
    unlink: RefCell<Vec<PathBuf>>,
    closed: Cell<bool>,
}

/// The future of [`Server::drain`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use std::time::Duration;
/// use tepal::{Address, Protocol};
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// let server = event_loop.listen(|_: &Address| Quiet, "127.0.0.1:0")?;
/// // No more are accepted; those that are still there after three seconds are aborted.
/// let aborted = event_loop.run_until_complete(server.drain(Duration::from_secs(3)))?;
/// assert_eq!(aborted, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Drain {
    server: Server,
    sleep: Sleep,
    aborted: Option<usize>,
}

impl Listen {
    /// Listens at one place: an address (`127.0.0.1:80`, `[::1]:80`), an
    /// [`Address`], a path, or a listening socket made elsewhere (socket activation).
    ///
    /// `[::]:PORT` takes IPv4 connections too, where the system allows it.
    pub fn on(place: impl Into<Listen>) -> Listen {
        place.into()
    }

    /// Listens at a further place.
    pub fn and(mut self, place: impl Into<Listen>) -> Listen {
        self.places.extend(place.into().places);
        self
    }

    /// How many connections the kernel may hold before they are accepted; 1024 unless set.
    pub fn backlog(mut self, backlog: u32) -> Listen {
        self.backlog = backlog;
        self
    }

    /// Lets several sockets listen at the same port (`SO_REUSEPORT`).
    pub fn reuse_port(mut self, reuse: bool) -> Listen {
        self.reuse_port = reuse;
        self
    }

    /// How many connections may exist at once, for each listening socket; further ones wait in the
    /// backlog. Unlimited unless set.
    pub fn max_connections(mut self, most: usize) -> Listen {
        self.max_connections = most;
        self
    }

    /// One more layer of each connection, on top of those that were named before: from the wire
    /// upward.
    pub fn layer(mut self, spec: impl LayerSpec + 'static) -> Listen {
        self.stack = self.stack.with(spec);
        self
    }

    /// How long the handshake of each layer may take; 30 seconds unless set.
    pub fn handshaking(mut self, timeout: Duration) -> Listen {
        self.handshaking = Some(timeout);
        self
    }

    /// All layers of each connection at once, from the wire upward.
    pub fn stack(mut self, stack: Stack) -> Listen {
        self.stack = stack;
        self
    }
}

impl From<Place> for Listen {
    fn from(place: Place) -> Listen {
        Listen {
            places: vec![place],
            backlog: 1024,
            reuse_port: false,
            max_connections: usize::MAX,
            stack: Stack::new(),
            handshaking: None,
        }
    }
}

impl From<Address> for Listen {
    fn from(address: Address) -> Listen {
        Listen::from(Place::Address(address))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::from(Address::Ip(address))
    }
}

impl From<&str> for Listen {
    fn from(text: &str) -> Listen {
        Listen::from(match text.parse::<SocketAddr>() {
            Ok(address) => Place::Address(Address::Ip(address)),
            Err(_) => Place::Wrong(text.to_owned()),
        })
    }
}

impl From<&Path> for Listen {
    fn from(path: &Path) -> Listen {
        Listen::from(Address::unix(path))
    }
}

impl From<OwnedFd> for Listen {
    fn from(socket: OwnedFd) -> Listen {
        Listen::from(Place::Fd(socket))
    }
}

impl Server {
    pub(super) fn start(
        lp: &Loop,
        factory: impl Fn(Stack, StreamOptions) -> Factory,
        listen: Listen,
    ) -> io::Result<Server> {
        let mut server = Server {
            lp: lp.clone(),
            listeners: Vec::new(),
            addresses: Vec::new(),
            state: Rc::default(),
        };
        let mut options = StreamOptions::default();
        options.handshake_timeout = listen.handshaking.unwrap_or(options.handshake_timeout);
        for place in listen.places {
            let opened = server.open(place, listen.backlog, listen.reuse_port);
            let started = opened.and_then(|socket| {
                let address = lp.engine().with_driver(|driver| driver.local_address(socket));
                let key = lp.engine().listener(
                    socket,
                    factory(listen.stack.clone(), options),
                    listen.max_connections,
                )?;
                server.listeners.push(key);
                lp.engine().host().servers.borrow_mut().insert(key, Rc::clone(&server.state));
                server.addresses.push(address?);
                Ok(())
            });
            if let Err(error) = started {
                server.close();
                return Err(error);
            }
        }
        Ok(server)
    }

    fn open(&self, place: Place, backlog: u32, reuse_port: bool) -> io::Result<Descriptor> {
        let engine = self.lp.engine();
        let address = match place {
            Place::Address(address) => address,
            Place::Fd(fd) => {
                return engine.with_driver(|driver| {
                    let socket = driver.adopt(fd)?;
                    driver.listen(socket, backlog).inspect_err(|_| drop(driver.close(socket)))?;
                    Ok(socket)
                });
            }
            Place::Wrong(text) => {
                let text = format!("'{text}' is no address to listen at, such as 127.0.0.1:80");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let path = match &address {
            Address::Unix(UnixAddress::Path(path)) => Some(path.clone()),
            _ => None,
        };
        let opened = engine.with_driver(|driver| {
            if let Some(path) = &path {
                remove_stale(driver, path, &address);
            }
            open_listener(driver, &address, backlog, reuse_port)
        });
        if opened.is_ok() {
            self.state.unlink.borrow_mut().extend(path);
        }
        opened.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen at {address}: {error}"))
        })
    }

    /// Where the server listens, one address per place, with the ports that the kernel chose.
    pub fn local_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Suspends accepting; connections wait in the kernel's backlog.
    pub fn pause_accepting(&self) {
        self.listeners.iter().for_each(|key| self.lp.engine().listener_pause(*key, true));
    }

    /// Lets accepting go on.
    pub fn resume_accepting(&self) {
        self.listeners.iter().for_each(|key| self.lp.engine().listener_pause(*key, false));
    }

    /// How many connections of this server exist.
    pub fn connection_count(&self) -> usize {
        self.streams().count()
    }

    /// Closes the listening sockets, and removes the files of Unix sockets. Connections go on.
    pub fn close(&self) {
        if self.state.closed.replace(true) {
            return;
        }
        for key in &self.listeners {
            self.lp.engine().listener_close(*key);
        }
        for path in self.state.unlink.take() {
            // Somebody else may have removed it.
            let _ = self.lp.engine().with_driver(|driver| driver.remove_file(&path));
        }
    }

    /// Closes all connections of the server, each once it has sent what it holds.
    pub fn close_connections(&self) {
        self.streams().for_each(|key| self.lp.engine().stream_close(key));
    }

    /// Aborts all connections of the server.
    pub fn abort_connections(&self) {
        self.streams().for_each(|key| self.lp.engine().stream_abort(key));
    }

    /// Shuts down gracefully: stops accepting at once, gives connections `span` to end by
    /// themselves, then aborts the rest. The future's value is how many had to be aborted.
    pub fn drain(self, span: Duration) -> Drain {
        self.close();
        let sleep = self.lp.sleep(span);
        Drain { server: self, sleep, aborted: None }
    }

    fn streams(&self) -> impl Iterator<Item = ListenerKey<RustHost>> {
        self.listeners.iter().flat_map(|key| self.lp.engine().listener_streams(*key))
    }
}

impl ServerState {
    pub(super) fn released(&self) {
        let waker = self.waker.take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Future for Drain {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        if self.aborted.is_none() && Pin::new(&mut self.sleep).poll(context).is_ready() {
            self.aborted = Some(self.server.connection_count());
            self.server.abort_connections();
        }
        if self.server.connection_count() == 0 {
            return Poll::Ready(self.aborted.unwrap_or(0));
        }
        let old = self.server.state.waker.replace(Some(context.waker().clone()));
        drop(old);
        Poll::Pending
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left who could wait for its connections.
        let mut servers = self.lp.engine().host().servers.borrow_mut();
        self.listeners.iter().for_each(|key| drop(servers.remove(key)));
    }
}

fn open_listener(
    driver: &mut dyn Driver,
    address: &Address,
    backlog: u32,
    reuse_port: bool,
) -> io::Result<Descriptor> {
    let domain = match address {
        Address::Ip(ip) if ip.is_ipv4() => Domain::Inet,
        Address::Ip(_) => Domain::Inet6,
        _ => Domain::Unix,
    };
    let socket = driver.open(domain, Kind::Stream)?;
    let prepare = |driver: &mut dyn Driver| {
        if let Address::Ip(ip) = address {
            driver.set_option(socket, &SocketOption::ReuseAddress(true))?;
            // Accepted connections inherit it, which saves them a call each.
            driver.set_option(socket, &SocketOption::NoDelay(true))?;
            if ip.is_ipv6() {
                let dual = ip.ip().is_unspecified();
                driver.set_option(socket, &SocketOption::OnlyV6(!dual))?;
            }
        }
        if reuse_port {
            driver.set_option(socket, &SocketOption::ReusePort(true))?;
        }
        driver.bind(socket, address)?;
        driver.listen(socket, backlog)
    };
    match prepare(driver) {
        Ok(()) => Ok(socket),
        Err(error) => {
            // The first error is the one to tell.
            let _ = driver.close(socket);
            Err(error)
        }
    }
}

// A socket file that nobody listens at is left over from a process that ended: it is removed. One
// that somebody listens at stays, and binding fails.
fn remove_stale(driver: &mut dyn Driver, path: &Path, address: &Address) {
    let Ok(probe) = driver.open(Domain::Unix, Kind::Stream) else { return };
    let result = driver.connect(probe, address);
    let _ = driver.close(probe);
    if matches!(&result, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused) {
        let _ = driver.remove_file(path);
    }
}
