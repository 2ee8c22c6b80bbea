use std::ops::RangeInclusive;
use std::time::Duration;

/// What a simulated kernel is like.
///
/// The default is a friendly one: everything arrives at once and whole, as on a real loopback.
///
/// ```
/// use std::time::Duration;
/// use tepal_sim::{Config, Disturbance};
///
/// let config = Config {
///     seed: 7,
///     latency: Duration::from_millis(5)..=Duration::from_millis(20),
///     disturbance: Disturbance::stormy(),
///     ..Config::default()
/// };
/// assert_eq!(config.max_descriptors, 1024);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// What all chance is drawn from, entropy included. The same seed and the same calls give the
    /// same run.
    pub seed: u64,
    /// How long a segment or an IP datagram travels, one way. Each one draws its own; segments of
    /// a stream keep their order, datagrams need not. Unix sockets and pipes take no time.
    /// Default: zero, and what is sent has then arrived when the call returns, as on a real
    /// loopback.
    pub latency: RangeInclusive<Duration>,
    /// Everything that a program must bear and that a friendly kernel seldom does. Default: none.
    pub disturbance: Disturbance,
    /// `SO_SNDBUF` of a new socket, in bytes. Default: 212992, Linux's `wmem_default`.
    pub send_buffer: usize,
    /// `SO_RCVBUF` of a new socket, in bytes. Default: 212992, Linux's `rmem_default`.
    pub receive_buffer: usize,
    /// What a pipe holds, in bytes; at least 4096. Default: 65536, as on Linux.
    pub pipe_buffer: usize,
    /// Open descriptors per driver; one more fails with `EMFILE`. Default: 1024.
    pub max_descriptors: usize,
    /// Ports that `bind` to port 0 and `connect` choose from, in turn. Default: 32768 to 60999,
    /// Linux's `ip_local_port_range`.
    pub ephemeral_ports: RangeInclusive<u16>,
    /// How often a SYN that nobody answers is sent again before `ETIMEDOUT`: after 1 s, 2 s, 4 s
    /// and so on. Default: 6, Linux's `tcp_syn_retries`, which gives up after 127 s.
    pub syn_retries: u32,
    /// How long the port of the side that closed first stays taken for `bind` without
    /// `SO_REUSEADDR`. Default: 60 s, as on Linux.
    pub time_wait: Duration,
    /// How long, in real time, a wait that nothing simulated can end lets other real threads use
    /// its waker before it fails as a deadlock. Default: zero, since a simulation has no threads.
    pub thread_patience: Duration,
    /// Waits in a row for which the clock may stand still before the next one fails as a
    /// deadlock: an end for tests whose program spins. Default: 1,000,000.
    pub stall_limit: u32,
    /// Keep the trace's lines for [`SimKernel::trace`](crate::SimKernel::trace). The hash of the
    /// trace is always kept. Default: false.
    pub record_trace: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 0,
            latency: Duration::ZERO..=Duration::ZERO,
            disturbance: Disturbance::default(),
            send_buffer: 212_992,
            receive_buffer: 212_992,
            pipe_buffer: 65_536,
            max_descriptors: 1024,
            ephemeral_ports: 32_768..=60_999,
            syn_retries: 6,
            time_wait: Duration::from_secs(60),
            thread_patience: Duration::ZERO,
            stall_limit: 1_000_000,
            record_trace: false,
        }
    }
}

impl Config {
    /// The default with this seed.
    pub fn seeded(seed: u64) -> Config {
        Config { seed, ..Config::default() }
    }
}

/// Seeded misbehaviour, each in percent of the cases where it can happen.
///
/// All of it is within what POSIX allows, so no correct program notices. 100 is certain, except
/// where said. The failing of chosen calls is not here: any driver can be wrapped for that.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Disturbance {
    /// `receive` gives only a part of what is there. `more` is then true, or an edge follows.
    pub short_reads: u8,
    /// `send` takes only a part of what it could.
    pub short_writes: u8,
    /// `receive`, `receive_from`, `accept`, `send` and `send_to` answer that they would block
    /// although they would not; an edge follows. At most 90 counts.
    pub would_block: u8,
    /// A wait reports a registered descriptor that is not ready. At most 90 counts.
    pub spurious_events: u8,
    /// A wait gives its events in another order.
    pub reordered_events: u8,
    /// What TCP sends at once travels in pieces, each with a latency of its own.
    pub pieces: u8,
    /// An IP datagram is lost.
    pub lost_datagrams: u8,
    /// An IP datagram arrives twice.
    pub doubled_datagrams: u8,
}

impl Disturbance {
    /// All that leaves streams and datagrams whole, often: for running a suite once more.
    /// Datagrams are neither lost nor doubled.
    pub fn stormy() -> Disturbance {
        Disturbance {
            short_reads: 40,
            short_writes: 40,
            would_block: 20,
            spurious_events: 20,
            reordered_events: 50,
            pieces: 50,
            lost_datagrams: 0,
            doubled_datagrams: 0,
        }
    }
}
