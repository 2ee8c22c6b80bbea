use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::Descriptor;

/// What to run in a child process, as `std::process::Command` has it, for
/// [`Driver::spawn`](crate::Driver::spawn).
///
/// ```
/// use tepal_driver::{Command, Stdio};
///
/// let command = Command {
///     program: "sort".into(),
///     args: vec!["-u".into()],
///     envs: vec![("LC_ALL".into(), Some("C".into())), ("HOME".into(), None)],
///     stdin: Stdio::Piped,
///     stdout: Stdio::Piped,
///     ..Command::default()
/// };
/// assert!(matches!(command.stderr, Stdio::Inherit));
/// ```
#[derive(Debug, Default)]
pub struct Command {
    /// The program: a path, or a name looked up in `PATH`.
    pub program: OsString,
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Environment changes: a value to set, `None` to remove.
    pub envs: Vec<(OsString, Option<OsString>)>,
    /// Start from an empty environment.
    pub env_clear: bool,
    /// Directory to start in.
    pub directory: Option<PathBuf>,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// Start a process group of its own, so that a terminal's signals do not reach it.
    pub process_group: bool,
    /// Give the child a pseudo-terminal as all three standard streams and as its controlling
    /// terminal, in a session of its own; overrides the three above.
    pub pty: bool,
}

/// What a child gets as one of its standard streams.
///
/// ```
/// use tepal_driver::{Command, Stdio};
///
/// // What it says, complaints included, comes through one pipe; it is asked nothing.
/// let command = Command {
///     program: "make".into(),
///     stdin: Stdio::Null,
///     stdout: Stdio::Piped,
///     stderr: Stdio::ToStdout,
///     ..Command::default()
/// };
/// # let _ = command;
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// The parent's.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// A pipe to the parent.
    Piped,
    /// For standard error: wherever standard output goes.
    ToStdout,
    /// This descriptor.
    Fd(OwnedFd),
}

/// A started child.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: u32,
    /// Reports the end of the process; see [`Driver::wait_child`](crate::Driver::wait_child).
    pub process: Descriptor,
    /// The parent's end of its standard input, if piped.
    pub stdin: Option<Descriptor>,
    /// The parent's end of its standard output, if piped.
    pub stdout: Option<Descriptor>,
    /// The parent's end of its standard error, if piped.
    pub stderr: Option<Descriptor>,
    /// The master side of its pseudo-terminal, if it has one.
    pub terminal: Option<Descriptor>,
}

/// How a child ended.
///
/// ```
/// use tepal_driver::ExitStatus;
///
/// assert!(ExitStatus::Code(0).success());
/// assert_eq!(ExitStatus::Signal(15).returncode(), -15);
/// assert_eq!(ExitStatus::Code(3).to_string(), "exit code 3");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// Somebody else reaped it (another `wait`, or SIGCHLD ignored): the status is lost.
    Unknown,
}

impl ExitStatus {
    /// Whether it exited with code 0.
    pub fn success(self) -> bool {
        self == ExitStatus::Code(0)
    }

    /// As Python's `subprocess` counts: the code, or the negated signal; 255 if unknown.
    pub fn returncode(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => -signal,
            ExitStatus::Unknown => 255,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) => write!(f, "ended by signal {signal}"),
            ExitStatus::Unknown => f.write_str("exit status unknown"),
        }
    }
}
