//! Resource records as answers hold them and as people read them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hickory_proto::rr::{Name, RData, RecordType as WireType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, Restrict};

use crate::DnsName;

/// The type of a resource record, by its number in the IANA registry.
///
/// ```
/// use tepal_names::RecordType;
///
/// assert_eq!("mx".parse(), Ok(RecordType::MX));
/// assert_eq!(RecordType(257).to_string(), "TYPE257");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordType(pub u16);

#[rustfmt::skip]
const TYPE_NAMES: [(RecordType, &str); 11] = [
    (RecordType::A, "A"), (RecordType::NS, "NS"), (RecordType::CNAME, "CNAME"),
    (RecordType::SOA, "SOA"), (RecordType::PTR, "PTR"), (RecordType::MX, "MX"),
    (RecordType::TXT, "TXT"), (RecordType::AAAA, "AAAA"), (RecordType::SRV, "SRV"),
    (RecordType::SVCB, "SVCB"), (RecordType::HTTPS, "HTTPS"),
];

impl RecordType {
    /// An IPv4 address.
    pub const A: RecordType = RecordType(1);
    /// A name server.
    pub const NS: RecordType = RecordType(2);
    /// The name that this one is an alias of.
    pub const CNAME: RecordType = RecordType(5);
    /// The start of a zone.
    pub const SOA: RecordType = RecordType(6);
    /// The name of an address.
    pub const PTR: RecordType = RecordType(12);
    /// A mail exchanger.
    pub const MX: RecordType = RecordType(15);
    /// Text.
    pub const TXT: RecordType = RecordType(16);
    /// An IPv6 address.
    pub const AAAA: RecordType = RecordType(28);
    /// The place of a service (RFC 2782).
    pub const SRV: RecordType = RecordType(33);
    pub(crate) const OPT: RecordType = RecordType(41);
    /// A service binding (RFC 9460).
    pub const SVCB: RecordType = RecordType(64);
    /// A service binding for HTTPS (RFC 9460).
    pub const HTTPS: RecordType = RecordType(65);
}

/// The text is no type that is known by name, nor `TYPE` and a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownRecordType;

impl fmt::Display for UnknownRecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record type")
    }
}

impl std::error::Error for UnknownRecordType {}

impl FromStr for RecordType {
    type Err = UnknownRecordType;

    fn from_str(text: &str) -> Result<RecordType, UnknownRecordType> {
        if let Some((known, _)) =
            TYPE_NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text))
        {
            return Ok(*known);
        }
        match text.split_at_checked(4) {
            Some((prefix, number)) if prefix.eq_ignore_ascii_case("type") => {
                number.parse().map(RecordType).map_err(|_| UnknownRecordType)
            }
            _ => Err(UnknownRecordType),
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TYPE_NAMES.iter().find(|(known, _)| known == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

/// One resource record of class IN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The name the record belongs to.
    pub name: DnsName,
    /// Its type.
    pub record_type: RecordType,
    /// How long it may be kept, in seconds, as the server said; 2^31 and more count as 0
    /// (RFC 2181, section 8).
    pub ttl: u32,
    /// What it says.
    pub data: RecordData,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecordData {
    /// A, AAAA.
    Address(IpAddr),
    /// CNAME, NS, PTR.
    Name(DnsName),
    /// MX.
    Mx {
        /// Less is preferred.
        preference: u16,
        /// The mail server.
        exchange: DnsName,
    },
    /// TXT: its strings, of at most 255 bytes each.
    Txt(Vec<Box<[u8]>>),
    /// SRV.
    Srv {
        /// Less is tried first.
        priority: u16,
        /// The share among equal priorities.
        weight: u16,
        /// The port.
        port: u16,
        /// The host.
        target: DnsName,
    },
    /// SOA.
    Soa(Box<Soa>),
    /// HTTPS, SVCB.
    Service {
        /// 0 makes the record an alias; else less is tried first.
        priority: u16,
        /// The host; the root means the record's own name.
        target: DnsName,
        /// Keys and values as they came (RFC 9460, section 14.3, has the keys).
        parameters: Vec<(u16, Box<[u8]>)>,
    },
    /// Any other type: its bytes.
    Other(Box<[u8]>),
}

/// The start of a zone: RFC 1035, section 3.3.13.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Soa {
    /// The zone's first server.
    pub server: DnsName,
    /// The mailbox of who is responsible, as a name.
    pub mailbox: DnsName,
    /// The version of the zone.
    pub serial: u32,
    /// Seconds until a secondary asks again.
    pub refresh: u32,
    /// Seconds until it asks again after a failure.
    pub retry: u32,
    /// Seconds until it gives up the zone.
    pub expire: u32,
    /// Seconds that a negative answer may be kept (RFC 2308).
    pub minimum: u32,
}

/// Reads one record of a message. `Ok(None)` for another class than IN; an OPT record is handed
/// to `opt` as its class, TTL and data.
pub(crate) fn read_record(
    decoder: &mut BinDecoder<'_>,
    mut opt: impl FnMut(u16, u32, &[u8]),
) -> Option<Option<Record>> {
    let name = Name::read(decoder).ok()?;
    // Any value of these is valid in itself.
    let record_type = RecordType(decoder.read_u16().ok()?.unverified());
    let class = decoder.read_u16().ok()?.unverified();
    let ttl = decoder.read_u32().ok()?.unverified();
    let len =
        decoder.read_u16().ok()?.verify_unwrap(|&len| usize::from(len) <= decoder.len()).ok()?;
    let start = decoder.index();
    if record_type == RecordType::OPT {
        let data = decoder.read_slice(len.into()).ok()?.unverified();
        if name.is_root() {
            opt(class, ttl, data);
        }
        return Some(None);
    }
    if class != 1 {
        decoder.read_slice(len.into()).ok()?;
        return Some(None);
    }
    let data = read_data(decoder, record_type, len)?;
    if decoder.index() != start + usize::from(len) {
        return None;
    }
    let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
    Some(Some(Record { name: convert(&name)?, record_type, ttl, data }))
}

fn read_data(decoder: &mut BinDecoder<'_>, of: RecordType, len: u16) -> Option<RecordData> {
    let known = matches!(
        of,
        RecordType::A
            | RecordType::AAAA
            | RecordType::CNAME
            | RecordType::NS
            | RecordType::PTR
            | RecordType::MX
            | RecordType::TXT
            | RecordType::SRV
            | RecordType::SOA
    );
    if !known {
        let bytes = decoder.read_slice(len.into()).ok()?.unverified();
        return if matches!(of, RecordType::SVCB | RecordType::HTTPS) {
            read_service(bytes)
        } else {
            Some(RecordData::Other(bytes.into()))
        };
    }
    Some(match RData::read(decoder, WireType::from(of.0), Restrict::new(len)).ok()? {
        RData::A(address) => RecordData::Address(IpAddr::V4(address.0)),
        RData::AAAA(address) => RecordData::Address(IpAddr::V6(address.0)),
        RData::CNAME(name) => RecordData::Name(convert(&name.0)?),
        RData::NS(name) => RecordData::Name(convert(&name.0)?),
        RData::PTR(name) => RecordData::Name(convert(&name.0)?),
        RData::MX(mx) => {
            RecordData::Mx { preference: mx.preference, exchange: convert(&mx.exchange)? }
        }
        RData::TXT(txt) => RecordData::Txt(txt.txt_data.to_vec()),
        RData::SRV(srv) => RecordData::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: convert(&srv.target)?,
        },
        RData::SOA(soa) => RecordData::Soa(Box::new(Soa {
            server: convert(&soa.mname)?,
            mailbox: convert(&soa.rname)?,
            serial: soa.serial,
            refresh: soa.refresh as u32,
            retry: soa.retry as u32,
            expire: soa.expire as u32,
            minimum: soa.minimum,
        })),
        _ => return None,
    })
}

/// RFC 9460, section 2.2: the target is not compressed, the keys ascend.
fn read_service(bytes: &[u8]) -> Option<RecordData> {
    let (&priority, mut rest) = bytes.split_first_chunk::<2>()?;
    let mut labels = Vec::new();
    loop {
        let (&len, tail) = rest.split_first()?;
        if len == 0 {
            rest = tail;
            break;
        }
        let (label, tail) = tail.split_at_checked(len.into())?;
        labels.push(label);
        rest = tail;
    }
    let target = DnsName::from_labels(labels)?;
    let mut parameters: Vec<(u16, Box<[u8]>)> = Vec::new();
    while !rest.is_empty() {
        let (&key, tail) = rest.split_first_chunk::<2>()?;
        let (&len, tail) = tail.split_first_chunk::<2>()?;
        let (value, tail) = tail.split_at_checked(u16::from_be_bytes(len).into())?;
        let key = u16::from_be_bytes(key);
        if parameters.last().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        parameters.push((key, value.into()));
        rest = tail;
    }
    Some(RecordData::Service { priority: u16::from_be_bytes(priority), target, parameters })
}

fn convert(name: &Name) -> Option<DnsName> {
    DnsName::from_labels(name.iter())
}

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
            RecordData::Other(bytes) => {
                write!(f, "\\# {}", bytes.len())?;
                if !bytes.is_empty() {
                    f.write_str(" ")?;
                }
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
