//! The answer of a lookup, put together from what its questions brought.

use super::{Goal, Lookup, Slot, SlotState, earlier};
use crate::HostAddr;
use crate::distinct::Distinct;
use crate::error::{LookupError, LookupErrorKind};
use crate::record::{Record, RecordData};
use crate::resolver::{Answer, HostAnswer, Known, NamesAnswer, Origin, RecordsAnswer};

impl Lookup {
    /// The answer, if any slot has records. `late` is why a slot that still waits is missing.
    pub(super) fn found(&self, late: Option<&LookupError>) -> Option<Answer> {
        let with_records = || self.slots.iter().filter_map(Slot::records);
        let (canonical, _, _) = with_records().next()?;
        let expires = self.slots.iter().map(|slot| slot.expires).reduce(earlier).flatten();
        match &self.goal {
            Goal::Host { .. } => {
                let mut addresses = Distinct::new();
                for (_, records, _) in with_records().collect::<Vec<_>>().into_iter().rev() {
                    for record in records {
                        if let RecordData::Address(ip) = record.data {
                            addresses.push(HostAddr::from(ip));
                        }
                    }
                }
                let asked = self.candidates.get(self.candidate)?;
                // An alias to a strange name keeps the name that was asked for.
                let canonical = if canonical.is_host_like() { canonical } else { asked };
                let missing = self.slots.iter().find_map(|slot| match &slot.state {
                    SlotState::Done(Err(reports)) => Some(Box::new(LookupError {
                        kind: LookupErrorKind::ServersFailed,
                        name: self.text.clone(),
                        servers: reports.to_vec(),
                        other_modules: Vec::new(),
                    })),
                    SlotState::Waiting(_) => late.cloned().map(Box::new),
                    _ => None,
                });
                Some(Answer::Host(HostAnswer {
                    canonical: canonical.to_string().into(),
                    addresses: addresses.into_vec(),
                    origin: Origin::Dns,
                    expires,
                    missing,
                }))
            }
            Goal::Address(_) => {
                let names: Vec<Box<str>> = with_records()
                    .flat_map(|(_, records, _)| records)
                    .filter_map(|record| match &record.data {
                        RecordData::Name(name) if name.is_host_like() => {
                            Some(name.to_string().into())
                        }
                        _ => None,
                    })
                    .collect();
                let some = !names.is_empty();
                some.then_some(Answer::Names(NamesAnswer { names, origin: Origin::Dns }))
            }
            Goal::Records { .. } => {
                let name = self.candidates.get(self.candidate)?.clone();
                let mut all: Vec<Record> = Vec::new();
                let mut authenticated = false;
                for slot in &self.slots {
                    all.extend_from_slice(&slot.chain);
                    if let SlotState::Done(Ok((known, _))) = &slot.state
                        && let Known::Records { chain, records, authenticated: vouched, .. } =
                            &**known
                    {
                        authenticated = *vouched && slot.chain.is_empty();
                        all.extend_from_slice(chain);
                        all.extend_from_slice(records);
                    }
                }
                Some(Answer::Records(RecordsAnswer { name, records: all, authenticated, expires }))
            }
        }
    }
}
