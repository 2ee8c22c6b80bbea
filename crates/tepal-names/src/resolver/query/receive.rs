//! What comes on a query's sockets, and what it means for the turn of its server.

use std::sync::Arc;
use std::time::Duration;

use tepal_base::{Instant, Key};

use super::{Exchange, MAX_SENDS_PER_STEP, Query, REMEMBER, Step, Why, question_key, server_state};
use crate::error::{Over, ServerOutcome, ServerReport, SocketFault};
use crate::message::{self, BADCOOKIE, BADVERS, FORMERR, Meaning, NOTIMP, NXDOMAIN, Reply};
use crate::record::Record;
use crate::resolver::{Known, MAX_NEGATIVE_TTL, MAX_TTL, Resolver, Timer};

impl Resolver {
    pub(in crate::resolver) fn receive_datagram(
        &mut self,
        key: Key<Exchange>,
        message: &[u8],
        now: Instant,
    ) {
        match self.exchanges.get(key) {
            Some(exchange) if exchange.over == Over::Udp => self.receive(key, message, now),
            _ => {}
        }
    }

    pub(in crate::resolver) fn receive_stream(
        &mut self,
        key: Key<Exchange>,
        mut bytes: &[u8],
        now: Instant,
    ) {
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

    pub(in crate::resolver) fn receive_fault(
        &mut self,
        key: Key<Exchange>,
        fault: SocketFault,
        now: Instant,
    ) {
        self.end_turn(key, ServerOutcome::Fault(fault), now);
    }

    pub(in crate::resolver) fn exchange_timed_out(&mut self, key: Key<Exchange>, now: Instant) {
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
        let client_cookie = exchange.sent.client_cookie;
        // Nothing may be known of it any more, if the network has changed: it is judged all the same.
        let state = server_state(&mut self.server_states, &mut self.random, exchange.server);
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
            // It belongs to the client's part that was sent, which may have been forgotten since.
            Some(cookie) if client_cookie == Some(state.client_cookie) => {
                state.cookie = Some(cookie.clone());
            }
            Some(_) => {}
            None if expects_cookie && !reply.truncated => match over {
                // A server that knows cookies would have sent one: ask where nobody can forge.
                Over::Udp => return self.change_transport(key, Over::Tcp, Why::Cookie, now),
                Over::Tcp => state.cookie = None,
            },
            None => {}
        }
        if reply.response_code == BADCOOKIE {
            let Some(query) = self.queries.get_mut(query_key) else { return };
            query.step.bad_cookies += 1;
            // Again with the cookie that came along, and then where none is needed.
            match (query.step.bad_cookies, over) {
                (1, _) => return self.change_transport(key, over, Why::First, now),
                (_, Over::Udp) => return self.change_transport(key, Over::Tcp, Why::First, now),
                (_, Over::Tcp) => {}
            }
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
            if !ttl.is_zero() && query.network == self.network {
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
        let rounds = self.conf.attempts;
        let state = server_state(&mut self.server_states, &mut self.random, server);
        let Some(query) = self.queries.get_mut(query_key) else { return };
        if over == Over::Tcp
            && first_transport == Over::Udp
            && query.step.sends < MAX_SENDS_PER_STEP
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
}

/// A server's way to say that it does not know EDNS, or not this version.
fn is_edns_error(reply: &Reply) -> bool {
    matches!(reply.response_code, FORMERR | NOTIMP | BADVERS)
}

fn least_ttl<'a>(records: impl Iterator<Item = &'a Record>) -> Option<Duration> {
    let least = records.map(|record| record.ttl).min()?;
    Some(Duration::from_secs(least.into()).min(MAX_TTL))
}

fn negative(ttl: Option<u32>) -> Option<Duration> {
    ttl.map(|ttl| Duration::from_secs(ttl.into()).min(MAX_NEGATIVE_TTL))
}
