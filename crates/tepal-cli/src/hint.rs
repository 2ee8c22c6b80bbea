//! What a person can do about a failure.

use tepal::layers::ErrorKind;
use tepal::{Closed, Phase, ProblemKind};

/// A few words behind the message, where there is something to try.
pub(crate) fn hint(closed: &Closed) -> Option<&'static str> {
    match closed.layer_error.as_ref().map(tepal::layers::Error::kind) {
        Some(ErrorKind::TlsCertificate) => {
            return Some("ca=FILE says whom else to trust, name=NAME whom to expect");
        }
        Some(ErrorKind::HandshakeTimeout) => {
            return Some("does the peer speak this? timeout-handshake= waits longer");
        }
        _ => {}
    }
    let problem = closed.problem.as_ref()?;
    match (problem.kind, problem.phase) {
        (ProblemKind::TimedOut, Phase::Resolve) => Some("timeout-dns= waits longer"),
        (ProblemKind::TimedOut, Phase::Connect) => Some("timeout-connecting= waits longer"),
        (ProblemKind::NameNotFound, _) => Some("is the name right?"),
        (ProblemKind::Refused, Phase::Connect) => Some("does the server run?"),
        _ => None,
    }
}

/// The record in words, with what can be done.
pub(crate) fn told(closed: &Closed) -> String {
    match hint(closed) {
        Some(hint) => format!("{closed}; {hint}"),
        None => closed.to_string(),
    }
}
