use tepal_base::Instant;

use super::LookupId;
use crate::error::LookupError;
use crate::record::Record;
use crate::{DnsName, HostAddr};

/// The start of a lookup.
#[derive(Clone, PartialEq, Debug)]
pub enum Started {
    /// It needed no packet: a literal, a hosts entry, a cached answer, or an error.
    Finished(Result<Answer, LookupError>),
    /// It is under way; [`Resolver::poll_finished`](crate::Resolver::poll_finished) will give its answer.
    Pending(LookupId),
}

/// What a lookup found.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Of [`Resolver::lookup_host`](crate::Resolver::lookup_host).
    Host(HostAnswer),
    /// Of [`Resolver::lookup_address`](crate::Resolver::lookup_address).
    Names(NamesAnswer),
    /// Of [`Resolver::lookup_records`](crate::Resolver::lookup_records).
    Records(RecordsAnswer),
}

impl Answer {
    /// The answer of a [`Resolver::lookup_host`](crate::Resolver::lookup_host).
    pub fn into_host(self) -> Option<HostAnswer> {
        match self {
            Answer::Host(answer) => Some(answer),
            _ => None,
        }
    }

    /// The answer of a [`Resolver::lookup_address`](crate::Resolver::lookup_address).
    pub fn into_names(self) -> Option<NamesAnswer> {
        match self {
            Answer::Names(answer) => Some(answer),
            _ => None,
        }
    }

    /// The answer of a [`Resolver::lookup_records`](crate::Resolver::lookup_records).
    pub fn into_records(self) -> Option<RecordsAnswer> {
        match self {
            Answer::Records(answer) => Some(answer),
            _ => None,
        }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The name was an address.
    Literal,
    /// The hosts file.
    Hosts,
    /// `localhost`, which is always this machine (RFC 6761, section 6.3).
    Localhost,
    /// The machine's own name.
    MyHostname,
    /// A name server, now or earlier.
    Dns,
}

/// The addresses of a name.
#[derive(Clone, PartialEq, Debug)]
pub struct HostAnswer {
    /// The canonical name: behind all aliases, or as the hosts file has it first.
    pub canonical: Box<str>,
    /// The addresses, not empty and each once, IPv6 first; not yet in RFC 6724's order.
    pub addresses: Vec<HostAddr>,
    /// Where they came from.
    pub origin: Origin,
    /// Until when they may be kept; `None` if no time was said.
    pub expires: Option<Instant>,
    /// One family was answered and the other was not, for this reason.
    pub missing: Option<Box<LookupError>>,
}

/// The names of an address.
#[derive(Clone, PartialEq, Debug)]
pub struct NamesAnswer {
    /// The names, not empty; the first is the canonical one.
    pub names: Vec<Box<str>>,
    /// Where they came from.
    pub origin: Origin,
}

/// Records of a name.
#[derive(Clone, PartialEq, Debug)]
pub struct RecordsAnswer {
    /// The name that was asked, after the search list.
    pub name: DnsName,
    /// The aliases that led to the records, in order, and then the records.
    pub records: Vec<Record>,
    /// The server vouches for DNSSEC and resolv.conf trusts it (`options trust-ad`).
    pub authenticated: bool,
    /// Until when they may be kept.
    pub expires: Option<Instant>,
}
