mod failure;
mod found;
mod local;
mod modules;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tepal_base::{Instant, Key};

use super::query::question_key;
use super::{
    Answer, Completion, HostAnswer, Known, LookupId, Origin, Query, QueryResult, Resolver, Started,
    Timer,
};
use crate::config::{ModuleStatus, Nsswitch};
use crate::error::{LookupError, LookupErrorKind, ServerReport};
use crate::message::MAX_ALIASES;
use crate::record::Record;
use crate::{DnsName, Family, HostName, RecordType, parse_literal};

/// How long IPv6 addresses are waited for before IPv4 ones are told, in a hurry: RFC 8305,
/// section 3, recommends 50 ms.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// What one caller asked.
pub(super) struct Lookup {
    // As the caller wrote it.
    text: Box<str>,
    goal: Goal,
    deadline: Instant,
    // The instant of its timer; FAR if none is set.
    timer: Instant,
    // Given once a query is needed.
    key: Option<Key<Option<Box<Lookup>>>>,
    phase: Phase,
    // nsswitch.conf as it was when the lookup began, and the step in it.
    nsswitch: Arc<Nsswitch>,
    module: usize,
    // Names to be asked for, in order, and which one it is.
    candidates: Vec<DnsName>,
    candidate: usize,
    slots: Vec<Slot>,
    failure: Failure,
    other_modules: Vec<Box<str>>,
    // Only a passed-over module could know the name.
    only_elsewhere: bool,
    asked_dns: bool,
    hurry: Hurry,
}

/// Whether one family is told before the other is there: see `Resolver::hurry`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hurry {
    No,
    Yes,
    Told,
}

enum Goal {
    Host { name: HostName, family: Family },
    Address(IpAddr),
    Records { name: HostName, record_type: RecordType },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Module,
    Candidate,
    Answers,
}

/// One question of the current candidate.
struct Slot {
    record_type: RecordType,
    // The name asked for now: the candidate, or the end of an alias that left its answer.
    name: DnsName,
    chain: Vec<Record>,
    expires: Option<Instant>,
    state: SlotState,
}

enum SlotState {
    Idle,
    Waiting(Key<Query>),
    Done(QueryResult),
    AliasLoop,
}

/// What is known so far about why it fails; the gravest is told in the end.
#[derive(Default)]
struct Failure {
    // The outcome of the name as it was written, tried first: it counts most. Tried last, it counts
    // least (as in glibc's res_search).
    first: Option<LookupErrorKind>,
    last: Option<LookupErrorKind>,
    // A name of the search list exists without such records.
    no_data: bool,
    temporary: bool,
    alias_loop: bool,
    servers: Vec<ServerReport>,
}

impl Lookup {
    fn new(text: &str, goal: Goal, nsswitch: &Arc<Nsswitch>, deadline: Instant) -> Box<Lookup> {
        Box::new(Lookup {
            text: text.into(),
            phase: if matches!(goal, Goal::Records { .. }) {
                Phase::Candidate
            } else {
                Phase::Module
            },
            goal,
            deadline,
            timer: Instant::FAR,
            key: None,
            nsswitch: Arc::clone(nsswitch),
            module: 0,
            candidates: Vec::new(),
            candidate: 0,
            slots: Vec::new(),
            failure: Failure::default(),
            other_modules: Vec::new(),
            only_elsewhere: false,
            asked_dns: false,
            hurry: Hurry::No,
        })
    }
}

impl Resolver {
    pub(super) fn start_host(
        &mut self,
        host: &str,
        family: Family,
        deadline: Instant,
        now: Instant,
    ) -> Started {
        let fail = |kind| Started::Finished(Err(simple_error(host, kind)));
        match parse_literal(host, &self.interfaces) {
            Err(_) => return fail(LookupErrorKind::UnknownZone),
            Ok(Some(address)) if !family.includes(address.ip) => {
                return fail(LookupErrorKind::OtherFamily);
            }
            Ok(Some(address)) => {
                return Started::Finished(Ok(Answer::Host(HostAnswer {
                    canonical: host.into(),
                    addresses: vec![address],
                    origin: Origin::Literal,
                    expires: None,
                    missing: None,
                })));
            }
            Ok(None) => {}
        }
        let name: HostName = match host.parse() {
            Ok(name) => name,
            Err(error) => return fail(LookupErrorKind::InvalidName(error)),
        };
        if name.is_within("onion") {
            return fail(LookupErrorKind::NeverResolved);
        }
        let goal = Goal::Host { name, family };
        self.start(Lookup::new(host, goal, &self.nsswitch, deadline), now)
    }

    pub(super) fn start_address(
        &mut self,
        address: IpAddr,
        deadline: Instant,
        now: Instant,
    ) -> Started {
        let (text, goal) = (address.to_string(), Goal::Address(address));
        self.start(Lookup::new(&text, goal, &self.nsswitch, deadline), now)
    }

    pub(super) fn start_records(
        &mut self,
        name: &str,
        record_type: RecordType,
        deadline: Instant,
        now: Instant,
    ) -> Started {
        let parsed: HostName = match name.parse() {
            Ok(parsed) => parsed,
            Err(error) => {
                let kind = LookupErrorKind::InvalidName(error);
                return Started::Finished(Err(simple_error(name, kind)));
            }
        };
        if parsed.is_within("onion") {
            let kind = LookupErrorKind::NeverResolved;
            return Started::Finished(Err(simple_error(name, kind)));
        }
        let goal = Goal::Records { name: parsed, record_type };
        let mut lookup = Lookup::new(name, goal, &self.nsswitch, deadline);
        lookup.candidates = self.candidates(&lookup.goal);
        lookup.asked_dns = true;
        self.start(lookup, now)
    }

    fn start(&mut self, mut lookup: Box<Lookup>, now: Instant) -> Started {
        match self.drive(&mut lookup, now) {
            Some(result) => {
                self.forget(&lookup);
                self.settle(now);
                Started::Finished(result)
            }
            None => {
                let key = self.lookup_key(&mut lookup);
                let deadline = lookup.deadline;
                self.set_timer(&mut lookup, deadline);
                // One family may be in the cache.
                self.limit_wait(&mut lookup, now);
                if let Some(place) = self.lookups.get_mut(key) {
                    *place = Some(lookup);
                }
                self.settle(now);
                Started::Pending(LookupId(key.to_bits()))
            }
        }
    }

    pub(super) fn query_completed(&mut self, completion: Completion, now: Instant) {
        let Completion { lookup: key, slot, result } = completion;
        let Some(mut lookup) = self.lookups.get_mut(key).and_then(Option::take) else { return };
        if let Some(slot) = lookup.slots.get_mut(slot) {
            slot.state = SlotState::Done(result);
        }
        match self.drive(&mut lookup, now) {
            Some(result) => self.finish(key, &lookup, result),
            None => {
                self.limit_wait(&mut lookup, now);
                if let Some(place) = self.lookups.get_mut(key) {
                    *place = Some(lookup);
                }
            }
        }
    }

    /// A lookup that has begun is for a race of connects.
    pub(super) fn hurry_lookup(&mut self, key: Key<Option<Box<Lookup>>>, now: Instant) {
        let Some(mut lookup) = self.lookups.get_mut(key).and_then(Option::take) else { return };
        lookup.hurry = Hurry::Yes;
        self.limit_wait(&mut lookup, now);
        if let Some(place) = self.lookups.get_mut(key) {
            *place = Some(lookup);
        }
    }

    /// One family may be answered: the other gets one time-out more, not the whole limit. In a
    /// hurry what is there is told, IPv4 after a short wait for IPv6.
    fn limit_wait(&mut self, lookup: &mut Lookup, now: Instant) {
        let answered = |record_type| {
            lookup.slots.iter().any(|slot| slot.record_type == record_type && slot.has_records())
        };
        let span = match (answered(RecordType::A), answered(RecordType::AAAA)) {
            (false, false) => return,
            (true, false) if lookup.hurry == Hurry::Yes => RESOLUTION_DELAY,
            _ => self.conf.timeout,
        };
        if lookup.hurry == Hurry::Yes && span != RESOLUTION_DELAY {
            self.tell_early(lookup);
        }
        let at = (now + span).min(lookup.deadline);
        if at < lookup.timer {
            self.set_timer(lookup, at);
        }
    }

    fn tell_early(&mut self, lookup: &mut Lookup) {
        lookup.hurry = Hurry::Told;
        if let Some(Answer::Host(answer)) = lookup.found(None) {
            let id = LookupId(self.lookup_key(lookup).to_bits());
            self.early.push_back((id, answer));
        }
    }

    pub(super) fn lookup_timed_out(&mut self, key: Key<Option<Box<Lookup>>>, now: Instant) {
        let Some(mut lookup) = self.lookups.get_mut(key).and_then(Option::take) else { return };
        lookup.timer = Instant::FAR;
        if lookup.hurry == Hurry::Yes && now < lookup.deadline {
            self.tell_early(&mut lookup);
            self.limit_wait(&mut lookup, now);
            if let Some(place) = self.lookups.get_mut(key) {
                *place = Some(lookup);
            }
            return;
        }
        // What the servers did so far belongs into the error.
        for slot in &lookup.slots {
            if let SlotState::Waiting(query) = slot.state
                && let Some(query) = self.queries.get(query)
            {
                lookup.failure.servers.extend_from_slice(&query.reports);
                // And the one whose turn it is.
                let current = query.current.and_then(|current| self.exchanges.get(current));
                lookup.failure.servers.extend(current.map(|current| current.silent(now)));
            }
        }
        let late = lookup.error(LookupErrorKind::DeadlinePassed);
        let result = match lookup.found(Some(&late)) {
            Some(answer) => Ok(answer),
            None => Err(late),
        };
        self.finish(key, &lookup, result);
    }

    fn finish(
        &mut self,
        key: Key<Option<Box<Lookup>>>,
        lookup: &Lookup,
        result: Result<Answer, LookupError>,
    ) {
        self.detach(key, lookup);
        self.lookups.remove(key);
        self.finished.push_back((LookupId(key.to_bits()), result));
    }

    /// Takes away what a lookup left in the resolver.
    pub(super) fn detach(&mut self, key: Key<Option<Box<Lookup>>>, lookup: &Lookup) {
        self.timers.remove(&(lookup.timer, Timer::Lookup(key.to_bits())));
        for slot in &lookup.slots {
            if let SlotState::Waiting(query) = slot.state {
                self.leave(query, key);
            }
        }
    }

    /// A lookup that ended inside its own start may hold a key already.
    fn forget(&mut self, lookup: &Lookup) {
        if let Some(key) = lookup.key {
            self.detach(key, lookup);
            self.lookups.remove(key);
        }
    }

    fn set_timer(&mut self, lookup: &mut Lookup, at: Instant) {
        let key = self.lookup_key(lookup);
        self.timers.remove(&(lookup.timer, Timer::Lookup(key.to_bits())));
        lookup.timer = at;
        self.timers.insert((at, Timer::Lookup(key.to_bits())));
    }

    fn lookup_key(&mut self, lookup: &mut Lookup) -> Key<Option<Box<Lookup>>> {
        *lookup.key.get_or_insert_with(|| self.lookups.insert(None))
    }

    /// Goes on until the lookup ends, or waits for a query (`None`).
    fn drive(&mut self, lookup: &mut Lookup, now: Instant) -> Option<Result<Answer, LookupError>> {
        loop {
            match lookup.phase {
                Phase::Module => {
                    if let Some(result) = self.try_module(lookup) {
                        return Some(result);
                    }
                }
                Phase::Candidate => {
                    let Some(name) = lookup.candidates.get(lookup.candidate) else {
                        if matches!(lookup.goal, Goal::Records { .. }) {
                            return Some(Err(lookup.final_error()));
                        }
                        let status = if lookup.failure.temporary {
                            ModuleStatus::TryAgain
                        } else {
                            ModuleStatus::NotFound
                        };
                        if let Some(result) = self.module_ended(lookup, status) {
                            return Some(result);
                        }
                        continue;
                    };
                    lookup.slots = self.slots(&lookup.goal, name);
                    lookup.phase = Phase::Answers;
                }
                Phase::Answers => {
                    if !self.gather(lookup, now) {
                        return None;
                    }
                    if let Some(answer) = lookup.found(None) {
                        return Some(Ok(answer));
                    }
                    self.note_failure(lookup);
                    lookup.candidate += 1;
                    lookup.phase = Phase::Candidate;
                }
            }
        }
    }

    /// The slots of one candidate: each is one type to ask for.
    fn slots(&self, goal: &Goal, name: &DnsName) -> Vec<Slot> {
        let slot = |record_type| Slot::new(record_type, name.clone());
        match goal {
            Goal::Host { family: Family::V4, .. } => vec![slot(RecordType::A)],
            Goal::Host { family: Family::V6, .. } => vec![slot(RecordType::AAAA)],
            Goal::Host { .. } if self.conf.no_aaaa => vec![slot(RecordType::A)],
            Goal::Host { .. } => vec![slot(RecordType::A), slot(RecordType::AAAA)],
            Goal::Address(_) => vec![slot(RecordType::PTR)],
            Goal::Records { record_type, .. } => vec![slot(*record_type)],
        }
    }

    /// Asks what has not been asked; whether every slot is done.
    fn gather(&mut self, lookup: &mut Lookup, now: Instant) -> bool {
        let mut all_done = true;
        for index in 0..lookup.slots.len() {
            if index > 0 && self.conf.single_request && !all_done {
                return false;
            }
            loop {
                let slot = &mut lookup.slots[index];
                match &slot.state {
                    SlotState::Waiting(_) => {
                        all_done = false;
                        break;
                    }
                    SlotState::AliasLoop => break,
                    SlotState::Done(Ok((known, expires))) => {
                        slot.expires = earlier(slot.expires, *expires);
                        let Known::Alias { chain, target } = &**known else { break };
                        // The server ended its answer in the middle of the chain: ask on.
                        slot.name = target.clone();
                        slot.chain.extend_from_slice(chain);
                        let seen =
                            |name: &DnsName| slot.chain.iter().any(|alias| alias.name == *name);
                        if slot.chain.len() > MAX_ALIASES || seen(target) {
                            slot.state = SlotState::AliasLoop;
                            break;
                        }
                    }
                    SlotState::Done(Err(_)) => break,
                    SlotState::Idle => {}
                }
                let (name, record_type) = (slot.name.clone(), slot.record_type);
                let question = question_key(&name, record_type);
                if let Some((known, expires)) = self.cache.get(&question, now) {
                    slot.state = SlotState::Done(Ok((known, Some(expires))));
                    continue;
                }
                let key = self.lookup_key(lookup);
                let query = self.ask(&name, record_type, (key, index), lookup.deadline, now);
                lookup.slots[index].state = SlotState::Waiting(query);
            }
        }
        all_done
    }
}

impl Slot {
    fn new(record_type: RecordType, name: DnsName) -> Slot {
        Slot { record_type, name, chain: Vec::new(), expires: None, state: SlotState::Idle }
    }

    fn records(&self) -> Option<(&DnsName, &[Record], &Arc<Known>)> {
        match &self.state {
            SlotState::Done(Ok((known, _))) => match &**known {
                Known::Records { canonical, records, .. } => Some((canonical, records, known)),
                _ => None,
            },
            _ => None,
        }
    }

    fn has_records(&self) -> bool {
        self.records().is_some()
    }
}

fn simple_error(name: &str, kind: LookupErrorKind) -> LookupError {
    LookupError::new(kind, name)
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
