//! A world of servers that do what a test says, in virtual time, and messages built by hand.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tepal_base::Instant;
use tepal_names::config::{Environment, ResolvConf};
use tepal_names::error::{LookupError, Over, SocketFault};
use tepal_names::resolver::{
    Answer, ExchangeId, HostAnswer, LookupId, Resolver, Settings, Started, Transmit,
};
use tepal_names::{Family, Interfaces};

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;

/// When each world begins.
pub const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

/// A query as a server sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub server: SocketAddr,
    pub over: Over,
    pub id: u16,
    /// Name, type and class, as sent.
    pub question: Vec<u8>,
    /// In lower case, without the last dot.
    pub name: String,
    pub record_type: u16,
    pub edns: bool,
    /// The COOKIE option's bytes.
    pub cookie: Option<Vec<u8>>,
    pub authentic_data: bool,
}

impl Asked {
    pub fn parse(at: Instant, server: SocketAddr, over: Over, message: &[u8]) -> Asked {
        let message = match over {
            Over::Udp => message,
            Over::Tcp => {
                let len = u16::from_be_bytes([message[0], message[1]]);
                assert_eq!(usize::from(len) + 2, message.len());
                &message[2..]
            }
        };
        assert_eq!(message[4..10], [0, 1, 0, 0, 0, 0]);
        assert_eq!(message[2] & 0x81, 0x01, "a query with recursion desired");
        let mut end = 12;
        let mut labels = Vec::new();
        while message[end] != 0 {
            let len = usize::from(message[end]);
            labels.push(String::from_utf8_lossy(&message[end + 1..end + 1 + len]).to_lowercase());
            end += 1 + len;
        }
        end += 5;
        let question = message[12..end].to_vec();
        let record_type = u16::from_be_bytes([message[end - 4], message[end - 3]]);
        let edns = message[11] == 1;
        let mut cookie = None;
        if edns {
            let opt = &message[end..];
            assert_eq!(opt[..5], [0, 0, 41, 4, 208], "EDNS with 1232 bytes");
            assert_eq!(opt[11..13], [0, 10]);
            cookie = Some(opt[15..].to_vec());
        }
        let id = u16::from_be_bytes([message[0], message[1]]);
        let authentic_data = message[3] & 0x20 != 0;
        let name = labels.join(".");
        Asked { at, server, over, id, question, name, record_type, edns, cookie, authentic_data }
    }

    /// An empty reply to this query, to be filled.
    pub fn reply(&self) -> Reply {
        Reply {
            id: self.id,
            flags: 0x8180,
            question: self.question.clone(),
            question_count: 1,
            sections: [const { Vec::new() }; 3],
            counts: None,
            tail: Vec::new(),
        }
    }

    /// The address that stands for the good answer to this query.
    pub fn good_address(&self) -> IpAddr {
        if self.record_type == AAAA {
            "2001:db8::1".parse().unwrap()
        } else {
            [192, 0, 2, 80].into()
        }
    }

    /// A reply that answers with an address that must never be believed.
    pub fn evil(&self) -> Reply {
        let address: IpAddr =
            if self.record_type == AAAA { [0x666; 8].into() } else { [6, 6, 6, 6].into() };
        self.reply().answer(address_record(&self.name, 300, address))
    }

    /// A reply that answers.
    pub fn good(&self) -> Reply {
        self.reply().answer(address_record(&self.name, 300, self.good_address()))
    }
}

/// A message under construction.
#[derive(Clone)]
pub struct Reply {
    pub id: u16,
    pub flags: u16,
    pub question: Vec<u8>,
    pub question_count: u16,
    pub sections: [Vec<Vec<u8>>; 3],
    /// Lies about the counts of the sections.
    pub counts: Option<[u16; 3]>,
    pub tail: Vec<u8>,
}

impl Reply {
    pub fn answer(mut self, record: Vec<u8>) -> Reply {
        self.sections[0].push(record);
        self
    }
    pub fn authority(mut self, record: Vec<u8>) -> Reply {
        self.sections[1].push(record);
        self
    }
    pub fn additional(mut self, record: Vec<u8>) -> Reply {
        self.sections[2].push(record);
        self
    }
    pub fn code(mut self, code: u16) -> Reply {
        self.flags |= code;
        self
    }
    pub fn flag(mut self, flag: u16) -> Reply {
        self.flags |= flag;
        self
    }
    pub fn without_flag(mut self, flag: u16) -> Reply {
        self.flags &= !flag;
        self
    }
    pub fn id(mut self, id: u16) -> Reply {
        self.id = id;
        self
    }
    pub fn counts(mut self, counts: [u16; 3]) -> Reply {
        self.counts = Some(counts);
        self
    }
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.id.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(self.question_count.to_be_bytes());
        let counts = self.counts.unwrap_or([0, 1, 2].map(|i| self.sections[i].len() as u16));
        for count in counts {
            out.extend(count.to_be_bytes());
        }
        out.extend(&self.question);
        for record in self.sections.iter().flatten() {
            out.extend(record);
        }
        out.extend(&self.tail);
        out
    }
}

pub fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

pub fn record_with(owner: &[u8], record_type: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(record_type.to_be_bytes());
    out.extend(class.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}

pub fn record(owner: &str, record_type: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    record_with(&wire_name(owner), record_type, 1, ttl, data)
}

pub fn address_record(owner: &str, ttl: u32, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => record(owner, A, ttl, &v4.octets()),
        IpAddr::V6(v6) => record(owner, AAAA, ttl, &v6.octets()),
    }
}

pub fn alias(owner: &str, target: &str) -> Vec<u8> {
    record(owner, CNAME, 300, &wire_name(target))
}

pub fn soa(owner: &str, ttl: u32, minimum: u32) -> Vec<u8> {
    let mut data = wire_name("ns.example");
    data.extend(wire_name("mail.example"));
    for value in [1, 2, 3, 4, minimum] {
        data.extend(value.to_be_bytes());
    }
    record(owner, SOA, ttl, &data)
}

/// An OPT record; `code_high` is the upper part of the response code.
pub fn opt(code_high: u8, options: &[u8]) -> Vec<u8> {
    record_with(&[0], 41, 1232, u32::from(code_high) << 24, options)
}

pub fn cookie_option(cookie: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 10, 0, cookie.len() as u8];
    out.extend(cookie);
    out
}

/// What a server does, after so many milliseconds.
#[derive(Clone)]
pub enum Reaction {
    /// Sends this message; over TCP with its length in front.
    Say(u64, Vec<u8>),
    /// Sends these bytes as they are (over TCP: without a length).
    Raw(u64, Vec<u8>),
    /// The socket fails.
    Fail(u64, SocketFault),
}

pub struct Finished {
    pub id: LookupId,
    pub at: Instant,
    pub result: Result<Answer, LookupError>,
}

type Script<'a> = dyn FnMut(&Asked) -> Vec<Reaction> + 'a;

/// Runs a resolver against scripted servers in virtual time.
pub struct World<'a> {
    pub resolver: Resolver,
    pub now: Instant,
    pub asked: Vec<Asked>,
    pub most_sockets: usize,
    /// Streams are handed in by pieces of this size.
    pub piece: usize,
    /// Lookups are for a race of connects.
    pub hurry: bool,
    /// What was told before a lookup in a hurry had ended.
    pub early: Vec<(Instant, HostAnswer)>,
    script: Box<Script<'a>>,
    sockets: BTreeMap<u64, Over>,
    events: BTreeMap<(Instant, u64), (ExchangeId, Reaction)>,
    event_count: u64,
}

impl<'a> World<'a> {
    pub fn new(conf: &str, script: impl FnMut(&Asked) -> Vec<Reaction> + 'a) -> World<'a> {
        World::with(Settings::default(), conf, script)
    }

    pub fn with(
        settings: Settings,
        conf: &str,
        script: impl FnMut(&Asked) -> Vec<Reaction> + 'a,
    ) -> World<'a> {
        let mut resolver = Resolver::new(settings, [42; 32]);
        resolver.set_resolv_conf(ResolvConf::parse(
            conf,
            &Environment::default(),
            &Interfaces::default(),
        ));
        World {
            resolver,
            now: BEGIN,
            asked: Vec::new(),
            most_sockets: 0,
            piece: usize::MAX,
            hurry: false,
            early: Vec::new(),
            script: Box::new(script),
            sockets: BTreeMap::new(),
            events: BTreeMap::new(),
            event_count: 0,
        }
    }

    pub fn open_sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Does what the resolver wants with sockets.
    pub fn transmit(&mut self) {
        while let Some(transmit) = self.resolver.poll_transmit() {
            let (exchange, server, message, over) = match transmit {
                Transmit::Datagram { exchange, server, message } => {
                    (exchange, server, message, Over::Udp)
                }
                Transmit::Stream { exchange, server, message } => {
                    (exchange, server, message, Over::Tcp)
                }
                Transmit::Close { exchange } => {
                    self.sockets.remove(&exchange.to_bits()).expect("only open sockets are closed");
                    continue;
                }
            };
            assert!(self.sockets.insert(exchange.to_bits(), over).is_none());
            self.most_sockets = self.most_sockets.max(self.sockets.len());
            let asked = Asked::parse(self.now, server, over, &message);
            for reaction in (self.script)(&asked) {
                let (Reaction::Say(delay, _) | Reaction::Raw(delay, _) | Reaction::Fail(delay, _)) =
                    &reaction;
                self.event_count += 1;
                let at = self.now + Duration::from_millis(*delay);
                self.events.insert((at, self.event_count), (exchange, reaction));
            }
            self.asked.push(asked);
        }
    }

    /// Runs until no lookup is under way; gives the answers in the order they came.
    pub fn run(&mut self) -> Vec<Finished> {
        let mut all = Vec::new();
        loop {
            self.transmit();
            while let Some((_, answer)) = self.resolver.poll_early() {
                self.early.push((self.now, answer));
            }
            while let Some((id, result)) = self.resolver.poll_finished() {
                all.push(Finished { id, at: self.now, result });
            }
            if self.resolver.lookup_count() == 0 {
                self.transmit();
                assert_eq!(self.open_sockets(), 0, "a socket was left open");
                assert_eq!(self.resolver.socket_count(), 0);
                assert_eq!(self.resolver.poll_timeout(), None, "a timer was left");
                return all;
            }
            let timer = self.resolver.poll_timeout().expect("every lookup has a deadline");
            match self.events.first_key_value().map(|(key, _)| *key) {
                Some(key) if key.0 < timer => {
                    let (exchange, reaction) = self.events.remove(&key).expect("it is there");
                    self.now = key.0;
                    self.react(exchange, reaction);
                }
                _ => {
                    assert!(timer >= self.now);
                    self.now = timer;
                    self.resolver.handle_timeout(timer);
                }
            }
        }
    }

    /// Lets happen what is due by now.
    pub fn due(&mut self) {
        while let Some(event) = self.events.first_entry().filter(|event| event.key().0 <= self.now)
        {
            let (exchange, reaction) = event.remove();
            self.react(exchange, reaction);
        }
    }

    fn react(&mut self, exchange: ExchangeId, reaction: Reaction) {
        // Late words of closed sockets are handed in too: they must be harmless.
        let over = self.sockets.get(&exchange.to_bits()).copied().unwrap_or(Over::Udp);
        match (reaction, over) {
            (Reaction::Fail(_, fault), _) => self.resolver.handle_fault(exchange, fault, self.now),
            (Reaction::Say(_, bytes) | Reaction::Raw(_, bytes), Over::Udp) => {
                self.resolver.handle_datagram(exchange, &bytes, self.now);
            }
            (Reaction::Say(_, bytes), Over::Tcp) => {
                let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
                framed.extend(bytes);
                self.stream(exchange, &framed);
            }
            (Reaction::Raw(_, bytes), Over::Tcp) => self.stream(exchange, &bytes),
        }
    }

    fn stream(&mut self, exchange: ExchangeId, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece) {
            self.resolver.handle_stream(exchange, piece, self.now);
        }
    }

    /// One lookup with 15 s from its start to its end.
    pub fn lookup(&mut self, host: &str, family: Family) -> Result<Answer, LookupError> {
        let deadline = self.now + Duration::from_secs(15);
        match self.resolver.lookup_host(host, family, deadline, self.now) {
            Started::Finished(result) => result,
            Started::Pending(id) => {
                if self.hurry {
                    self.resolver.hurry(id, self.now);
                }
                self.only()
            }
        }
    }

    /// Runs to the end of the one lookup under way.
    pub fn only(&mut self) -> Result<Answer, LookupError> {
        let mut all = self.run();
        assert_eq!(all.len(), 1);
        all.remove(0).result
    }

    pub fn addresses(&mut self, host: &str, family: Family) -> Vec<String> {
        let answer = self.lookup(host, family).unwrap().into_host().unwrap();
        answer.addresses.iter().map(ToString::to_string).collect()
    }

    /// The names that were asked for, each once, in order.
    pub fn names(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        self.asked.iter().map(|a| a.name.clone()).filter(|name| seen.insert(name.clone())).collect()
    }
}

/// A small generator for tests: xorshift.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
