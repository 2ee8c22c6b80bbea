use std::net::{IpAddr, SocketAddr};

use super::crc::crc32c;
use super::read::{CRC32C, SIGNATURE};

/// A line of version 1; UNKNOWN if there are no addresses, or of two families.
pub(super) fn v1(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let line = match addresses {
        Some((from, to)) if from.is_ipv4() == to.is_ipv4() => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
        }
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    };
    line.into_bytes()
}

/// A header of version 2, LOCAL if there are no addresses, or of two families.
pub(super) fn v2(
    addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: &[(u8, Vec<u8>)],
    checksum: bool,
) -> Vec<u8> {
    let mut body = Vec::new();
    let addresses = addresses.filter(|(from, to)| from.is_ipv4() == to.is_ipv4());
    let (command, family) = match addresses {
        None => (0x20, 0),
        Some((from, _)) => (0x21, if from.is_ipv4() { 0x11 } else { 0x21 }),
    };
    if let Some((from, to)) = addresses {
        for address in [from.ip(), to.ip()] {
            match address {
                IpAddr::V4(four) => body.extend(four.octets()),
                IpAddr::V6(six) => body.extend(six.octets()),
            }
        }
        body.extend(from.port().to_be_bytes());
        body.extend(to.port().to_be_bytes());
    }
    for (kind, value) in tlvs {
        body.push(*kind);
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(value);
    }
    if checksum {
        body.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    if checksum {
        let sum = crc32c(&[&header]).to_be_bytes();
        header.truncate(header.len() - 4);
        header.extend(sum);
    }
    header
}
