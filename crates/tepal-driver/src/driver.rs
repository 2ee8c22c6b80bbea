use std::any::Any;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::SystemTime;

use tepal_base::{Buffer, Instant, Key};

use crate::{
    Address, Child, Command, Event, ExitStatus, FileStamp, Half, Interest, NetworkInterface,
    SignalSource, SocketOption, Waker,
};

/// An open socket, pipe end, child or foreign descriptor of one driver.
///
/// It is a token, not a number of the kernel's: after [`Driver::close`] it finds nothing (`EBADF`),
/// even when the kernel has given the number to something else. Plain data, free to copy.
pub type Descriptor = Key<OpenDescriptor>;

/// What a [`Descriptor`] names. It has no values; each driver keeps its own record.
#[derive(Debug)]
pub enum OpenDescriptor {}

/// Everything the loop knows of the world outside: clocks, entropy, sockets, pipes, readiness,
/// wake-up, signals, children, configuration files.
///
/// # Threads
///
/// A driver lives on the thread that runs the loop (and moves with it). Only its [`Waker`] may be
/// used from other threads, and its [`Wait`] may be waited on while other threads run host code.
///
/// # Order of calls
///
/// A descriptor is made by [`open`](Driver::open), [`accept`](Driver::accept),
/// [`pipe`](Driver::pipe), [`adopt`](Driver::adopt) or [`borrow`](Driver::borrow), perhaps
/// [`register`](Driver::register)ed once, used, and [`close`](Driver::close)d once. All of them are
/// non-blocking and close-on-exec.
///
/// # Pulling
///
/// A registered descriptor reports [`Readiness`](crate::Readiness) by edges: *there may be
/// something now*. The loop then calls `receive`, `accept` or `send` until the result says that
/// nothing is left ([`Received::more`], [`Sent::blocked`], `WouldBlock`). A driver never loses an
/// edge between that answer and the next wait, and may report one too many: pulling nothing
/// (`WouldBlock`) is normal.
///
/// # Errors
///
/// Kernel errors come as [`io::Error`] with the raw errno. `EINTR` is retried inside and never
/// seen. A token that names nothing, or the wrong kind of thing, gives `EBADF`. An operation that a
/// driver does not have gives [`io::ErrorKind::Unsupported`].
///
/// ```
/// use std::io::IoSlice;
/// use tepal_driver::{Interest, Readiness, open_driver};
///
/// let mut driver = open_driver(None)?;
/// let (from, to) = driver.pipe()?;
/// driver.register(from, 7, Interest::READ)?;
/// driver.send(to, &[IoSlice::new(b"ping")])?;
///
/// let mut wait = driver.prepare(None);
/// wait.wait();
/// let mut events = Vec::new();
/// driver.collect(wait, &mut events)?;
/// assert_eq!(events[0].token, 7);
/// assert!(events[0].readiness.intersects(Readiness::READABLE));
///
/// let received = driver.receive(from, vec![0; 64].into());
/// assert_eq!(received.buffer[..received.result?], *b"ping");
/// assert!(!received.more); // a short read has emptied the pipe
/// # std::io::Result::Ok(())
/// ```
pub trait Driver {
    /// The engine's name, as `TEPAL_DRIVER` spells it: `epoll`, `poll`, `sim`.
    fn name(&self) -> &'static str;

    // ---- time and chance

    /// The monotonic clock, in nanoseconds from an origin of the driver's.
    fn now(&mut self) -> Instant;

    /// The wall clock, which may jump.
    fn wall(&mut self) -> SystemTime;

    /// Fills `bytes` from the system's cryptographic generator.
    fn entropy(&mut self, bytes: &mut [u8]) -> io::Result<()>;

    // ---- making descriptors

    /// Opens a socket.
    fn open(&mut self, domain: Domain, kind: Kind) -> io::Result<Descriptor>;

    /// A pipe: the end to read from, the end to write to.
    fn pipe(&mut self) -> io::Result<(Descriptor, Descriptor)>;

    /// Asks for a pipe that holds `len` bytes, by its end to write to.
    ///
    /// # Errors
    ///
    /// `Unsupported` where pipes have one size. Linux gives each user a number of pages for all
    /// pipes and refuses more with `PermissionDenied`; the pipe is then as large as before.
    fn grow_pipe(&mut self, input: Descriptor, len: usize) -> io::Result<()> {
        let _ = (input, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes charge of a descriptor that was opened elsewhere, and makes it non-blocking.
    ///
    /// It may be anything: a listening or connected socket, a pipe, a terminal, a regular file. A
    /// regular file, which no readiness API takes, counts as ready when registered: one event, and
    /// then `receive` says that there is more until the end. It cannot be
    /// [`watch`](Driver::watch)ed (`EPERM`), as that would be a busy loop.
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Descriptor>;

    /// Uses a descriptor that stays its owner's: [`close`](Driver::close) unregisters it and leaves
    /// it open. Its blocking mode is not touched: sockets are used with `MSG_DONTWAIT`, and before
    /// each `receive` and `send` on a blocking pipe or terminal the driver asks whether it is
    /// ready, and writes to it in small pieces.
    ///
    /// The owner must keep it open until then; if he closes it early, operations fail with `EBADF`
    /// or, once the number is used again, act on the wrong file.
    fn borrow(&mut self, fd: RawFd) -> io::Result<Descriptor>;

    /// The kernel's number of a descriptor; `None` for a token that names nothing and in drivers
    /// without a kernel.
    fn raw_fd(&self, descriptor: Descriptor) -> Option<RawFd>;

    // ---- sockets

    /// Binds a socket to a local address, with its IPv6 scope.
    fn bind(&mut self, socket: Descriptor, local: &Address) -> io::Result<()>;

    /// Makes a bound socket accept connections.
    fn listen(&mut self, socket: Descriptor, backlog: u32) -> io::Result<()>;

    /// Starts a connection. `InProgress` is followed by an event with
    /// [`Readiness::WRITABLE`](crate::Readiness::WRITABLE), after which
    /// [`take_error`](Driver::take_error) tells the outcome.
    ///
    /// `WouldBlock` is a failure: a Unix socket's listener has a full queue, nothing is under way
    /// and no event will come.
    fn connect(&mut self, socket: Descriptor, peer: &Address) -> io::Result<Connect>;

    /// The pending error of a socket (`SO_ERROR`), which is cleared: how a connect ended.
    fn take_error(&mut self, socket: Descriptor) -> io::Result<Option<io::Error>>;

    /// Pulls one inbound connection. `WouldBlock` when none waits.
    fn accept(&mut self, listener: Descriptor) -> io::Result<(Descriptor, Address)>;

    /// Pulls bytes of a stream into `target`, which moves in and comes back.
    ///
    /// `Ok(0)` is the end of the stream (for a target that is not empty).
    fn receive(&mut self, stream: Descriptor, target: Buffer) -> Received;

    /// Pulls one datagram.
    fn receive_from(&mut self, socket: Descriptor, target: Buffer) -> ReceivedFrom;

    /// Gives bytes of a stream to the kernel. SIGPIPE is never raised.
    ///
    /// The slices are free again when the call returns; a driver that completes later copies them.
    /// `WouldBlock` is no error here but `Sent { count: 0, blocked: true }`.
    fn send(&mut self, stream: Descriptor, bytes: &[IoSlice<'_>]) -> io::Result<Sent>;

    /// Sends one datagram: to `peer`, or to the connected peer. `WouldBlock` is followed by an
    /// event with [`Readiness::WRITABLE`](crate::Readiness::WRITABLE).
    fn send_to(
        &mut self,
        socket: Descriptor,
        bytes: &[u8],
        peer: Option<&Address>,
    ) -> io::Result<usize>;

    /// Sends `count` bytes of a file at `offset` without passing them through this process.
    ///
    /// `Unsupported` when this pair of descriptors cannot do it: read the file and `send` instead.
    /// `count: 0` that is not blocked means that the file ended. A short count does not mean
    /// blocked: call again.
    fn send_file(
        &mut self,
        stream: Descriptor,
        file: Descriptor,
        offset: u64,
        count: usize,
    ) -> io::Result<Sent>;

    /// Reads from a file at `offset`, for whoever needs its bytes; 0 is its end (for a target that
    /// is not empty). The file's own position stays.
    fn read_at(&mut self, file: Descriptor, offset: u64, target: &mut [u8]) -> io::Result<usize>;

    /// Moves at most `count` bytes between a stream and a pipe inside the kernel.
    ///
    /// `Unsupported` when this pair cannot; `count: 0` not blocked is the end of `from`. A short
    /// count does not mean blocked: call again. `blocked` means that `from` has nothing *or* `to`
    /// has no room: the caller knows which, because one of the two is always a pipe whose fill it
    /// counts.
    fn splice(&mut self, from: Descriptor, to: Descriptor, count: usize) -> io::Result<Sent>;

    /// How many bytes that were sent on a TCP stream its peer's host has not confirmed: a reset would
    /// take them back. 0 for what knows no reset, and where the system does not tell.
    fn unconfirmed(&mut self, stream: Descriptor) -> io::Result<usize>;

    /// Ends one direction or both.
    fn shutdown(&mut self, socket: Descriptor, half: Half) -> io::Result<()>;

    /// Closes the token. The kernel's descriptor is closed too unless it was borrowed.
    ///
    /// After [`SocketOption::Linger`] of zero this sends a reset.
    fn close(&mut self, descriptor: Descriptor) -> io::Result<()>;

    /// The address that a socket is bound to.
    fn local_address(&mut self, socket: Descriptor) -> io::Result<Address>;

    /// The address that a socket is connected to.
    fn peer_address(&mut self, socket: Descriptor) -> io::Result<Address>;

    /// Sets one socket option.
    fn set_option(&mut self, socket: Descriptor, option: &SocketOption) -> io::Result<()>;

    // ---- readiness

    /// Starts reporting readiness edges of a descriptor under `token`; once per descriptor.
    ///
    /// Costs one `epoll_ctl` for the descriptor's whole life, plus one the first time that a send
    /// blocks. `interest` tells what will be wanted at first: `READ` for listeners, established
    /// streams, datagram sockets and children, `WRITE` too while connecting.
    fn register(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<()>;

    /// The small level-triggered half, for `add_reader`, `add_writer` and watchers: reports
    /// `token` in every wait as long as the descriptor is ready for some of `interest`.
    ///
    /// An empty interest stops the reports and keeps the descriptor. The first call registers,
    /// later calls change. Not to be mixed with [`register`](Driver::register).
    ///
    /// # Errors
    ///
    /// `EEXIST` if the same descriptor is watched or registered under another token, `EBADF` if it
    /// is closed, `EPERM` for a regular file.
    fn watch(&mut self, descriptor: Descriptor, token: u64, interest: Interest) -> io::Result<()>;

    /// As [`watch`](Driver::watch) for whoever waits once, and perhaps again and again for the same
    /// descriptor. Whether the reports stop by themselves after the first wait that has one; where
    /// they do not, the caller stops them.
    ///
    /// A watch that has stopped so costs nothing to keep, and arming it again is one call to the
    /// kernel. It gives way to anybody who registers the descriptor, and is then `EBADF`.
    ///
    /// # Errors
    ///
    /// Those of [`watch`](Driver::watch).
    fn watch_once(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<bool> {
        self.watch(descriptor, token, interest).map(|()| false)
    }

    // ---- waiting, in three steps

    /// First step: hands out the waiter, armed to end at `deadline` (`None`: no deadline;
    /// a deadline that has passed: only look).
    fn prepare(&mut self, deadline: Option<Instant>) -> Box<dyn Wait>;

    /// Third step: takes the waiter back and appends what it found to `events`.
    ///
    /// The second step, [`Wait::wait`], comes between them. Spurious and stale events are allowed:
    /// the loop checks each token's version.
    fn collect(&mut self, wait: Box<dyn Wait>, events: &mut Vec<Event>) -> io::Result<()>;

    /// What other threads and signal handlers use to end a wait.
    fn waker(&self) -> Waker;

    // ---- signals, children, files

    /// A new source of process signals. A host may bring another.
    fn signals(&mut self) -> Box<dyn SignalSource>;

    /// Starts a child process. Its `process` descriptor, registered for `READ`, reports when it
    /// has ended.
    fn spawn(&mut self, command: &mut Command) -> io::Result<Child>;

    /// The exit status of an ended child, which is thereby reaped; `None` while it runs. Asked
    /// again it tells the same. A child whose token is closed without this is reaped by the driver
    /// when it ends.
    fn wait_child(&mut self, process: Descriptor) -> io::Result<Option<ExitStatus>>;

    /// Sends a signal to a child that has not been reaped (never to a process that got its number);
    /// `ESRCH` after that.
    fn kill_child(&mut self, process: Descriptor, signal: i32) -> io::Result<()>;

    /// Reads a whole configuration file (`/etc/hosts`, `/etc/resolv.conf`); of a longer one the
    /// first `limit` bytes.
    fn read_file(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;

    /// Which state of a configuration file there is, to know whether to read it again.
    fn file_changed(&mut self, path: &Path) -> io::Result<FileStamp>;

    /// Removes the file of a Unix socket.
    fn remove_file(&mut self, path: &Path) -> io::Result<()>;

    // ---- this machine

    /// The network interfaces with their addresses, loopback included, by index.
    fn interfaces(&mut self) -> io::Result<Vec<NetworkInterface>>;

    /// The machine's own name, as `hostname(1)` prints it.
    fn host_name(&mut self) -> io::Result<String>;

    /// A variable of the environment; `None` if it is not set or no Unicode text.
    fn variable(&mut self, name: &str) -> Option<String>;
}

/// The detached second step of a wait.
///
/// It touches nothing that the driver or the loop can reach, so a host may let other threads run
/// meanwhile (Python lets the GIL go). What it found, errors included, stays inside until
/// [`Driver::collect`]. That it is `Any` lets a driver know its own waiter again, so that one
/// waiter serves for all waits.
pub trait Wait: Any + Send {
    /// Blocks until something is ready, the deadline has come or the waker was used. Never ends
    /// early on purpose, but may (`EINTR`).
    fn wait(&mut self);

    /// Whether [`wait`](Wait::wait) may block at all; `false` when the deadline has passed.
    fn blocks(&self) -> bool;
}

/// The address family of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Domain {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
    /// Unix domain.
    Unix,
}

/// The type of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Connected byte streams: TCP, Unix streams.
    Stream,
    /// Messages: UDP, Unix datagrams.
    Datagram,
}

/// How far [`Driver::connect`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connect {
    /// The connection stands.
    Connected,
    /// An event will tell.
    InProgress,
}

/// The answer of [`Driver::receive`].
#[derive(Debug)]
pub struct Received {
    /// The target, back again.
    pub buffer: Buffer,
    /// How many bytes were read to its front; zero is the end of the stream.
    pub result: io::Result<usize>,
    /// Whether more may be there now. If not, an event will tell.
    pub more: bool,
}

/// The answer of [`Driver::receive_from`].
#[derive(Debug)]
pub struct ReceivedFrom {
    /// The target, back again.
    pub buffer: Buffer,
    /// The length of the datagram, which may be zero, and its sender (`None`: unnamed). A datagram
    /// longer than the target is cut to it.
    pub result: io::Result<(usize, Option<Address>)>,
}

/// The answer of [`Driver::send`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// How many bytes the kernel took.
    pub count: usize,
    /// Whether it can take no more now. An event with [`Readiness::WRITABLE`] will tell.
    ///
    /// [`Readiness::WRITABLE`]: crate::Readiness::WRITABLE
    pub blocked: bool,
}
