use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType,
};
use rustix::pipe::{PipeFlags, SpliceFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use rustix::pty::OpenptFlags;

use crate::selector::Timeout;
use crate::{ExitStatus, Wake};

/// What `poll(2)` calls the end of the peer's direction.
pub(crate) const POLLRDHUP: Option<libc::c_short> = Some(libc::POLLRDHUP);

// A send never blocks, also on a borrowed socket in blocking mode, and never raises SIGPIPE.
const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// A socket that is non-blocking and closed on exec.
pub(crate) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// Accepts one connection; the new socket is non-blocking and closed on exec.
pub(crate) fn accept(
    listener: BorrowedFd<'_>,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// A pipe whose ends are closed on exec: the one to read from, the one to write to.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Asks for a pipe that holds `len` bytes.
pub(crate) fn grow_pipe(pipe: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    rustix::pipe::fcntl_setpipe_size(pipe, len)?;
    Ok(())
}

/// Sends one slice on a socket without blocking and without SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    rustix::net::send(socket, bytes, SEND)
}

/// Sends several slices on a socket without blocking and without SIGPIPE.
pub(crate) fn send_slices(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
) -> rustix::io::Result<usize> {
    rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SEND)
}

/// Writes to something that is no socket, without SIGPIPE, in one call: Linux 6.18 has a flag for it.
/// `None`: nothing was done, and another way has to be found.
pub(crate) fn write_quietly(
    fd: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
) -> Option<rustix::io::Result<usize>> {
    // RWF_NOSIGNAL of linux/fs.h, which libc does not have yet.
    const NO_SIGNAL: libc::c_int = 0x100;
    static KNOWN: AtomicBool = AtomicBool::new(true);
    if !KNOWN.load(Ordering::Relaxed) {
        return None;
    }
    // By its number: an older C library has no function for it. The position, in two halves, is -1:
    // where the file stands.
    // SAFETY: a slice of IoSlice is an array of iovec, and lives during the call.
    let count = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            fd.as_raw_fd(),
            slices.as_ptr(),
            slices.len(),
            -1 as libc::c_long,
            -1 as libc::c_long,
            NO_SIGNAL,
        )
    };
    match usize::try_from(count).map_err(|_| last_errno()) {
        // An older kernel, or one in between that lets less through. The flags are looked at first.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
            KNOWN.store(false, Ordering::Relaxed);
            None
        }
        result => Some(result),
    }
}

/// Sends one datagram to an address, or to the connected peer.
pub(crate) fn send_to(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    peer: Option<&SocketAddrAny>,
) -> rustix::io::Result<usize> {
    match peer {
        Some(peer) => rustix::net::sendto(socket, bytes, SEND, peer),
        None => rustix::net::send(socket, bytes, SEND),
    }
}

/// Sends a part of a file; may raise SIGPIPE.
pub(crate) fn send_file(
    to: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> rustix::io::Result<usize> {
    let mut offset = offset;
    rustix::fs::sendfile(to, file, Some(&mut offset), count)
}

/// Moves bytes between a pipe and something else; may raise SIGPIPE.
pub(crate) fn splice(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    count: usize,
) -> rustix::io::Result<usize> {
    rustix::pipe::splice(from, None, to, None, count, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
}

/// `poll(2)`, with nanoseconds.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Timeout) -> rustix::io::Result<usize> {
    let span = match timeout {
        Timeout::Never => None,
        Timeout::Now => Some(0),
        Timeout::Nanos(nanos) => Some(nanos),
    };
    let span = span.map(|nanos| libc::timespec {
        tv_sec: libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: (nanos % 1_000_000_000) as _,
    });
    let span = span.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `fds` is valid for its length, and `span` is null or points to a timespec that lives
    // until the call returns; a null mask leaves the signal mask alone.
    let count =
        unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, span, ptr::null()) };
    usize::try_from(count).map_err(|_| last_errno())
}

/// Bytes of a TCP socket that the peer's host has not acknowledged; 0 for other sockets.
pub(crate) fn unconfirmed(socket: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    let family = rustix::net::sockopt::socket_domain(socket)?;
    if family != AddressFamily::INET && family != AddressFamily::INET6 {
        return Ok(0);
    }
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int to where `count` lives.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 { Err(last_errno()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}

/// The error of the libc call that has just failed.
pub(crate) fn last_errno() -> Errno {
    let code = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    Errno::from_raw_os_error(code)
}

/// Fills `bytes` from the kernel's generator.
pub(crate) fn entropy(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What ends a wait from outside: an eventfd.
#[derive(Debug)]
pub(crate) struct Notifier {
    eventfd: OwnedFd,
}

impl Notifier {
    pub(crate) fn new() -> io::Result<Notifier> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Notifier { eventfd: rustix::event::eventfd(0, flags)? })
    }

    /// Makes the descriptor unreadable again, for engines that see levels.
    pub(crate) fn drain(&self) {
        // Fails only when there is nothing to drain.
        let _ = rustix::io::read(&self.eventfd, &mut [0; 8]);
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

impl Wake for Notifier {
    // rustix makes the system call itself, so `errno` is not touched.
    fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        if rustix::io::write(&self.eventfd, &one) == Err(Errno::AGAIN) {
            // The counter is full, after 2^64 - 2 wake-ups that an edge-triggered engine has not
            // drained. Start it again; the second write then makes the edge.
            self.drain();
            let _ = rustix::io::write(&self.eventfd, &one);
        }
    }
}

/// A descriptor that becomes readable when a child has ended: a pidfd.
pub(crate) fn watch_process(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Fails with `ENOSYS` if the kernel is too old for [`watch_process`] (before 5.3).
pub(crate) fn check_process_watching() -> io::Result<()> {
    static WORKS: AtomicBool = AtomicBool::new(false);
    if !WORKS.load(Ordering::Relaxed) {
        watch_process(std::process::id())?;
        WORKS.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Reaps a child if it has ended.
pub(crate) fn reap(process: BorrowedFd<'_>, _pid: u32) -> io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    loop {
        return match rustix::process::waitid(WaitId::PidFd(process), options) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => {
                Ok(Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitStatus::Code(code),
                    (None, Some(signal)) => ExitStatus::Signal(signal),
                    (None, None) => ExitStatus::Unknown,
                }))
            }
            Err(Errno::INTR) => continue,
            Err(Errno::CHILD) => Ok(Some(ExitStatus::Unknown)),
            Err(error) => Err(error.into()),
        };
    }
}

/// Sends a signal to a child that has not been reaped.
pub(crate) fn kill(process: BorrowedFd<'_>, _pid: u32, signal: i32) -> io::Result<()> {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: the kernel checks the descriptor and the number; a null siginfo is as kill(2).
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, info, 0) };
    if done == 0 { Ok(()) } else { Err(last_errno().into()) }
}

/// A pseudo-terminal: the master's side, the terminal's side.
pub(crate) fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = match rustix::pty::ioctl_tiocgptpeer(&master, flags) {
        Ok(terminal) => terminal,
        // Kernels before 4.13.
        Err(_) => {
            let name = rustix::pty::ptsname(&master, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(name, flags, rustix::fs::Mode::empty())?
        }
    };
    Ok((master, terminal))
}

/// A descriptor that is readable from the start.
pub(crate) fn ready_descriptor() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(1, EventfdFlags::CLOEXEC)?)
}
