//! The engine's methods for names.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tepal_base::Slab;
use tepal_names::addrinfo::{AddrInfoPlan, NameInfoPlan};
use tepal_names::config::Services;
use tepal_names::resolver::{Settings, Started};

use super::native::{Native, finish_addresses, finish_addrinfo, finish_nameinfo, finish_names};
use super::{
    AddrInfo, AddrInfoError, AddrInfoQuery, Asked, Entry, Flags, ForeignResolver, LOOKUP_TIMEOUT,
    Lookup, LookupKey, NameInfo, NameInfoFlags, Names, Plan, RecordType, RecordsAnswer,
    ResolveError, ResolverKey, SystemFiles, Waiter,
};
use crate::engine::{Engine, Host, Outcome, Step, StreamKey};

impl<H: Host> Engine<H> {
    /// Adds a resolver of the loop's own kind. It reads no file and opens no socket until it is
    /// asked.
    pub fn resolver_add(&self, settings: Settings) -> ResolverKey<H> {
        let mut seed = [0; 32];
        if self.entropy(&mut seed).is_err() {
            // Linux's generator does not fail once it has begun. Without it the answers are as
            // easy to forge as those of a resolver of thirty years ago, and no easier.
            let nanos = self.now().as_nanos() ^ self.wall_nanos();
            seed[..8].copy_from_slice(&nanos.to_ne_bytes());
        }
        let native = Box::new(Native::new(settings, seed));
        ResolverKey(self.core().names.borrow_mut().resolvers.insert(Entry::Native(native)))
    }

    fn wall_nanos(&self) -> u64 {
        let since = self.wall().duration_since(std::time::SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    }

    /// Adds a resolver of the host's.
    pub fn resolver_add_foreign(&self, resolver: Rc<dyn ForeignResolver<H>>) -> ResolverKey<H> {
        ResolverKey(self.core().names.borrow_mut().resolvers.insert(Entry::Foreign(resolver)))
    }

    /// Removes a resolver. Its questions end as [`AddrInfoError::Again`]. Whether it was there.
    pub fn resolver_remove(&self, key: ResolverKey<H>) -> bool {
        let mut names = self.core().names.borrow_mut();
        let Some(entry) = names.resolvers.remove(key.0) else { return false };
        if names.default == Some(key) {
            names.default = None;
        }
        let orphans = names.lookups.iter().filter(|(_, lookup)| lookup.resolver == key);
        let orphans: Vec<_> = orphans.map(|(lookup, _)| LookupKey(lookup)).collect();
        for orphan in orphans {
            let text = "the resolver was removed while it was asked";
            self.answer(&mut names, orphan, ResolveError::foreign(AddrInfoError::Again, text));
        }
        drop(names);
        match entry {
            Entry::Native(native) => self.close_native(*native),
            Entry::Foreign(foreign) => drop(foreign),
        }
        true
    }

    /// How many sockets a resolver of the loop's own kind has open now: at most
    /// [`Settings::max_sockets`].
    pub fn resolver_sockets(&self, key: ResolverKey<H>) -> usize {
        match self.core().names.borrow().resolvers.get(key.0) {
            Some(Entry::Native(native)) => native.resolver.socket_count(),
            _ => 0,
        }
    }

    /// Says which resolver serves questions that name none; `None`: one that is made of the
    /// system's files when it is first needed.
    ///
    /// Returns the one before. It is still there, and its questions go on.
    pub fn set_default_resolver(&self, key: Option<ResolverKey<H>>) -> Option<ResolverKey<H>> {
        std::mem::replace(&mut self.core().names.borrow_mut().default, key)
    }

    /// Reads the system's files elsewhere from now on.
    pub fn set_system_files(&self, files: SystemFiles) {
        self.core().names.borrow_mut().tables.set_files(files);
    }

    /// Asks for the addresses of a host, with the meaning that getaddrinfo(3) has.
    ///
    /// Literals never reach a resolver. What is known already (a literal, a hosts entry, a cached
    /// answer) or wrong already is returned at once, and `completion` is not called. Else it
    /// makes the completion, which is told [`Outcome::AddrInfo`] once, within the time-out, unless
    /// the question is cancelled.
    ///
    /// Entries come in the order of RFC 6724. `resolver: None` is the default one.
    pub fn getaddrinfo(
        &self,
        resolver: Option<ResolverKey<H>>,
        query: &AddrInfoQuery<'_>,
        completion: impl FnOnce() -> H::Completion,
    ) -> Asked<H, Result<Vec<AddrInfo>, ResolveError>> {
        match self.ask_addrinfo(resolver, query) {
            Asked::Now(result) => Asked::Now(result),
            Asked::Later(lookup) => match self.wait_for(lookup, completion) {
                None => Asked::Later(lookup),
                Some(Outcome::AddrInfo(result)) => Asked::Now(result),
                Some(_) => Asked::Now(Err(AddrInfoError::Fail.into())),
            },
        }
    }

    pub(crate) fn ask_addrinfo(
        &self,
        resolver: Option<ResolverKey<H>>,
        query: &AddrInfoQuery<'_>,
    ) -> Asked<H, Result<Vec<AddrInfo>, ResolveError>> {
        let core = self.core();
        let plan = {
            let mut names = core.names.borrow_mut();
            let plan = self.plan_addrinfo(&mut names, query);
            match plan {
                Err(code) => return Asked::Now(Err(code.into())),
                Ok(plan) if plan.lookup().is_none() => {
                    let mut driver = core.driver.borrow_mut();
                    let tables = &mut names.tables;
                    return Asked::Now(finish_addresses(plan, None, tables, &mut **driver));
                }
                Ok(plan) => plan,
            }
        };
        let key = self.resolver_or_default(resolver);
        let now = self.now();
        let mut names = core.names.borrow_mut();
        let Names { resolvers, lookups, tables, .. } = &mut *names;
        let native = match resolvers.get_mut(key.0) {
            None => return Asked::Now(Err(removed())),
            Some(Entry::Foreign(foreign)) => {
                let foreign = Rc::clone(foreign);
                let plan = Plan::AddrInfo(plan);
                let lookup = Lookup { resolver: key, id: None, plan, waiter: Waiter::Asking };
                let lookup = LookupKey(lookups.insert(lookup));
                drop(names);
                foreign.getaddrinfo(self, lookup, query);
                return Asked::Later(lookup);
            }
            Some(Entry::Native(native)) => native,
        };
        let started = {
            let mut driver = core.driver.borrow_mut();
            native.refresh(tables, &mut **driver, now);
            let (host, family) = plan.lookup().unwrap_or_default();
            let deadline = now + query.timeout.unwrap_or(LOOKUP_TIMEOUT);
            match native.resolver.lookup_host(host, family, deadline, now) {
                Started::Pending(id) => id,
                Started::Finished(result) => {
                    let result = result.map_err(ResolveError::from);
                    return Asked::Now(finish_addrinfo(plan, result, tables, &mut **driver));
                }
            }
        };
        let plan = Plan::AddrInfo(plan);
        let lookup = Lookup { resolver: key, id: Some(started), plan, waiter: Waiter::Asking };
        let lookup = LookupKey(lookups.insert(lookup));
        native.lookups.insert(started, lookup);
        self.pump_names(&mut names, key, now);
        Asked::Later(lookup)
    }

    fn plan_addrinfo(
        &self,
        names: &mut Names<H>,
        query: &AddrInfoQuery<'_>,
    ) -> Result<AddrInfoPlan, AddrInfoError> {
        let mut driver = self.core().driver.borrow_mut();
        let tables = &mut names.tables;
        let mut hints = query.hints;
        if hints.flags.has(Flags::ADDRCONFIG) {
            let (v4, v6) = tables.families(&mut **driver);
            hints.family = hints.flags.restrict(hints.family, v4, v6)?;
        }
        if query.host.is_some_and(|host| host.contains('%')) {
            tables.list_interfaces(&mut **driver);
        }
        let is_digits = |service: &str| service.bytes().all(|byte| byte.is_ascii_digit());
        if query.service.is_none_or(is_digits) {
            let (none, interfaces) = (Services::parse(""), &tables.told.interfaces);
            return AddrInfoPlan::new(query.host, query.service, hints, &none, interfaces);
        }
        let (services, interfaces) = tables.services(&mut **driver);
        AddrInfoPlan::new(query.host, query.service, hints, services, interfaces)
    }

    /// Asks for the names of an address and its port, with the meaning that getnameinfo(3) has.
    ///
    /// As [`getaddrinfo`](Engine::getaddrinfo), with [`Outcome::NameInfo`].
    pub fn getnameinfo(
        &self,
        resolver: Option<ResolverKey<H>>,
        address: SocketAddr,
        flags: NameInfoFlags,
        completion: impl FnOnce() -> H::Completion,
    ) -> Asked<H, Result<NameInfo, ResolveError>> {
        match self.ask_nameinfo(resolver, address, flags) {
            Asked::Now(result) => Asked::Now(result),
            Asked::Later(lookup) => match self.wait_for(lookup, completion) {
                None => Asked::Later(lookup),
                Some(Outcome::NameInfo(result)) => Asked::Now(result),
                Some(_) => Asked::Now(Err(AddrInfoError::Fail.into())),
            },
        }
    }

    fn ask_nameinfo(
        &self,
        resolver: Option<ResolverKey<H>>,
        address: SocketAddr,
        flags: NameInfoFlags,
    ) -> Asked<H, Result<NameInfo, ResolveError>> {
        let core = self.core();
        let plan = match NameInfoPlan::new(address, flags) {
            Ok(plan) => plan,
            Err(code) => return Asked::Now(Err(code.into())),
        };
        let now = self.now();
        let Some(ip) = plan.lookup() else {
            let mut names = core.names.borrow_mut();
            let mut driver = core.driver.borrow_mut();
            names.tables.refresh(&mut **driver, now);
            return Asked::Now(finish_names(plan, None, &mut names.tables, &mut **driver));
        };
        let key = self.resolver_or_default(resolver);
        let mut names = core.names.borrow_mut();
        let Names { resolvers, lookups, tables, .. } = &mut *names;
        let native = match resolvers.get_mut(key.0) {
            None => return Asked::Now(Err(removed())),
            Some(Entry::Foreign(foreign)) => {
                let foreign = Rc::clone(foreign);
                let plan = Plan::NameInfo(plan);
                let lookup = Lookup { resolver: key, id: None, plan, waiter: Waiter::Asking };
                let lookup = LookupKey(lookups.insert(lookup));
                drop(names);
                foreign.getnameinfo(self, lookup, address, flags);
                return Asked::Later(lookup);
            }
            Some(Entry::Native(native)) => native,
        };
        let started = {
            let mut driver = core.driver.borrow_mut();
            native.refresh(tables, &mut **driver, now);
            match native.resolver.lookup_address(ip, now + LOOKUP_TIMEOUT, now) {
                Started::Pending(id) => id,
                Started::Finished(result) => {
                    let result = result.map_err(ResolveError::from);
                    return Asked::Now(finish_nameinfo(plan, result, tables, &mut **driver));
                }
            }
        };
        let plan = Plan::NameInfo(plan);
        let lookup = Lookup { resolver: key, id: Some(started), plan, waiter: Waiter::Asking };
        let lookup = LookupKey(lookups.insert(lookup));
        native.lookups.insert(started, lookup);
        self.pump_names(&mut names, key, now);
        Asked::Later(lookup)
    }

    /// Asks the name servers for records of any type. The search list counts, the hosts file does
    /// not.
    ///
    /// As [`getaddrinfo`](Engine::getaddrinfo), with [`Outcome::Records`]. A foreign resolver has
    /// no records: [`AddrInfoError::Fail`].
    pub fn lookup_records(
        &self,
        resolver: Option<ResolverKey<H>>,
        name: &str,
        record_type: RecordType,
        timeout: Option<Duration>,
        completion: impl FnOnce() -> H::Completion,
    ) -> Asked<H, Result<RecordsAnswer, ResolveError>> {
        match self.ask_records(resolver, name, record_type, timeout) {
            Asked::Now(result) => Asked::Now(result),
            Asked::Later(lookup) => match self.wait_for(lookup, completion) {
                None => Asked::Later(lookup),
                Some(Outcome::Records(result)) => Asked::Now(result),
                Some(_) => Asked::Now(Err(AddrInfoError::Fail.into())),
            },
        }
    }

    fn ask_records(
        &self,
        resolver: Option<ResolverKey<H>>,
        name: &str,
        record_type: RecordType,
        timeout: Option<Duration>,
    ) -> Asked<H, Result<RecordsAnswer, ResolveError>> {
        let core = self.core();
        let key = self.resolver_or_default(resolver);
        let now = self.now();
        let mut names = core.names.borrow_mut();
        let Names { resolvers, lookups, tables, .. } = &mut *names;
        let native = match resolvers.get_mut(key.0) {
            None => return Asked::Now(Err(removed())),
            Some(Entry::Foreign(_)) => {
                let text = "this resolver looks up addresses and names only";
                return Asked::Now(Err(ResolveError::foreign(AddrInfoError::Fail, text)));
            }
            Some(Entry::Native(native)) => native,
        };
        native.refresh(tables, &mut **core.driver.borrow_mut(), now);
        let deadline = now + timeout.unwrap_or(LOOKUP_TIMEOUT);
        let started = match native.resolver.lookup_records(name, record_type, deadline, now) {
            Started::Pending(id) => id,
            Started::Finished(result) => {
                let answer = result.map_err(ResolveError::from).and_then(|answer| {
                    answer.into_records().ok_or_else(|| AddrInfoError::Fail.into())
                });
                return Asked::Now(answer);
            }
        };
        let plan = Plan::Records;
        let lookup = Lookup { resolver: key, id: Some(started), plan, waiter: Waiter::Asking };
        let lookup = LookupKey(lookups.insert(lookup));
        native.lookups.insert(started, lookup);
        self.pump_names(&mut names, key, now);
        Asked::Later(lookup)
    }

    /// Gives a question up: nobody is told, and sockets that no other question needs are closed.
    /// The completion comes back; `None` if the question was answered.
    pub fn lookup_cancel(&self, key: LookupKey<H>) -> Option<H::Completion> {
        let now = self.now();
        let mut names = self.core().names.borrow_mut();
        let lookup = names.lookups.remove(key.0)?;
        let mut foreign = None;
        match (names.resolvers.get_mut(lookup.resolver.0), lookup.id) {
            (Some(Entry::Native(native)), Some(id)) => {
                native.lookups.remove(&id);
                native.resolver.cancel(id, now);
                self.pump_names(&mut names, lookup.resolver, now);
            }
            (Some(Entry::Foreign(other)), _) => foreign = Some(Rc::clone(other)),
            _ => {}
        }
        drop(names);
        if let Some(foreign) = foreign {
            foreign.cancel(self, key);
        }
        match lookup.waiter {
            Waiter::Completion(completion) => Some(completion),
            Waiter::Asking | Waiter::Answered(_) | Waiter::Stream(_) => None,
        }
    }

    /// A foreign resolver answers. Whether the question was still there and of this kind.
    pub fn answer_addrinfo(
        &self,
        key: LookupKey<H>,
        result: Result<Vec<AddrInfo>, ResolveError>,
    ) -> bool {
        let mut names = self.core().names.borrow_mut();
        match names.lookups.get(key.0) {
            Some(Lookup { plan: Plan::AddrInfo(_), id: None, .. }) => {}
            _ => return false,
        }
        // No address is no answer: callers count on at least one.
        let result = match result {
            Ok(infos) if infos.is_empty() => Err(AddrInfoError::NoData.into()),
            result => result,
        };
        self.settle(&mut names.lookups, key, Outcome::AddrInfo(result));
        true
    }

    /// A foreign resolver answers. Whether the question was still there and of this kind.
    pub fn answer_nameinfo(
        &self,
        key: LookupKey<H>,
        result: Result<NameInfo, ResolveError>,
    ) -> bool {
        let mut names = self.core().names.borrow_mut();
        match names.lookups.get(key.0) {
            Some(Lookup { plan: Plan::NameInfo(_), id: None, .. }) => {}
            _ => return false,
        }
        self.settle(&mut names.lookups, key, Outcome::NameInfo(result));
        true
    }

    fn answer(&self, names: &mut Names<H>, key: LookupKey<H>, error: ResolveError) {
        let outcome = match names.lookups.get(key.0).map(|lookup| &lookup.plan) {
            Some(Plan::AddrInfo(_)) => Outcome::AddrInfo(Err(error)),
            Some(Plan::NameInfo(_)) => Outcome::NameInfo(Err(error)),
            Some(Plan::Records) => Outcome::Records(Err(error)),
            None => return,
        };
        self.settle(&mut names.lookups, key, outcome);
    }

    /// Hands an outcome to whoever waits.
    pub(super) fn settle(
        &self,
        lookups: &mut Slab<Lookup<H>>,
        key: LookupKey<H>,
        outcome: Outcome,
    ) {
        match lookups.get_mut(key.0) {
            Some(Lookup { waiter: waiter @ Waiter::Asking, .. }) => {
                *waiter = Waiter::Answered(Box::new(outcome));
            }
            Some(Lookup { waiter: Waiter::Answered(_), .. }) | None => {}
            Some(Lookup { waiter: Waiter::Completion(_), .. }) => {
                if let Some(Lookup { waiter: Waiter::Completion(completion), .. }) =
                    lookups.remove(key.0)
                {
                    self.push_outcome(completion, outcome);
                }
            }
            Some(Lookup { waiter, .. }) => {
                if let Waiter::Stream(stream) = *waiter {
                    *waiter = Waiter::Answered(Box::new(outcome));
                    self.push_step(stream, Step::Resolved);
                }
            }
        }
    }

    /// Lets a stream wait for a question, or takes the answer that has come meanwhile.
    pub(crate) fn wait_as_stream(
        &self,
        key: LookupKey<H>,
        stream: StreamKey<H>,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.take_answer(key) {
            return Some(outcome);
        }
        let mut names = self.core().names.borrow_mut();
        if let Some(lookup) = names.lookups.get_mut(key.0) {
            lookup.waiter = Waiter::Stream(stream);
        }
        None
    }

    /// Leaves a completion for a question, or takes the answer that has come meanwhile.
    fn wait_for(
        &self,
        key: LookupKey<H>,
        completion: impl FnOnce() -> H::Completion,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.take_answer(key) {
            return Some(outcome);
        }
        let completion = completion();
        let mut names = self.core().names.borrow_mut();
        match names.lookups.get_mut(key.0) {
            Some(lookup) if matches!(lookup.waiter, Waiter::Asking) => {
                lookup.waiter = Waiter::Completion(completion);
                return None;
            }
            Some(_) => {
                // Answered while the completion was made.
                if let Some(Lookup { waiter: Waiter::Answered(outcome), .. }) =
                    names.lookups.remove(key.0)
                {
                    self.push_outcome(completion, *outcome);
                }
            }
            // Cancelled, or the loop was closed.
            None => {
                drop(names);
                drop(completion);
            }
        }
        None
    }

    pub(crate) fn take_answer(&self, key: LookupKey<H>) -> Option<Outcome> {
        let mut names = self.core().names.borrow_mut();
        match names.lookups.get(key.0)?.waiter {
            Waiter::Answered(_) => match names.lookups.remove(key.0)?.waiter {
                Waiter::Answered(outcome) => Some(*outcome),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a resolver ends its questions by their deadline itself.
    pub(crate) fn keeps_deadlines(&self, resolver: Option<ResolverKey<H>>) -> bool {
        let key = self.resolver_or_default(resolver);
        let names = self.core().names.borrow();
        matches!(names.resolvers.get(key.0), Some(Entry::Native(_)))
    }

    fn resolver_or_default(&self, resolver: Option<ResolverKey<H>>) -> ResolverKey<H> {
        let known = resolver.or(self.core().names.borrow().default);
        known.unwrap_or_else(|| {
            let key = self.resolver_add(Settings::default());
            self.core().names.borrow_mut().default = Some(key);
            key
        })
    }
}

fn removed() -> ResolveError {
    ResolveError::foreign(AddrInfoError::Again, "the resolver was removed")
}
