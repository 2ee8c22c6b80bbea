mod listen;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tepal_driver::Address;
use tepal_layers::Stack;

use super::host::{Factory, RustHost};
use super::{Loop, Sleep};
use crate::StreamOptions;
use crate::engine::ListenerKey;

pub use listen::Listen;

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
#[must_use = "the connections that are left are aborted only by a future that is awaited"]
pub struct Drain {
    server: Server,
    sleep: Sleep,
    aborted: Option<usize>,
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
            let (backlog, reuse_port) = (listen.backlog, listen.reuse_port);
            let opened = lp.engine().with_driver(|driver| place.open(driver, backlog, reuse_port));
            let started = opened.and_then(|(socket, path)| {
                server.state.unlink.borrow_mut().extend(path);
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
