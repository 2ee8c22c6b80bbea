//! Reaching a peer: from a name to an established connection, and back to it after a loss.
//!
//! ```text
//!            +-------------------- again -----------------------+
//!            v                                                  |
//!   made -> Resolve -> Connect -> Handshake -> Established -> (lost)
//!              |          |          |                          |
//!              +- hooks --+--- and --+------ then Waiting, or connection_lost and the end
//! ```
//!
//! The stream, its key and its protocol stay the same through all attempts. All sockets of an
//! attempt report under the stream's own token: whatever is ready, each of them is asked. When an
//! attempt is given up its sockets are closed and its question is cancelled, so nothing of it can
//! be heard later.

mod again;
mod backoff;
mod connect;
mod problem;
mod race;
mod report;
mod resolve;
mod shaking;
mod timeouts;
mod trial;
mod watch;

use std::any::Any;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use tepal_base::Instant;
use tepal_driver::{Address, SocketOption};

use crate::engine::Host;
use crate::names::{Family, ResolverKey};

pub(super) use again::Again;
pub use again::{Restart, Unsent};
pub use backoff::Backoff;
pub use connect::Addresses;
pub use problem::{AttemptReport, Phase, Problem, ProblemCause, ProblemKind};
pub(super) use race::Race;
pub(crate) use race::{local_for, local_of};
pub(super) use resolve::Question;
pub use shaking::Handshakes;
pub use timeouts::Timeouts;
pub(super) use watch::Watch;

/// Where a stream leads, and how it gets there. For authors of hosts; programs use
/// [`Target`](crate::Target).
pub struct Outbound<H: Host> {
    /// The peer.
    pub peer: Peer,
    /// Where to bind first: the first of these that is of the peer's family. Empty: the kernel
    /// chooses. If none is of the family, that address is not tried.
    pub local: Vec<Address>,
    /// Who resolves the name; `None`: the loop's default.
    pub resolver: Option<ResolverKey<H>>,
    /// In which way several addresses are tried.
    pub addresses: Addresses,
    /// What a failed handshake means for the addresses that are left.
    pub handshakes: Handshakes,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// The plan by which a failed or lost connection is made anew, without anybody asking.
    pub backoff: Option<Backoff>,
    /// Set on each socket before it is bound.
    pub options: Vec<SocketOption>,
    /// Whose credentials are used, for messages; no secret.
    pub label: Option<Box<str>>,
    /// What is to live as long as the stream, such as the owner of the resolver.
    pub keep: Option<Rc<dyn Any>>,
}

/// A peer, by name or by address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A host by name or literal, and a port.
    Host {
        /// As the caller wrote it.
        host: Box<str>,
        /// The port.
        port: u16,
        /// Which of its addresses count.
        family: Family,
    },
    /// These addresses, in the order of trying.
    Addresses(Vec<Address>),
}

impl<H: Host> Outbound<H> {
    /// To a peer, with the defaults for everything else.
    pub fn to(peer: Peer) -> Outbound<H> {
        Outbound {
            peer,
            local: Vec::new(),
            resolver: None,
            addresses: Addresses::default(),
            handshakes: Handshakes::default(),
            timeouts: Timeouts::default(),
            backoff: None,
            options: Vec::new(),
            label: None,
            keep: None,
        }
    }
}

impl<H: Host> fmt::Debug for Outbound<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What an outbound stream keeps of its way.
pub(super) struct Reaching<H: Host> {
    pub(super) to: Outbound<H>,
    pub(super) step: At<H>,
    // When this attempt began, and when it must have succeeded.
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    // Counted from 1 since the last success.
    pub(super) attempt: u32,
    // Waits since the last success: see `Backoff::steady`.
    pub(super) retries: u32,
    // Since when the connection stands, or stood last.
    pub(super) stands: Instant,
    // Bytes have flowed in this generation.
    pub(super) was_established: bool,
    // What the last resolution gave.
    pub(super) addresses: Vec<Address>,
    pub(super) reports: Vec<AttemptReport>,
    // The address that the connection leads to, or that was tried last.
    pub(super) address: Option<Address>,
    // Somebody asked for another attempt.
    pub(super) again: Option<Again>,
    // The owner closed it: no plan brings it back.
    pub(super) given_up: bool,
    // Raised with each attempt.
    pub(super) generation: u64,
    pub(super) problem: Option<Arc<Problem>>,
}

/// What is under way.
pub(super) enum At<H: Host> {
    Nothing,
    Resolving(Question<H>),
    Connecting(Box<Race<H>>),
    // One address has connected and makes its handshakes; what is left waits for their outcome.
    Chosen(Box<Race<H>>),
}

impl<H: Host> Reaching<H> {
    pub(super) fn new(to: Outbound<H>) -> Reaching<H> {
        Reaching {
            to,
            step: At::Nothing,
            began: Instant::ZERO,
            deadline: Instant::FAR,
            attempt: 0,
            retries: 0,
            stands: Instant::FAR,
            was_established: false,
            addresses: Vec::new(),
            reports: Vec::new(),
            address: None,
            again: None,
            given_up: false,
            generation: 0,
            problem: None,
        }
    }
}
