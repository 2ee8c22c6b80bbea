use std::fmt;
use std::io;
use std::sync::Arc;

use tepal_driver::Half;

/// How a connection ended: the whole record.
#[derive(Clone, Debug)]
pub struct Closed {
    /// What ended it. For programs.
    pub kind: CloseKind,
    /// The kernel's error, if one did.
    pub error: Option<Arc<io::Error>>,
    /// Which direction failed, where one did: a failed read is told apart from a failed write.
    pub half: Option<Half>,
    /// Bytes accepted by `write` that never reached the kernel.
    pub unsent: u64,
    /// Bytes received that the protocol did not take.
    pub unread: u64,
}

/// What ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseKind {
    /// We closed it, and everything written had been given to the kernel.
    Local,
    /// We aborted it.
    Aborted,
    /// The peer ended its direction (FIN), and then we closed.
    PeerEof,
    /// The peer or its host reset it (`ECONNRESET`).
    Reset,
    /// The peer no longer reads (`EPIPE`).
    BrokenPipe,
    /// The kernel gave the peer up (`ETIMEDOUT`).
    TimedOut,
    /// Another error of the kernel; see [`Closed::half`].
    Failed,
    /// It was never made.
    ConnectFailed,
    /// It was not made in time.
    ConnectTimedOut,
    /// We closed it, and the peer took none of what was left for the whole closing time-out.
    ClosingTimedOut,
    /// A callback of the protocol panicked or raised.
    ProtocolFailed,
    /// The protocol claimed to have used more bytes than it was given.
    WrongCount,
    /// The input buffer was at its limit, and the protocol used none of it.
    InputStalled,
}

impl Closed {
    pub(crate) fn new(kind: CloseKind) -> Closed {
        Closed { kind, error: None, half: None, unsent: 0, unread: 0 }
    }

    pub(crate) fn failed(half: Half, error: io::Error) -> Closed {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => CloseKind::Reset,
            io::ErrorKind::BrokenPipe => CloseKind::BrokenPipe,
            io::ErrorKind::TimedOut => CloseKind::TimedOut,
            _ => CloseKind::Failed,
        };
        Closed { error: Some(Arc::new(error)), half: Some(half), ..Closed::new(kind) }
    }

    pub(crate) fn connect_failed(error: io::Error) -> Closed {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => CloseKind::ConnectTimedOut,
            _ => CloseKind::ConnectFailed,
        };
        Closed { error: Some(Arc::new(error)), ..Closed::new(kind) }
    }

    /// Whether the end was an orderly one: ours, the peer's FIN, or an abort that we asked for.
    pub fn is_clean(&self) -> bool {
        matches!(self.kind, CloseKind::Local | CloseKind::PeerEof | CloseKind::Aborted)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.kind, self.half) {
            (CloseKind::Local, _) => "closed",
            (CloseKind::Aborted, _) => "aborted",
            (CloseKind::PeerEof, _) => "closed by the peer",
            (CloseKind::Reset, _) => "reset by the peer",
            (CloseKind::BrokenPipe, _) => "the peer no longer reads",
            (CloseKind::TimedOut, _) => "the peer was not heard of in time",
            (CloseKind::Failed, Some(Half::Read)) => "reading failed",
            (CloseKind::Failed, Some(Half::Write)) => "writing failed",
            (CloseKind::Failed, _) => "failed",
            (CloseKind::ConnectFailed, _) => "could not be connected",
            (CloseKind::ConnectTimedOut, _) => "was not connected in time",
            (CloseKind::ClosingTimedOut, _) => "the peer took nothing of what was left to send",
            (CloseKind::ProtocolFailed, _) => "a callback of the protocol failed",
            (CloseKind::WrongCount, _) => "the protocol used more bytes than there were",
            (CloseKind::InputStalled, _) => "the input buffer is full and the protocol uses none",
        })?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        if self.unsent > 0 {
            write!(f, " ({} bytes unsent)", self.unsent)?;
        }
        Ok(())
    }
}

impl std::error::Error for Closed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.as_deref().map(|error| error as _)
    }
}
