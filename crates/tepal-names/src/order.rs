//! The order of destination addresses: RFC 6724, section 6.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::HostAddr;
use crate::config::Policy;

/// A destination and what is known of the way to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Where one may connect to.
    pub destination: HostAddr,
    /// The address that the kernel would send from, found without traffic by connecting a UDP
    /// socket; `None` if there is no way.
    pub source: Option<Source>,
}

/// The source address of a way, with the properties that RFC 6724 asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The address.
    pub ip: IpAddr,
    /// Its preferred lifetime is over (rule 3).
    pub deprecated: bool,
    /// It is a mobile node's home address (rule 4).
    pub home: bool,
    /// The way leads through an encapsulating tunnel (rule 7).
    pub encapsulated: bool,
    /// The length of the on-link prefix, in bits, as far as known; rule 9 compares no further.
    pub prefix_len: Option<u8>,
}

impl From<IpAddr> for Source {
    /// A plain source address of which nothing else is known.
    fn from(ip: IpAddr) -> Source {
        Source { ip, deprecated: false, home: false, encapsulated: false, prefix_len: None }
    }
}

/// Sorts destinations so that the one to try first comes first. Equal ones keep their order.
///
/// Pure: the same input gives the same order on every machine. Each rule of RFC 6724, section 6,
/// is applied; rule 9 (longest matching prefix) for IPv4 only within one on-link prefix, because
/// anything wider would defeat round-robin answers (glibc does the same).
///
/// ```
/// use std::net::IpAddr;
/// use tepal_names::config::Policy;
/// use tepal_names::{Candidate, order_addresses};
///
/// let way = |to: &str, from: Option<&str>| Candidate {
///     destination: to.parse::<IpAddr>().unwrap().into(),
///     source: from.map(|from| from.parse::<IpAddr>().unwrap().into()),
/// };
/// let mut ways = [way("2001:db8::1", None), way("192.0.2.1", Some("192.0.2.9"))];
/// order_addresses(&Policy::default(), &mut ways);
/// assert!(ways[0].destination.ip.is_ipv4()); // the other cannot be reached
/// ```
pub fn order_addresses(policy: &Policy, candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| compare(policy, a, b));
}

/// `Less` if `a` is to be tried before `b`.
fn compare(policy: &Policy, a: &Candidate, b: &Candidate) -> Ordering {
    // Rule 1: avoid unusable destinations.
    let (source_a, source_b) = match (a.source, b.source) {
        (Some(source_a), Some(source_b)) => (source_a, source_b),
        (None, None) => return by_precedence_and_scope(policy, a, b),
        (source_a, _) => return prefer(source_a.is_some(), source_a.is_none()),
    };
    let (ip_a, ip_b) = (a.destination.ip, b.destination.ip);
    let same_scope = |ip, source: Source| policy.scope(ip) == policy.scope(source.ip);
    let same_label = |ip, source: Source| policy.label(ip) == policy.label(source.ip);

    // Rule 2: prefer matching scope.
    prefer(same_scope(ip_a, source_a), same_scope(ip_b, source_b))
        // Rule 3: avoid deprecated addresses.
        .then(prefer(!source_a.deprecated, !source_b.deprecated))
        // Rule 4: prefer home addresses.
        .then(prefer(source_a.home, source_b.home))
        // Rule 5: prefer matching label.
        .then(prefer(same_label(ip_a, source_a), same_label(ip_b, source_b)))
        // Rule 6: prefer higher precedence.
        .then(policy.precedence(ip_b).cmp(&policy.precedence(ip_a)))
        // Rule 7: prefer native transport.
        .then(prefer(!source_a.encapsulated, !source_b.encapsulated))
        // Rule 8: prefer smaller scope.
        .then(policy.scope(ip_a).cmp(&policy.scope(ip_b)))
        // Rule 9: use longest matching prefix.
        .then_with(|| match (ip_a, ip_b) {
            (IpAddr::V6(_), IpAddr::V6(_)) | (IpAddr::V4(_), IpAddr::V4(_)) => {
                common_prefix(ip_b, source_b).cmp(&common_prefix(ip_a, source_a))
            }
            _ => Ordering::Equal,
        })
    // Rule 10: otherwise, leave the order unchanged.
}

/// What can be said of two destinations that cannot be reached: rules 6 and 8.
fn by_precedence_and_scope(policy: &Policy, a: &Candidate, b: &Candidate) -> Ordering {
    let (ip_a, ip_b) = (a.destination.ip, b.destination.ip);
    policy
        .precedence(ip_b)
        .cmp(&policy.precedence(ip_a))
        .then(policy.scope(ip_a).cmp(&policy.scope(ip_b)))
}

fn prefer(a: bool, b: bool) -> Ordering {
    b.cmp(&a)
}

/// Bits that destination and source share from the left: CommonPrefixLen of section 2.2.
fn common_prefix(destination: IpAddr, source: Source) -> u32 {
    match (destination, source.ip) {
        (IpAddr::V6(destination), IpAddr::V6(ip)) => {
            // The prefix length of the source bounds it; IPv6 networks are at most /64.
            let bound = source.prefix_len.map_or(64, u32::from).min(128);
            (destination.to_bits() ^ ip.to_bits()).leading_zeros().min(bound)
        }
        (IpAddr::V4(destination), IpAddr::V4(ip)) => {
            let same = (destination.to_bits() ^ ip.to_bits()).leading_zeros();
            match source.prefix_len {
                Some(len) if same >= u32::from(len) => u32::from(len),
                _ => 0,
            }
        }
        _ => 0,
    }
}
