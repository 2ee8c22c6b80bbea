use std::net::SocketAddr;
use std::time::Duration;

use crate::HostName;

/// What the caller decides; the rest is the system's files'.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Name servers instead of resolv.conf's. Not capped.
    pub servers: Option<Vec<SocketAddr>>,
    /// A search list instead of resolv.conf's.
    pub search: Option<Vec<HostName>>,
    /// `ndots` instead of resolv.conf's.
    pub ndots: Option<usize>,
    /// Whether the hosts file counts. Default true.
    pub hosts: bool,
    /// The time for the first server instead of resolv.conf's.
    pub timeout: Option<Duration>,
    /// How often the servers are gone through, instead of resolv.conf's; at least 1.
    pub attempts: Option<u32>,
    /// How many answers are kept; 0 keeps none. Default 4096. Memory is bounded by 1 KiB each.
    pub cache_size: usize,
    /// How many sockets may be in use at once; further queries wait. Default 512, at least 1.
    pub max_sockets: usize,
    /// How many packets that are no answer are borne before a query moves to TCP. Default 3.
    pub max_mismatches: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            servers: None,
            search: None,
            ndots: None,
            hosts: true,
            timeout: None,
            attempts: None,
            cache_size: 4096,
            max_sockets: 512,
            max_mismatches: 3,
        }
    }
}

/// The longest time an answer is kept, whatever its TTL says.
pub const MAX_TTL: Duration = Duration::from_secs(86_400);
/// The longest time a negative answer is kept: RFC 2308, section 5, found 1 to 3 hours sensible.
pub const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(3 * 3600);
