use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tepal_base::{Instant, Key};

use super::{Completion, Known, MAX_NEGATIVE_TTL, MAX_TTL, QueryResult, Queued, Resolver, Timer};
use crate::error::{Over, ServerOutcome, ServerReport, SocketFault};
use crate::message::{self, BADCOOKIE, BADVERS, FORMERR, Meaning, NOTIMP, NXDOMAIN, Reply, Sent};
use crate::record::Record;
use crate::resolver::lookup::Lookup;
use crate::{DnsName, RecordType};

/// One name and type, asked of one server after the other.
pub(super) struct Query {
    pub(super) name: DnsName,
    record_type: RecordType,
    waiters: Vec<(Key<Option<Box<Lookup>>>, usize)>,
    // The latest of the waiters' deadlines; each waiter watches its own.
    deadline: Instant,
    servers: Arc<[SocketAddr]>,
    // The index of the server that is asked first; `rotate` moves it.
    first: usize,
    // 0.. within a round, and the round.
    position: usize,
    round: u32,
    step: Step,
    // Every socket of this query, dead keys included.
    exchanges: Vec<Key<Exchange>>,
    // The socket whose turn it is; `None` while the query waits for one.
    pub(super) current: Option<Key<Exchange>>,
    pub(super) reports: Vec<ServerReport>,
}

/// One server's turn: it may take several messages.
#[derive(Clone, Copy)]
struct Step {
    over: Over,
    why: Why,
    sends: u32,
    mismatches: u32,
    bad_cookies: u32,
}

/// Why the current message was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    First,
    Truncated,
    Mismatches,
    Case,
    Cookie,
}

/// More than any sequence of fall-backs takes; an end for servers that contradict themselves.
const MAX_SENDS_PER_STEP: u32 = 8;
/// How long a server is remembered as unable.
const REMEMBER: Duration = Duration::from_secs(15 * 60);
const MIN_TURN: Duration = Duration::from_millis(100);

/// One socket with one message sent on it.
pub(super) struct Exchange {
    query: Key<Query>,
    pub(super) server: SocketAddr,
    pub(super) over: Over,
    sent: Sent,
    expects_cookie: bool,
    started: Instant,
    // When its turn ends; FAR once it is stale.
    turn_ends: Instant,
    ignored: u32,
    // What came of the stream and is not yet a whole message; at most 2 + 65535 bytes.
    received: Vec<u8>,
    pub(super) announced: bool,
}

impl Exchange {
    /// What there is to report of a socket on which no answer has come.
    pub(super) fn silent(&self, now: Instant) -> ServerReport {
        ServerReport {
            server: self.server,
            over: self.over,
            outcome: ServerOutcome::Silent { ignored: self.ignored },
            elapsed: now.since(self.started),
        }
    }
}

/// What was learnt about a server.
pub(super) struct Server {
    client_cookie: [u8; 8],
    cookie: Option<Box<[u8]>>,
    // It answered a query with EDNS by one.
    edns_seen: bool,
    // Until when it is asked without EDNS, and without mixed case.
    no_edns_until: Instant,
    no_case_until: Instant,
}

impl Resolver {
    /// Joins or begins the query for a name and type.
    pub(super) fn ask(
        &mut self,
        name: &DnsName,
        record_type: RecordType,
        waiter: (Key<Option<Box<Lookup>>>, usize),
        deadline: Instant,
        now: Instant,
    ) -> Key<Query> {
        let question = question_key(name, record_type);
        if let Some(&key) = self.by_question.get(&*question)
            && let Some(query) = self.queries.get_mut(key)
        {
            query.waiters.push(waiter);
            query.deadline = query.deadline.max(deadline);
            return key;
        }
        let first = if self.conf.rotate { self.rotation % self.servers.len() } else { 0 };
        self.rotation = self.rotation.wrapping_add(1);
        let key = self.queries.insert(Query {
            name: name.clone(),
            record_type,
            waiters: vec![waiter],
            deadline,
            servers: self.servers.clone(),
            first,
            position: 0,
            round: 0,
            step: Step::new(self.first_transport()),
            exchanges: Vec::new(),
            current: None,
            reports: Vec::new(),
        });
        self.by_question.insert(question, key);
        self.send(key, now);
        key
    }

    /// A lookup no longer waits for a query; without any, the query ends.
    pub(super) fn leave(&mut self, key: Key<Query>, lookup: Key<Option<Box<Lookup>>>) {
        let Some(query) = self.queries.get_mut(key) else { return };
        query.waiters.retain(|(waiter, _)| *waiter != lookup);
        if query.waiters.is_empty() {
            self.remove_query(key);
        }
    }

    /// Sends the query's message to its current server, or puts it in line for a socket.
    fn send(&mut self, key: Key<Query>, now: Instant) {
        if !self.queries.contains(key) {
            return;
        }
        while self.exchanges.len() >= self.settings.max_sockets.max(1) {
            match self.stale.pop_front() {
                Some(stale) => self.close(stale),
                None => {
                    self.waiting.push_back(key);
                    return;
                }
            }
        }
        let Some(query) = self.queries.get_mut(key) else { return };
        let over = query.step.over;
        query.step.sends += 1;
        let round = query.round;
        let server = query.servers[(query.first + query.position) % query.servers.len()];
        let turn_ends = now + query.turn(self.conf.timeout, self.conf.attempts, now);

        let random = &mut self.random;
        let state = self.server_states.entry(server).or_insert_with(|| Server {
            client_cookie: random.bytes(),
            cookie: None,
            edns_seen: false,
            no_edns_until: Instant::ZERO,
            no_case_until: Instant::ZERO,
        });
        // A server that never showed that it knows EDNS may be dropping it: in a second round it
        // is asked without.
        let edns = state.no_edns_until <= now && (round == 0 || state.edns_seen);
        let mixed_case = state.no_case_until <= now;
        let mut bits =
            random.bytes::<32>().into_iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1));
        let case = || mixed_case && bits.next() == Some(1);
        let sent = Sent {
            id: u16::from_le_bytes(self.random.bytes()),
            question: message::question(&query.name, query.record_type, case),
            edns,
            client_cookie: edns.then_some(state.client_cookie),
        };
        let expects_cookie = edns && state.cookie.is_some();
        let mut message = message::encode_query(&sent, state.cookie.as_deref(), self.conf.trust_ad);
        if over == Over::Tcp {
            // A query is some hundred bytes.
            let len = (message.len() as u16).to_be_bytes();
            message.splice(0..0, len);
        }
        let exchange = self.exchanges.insert(Exchange {
            query: key,
            server,
            over,
            sent,
            expects_cookie,
            started: now,
            turn_ends,
            ignored: 0,
            received: Vec::new(),
            announced: false,
        });
        if let Some(query) = self.queries.get_mut(key) {
            query.exchanges.push(exchange);
            query.current = Some(exchange);
        }
        self.timers.insert((turn_ends, Timer::Exchange(exchange.to_bits())));
        self.transmits.push_back(Queued::Open { exchange, message });
    }

    pub(super) fn send_waiting(&mut self, now: Instant) {
        while self.exchanges.len() < self.settings.max_sockets.max(1) || !self.stale.is_empty() {
            let Some(key) = self.waiting.pop_front() else { return };
            self.send(key, now);
        }
    }

    pub(super) fn receive_datagram(&mut self, key: Key<Exchange>, message: &[u8], now: Instant) {
        match self.exchanges.get(key) {
            Some(exchange) if exchange.over == Over::Udp => self.receive(key, message, now),
            _ => {}
        }
    }

    pub(super) fn receive_stream(&mut self, key: Key<Exchange>, mut bytes: &[u8], now: Instant) {
        // The exchange may end inside the loop; the rest of the bytes is then nobody's.
        while let Some(exchange) = self.exchanges.get_mut(key) {
            if exchange.over != Over::Tcp {
                return;
            }
            let received = &mut exchange.received;
            let wanted = match received.first_chunk::<2>() {
                None => 2,
                Some(len) => 2 + usize::from(u16::from_be_bytes(*len)),
            };
            if received.len() < wanted {
                if bytes.is_empty() {
                    return;
                }
                let (taken, rest) = bytes.split_at(bytes.len().min(wanted - received.len()));
                received.extend_from_slice(taken);
                bytes = rest;
                continue;
            }
            let frame = std::mem::take(received);
            self.receive(key, &frame[2..], now);
        }
    }

    pub(super) fn receive_fault(&mut self, key: Key<Exchange>, fault: SocketFault, now: Instant) {
        self.end_turn(key, ServerOutcome::Fault(fault), now);
    }

    pub(super) fn exchange_timed_out(&mut self, key: Key<Exchange>, now: Instant) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let ignored = exchange.ignored;
        self.end_turn(key, ServerOutcome::Silent { ignored }, now);
    }

    /// A whole message came.
    fn receive(&mut self, key: Key<Exchange>, message: &[u8], now: Instant) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let reply = message::read_reply(message, &exchange.sent)
            .filter(|reply| reply.has_question || exchange.sent.edns && is_edns_error(reply));
        let Some(reply) = reply else {
            self.ignore(key, now);
            return;
        };
        let over = exchange.over;
        let (edns, expects_cookie) = (exchange.sent.edns, exchange.expects_cookie);
        let query_key = exchange.query;
        let Some(state) = self.server_states.get_mut(&exchange.server) else {
            // The servers changed; nothing is known of this one any more, and nothing need be.
            return self.judge(key, query_key, reply, now);
        };
        if reply.case_differs {
            if over == Over::Udp {
                return self.change_transport(key, Over::Tcp, Why::Case, now);
            }
            state.no_case_until = now + REMEMBER;
        }
        if reply.edns && reply.response_code != BADVERS {
            state.edns_seen = true;
        }
        if edns && is_edns_error(&reply) {
            state.no_edns_until = now + REMEMBER;
            return self.change_transport(key, over, Why::First, now);
        }
        match &reply.server_cookie {
            Some(cookie) => state.cookie = Some(cookie.clone()),
            None if expects_cookie && !reply.truncated => match over {
                // A server that knows cookies would have sent one: ask where nobody can forge.
                Over::Udp => return self.change_transport(key, Over::Tcp, Why::Cookie, now),
                Over::Tcp => state.cookie = None,
            },
            None => {}
        }
        if reply.response_code == BADCOOKIE && over == Over::Udp {
            let Some(query) = self.queries.get_mut(query_key) else { return };
            query.step.bad_cookies += 1;
            let over = if query.step.bad_cookies == 1 { Over::Udp } else { Over::Tcp };
            return self.change_transport(key, over, Why::First, now);
        }
        if reply.truncated && over == Over::Udp {
            return self.change_transport(key, Over::Tcp, Why::Truncated, now);
        }
        self.judge(key, query_key, reply, now);
    }

    /// A message that is surely the server's: is it an answer?
    fn judge(&mut self, key: Key<Exchange>, query_key: Key<Query>, reply: Reply, now: Instant) {
        let code = reply.response_code;
        if reply.truncated {
            return self.end_turn(key, ServerOutcome::Truncated, now);
        }
        if code != 0 && code != NXDOMAIN {
            return self.end_turn(key, ServerOutcome::Code(code), now);
        }
        let Some(query) = self.queries.get(query_key) else { return };
        let authenticated = reply.authenticated && self.conf.trust_ad;
        let size = reply.len;
        let (known, ttl) = match message::interpret(reply, &query.name, query.record_type) {
            Meaning::Records { chain, owner, records } => {
                let ttl = least_ttl(chain.iter().chain(&records));
                (Known::Records { canonical: owner, chain, records, authenticated }, ttl)
            }
            Meaning::Alias { chain, target } => {
                let ttl = least_ttl(chain.iter());
                (Known::Alias { chain, target }, ttl)
            }
            Meaning::NoData { ttl } => (Known::NoData, negative(ttl)),
            Meaning::NoName { ttl } => (Known::NoName, negative(ttl)),
            Meaning::Referral => return self.end_turn(key, ServerOutcome::Referral, now),
            Meaning::AliasLoop => return self.end_turn(key, ServerOutcome::AliasLoop, now),
        };
        let known = Arc::new(known);
        let question = question_key(&query.name, query.record_type);
        let mut expires = None;
        if let Some(ttl) = ttl {
            expires = Some(now + ttl);
            if !ttl.is_zero() {
                // In memory a record is larger than on the wire, by its names above all.
                self.cache.insert(&question, known.clone(), size * 4, now + ttl);
            }
        }
        self.complete(query_key, Ok((known, expires)));
    }

    /// A packet that is no answer to the query never ends it. Enough of them move it to TCP.
    fn ignore(&mut self, key: Key<Exchange>, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        exchange.ignored += 1;
        let (over, query) = (exchange.over, exchange.query);
        let Some(query) = self.queries.get_mut(query) else { return };
        query.step.mismatches += 1;
        let enough = query.step.mismatches >= self.settings.max_mismatches.max(1);
        if over == Over::Udp && enough {
            self.change_transport(key, Over::Tcp, Why::Mismatches, now);
        }
    }

    /// Asks the same server again, on a new socket.
    fn change_transport(&mut self, key: Key<Exchange>, over: Over, why: Why, now: Instant) {
        let Some(exchange) = self.exchanges.get(key) else { return };
        let query_key = exchange.query;
        let outcome = ServerOutcome::Silent { ignored: exchange.ignored };
        let Some(query) = self.queries.get_mut(query_key) else { return };
        if query.current != Some(key) {
            // A late word of a server whose turn is over; the current one goes on.
            self.close(key);
            return;
        }
        if query.step.sends >= MAX_SENDS_PER_STEP {
            return self.end_turn(key, outcome, now);
        }
        query.step.over = over;
        query.step.why = why;
        query.current = None;
        self.close(key);
        self.send(query_key, now);
    }

    /// The current exchange of a query gave no answer: a fall-back, the next server, or the end.
    fn end_turn(&mut self, key: Key<Exchange>, outcome: ServerOutcome, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let (query_key, server, over) = (exchange.query, exchange.server, exchange.over);
        let report = ServerReport { server, over, outcome, elapsed: now.since(exchange.started) };
        // Those who said nothing may still speak while the next one is asked.
        let may_answer = matches!(outcome, ServerOutcome::Silent { .. });
        if may_answer {
            self.timers.remove(&(exchange.turn_ends, Timer::Exchange(key.to_bits())));
            exchange.turn_ends = Instant::FAR;
        }
        let Some(query) = self.queries.get_mut(query_key) else { return };
        let was_current = query.current == Some(key);
        if was_current {
            query.current = None;
            query.reports.push(report);
        }
        if may_answer {
            self.stale.push_back(key);
        } else {
            self.close(key);
        }
        if !was_current {
            return;
        }
        let first_transport = self.first_transport();
        let (rounds, state) = (self.conf.attempts, self.server_states.get_mut(&server));
        let Some(query) = self.queries.get_mut(query_key) else { return };
        if over == Over::Tcp
            && first_transport == Over::Udp
            && query.step.sends < MAX_SENDS_PER_STEP
            && let Some(state) = state
        {
            // The server would not confirm over TCP what made us doubt: ask without that doubt.
            let why = query.step.why;
            match why {
                Why::Case => state.no_case_until = now + REMEMBER,
                Why::Cookie => state.cookie = None,
                _ => {}
            }
            if matches!(why, Why::Case | Why::Cookie) {
                query.step.over = Over::Udp;
                query.step.why = Why::First;
                return self.send(query_key, now);
            }
        }
        query.position += 1;
        if query.position == query.servers.len() {
            query.position = 0;
            query.round += 1;
        }
        query.step = Step::new(first_transport);
        if query.round >= rounds {
            let reports = std::mem::take(&mut query.reports).into();
            return self.complete(query_key, Err(reports));
        }
        self.send(query_key, now);
    }

    fn first_transport(&self) -> Over {
        if self.conf.use_vc { Over::Tcp } else { Over::Udp }
    }

    /// Ends a query and tells its lookups, in the order they joined.
    fn complete(&mut self, key: Key<Query>, result: QueryResult) {
        let Some(query) = self.remove_query(key) else { return };
        for (lookup, slot) in query.waiters {
            self.completions.push_back(Completion { lookup, slot, result: result.clone() });
        }
    }

    fn remove_query(&mut self, key: Key<Query>) -> Option<Query> {
        let query = self.queries.remove(key)?;
        self.by_question.remove(&*question_key(&query.name, query.record_type));
        for &exchange in &query.exchanges {
            self.close(exchange);
        }
        Some(query)
    }

    fn close(&mut self, key: Key<Exchange>) {
        let Some(exchange) = self.exchanges.remove(key) else { return };
        self.timers.remove(&(exchange.turn_ends, Timer::Exchange(key.to_bits())));
        if exchange.turn_ends == Instant::FAR {
            self.stale.retain(|stale| *stale != key);
        }
        if exchange.announced {
            self.transmits.push_back(Queued::Close(key));
        }
    }
}

impl Query {
    /// How long the current server may take: glibc's figure (the time-out, doubled per server and
    /// divided by their number), but no more than its share of what is left.
    fn turn(&self, timeout: Duration, rounds: u32, now: Instant) -> Duration {
        let count = self.servers.len() as u32;
        let position = self.position as u32;
        let usual = if position == 0 {
            timeout
        } else {
            let doubled = timeout.saturating_mul(1u32.checked_shl(position).unwrap_or(u32::MAX));
            (doubled / count).max(Duration::from_secs(1).min(timeout))
        };
        let left = self.deadline.since(now);
        let turns_left = count.saturating_sub(position).max(1);
        let last = self.round + 1 >= rounds && turns_left == 1;
        let share = if last { left } else { left / turns_left };
        usual.min(share.max(MIN_TURN))
    }
}

impl Step {
    fn new(over: Over) -> Step {
        Step { over, why: Why::First, sends: 0, mismatches: 0, bad_cookies: 0 }
    }
}

/// A server's way to say that it does not know EDNS, or not this version.
fn is_edns_error(reply: &Reply) -> bool {
    matches!(reply.response_code, FORMERR | NOTIMP | BADVERS)
}

/// The key of cache and joined queries: the name as on the wire, then the type.
pub(super) fn question_key(name: &DnsName, record_type: RecordType) -> Box<[u8]> {
    [name.as_wire(), &record_type.0.to_be_bytes()].concat().into()
}

fn least_ttl<'a>(records: impl Iterator<Item = &'a Record>) -> Option<Duration> {
    let least = records.map(|record| record.ttl).min()?;
    Some(Duration::from_secs(least.into()).min(MAX_TTL))
}

fn negative(ttl: Option<u32>) -> Option<Duration> {
    ttl.map(|ttl| Duration::from_secs(ttl.into()).min(MAX_NEGATIVE_TTL))
}
