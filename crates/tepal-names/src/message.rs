//! Queries as bytes, and the judgement of what comes back.
//!
//! The header and the question are read here, because the question must match what was sent bit
//! by bit; names and record data are hickory-proto's, whose pointers only lead backward.

use hickory_proto::serialize::binary::BinDecoder;

use crate::record::{Record, RecordData, read_record};
use crate::{DnsName, RecordType};

/// What was asked, as far as the answer must repeat it.
pub(crate) struct Sent {
    pub(crate) id: u16,
    // Name, type and class as on the wire, with the case that was chosen.
    pub(crate) question: Box<[u8]>,
    pub(crate) edns: bool,
    pub(crate) client_cookie: Option<[u8; 8]>,
}

/// A message that can be the answer to a query.
pub(crate) struct Reply {
    // 12 bits: the header's and EDNS's.
    pub(crate) response_code: u16,
    pub(crate) truncated: bool,
    pub(crate) authoritative: bool,
    pub(crate) recursion_available: bool,
    pub(crate) authenticated: bool,
    pub(crate) edns: bool,
    pub(crate) server_cookie: Option<Box<[u8]>>,
    pub(crate) has_question: bool,
    // The question is ours but for its case.
    pub(crate) case_differs: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) len: usize,
}

pub(crate) const FORMERR: u16 = 1;
pub(crate) const NXDOMAIN: u16 = 3;
pub(crate) const NOTIMP: u16 = 4;
pub(crate) const BADVERS: u16 = 16;
pub(crate) const BADCOOKIE: u16 = 23;

const HEADER_LEN: usize = 12;
/// What fits through every network without fragments (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
const COOKIE: u16 = 10;
/// The place of the additional records among the three sections behind the question.
const ADDITIONAL: usize = 2;

/// The question section for a name, with each letter's case taken from `case` bits.
pub(crate) fn question(
    name: &DnsName,
    of: RecordType,
    mut case: impl FnMut() -> bool,
) -> Box<[u8]> {
    let mut question = Vec::with_capacity(name.as_wire().len() + 4);
    // A label's length is at most 63, below every letter.
    question.extend(name.as_wire().iter().map(|&byte| {
        if byte.is_ascii_lowercase() && case() { byte.to_ascii_uppercase() } else { byte }
    }));
    question.extend(of.0.to_be_bytes());
    question.extend(1u16.to_be_bytes());
    question.into()
}

/// A query with recursion desired. `cookie` is the client's 8 bytes and what the server gave.
pub(crate) fn encode_query(sent: &Sent, server_cookie: Option<&[u8]>, trust_ad: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + sent.question.len() + 11 + 4 + 40);
    message.extend(sent.id.to_be_bytes());
    let flags: u16 = 0x0100 | if trust_ad { 0x0020 } else { 0 };
    message.extend(flags.to_be_bytes());
    for count in [1, 0, 0, u16::from(sent.edns)] {
        message.extend(count.to_be_bytes());
    }
    message.extend(&sent.question);
    if sent.edns {
        message.push(0);
        message.extend(RecordType::OPT.0.to_be_bytes());
        message.extend(UDP_PAYLOAD.to_be_bytes());
        message.extend([0; 4]);
        let mut options = Vec::new();
        if let Some(client) = sent.client_cookie {
            let server = server_cookie.unwrap_or_default();
            // At most 8 + 32 bytes; see `server_cookie` in `read_options`.
            options.extend(COOKIE.to_be_bytes());
            options.extend(((client.len() + server.len()) as u16).to_be_bytes());
            options.extend(client);
            options.extend(server);
        }
        message.extend((options.len() as u16).to_be_bytes());
        message.extend(options);
    }
    message
}

/// Reads a message and compares it with what was asked. `None` if it is no answer to that: broken
/// anywhere, another id, not a response, another question, or another client's cookie.
///
/// The records of a truncated message are not looked at.
pub(crate) fn read_reply(message: &[u8], sent: &Sent) -> Option<Reply> {
    let header = message.first_chunk::<HEADER_LEN>()?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let flags = field(2);
    // QR must be set and the opcode be QUERY.
    if field(0) != sent.id || flags & 0x8000 == 0 || flags & 0x7800 != 0 {
        return None;
    }
    let counts = [field(4), field(6), field(8), field(10)];
    let mut reply = Reply {
        response_code: flags & 0xf,
        truncated: flags & 0x0200 != 0,
        authoritative: flags & 0x0400 != 0,
        recursion_available: flags & 0x0080 != 0,
        authenticated: flags & 0x0020 != 0,
        edns: false,
        server_cookie: None,
        has_question: counts[0] == 1,
        case_differs: false,
        answers: Vec::new(),
        authorities: Vec::new(),
        len: message.len(),
    };
    let mut start = HEADER_LEN;
    match counts[0] {
        // Some servers send back a bare header with an error.
        0 if counts[1] == 0 && counts[2] == 0 && reply.response_code != 0 => {}
        1 => {
            start += sent.question.len();
            let question = message.get(HEADER_LEN..start)?;
            if question != &*sent.question {
                if !question.eq_ignore_ascii_case(&sent.question) {
                    return None;
                }
                reply.case_differs = true;
            }
        }
        _ => return None,
    }
    if reply.truncated {
        return Some(reply);
    }
    let mut cookie_is_wrong = false;
    let mut opt_count = 0;
    let mut decoder = BinDecoder::new(message);
    decoder.read_slice(start).ok()?;
    for (section, count) in counts[1..].iter().enumerate() {
        for _ in 0..*count {
            let record = read_record(&mut decoder, |_, ttl, options| {
                opt_count += 1;
                reply.edns = true;
                reply.response_code |= (ttl >> 24) as u16 * 16;
                match read_options(options, sent.client_cookie) {
                    Ok(cookie) => reply.server_cookie = cookie,
                    Err(WrongCookie) => cookie_is_wrong = true,
                }
            })?;
            // RFC 6891, section 6.1.1: one, among the additional records.
            if opt_count > usize::from(section == ADDITIONAL) {
                return None;
            }
            match (section, record) {
                (0, Some(record)) => reply.answers.push(record),
                (1, Some(record)) => reply.authorities.push(record),
                _ => {}
            }
        }
    }
    if cookie_is_wrong { None } else { Some(reply) }
}

struct WrongCookie;

/// The server's part of the cookie, if ours stands before it (RFC 7873, section 5.3).
fn read_options(
    mut options: &[u8],
    client_cookie: Option<[u8; 8]>,
) -> Result<Option<Box<[u8]>>, WrongCookie> {
    let mut cookie = None;
    while let Some((&[c0, c1, l0, l1], tail)) = options.split_first_chunk::<4>() {
        let len = u16::from_be_bytes([l0, l1]);
        let Some((value, tail)) = tail.split_at_checked(len.into()) else { break };
        options = tail;
        if u16::from_be_bytes([c0, c1]) != COOKIE {
            continue;
        }
        let Some(ours) = client_cookie else { continue };
        let Some((client, server)) = value.split_first_chunk::<8>() else {
            return Err(WrongCookie);
        };
        if *client != ours || !matches!(server.len(), 0 | 8..=32) {
            return Err(WrongCookie);
        }
        cookie = (!server.is_empty()).then(|| server.into());
    }
    Ok(cookie)
}

/// What an error-free reply, or one that says NXDOMAIN, says about the question.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// The records that were asked for, at the end of the chain.
    Records { chain: Vec<Record>, owner: DnsName, records: Vec<Record> },
    /// The chain leaves the answer: its last name is to be asked for.
    Alias { chain: Vec<Record>, target: DnsName },
    /// The name exists without such records. The time the answer may be kept, if it is said.
    NoData { ttl: Option<u32> },
    /// The name does not exist.
    NoName { ttl: Option<u32> },
    /// The server sends us elsewhere instead of answering.
    Referral,
    /// The aliases go round in a circle or are more than [`MAX_ALIASES`].
    AliasLoop,
}

/// The longest chain of aliases that is followed.
pub(crate) const MAX_ALIASES: usize = 8;

/// Follows the aliases in the answer section, and only there, from the asked name.
///
/// NXDOMAIN is about the name behind the last alias (RFC 6604, section 3), so records that stand
/// beside it contradict it; glibc believes the code, and so do we.
pub(crate) fn interpret(reply: Reply, name: &DnsName, of: RecordType) -> Meaning {
    let mut owner = name.clone();
    let mut chain: Vec<Record> = Vec::new();
    loop {
        let is_wanted = |record: &&Record| record.name == owner && record.record_type == of;
        let records: Vec<Record> = reply.answers.iter().filter(is_wanted).cloned().collect();
        if !records.is_empty() && reply.response_code != NXDOMAIN {
            return Meaning::Records { chain, owner, records };
        }
        let alias = reply
            .answers
            .iter()
            .find(|record| record.name == owner && record.record_type == RecordType::CNAME);
        let Some(alias) = alias else { break };
        let RecordData::Name(target) = &alias.data else { break };
        if chain.len() == MAX_ALIASES
            || target == name
            || chain.iter().any(|seen| seen.name == *target)
        {
            return Meaning::AliasLoop;
        }
        owner = target.clone();
        chain.push(alias.clone());
    }
    let ttl = negative_ttl(&reply.authorities, &owner);
    if reply.response_code == NXDOMAIN {
        return Meaning::NoName { ttl };
    }
    let has_soa = reply.authorities.iter().any(|r| r.record_type == RecordType::SOA);
    if !chain.is_empty() && !has_soa {
        return Meaning::Alias { chain, target: owner };
    }
    let has_ns = reply.authorities.iter().any(|r| r.record_type == RecordType::NS);
    if chain.is_empty() && has_ns && !has_soa && !reply.authoritative && !reply.recursion_available
    {
        return Meaning::Referral;
    }
    Meaning::NoData { ttl }
}

/// RFC 2308, section 5: the lesser of the SOA's TTL and its minimum. The SOA must be of a zone
/// that the name is in.
fn negative_ttl(authorities: &[Record], name: &DnsName) -> Option<u32> {
    authorities.iter().find_map(|record| match &record.data {
        RecordData::Soa(soa) if name.is_within(&record.name) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    })
}
