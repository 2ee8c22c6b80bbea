//! `getaddrinfo` and `getnameinfo` (RFC 3493, getaddrinfo(3)) with the meaning they have in
//! glibc: families, types, flags, service names, scoped literals and error codes.
//!
//! A call is a *plan*: made from the arguments, which may already be an error; it says what is to
//! be looked up, if anything; and it is finished with the answer.
//!
//! ```
//! use std::net::IpAddr;
//! use tepal_names::addrinfo::{AddrInfoPlan, Hints, SocketType};
//! use tepal_names::config::{Policy, Services};
//! use tepal_names::Interfaces;
//!
//! let hints = Hints { socket_type: SocketType::STREAM, ..Hints::default() };
//! let services = Services::default();
//! let plan = AddrInfoPlan::new(Some("127.1"), Some("https"), hints, &services, &Interfaces::default())?;
//! assert_eq!(plan.lookup(), None); // a literal needs no resolver
//! let infos = plan.finish(None, &Policy::default(), |_destination| None)?;
//! assert_eq!(infos[0].address, "127.0.0.1:443".parse().unwrap());
//! # Ok::<(), tepal_names::addrinfo::AddrInfoError>(())
//! ```
//!
//! Deliberate departures from glibc: a port above 65535 is an error instead of being cut to 16
//! bits, an address is listed once even if the hosts file has it twice, `localhost` is known
//! without a hosts file, and IPv4 addresses on this machine's own network keep the server's order
//! (glibc sorts them by the bits that they share with ours, beyond what RFC 6724 says).

mod code;
mod hints;
mod nameinfo;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{IpProtocol, Policy, Services};
use crate::order::{Candidate, Source, order_addresses};
use crate::resolver::HostAnswer;
use crate::{Family, HostAddr, Interfaces, parse_literal};

pub use code::AddrInfoError;
pub use hints::{Flags, Hints, SocketType};
pub use nameinfo::{NameInfo, NameInfoFlags, NameInfoPlan};

/// One entry of the result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddrInfo {
    /// The socket type.
    pub socket_type: SocketType,
    /// The protocol's number.
    pub protocol: i32,
    /// The canonical name, on the first entry if it was asked for.
    pub canonical_name: Option<Box<str>>,
    /// The address; its family is the entry's.
    pub address: SocketAddr,
}

/// A call of getaddrinfo, its arguments understood.
#[derive(Clone, Debug)]
pub struct AddrInfoPlan {
    hints: Hints,
    // Type, protocol and port of the entries that each address gets; not empty.
    ways: Vec<Way>,
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    socket_type: SocketType,
    protocol: i32,
    port: u16,
}

#[derive(Clone, Debug)]
enum Target {
    Addresses { addresses: Vec<HostAddr>, name: Option<Box<str>> },
    Lookup(Box<str>),
}

/// glibc's table of socket types and protocols.
struct Kind {
    socket_type: SocketType,
    protocol: i32,
    // Taken where neither type nor protocol is asked for.
    common: bool,
    // `None`: any protocol, and no services.
    transport: Option<IpProtocol>,
}

#[rustfmt::skip]
const KINDS: [Kind; 7] = [
    Kind { socket_type: SocketType::STREAM, protocol: 6, common: true, transport: Some(IpProtocol::Tcp) },
    Kind { socket_type: SocketType::DATAGRAM, protocol: 17, common: true, transport: Some(IpProtocol::Udp) },
    Kind { socket_type: SocketType::DCCP, protocol: 33, common: false, transport: Some(IpProtocol::Dccp) },
    Kind { socket_type: SocketType::DATAGRAM, protocol: 136, common: false, transport: Some(IpProtocol::UdpLite) },
    Kind { socket_type: SocketType::STREAM, protocol: 132, common: false, transport: Some(IpProtocol::Sctp) },
    Kind { socket_type: SocketType::SEQUENCED, protocol: 132, common: false, transport: Some(IpProtocol::Sctp) },
    Kind { socket_type: SocketType::RAW, protocol: 0, common: true, transport: None },
];

impl Kind {
    fn suits(&self, hints: &Hints) -> bool {
        (hints.socket_type == SocketType::ANY || hints.socket_type == self.socket_type)
            && (hints.protocol == 0 || self.transport.is_none() || hints.protocol == self.protocol)
    }

    fn way(&self, hints: &Hints, port: u16) -> Way {
        let protocol = if self.transport.is_none() { hints.protocol } else { self.protocol };
        Way { socket_type: self.socket_type, protocol, port }
    }
}

impl AddrInfoPlan {
    /// Understands the arguments. The text `*` means none, as does an empty service.
    ///
    /// With `AI_ADDRCONFIG`, call [`Flags::restrict`] for the family first.
    ///
    /// # Errors
    ///
    /// The code that glibc gives for arguments that need no look-up to be wrong.
    pub fn new(
        host: Option<&str>,
        service: Option<&str>,
        hints: Hints,
        services: &Services,
        interfaces: &Interfaces,
    ) -> Result<AddrInfoPlan, AddrInfoError> {
        let host = host.filter(|host| *host != "*");
        let service = service.filter(|service| *service != "*");
        hints.flags.check(host, service)?;
        let ways = ways(service.filter(|service| !service.is_empty()), &hints, services)?;
        let target = match host {
            None => Target::Addresses { addresses: local_addresses(&hints), name: None },
            Some(host) => target(host, &hints, interfaces)?,
        };
        Ok(AddrInfoPlan { hints, ways, target })
    }

    /// What is to be looked up by [`Resolver::lookup_host`](crate::Resolver::lookup_host);
    /// `None` if the host is none or a literal.
    pub fn lookup(&self) -> Option<(&str, Family)> {
        match &self.target {
            Target::Addresses { .. } => None,
            // Both families, since IPv4 may have to stand in for IPv6.
            Target::Lookup(host) if self.is_mapping() => Some((host, Family::Unspecified)),
            Target::Lookup(host) => Some((host, self.hints.family)),
        }
    }

    /// Makes the entries from what the look-up found (`None` if there was none to make).
    ///
    /// `source` tells the address that the kernel would send from to reach a destination, found
    /// by connecting a UDP socket, which sends nothing; it is called only if there is something
    /// to be ordered.
    ///
    /// # Errors
    ///
    /// [`AddrInfoError::NoData`] if no address suits, [`AddrInfoError::NoName`] if an answer was
    /// needed and not given. A failed look-up is turned into its code by
    /// `AddrInfoError::from(&error)`.
    pub fn finish(
        self,
        answer: Option<&HostAnswer>,
        policy: &Policy,
        mut source: impl FnMut(HostAddr) -> Option<Source>,
    ) -> Result<Vec<AddrInfo>, AddrInfoError> {
        let is_mapping = self.is_mapping();
        let (mut addresses, name) = match self.target {
            Target::Addresses { addresses, name } => (addresses, name),
            Target::Lookup(_) => {
                let answer = answer.ok_or(AddrInfoError::NoName)?;
                let mut addresses = answer.addresses.clone();
                if is_mapping {
                    let has_v6 = addresses.iter().any(|address| address.ip.is_ipv6());
                    if has_v6 && !self.hints.flags.has(Flags::ALL) {
                        addresses.retain(|address| address.ip.is_ipv6());
                    }
                    addresses.iter_mut().for_each(|address| *address = map(*address));
                } else {
                    addresses.retain(|address| self.hints.family.includes(address.ip));
                }
                (addresses, Some(answer.canonical.clone()))
            }
        };
        if addresses.is_empty() {
            return Err(AddrInfoError::NoData);
        }
        if addresses.len() > 1 {
            let mut candidates: Vec<Candidate> = addresses
                .iter()
                .map(|&destination| Candidate { destination, source: source(destination) })
                .collect();
            order_addresses(policy, &mut candidates);
            addresses = candidates.iter().map(|candidate| candidate.destination).collect();
        }
        let mut name = name.filter(|_| self.hints.flags.has(Flags::CANONNAME));
        let mut infos = Vec::with_capacity(addresses.len() * self.ways.len());
        for address in addresses {
            for way in &self.ways {
                infos.push(AddrInfo {
                    socket_type: way.socket_type,
                    protocol: way.protocol,
                    canonical_name: name.take(),
                    address: address.with_port(way.port),
                });
            }
        }
        Ok(infos)
    }

    fn is_mapping(&self) -> bool {
        self.hints.family == Family::V6 && self.hints.flags.has(Flags::V4MAPPED)
    }
}

fn ways(
    service: Option<&str>,
    hints: &Hints,
    services: &Services,
) -> Result<Vec<Way>, AddrInfoError> {
    let number = service.map(parse_port);
    if number == Some(None) && hints.flags.has(Flags::NUMERICSERV) {
        return Err(AddrInfoError::NoName);
    }
    let is_any = hints.socket_type == SocketType::ANY && hints.protocol == 0;
    let first = if is_any {
        None
    } else {
        let kind = KINDS.iter().find(|kind| kind.suits(hints));
        Some(kind.ok_or(if hints.socket_type == SocketType::ANY {
            AddrInfoError::Service
        } else {
            AddrInfoError::SocketType
        })?)
    };
    if service.is_some() && first.is_some_and(|kind| kind.transport.is_none()) {
        return Err(AddrInfoError::Service);
    }
    let port = match (service, number) {
        (Some(name), Some(None)) => {
            let named: Vec<Way> = match first {
                Some(kind) => named_way(kind, name, hints, services).into_iter().collect(),
                None => {
                    KINDS.iter().filter_map(|kind| named_way(kind, name, hints, services)).collect()
                }
            };
            return if named.is_empty() { Err(AddrInfoError::Service) } else { Ok(named) };
        }
        (_, Some(Some(port))) => u16::try_from(port).map_err(|_| AddrInfoError::Service)?,
        _ => 0,
    };
    Ok(match first {
        Some(kind) => vec![kind.way(hints, port)],
        None => KINDS.iter().filter(|k| k.common).map(|kind| kind.way(hints, port)).collect(),
    })
}

fn named_way(kind: &Kind, name: &str, hints: &Hints, services: &Services) -> Option<Way> {
    Some(kind.way(hints, services.port(name, kind.transport?)?))
}

/// strtoul(3) over the whole text, as far as it is a port: `None` means a name.
fn parse_port(service: &str) -> Option<u64> {
    let digits = service.trim_ascii_start();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn local_addresses(hints: &Hints) -> Vec<HostAddr> {
    let passive = hints.flags.has(Flags::PASSIVE);
    let v6 = if passive { Ipv6Addr::UNSPECIFIED } else { Ipv6Addr::LOCALHOST };
    let v4 = if passive { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    [IpAddr::V6(v6), IpAddr::V4(v4)]
        .into_iter()
        .filter(|ip| hints.family.includes(*ip))
        .map(HostAddr::from)
        .collect()
}

fn target(host: &str, hints: &Hints, interfaces: &Interfaces) -> Result<Target, AddrInfoError> {
    let literal = parse_literal(host, interfaces).map_err(|_| AddrInfoError::NoName)?;
    let Some(address) = literal else {
        if hints.flags.has(Flags::NUMERICHOST) {
            return Err(AddrInfoError::NoName);
        }
        return Ok(Target::Lookup(host.into()));
    };
    let address = match (hints.family, address.ip) {
        (Family::V6, IpAddr::V4(_)) if hints.flags.has(Flags::V4MAPPED) => map(address),
        (Family::V4, IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            // Only an address that is IPv4 in disguise can be asked for as IPv4.
            Some(v4) => HostAddr::from(IpAddr::V4(v4)),
            None => return Err(AddrInfoError::AddressFamily),
        },
        (family, ip) if !family.includes(ip) => return Err(AddrInfoError::AddressFamily),
        _ => address,
    };
    Ok(Target::Addresses { addresses: vec![address], name: Some(host.into()) })
}

fn map(address: HostAddr) -> HostAddr {
    match address.ip {
        IpAddr::V4(v4) => HostAddr::from(IpAddr::V6(v4.to_ipv6_mapped())),
        IpAddr::V6(_) => address,
    }
}
