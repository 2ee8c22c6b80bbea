use std::fmt;

use crate::socket::Role;
use crate::state::State;

/// What a simulated kernel holds at one moment: the books that must balance at a test's end.
///
/// ```
/// use tepal_driver::{Domain, Driver, Kind};
/// use tepal_sim::SimDriver;
///
/// let mut driver = SimDriver::new(1);
/// let socket = driver.open(Domain::Inet, Kind::Stream)?;
/// assert_eq!(driver.kernel().ledger().open_descriptors, 1);
/// driver.close(socket)?;
/// driver.kernel().ledger().assert_balanced();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Ledger {
    /// Descriptors that no driver has closed.
    pub open_descriptors: usize,
    /// How many of them are registered or watched.
    pub registered: usize,
    /// Descriptors that were still open when their driver was dropped.
    pub leaked_descriptors: usize,
    /// Sockets that were closed and still have bytes or an end of stream to deliver.
    pub lingering_sockets: usize,
    /// Connections that wait to be accepted, or whose handshake runs.
    pub unaccepted: usize,
    /// Bytes of streams and datagrams that were sent and have not been read, wherever they are.
    pub bytes_in_flight: usize,
    /// Arrivals that are planned: segments, datagrams, handshakes, resets.
    pub arrivals: usize,
    /// Sockets with a local port, TIME_WAIT not counted.
    pub ports: usize,
    /// Signals that somebody listens for.
    pub signals: usize,
}

impl Ledger {
    /// Whether nothing is held.
    pub fn is_balanced(&self) -> bool {
        *self == Ledger::default()
    }

    /// For the end of a test.
    ///
    /// # Panics
    ///
    /// With the ledger's text, if something is held.
    #[track_caller]
    pub fn assert_balanced(&self) {
        assert!(self.is_balanced(), "the ledger does not balance: {self}");
    }
}

/// What is held, in words: `2 open descriptors, 5 bytes in flight`, or `nothing`.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.open_descriptors, "open descriptors"),
            (self.registered, "registered"),
            (self.leaked_descriptors, "leaked descriptors"),
            (self.lingering_sockets, "lingering sockets"),
            (self.unaccepted, "unaccepted connections"),
            (self.bytes_in_flight, "bytes in flight"),
            (self.arrivals, "planned arrivals"),
            (self.ports, "ports"),
            (self.signals, "signals listened for"),
        ];
        let held: Vec<_> = all
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        f.write_str(&if held.is_empty() { "nothing".to_owned() } else { held.join(", ") })
    }
}

impl State {
    pub(crate) fn ledger(&self) -> Ledger {
        let (arrivals, flying) = self.timeline.in_flight();
        let mut ledger = Ledger {
            arrivals,
            bytes_in_flight: flying,
            leaked_descriptors: self.leaked,
            ports: self.ports.count(),
            ..Ledger::default()
        };
        for driver in self.drivers.iter().flatten() {
            ledger.open_descriptors += driver.descriptors.len();
            ledger.signals += driver.signals.len();
            ledger.registered += (driver.descriptors.iter())
                .filter(|(_, entry)| entry.registration.is_some())
                .count();
        }
        for (_, socket) in self.sockets.iter() {
            match &socket.role {
                Role::Stream(stream) => {
                    ledger.bytes_in_flight += stream.incoming.len() + stream.outgoing.len();
                    ledger.lingering_sockets += usize::from(stream.orphan);
                    ledger.unaccepted += usize::from(stream.listener.is_some());
                }
                Role::Datagrams(datagrams) => {
                    let queued = datagrams.queue.iter().map(|datagram| datagram.bytes.len());
                    ledger.bytes_in_flight += queued.sum::<usize>();
                }
                _ => {}
            }
        }
        ledger
    }
}
