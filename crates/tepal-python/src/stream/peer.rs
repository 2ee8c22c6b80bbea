//! Whom an accepted connection is with.

use std::net::{SocketAddr, SocketAddrV4};

use tepal::Address;

/// An address, in two words for most connections.
#[derive(Default)]
pub(super) enum Peer {
    #[default]
    Unknown,
    V4(SocketAddrV4),
    Other(Box<Address>),
}

impl Peer {
    pub(super) fn new(address: &Address) -> Peer {
        match address {
            Address::Ip(SocketAddr::V4(address)) => Peer::V4(*address),
            address => Peer::Other(Box::new(address.clone())),
        }
    }

    pub(super) fn address(self) -> Option<Address> {
        match self {
            Peer::Unknown => None,
            Peer::V4(address) => Some(Address::Ip(SocketAddr::V4(address))),
            Peer::Other(address) => Some(*address),
        }
    }
}
