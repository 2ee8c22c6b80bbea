//! Why a lookup fails: the gravest of what it has met.

use super::local::reverse_name;
use super::{Goal, Lookup, SlotState};
use crate::DnsName;
use crate::error::{LookupError, LookupErrorKind, ServerReport};
use crate::resolver::{Known, Resolver};

impl Lookup {
    pub(super) fn error(&mut self, kind: LookupErrorKind) -> LookupError {
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
    pub(super) fn final_error(&mut self) -> LookupError {
        let failure = &self.failure;
        let kind = if failure.alias_loop {
            LookupErrorKind::AliasLoop
        } else if let Some(kind) = failure.first {
            kind
        } else if failure.no_data {
            LookupErrorKind::NoData
        } else if failure.temporary {
            LookupErrorKind::ServersFailed
        } else if let Some(kind) = failure.last.filter(|kind| *kind != LookupErrorKind::NotFound) {
            kind
        } else if self.only_elsewhere || !self.asked_dns && !self.other_modules.is_empty() {
            LookupErrorKind::OtherModule
        } else {
            LookupErrorKind::NotFound
        };
        self.error(kind)
    }
}

impl Resolver {
    /// Remembers how the candidate failed; glibc's res_search has these rules.
    pub(super) fn note_failure(&self, lookup: &mut Lookup) {
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
        let as_written = match &lookup.goal {
            Goal::Host { name, .. } | Goal::Records { name, .. } => DnsName::from(name),
            Goal::Address(address) => reverse_name(*address),
        };
        match lookup.candidates.get(lookup.candidate) == Some(&as_written) {
            true if lookup.candidate == 0 => lookup.failure.first = Some(kind),
            true => lookup.failure.last = Some(kind),
            false => lookup.failure.no_data |= kind == LookupErrorKind::NoData,
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
