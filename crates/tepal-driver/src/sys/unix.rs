use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SendFlags, SocketAddrAny, SocketType};
use rustix::pty::OpenptFlags;

use crate::selector::Timeout;
use crate::sigpipe::without_sigpipe;
use crate::{ExitStatus, Wake};

/// Not everywhere: a half-close is then seen by reading, which `POLLIN` asks for.
pub(crate) const POLLRDHUP: Option<libc::c_short> = None;

// Not every system has MSG_NOSIGNAL, so SIGPIPE is kept away as it is for pipes.
const SEND: SendFlags = SendFlags::DONTWAIT;

/// A socket that is non-blocking and closed on exec.
///
/// Not in one step everywhere: a process started by another thread in between inherits it.
pub(crate) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, kind, None)?;
    set_flags(&socket)?;
    Ok(socket)
}

/// Accepts one connection; the new socket is non-blocking and closed on exec.
pub(crate) fn accept(
    listener: BorrowedFd<'_>,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, peer) = rustix::net::acceptfrom(listener)?;
    set_flags(&socket)?;
    Ok((socket, peer))
}

fn set_flags(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(fd, true)
}

/// A pipe whose ends are closed on exec: the one to read from, the one to write to.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (from, to) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&from, FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&to, FdFlags::CLOEXEC)?;
    Ok((from, to))
}

/// Asks for a pipe that holds `len` bytes.
pub(crate) fn grow_pipe(_: BorrowedFd<'_>, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends one slice on a socket without blocking and without SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    without_sigpipe(|| rustix::net::send(socket, bytes, SEND))
}

/// Sends several slices on a socket without blocking and without SIGPIPE.
pub(crate) fn send_slices(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
) -> rustix::io::Result<usize> {
    let mut no_control = rustix::net::SendAncillaryBuffer::default();
    without_sigpipe(|| rustix::net::sendmsg(socket, slices, &mut no_control, SEND))
}

/// Writes to something that is no socket, without SIGPIPE, in one call: no system here can.
pub(crate) fn write_quietly(
    _: BorrowedFd<'_>,
    _: &[IoSlice<'_>],
) -> Option<rustix::io::Result<usize>> {
    None
}

/// Sends one datagram to an address, or to the connected peer.
pub(crate) fn send_to(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    peer: Option<&SocketAddrAny>,
) -> rustix::io::Result<usize> {
    without_sigpipe(|| match peer {
        Some(peer) => rustix::net::sendto(socket, bytes, SEND, peer),
        None => rustix::net::send(socket, bytes, SEND),
    })
}

/// Other systems have `sendfile` in other shapes; none of them is used.
pub(crate) fn send_file(
    _to: BorrowedFd<'_>,
    _file: BorrowedFd<'_>,
    _offset: u64,
    _count: usize,
) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

/// Linux alone has it.
pub(crate) fn splice(
    _from: BorrowedFd<'_>,
    _to: BorrowedFd<'_>,
    _count: usize,
) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

/// `poll(2)`, in milliseconds, rounded up.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Timeout) -> rustix::io::Result<usize> {
    // SAFETY: `fds` is valid for its length while the call lasts.
    let count =
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout.millis()) };
    usize::try_from(count).map_err(|_| last_errno())
}

/// Bytes of a TCP socket that the peer's host has not acknowledged, where a call tells: nowhere here.
pub(crate) fn unconfirmed(_: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    Ok(0)
}

/// The error of the libc call that has just failed.
pub(crate) fn last_errno() -> Errno {
    let code = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    Errno::from_raw_os_error(code)
}

/// Fills `bytes` from the kernel's generator.
pub(crate) fn entropy(bytes: &mut [u8]) -> io::Result<()> {
    // The most that one call gives.
    for part in bytes.chunks_mut(256) {
        // SAFETY: `part` is writable for its length while the call lasts.
        if unsafe { libc::getentropy(part.as_mut_ptr().cast(), part.len()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What ends a wait from outside: a pipe.
#[derive(Debug)]
pub(crate) struct Notifier {
    from: OwnedFd,
    to: OwnedFd,
}

impl Notifier {
    pub(crate) fn new() -> io::Result<Notifier> {
        let (from, to) = pipe()?;
        rustix::io::ioctl_fionbio(&from, true)?;
        rustix::io::ioctl_fionbio(&to, true)?;
        Ok(Notifier { from, to })
    }

    /// Makes the descriptor unreadable again.
    pub(crate) fn drain(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.from, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }
}

impl Wake for Notifier {
    fn wake(&self) {
        let before = errno::errno();
        // A full pipe wakes as well; nothing else can fail.
        let _ = rustix::io::write(&self.to, &[1]);
        errno::set_errno(before);
    }
}

/// Other systems have no descriptors for processes that `poll` takes everywhere.
pub(crate) fn watch_process(_pid: u32) -> io::Result<OwnedFd> {
    Err(Errno::NOSYS.into())
}

/// Fails with `ENOSYS` where [`watch_process`] does not work.
pub(crate) fn check_process_watching() -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

/// Reaps a child if it has ended.
pub(crate) fn reap(_process: BorrowedFd<'_>, _pid: u32) -> io::Result<Option<ExitStatus>> {
    Err(Errno::NOSYS.into())
}

/// Sends a signal to a child that has not been reaped.
pub(crate) fn kill(_process: BorrowedFd<'_>, _pid: u32, _signal: i32) -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

/// A pseudo-terminal: the master's side, the terminal's side.
pub(crate) fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::io::fcntl_setfd(&master, FdFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    Ok((master, terminal))
}

/// A descriptor that is readable from the start.
pub(crate) fn ready_descriptor() -> io::Result<OwnedFd> {
    // The end of a pipe whose other end is closed.
    Ok(pipe()?.0)
}
