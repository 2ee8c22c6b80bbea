//! Records as people read them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Record, RecordData, Soa};
use crate::DnsName;

/// As a line of a zone file: `name. ttl IN TYPE data`.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", Dotted(&self.name), self.ttl, self.record_type, self.data)
    }
}

/// The data as a zone file has it; names end in a dot, unknown types are in RFC 3597's form.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordData::Address(ip) => ip.fmt(f),
            RecordData::Name(name) => Dotted(name).fmt(f),
            RecordData::Mx { preference, exchange } => {
                write!(f, "{preference} {}", Dotted(exchange))
            }
            RecordData::Txt(strings) => {
                for (index, string) in strings.iter().enumerate() {
                    let space = if index == 0 { "" } else { " " };
                    write!(f, "{space}{}", Quoted(string))?;
                }
                Ok(())
            }
            RecordData::Srv { priority, weight, port, target } => {
                write!(f, "{priority} {weight} {port} {}", Dotted(target))
            }
            RecordData::Soa(soa) => {
                let Soa { server, mailbox, serial, refresh, retry, expire, minimum } = &**soa;
                let (server, mailbox) = (Dotted(server), Dotted(mailbox));
                write!(f, "{server} {mailbox} {serial} {refresh} {retry} {expire} {minimum}")
            }
            RecordData::Service { priority, target, parameters } => {
                write!(f, "{priority} {}", Dotted(target))?;
                parameters.iter().try_for_each(|(key, value)| write_parameter(f, *key, value))
            }
            RecordData::Naptr { order, preference, flags, service, regexp, replacement } => {
                let (flags, service, regexp) = (Quoted(flags), Quoted(service), Quoted(regexp));
                let replacement = Dotted(replacement);
                write!(f, "{order} {preference} {flags} {service} {regexp} {replacement}")
            }
            RecordData::Sshfp { algorithm, hash, fingerprint } => {
                write!(f, "{algorithm} {hash} {}", Hex(fingerprint))
            }
            RecordData::Tlsa { usage, selector, matching, data } => {
                write!(f, "{usage} {selector} {matching} {}", Hex(data))
            }
            RecordData::Caa { flags, tag, value } => write!(f, "{flags} {tag} {}", Quoted(value)),
            RecordData::Other(bytes) => {
                write!(f, "\\# {}", bytes.len())?;
                if !bytes.is_empty() {
                    f.write_str(" ")?;
                }
                Hex(bytes).fmt(f)
            }
        }
    }
}

fn write_parameter(f: &mut fmt::Formatter<'_>, key: u16, value: &[u8]) -> fmt::Result {
    let list = |f: &mut fmt::Formatter<'_>, items: Vec<String>| f.write_str(&items.join(","));
    match key {
        1 => {
            let mut rest = value;
            let mut ids: Vec<u8> = Vec::new();
            while let Some((&len, tail)) = rest.split_first() {
                let Some((id, tail)) = tail.split_at_checked(len.into()) else { break };
                if !ids.is_empty() {
                    ids.push(b',');
                }
                ids.extend_from_slice(id);
                rest = tail;
            }
            write!(f, " alpn={}", Quoted(&ids))
        }
        2 => f.write_str(" no-default-alpn"),
        3 if value.len() == 2 => write!(f, " port={}", u16::from_be_bytes([value[0], value[1]])),
        4 => {
            f.write_str(" ipv4hint=")?;
            let (addresses, _) = value.as_chunks::<4>();
            list(f, addresses.iter().map(|&octets| Ipv4Addr::from(octets).to_string()).collect())
        }
        6 => {
            f.write_str(" ipv6hint=")?;
            let (addresses, _) = value.as_chunks::<16>();
            list(f, addresses.iter().map(|&octets| Ipv6Addr::from(octets).to_string()).collect())
        }
        _ => write!(f, " key{key}={}", Quoted(value)),
    }
}

struct Dotted<'a>(&'a DnsName);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        if self.0.as_wire().len() > 1 { f.write_str(".") } else { Ok(()) }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for &byte in self.0 {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", byte as char)?,
                0x20..=0x7e => write!(f, "{}", byte as char)?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        f.write_str("\"")
    }
}
