use std::fmt;
use std::io;
use std::sync::Arc;

use tepal_driver::Half;
use tepal_layers::{Error, ErrorKind};

use super::Problem;

/// How a connection ended: the whole record.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{CloseKind, Closed, Protocol, Transport};
///
/// struct Listens;
///
/// impl Protocol for Listens {
///     fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
///         match closed.kind {
///             CloseKind::PeerEof => println!("the peer is done"),
///             CloseKind::Reset => println!("the peer broke off: {closed}"),
///             _ => println!("{closed}, {} bytes unsent", closed.unsent),
///         }
///         transport.event_loop().stop();
///     }
/// }
///
/// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let transport = event_loop.attach(Listens, ours.into())?;
/// assert!(transport.closed().is_none());
/// drop(theirs);
/// event_loop.run_forever()?;
/// assert_eq!(transport.closed().expect("it has ended").kind, CloseKind::PeerEof);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// What ended it. For programs.
    pub kind: CloseKind,
    /// The kernel's error, if one did.
    pub error: Option<Arc<io::Error>>,
    /// Which direction failed, where one did: a failed read is told apart from a failed write.
    pub half: Option<Half>,
    /// The layer's error, if a layer did: which layer, whose fault, what kind, in words.
    pub layer_error: Option<Error>,
    /// The whole story, if an outbound connection was not made, or was lost: what was tried,
    /// where, and what each address said.
    pub problem: Option<Arc<Problem>>,
    /// Bytes accepted by `write`, in whatever form their layers had given them, that never reached
    /// the kernel.
    pub unsent: u64,
    /// Bytes received that the protocol did not take, in all layers.
    pub unread: u64,
    // The layer whose handshake was under way, where the wire failed under it.
    pub(crate) shaking: Option<&'static str>,
}

/// What ended a connection.
///
/// ```
/// use tepal::{CloseKind, Closed, EventLoop, Protocol, Transport};
///
/// struct Upload;
///
/// impl Protocol for Upload {
///     fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
///         match closed.kind {
///             CloseKind::PeerEof => println!("the peer has all of it"),
///             CloseKind::Reset => println!("{} bytes short", closed.unsent),
///             other => println!("something else: {other:?}"),
///         }
///         # assert_eq!(closed.kind, CloseKind::PeerEof);
///         transport.event_loop().stop();
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = EventLoop::new()?;
/// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// event_loop.attach(Upload, ours.into())?;
/// drop(theirs);
/// event_loop.run_forever()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseKind {
    /// We closed it, and everything written had been given to the kernel; or we gave an attempt up
    /// before there was a connection, and [`Closed::unsent`] counts what was written early.
    Local,
    /// We aborted it.
    Aborted,
    /// The peer ended its direction (FIN), and then we closed; or, of a stream that only writes,
    /// the reader left when everything had been given to the kernel.
    PeerEof,
    /// The peer ended its direction inside a layer (TLS: close_notify), and then we closed.
    PeerClosedLayer,
    /// The peer or its host reset it (`ECONNRESET`).
    Reset,
    /// The peer no longer reads (`EPIPE`).
    BrokenPipe,
    /// The kernel gave the peer up (`ETIMEDOUT`).
    TimedOut,
    /// Another error of the kernel; see [`Closed::half`].
    Failed,
    /// Its peer's name has no address, or could not be looked up.
    ResolveFailed,
    /// Its peer's name was not looked up in time.
    ResolveTimedOut,
    /// It was never made.
    ConnectFailed,
    /// It was not made in time.
    ConnectTimedOut,
    /// We closed it, and the peer took none of what was left for the whole closing time-out; or a
    /// layer's peer did not answer its close in time, and [`Closed::layer_error`] tells which.
    ClosingTimedOut,
    /// The bytes ended without TLS's close_notify, so somebody may have cut them off.
    TlsTruncated,
    /// The peer sent a fatal TLS alert: [`ErrorKind::TlsAlert`] in [`Closed::layer_error`] has its
    /// number.
    TlsAlert,
    /// A layer could not be built, or its handshake failed.
    HandshakeFailed,
    /// A layer's handshake did not end in time.
    HandshakeTimedOut,
    /// Bytes had come before a layer was pushed that was to reject them (STARTTLS injection).
    ResidualRejected,
    /// A layer failed after its handshake.
    LayerFailed,
    /// Nothing came from the peer for too long ([`Timeouts::read`](crate::Timeouts)).
    ReadTimedOut,
    /// The peer took nothing for too long ([`Timeouts::write`](crate::Timeouts)).
    WriteTimedOut,
    /// It had lived as long as it may ([`Timeouts::session`](crate::Timeouts)).
    SessionTimedOut,
    /// We gave it up to connect anew.
    Reconnecting,
    /// A callback of the protocol panicked or raised.
    ProtocolFailed,
    /// The protocol claimed to have used more bytes than it was given or a part of a frame, or lent
    /// memory that is too small for a frame.
    WrongCount,
    /// The input buffer was at its limit, and the protocol used none of it.
    InputStalled,
}

impl Closed {
    pub(crate) fn new(kind: CloseKind) -> Closed {
        Closed {
            kind,
            error: None,
            half: None,
            layer_error: None,
            problem: None,
            unsent: 0,
            unread: 0,
            shaking: None,
        }
    }

    /// The same, told of the layer whose handshake it ended, if any was under way.
    pub(crate) fn in_layer(self, shaking: Option<&'static str>) -> Closed {
        let shaking = shaking.filter(|name| !name.is_empty());
        Closed { shaking: shaking.or(self.shaking), ..self }
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

    /// What a layer's error means for the connection.
    pub(crate) fn of_layer(error: Error, in_handshake: bool) -> Closed {
        let kind = match error.kind() {
            ErrorKind::Io(kind, code) => {
                let error = code.map_or_else(|| kind.into(), io::Error::from_raw_os_error);
                return Closed::failed(Half::Read, error);
            }
            ErrorKind::WrongCount => CloseKind::WrongCount,
            ErrorKind::InputStalled => CloseKind::InputStalled,
            ErrorKind::ResidualRejected => CloseKind::ResidualRejected,
            ErrorKind::CloseTimeout => CloseKind::ClosingTimedOut,
            ErrorKind::HandshakeTimeout => CloseKind::HandshakeTimedOut,
            ErrorKind::TlsTruncated => CloseKind::TlsTruncated,
            ErrorKind::TlsAlert(_) => CloseKind::TlsAlert,
            _ if in_handshake => CloseKind::HandshakeFailed,
            _ => CloseKind::LayerFailed,
        };
        Closed { layer_error: Some(error), ..Closed::new(kind) }
    }

    /// The name of the layer that ended the connection, or whose handshake was under way when the
    /// wire failed; `None` if there is no such layer.
    pub fn layer(&self) -> Option<&'static str> {
        let of_error = self.layer_error.as_ref().map(Error::layer).filter(|name| !name.is_empty());
        of_error.or(self.shaking)
    }

    /// Whether the end was an orderly one: ours, the peer's FIN or close_notify, or an abort that
    /// we asked for.
    pub fn is_clean(&self) -> bool {
        use CloseKind::{Aborted, Local, PeerClosedLayer, PeerEof, Reconnecting};
        matches!(self.kind, Local | PeerEof | PeerClosedLayer | Aborted | Reconnecting)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(problem) = &self.problem {
            problem.fmt(f)?;
            return self.fmt_unsent(f);
        }
        f.write_str(self.words())?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        if let Some(error) = &self.layer_error {
            write!(f, ": {error}")?;
        }
        self.fmt_unsent(f)
    }
}

impl Closed {
    /// The kind in words.
    pub(super) fn words(&self) -> &'static str {
        match (self.kind, self.half) {
            (CloseKind::Local, _) => "closed",
            (CloseKind::Aborted, _) => "aborted",
            (CloseKind::PeerEof, _) => "closed by the peer",
            (CloseKind::PeerClosedLayer, _) => "closed by the peer's layer",
            (CloseKind::Reset, _) => "reset by the peer",
            (CloseKind::BrokenPipe, _) => "the peer no longer reads",
            (CloseKind::TimedOut, _) => "the peer was not heard of in time",
            (CloseKind::Failed, Some(Half::Read)) => "reading failed",
            (CloseKind::Failed, Some(Half::Write)) => "writing failed",
            (CloseKind::Failed, _) => "failed",
            (CloseKind::ResolveFailed, _) => "its name has no address",
            (CloseKind::ResolveTimedOut, _) => "its name was not looked up in time",
            (CloseKind::ReadTimedOut, _) => "nothing came for too long",
            (CloseKind::WriteTimedOut, _) => "the peer took nothing for too long",
            (CloseKind::SessionTimedOut, _) => "its time was over",
            (CloseKind::Reconnecting, _) => "given up to connect anew",
            (CloseKind::ConnectFailed, _) => "could not be connected",
            (CloseKind::ConnectTimedOut, _) => "was not connected in time",
            (CloseKind::ClosingTimedOut, _) => "the peer took nothing of what was left to send",
            (CloseKind::TlsTruncated, _) => "cut off",
            (CloseKind::TlsAlert, _) => "ended by the peer's alert",
            (CloseKind::HandshakeFailed, _) => "the handshake failed",
            (CloseKind::HandshakeTimedOut, _) => "the handshake took too long",
            (CloseKind::ResidualRejected, _) => "unexpected bytes before a change of layers",
            (CloseKind::LayerFailed, _) => "a layer failed",
            (CloseKind::ProtocolFailed, _) => "a callback of the protocol failed",
            (CloseKind::WrongCount, _) => "the protocol used more bytes than there were",
            (CloseKind::InputStalled, _) => "the input buffer is full and the protocol uses none",
        }
    }

    fn fmt_unsent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unsent {
            0 => Ok(()),
            unsent => write!(f, " ({unsent} bytes unsent)"),
        }
    }
}

impl std::error::Error for Closed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let layer = self.layer_error.as_ref().map(|error| error as _);
        self.error.as_deref().map(|error| error as _).or(layer)
    }
}
