use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// An IP network: the addresses that have their first bits in common. `10.0.0.0/8`, `fd00::/8`, or
/// one address alone.
///
/// An IPv4 address inside IPv6 (`::ffff:10.0.0.1`, as a listening socket for both tells its peers)
/// is the IPv4 address, here and in what is asked for. Host bits may be set: `10.1.2.3/8` is
/// `10.0.0.0/8`.
///
/// ```
/// # fn main() -> Result<(), tepal_layers::Error> {
/// use tepal_layers::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
/// assert!(!network.contains("192.0.2.1".parse().unwrap()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    address: IpAddr,
    // At most 32 or 128, as the address is.
    bits: u32,
}

impl Network {
    /// Whether the address is one of the network's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same =
            |a: u128, b: u128, width: u32| self.bits == 0 || (a ^ b) >> (width - self.bits) == 0;
        match (address.to_canonical(), self.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

/// # Errors
///
/// [`InvalidSetting`](ErrorKind::InvalidSetting) if it is neither an address nor one with a count of
/// bits that it has.
impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Network, Error> {
        let bad = || Error::local(ErrorKind::InvalidSetting, "a network is written 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(bits.parse().map_err(|_| bad())?))
            }
            Some(_) => return Err(bad()),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| bad())?;
        let address = written.to_canonical();
        let width = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
        // Of an IPv4 address inside IPv6 the bits in front of it belong to the count.
        let outside = width(&written) - width(&address);
        let bits: u32 = bits.unwrap_or(width(&written));
        let bits = bits.checked_sub(outside).filter(|bits| *bits <= width(&address));
        Ok(Network { address, bits: bits.ok_or_else(bad)? })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bits_decide_and_each_count_of_them_can_be_asked() {
        for (network, inside, outside) in [
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.9.9.9/8", "10.0.0.0", "9.255.255.255"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("192.0.2.0/31", "::ffff:192.0.2.1", "192.0.2.2"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.0"),
            ("::ffff:0.0.0.0/96", "192.0.2.1", "::1"),
            ("::/0", "fd00::1", "10.0.0.0"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1/128", "::1", "::2"),
        ] {
            let parsed: Network = network.parse().expect(network);
            assert!(parsed.contains(inside.parse().expect(inside)), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().expect(outside)), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "::/129",
            "::ffff:10.0.0.0/8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "a",
            "10.0.0.0/4294967296",
        ] {
            let error = text.parse::<Network>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{text}");
        }
    }
}
