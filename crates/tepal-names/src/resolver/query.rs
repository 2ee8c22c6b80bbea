mod receive;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tepal_base::{Instant, Key};

use super::{Completion, QueryResult, Queued, Resolver, Timer};
use crate::error::{Over, ServerOutcome, ServerReport};
use crate::message::{self, Sent};
use crate::random::Random;
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
    // The resolver's network when it was asked.
    network: u64,
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
            network: self.network,
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

        let state = server_state(&mut self.server_states, &mut self.random, server);
        // A server that never showed that it knows EDNS may be dropping it: in a second round it
        // is asked without.
        let edns = state.no_edns_until <= now && (round == 0 || state.edns_seen);
        let mixed_case = state.no_case_until <= now;
        let mut bits = self
            .random
            .bytes::<32>()
            .into_iter()
            .flat_map(|byte| (0..8).map(move |i| byte >> i & 1));
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
        let question = question_key(&query.name, query.record_type);
        // After a change of network another query may stand there.
        if self.by_question.get(&*question) == Some(&key) {
            self.by_question.remove(&*question);
        }
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

/// What is known about a server, or the nothing that is known of a new one.
fn server_state<'a>(
    states: &'a mut HashMap<SocketAddr, Server>,
    random: &mut Random,
    server: SocketAddr,
) -> &'a mut Server {
    states.entry(server).or_insert_with(|| Server {
        client_cookie: random.bytes(),
        cookie: None,
        edns_seen: false,
        no_edns_until: Instant::ZERO,
        no_case_until: Instant::ZERO,
    })
}

/// The key of cache and joined queries: the name as on the wire, then the type.
pub(super) fn question_key(name: &DnsName, record_type: RecordType) -> Box<[u8]> {
    [name.as_wire(), &record_type.0.to_be_bytes()].concat().into()
}
