//! Names without threads.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod config;
mod family;
mod literal;
mod name;
mod order;
pub mod strategy;

pub use family::Family;
pub use literal::{HostAddr, Interfaces, UnknownZone, parse_literal};
pub use name::{DnsName, HostName, NameError};
pub use order::{Candidate, Source, order_addresses};
