//! Every kind of reply a server can give, over UDP and TCP, for A and AAAA.
//!
//! What is no answer must not end the query: in those kinds the server follows up with a good
//! reply, and that must be the result.

mod common;

use common::{
    A, AAAA, Asked, CNAME, NS, Reaction, World, address_record, alias, cookie_option, opt, record,
    record_with, soa, wire_name,
};
use tepal_names::Family;
use tepal_names::error::{LookupErrorKind, Over, ServerOutcome, SocketFault};

/// What must come out.
#[derive(Clone, Debug, PartialEq)]
enum Expect {
    /// The good address, from the first server's first turn.
    Answer,
    /// These addresses.
    Addresses(&'static [&'static str], &'static [&'static str]),
    Error(LookupErrorKind),
    /// All servers failed, each turn ending like this.
    Failed(ServerOutcome),
}
use Expect::{Addresses, Answer, Error, Failed};

type Server = fn(&Asked) -> Vec<Reaction>;

fn say(reply: &common::Reply) -> Vec<Reaction> {
    vec![Reaction::Say(10, reply.bytes())]
}

/// A bad packet first, the good reply 20 ms later.
fn then_good(asked: &Asked, bad: Vec<u8>) -> Vec<Reaction> {
    vec![Reaction::Say(10, bad), Reaction::Say(30, asked.good().bytes())]
}

/// The question with the case of its first letter flipped.
fn flipped(asked: &Asked) -> Vec<u8> {
    let mut question = asked.question.clone();
    let letter = question.iter().position(u8::is_ascii_alphabetic).unwrap();
    question[letter] ^= 0x20;
    question
}

fn chain(asked: &Asked, len: usize) -> common::Reply {
    let mut reply = asked.reply();
    let mut owner = asked.name.clone();
    for index in 0..len {
        let target = format!("c{index}.test");
        reply = reply.answer(alias(&owner, &target));
        owner = target;
    }
    reply.answer(address_record(&owner, 60, asked.good_address()))
}

const SECOND_TURN: &str = "SERVFAIL, then good";
const SILENT: ServerOutcome = ServerOutcome::Silent { ignored: 0 };
const LOOP: ServerOutcome = ServerOutcome::AliasLoop;

#[rustfmt::skip]
const KINDS: &[(&str, Server, Expect)] = &[
    // Good answers.
    ("plain", |q| say(&q.good()), Answer),
    ("authoritative", |q| say(&q.good().flag(0x0400)), Answer),
    ("without recursion available", |q| say(&q.good().without_flag(0x0080)), Answer),
    ("with OPT", |q| say(&q.good().additional(opt(0, &[]))), Answer),
    ("with unknown EDNS option", |q| say(&q.good().additional(opt(0, &[0xff, 0xfe, 0, 1, 9]))), Answer),
    ("with OPT of another version", |q| say(&q.good().additional(record_with(&[0], 41, 512, 0x0001_0000, &[]))), Answer),
    ("with cut EDNS options", |q| say(&q.good().additional(opt(0, &[0, 3, 0, 9]))), Answer),
    ("two addresses", |q| say(&q.good().answer(record(&q.name, q.record_type, 5, if q.record_type == A { &[192, 0, 2, 81] } else { &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2] }))),
        Addresses(&["192.0.2.80", "192.0.2.81"], &["2001:db8::1", "2001:db8::2"])),
    ("the same address twice", |q| say(&q.good().answer(address_record(&q.name, 9, q.good_address()))), Answer),
    ("other types beside it", |q| say(&q.good().answer(record(&q.name, 46, 9, &[1; 20])).authority(record("test", NS, 9, &wire_name("ns.test")))), Answer),
    ("another class beside it", |q| say(&q.good().answer(record_with(&wire_name(&q.name), q.record_type, 3, 9, &[7; 4]))), Answer),
    ("a stranger's records beside it", |q| say(&q.good().answer(address_record("victim.test", 9, [6, 6, 6, 6].into())).additional(address_record("ns.test", 9, [6, 6, 6, 6].into()))), Answer),
    ("compressed owner", |q| say(&q.reply().answer(record_with(&[0xc0, 12], q.record_type, 1, 9, &address_record("x", 9, q.good_address())[13..]))), Answer),
    ("upper case owner", |q| say(&q.reply().answer(address_record(&q.name.to_uppercase(), 9, q.good_address()))), Answer),
    ("TTL 0", |q| say(&q.reply().answer(address_record(&q.name, 0, q.good_address()))), Answer),
    ("TTL 2^31", |q| say(&q.reply().answer(address_record(&q.name, 1 << 31, q.good_address()))), Answer),
    ("TTL 2^32-1", |q| say(&q.reply().answer(address_record(&q.name, u32::MAX, q.good_address()))), Answer),
    ("bytes behind the last record", |q| { let mut r = q.good(); r.tail = vec![0; 9]; say(&r) }, Answer),
    ("unknown type with odd data", |q| say(&q.good().additional(record(&q.name, 999, 9, &[1, 2, 3]))), Answer),
    // Aliases.
    ("an alias", |q| say(&chain(q, 1)), Answer),
    ("eight aliases", |q| say(&chain(q, 8)), Answer),
    ("nine aliases", |q| say(&chain(q, 9)), Failed(LOOP)),
    ("aliases out of order", |q| { let mut r = chain(q, 4); r.sections[0].reverse(); say(&r) }, Answer),
    ("an alias to itself", |q| say(&q.reply().answer(alias(&q.name, &q.name))), Failed(LOOP)),
    ("aliases in a circle", |q| say(&q.reply().answer(alias(&q.name, "b.test")).answer(alias("b.test", "c.test")).answer(alias("c.test", "b.test"))), Failed(LOOP)),
    ("an alias that leaves the answer", |q| if q.name == "far.test" { say(&q.good()) } else { say(&q.reply().answer(alias(&q.name, "far.test"))) }, Answer),
    ("aliases without end, each in an answer of its own", |q| say(&q.reply().answer(alias(&q.name, &format!("a{}", q.name)))), Error(LookupErrorKind::AliasLoop)),
    ("an alias that leaves and comes back", |q| say(&q.reply().answer(alias(&q.name, if q.name == "far.test" { "host.test" } else { "far.test" }))), Error(LookupErrorKind::AliasLoop)),
    ("an alias without the records", |q| say(&q.reply().answer(alias(&q.name, "b.test")).authority(soa("test", 60, 60))), Error(LookupErrorKind::NoData)),
    ("an alias to nothing", |q| say(&q.reply().code(3).answer(alias(&q.name, "b.test")).authority(soa("test", 60, 60))), Error(LookupErrorKind::NotFound)),
    ("an alias to a name no host has", |q| { let mut odd = wire_name("a b!"); odd[2] = b'\n'; let r = q.reply().answer(record(&q.name, CNAME, 9, &odd)); say(&r.answer(record_with(&odd, q.record_type, 1, 9, &address_record("x", 9, q.good_address())[13..]))) }, Answer),
    // Negative answers.
    ("NXDOMAIN with SOA", |q| say(&q.reply().code(3).authority(soa("test", 60, 60))), Error(LookupErrorKind::NotFound)),
    ("NXDOMAIN without SOA", |q| say(&q.reply().code(3)), Error(LookupErrorKind::NotFound)),
    ("NXDOMAIN with a stranger's SOA", |q| say(&q.reply().code(3).authority(soa("elsewhere", 60, 60))), Error(LookupErrorKind::NotFound)),
    ("NODATA with SOA", |q| say(&q.reply().authority(soa("test", 60, 60))), Error(LookupErrorKind::NoData)),
    ("NODATA without SOA", |q| say(&q.reply()), Error(LookupErrorKind::NoData)),
    ("NXDOMAIN with an address", |q| say(&q.evil().code(3).authority(soa("test", 60, 60))), Error(LookupErrorKind::NotFound)),
    ("NXDOMAIN with an alias and its address", |q| say(&chain(q, 1).code(3)), Error(LookupErrorKind::NotFound)),
    ("only the other family", |q| say(&q.reply().answer(record(&q.name, if q.record_type == A { AAAA } else { A }, 9, if q.record_type == A { &[1; 16] } else { &[1; 4] }))), Error(LookupErrorKind::NoData)),
    ("only a stranger's address", |q| say(&q.reply().answer(address_record("victim.test", 9, [6, 6, 6, 6].into()))), Error(LookupErrorKind::NoData)),
    // Errors that send us to the next server.
    ("SERVFAIL", |q| say(&q.reply().code(2)), Failed(ServerOutcome::Code(2))),
    ("REFUSED", |q| say(&q.reply().code(5)), Failed(ServerOutcome::Code(5))),
    ("FORMERR always", |q| say(&q.reply().code(1)), Failed(ServerOutcome::Code(1))),
    ("NOTIMP always", |q| say(&q.reply().code(4)), Failed(ServerOutcome::Code(4))),
    ("YXDOMAIN", |q| say(&q.reply().code(6)), Failed(ServerOutcome::Code(6))),
    ("NOTAUTH", |q| say(&q.reply().code(9)), Failed(ServerOutcome::Code(9))),
    ("code 15", |q| say(&q.reply().code(15)), Failed(ServerOutcome::Code(15))),
    ("SERVFAIL with an address", |q| say(&q.evil().code(2)), Failed(ServerOutcome::Code(2))),
    ("an extended code", |q| if q.edns { say(&q.reply().code(2).additional(opt(1, &[]))) } else { say(&q.reply().code(2)) }, Failed(ServerOutcome::Code(18))),
    (SECOND_TURN, |q| if q.at == common::BEGIN { say(&q.reply().code(2)) } else { say(&q.good()) }, Answer),
    ("a referral", |q| say(&q.reply().without_flag(0x0080).authority(record("test", NS, 9, &wire_name("ns.test")))), Failed(ServerOutcome::Referral)),
    // EDNS is not understood: asked again without.
    ("FORMERR on EDNS", |q| if q.edns { say(&q.reply().code(1)) } else { say(&q.good()) }, Answer),
    ("NOTIMP on EDNS", |q| if q.edns { say(&q.reply().code(4)) } else { say(&q.good()) }, Answer),
    ("BADVERS on EDNS", |q| if q.edns { say(&q.reply().additional(opt(1, &[]))) } else { say(&q.good()) }, Answer),
    ("a bare FORMERR header on EDNS", |q| if q.edns { let mut r = q.reply().code(1); r.question.clear(); r.question_count = 0; say(&r) } else { say(&q.good()) }, Answer),
    // Cookies.
    ("a server cookie", |q| say(&if let Some(c) = &q.cookie { let mut c = c[..8].to_vec(); c.extend([5; 8]); q.good().additional(opt(0, &cookie_option(&c))) } else { q.good() }), Answer),
    ("BADCOOKIE once", |q| match &q.cookie { Some(c) if c.len() == 8 => { let mut c = c.clone(); c.extend([5; 8]); say(&q.reply().code(7).additional(opt(1, &cookie_option(&c)))) } _ => say(&q.good()) }, Answer),
    ("BADCOOKIE always", |q| match &q.cookie { Some(c) => { let mut c = c[..8].to_vec(); c.extend([5; 8]); say(&q.reply().code(7).additional(opt(1, &cookie_option(&c)))) } None => say(&q.good()) }, Failed(ServerOutcome::Code(23))),
    ("another client's cookie", |q| then_good(q, q.evil().additional(opt(0, &cookie_option(&[1; 16]))).bytes()), Answer),
    ("a cookie of no length", |q| then_good(q, q.evil().additional(opt(0, &cookie_option(&[1; 3]))).bytes()), Answer),
    // Packets that are no answer: the query waits on.
    ("another id", |q| then_good(q, q.evil().id(q.id ^ 1).bytes()), Answer),
    ("a query instead of a response", |q| then_good(q, q.evil().without_flag(0x8000).bytes()), Answer),
    ("another opcode", |q| then_good(q, q.evil().flag(0x2800).bytes()), Answer),
    ("another name", |q| then_good(q, { let mut r = q.evil(); r.question = [wire_name("evil.test"), q.question[q.question.len() - 4..].to_vec()].concat(); r.bytes() }), Answer),
    ("another type", |q| then_good(q, { let mut r = q.evil(); let at = r.question.len() - 3; r.question[at] ^= 0xff; r.bytes() }), Answer),
    ("another class", |q| then_good(q, { let mut r = q.evil(); let at = r.question.len() - 1; r.question[at] = 3; r.bytes() }), Answer),
    ("no question", |q| then_good(q, { let mut r = q.evil(); r.question.clear(); r.question_count = 0; r.bytes() }), Answer),
    ("a bare SERVFAIL header", |q| then_good(q, { let mut r = q.reply().code(2); r.question.clear(); r.question_count = 0; r.bytes() }), Answer),
    ("two questions", |q| then_good(q, { let mut r = q.evil(); r.question = [q.question.clone(), q.question.clone()].concat(); r.question_count = 2; r.bytes() }), Answer),
    ("nothing", |q| then_good(q, vec![]), Answer),
    ("one byte", |q| then_good(q, vec![0]), Answer),
    ("eleven bytes", |q| then_good(q, q.evil().bytes()[..11].to_vec()), Answer),
    ("a cut question", |q| then_good(q, q.evil().bytes()[..20].to_vec()), Answer),
    ("a cut record", |q| then_good(q, { let b = q.evil().bytes(); b[..b.len() - 1].to_vec() }), Answer),
    ("too many answers said", |q| then_good(q, q.evil().counts([9, 0, 0]).bytes()), Answer),
    ("too many additionals said", |q| then_good(q, q.evil().counts([1, 0, 65_535]).bytes()), Answer),
    ("RDLENGTH too long", |q| then_good(q, { let mut r = q.evil(); let at = wire_name(&q.name).len() + 8; r.sections[0][0][at] = 0x7f; r.bytes() }), Answer),
    ("RDLENGTH too short", |q| then_good(q, { let mut r = q.evil(); let at = wire_name(&q.name).len() + 9; r.sections[0][0][at] -= 1; r.bytes() }), Answer),
    ("an address of no bytes", |q| then_good(q, q.reply().answer(record(&q.name, q.record_type, 9, &[])).bytes()), Answer),
    ("a pointer to itself", |q| then_good(q, { let at = (12 + q.question.len()) as u8; q.reply().answer(record_with(&[0xc0, at], q.record_type, 1, 9, &[1; 4])).bytes() }), Answer),
    ("a pointer forward", |q| then_good(q, q.reply().answer(record_with(&[0xc0, 200], q.record_type, 1, 9, &[1; 4])).bytes()), Answer),
    ("a label of 64 bytes", |q| then_good(q, q.reply().answer(record_with(&[vec![64], vec![b'a'; 64], vec![0]].concat(), q.record_type, 1, 9, &[1; 4])).bytes()), Answer),
    ("a name of 256 bytes", |q| then_good(q, q.reply().answer(record_with(&[[vec![63], vec![b'a'; 63]].concat().repeat(4), vec![0]].concat(), q.record_type, 1, 9, &[1; 4])).bytes()), Answer),
    ("an alias that is cut", |q| then_good(q, q.reply().answer(record(&q.name, CNAME, 9, &[5, b'a'])).bytes()), Answer),
    ("an SOA that is cut", |q| then_good(q, q.reply().code(3).authority(record("test", 6, 9, &[0, 0, 0])).bytes()), Answer),
    ("OPT twice", |q| then_good(q, q.evil().additional(opt(0, &[])).additional(opt(0, &[])).bytes()), Answer),
    ("OPT among the answers", |q| then_good(q, q.evil().answer(opt(0, &[])).bytes()), Answer),
    ("OPT with a name", |q| then_good(q, q.evil().additional(record_with(&wire_name("opt.test"), 41, 1232, 0, &[])).bytes()), Answer),
    ("pointers in a circle", |q| then_good(q, { let at = (12 + q.question.len()) as u8; q.reply().answer(record_with(&[1, b'a', 0xc0, at], q.record_type, 1, 9, &[1; 4])).bytes() }), Answer),
    ("a label of a reserved kind", |q| then_good(q, q.reply().answer(record_with(&[0x40, 0], q.record_type, 1, 9, &[1; 4])).bytes()), Answer),
    ("seeded garbage", |q| then_good(q, { let mut d = common::Dice(q.id.into()); (0..200).map(|_| d.roll(256) as u8).collect() }), Answer),
    ("two bad packets", |q| vec![Reaction::Say(5, vec![1]), Reaction::Say(6, vec![2; 30]), Reaction::Say(30, q.good().bytes())], Answer),
    // Doubts that lead to TCP.
    ("another case", |q| if q.over == Over::Udp { let mut r = q.evil(); r.question = flipped(q); say(&r) } else { say(&q.good()) }, Answer),
    ("another case always", |q| { let mut r = q.good(); r.question = flipped(q); say(&r) }, Answer),
    ("another case and no TCP", |q| { let lower = q.question.to_ascii_lowercase(); if q.over == Over::Tcp && lower != q.question { vec![Reaction::Say(5, { let mut r = q.good(); r.question = lower; r.bytes() })] } else { let mut r = q.good(); r.question = lower; say(&r) } }, Answer),
    ("truncated, then whole over TCP", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { say(&q.good()) }, Answer),
    ("truncated in the middle of a record", |q| if q.over == Over::Udp { let b = q.evil().flag(0x0200).bytes(); vec![Reaction::Say(5, b[..b.len() - 3].to_vec())] } else { say(&q.good()) }, Answer),
    ("truncated always", |q| say(&q.evil().flag(0x0200)), Failed(ServerOutcome::Truncated)),
    ("many bad packets", |q| if q.over == Over::Udp { (0..200).map(|i| Reaction::Say(5, q.evil().id(q.id.wrapping_add(1 + i)).bytes())).collect() } else { say(&q.good()) }, Answer),
    // Sockets that fail.
    ("silence", |_| vec![], Failed(SILENT)),
    ("refused", |_| vec![Reaction::Fail(1, SocketFault::Refused)], Failed(ServerOutcome::Fault(SocketFault::Refused))),
    ("unreachable", |_| vec![Reaction::Fail(1, SocketFault::Unreachable)], Failed(ServerOutcome::Fault(SocketFault::Unreachable))),
    ("no socket", |_| vec![Reaction::Fail(0, SocketFault::NoSocket)], Failed(ServerOutcome::Fault(SocketFault::NoSocket))),
    ("truncated and TCP refused", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { vec![Reaction::Fail(1, SocketFault::Refused)] }, Failed(ServerOutcome::Fault(SocketFault::Refused))),
    ("truncated and TCP closed at once", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { vec![Reaction::Fail(1, SocketFault::Closed)] }, Failed(ServerOutcome::Fault(SocketFault::Closed))),
    ("truncated and TCP cut in the message", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { let b = q.good().bytes(); vec![Reaction::Raw(1, [&(b.len() as u16).to_be_bytes()[..], &b[..20]].concat()), Reaction::Fail(2, SocketFault::Closed)] }, Failed(ServerOutcome::Fault(SocketFault::Closed))),
    ("truncated and a length too long", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { vec![Reaction::Raw(1, [&[0xff, 0xff][..], &q.good().bytes()].concat()), Reaction::Fail(9, SocketFault::Reset)] }, Failed(ServerOutcome::Fault(SocketFault::Reset))),
    ("truncated and empty frames first", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { vec![Reaction::Raw(1, vec![0; 8]), Reaction::Say(9, q.good().bytes())] }, Answer),
    ("truncated and TCP silent", |q| if q.over == Over::Udp { say(&q.reply().flag(0x0200)) } else { vec![] }, Failed(SILENT)),
];

#[test]
fn every_kind_of_reply_has_its_outcome() {
    assert!(KINDS.len() >= 60, "{} kinds", KINDS.len());
    for (kind, server, expect) in KINDS {
        for use_vc in [false, true] {
            for family in [Family::V4, Family::V6] {
                // Streams are cut in every way that matters: whole, by bytes, by threes.
                for piece in if use_vc { vec![usize::MAX, 1, 3] } else { vec![usize::MAX] } {
                    check(kind, *server, expect, use_vc, family, piece);
                }
            }
        }
    }
}

fn check(kind: &str, server: Server, expect: &Expect, use_vc: bool, family: Family, piece: usize) {
    let context = format!("{kind}, use_vc {use_vc}, {family:?}, pieces of {piece}");
    // What is put right within a turn must not need a second one.
    let attempts = if *expect == Answer && kind != SECOND_TURN { 1 } else { 2 };
    let transport = if use_vc { "use-vc" } else { "" };
    let conf = format!("nameserver 192.0.2.53\noptions timeout:2 attempts:{attempts} {transport}");
    let mut world = World::new(&conf, server);
    world.piece = piece;
    let start = world.now;
    let result = world.lookup("host.test", family);
    let good = if family == Family::V4 { "192.0.2.80" } else { "2001:db8::1" };
    match expect {
        Answer | Addresses(..) => {
            let answer = result.unwrap_or_else(|error| panic!("{context}: {error}"));
            let answer = answer.into_host().unwrap();
            assert!(answer.canonical.bytes().all(|byte| byte.is_ascii_graphic()), "{context}");
            let found: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
            let wanted = match (expect, family) {
                (Addresses(v4, _), Family::V4) => v4.to_vec(),
                (Addresses(_, v6), _) => v6.to_vec(),
                _ => vec![good],
            };
            assert_eq!(found, wanted, "{context}");
            assert!(world.now.since(start).as_millis() < 2000, "{context}: it took a second turn");
        }
        Error(error) => {
            let found = result.expect_err(&context);
            assert_eq!(found.kind, *error, "{context}");
        }
        Failed(outcome) => {
            let found = result.expect_err(&context);
            assert_eq!(found.kind, LookupErrorKind::ServersFailed, "{context}: {found}");
            assert!(!found.servers.is_empty(), "{context}");
            // The extended code exists only where EDNS was sent.
            let last = found.servers[0].outcome;
            assert_eq!(last, *outcome, "{context}: {found}");
            assert!(found.to_string().contains("192.0.2.53:53"), "{found}");
        }
    }
}
