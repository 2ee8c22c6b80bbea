mod found;
mod local;

use std::net::IpAddr;
use std::sync::Arc;

use tepal_base::{Instant, Key};

use super::query::question_key;
use super::{
    Answer, Completion, HostAnswer, Known, LookupId, Origin, Query, QueryResult, Resolver, Started,
    Timer,
};
use crate::config::{Module, ModuleAction, ModuleStatus};
use crate::error::{LookupError, LookupErrorKind, ServerReport};
use crate::message::MAX_ALIASES;
use crate::record::Record;
use crate::{DnsName, Family, HostName, RecordType, parse_literal};
use local::{is_theirs, localhost, reverse_name};

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
    // The step of nsswitch.conf.
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
    // The outcome of the name as it was written, which counts most (as in glibc's res_search).
    as_written: Option<LookupErrorKind>,
    no_data: bool,
    temporary: bool,
    alias_loop: bool,
    servers: Vec<ServerReport>,
}

impl Lookup {
    fn new(text: &str, goal: Goal, deadline: Instant) -> Box<Lookup> {
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
            module: 0,
            candidates: Vec::new(),
            candidate: 0,
            slots: Vec::new(),
            failure: Failure::default(),
            other_modules: Vec::new(),
            only_elsewhere: false,
            asked_dns: false,
        })
    }

    fn error(&mut self, kind: LookupErrorKind) -> LookupError {
        // The hint helps only where another module might have known.
        let other_modules = match kind {
            LookupErrorKind::NotFound | LookupErrorKind::NoData | LookupErrorKind::OtherModule => {
                std::mem::take(&mut self.other_modules)
            }
            _ => Vec::new(),
        };
        LookupError {
            kind,
            name: self.text.clone(),
            servers: std::mem::take(&mut self.failure.servers),
            other_modules,
        }
    }

    /// The error when nothing is left to try.
    fn final_error(&mut self) -> LookupError {
        let failure = &self.failure;
        let kind = if failure.alias_loop {
            LookupErrorKind::AliasLoop
        } else if let Some(kind) = failure.as_written {
            kind
        } else if failure.no_data {
            LookupErrorKind::NoData
        } else if failure.temporary {
            LookupErrorKind::ServersFailed
        } else if self.only_elsewhere || !self.asked_dns && !self.other_modules.is_empty() {
            LookupErrorKind::OtherModule
        } else {
            LookupErrorKind::NotFound
        };
        self.error(kind)
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
        self.start(Lookup::new(host, Goal::Host { name, family }, deadline), now)
    }

    pub(super) fn start_address(
        &mut self,
        address: IpAddr,
        deadline: Instant,
        now: Instant,
    ) -> Started {
        self.start(Lookup::new(&address.to_string(), Goal::Address(address), deadline), now)
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
        let mut lookup = Lookup::new(name, Goal::Records { name: parsed, record_type }, deadline);
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
                // One family is answered: the other gets one time-out more, not the whole limit.
                if lookup.timer == lookup.deadline && lookup.slots.iter().any(Slot::has_records) {
                    let grace = (now + self.conf.timeout).min(lookup.deadline);
                    self.set_timer(&mut lookup, grace);
                }
                if let Some(place) = self.lookups.get_mut(key) {
                    *place = Some(lookup);
                }
            }
        }
    }

    pub(super) fn lookup_timed_out(&mut self, key: Key<Option<Box<Lookup>>>, now: Instant) {
        let Some(mut lookup) = self.lookups.get_mut(key).and_then(Option::take) else { return };
        lookup.timer = Instant::FAR;
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

    /// Asks the current module of nsswitch.conf, or hands over to the name servers.
    fn try_module(&mut self, lookup: &mut Lookup) -> Option<Result<Answer, LookupError>> {
        let Some(step) = self.nsswitch.step(lookup.module) else {
            return Some(self.without_modules(lookup));
        };
        let module = step.module.clone();
        let found = match &module {
            Module::Files if self.settings.hosts => self.in_hosts(&lookup.goal),
            Module::Files => None,
            Module::MyHostname => self.in_myhostname(&lookup.goal),
            Module::Dns => {
                if let Some(answer) = localhost(&lookup.goal) {
                    return Some(Ok(answer));
                }
                lookup.asked_dns = true;
                lookup.candidates = self.candidates(&lookup.goal);
                lookup.candidate = 0;
                lookup.phase = Phase::Candidate;
                return None;
            }
            Module::Other(other) => {
                lookup.other_modules.push(other.clone());
                if !is_theirs(other, &lookup.goal) {
                    return self.module_ended(lookup, ModuleStatus::Unavailable);
                }
                lookup.only_elsewhere = true;
                return self.module_ended(lookup, ModuleStatus::NotFound);
            }
        };
        match found {
            Some(answer) => Some(Ok(answer)),
            None => self.module_ended(lookup, ModuleStatus::NotFound),
        }
    }

    fn module_ended(
        &mut self,
        lookup: &mut Lookup,
        status: ModuleStatus,
    ) -> Option<Result<Answer, LookupError>> {
        let action = self.nsswitch.step(lookup.module).map(|step| step.action(status));
        lookup.module += 1;
        lookup.phase = Phase::Module;
        match action {
            Some(ModuleAction::Continue) => None,
            _ => Some(self.without_modules(lookup)),
        }
    }

    /// The end of nsswitch.conf: `localhost` is known even where no module knows it.
    fn without_modules(&self, lookup: &mut Lookup) -> Result<Answer, LookupError> {
        localhost(&lookup.goal).ok_or_else(|| lookup.final_error())
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

    /// Remembers how the candidate failed; glibc's res_search has these rules.
    fn note_failure(&self, lookup: &mut Lookup) {
        let mut kind = LookupErrorKind::NotFound;
        let mut failed = false;
        for slot in &lookup.slots {
            match &slot.state {
                SlotState::Done(Ok((known, _))) => match **known {
                    Known::NoName => {}
                    _ => kind = LookupErrorKind::NoData,
                },
                SlotState::Done(Err(reports)) => {
                    failed = true;
                    lookup.failure.servers.extend_from_slice(reports);
                }
                SlotState::AliasLoop => lookup.failure.alias_loop = true,
                SlotState::Idle | SlotState::Waiting(_) => {}
            }
        }
        if failed {
            kind = LookupErrorKind::ServersFailed;
            lookup.failure.temporary = true;
        }
        lookup.failure.no_data |= kind == LookupErrorKind::NoData;
        let as_written = match &lookup.goal {
            Goal::Host { name, .. } | Goal::Records { name, .. } => DnsName::from(name),
            Goal::Address(address) => reverse_name(*address),
        };
        if lookup.candidates.get(lookup.candidate) == Some(&as_written) {
            lookup.failure.as_written = Some(kind);
        }
        // Servers that are all dead need not be asked for each search domain in turn.
        if failed && self.every_server_was_silent(&lookup.failure.servers) {
            lookup.candidate = lookup.candidates.len();
        }
    }

    fn every_server_was_silent(&self, reports: &[ServerReport]) -> bool {
        use crate::error::ServerOutcome::{Fault, Silent};
        reports.iter().all(|report| matches!(report.outcome, Fault(_) | Silent { .. }))
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
    LookupError { kind, name: name.into(), servers: Vec::new(), other_modules: Vec::new() }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
