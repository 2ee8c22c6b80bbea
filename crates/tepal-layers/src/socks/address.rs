use std::net::IpAddr;

use crate::{Error, ErrorKind, Host};

/// An address of SOCKS5 on the wire: type, address, port.
pub(super) enum Found {
    /// Not before this many bytes are there.
    Need(usize),
    /// The host, the port, and how many bytes they took.
    Address(Host, u16, usize),
    /// The type is of none that the RFC knows.
    UnknownType,
}

/// Reads an address whose type is the first byte.
pub(super) fn read(bytes: &[u8]) -> Result<Found, Error> {
    let Some(&kind) = bytes.first() else { return Ok(Found::Need(1)) };
    let (start, len) = match kind {
        1 => (1, 4),
        4 => (1, 16),
        3 => match bytes.get(1) {
            None => return Ok(Found::Need(2)),
            Some(0) => {
                let message = "an empty host name";
                return Err(Error::remote(ErrorKind::Malformed, message));
            }
            Some(&len) => (2, usize::from(len)),
        },
        _ => return Ok(Found::UnknownType),
    };
    let end = start + len + 2;
    let Some(rest) = bytes.get(start..end) else { return Ok(Found::Need(end)) };
    let (address, port) = rest.split_at(len);
    let port = port.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
    let host = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(four), _) if kind == 1 => Host::Ip(IpAddr::from(four)),
        (_, Ok(sixteen)) if kind == 4 => Host::Ip(IpAddr::from(sixteen)),
        _ => Host::Name(String::from_utf8_lossy(address).into_owned()),
    };
    Ok(Found::Address(host, port, end))
}

/// Writes an address. A name is at most 255 bytes long; `Host::parse` saw to that.
pub(super) fn write(host: &Host, port: u16, out: &mut Vec<u8>) {
    match host {
        Host::Ip(IpAddr::V4(address)) => {
            out.push(1);
            out.extend(address.octets());
        }
        Host::Ip(IpAddr::V6(address)) => {
            out.push(4);
            out.extend(address.octets());
        }
        Host::Name(name) => {
            out.push(3);
            out.push(name.len().min(255) as u8);
            out.extend(name.bytes().take(255));
        }
    }
    out.extend(port.to_be_bytes());
}
