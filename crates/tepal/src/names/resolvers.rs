//! The resolvers of an engine: added, removed, chosen.

use std::rc::Rc;

use tepal_names::resolver::Settings;

use super::native::Native;
use super::{
    AddrInfoError, Entry, ForeignResolver, LookupKey, ResolveError, ResolverKey, SystemFiles,
};
use crate::engine::{Engine, Host};

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

    /// Whether a resolver ends its questions by their deadline itself.
    pub(crate) fn keeps_deadlines(&self, resolver: Option<ResolverKey<H>>) -> bool {
        let key = self.resolver_or_default(resolver);
        let names = self.core().names.borrow();
        matches!(names.resolvers.get(key.0), Some(Entry::Native(_)))
    }

    pub(super) fn resolver_or_default(&self, resolver: Option<ResolverKey<H>>) -> ResolverKey<H> {
        let known = resolver.or(self.core().names.borrow().default);
        known.unwrap_or_else(|| {
            let key = self.resolver_add(Settings::default());
            self.core().names.borrow_mut().default = Some(key);
            key
        })
    }
}
