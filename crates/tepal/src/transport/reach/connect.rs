//! The second phase: the addresses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tepal_base::Instant;
use tepal_driver::Address;

use super::race::{Failure, Progress, Race, Runner, outcome_of};
use super::{At, Handshakes, Phase as PublicPhase, ProblemCause, ProblemKind, Question, Reaching};
use crate::engine::{Engine, Flow, Host, StreamKey, StreamProtocol, stream};
use crate::transport::stream::Phase;
use crate::transport::{CloseKind, Closed};

/// In which way the addresses of a peer are tried.
///
/// ```
/// use std::time::Duration;
/// use tepal::{Addresses, Target};
///
/// // The second address is tried if the first has not answered within 50 ms.
/// let target = Target::host("www.example", 80);
/// let target = target.addresses(Addresses::RaceAfter(Duration::from_millis(50)));
/// # let _ = target;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Addresses {
    /// One after another, each with its share of the time left; the last gets the rest.
    #[default]
    Linear,
    /// As a race (RFC 8305): the next begins after 250 ms, or at once when one fails; families
    /// alternate; the first to connect wins and the others are closed. It begins with the family
    /// that the name servers tell first, IPv4 waiting 50 ms for IPv6, and the other one joins in.
    Race,
    /// A race with another delay, from 10 ms to 2 s.
    RaceAfter(Duration),
}

impl<H: Host> Engine<H> {
    /// How many connects were under way in vain when another one of their race won, in all races
    /// of this loop. Stays 0 while first addresses answer within the delay.
    pub fn redundant_connects(&self) -> u64 {
        self.core().redundant_connects.get()
    }

    /// Tries addresses for a stream.
    ///
    /// With `question` more of them may come: the name is still asked for.
    pub(super) fn stream_try(
        &self,
        key: StreamKey<H>,
        addresses: Vec<Address>,
        question: Option<Question<H>>,
    ) -> Flow {
        let now = self.now();
        {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
            stream.phase = Phase::Connecting;
            let deadline = reaching.phase_end(now, reaching.to.timeouts.connecting);
            reaching.addresses.clone_from(&addresses);
            let race = Race::new(reaching.to.addresses, (addresses, question), now, deadline);
            reaching.step = At::Connecting(Box::new(race));
        }
        self.stream_attempt(key, now)
    }

    /// All addresses have come while the first ones were tried: `None` if the rest has not.
    pub(super) fn stream_more(&self, key: StreamKey<H>, addresses: Option<Vec<Address>>) -> Flow {
        let now = self.now();
        {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
            let (At::Connecting(race) | At::Chosen(race)) = &mut reaching.step else {
                return Flow::Continue(());
            };
            race.question = None;
            match addresses {
                Some(addresses) => {
                    reaching.addresses.clone_from(&addresses);
                    race.strategy.handle_addresses(addresses, now);
                }
                None => race.strategy.handle_no_more(now),
            }
            // One that has connected is not disturbed.
            if matches!(reaching.step, At::Chosen(_)) {
                return Flow::Continue(());
            }
        }
        self.stream_attempt(key, now)
    }

    /// Does what the strategy wants.
    pub(super) fn stream_attempt(&self, key: StreamKey<H>, now: Instant) -> Flow {
        loop {
            let mut closed = Vec::new();
            let progress = {
                let core = self.core();
                let mut objects = core.objects.borrow_mut();
                let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
                let shakes = stream.layers.is_some();
                let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
                let shakes = shakes && reaching.to.handshakes == Handshakes::Race;
                let mut driver = core.driver.borrow_mut();
                reaching.advance((key.to_bits(), shakes), &mut **driver, &mut closed, now)
            };
            closed.into_iter().for_each(|runner| self.close_runner(runner));
            match progress {
                Progress::Until(None) => return Flow::Continue(()),
                Progress::Until(Some(deadline)) => {
                    self.arm_stream_at(key, deadline);
                    return Flow::Continue(());
                }
                Progress::Reached(index) => self.trial_begin(key, index),
                Progress::Won(runner, address) => {
                    return self.stream_won(key, runner, address, now);
                }
                Progress::Failed => return self.stream_unconnected(key, now),
            }
        }
    }

    fn stream_won(
        &self,
        key: StreamKey<H>,
        runner: Runner,
        address: Address,
        now: Instant,
    ) -> Flow {
        let mut question = None;
        {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            stream.descriptor = Some(runner.socket);
            if let Some(reaching) = &mut stream.outbound {
                if let At::Connecting(mut race) = std::mem::replace(&mut reaching.step, At::Nothing)
                {
                    let redundant = race.strategy.redundant_count() as u64;
                    core.redundant_connects.set(core.redundant_connects.get() + redundant);
                    reaching.reports = race.reports(now);
                    if stream.layers.is_some() && runner.trial.is_none() {
                        reaching.step = At::Chosen(race);
                    } else {
                        question = race.question.take();
                    }
                }
                reaching.address = Some(address);
            }
        }
        self.stream_abandon(question.map_or(At::Nothing, At::Resolving));
        match runner.trial {
            Some(trial) => self.stream_wire_ready(key, *trial),
            None => self.stream_wire_stands(key),
        }
    }

    fn stream_unconnected(&self, key: StreamKey<H>, now: Instant) -> Flow {
        let mut failure = None;
        let mut shaken = None;
        let mut left = Vec::new();
        let mut question = None;
        {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
            if let At::Connecting(mut race) = std::mem::replace(&mut reaching.step, At::Nothing) {
                reaching.reports = race.reports(now);
                shaken = race.shaken.take();
                left = race.take_runners();
                question = race.question.take();
            }
            let tried = reaching.reports.iter().rfind(|report| report.elapsed.is_some());
            if let Some(report) = tried {
                reaching.address = Some(report.address.clone());
                failure = report.error.clone();
            }
        }
        left.into_iter().for_each(|runner| self.close_runner(runner));
        self.stream_abandon(question.map_or(At::Nothing, At::Resolving));
        // A handshake that failed got farther than a connect, and says more.
        if let Some(closed) = shaken {
            return self.stream_unshaken(key, closed, now);
        }
        let error = failure.unwrap_or_else(|| {
            Arc::new(io::Error::new(io::ErrorKind::AddrNotAvailable, "there is no address to try"))
        });
        self.stream_not_connected(key, error)
    }

    fn stream_not_connected(&self, key: StreamKey<H>, error: Arc<io::Error>) -> Flow {
        let late = error.kind() == io::ErrorKind::TimedOut;
        let problem = self.stream_note_problem(key, PublicPhase::Connect, |problem| {
            problem.kind = match late {
                true => ProblemKind::TimedOut,
                false => ProblemKind::of_io(&error),
            };
            problem.cause = Some(ProblemCause::Io(Arc::clone(&error)));
        });
        let kind = if late { CloseKind::ConnectTimedOut } else { CloseKind::ConnectFailed };
        let closed = Closed { problem, error: Some(error), ..Closed::new(kind) };
        let told = self.call_protocol(key, |protocol| match late {
            true => protocol.timeout_connecting(self, key, &closed),
            false => protocol.error_connecting(self, key, &closed),
        });
        self.stream_lose(key, closed);
        told?;
        Flow::Continue(())
    }

    /// A socket of a connecting stream may have ended its attempt, or have something for its
    /// handshakes.
    pub(in crate::transport) fn stream_connecting_event(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
        let mut shaking = Vec::new();
        {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let layered = stream.layers.is_some();
            let Some(reaching) = stream.outbound.as_deref_mut() else {
                return Flow::Continue(());
            };
            let shakes = layered && reaching.to.handshakes == Handshakes::Race;
            let Reaching { step: At::Connecting(race), .. } = reaching else {
                return Flow::Continue(());
            };
            let mut driver = core.driver.borrow_mut();
            let mut over = Vec::new();
            for runner in &race.runners {
                match runner.trial {
                    Some(_) => shaking.push(runner.index),
                    None => {
                        let outcome = outcome_of(&mut **driver, runner.socket);
                        over.extend(outcome.map(|result| (runner.index, result)));
                    }
                }
            }
            for (index, result) in over {
                match result {
                    Ok(()) if shakes => race.connected.push(index),
                    Ok(()) => race.strategy.handle_connected(index, now),
                    Err(error) => {
                        if let Some(runner) = race.take_runner(index) {
                            let _ = driver.close(runner.socket);
                        }
                        race.strategy.handle_failed(index, Failure::of_connect(error), now);
                    }
                }
            }
        }
        for index in shaking {
            self.trial_event(key, index);
        }
        self.stream_attempt(key, now)
    }

    /// The strategy's time has come, or that of a handshake.
    pub(super) fn stream_connect_timeout(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
        self.trial_timeouts(key, now);
        {
            let mut objects = self.core().objects.borrow_mut();
            let reaching = stream(&mut objects, key).and_then(|s| s.outbound.as_deref_mut());
            let Some(Reaching { step: At::Connecting(race), .. }) = reaching else {
                return Flow::Continue(());
            };
            race.strategy.handle_timeout(now);
        }
        self.stream_attempt(key, now)
    }
}
