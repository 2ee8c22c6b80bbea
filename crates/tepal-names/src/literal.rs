//! IP literals: what looks like an address is one, and never meets a resolver.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address of a host: an IP address and, for IPv6, the zone it is meant in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HostAddr {
    /// The address.
    pub ip: IpAddr,
    /// The IPv6 scope id (an interface's index for link-local addresses); 0 if there is none.
    pub scope_id: u32,
}

impl HostAddr {
    /// The address with a port, its scope kept.
    pub fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.scope_id)),
        }
    }
}

impl From<IpAddr> for HostAddr {
    fn from(ip: IpAddr) -> HostAddr {
        HostAddr { ip, scope_id: 0 }
    }
}

impl From<SocketAddr> for HostAddr {
    fn from(address: SocketAddr) -> HostAddr {
        match address {
            SocketAddr::V4(v4) => HostAddr::from(IpAddr::V4(*v4.ip())),
            SocketAddr::V6(v6) => HostAddr { ip: (*v6.ip()).into(), scope_id: v6.scope_id() },
        }
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        if self.scope_id != 0 { write!(f, "%{}", self.scope_id) } else { Ok(()) }
    }
}

/// The machine's network interfaces by name and index, as the caller lists them.
///
/// Needed only for zones written by name, such as `fe80::1%eth0`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Interfaces {
    entries: Vec<(Box<str>, u32)>,
}

impl Interfaces {
    /// A table of names and indices; the index 0 means "no interface" and is left out.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = (S, u32)>) -> Interfaces {
        let entries = entries
            .into_iter()
            .filter(|(_, index)| *index != 0)
            .map(|(name, index)| (name.as_ref().into(), index));
        Interfaces { entries: entries.collect() }
    }

    /// The index of the interface with that name.
    pub fn index(&self, name: &str) -> Option<u32> {
        self.entries.iter().find(|(known, _)| &**known == name).map(|(_, index)| *index)
    }

    /// The name of the interface with that index.
    pub fn name(&self, index: u32) -> Option<&str> {
        self.entries.iter().find(|(_, known)| *known == index).map(|(name, _)| &**name)
    }
}

/// An IPv6 literal's zone is neither a number nor, for a link-local address, an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownZone;

impl fmt::Display for UnknownZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address names a zone that is no interface of this machine")
    }
}

impl std::error::Error for UnknownZone {}

/// Reads an IP literal; `None` if the text is none, and so may be a name.
///
/// IPv4 is read as `inet_aton` reads it: `127.1`, `0x7f.1`, `0177.0.0.1` and `2130706433` are all
/// `127.0.0.1`. IPv6 may have a zone, `%` and an interface's name (only where the address is
/// link-local) or number, as in RFC 4007, section 11.
///
/// # Errors
///
/// [`UnknownZone`] if the part before `%` is an IPv6 address and the zone is unknown.
///
/// ```
/// use tepal_names::{Interfaces, parse_literal};
///
/// let interfaces = Interfaces::new([("eth0", 2)]);
/// let address = parse_literal("fe80::1%eth0", &interfaces)?.unwrap();
/// assert_eq!(address.scope_id, 2);
/// assert_eq!(parse_literal("0x7f.1", &interfaces)?.unwrap().to_string(), "127.0.0.1");
/// assert_eq!(parse_literal("example.com", &interfaces)?, None);
/// assert!(parse_literal("fe80::1%eth9", &interfaces).is_err());
/// # Ok::<(), tepal_names::UnknownZone>(())
/// ```
pub fn parse_literal(text: &str, interfaces: &Interfaces) -> Result<Option<HostAddr>, UnknownZone> {
    // Nearly every name ends here: a literal begins with a digit or has a colon.
    let bytes = text.as_bytes();
    if !bytes.contains(&b':') {
        return Ok(match bytes.first() {
            Some(b'0'..=b'9') => parse_inet_aton(text).map(|ip| HostAddr::from(IpAddr::V4(ip))),
            _ => None,
        });
    }
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse::<Ipv6Addr>() else {
        return Ok(None);
    };
    let scope_id = match zone {
        None => 0,
        Some(zone) => parse_zone(ip, zone, interfaces).ok_or(UnknownZone)?,
    };
    Ok(Some(HostAddr { ip: IpAddr::V6(ip), scope_id }))
}

fn parse_zone(ip: Ipv6Addr, zone: &str, interfaces: &Interfaces) -> Option<u32> {
    if is_link_scoped(ip)
        && let Some(index) = interfaces.index(zone)
    {
        return Some(index);
    }
    // `parse` would allow a sign.
    if zone.bytes().all(|byte| byte.is_ascii_digit()) { zone.parse().ok() } else { None }
}

/// Whether interfaces give this address its meaning: link-local unicast or multicast.
pub(crate) fn is_link_scoped(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || (ip.is_multicast() && ip.segments()[0] & 0xf == 2)
}

/// One to four numbers (decimal, octal after `0`, hexadecimal after `0x`), of which the last
/// fills the bytes that are left: inet_aton(3), the whole text.
fn parse_inet_aton(text: &str) -> Option<Ipv4Addr> {
    let mut parts = [0u32; 4];
    let mut count = 0;
    for part in text.split('.') {
        *parts.get_mut(count)? = parse_c_number(part)?;
        count += 1;
    }
    let (last, leading) = parts[..count].split_last()?;
    let mut value = 0u32;
    for &byte in leading {
        value = value << 8 | u32::from(u8::try_from(byte).ok()?);
    }
    let bits_left = 32 - 8 * leading.len() as u32;
    if u64::from(*last) >> bits_left != 0 {
        return None;
    }
    let high = if bits_left == 32 { 0 } else { value << bits_left };
    Some(Ipv4Addr::from(high | last))
}

fn parse_c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // `from_str_radix` would allow a sign, and refuses the empty text as we want.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        let interfaces = Interfaces::new([("lo", 1), ("eth0", 2)]);
        parse_literal(text, &interfaces).unwrap_or(None).map(|address| address.to_string())
    }

    #[test]
    fn every_form_of_inet_aton_is_a_literal() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7F000001", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("4294967295", "255.255.255.255"),
            ("1.65535", "1.0.255.255"),
            ("1.2.65535", "1.2.255.255"),
            ("1.16777215", "1.255.255.255"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(address), "{text}");
        }
        for text in [
            "4294967296",
            "256.1",
            "1.16777216",
            "1.2.65536",
            "1.2.3.256",
            "1.2.3.4.5",
            "1..2",
            "1.2.3.4.",
            "08",
            "0x",
            "0xg",
            "1.-2",
            "1.+2",
            "",
            "1 ",
            "1.2.3.4a",
            "-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn zones_are_interfaces_or_numbers() {
        assert_eq!(parse("fe80::1%eth0").as_deref(), Some("fe80::1%2"));
        assert_eq!(parse("FE80::1%lo").as_deref(), Some("fe80::1%1"));
        assert_eq!(parse("fe80::1%7").as_deref(), Some("fe80::1%7"));
        assert_eq!(parse("ff02::1%eth0").as_deref(), Some("ff02::1%2"));
        assert_eq!(parse("2001:db8::1%3").as_deref(), Some("2001:db8::1%3"));
        for text in ["fe80::1%nope", "2001:db8::1%eth0", "fe80::1%", "fe80::1%+2", "::1%-1"] {
            assert_eq!(parse_literal(text, &Interfaces::new([("eth0", 2)])), Err(UnknownZone));
        }
        for text in ["fe80:::1", "::g", "1:2", "::1%0%1x:", "[::1]"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
