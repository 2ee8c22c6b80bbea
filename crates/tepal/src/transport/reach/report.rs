//! What is told of a problem, and what hosts may ask of a stream's way.

use std::sync::Arc;

use super::{At, Peer, Phase, Problem, ProblemCause, ProblemKind, Reaching, local_of};
use crate::engine::{Engine, Host, StreamKey, stream};
use crate::transport::stream::{Phase as Inner, Stream};
use crate::transport::{CloseKind, Closed};

impl<H: Host> Reaching<H> {
    fn problem(&self, phase: Phase, now: tepal_base::Instant) -> Problem {
        let (host, port) = match &self.to.peer {
            Peer::Host { host, port, .. } => (Some(host.clone()), Some(*port)),
            Peer::Addresses(addresses) => {
                let first = self.address.as_ref().or(addresses.first());
                (None, first.and_then(|address| address.as_ip()).map(|ip| ip.port()))
            }
        };
        Problem {
            phase,
            layer: None,
            kind: ProblemKind::Failed,
            host,
            port,
            address: self.address.clone(),
            local: local_of(self.address.as_ref(), &self.to.local),
            label: self.to.label.clone(),
            cause: None,
            attempts: self.reports.clone(),
            elapsed: now.since(self.began),
            total: None,
            attempt: self.attempt,
        }
    }

    /// Says of a phase that ended by time that it was the time of the whole.
    fn note_total(&self, problem: &mut Problem, now: tepal_base::Instant) {
        if problem.kind == ProblemKind::TimedOut && now >= self.deadline {
            problem.total = self.to.timeouts.total;
        }
    }
}

impl<H: Host> Stream<H> {
    /// The phase as users see it.
    pub(super) fn public_phase(&self) -> Phase {
        match self.phase {
            Inner::Lost if self.outbound.as_ref().is_some_and(|r| r.again.is_some()) => {
                Phase::Waiting
            }
            Inner::Lost => Phase::Closed,
            Inner::Established | Inner::Handshaking if self.closing => Phase::Closing,
            Inner::Attached | Inner::Resolving => match &self.outbound {
                Some(_) => Phase::Resolve,
                None => Phase::Connect,
            },
            Inner::Connecting => match self.outbound.as_ref().map(|reaching| &reaching.step) {
                Some(At::Connecting(race)) if race.is_shaking() => Phase::Handshake,
                _ => Phase::Connect,
            },
            Inner::Handshaking => Phase::Handshake,
            Inner::Established => Phase::Established,
            Inner::Waiting => Phase::Waiting,
        }
    }

    /// Makes the problem of an end, if it is one and the way is known.
    pub(in crate::transport) fn problem_of(
        &self,
        closed: &Closed,
        now: tepal_base::Instant,
    ) -> Option<Arc<Problem>> {
        let phase = match self.phase {
            Inner::Handshaking => Phase::Handshake,
            Inner::Established => Phase::Established,
            Inner::Connecting => Phase::Connect,
            _ => Phase::Resolve,
        };
        self.problem_in(phase, closed, now)
    }

    /// The same, where the phase is known better.
    pub(super) fn problem_in(
        &self,
        phase: Phase,
        closed: &Closed,
        now: tepal_base::Instant,
    ) -> Option<Arc<Problem>> {
        let reaching = self.outbound.as_ref()?;
        if closed.is_clean() {
            return None;
        }
        let mut problem = reaching.problem(phase, now);
        problem.layer = closed.layer();
        problem.kind = match closed.kind {
            CloseKind::HandshakeTimedOut
            | CloseKind::ConnectTimedOut
            | CloseKind::TimedOut
            | CloseKind::ReadTimedOut
            | CloseKind::WriteTimedOut
            | CloseKind::SessionTimedOut
            | CloseKind::ClosingTimedOut => ProblemKind::TimedOut,
            CloseKind::Reset | CloseKind::BrokenPipe => ProblemKind::Lost,
            _ if closed.layer_error.is_some() => ProblemKind::Layer,
            _ => ProblemKind::Failed,
        };
        problem.cause = match (&closed.error, &closed.layer_error) {
            (Some(error), _) => Some(ProblemCause::Io(Arc::clone(error))),
            (None, Some(error)) => Some(ProblemCause::Layer(error.clone())),
            (None, None) => {
                let kind = match problem.kind {
                    ProblemKind::TimedOut => std::io::ErrorKind::TimedOut,
                    _ => std::io::ErrorKind::Other,
                };
                Some(ProblemCause::Io(Arc::new(std::io::Error::new(kind, closed.words()))))
            }
        };
        if phase == Phase::Handshake {
            reaching.note_total(&mut problem, now);
        }
        Some(Arc::new(problem))
    }
}

impl<H: Host> Engine<H> {
    /// Makes the problem of a phase, and keeps it. `None` if the stream is gone.
    pub(super) fn stream_note_problem(
        &self,
        key: StreamKey<H>,
        phase: Phase,
        fill: impl FnOnce(&mut Problem),
    ) -> Option<Arc<Problem>> {
        let now = self.now();
        let mut objects = self.core().objects.borrow_mut();
        let reaching = stream(&mut objects, key)?.outbound.as_mut()?;
        let mut problem = reaching.problem(phase, now);
        fill(&mut problem);
        reaching.note_total(&mut problem, now);
        let problem = Arc::new(problem);
        reaching.problem = Some(Arc::clone(&problem));
        Some(problem)
    }

    /// Where a stream stands. [`Phase::Closed`] once it is gone.
    pub fn stream_phase(&self, key: StreamKey<H>) -> Phase {
        let mut objects = self.core().objects.borrow_mut();
        stream(&mut objects, key).map_or(Phase::Closed, |stream| stream.public_phase())
    }

    /// The last problem of an outbound stream, until it is established again.
    pub fn stream_problem(&self, key: StreamKey<H>) -> Option<Arc<Problem>> {
        let mut objects = self.core().objects.borrow_mut();
        stream(&mut objects, key)?.outbound.as_ref()?.problem.clone()
    }

    /// How many attempts an outbound stream has begun. Whoever keeps it beside a late event can
    /// tell that the event belongs to an earlier one.
    pub fn stream_generation(&self, key: StreamKey<H>) -> Option<u64> {
        let mut objects = self.core().objects.borrow_mut();
        Some(stream(&mut objects, key)?.outbound.as_ref()?.generation)
    }

    /// Gives up what an attempt has under way: its question, its sockets.
    pub(in crate::transport) fn stream_abandon(&self, step: At<H>) {
        match step {
            At::Nothing => {}
            At::Resolving(question) => {
                let unused = self.lookup_cancel(question.lookup);
                drop(unused);
            }
            At::Connecting(mut race) | At::Chosen(mut race) => {
                race.take_runners().into_iter().for_each(|runner| self.close_runner(runner));
                if let Some(question) = race.question.take() {
                    self.stream_abandon(At::Resolving(question));
                }
            }
        }
    }
}
