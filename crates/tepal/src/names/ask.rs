//! The engine's getaddrinfo and getnameinfo.

use std::net::SocketAddr;
use std::rc::Rc;

use tepal_names::addrinfo::{AddrInfoPlan, NameInfoPlan};
use tepal_names::config::Services;
use tepal_names::parse_literal;
use tepal_names::resolver::Started;

use super::native::{finish_addresses, finish_addrinfo, finish_nameinfo, finish_names};
use super::tables::Tables;
use super::{
    AddrInfo, AddrInfoError, AddrInfoQuery, Asked, Entry, Flags, LOOKUP_TIMEOUT, Lookup,
    LookupError, LookupErrorKind, LookupKey, NameInfo, NameInfoFlags, Names, Plan, ResolveCause,
    ResolveError, ResolverKey,
};
use crate::engine::{Engine, Host, Outcome};

impl<H: Host> Engine<H> {
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
        match self.ask_addrinfo(resolver, query, false) {
            Asked::Now(result) => Asked::Now(result),
            Asked::Later(lookup) => match self.wait_for(lookup, completion) {
                None => Asked::Later(lookup),
                Some(Outcome::AddrInfo(result)) => Asked::Now(result),
                Some(_) => Asked::Now(Err(AddrInfoError::Fail.into())),
            },
        }
    }

    /// With `hurry` the lookup is for a race of connects: see [`take_early`](Engine::take_early).
    pub(crate) fn ask_addrinfo(
        &self,
        resolver: Option<ResolverKey<H>>,
        query: &AddrInfoQuery<'_>,
        hurry: bool,
    ) -> Asked<H, Result<Vec<AddrInfo>, ResolveError>> {
        let core = self.core();
        let plan = {
            let mut names = core.names.borrow_mut();
            let plan = self.plan_addrinfo(&mut names, query);
            match plan {
                Err(code) => return Asked::Now(Err(wrong_question(code, query, &names.tables))),
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
                let lookup = Lookup::new(key, None, Plan::AddrInfo(plan));
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
                Started::Pending(id) => {
                    if hurry {
                        native.resolver.hurry(id, now);
                    }
                    id
                }
                Started::Finished(result) => {
                    let result = result.map_err(ResolveError::from);
                    return Asked::Now(finish_addrinfo(plan, result, tables, &mut **driver));
                }
            }
        };
        let lookup = Lookup::new(key, Some(started), Plan::AddrInfo(plan));
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
                let lookup = Lookup::new(key, None, Plan::NameInfo(plan));
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
        let lookup = Lookup::new(key, Some(started), Plan::NameInfo(plan));
        let lookup = LookupKey(lookups.insert(lookup));
        native.lookups.insert(started, lookup);
        self.pump_names(&mut names, key, now);
        Asked::Later(lookup)
    }
}

/// Says more than the code where more is known.
fn wrong_question(code: AddrInfoError, query: &AddrInfoQuery<'_>, tables: &Tables) -> ResolveError {
    let kind = match query.host.map(|host| parse_literal(host, &tables.told.interfaces)) {
        Some(Err(_)) => LookupErrorKind::UnknownZone,
        Some(Ok(Some(_))) if code == AddrInfoError::AddressFamily => LookupErrorKind::OtherFamily,
        _ => return code.into(),
    };
    let error = LookupError::new(kind, query.host.unwrap_or_default());
    ResolveError { code, cause: Some(ResolveCause::Lookup(Box::new(error))) }
}

pub(super) fn removed() -> ResolveError {
    ResolveError::foreign(AddrInfoError::Again, "the resolver was removed, or is another loop's")
}
