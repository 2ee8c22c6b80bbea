use std::fmt::Display;
use std::io;

use tepal::{Closed, Phase};

/// What came of a run: the exit status tells the phase that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Everything ended in order.
    Success,
    /// This machine failed: no descriptors, no certificates to read.
    Local,
    /// The command line is wrong.
    Usage,
    /// The name has no address, or could not be looked up.
    Resolve,
    /// No address could be connected.
    Connect,
    /// A layer's handshake failed: TLS, a proxy.
    Handshake,
    /// The connection stood and was lost, or its time was over.
    Lost,
    /// Standard input or output failed.
    Stdio,
    /// The address cannot be listened at.
    Listen,
    /// The program that was run for a connection failed.
    Child,
}

/// Why a run ended: the status, and a line for standard error unless it is told already.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: Option<String>,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Local => 1,
            Exit::Usage => 2,
            Exit::Resolve => 3,
            Exit::Connect => 4,
            Exit::Handshake => 5,
            Exit::Lost => 6,
            Exit::Stdio => 7,
            Exit::Listen => 8,
            Exit::Child => 9,
        }
    }

    /// What the end of a connection means.
    pub(crate) fn of(closed: &Closed) -> Exit {
        use tepal::CloseKind::{
            ConnectFailed, ConnectTimedOut, HandshakeFailed, HandshakeTimedOut, ResolveFailed,
            ResolveTimedOut,
        };
        match (closed.problem.as_ref().map(|problem| problem.phase), closed.kind) {
            (_, ResolveFailed | ResolveTimedOut) | (Some(Phase::Resolve), _) => Exit::Resolve,
            (_, ConnectFailed | ConnectTimedOut) | (Some(Phase::Connect), _) => Exit::Connect,
            (_, HandshakeFailed | HandshakeTimedOut) | (Some(Phase::Handshake), _) => {
                Exit::Handshake
            }
            _ if closed.is_clean() => Exit::Success,
            _ => Exit::Lost,
        }
    }
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Display) -> Failure {
        Failure { exit, text: Some(text.to_string()) }
    }

    /// Standard output failed. A reader that has gone is no news, as for any program in a pipe.
    pub(crate) fn of_output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure { exit: Exit::Stdio, text: None },
            _ => Failure::new(Exit::Stdio, format!("standard output: {error}")),
        }
    }

    pub(crate) fn tell(&self) {
        if let Some(text) = &self.text {
            crate::report::say(text);
        }
    }
}

/// What this machine refuses.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(Exit::Local, error)
    }
}
