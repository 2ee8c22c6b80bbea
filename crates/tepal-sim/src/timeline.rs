use std::collections::BTreeMap;

use tepal_base::{Instant, Key};

use crate::socket::{Socket, SocketId};
use crate::state::Source;

/// What will happen on the simulated network, by time and, for equal times, by order of planning.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    planned: BTreeMap<(Instant, u64), Action>,
    // How many actions were ever planned.
    count: u64,
}

/// Something that arrives.
#[derive(Debug)]
pub(crate) enum Action {
    /// A client asks for a connection, for the `tries`-th time; zero is the first.
    Syn { from: SocketId, attempt: u32, tries: u32 },
    /// The listener's half-open `embryo` answers.
    SynAck { to: SocketId, attempt: u32, embryo: SocketId },
    /// The client's answer to that: the embryo may be accepted.
    Established { embryo: SocketId },
    /// Nobody listens there.
    Refused { to: SocketId, attempt: u32 },
    /// The last SYN was not answered in time.
    GaveUp { to: SocketId, attempt: u32 },
    /// Bytes of a stream.
    Bytes { from: SocketId, to: SocketId, bytes: Vec<u8> },
    /// The end of a stream.
    Fin { from: SocketId, to: SocketId },
    /// The end of a connection.
    Reset { to: SocketId },
    /// An IP datagram, looked up by its address when it arrives.
    Datagram { source: Source, bytes: Vec<u8> },
    /// Nobody takes datagrams there.
    Unreachable { to: SocketId },
}

impl Timeline {
    pub(crate) fn plan(&mut self, at: Instant, action: Action) {
        self.count += 1;
        self.planned.insert((at, self.count), action);
    }

    /// The next action that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Action> {
        let entry = self.planned.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// The client is gone: nothing that its connect planned for it happens any more.
    pub(crate) fn forget_client(&mut self, id: SocketId) {
        self.planned.retain(|_, action| {
            !matches!(action, Action::Syn { from: client, .. }
                | Action::GaveUp { to: client, .. }
                | Action::Refused { to: client, .. } if *client == id)
        });
    }

    /// When the next action happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.planned.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many actions are planned, and how many bytes travel with them.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        let bytes = self.planned.values().map(|action| match action {
            Action::Bytes { bytes, .. } | Action::Datagram { bytes, .. } => bytes.len(),
            _ => 0,
        });
        (self.planned.len(), bytes.sum())
    }
}

impl Action {
    /// For the trace: what arrives where.
    pub(crate) fn describe(&self) -> (&'static str, u64, usize) {
        let bits = |id: &Key<Socket>| id.to_bits();
        match self {
            Action::Syn { from, tries, .. } => ("syn from", bits(from), *tries as usize),
            Action::SynAck { to, .. } => ("syn-ack to", bits(to), 0),
            Action::Established { embryo } => ("established", bits(embryo), 0),
            Action::Refused { to, .. } => ("refused", bits(to), 0),
            Action::GaveUp { to, .. } => ("gave up", bits(to), 0),
            Action::Bytes { to, bytes, .. } => ("bytes to", bits(to), bytes.len()),
            Action::Fin { to, .. } => ("fin to", bits(to), 0),
            Action::Reset { to } => ("reset to", bits(to), 0),
            Action::Datagram { source, bytes } => {
                ("datagram from", bits(&source.socket), bytes.len())
            }
            Action::Unreachable { to } => ("unreachable", bits(to), 0),
        }
    }
}
