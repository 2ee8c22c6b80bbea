use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// Our caller's data or settings.
    Local,
    /// The peer, or a proxy on the way, sent or did something wrong or said no.
    Remote,
    /// The kernel reported it.
    Os,
    /// Calls out of order, fixable by reading the code.
    Misuse,
}

/// What went wrong, for programs. The wording of an [`Error`] may change, its kind does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The kernel's error, with its number if it has one.
    Io(io::ErrorKind, Option<i32>),
    /// A layer's handshake did not end by its deadline.
    HandshakeTimeout,
    /// The peer did not answer a layer's close by its deadline.
    CloseTimeout,
    /// The bytes ended inside a handshake.
    EofInHandshake,
    /// The bytes ended inside a frame.
    EofInFrame,
    /// A frame is longer than the layer's maximum.
    FrameTooLong,
    /// A frame's length or end is not as its format says.
    FrameMalformed,
    /// The input buffer is full and the protocol takes nothing out of it.
    InputStalled,
    /// A protocol's count of used bytes is out of range, or it or the memory lent cuts a frame.
    WrongCount,
    /// Bytes had been received that the push of a layer was told to reject.
    ResidualRejected,
    /// There is no layer of that name.
    NoSuchLayer,
    /// The layer is being taken out already, or the connection is closing.
    Closing,
    /// The stack has a layer that cannot end one direction only.
    WriteEofRefused,
    /// The layer does not know the command.
    NoSuchCommand,
    /// A setting is out of range.
    InvalidSetting,
    /// The peer's bytes are not of the protocol that the layer speaks.
    Malformed,
    /// The peer sent more than the layer takes in this state.
    LimitExceeded,
    /// The peer speaks another version of the protocol (the version seen).
    Version(u8),
    /// SOCKS: no authentication method in common.
    NoAuthMethod,
    /// A proxy refused our credentials, or we refused a client's.
    AuthRefused,
    /// SOCKS5: the proxy refused, with this reply code.
    Socks5(SocksReply),
    /// SOCKS4: the proxy refused, with this reply code.
    Socks4(u8),
    /// CONNECT: the proxy answered with this status.
    HttpStatus(u16),
    /// A rule refused the request of a client of ours.
    Forbidden,
    /// PROXY: the connection did not begin with a header.
    HeaderMissing,
    /// PROXY: the header's checksum is wrong.
    Checksum,
    /// PROXY: the peer's address is not among the trusted ones.
    Untrusted,
    /// TLS: the bytes ended without close_notify, so the end may be an attacker's.
    TlsTruncated,
    /// TLS: the peer sent this fatal alert.
    TlsAlert(u8),
    /// TLS: the peer's certificate was not accepted.
    TlsCertificate,
    /// TLS: the peers could not agree (version, cipher, ALPN), or the handshake was malformed.
    TlsHandshake,
    /// TLS: the peer broke the protocol after the handshake.
    TlsProtocol,
    /// A layer of the user's failed.
    Other,
}

/// A SOCKS5 reply code other than success (RFC 1928, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SocksReply {
    /// 1: general SOCKS server failure.
    GeneralFailure,
    /// 2: connection not allowed by ruleset.
    NotAllowed,
    /// 3: network unreachable.
    NetworkUnreachable,
    /// 4: host unreachable.
    HostUnreachable,
    /// 5: connection refused.
    ConnectionRefused,
    /// 6: TTL expired.
    TtlExpired,
    /// 7: command not supported.
    CommandNotSupported,
    /// 8: address type not supported.
    AddressTypeNotSupported,
    /// A code that the RFC leaves unassigned.
    Unassigned(u8),
}

impl SocksReply {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            SocksReply::GeneralFailure => 1,
            SocksReply::NotAllowed => 2,
            SocksReply::NetworkUnreachable => 3,
            SocksReply::HostUnreachable => 4,
            SocksReply::ConnectionRefused => 5,
            SocksReply::TtlExpired => 6,
            SocksReply::CommandNotSupported => 7,
            SocksReply::AddressTypeNotSupported => 8,
            SocksReply::Unassigned(code) => code,
        }
    }

    /// The reply that a code on the wire means; `None` for 0, which is success.
    pub const fn from_code(code: u8) -> Option<SocksReply> {
        Some(match code {
            0 => return None,
            1 => SocksReply::GeneralFailure,
            2 => SocksReply::NotAllowed,
            3 => SocksReply::NetworkUnreachable,
            4 => SocksReply::HostUnreachable,
            5 => SocksReply::ConnectionRefused,
            6 => SocksReply::TtlExpired,
            7 => SocksReply::CommandNotSupported,
            8 => SocksReply::AddressTypeNotSupported,
            code => SocksReply::Unassigned(code),
        })
    }
}

/// Why a stack, or one layer of it, failed: whose fault, what kind, which layer, in words.
///
/// Cheap to clone: a machine that failed gives the same error again. No error holds credentials,
/// nor bytes that a peer sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Arc<Inner>);

struct Inner {
    fault: Fault,
    kind: ErrorKind,
    layer: &'static str,
    message: Cow<'static, str>,
    cause: Option<Cause>,
}

type Cause = Arc<dyn std::error::Error + Send + Sync>;

impl PartialEq for Inner {
    fn eq(&self, other: &Inner) -> bool {
        // A cause cannot be compared, and is told by the message.
        (self.fault, self.kind, self.layer, &self.message)
            == (other.fault, other.kind, other.layer, &other.message)
    }
}

impl Eq for Inner {}

impl Error {
    /// The peer's fault.
    pub fn remote(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Fault::Remote, kind, message)
    }

    /// Our caller's data or settings.
    pub fn local(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Fault::Local, kind, message)
    }

    /// Calls out of order.
    pub fn misuse(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Fault::Misuse, kind, message)
    }

    /// What the kernel said of the wire below the stack.
    pub fn os(error: &io::Error) -> Error {
        let kind = ErrorKind::Io(error.kind(), error.raw_os_error());
        Error::new(Fault::Os, kind, error.to_string())
    }

    fn new(fault: Fault, kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
        Error(Arc::new(Inner { fault, kind, layer: "", message: message.into(), cause: None }))
    }

    /// The same error, with the error that it was made of: a layer whose own code raises
    /// exceptions hands them on so. [`source`](std::error::Error::source) gives it back.
    #[must_use]
    pub fn caused_by(self, cause: Arc<dyn std::error::Error + Send + Sync>) -> Error {
        let Inner { fault, kind, layer, ref message, .. } = *self.0;
        Error(Arc::new(Inner { fault, kind, layer, message: message.clone(), cause: Some(cause) }))
    }

    /// The same error, told of a layer; one that names a layer already keeps it.
    pub fn in_layer(self, layer: &'static str) -> Error {
        if !self.0.layer.is_empty() {
            return self;
        }
        let Inner { fault, kind, ref message, ref cause, .. } = *self.0;
        let (message, cause) = (message.clone(), cause.clone());
        Error(Arc::new(Inner { fault, kind, layer, message, cause }))
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// What it is, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The layer's command name (`tls`, `socks5`); empty if it is of the stack or the wire.
    pub fn layer(&self) -> &'static str {
        self.0.layer
    }

    /// What it is, for people, without the layer's name.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.layer.is_empty() {
            write!(f, "{}: ", self.0.layer)?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, {:?}, \"{self}\")", self.0.fault, self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Some(cause) => Some(&**cause),
            None => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (error.kind(), error.fault()) {
            (ErrorKind::Io(kind, _), _) => kind,
            (ErrorKind::HandshakeTimeout | ErrorKind::CloseTimeout, _) => io::ErrorKind::TimedOut,
            (_, Fault::Local | Fault::Misuse) => io::ErrorKind::InvalidInput,
            (_, Fault::Remote | Fault::Os) => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_code_is_its_own_error_and_keeps_its_number() {
        assert_eq!(SocksReply::from_code(0), None);
        for code in 1..=255 {
            assert_eq!(SocksReply::from_code(code).map(SocksReply::code), Some(code));
        }
    }

    #[test]
    fn the_cause_stays_with_the_error_through_the_chain() {
        let cause = std::io::Error::other("the layer's own");
        let error = Error::local(ErrorKind::Other, "failed").caused_by(Arc::new(cause));
        let told = error.in_layer("mine").clone();
        let source = std::error::Error::source(&told).expect("it has a cause");
        assert!(source.downcast_ref::<std::io::Error>().is_some());
        assert_eq!(told, Error::local(ErrorKind::Other, "failed").in_layer("mine"));
    }

    #[test]
    fn the_first_layer_named_stays() {
        let error = Error::remote(ErrorKind::Malformed, "bad").in_layer("tls").in_layer("rate");
        assert_eq!((error.layer(), error.to_string().as_str()), ("tls", "tls: bad"));
    }
}
