//! Why a look-up failed, told so that a person can act on it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::NameError;

/// A look-up that gave no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LookupError {
    /// What went wrong, for programs.
    pub kind: LookupErrorKind,
    /// The name or address that was asked for, as the caller wrote it.
    pub name: Box<str>,
    /// What each server did, in the order they were asked; empty if none was.
    pub servers: Vec<ServerReport>,
    /// Modules of nsswitch.conf that were passed over, since they exist only in the C library.
    /// If there are any, the message names the way to ask them: `SystemResolver`.
    pub other_modules: Vec<Box<str>>,
}

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LookupErrorKind {
    /// The text is no host name. The caller's fault.
    InvalidName(NameError),
    /// An IPv6 literal names a zone that is no interface here. The caller's fault.
    UnknownZone,
    /// The text is an address of the other family than the one asked for.
    OtherFamily,
    /// The name does not exist.
    NotFound,
    /// The name exists and has no record of the kind asked for.
    NoData,
    /// A name below `.onion`, which is never looked up (RFC 7686).
    NeverResolved,
    /// Only a module that lives in the C library could know.
    OtherModule,
    /// Every server failed; [`LookupError::servers`] tells how. It may work later.
    ServersFailed,
    /// The deadline passed. It may work later.
    DeadlinePassed,
    /// Aliases lead round in a circle, or there are more than 8.
    AliasLoop,
}

impl LookupErrorKind {
    /// Whether the same question may be answered later.
    pub fn is_temporary(self) -> bool {
        matches!(self, LookupErrorKind::ServersFailed | LookupErrorKind::DeadlinePassed)
    }
}

/// What one server did with one query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServerReport {
    /// The server.
    pub server: SocketAddr,
    /// How it was asked.
    pub over: Over,
    /// What came of it.
    pub outcome: ServerOutcome,
    /// How long that took.
    pub elapsed: Duration,
}

/// The transport of a query.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Over {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// Why a server's turn ended without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServerOutcome {
    /// No usable answer in time; so many packets were no answer to the question.
    Silent {
        /// Packets that were broken or answered something else.
        ignored: u32,
    },
    /// The socket failed.
    Fault(SocketFault),
    /// An error code (RFC 6895): 2 SERVFAIL, 5 REFUSED, and so on.
    Code(u16),
    /// The answer was cut off although it came over TCP.
    Truncated,
    /// The server pointed to other servers instead of answering.
    Referral,
    /// Its aliases lead round in a circle, or there are more than 8.
    AliasLoop,
}

/// What befell a socket, told by its owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SocketFault {
    /// Refused: an ICMP port unreachable, or a reset in answer to a connect.
    Refused,
    /// No way to the server.
    Unreachable,
    /// The peer reset the stream.
    Reset,
    /// The peer closed the stream before the answer was whole.
    Closed,
    /// Not permitted by this machine.
    Denied,
    /// No socket could be had.
    NoSocket,
    /// Any other error, by its number.
    Other(i32),
}

impl From<&io::Error> for SocketFault {
    fn from(error: &io::Error) -> SocketFault {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => SocketFault::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                SocketFault::Unreachable
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => SocketFault::Reset,
            io::ErrorKind::UnexpectedEof => SocketFault::Closed,
            io::ErrorKind::PermissionDenied => SocketFault::Denied,
            _ => SocketFault::Other(error.raw_os_error().unwrap_or(0)),
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve {:?}: {}", self.name, self.reason())
    }
}

impl LookupError {
    /// One that no server and no file had a part in.
    pub fn new(kind: LookupErrorKind, name: impl Into<Box<str>>) -> LookupError {
        LookupError { kind, name: name.into(), servers: Vec::new(), other_modules: Vec::new() }
    }

    /// The message without the name, for a message that names it already.
    pub fn reason(&self) -> impl fmt::Display {
        Reason(self)
    }
}

struct Reason<'a>(&'a LookupError);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LookupError { kind, servers, other_modules, .. } = self.0;
        kind.fmt(f)?;
        let alike = |a: &ServerReport, b: &ServerReport| {
            (a.server, a.over, a.outcome) == (b.server, b.over, b.outcome)
        };
        // Two families and several rounds make many reports, of which few are different.
        for (index, report) in servers.iter().enumerate() {
            if servers[..index].iter().any(|earlier| alike(earlier, report)) {
                continue;
            }
            let all = servers[index..].iter().filter(|later| alike(later, report));
            let longest = all.clone().map(|later| later.elapsed).max().unwrap_or_default();
            let (server, over, outcome) = (report.server, report.over, report.outcome);
            write!(f, "{} {server} ({over}) {outcome}", if index == 0 { ":" } else { ";" })?;
            match all.count() {
                1 => write!(f, " after {:.3} s", longest.as_secs_f64())?,
                count => write!(f, " {count} times, after {:.3} s at most", longest.as_secs_f64())?,
            }
        }
        if !other_modules.is_empty() {
            let modules = other_modules.join(", ");
            write!(
                f,
                " (nsswitch.conf also names {modules}, which only the C library has: use SystemResolver to ask it)"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for LookupError {}

impl fmt::Display for LookupErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LookupErrorKind::InvalidName(error) => return error.fmt(f),
            LookupErrorKind::UnknownZone => "the address names a zone that is no interface here",
            LookupErrorKind::OtherFamily => "the address is of the other family",
            LookupErrorKind::NotFound => "the name does not exist",
            LookupErrorKind::NoData => "the name has no such records",
            LookupErrorKind::NeverResolved => "names below .onion are never looked up",
            LookupErrorKind::OtherModule => "only another name service module could know it",
            LookupErrorKind::ServersFailed => "no server gave an answer",
            LookupErrorKind::DeadlinePassed => "no answer came in time",
            LookupErrorKind::AliasLoop => "its aliases lead round in a circle or are too many",
        })
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{} ({}) {} after {seconds:.3} s", self.server, self.over, self.outcome)
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Over::Udp => "udp",
            Over::Tcp => "tcp",
        })
    }
}

impl fmt::Display for ServerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerOutcome::Silent { ignored: 0 } => f.write_str("said nothing"),
            ServerOutcome::Silent { ignored } => {
                write!(f, "said nothing usable (packets that were no answer: {ignored})")
            }
            ServerOutcome::Fault(fault) => fault.fmt(f),
            ServerOutcome::Code(code) => match code {
                1 => f.write_str("said FORMERR"),
                2 => f.write_str("said SERVFAIL"),
                4 => f.write_str("said NOTIMP"),
                5 => f.write_str("said REFUSED"),
                code => write!(f, "said error code {code}"),
            },
            ServerOutcome::Truncated => f.write_str("cut off its answer"),
            ServerOutcome::Referral => f.write_str("pointed elsewhere"),
            ServerOutcome::AliasLoop => f.write_str("gave aliases without an end"),
        }
    }
}

impl fmt::Display for SocketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketFault::Refused => f.write_str("refused the connection"),
            SocketFault::Unreachable => f.write_str("could not be reached"),
            SocketFault::Reset => f.write_str("reset the connection"),
            SocketFault::Closed => f.write_str("closed the connection early"),
            SocketFault::Denied => f.write_str("is not permitted"),
            SocketFault::NoSocket => f.write_str("got no socket"),
            SocketFault::Other(errno) => write!(f, "failed with error {errno}"),
        }
    }
}
