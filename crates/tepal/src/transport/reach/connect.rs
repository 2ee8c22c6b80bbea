//! The second phase: the addresses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tepal_base::Instant;
use tepal_driver::{Address, Connect, Descriptor, Driver, Interest, Kind, SocketOption};
use tepal_names::strategy::{AttemptOutcome, CONNECTION_ATTEMPT_DELAY, Step, Strategy};

use super::{At, AttemptReport, Phase as PublicPhase, ProblemCause, ProblemKind, Reaching};
use crate::engine::{Engine, Flow, Host, StreamKey, StreamProtocol, domain_of, stream};
use crate::transport::stream::Phase;
use crate::transport::{CloseKind, Closed};

/// In which way the addresses of a peer are tried.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Addresses {
    /// One after another, each with its share of the time left; the last gets the rest.
    #[default]
    Linear,
    /// As a race (RFC 8305): the next begins after 250 ms, or at once when one fails; families
    /// alternate; the first to connect wins and the others are closed.
    Race,
    /// A race with another delay, from 10 ms to 2 s.
    RaceAfter(Duration),
}

/// Attempts on the addresses of a peer.
pub(in crate::transport) struct Race {
    strategy: Strategy<Arc<io::Error>, Address>,
    // Of the attempts that run.
    sockets: Vec<(usize, Descriptor)>,
}

impl Race {
    fn new(how: Addresses, addresses: Vec<Address>, now: Instant, deadline: Instant) -> Race {
        let is_v4 = |address: &Address| matches!(address, Address::Ip(ip) if ip.is_ipv4());
        let strategy = match how {
            Addresses::Linear => Strategy::linear(addresses, now, deadline),
            Addresses::Race => {
                Strategy::race_by(addresses, is_v4, CONNECTION_ATTEMPT_DELAY, now, deadline)
            }
            Addresses::RaceAfter(delay) => {
                Strategy::race_by(addresses, is_v4, delay, now, deadline)
            }
        };
        Race { strategy, sockets: Vec::new() }
    }

    fn take_socket(&mut self, index: usize) -> Option<Descriptor> {
        let at = self.sockets.iter().position(|(of, _)| *of == index)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Closes what is left open.
    pub(in crate::transport) fn close(self, driver: &mut dyn Driver) {
        for (_, socket) in self.sockets {
            // Nothing was sent on it, so nothing can be lost.
            let _ = driver.close(socket);
        }
    }

    fn reports(&self, now: Instant) -> Vec<AttemptReport> {
        let attempts = self.strategy.attempts().iter();
        let report = attempts.map(|attempt| {
            let ended = attempt.ended.unwrap_or(now);
            let error = match &attempt.outcome {
                AttemptOutcome::Failed(error) => Some(Arc::clone(error)),
                AttemptOutcome::TimedOut => Some(no_answer()),
                AttemptOutcome::Cancelled => Some(Arc::new(io::Error::new(
                    io::ErrorKind::Interrupted,
                    "nothing before another one connected",
                ))),
                _ => None,
            };
            let elapsed = attempt.started.map(|started| ended.since(started));
            AttemptReport { address: attempt.address.clone(), error, elapsed }
        });
        report.collect()
    }
}

fn no_answer() -> Arc<io::Error> {
    Arc::new(io::Error::new(io::ErrorKind::TimedOut, "nothing in time"))
}

/// What became of the attempts.
enum Progress {
    /// They go on; something is due then.
    Until(Option<Instant>),
    /// This socket is connected, to this address.
    Won(Descriptor, Address),
    Failed,
}

impl<H: Host> Engine<H> {
    /// How many connects were under way in vain when another one of their race won, in all races
    /// of this loop. Stays 0 while first addresses answer within the delay.
    pub fn redundant_connects(&self) -> u64 {
        self.core().redundant_connects.get()
    }

    /// Tries addresses for a stream.
    pub(super) fn stream_try(&self, key: StreamKey<H>, addresses: Vec<Address>) -> Flow {
        let now = self.now();
        {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
            stream.phase = Phase::Connecting;
            let deadline = reaching.phase_end(now, reaching.to.timeouts.connecting);
            reaching.addresses.clone_from(&addresses);
            let race = Race::new(reaching.to.addresses, addresses, now, deadline);
            reaching.step = At::Connecting(Box::new(race));
        }
        self.stream_attempt(key, now)
    }

    /// Does what the strategy wants.
    fn stream_attempt(&self, key: StreamKey<H>, now: Instant) -> Flow {
        let progress = {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
            let mut driver = core.driver.borrow_mut();
            reaching.advance(key.to_bits(), &mut **driver, now)
        };
        match progress {
            Progress::Until(None) => Flow::Continue(()),
            Progress::Until(Some(deadline)) => {
                self.arm_stream_at(key, deadline);
                Flow::Continue(())
            }
            Progress::Won(socket, address) => self.stream_won(key, socket, address, now),
            Progress::Failed => self.stream_unconnected(key, now),
        }
    }

    fn stream_won(
        &self,
        key: StreamKey<H>,
        socket: Descriptor,
        address: Address,
        now: Instant,
    ) -> Flow {
        {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            stream.descriptor = Some(socket);
            if let Some(reaching) = &mut stream.outbound {
                if let At::Connecting(race) = std::mem::replace(&mut reaching.step, At::Nothing) {
                    let redundant = race.strategy.redundant_count() as u64;
                    core.redundant_connects.set(core.redundant_connects.get() + redundant);
                    reaching.reports = race.reports(now);
                }
                reaching.address = Some(address);
            }
        }
        self.stream_wire_stands(key)
    }

    fn stream_unconnected(&self, key: StreamKey<H>, now: Instant) -> Flow {
        let mut failure = None;
        {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            let Some(reaching) = &mut stream.outbound else { return Flow::Continue(()) };
            if let At::Connecting(race) = std::mem::replace(&mut reaching.step, At::Nothing) {
                reaching.reports = race.reports(now);
                race.close(&mut **core.driver.borrow_mut());
            }
            let tried = reaching.reports.iter().rfind(|report| report.elapsed.is_some());
            if let Some(report) = tried {
                reaching.address = Some(report.address.clone());
                failure = report.error.clone();
            }
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

    /// A socket of a connecting stream may have ended its attempt.
    pub(in crate::transport) fn stream_connecting_event(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
        {
            let core = self.core();
            let mut objects = core.objects.borrow_mut();
            let reaching = stream(&mut objects, key).and_then(|s| s.outbound.as_deref_mut());
            let Some(Reaching { step: At::Connecting(race), .. }) = reaching else {
                return Flow::Continue(());
            };
            let mut driver = core.driver.borrow_mut();
            let mut over = Vec::new();
            for &(index, socket) in &race.sockets {
                match outcome_of(&mut **driver, socket) {
                    None => {}
                    Some(result) => over.push((index, result)),
                }
            }
            for (index, result) in over {
                match result {
                    Ok(()) => race.strategy.handle_connected(index, now),
                    Err(error) => {
                        if let Some(socket) = race.take_socket(index) {
                            let _ = driver.close(socket);
                        }
                        race.strategy.handle_failed(index, Arc::new(error), now);
                    }
                }
            }
        }
        self.stream_attempt(key, now)
    }

    /// The strategy's time has come.
    pub(super) fn stream_connect_timeout(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
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

impl<H: Host> Reaching<H> {
    fn advance(&mut self, token: u64, driver: &mut dyn Driver, now: Instant) -> Progress {
        let At::Connecting(race) = &mut self.step else { return Progress::Until(None) };
        while let Some(step) = race.strategy.poll_step() {
            match step {
                Step::Start(index) => {
                    let address = race.strategy.attempts()[index].address.clone();
                    match start(driver, &address, &self.to.local, &self.to.options, token) {
                        Ok((socket, state)) => {
                            race.sockets.push((index, socket));
                            if state == Connect::Connected {
                                race.strategy.handle_connected(index, now);
                            }
                        }
                        Err(error) => race.strategy.handle_failed(index, Arc::new(error), now),
                    }
                }
                Step::Cancel(index) => {
                    if let Some(socket) = race.take_socket(index) {
                        let _ = driver.close(socket);
                    }
                }
                Step::Done(index) => {
                    let address = race.strategy.attempts()[index].address.clone();
                    return match race.take_socket(index) {
                        Some(socket) => Progress::Won(socket, address),
                        None => Progress::Failed,
                    };
                }
                Step::Failed => return Progress::Failed,
            }
        }
        Progress::Until(race.strategy.poll_timeout().filter(|at| *at != Instant::FAR))
    }
}

/// Opens a socket and begins to connect it. It reports under `token`.
fn start(
    driver: &mut dyn Driver,
    peer: &Address,
    local: &[Address],
    options: &[SocketOption],
    token: u64,
) -> io::Result<(Descriptor, Connect)> {
    let domain = domain_of(peer)?;
    let local = local_for(peer, local)?;
    let socket = driver.open(domain, Kind::Stream)?;
    let started = (|| {
        if matches!(peer, Address::Ip(_)) {
            driver.set_option(socket, &SocketOption::NoDelay(true))?;
        }
        for option in options {
            driver.set_option(socket, option)?;
        }
        if let Some(local) = local {
            driver.bind(socket, local)?;
        }
        let state = driver.connect(socket, peer)?;
        let interest = match state {
            Connect::Connected => Interest::READ,
            Connect::InProgress => Interest::BOTH,
        };
        driver.register(socket, token, interest)?;
        Ok(state)
    })();
    if started.is_err() {
        // The first error is the one to tell.
        let _ = driver.close(socket);
    }
    started.map(|state| (socket, state))
}

/// The local address to bind before a connect to `peer`; `None`: the kernel chooses.
pub(crate) fn local_for<'a>(
    peer: &Address,
    local: &'a [Address],
) -> io::Result<Option<&'a Address>> {
    let domain = domain_of(peer)?;
    let suits = |local: &&Address| domain_of(local).is_ok_and(|of| of == domain);
    match local.iter().find(suits) {
        None if !local.is_empty() => {
            let text = "no local address is of its family";
            Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
        }
        found => Ok(found),
    }
}

/// How a connect ended; `None` while it runs.
fn outcome_of(driver: &mut dyn Driver, socket: Descriptor) -> Option<io::Result<()>> {
    match driver.take_error(socket) {
        Ok(None) => match driver.peer_address(socket) {
            Ok(_) => Some(Ok(())),
            // A spurious event, or another attempt's.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        },
        Ok(Some(error)) | Err(error) => Some(Err(error)),
    }
}
