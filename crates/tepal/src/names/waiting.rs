//! Who waits for an answer, and how it is handed over.

use std::rc::Rc;

use tepal_base::Slab;

use super::{
    AddrInfo, AddrInfoError, Entry, Lookup, LookupKey, NameInfo, Names, Plan, ResolveError, Waiter,
};
use crate::engine::{Engine, Host, Outcome, Step, StreamKey};

impl<H: Host> Engine<H> {
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

    pub(super) fn answer(&self, names: &mut Names<H>, key: LookupKey<H>, error: ResolveError) {
        let outcome = match names.lookups.get(key.0).map(|lookup| &lookup.plan) {
            Some(Plan::AddrInfo(_)) => Outcome::AddrInfo(Err(error)),
            Some(Plan::NameInfo(_)) => Outcome::NameInfo(Err(error)),
            Some(Plan::Host) => Outcome::Host(Err(error)),
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
            if lookup.early.is_some() {
                self.push_step(stream, Step::Resolved);
            }
        }
        None
    }

    /// Takes the addresses of one family while the other is still asked for, if this is a race's.
    pub(crate) fn take_early(&self, key: LookupKey<H>) -> Option<Vec<AddrInfo>> {
        self.core().names.borrow_mut().lookups.get_mut(key.0)?.early.take()
    }

    /// Leaves a completion for a question, or takes the answer that has come meanwhile.
    pub(super) fn wait_for(
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
}
