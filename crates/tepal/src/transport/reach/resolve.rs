//! The first phase: the name.

use std::time::Duration;

use tepal_base::Instant;
use tepal_driver::Address;

use super::{Addresses, At, Peer, ProblemKind, Reaching};
use crate::engine::{Engine, Flow, Host, Outcome, StreamKey, StreamProtocol, stream};
use crate::names::{
    AddrInfo, AddrInfoQuery, Asked, Hints, LookupErrorKind, LookupKey, ResolveCause, ResolveError,
    SocketType,
};
use crate::transport::stream::Phase;
use crate::transport::{CloseKind, Closed};

/// A question that a stream waits for.
pub(in crate::transport) struct Question<H: Host> {
    pub(in crate::transport) lookup: LookupKey<H>,
    pub(in crate::transport) deadline: Instant,
}

/// What a question without a limit may take: the resolver wants a number.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl<H: Host> Reaching<H> {
    /// Begins an attempt.
    fn begin(&mut self, now: Instant) {
        self.attempt = if self.was_established { 1 } else { self.attempt + 1 };
        self.generation += 1;
        self.began = now;
        self.deadline = self.to.timeouts.total.map_or(Instant::FAR, |total| now + total);
        self.was_established = false;
        self.again = None;
        self.reports.clear();
        self.address = None;
    }

    /// When a phase of this length must be over.
    pub(super) fn phase_end(&self, now: Instant, limit: Option<Duration>) -> Instant {
        limit.map_or(Instant::FAR, |limit| now + limit).min(self.deadline)
    }
}

impl<H: Host> Engine<H> {
    /// Begins an attempt of an outbound stream that is attached or has waited.
    pub(in crate::transport) fn stream_open(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        if !matches!(stream.phase, Phase::Attached | Phase::Waiting) {
            return Flow::Continue(());
        }
        let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
        let again = reaching.again;
        reaching.begin(now);
        stream.phase = Phase::Resolving;
        let known = match (&reaching.to.peer, again) {
            (Peer::Addresses(addresses), _) => Some(addresses.clone()),
            (Peer::Host { .. }, Some(again)) if !again.resolves() => {
                Some(std::mem::take(&mut reaching.addresses)).filter(|known| !known.is_empty())
            }
            (Peer::Host { .. }, _) => None,
        };
        if let Some(known) = known {
            drop(objects);
            return self.stream_try(key, known, None);
        }
        let Peer::Host { host, port, family } = &reaching.to.peer else {
            return Flow::Continue(());
        };
        let (host, service) = (host.clone(), port.to_string());
        let hints = Hints { family: *family, socket_type: SocketType::STREAM, ..Hints::default() };
        let resolver = reaching.to.resolver;
        // One address after another may well need all of them; a race is about time.
        let hurry = reaching.to.addresses != Addresses::Linear;
        let deadline = reaching.phase_end(now, reaching.to.timeouts.dns);
        drop(objects);
        let timeout = match deadline {
            Instant::FAR => FOREVER,
            deadline => deadline.since(now),
        };
        let query = AddrInfoQuery {
            host: Some(&host),
            service: Some(&service),
            hints,
            timeout: Some(timeout),
        };
        // A resolver of the host's may do anything meanwhile, close this stream included.
        match self.ask_addrinfo(resolver, &query, hurry) {
            Asked::Now(result) => self.stream_resolved(key, result),
            Asked::Later(lookup) => match self.wait_as_stream(lookup, key) {
                Some(Outcome::AddrInfo(result)) => self.stream_resolved(key, result),
                Some(_) => Flow::Continue(()),
                None => {
                    let mut objects = core.objects.borrow_mut();
                    let waits = match self::stream(&mut objects, key) {
                        Some(stream) if stream.phase == Phase::Resolving => {
                            stream.outbound.as_mut()
                        }
                        _ => None,
                    };
                    let Some(reaching) = waits else {
                        drop(objects);
                        let unused = self.lookup_cancel(lookup);
                        drop(unused);
                        return Flow::Continue(());
                    };
                    reaching.step = At::Resolving(Question { lookup, deadline });
                    drop(objects);
                    // The loop's own resolver keeps the deadline itself, and tells what each
                    // server did; this is for others.
                    if deadline != Instant::FAR && !self.keeps_deadlines(resolver) {
                        self.arm_stream_at(key, deadline);
                    }
                    Flow::Continue(())
                }
            },
        }
    }

    /// The answer to a stream's question may have come.
    pub(in crate::transport) fn stream_answered(&self, key: StreamKey<H>) -> Flow {
        let (lookup, tries) = {
            let mut objects = self.core().objects.borrow_mut();
            match stream(&mut objects, key).and_then(|s| s.outbound.as_deref_mut()) {
                Some(Reaching { step: At::Resolving(question), .. }) => (question.lookup, false),
                Some(Reaching { step: At::Connecting(race) | At::Chosen(race), .. }) => {
                    match &race.question {
                        Some(question) => (question.lookup, true),
                        None => return Flow::Continue(()),
                    }
                }
                _ => return Flow::Continue(()),
            }
        };
        match (self.take_answer(lookup), tries) {
            (Some(Outcome::AddrInfo(result)), false) => self.stream_resolved(key, result),
            (Some(Outcome::AddrInfo(result)), true) => {
                self.stream_more(key, result.ok().map(addresses_of))
            }
            (None, false) => match self.take_early(lookup) {
                Some(infos) => self.stream_resolved_early(key, infos),
                None => Flow::Continue(()),
            },
            _ => Flow::Continue(()),
        }
    }

    /// One family is there: a race begins with it, while the other is still asked for.
    fn stream_resolved_early(&self, key: StreamKey<H>, infos: Vec<AddrInfo>) -> Flow {
        let question = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let step = stream.outbound.as_deref_mut().map(|reaching| &mut reaching.step);
            match step.map(|step| std::mem::replace(step, At::Nothing)) {
                Some(At::Resolving(question)) => Some(question),
                _ => None,
            }
        };
        self.stream_try(key, addresses_of(infos), question)
    }

    fn stream_resolved(
        &self,
        key: StreamKey<H>,
        result: Result<Vec<AddrInfo>, ResolveError>,
    ) -> Flow {
        {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            if stream.phase != Phase::Resolving {
                return Flow::Continue(());
            }
            if let Some(reaching) = &mut stream.outbound {
                reaching.step = At::Nothing;
            }
        }
        match result {
            Ok(infos) => self.stream_try(key, addresses_of(infos), None),
            Err(error) => self.stream_not_resolved(key, error),
        }
    }

    /// The name's time is over, and its resolver has not noticed.
    pub(super) fn stream_resolve_timeout(&self, key: StreamKey<H>, lookup: LookupKey<H>) -> Flow {
        let unused = self.lookup_cancel(lookup);
        drop(unused);
        let error = ResolveError::foreign(
            crate::names::AddrInfoError::Again,
            "the resolver gave no answer in time",
        );
        self.stream_unresolved(key, error, true)
    }

    fn stream_not_resolved(&self, key: StreamKey<H>, error: ResolveError) -> Flow {
        let late = match &error.cause {
            Some(ResolveCause::Lookup(cause)) => cause.kind == LookupErrorKind::DeadlinePassed,
            _ => false,
        };
        self.stream_unresolved(key, error, late)
    }

    fn stream_unresolved(&self, key: StreamKey<H>, error: ResolveError, late: bool) -> Flow {
        let (kind, close) = match late {
            true => (ProblemKind::TimedOut, CloseKind::ResolveTimedOut),
            false => (ProblemKind::of_resolve(&error), CloseKind::ResolveFailed),
        };
        let problem = self.stream_note_problem(key, super::Phase::Resolve, |problem| {
            problem.kind = kind;
            problem.cause = Some(super::ProblemCause::Resolve(error));
        });
        let closed = Closed { problem, ..Closed::new(close) };
        let told = self.call_protocol(key, |protocol| match late {
            true => protocol.timeout_dns(self, key, &closed),
            false => protocol.error_dns(self, key, &closed),
        });
        self.stream_lose(key, closed);
        told?;
        Flow::Continue(())
    }
}

/// The addresses, each once.
fn addresses_of(infos: Vec<AddrInfo>) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::with_capacity(infos.len());
    for info in infos {
        let address = Address::Ip(info.address);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}
