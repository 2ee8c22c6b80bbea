//! Records out of messages.

use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, RecordType as WireType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, Restrict};

use super::{Record, RecordData, RecordType, Soa};
use crate::DnsName;

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
        // RFC 6891, section 6.1.2: its name is the root.
        if !name.is_root() {
            return None;
        }
        opt(class, ttl, data);
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
        return read_flat(bytes, of);
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

/// Types whose names are not compressed: their bytes stand for themselves.
fn read_flat(bytes: &[u8], of: RecordType) -> Option<RecordData> {
    let mut rest = bytes;
    let rest = &mut rest;
    let data = match of {
        RecordType::SVCB | RecordType::HTTPS => RecordData::Service {
            priority: take_u16(rest)?,
            target: take_name(rest)?,
            parameters: take_parameters(rest)?,
        },
        RecordType::NAPTR => RecordData::Naptr {
            order: take_u16(rest)?,
            preference: take_u16(rest)?,
            flags: take_string(rest)?.into(),
            service: take_string(rest)?.into(),
            regexp: take_string(rest)?.into(),
            replacement: take_name(rest)?,
        },
        RecordType::SSHFP => RecordData::Sshfp {
            algorithm: take_u8(rest)?,
            hash: take_u8(rest)?,
            fingerprint: take_rest(rest),
        },
        RecordType::TLSA => RecordData::Tlsa {
            usage: take_u8(rest)?,
            selector: take_u8(rest)?,
            matching: take_u8(rest)?,
            data: take_rest(rest),
        },
        RecordType::CAA => {
            let (flags, tag) = (take_u8(rest)?, take_string(rest)?);
            // RFC 8659, section 4.1.
            if tag.is_empty() || !tag.iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            let tag = str::from_utf8(tag).ok()?.into();
            RecordData::Caa { flags, tag, value: take_rest(rest) }
        }
        _ => RecordData::Other(take_rest(rest)),
    };
    rest.is_empty().then_some(data)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(taken)
}

fn take_u8(rest: &mut &[u8]) -> Option<u8> {
    Some(take(rest, 1)?[0])
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (&bytes, tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    Some(u16::from_be_bytes(bytes))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_u8(rest)?;
    take(rest, len.into())
}

fn take_rest(rest: &mut &[u8]) -> Box<[u8]> {
    std::mem::take(rest).into()
}

fn take_name(rest: &mut &[u8]) -> Option<DnsName> {
    let mut labels = Vec::new();
    loop {
        match take_string(rest)? {
            [] => return DnsName::from_labels(labels),
            label => labels.push(label),
        }
    }
}

/// RFC 9460, section 2.2: the keys ascend.
fn take_parameters(rest: &mut &[u8]) -> Option<Vec<(u16, Box<[u8]>)>> {
    let mut parameters: Vec<(u16, Box<[u8]>)> = Vec::new();
    while !rest.is_empty() {
        let (key, len) = (take_u16(rest)?, take_u16(rest)?);
        let value = take(rest, len.into())?;
        if parameters.last().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        parameters.push((key, value.into()));
    }
    Some(parameters)
}

fn convert(name: &Name) -> Option<DnsName> {
    DnsName::from_labels(name.iter())
}
