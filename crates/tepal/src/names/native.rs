//! The loop's own resolver: what it asks for is done, what comes is handed in.

use std::collections::HashMap;
use std::sync::Arc;

use tepal_base::Instant;
use tepal_driver::Driver;
use tepal_names::error::SocketFault;
use tepal_names::resolver::{Answer, ExchangeId, HostAnswer, LookupId, Settings, Transmit};
use tepal_names::{Candidate, Resolver, order_addresses};

use super::exchange::Exchange;
use super::tables::Tables;
use super::{
    AddrInfo, AddrInfoError, Entry, Lookup, LookupKey, NameInfo, Names, Plan, ResolveError,
    ResolverKey, Waiter,
};
use crate::engine::{Engine, Host, Object, ObjectKey, Outcome, Step, TimerKey};

pub(super) struct Native<H: Host> {
    pub(super) resolver: Resolver,
    // The version of the tables it was told.
    version: u64,
    pub(super) exchanges: HashMap<ExchangeId, ObjectKey<H>>,
    pub(super) lookups: HashMap<LookupId, LookupKey<H>>,
    timer: Option<TimerKey<H>>,
    armed: Option<Instant>,
}

impl<H: Host> Native<H> {
    pub(super) fn new(settings: Settings, seed: [u8; 32]) -> Native<H> {
        Native {
            resolver: Resolver::new(settings, seed),
            version: 0,
            exchanges: HashMap::new(),
            lookups: HashMap::new(),
            timer: None,
            armed: None,
        }
    }

    /// Tells the resolver what the tables say, if they say something new.
    #[inline]
    pub(super) fn refresh(&mut self, tables: &mut Tables, driver: &mut dyn Driver, now: Instant) {
        tables.refresh(driver, now);
        if self.version != tables.version {
            self.version = tables.version;
            let told = &tables.told;
            self.resolver.set_hosts(Arc::clone(&told.hosts));
            self.resolver.set_nsswitch(told.nsswitch.clone());
            self.resolver.set_resolv_conf(told.resolv_conf.clone());
            self.resolver.set_hostname(told.host_name.as_deref(), told.addresses.clone());
            self.resolver.set_interfaces(told.interfaces.clone());
        }
    }
}

impl<H: Host> Engine<H> {
    /// Does what a resolver wants: opens and closes sockets, queues answers, arms its timer.
    pub(super) fn pump_names(&self, names: &mut Names<H>, key: ResolverKey<H>, now: Instant) {
        let Names { resolvers, lookups, tables, .. } = names;
        let Some(Entry::Native(native)) = resolvers.get_mut(key.0) else { return };
        // A socket that cannot be opened is a fault, after which more may be wanted.
        while let Some(transmit) = native.resolver.poll_transmit() {
            match transmit {
                Transmit::Datagram { exchange, server, message } => {
                    let opened = Exchange::datagram(key, exchange, server, message);
                    self.open_exchange(native, exchange, opened, now);
                }
                Transmit::Stream { exchange, server, message } => {
                    let opened = Exchange::stream(key, exchange, server, message);
                    self.open_exchange(native, exchange, opened, now);
                }
                Transmit::Close { exchange } => {
                    if let Some(object) = native.exchanges.remove(&exchange) {
                        let gone = self.core().objects.borrow_mut().remove(object);
                        gone.into_iter().for_each(|object| self.close_object(object));
                    }
                }
            }
        }
        while let Some((id, answer)) = native.resolver.poll_early() {
            let lookup = native.lookups.get(&id).and_then(|lookup| lookups.get_mut(lookup.0));
            let Some(Lookup { plan: Plan::AddrInfo(plan), early, waiter, .. }) = lookup else {
                continue;
            };
            let mut driver = self.core().driver.borrow_mut();
            let found = finish_addresses(plan.clone(), Some(&answer), tables, &mut **driver);
            *early = found.ok();
            if let Waiter::Stream(stream) = *waiter {
                self.push_step(stream, Step::Resolved);
            }
        }
        while let Some((id, result)) = native.resolver.poll_finished() {
            let Some(lookup) = native.lookups.remove(&id) else { continue };
            let Some(ended) = lookups.get_mut(lookup.0) else { continue };
            let plan = std::mem::replace(&mut ended.plan, Plan::Records);
            let outcome = {
                let mut driver = self.core().driver.borrow_mut();
                finish(plan, result.map_err(ResolveError::from), tables, &mut **driver)
            };
            self.settle(lookups, lookup, outcome);
        }
        self.arm_names(native, key);
    }

    fn open_exchange(
        &self,
        native: &mut Native<H>,
        id: ExchangeId,
        exchange: Exchange<H>,
        now: Instant,
    ) {
        let core = self.core();
        let object = core.objects.borrow_mut().insert(Object::Exchange(Box::new(exchange)));
        let started = {
            let mut objects = core.objects.borrow_mut();
            let Some(Object::Exchange(exchange)) = objects.get_mut(object) else { return };
            exchange.start(object.to_bits(), &mut **core.driver.borrow_mut())
        };
        match started {
            Ok(()) => drop(native.exchanges.insert(id, object)),
            Err(error) => {
                let gone = core.objects.borrow_mut().remove(object);
                gone.into_iter().for_each(|object| self.close_object(object));
                let fault = if tepal_driver::is_exhaustion(error.raw_os_error().unwrap_or(0)) {
                    SocketFault::NoSocket
                } else {
                    SocketFault::from(&error)
                };
                native.resolver.handle_fault(id, fault, now);
            }
        }
    }

    fn arm_names(&self, native: &mut Native<H>, key: ResolverKey<H>) {
        let wanted = native.resolver.poll_timeout();
        if wanted == native.armed {
            return;
        }
        native.armed = wanted;
        match (wanted, native.timer) {
            (Some(deadline), timer) => {
                native.timer = Some(self.arm_resolver(key, timer, deadline));
            }
            (None, Some(timer)) => drop(self.timer_disarm(timer)),
            (None, None) => {}
        }
    }

    /// The resolver's timer is due.
    pub(crate) fn resolver_timeout(&self, key: ResolverKey<H>) {
        let now = self.now();
        let mut names = self.core().names.borrow_mut();
        if let Some(Entry::Native(native)) = names.resolvers.get_mut(key.0) {
            native.armed = None;
            native.resolver.handle_timeout(now);
        }
        self.pump_names(&mut names, key, now);
    }

    /// Takes a resolver apart: its sockets are closed and its timer removed.
    pub(super) fn close_native(&self, native: Native<H>) {
        for object in native.exchanges.into_values() {
            let gone = self.core().objects.borrow_mut().remove(object);
            gone.into_iter().for_each(|object| self.close_object(object));
        }
        if let Some(timer) = native.timer {
            self.timer_remove(timer);
        }
    }
}

/// Makes the outcome of what was found.
fn finish(
    plan: Plan,
    result: Result<Answer, ResolveError>,
    tables: &mut Tables,
    driver: &mut dyn Driver,
) -> Outcome {
    match plan {
        Plan::AddrInfo(plan) => Outcome::AddrInfo(finish_addrinfo(plan, result, tables, driver)),
        Plan::NameInfo(plan) => Outcome::NameInfo(finish_nameinfo(plan, result, tables, driver)),
        Plan::Host => Outcome::Host(finish_host(result, tables, driver)),
        Plan::Records => Outcome::Records(
            result
                .and_then(|answer| answer.into_records().ok_or_else(|| AddrInfoError::Fail.into())),
        ),
    }
}

/// Puts the addresses in the order in which to try them.
pub(super) fn finish_host(
    result: Result<Answer, ResolveError>,
    tables: &mut Tables,
    driver: &mut dyn Driver,
) -> Result<HostAnswer, ResolveError> {
    let mut answer = result?.into_host().ok_or(AddrInfoError::Fail)?;
    let Tables { policy, sources, .. } = tables;
    let candidate =
        |destination| Candidate { destination, source: sources.find(driver, destination) };
    let mut candidates: Vec<_> = answer.addresses.into_iter().map(candidate).collect();
    order_addresses(policy, &mut candidates);
    answer.addresses = candidates.into_iter().map(|each| each.destination).collect();
    Ok(answer)
}

pub(super) fn finish_addrinfo(
    plan: tepal_names::addrinfo::AddrInfoPlan,
    result: Result<Answer, ResolveError>,
    tables: &mut Tables,
    driver: &mut dyn Driver,
) -> Result<Vec<AddrInfo>, ResolveError> {
    let answer = result?.into_host();
    finish_addresses(plan, answer.as_ref(), tables, driver)
}

pub(super) fn finish_addresses(
    plan: tepal_names::addrinfo::AddrInfoPlan,
    answer: Option<&tepal_names::resolver::HostAnswer>,
    tables: &mut Tables,
    driver: &mut dyn Driver,
) -> Result<Vec<AddrInfo>, ResolveError> {
    let Tables { policy, sources, .. } = tables;
    Ok(plan.finish(answer, policy, |destination| sources.find(driver, destination))?)
}

pub(super) fn finish_nameinfo(
    plan: tepal_names::addrinfo::NameInfoPlan,
    result: Result<Answer, ResolveError>,
    tables: &mut Tables,
    driver: &mut dyn Driver,
) -> Result<NameInfo, ResolveError> {
    let named = result.map(|answer| answer.into_names());
    finish_names(plan, Some(named), tables, driver)
}

pub(super) fn finish_names(
    plan: tepal_names::addrinfo::NameInfoPlan,
    named: Option<Result<Option<tepal_names::resolver::NamesAnswer>, ResolveError>>,
    tables: &mut Tables,
    driver: &mut dyn Driver,
) -> Result<NameInfo, ResolveError> {
    let answer = match &named {
        None | Some(Ok(None)) => None,
        Some(Ok(Some(answer))) => Some(Ok(answer)),
        Some(Err(error)) => match &error.cause {
            Some(super::ResolveCause::Lookup(cause)) => Some(Err(&**cause)),
            _ => None,
        },
    };
    let host_name = tables.told.host_name.clone();
    let local_domain = host_name.as_deref().and_then(|name| name.split_once('.')).map(|n| n.1);
    tables.list_interfaces(driver);
    let (services, interfaces) = tables.services(driver);
    plan.finish(answer, services, interfaces, local_domain).map_err(|code| match named {
        Some(Err(error)) => error,
        _ => code.into(),
    })
}
