//! Which address is tried when: a pure machine between the resolver and the sockets.
//!
//! The caller starts and cancels attempts as it is told and says how they ended. What counts as
//! "connected" is the caller's choice: the TCP handshake, or all handshakes above it.
//!
//! * *Linear*: one address after the other. Each attempt gets its share of the time left, the
//!   last one all of it, so that a silent first address cannot use up the whole limit.
//! * *Race* (RFC 8305): families alternate, and the next attempt starts when the previous one
//!   fails or 250 ms after it started, whichever is first. The first to connect wins and the
//!   others are cancelled; [`Strategy::redundant_count`] counts those.
//!
//! A race may begin before all addresses are known: [`Strategy::expect_more`], and
//! [`Strategy::handle_addresses`] when the rest has come.
//!
//! Handshakes above the connect can be part of an attempt ([`Strategy::handle_reached`]) or come
//! after it has won; if they fail then, [`Strategy::handle_lost`] goes on with what is left. The
//! deadline is for connecting: it stands still while handshakes are all that is waited for.
//!
//! ```
//! use std::time::Duration;
//! use tepal_base::Instant;
//! use tepal_names::strategy::{Strategy, Step};
//!
//! let addresses = ["[2001:db8::1]:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap()];
//! let start = Instant::ZERO;
//! let deadline = start + Duration::from_secs(30);
//! let mut race = Strategy::<&str>::race(addresses, start, deadline);
//! assert_eq!(race.poll_step(), Some(Step::Start(0)));
//! assert_eq!(race.poll_step(), None);
//!
//! // Nothing for 250 ms: the other family's turn, while the first goes on.
//! let later = race.poll_timeout().unwrap();
//! assert_eq!(later, start + Duration::from_millis(250));
//! race.handle_timeout(later);
//! assert_eq!(race.poll_step(), Some(Step::Start(1)));
//!
//! race.handle_connected(1, later);
//! assert_eq!(race.poll_step(), Some(Step::Cancel(0)));
//! assert_eq!(race.poll_step(), Some(Step::Done(1)));
//! assert_eq!(race.redundant_count(), 1);
//! ```

mod late;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tepal_base::Instant;

use late::interleave;

/// The delay after which a race starts its next attempt: RFC 8305, section 8, recommends 250 ms.
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// One connect to one of several addresses; see the [module](self).
///
/// `E` is the caller's error of a failed attempt, `A` what an address is to it. Calls for an attempt that is over, or was never
/// started, change nothing, so events that arrive late are harmless.
#[derive(Clone, Debug)]
pub struct Strategy<E, A = SocketAddr> {
    attempts: Vec<Attempt<E, A>>,
    mode: Mode,
    // Tells two families apart, for a race.
    family: fn(&A) -> bool,
    deadline: Instant,
    // The next address to start; == attempts.len() when all were.
    next: usize,
    // Race: when the next attempt starts if nothing happens before.
    next_start: Instant,
    steps: VecDeque<Step>,
    // The time for connecting is over, and only handshakes are left to wait for.
    closed: bool,
    ended: bool,
    // Having no address left is no end: see `expect_more`.
    expects_more: bool,
    redundant_count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Linear,
    Race { delay: Duration },
}

/// One address, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt<E, A = SocketAddr> {
    /// The address.
    pub address: A,
    /// When the attempt started; `None` if its turn never came.
    pub started: Option<Instant>,
    /// When it ended; `None` while it runs, or if it never started.
    pub ended: Option<Instant>,
    /// How it ended, or that it did not.
    pub outcome: AttemptOutcome<E>,
    // When the attempt is given up; FAR before it starts.
    limit: Instant,
    // When its handshakes began, if they are part of it.
    reached: Option<Instant>,
}

impl<E, A> Attempt<E, A> {
    fn new(address: A) -> Attempt<E, A> {
        Attempt {
            address,
            started: None,
            ended: None,
            outcome: AttemptOutcome::Waiting,
            limit: Instant::FAR,
            reached: None,
        }
    }
}

/// What became of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttemptOutcome<E> {
    /// Its turn has not come.
    Waiting,
    /// It runs.
    Running,
    /// It connected first.
    Connected,
    /// It failed with this error.
    Failed(E),
    /// Its share of the time was over.
    TimedOut,
    /// Another one connected first, or the caller gave up.
    Cancelled,
}

/// What the caller is to do. Indices are those of [`Strategy::attempts`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Open a socket and connect to this address.
    Start(usize),
    /// Close this attempt's socket; nothing need be reported about it any more.
    Cancel(usize),
    /// This attempt won. Nothing follows.
    Done(usize),
    /// Every address failed, or the deadline passed; each outcome tells why. Nothing follows.
    Failed,
}

impl<E> Strategy<E> {
    /// A race with the recommended delay of [`CONNECTION_ATTEMPT_DELAY`].
    pub fn race(
        addresses: impl IntoIterator<Item = SocketAddr>,
        now: Instant,
        deadline: Instant,
    ) -> Strategy<E> {
        Strategy::race_with_delay(addresses, CONNECTION_ATTEMPT_DELAY, now, deadline)
    }

    /// A race with another delay between starts.
    pub fn race_with_delay(
        addresses: impl IntoIterator<Item = SocketAddr>,
        delay: Duration,
        now: Instant,
        deadline: Instant,
    ) -> Strategy<E> {
        Strategy::race_by(addresses, SocketAddr::is_ipv4, delay, now, deadline)
    }
}

impl<E, A> Strategy<E, A> {
    /// One address after the other, in the given order. `deadline` limits the whole.
    pub fn linear(
        addresses: impl IntoIterator<Item = A>,
        now: Instant,
        deadline: Instant,
    ) -> Strategy<E, A> {
        Strategy::new(addresses.into_iter().collect(), Mode::Linear, |_| true, now, deadline)
    }

    /// A race among addresses of two families, told apart by `family`.
    ///
    /// RFC 8305 asks for a delay of 10 ms to 2 s; the value is brought into these bounds.
    /// The addresses come in order of preference and are interleaved by family, beginning with
    /// the family of the first (RFC 8305, section 4).
    pub fn race_by(
        addresses: impl IntoIterator<Item = A>,
        family: fn(&A) -> bool,
        delay: Duration,
        now: Instant,
        deadline: Instant,
    ) -> Strategy<E, A> {
        let delay = delay.clamp(Duration::from_millis(10), Duration::from_secs(2));
        let addresses = interleave(addresses.into_iter().collect(), family, None);
        Strategy::new(addresses, Mode::Race { delay }, family, now, deadline)
    }

    fn new(
        addresses: Vec<A>,
        mode: Mode,
        family: fn(&A) -> bool,
        now: Instant,
        deadline: Instant,
    ) -> Strategy<E, A> {
        let mut strategy = Strategy {
            attempts: addresses.into_iter().map(Attempt::new).collect(),
            mode,
            family,
            deadline,
            next: 0,
            next_start: now,
            steps: VecDeque::new(),
            closed: false,
            ended: false,
            expects_more: false,
            redundant_count: 0,
        };
        strategy.handle_timeout(now);
        strategy
    }

    /// An attempt connected. The first one wins.
    pub fn handle_connected(&mut self, index: usize, now: Instant) {
        if self.ended || !self.end_attempt(index, AttemptOutcome::Connected, now) {
            return;
        }
        self.redundant_count = self.cancel_running(now);
        self.ended = true;
        self.steps.push_back(Step::Done(index));
    }

    /// An attempt has connected, and its handshakes begin, which are part of it. They may take
    /// until `end`: a linear strategy shares the time until then out among this address and those
    /// that are left.
    pub fn handle_reached(&mut self, index: usize, end: Instant, now: Instant) {
        let limit = self.handshake_end(end, now);
        if let Some(attempt) = self.attempts.get_mut(index)
            && matches!(attempt.outcome, AttemptOutcome::Running)
        {
            attempt.limit = limit;
            attempt.reached = Some(now);
        }
    }

    /// Until when handshakes that begin now may take, if all of them may take until `end`.
    pub fn handshake_end(&self, end: Instant, now: Instant) -> Instant {
        let left = match self.mode {
            Mode::Linear => self.left(),
            Mode::Race { .. } => 0,
        };
        match end {
            Instant::FAR => Instant::FAR,
            end => now + share(end.since(now), left + 1),
        }
    }

    /// The winner failed in what comes after the connect; its socket is closed already. With
    /// `go_on` the addresses follow whose turn had not come, those included that were cancelled
    /// because this one had won. Returns `false`, and stays ended, if there are none and none is
    /// expected.
    ///
    /// Indices of earlier steps are worth nothing afterwards.
    pub fn handle_lost(&mut self, index: usize, error: E, go_on: bool, now: Instant) -> bool {
        let Some(winner) = self.attempts.get_mut(index) else { return false };
        let (AttemptOutcome::Connected, Some(won)) = (&winner.outcome, winner.ended) else {
            return false;
        };
        winner.outcome = AttemptOutcome::Failed(error);
        winner.ended = Some(now);
        if !go_on || (self.left() == 0 && !self.expects_more) {
            return false;
        }
        for attempt in &mut self.attempts {
            if matches!(attempt.outcome, AttemptOutcome::Cancelled) {
                attempt.outcome = AttemptOutcome::Waiting;
                (attempt.started, attempt.ended, attempt.reached) = (None, None, None);
            }
        }
        // A stable order: what is over comes first, then what waits, as it was.
        self.attempts.sort_by_key(|attempt| matches!(attempt.outcome, AttemptOutcome::Waiting));
        let over = |attempt: &Attempt<E, A>| !matches!(attempt.outcome, AttemptOutcome::Waiting);
        self.next = self.attempts.iter().take_while(|attempt| over(attempt)).count();
        self.deadline = self.deadline + now.since(won);
        self.next_start = now;
        self.ended = false;
        self.steps.clear();
        self.advance(now);
        true
    }

    /// An attempt failed; its socket is closed already. The next one starts at once.
    pub fn handle_failed(&mut self, index: usize, error: E, now: Instant) {
        if self.ended || !self.end_attempt(index, AttemptOutcome::Failed(error), now) {
            return;
        }
        self.next_start = now;
        self.advance(now);
    }

    /// An attempt failed for a reason that holds for every address: gives up the others too, and
    /// ends with [`Step::Failed`].
    pub fn handle_refused(&mut self, index: usize, error: E, now: Instant) {
        if !self.ended && self.end_attempt(index, AttemptOutcome::Failed(error), now) {
            self.cancel_running(now);
            self.fail();
        }
    }

    /// Time went by. To be called at [`poll_timeout`](Strategy::poll_timeout)'s instant; a call
    /// before it changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        for index in 0..self.next {
            if self.attempts[index].limit <= now
                && self.end_attempt(index, AttemptOutcome::TimedOut, now)
            {
                self.steps.push_back(Step::Cancel(index));
                self.next_start = self.next_start.min(now);
            }
        }
        self.advance(now);
    }

    /// Gives up: cancels what runs, and ends with [`Step::Failed`].
    pub fn cancel(&mut self, now: Instant) {
        if !self.ended {
            self.cancel_running(now);
            self.fail();
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// When [`handle_timeout`](Strategy::handle_timeout) is to be called; `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let limits = self.running().map(|attempt| attempt.limit);
        let next_start = match self.mode {
            Mode::Race { .. } if self.next < self.attempts.len() && !self.closed => self.next_start,
            _ => Instant::FAR,
        };
        // With nothing under way, more addresses are waited for no longer than this.
        let limit = limits.min().unwrap_or(self.deadline);
        Some(limit.min(next_start))
    }

    /// Every address in the order of trying, with what became of it.
    pub fn attempts(&self) -> &[Attempt<E, A>] {
        &self.attempts
    }

    /// How many connects were under way in vain when another one won.
    ///
    /// 0 for a linear strategy, and for a race whose first address answered within the delay.
    pub fn redundant_count(&self) -> usize {
        self.redundant_count
    }

    /// Starts what is due, or ends with a failure when nothing runs and nothing is left.
    fn advance(&mut self, now: Instant) {
        let shaking = self.running().any(|attempt| attempt.reached.is_some());
        // One at a time: while it makes its handshakes, nobody is kept from connecting.
        let stands = shaking && self.mode == Mode::Linear;
        if now >= self.deadline && !stands {
            for index in 0..self.next {
                if self.attempts[index].reached.is_none()
                    && self.end_attempt(index, AttemptOutcome::TimedOut, now)
                {
                    self.steps.push_back(Step::Cancel(index));
                }
            }
            // What has connected in time may finish its handshakes; nothing new begins.
            match shaking {
                true => self.closed = true,
                false => self.fail(),
            }
        }
        if self.ended {
            return;
        }
        while self.next < self.attempts.len() && !self.closed {
            let due = match self.mode {
                Mode::Linear => self.running().next().is_none(),
                Mode::Race { .. } => self.next_start <= now,
            };
            if !due {
                return;
            }
            self.start(now);
        }
        if self.running().next().is_none() && !self.expects_more {
            self.fail();
        }
    }

    fn start(&mut self, now: Instant) {
        let left = self.attempts.len() - self.next;
        let limit = match self.mode {
            // The time left, shared out; the last address gets the rest.
            Mode::Linear if left > 1 => now + share(self.deadline.since(now), left),
            Mode::Linear => self.deadline,
            Mode::Race { delay } => {
                self.next_start = now + delay;
                self.deadline
            }
        };
        let attempt = &mut self.attempts[self.next];
        attempt.started = Some(now);
        attempt.outcome = AttemptOutcome::Running;
        attempt.limit = limit;
        self.steps.push_back(Step::Start(self.next));
        self.next += 1;
    }

    /// Ends an attempt if it runs; false if it does not.
    fn end_attempt(&mut self, index: usize, outcome: AttemptOutcome<E>, now: Instant) -> bool {
        match self.attempts.get_mut(index) {
            Some(attempt) if matches!(attempt.outcome, AttemptOutcome::Running) => {
                attempt.outcome = outcome;
                attempt.ended = Some(now);
                if let (Some(reached), Mode::Linear) = (attempt.reached, self.mode) {
                    self.deadline = self.deadline + now.since(reached);
                }
                true
            }
            _ => false,
        }
    }

    fn cancel_running(&mut self, now: Instant) -> usize {
        let mut count = 0;
        for index in 0..self.next {
            if self.end_attempt(index, AttemptOutcome::Cancelled, now) {
                self.steps.push_back(Step::Cancel(index));
                count += 1;
            }
        }
        count
    }

    fn fail(&mut self) {
        self.ended = true;
        self.steps.push_back(Step::Failed);
    }

    /// How many addresses may still be tried if the one that runs, or has won, fails.
    fn left(&self) -> usize {
        let waits = |attempt: &&Attempt<E, A>| {
            matches!(attempt.outcome, AttemptOutcome::Waiting | AttemptOutcome::Cancelled)
        };
        self.attempts.iter().filter(waits).count()
    }

    fn running(&self) -> impl Iterator<Item = &Attempt<E, A>> {
        self.attempts[..self.next]
            .iter()
            .filter(|attempt| matches!(attempt.outcome, AttemptOutcome::Running))
    }
}

/// The part of a span that each of `count` has.
fn share(span: Duration, count: usize) -> Duration {
    let nanos = span.as_nanos() / count.max(1) as u128;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
