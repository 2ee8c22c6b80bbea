//! Names without threads: everything between a host name and a list of sockets to try.
//!
//! Sans-IO throughout. No clock, no socket, no file, no thread: the caller hands in file contents,
//! instants, a seed and packets, and carries the packets that come out.
//!
//! * [`parse_literal`]: IP literals, which never meet a resolver.
//! * [`Resolver`]: names and addresses to answers, by hosts file, nsswitch.conf and name servers.
//! * [`order_addresses`]: the order of RFC 6724.
//! * [`addrinfo`]: `getaddrinfo` and `getnameinfo` over them, as glibc has them.
//! * [`strategy`]: which address is tried when, one by one or as a race.
//! * [`config`]: the system's files, from text.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod addrinfo;
mod cache;
pub mod config;
mod distinct;
pub mod error;
mod family;
mod literal;
mod message;
mod name;
mod order;
mod random;
pub mod record;
pub mod resolver;
pub mod strategy;

pub use error::{LookupError, LookupErrorKind, Over, ServerOutcome, ServerReport};
pub use family::Family;
pub use literal::{HostAddr, Interfaces, UnknownZone, parse_literal};
pub use name::{DnsName, HostName, NameError};
pub use order::{Candidate, Source, order_addresses};
pub use record::{Record, RecordData, RecordType};
pub use resolver::Resolver;
