//! The modules of nsswitch.conf, one after another.

use std::sync::Arc;

use super::local::{is_theirs, localhost};
use super::{Lookup, Phase};
use crate::config::{Module, ModuleAction, ModuleStatus};
use crate::error::LookupError;
use crate::resolver::{Answer, Resolver};

impl Resolver {
    /// Asks the current module of nsswitch.conf, or hands over to the name servers.
    pub(super) fn try_module(
        &mut self,
        lookup: &mut Lookup,
    ) -> Option<Result<Answer, LookupError>> {
        let nsswitch = Arc::clone(&lookup.nsswitch);
        let Some(step) = nsswitch.step(lookup.module) else {
            return Some(self.without_modules(lookup));
        };
        let found = match &step.module {
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

    pub(super) fn module_ended(
        &mut self,
        lookup: &mut Lookup,
        status: ModuleStatus,
    ) -> Option<Result<Answer, LookupError>> {
        let action = lookup.nsswitch.step(lookup.module).map(|step| step.action(status));
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
}
