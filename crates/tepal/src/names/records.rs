//! Questions for those who want to see answers as they are: with their source and their time.

use std::time::Duration;

use tepal_base::Instant;
use tepal_names::resolver::{Answer, Started};

use super::ask::removed;
use super::native::{Native, finish_host};
use super::{
    AddrInfoError, Asked, Entry, Family, HostAnswer, LOOKUP_TIMEOUT, Lookup, LookupKey, Names,
    Plan, RecordType, RecordsAnswer, ResolveError, ResolverKey,
};
use crate::engine::{Engine, Host, Outcome};

impl<H: Host> Engine<H> {
    /// Asks for the addresses of a host, and for where they come from and until when they hold: for
    /// those who show or keep answers. They are in the order of RFC 6724.
    ///
    /// As [`getaddrinfo`](Engine::getaddrinfo), with [`Outcome::Host`]. Given back at once are a
    /// literal, a hosts entry and a cached answer; what comes later is a server's. A foreign
    /// resolver tells neither: [`AddrInfoError::Fail`].
    pub fn lookup_host(
        &self,
        resolver: Option<ResolverKey<H>>,
        host: &str,
        family: Family,
        timeout: Option<Duration>,
        completion: impl FnOnce() -> H::Completion,
    ) -> Asked<H, Result<HostAnswer, ResolveError>> {
        let asked = self.ask_native(resolver, Plan::Host, |native, now| {
            let deadline = now + timeout.unwrap_or(LOOKUP_TIMEOUT);
            native.resolver.lookup_host(host, family, deadline, now)
        });
        match asked {
            Asked::Now(Ok(answer)) => {
                let mut names = self.core().names.borrow_mut();
                let mut driver = self.core().driver.borrow_mut();
                Asked::Now(finish_host(Ok(answer), &mut names.tables, &mut **driver))
            }
            Asked::Now(Err(error)) => Asked::Now(Err(error)),
            Asked::Later(lookup) => match self.wait_for(lookup, completion) {
                None => Asked::Later(lookup),
                Some(Outcome::Host(result)) => Asked::Now(result),
                Some(_) => Asked::Now(Err(AddrInfoError::Fail.into())),
            },
        }
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
        let asked = self.ask_native(resolver, Plan::Records, |native, now| {
            let deadline = now + timeout.unwrap_or(LOOKUP_TIMEOUT);
            native.resolver.lookup_records(name, record_type, deadline, now)
        });
        match asked {
            Asked::Now(answer) => Asked::Now(answer.and_then(|answer| {
                answer.into_records().ok_or_else(|| AddrInfoError::Fail.into())
            })),
            Asked::Later(lookup) => match self.wait_for(lookup, completion) {
                None => Asked::Later(lookup),
                Some(Outcome::Records(result)) => Asked::Now(result),
                Some(_) => Asked::Now(Err(AddrInfoError::Fail.into())),
            },
        }
    }

    // Asks a resolver of the loop's own kind.
    fn ask_native(
        &self,
        resolver: Option<ResolverKey<H>>,
        plan: Plan,
        ask: impl FnOnce(&mut Native<H>, Instant) -> Started,
    ) -> Asked<H, Result<Answer, ResolveError>> {
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
        let started = match ask(native, now) {
            Started::Pending(id) => id,
            Started::Finished(result) => return Asked::Now(result.map_err(ResolveError::from)),
        };
        let lookup = LookupKey(lookups.insert(Lookup::new(key, Some(started), plan)));
        native.lookups.insert(started, lookup);
        self.pump_names(&mut names, key, now);
        Asked::Later(lookup)
    }
}
