use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Family;
use crate::distinct::Distinct;

/// The hosts file (hosts(5)), parsed once into an index.
///
/// A look-up by name costs one hash, whatever the file's size, and a step for each of its lines. A
/// name may stand on several lines:
/// all its addresses count, in file order. Names compare without regard to ASCII case. Lines that
/// are no `address name...` are left out; addresses are in `inet_pton` form, without zones, as
/// glibc reads them.
///
/// ```
/// use tepal_names::{Family, config::Hosts};
///
/// let hosts = Hosts::parse("127.0.0.1 localhost\n::1 localhost ip6-loopback # both\n");
/// let found = hosts.lookup("LOCALHOST", Family::Unspecified).unwrap();
/// assert_eq!(found.addresses.len(), 2);
/// assert_eq!(hosts.lookup("ip6-loopback", Family::V6).unwrap().canonical, "localhost");
/// assert!(hosts.lookup("nowhere", Family::Unspecified).is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    lines: Vec<Line>,
    // Lower-case name -> indices into `lines`, ascending and not empty.
    by_name: HashMap<Box<str>, Vec<u32>>,
    by_address: HashMap<IpAddr, u32>,
}

#[derive(Clone, Debug)]
struct Line {
    address: IpAddr,
    // As written: the first one is the canonical name.
    names: Box<[Box<str>]>,
}

/// What the hosts file says about a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostsEntry<'a> {
    /// The first name on the name's first line.
    pub canonical: &'a str,
    /// Each address once, in file order; not empty.
    pub addresses: Vec<IpAddr>,
}

impl Hosts {
    /// Reads the file's text. Never fails; see the type.
    pub fn parse(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                continue;
            };
            let names: Box<[Box<str>]> = words.map(Box::from).collect();
            if names.is_empty() {
                continue;
            }
            let Ok(index) = u32::try_from(hosts.lines.len()) else { break };
            for name in &names {
                let lines = hosts.by_name.entry(name.to_ascii_lowercase().into()).or_default();
                // A name may be repeated on its line.
                if lines.last() != Some(&index) {
                    lines.push(index);
                }
            }
            if let Entry::Vacant(vacant) = hosts.by_address.entry(address) {
                vacant.insert(index);
            }
            hosts.lines.push(Line { address, names });
        }
        hosts
    }

    /// The addresses of a name that suit the family; `None` if there are none.
    ///
    /// As in glibc, a look-up for IPv4 alone reads `::1` as `127.0.0.1` and a mapped address as
    /// the IPv4 address in it.
    pub fn lookup(&self, name: &str, family: Family) -> Option<HostsEntry<'_>> {
        // Resolvers hand in lower case; anything else pays for its copy.
        let indices = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.by_name.get(name.to_ascii_lowercase().as_str())
        } else {
            self.by_name.get(name)
        }?;
        let mut canonical = None;
        let mut addresses = Distinct::new();
        for line in indices.iter().filter_map(|&index| self.lines.get(index as usize)) {
            let Some(address) = in_family(line.address, family) else { continue };
            canonical = canonical.or(line.names.first());
            addresses.push(address);
        }
        Some(HostsEntry { canonical: canonical?, addresses: addresses.into_vec() })
    }

    /// The names of an address: the canonical one first, then its aliases, of the first line that
    /// has it.
    pub fn names_of(&self, address: IpAddr) -> Option<impl Iterator<Item = &str>> {
        let index = *self.by_address.get(&address)?;
        let line = self.lines.get(index as usize)?;
        Some(line.names.iter().map(|name| &**name))
    }

    /// How many lines hold an address and a name.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether no line does.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

fn in_family(address: IpAddr, family: Family) -> Option<IpAddr> {
    match (family, address) {
        (Family::Unspecified, _) | (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)) => {
            Some(address)
        }
        (Family::V4, IpAddr::V6(v6)) if v6 == Ipv6Addr::LOCALHOST => {
            Some(Ipv4Addr::LOCALHOST.into())
        }
        (Family::V4, IpAddr::V6(v6)) => v6.to_ipv4_mapped().map(IpAddr::V4),
        (Family::V6, IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_take_nothing_away() {
        let hosts = Hosts::parse(
            "10.0.0.1\n\n#\nnot an address\n010.0.0.1 octal\nfe80::1%lo zone\n\t10.0.0.2\tgood # x\n\
             10.0.0.3 good Good alias\r\n1.2.3.4.5 five\n\0\u{fffd}",
        );
        assert_eq!(hosts.len(), 2);
        let good = hosts.lookup("good", Family::V4).unwrap();
        assert_eq!(good.addresses, ["10.0.0.2", "10.0.0.3"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(hosts.lookup("alias", Family::Unspecified).unwrap().canonical, "good");
        assert_eq!(hosts.lookup("good", Family::V6), None);
        assert_eq!(hosts.lookup("octal", Family::V4), None);
        assert!(Hosts::parse("").is_empty());
    }

    #[test]
    fn loopback_and_mapped_addresses_serve_ipv4_alone() {
        let hosts = Hosts::parse("::1 six\n::ffff:10.1.2.3 mapped\n127.0.0.1 both\n::1 both\n");
        let v4 = |name| hosts.lookup(name, Family::V4).unwrap().addresses;
        assert_eq!(v4("six"), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(v4("mapped"), [IpAddr::from([10, 1, 2, 3])]);
        assert_eq!(v4("both"), [IpAddr::from([127, 0, 0, 1])]);
        let both = hosts.lookup("both", Family::Unspecified).unwrap();
        assert_eq!(both.addresses, ["127.0.0.1", "::1"].map(|a| a.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn an_address_has_the_names_of_its_first_line() {
        let hosts = Hosts::parse("10.0.0.1 a b\n10.0.0.1 c\n");
        let names: Vec<_> = hosts.names_of([10, 0, 0, 1].into()).unwrap().collect();
        assert_eq!(names, ["a", "b"]);
        assert!(hosts.names_of([10, 0, 0, 2].into()).is_none());
    }
}
