//! Resource records as answers hold them and as people read them.

mod read;
mod show;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::DnsName;
pub(crate) use read::read_record;

/// The type of a resource record, by its number in the IANA registry.
///
/// ```
/// use tepal_names::RecordType;
///
/// assert_eq!("mx".parse(), Ok(RecordType::MX));
/// assert_eq!(RecordType(99).to_string(), "TYPE99");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordType(pub u16);

#[rustfmt::skip]
const TYPE_NAMES: [(RecordType, &str); 15] = [
    (RecordType::A, "A"), (RecordType::NS, "NS"), (RecordType::CNAME, "CNAME"),
    (RecordType::SOA, "SOA"), (RecordType::PTR, "PTR"), (RecordType::MX, "MX"),
    (RecordType::TXT, "TXT"), (RecordType::AAAA, "AAAA"), (RecordType::SRV, "SRV"),
    (RecordType::SVCB, "SVCB"), (RecordType::HTTPS, "HTTPS"),
    (RecordType::NAPTR, "NAPTR"), (RecordType::SSHFP, "SSHFP"), (RecordType::TLSA, "TLSA"),
    (RecordType::CAA, "CAA"),
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
    /// A rule that rewrites a name (RFC 3403).
    pub const NAPTR: RecordType = RecordType(35);
    pub(crate) const OPT: RecordType = RecordType(41);
    /// The fingerprint of a host key (RFC 4255).
    pub const SSHFP: RecordType = RecordType(44);
    /// The certificate of a TLS server (RFC 6698).
    pub const TLSA: RecordType = RecordType(52);
    /// A service binding (RFC 9460).
    pub const SVCB: RecordType = RecordType(64);
    /// A service binding for HTTPS (RFC 9460).
    pub const HTTPS: RecordType = RecordType(65);
    /// Who may issue certificates (RFC 8659).
    pub const CAA: RecordType = RecordType(257);
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
    /// NAPTR.
    Naptr {
        /// Less is processed first.
        order: u16,
        /// Less is preferred among equal orders.
        preference: u16,
        /// What follows: `S` an SRV look-up, `A` addresses, `U` a URI, nothing more NAPTRs.
        flags: Box<[u8]>,
        /// Protocol and service.
        service: Box<[u8]>,
        /// A substitution, or empty.
        regexp: Box<[u8]>,
        /// The next name, or the root.
        replacement: DnsName,
    },
    /// SSHFP.
    Sshfp {
        /// Of the key: 1 RSA, 2 DSA, 3 ECDSA, 4 Ed25519.
        algorithm: u8,
        /// 1 SHA-1, 2 SHA-256.
        hash: u8,
        /// The hash of the key.
        fingerprint: Box<[u8]>,
    },
    /// TLSA.
    Tlsa {
        /// 0 CA of a public chain, 1 server of a public chain, 2 CA, 3 server.
        usage: u8,
        /// 0 the certificate, 1 its public key.
        selector: u8,
        /// 0 as it is, 1 SHA-256, 2 SHA-512.
        matching: u8,
        /// What is to match.
        data: Box<[u8]>,
    },
    /// CAA.
    Caa {
        /// 128: who does not know the tag may not issue.
        flags: u8,
        /// `issue`, `issuewild`, `iodef`, or another.
        tag: Box<str>,
        /// For `issue` the name of a CA and its parameters.
        value: Box<[u8]>,
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
