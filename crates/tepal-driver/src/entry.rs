use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;
use tepal_base::Key;

use crate::{Descriptor, ExitStatus, Interest};

/// What an engine knows of one open descriptor.
pub(crate) struct Entry {
    pub(crate) fd: Fd,
    pub(crate) kind: Kind,
    pub(crate) registration: Registration,
    /// The peer has ended its direction or the connection is gone, and `receive` has not come to
    /// that end yet. No further edge will tell, so a short read does not mean that nothing is left.
    pub(crate) closing: bool,
    /// Nobody else can hold this open file, so the kernel forgets its registration when it is
    /// closed. Not so for what came from outside: a duplicate elsewhere would keep it alive.
    pub(crate) sole: bool,
}

/// Who closes the kernel's descriptor.
pub(crate) enum Fd {
    Owned(OwnedFd),
    Borrowed(RawFd),
}

/// What a descriptor is, as far as its operations differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A socket of bytes without borders: a short read has emptied it.
    StreamSocket,
    /// A socket of messages.
    MessageSocket,
    /// A pipe or FIFO: a short read has emptied it.
    Pipe { blocking: bool },
    /// A regular file or directory, which never blocks and which no readiness API takes.
    File,
    /// A terminal, device, timer, anything: only `WouldBlock` says that it is empty.
    Device { blocking: bool },
    /// A child process, and how it ended once it is reaped.
    Child { pid: u32, status: Option<ExitStatus> },
    /// A child whose token was closed before it was reaped.
    Orphan { pid: u32 },
}

/// How a descriptor is known to the selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    None,
    /// Reports edges; `armed` is what the kernel has been asked for.
    Edges {
        token: u64,
        slot: Slot,
        armed: Interest,
    },
    /// Reports levels; no slot while the interest is empty, but for one that reports `once`: that
    /// keeps its slot when its report has emptied the interest.
    Levels {
        token: u64,
        slot: Option<Slot>,
        interest: Interest,
        once: bool,
    },
    /// A regular file: one report, after which `receive` is pulled to the end.
    AlwaysReady {
        token: u64,
    },
    /// The owner of a borrowed descriptor closed it, and its number was registered anew.
    Superseded,
}

/// A selector's own name for a registration.
pub(crate) type Slot = u32;

impl Entry {
    pub(crate) fn new(fd: Fd, kind: Kind) -> Entry {
        let sole = matches!(fd, Fd::Owned(_));
        Entry { fd, kind, registration: Registration::None, closing: false, sole }
    }

    /// A descriptor that this driver has made itself.
    pub(crate) fn owned(fd: OwnedFd, kind: Kind) -> Entry {
        Entry::new(Fd::Owned(fd), kind)
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::StreamSocket | Kind::MessageSocket)
    }

    pub(crate) fn is_borrowed(&self) -> bool {
        matches!(self.fd, Fd::Borrowed(_))
    }

    pub(crate) fn slot(&self) -> Option<Slot> {
        match self.registration {
            Registration::Edges { slot, .. } => Some(slot),
            Registration::Levels { slot, .. } => slot,
            _ => None,
        }
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Fd::Owned(fd) => fd.as_fd(),
            // SAFETY: not -1 (checked by `borrow`), and open as long as the owner keeps his promise
            // to `Driver::borrow`; if he breaks it, system calls fail or meet another file.
            Fd::Borrowed(fd) => unsafe { BorrowedFd::borrow_raw(*fd) },
        }
    }
}

impl AsRawFd for Entry {
    fn as_raw_fd(&self) -> RawFd {
        match &self.fd {
            Fd::Owned(fd) => fd.as_raw_fd(),
            Fd::Borrowed(fd) => *fd,
        }
    }
}

impl Kind {
    /// Finds out what a descriptor from outside is.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Kind> {
        match rustix::net::sockopt::socket_type(fd) {
            Ok(SocketType::STREAM) => return Ok(Kind::StreamSocket),
            Ok(_) => return Ok(Kind::MessageSocket),
            Err(Errno::NOTSOCK) => {}
            Err(error) => return Err(error.into()),
        }
        let mode = rustix::fs::fstat(fd)?.st_mode;
        Ok(match FileType::from_raw_mode(mode) {
            FileType::RegularFile | FileType::Directory => Kind::File,
            FileType::Fifo => Kind::Pipe { blocking: is_blocking(fd)? },
            _ => Kind::Device { blocking: is_blocking(fd)? },
        })
    }

    /// Whether calls on it may block, so that readiness must be asked for before each.
    pub(crate) fn blocks(self) -> bool {
        matches!(self, Kind::Pipe { blocking: true } | Kind::Device { blocking: true })
    }

    /// The kind after its descriptor was made non-blocking.
    pub(crate) fn made_nonblocking(self) -> Kind {
        match self {
            Kind::Pipe { .. } => Kind::Pipe { blocking: false },
            Kind::Device { .. } => Kind::Device { blocking: false },
            other => other,
        }
    }
}

fn is_blocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(!rustix::fs::fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

/// The engine's key of a token; both are the same word.
pub(crate) fn key(descriptor: Descriptor) -> Key<Entry> {
    Key::from_bits(descriptor.to_bits())
}

/// The token of an engine's key.
pub(crate) fn descriptor(key: Key<Entry>) -> Descriptor {
    Descriptor::from_bits(key.to_bits())
}
