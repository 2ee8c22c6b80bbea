use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tepal_driver::Address;

use crate::names::{AddrInfoError, ResolveCause, ResolveError};

/// Where a connection stands.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::Protocol;
///
/// struct Quiet;
/// impl Protocol for Quiet {}
///
/// let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
/// let transport = event_loop.attach(Quiet, ours.into())?;
/// let outcome = event_loop.run_until_complete(transport.established())?;
/// assert!(outcome.is_ok());
/// assert_eq!(transport.phase().as_str(), "established");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Its name is being resolved, or it has not begun.
    Resolve,
    /// Its addresses are being tried.
    Connect,
    /// The handshakes of its layers run.
    Handshake,
    /// Bytes flow.
    Established,
    /// It was closed, and what was written is still leaving.
    Closing,
    /// It failed or was lost, and a new attempt begins after a wait.
    Waiting,
    /// It is over.
    Closed,
}

/// Why a peer was not reached, or was lost: enough to act on, and to try again.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Phase, ProblemKind};
///
/// // A port where nobody listens any more.
/// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// struct Quiet;
/// impl tepal::Protocol for Quiet {}
///
/// let transport = event_loop.connect(Quiet, free);
/// let outcome = event_loop.run_until_complete(transport.established())?;
/// let error = outcome.expect_err("nobody listens");
/// let problem = error.problem().expect("each failure has one");
/// assert_eq!((problem.phase, problem.kind), (Phase::Connect, ProblemKind::Refused));
/// assert_eq!((problem.port, problem.attempt), (Some(free.port()), 1));
/// println!("{problem}"); // for people
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// Where it happened.
    pub phase: Phase,
    /// The layer that failed, by its command name, if one did: `tls`, `socks5`.
    pub layer: Option<&'static str>,
    /// What happened. For programs.
    pub kind: ProblemKind,
    /// The host as the caller wrote it, if it was named.
    pub host: Option<Box<str>>,
    /// The port; `None` for Unix sockets.
    pub port: Option<u16>,
    /// The address that was tried last, or that the connection led to.
    pub address: Option<Address>,
    /// Where the socket was to be bound first, if that was asked for.
    pub local: Option<Address>,
    /// Whose credentials were used, as [`Target::label`](crate::Target::label) named them; never a
    /// secret.
    pub label: Option<Box<str>>,
    /// What lies behind it.
    pub cause: Option<ProblemCause>,
    /// Every address, in the order of trying.
    pub attempts: Vec<AttemptReport>,
    /// Since the begin of this attempt.
    pub elapsed: Duration,
    /// The limit of the whole attempt ([`Timeouts::total`](crate::Timeouts)), if that is what was
    /// over, and not the phase's own.
    pub total: Option<Duration>,
    /// Which attempt it was, counted from 1 since the last success.
    pub attempt: u32,
}

/// What kept a peer from being reached.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::ProblemKind;
///
/// // A port where nobody listens any more.
/// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// struct Quiet;
/// impl tepal::Protocol for Quiet {}
///
/// let transport = event_loop.connect(Quiet, free);
/// let outcome = event_loop.run_until_complete(transport.established())?;
/// let error = outcome.expect_err("nobody listens");
/// let problem = error.problem().expect("each failure has one");
/// let again = matches!(problem.kind, ProblemKind::Refused | ProblemKind::TimedOut);
/// assert!(again);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The time of the phase was over, or that of the whole.
    TimedOut,
    /// The name does not exist, or has no address.
    NameNotFound,
    /// The name could not be looked up; it may be there.
    NameUnknown,
    /// The peer refused, or reset the connection.
    Refused,
    /// There is no way to the peer.
    Unreachable,
    /// This machine does not permit it.
    NotPermitted,
    /// This machine has no descriptor, port or memory left.
    Exhausted,
    /// A layer failed: its handshake, or what came after it.
    Layer,
    /// The peer was there and is gone.
    Lost,
    /// Anything else of the kernel's; see the cause.
    Failed,
}

/// What lies behind a problem.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::ProblemCause;
///
/// // A port where nobody listens any more.
/// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// struct Quiet;
/// impl tepal::Protocol for Quiet {}
///
/// let transport = event_loop.connect(Quiet, free);
/// let outcome = event_loop.run_until_complete(transport.established())?;
/// let error = outcome.expect_err("nobody listens");
/// let problem = error.problem().expect("each failure has one");
/// let Some(ProblemCause::Io(error)) = &problem.cause else { panic!("the kernel refused") };
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProblemCause {
    /// The name gave no address.
    Resolve(ResolveError),
    /// The kernel's error.
    Io(Arc<io::Error>),
    /// A layer's error.
    Layer(tepal_layers::Error),
}

/// One address, and what came of it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::AttemptReport;
///
/// // A port where nobody listens any more.
/// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// struct Quiet;
/// impl tepal::Protocol for Quiet {}
///
/// let transport = event_loop.connect(Quiet, free);
/// let outcome = event_loop.run_until_complete(transport.established())?;
/// let error = outcome.expect_err("nobody listens");
/// let problem = error.problem().expect("each failure has one");
/// for AttemptReport { address, error, elapsed, .. } in &problem.attempts {
///     println!("{address:?}: {error:?} after {elapsed:?}");
/// }
/// # assert_eq!(problem.attempts.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptReport {
    /// The address.
    pub address: Address,
    /// Why it did not serve; `None` if it connected, or if its turn never came.
    pub error: Option<Arc<io::Error>>,
    /// The layer whose handshake failed, by its command name; `None` if it was the connect.
    pub layer: Option<&'static str>,
    /// From its start to its end; `None` if its turn never came.
    pub elapsed: Option<Duration>,
}

impl Phase {
    /// The phase in one word, as `transport.phase` has it: `resolve`, `connect`, `handshake`,
    /// `established`, `closing`, `waiting`, `closed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Handshake => "handshake",
            Phase::Established => "established",
            Phase::Closing => "closing",
            Phase::Waiting => "waiting",
            Phase::Closed => "closed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ProblemKind {
    /// What a resolver's error means.
    pub(crate) fn of_resolve(error: &ResolveError) -> ProblemKind {
        match error.code {
            AddrInfoError::NoName | AddrInfoError::NoData | AddrInfoError::AddressFamily => {
                ProblemKind::NameNotFound
            }
            _ => ProblemKind::NameUnknown,
        }
    }

    /// What a kernel's error means.
    pub(crate) fn of_io(error: &io::Error) -> ProblemKind {
        match error.kind() {
            io::ErrorKind::TimedOut => ProblemKind::TimedOut,
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotFound => ProblemKind::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => ProblemKind::Unreachable,
            io::ErrorKind::PermissionDenied => ProblemKind::NotPermitted,
            io::ErrorKind::AddrNotAvailable => ProblemKind::Exhausted,
            _ if error.raw_os_error().is_some_and(tepal_driver::is_exhaustion) => {
                ProblemKind::Exhausted
            }
            _ => ProblemKind::Failed,
        }
    }
}

impl Problem {
    /// The kernel's error that stands for it: the cause itself, or one of the same kind.
    pub fn io_error(&self) -> io::Error {
        let kind = match (&self.cause, self.kind) {
            (Some(ProblemCause::Io(error)), _) => {
                if let Some(code) = error.raw_os_error() {
                    return io::Error::from_raw_os_error(code);
                }
                error.kind()
            }
            (_, ProblemKind::TimedOut) => io::ErrorKind::TimedOut,
            (_, ProblemKind::NameNotFound) => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.clone())
    }

    // The host is this address, written as such.
    fn is_literal(&self, address: &Address) -> bool {
        let Some(peer) = address.as_ip() else { return false };
        self.host.as_deref().is_some_and(|host| host.parse() == Ok(peer.ip()))
    }

    fn target(&self) -> Target<'_> {
        Target(self)
    }
}

// The peer as a person names it.
struct Target<'a>(&'a Problem);

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.host, self.0.port, &self.0.address) {
            (Some(host), Some(port), _) => write!(f, "{host} port {port}")?,
            (Some(host), None, _) => f.write_str(host)?,
            (None, _, Some(address)) => address.fmt(f)?,
            (None, ..) => f.write_str("the peer")?,
        }
        if let Some(local) = &self.0.local {
            write!(f, " from {local}")?;
        }
        match &self.0.label {
            Some(label) => write!(f, " as {label}"),
            None => Ok(()),
        }
    }
}

/// One line: what was tried, where, what each address said, how long it took, which attempt.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One address that was given as such needs no list.
        let single = self.host.is_none() && self.attempts.len() == 1;
        let failed = self.attempts.iter().filter(|attempt| attempt.error.is_some()).count();
        let listed = match self.phase {
            Phase::Connect => !self.attempts.is_empty() && !single,
            Phase::Handshake => failed > 1,
            _ => false,
        };
        let target = self.target();
        match (self.phase, self.layer) {
            (Phase::Resolve, _) => write!(f, "cannot find {target}")?,
            (Phase::Handshake, Some(layer)) => write!(f, "cannot set up {layer} with {target}")?,
            (Phase::Connect | Phase::Handshake, _) => write!(f, "cannot connect to {target}")?,
            _ => write!(f, "lost the connection to {target}")?,
        }
        if self.host.is_some()
            && !listed
            && matches!(self.phase, Phase::Handshake | Phase::Established | Phase::Closing)
            && let Some(address) = self.address.as_ref().filter(|address| !self.is_literal(address))
        {
            write!(f, " at {address}")?;
        }
        match &self.cause {
            // The list says it, address by address.
            Some(_) if listed => {}
            // The name stands there already.
            Some(ProblemCause::Resolve(ResolveError {
                cause: Some(ResolveCause::Lookup(error)),
                ..
            })) => write!(f, ": {}", error.reason())?,
            Some(cause) => write!(f, ": {cause}")?,
            None => {}
        }
        if listed {
            for (index, attempt) in self.attempts.iter().enumerate() {
                write!(f, "{} {attempt}", if index == 0 { ":" } else { ";" })?;
            }
        }
        write!(f, " (attempt {}, {:.3} s", self.attempt, self.elapsed.as_secs_f64())?;
        if let Some(total) = self.total {
            write!(f, ", the whole may take {} s", total.as_secs_f64())?;
        }
        f.write_str(")")
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.cause.as_ref()? {
            ProblemCause::Resolve(error) => Some(error),
            ProblemCause::Io(error) => Some(&**error),
            ProblemCause::Layer(error) => Some(error),
        }
    }
}

impl fmt::Display for ProblemCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemCause::Resolve(error) => error.fmt(f),
            ProblemCause::Io(error) => error.fmt(f),
            ProblemCause::Layer(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for AttemptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match (&self.error, self.elapsed) {
            (_, None) => f.write_str(" was not tried"),
            (Some(error), Some(elapsed)) => {
                let elapsed = elapsed.as_secs_f64();
                match error.kind() {
                    io::ErrorKind::TimedOut if self.layer.is_none() => {
                        write!(f, " gave no answer in {elapsed:.3} s")
                    }
                    io::ErrorKind::Interrupted => write!(f, " was {error} after {elapsed:.3} s"),
                    // An error of this machine's is not the peer's word.
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                        write!(f, " said {error} after {elapsed:.3} s")
                    }
                    _ => write!(f, " failed after {elapsed:.3} s: {error}"),
                }
            }
            (None, Some(elapsed)) => write!(f, " connected after {:.3} s", elapsed.as_secs_f64()),
        }
    }
}
