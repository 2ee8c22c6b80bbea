use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc::crc32c;
use crate::handshake::Step;
use crate::{Error, ErrorKind, Info, ProxyInfo};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 1's longest line, with CR LF.
const MOST_V1: usize = 107;

/// The type of the extension that holds the checksum.
pub(super) const CRC32C: u8 = 3;

/// Reads the header at the start of a connection. `most` bounds version 2's length field.
pub(super) fn read(bytes: &[u8], most: usize) -> Result<Step, Error> {
    const V1: &[u8] = b"PROXY ";
    if bytes.is_empty() {
        return Ok(Step::Need(1));
    }
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        return match bytes.len() < 16 {
            true => short_v2(bytes, most),
            false => read_v2(bytes, most),
        };
    }
    if begins(V1) {
        return read_v1(bytes);
    }
    let message = "the connection does not begin with a PROXY header";
    Err(Error::remote(ErrorKind::HeaderMissing, message))
}

fn read_v1(bytes: &[u8]) -> Result<Step, Error> {
    let bad = || malformed("line of version 1");
    let head = bytes.get(..MOST_V1).unwrap_or(bytes);
    let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
        return match bytes.len() >= MOST_V1 {
            true => Err(bad()),
            false => Ok(Step::Need(bytes.len() + 1)),
        };
    };
    let line = head.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or_else(bad)?;
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match *words.as_slice() {
        // What follows UNKNOWN is to be ignored.
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address = |text: &str| {
                let address: IpAddr = text.parse().map_err(|_| bad())?;
                (address.is_ipv4() == (family == "TCP4")).then_some(address).ok_or_else(bad)
            };
            let port = |text: &str| {
                let plain = text == "0" || !text.starts_with('0');
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                (plain && digits).then(|| text.parse().ok()).flatten().ok_or_else(bad)
            };
            let source = SocketAddr::new(address(source)?, port(from)?);
            Some((source, SocketAddr::new(address(destination)?, port(to)?)))
        }
        _ => return Err(bad()),
    };
    Ok(done(end + 1, 1, addresses, Vec::new()))
}

// The signature or a part of it, and some of the four bytes behind it.
fn short_v2(bytes: &[u8], most: usize) -> Result<Step, Error> {
    match bytes.get(SIGNATURE.len()..) {
        Some([first, rest @ ..]) => check_start(*first, rest, most).map(|()| Step::Need(16)),
        _ => Ok(Step::Need(16)),
    }
}

// The checks in the order of the bytes, so that every way of cutting them gives the same error.
fn check_start(first: u8, rest: &[u8], most: usize) -> Result<(), Error> {
    if first >> 4 != 2 {
        let message = format!("the PROXY header is of version {}", first >> 4);
        return Err(Error::remote(ErrorKind::Version(first >> 4), message));
    }
    if first & 15 > 1 {
        return Err(malformed("command"));
    }
    if let [_, high, ..] = *rest {
        // The high byte alone can say that it is too long.
        let least = usize::from(high) << 8;
        let low = rest.get(2).map_or(0, |low| usize::from(*low));
        if least + low > most {
            let message = "the PROXY header is longer than allowed";
            return Err(Error::remote(ErrorKind::LimitExceeded, message));
        }
    }
    Ok(())
}

fn read_v2(bytes: &[u8], most: usize) -> Result<Step, Error> {
    let [first, family, high, low, rest @ ..] = bytes.get(SIGNATURE.len()..).unwrap_or_default()
    else {
        return Ok(Step::Need(16));
    };
    check_start(*first, &[*family, *high, *low], most)?;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let Some(body) = rest.get(..len) else { return Ok(Step::Need(16 + len)) };
    let local = first & 15 == 0;
    // Families: 1 IPv4, 2 IPv6, 3 Unix; protocols: 1 stream, 2 datagram.
    let (addresses, rest) = match (family >> 4, family & 15) {
        (0, 0) => (None, body),
        // Of a LOCAL header nothing but the length counts.
        _ if local => (None, body),
        (1, 1 | 2) => {
            let (from, rest) = body.split_first_chunk::<12>().ok_or_else(|| malformed("length"))?;
            let [a, b, c, d, e, f, g, h, p, q, r, s] = *from;
            let source =
                SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([p, q]));
            let to = SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), u16::from_be_bytes([r, s]));
            (Some((source, to)), rest)
        }
        (2, 1 | 2) => {
            let (source, rest) =
                body.split_first_chunk::<16>().ok_or_else(|| malformed("length"))?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or_else(|| malformed("length"))?;
            let ([p, q, r, s], rest) =
                rest.split_first_chunk::<4>().ok_or_else(|| malformed("length"))?;
            let source =
                SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([*p, *q]));
            let to = SocketAddr::new(Ipv6Addr::from(*to).into(), u16::from_be_bytes([*r, *s]));
            (Some((source, to)), rest)
        }
        (3, 1 | 2) => (None, body.get(216..).ok_or_else(|| malformed("length"))?),
        _ => return Err(malformed("address family")),
    };
    let tlvs = match local {
        true => Vec::new(),
        false => extensions(rest)?,
    };
    if tlvs.iter().any(|(kind, _)| *kind == CRC32C) {
        check_sum(bytes.get(..16 + len).unwrap_or_default(), rest)?;
    }
    Ok(done(16 + len, 2, addresses, tlvs))
}

fn extensions(mut bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, Error> {
    let mut tlvs = Vec::new();
    while !bytes.is_empty() {
        let [kind, high, low, rest @ ..] = bytes else { return Err(malformed("extension")) };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(len).ok_or_else(|| malformed("extension"))?;
        tlvs.push((*kind, value.to_vec()));
        bytes = rest;
    }
    Ok(tlvs)
}

// The sum is of the whole header with the sum's own place zeroed.
fn check_sum(header: &[u8], extensions: &[u8]) -> Result<(), Error> {
    let mut at = header.len() - extensions.len();
    while let Some([kind, high, low]) = header.get(at..at + 3) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        at += 3;
        if *kind == CRC32C {
            let (before, rest) = header.split_at(at);
            let Some((sum, behind)) = rest.split_first_chunk::<4>().filter(|_| len == 4) else {
                return Err(malformed("checksum's length"));
            };
            if crc32c(&[before, &[0; 4], behind]) == u32::from_be_bytes(*sum) {
                return Ok(());
            }
            let message = "the PROXY header's checksum is wrong";
            return Err(Error::remote(ErrorKind::Checksum, message));
        }
        at += len;
    }
    Ok(())
}

fn done(
    used: usize,
    version: u8,
    addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: Vec<(u8, Vec<u8>)>,
) -> Step {
    Step::Done(used, Info::Proxy(ProxyInfo { version, addresses, tlvs }.into()))
}

fn malformed(what: &'static str) -> Error {
    Error::remote(ErrorKind::Malformed, format!("the PROXY header has a malformed {what}"))
}
