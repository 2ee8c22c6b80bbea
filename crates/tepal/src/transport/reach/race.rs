//! The attempts of the second phase, and their sockets.

use std::io;
use std::sync::Arc;

use tepal_base::Instant;
use tepal_driver::{Address, Connect, Descriptor, Driver, Interest, Kind, SocketOption};
use tepal_names::strategy::{AttemptOutcome, CONNECTION_ATTEMPT_DELAY, Step, Strategy};

use super::trial::Trial;
use super::{Addresses, At, AttemptReport, Question, Reaching};
use crate::engine::{Host, domain_of};
use crate::transport::Closed;

/// Attempts on the addresses of a peer.
pub(in crate::transport) struct Race<H: Host> {
    pub(super) strategy: Strategy<Failure, Address>,
    // The attempts that run.
    pub(super) runners: Vec<Runner>,
    // Those that have connected, and whose handshakes are to begin.
    pub(super) connected: Vec<usize>,
    // The name, if it is still asked for: more addresses may come.
    pub(super) question: Option<Question<H>>,
    // The last handshake that failed: it got farther than any connect that did.
    pub(super) shaken: Option<Closed>,
}

/// An attempt that runs.
pub(super) struct Runner {
    pub(super) index: usize,
    pub(super) socket: Descriptor,
    // Its handshakes, if they are part of the race and it has connected.
    pub(super) trial: Option<Box<Trial>>,
}

/// Why an address did not serve.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Arc<io::Error>,
    // The layer whose handshake failed.
    pub(super) layer: Option<&'static str>,
}

impl<H: Host> Race<H> {
    pub(super) fn new(
        how: Addresses,
        (addresses, question): (Vec<Address>, Option<Question<H>>),
        now: Instant,
        deadline: Instant,
    ) -> Race<H> {
        let is_v4: fn(&Address) -> bool =
            |address: &Address| matches!(address, Address::Ip(ip) if ip.is_ipv4());
        let mut strategy = match how {
            Addresses::Linear => Strategy::linear(addresses, now, deadline),
            Addresses::Race => {
                Strategy::race_by(addresses, is_v4, CONNECTION_ATTEMPT_DELAY, now, deadline)
            }
            Addresses::RaceAfter(delay) => {
                Strategy::race_by(addresses, is_v4, delay, now, deadline)
            }
        };
        if question.is_some() {
            strategy.expect_more();
        }
        let (runners, connected) = (Vec::new(), Vec::new());
        Race { strategy, runners, connected, question, shaken: None }
    }

    pub(super) fn runner(&mut self, index: usize) -> Option<&mut Runner> {
        self.runners.iter_mut().find(|runner| runner.index == index)
    }

    pub(super) fn take_runner(&mut self, index: usize) -> Option<Runner> {
        let at = self.runners.iter().position(|runner| runner.index == index)?;
        Some(self.runners.swap_remove(at))
    }

    /// What is left open: to be closed, with nothing borrowed, since layers may be user code.
    pub(super) fn take_runners(&mut self) -> Vec<Runner> {
        std::mem::take(&mut self.runners)
    }

    pub(super) fn reports(&self, now: Instant) -> Vec<AttemptReport> {
        let attempts = self.strategy.attempts().iter();
        let report = attempts.map(|attempt| {
            let ended = attempt.ended.unwrap_or(now);
            let (error, layer) = match &attempt.outcome {
                AttemptOutcome::Failed(Failure { error, layer }) => {
                    (Some(Arc::clone(error)), *layer)
                }
                AttemptOutcome::TimedOut => (Some(no_answer()), None),
                AttemptOutcome::Cancelled => {
                    let text = "given up, since another one connected";
                    (Some(Arc::new(io::Error::new(io::ErrorKind::Interrupted, text))), None)
                }
                _ => (None, None),
            };
            let elapsed = attempt.started.map(|started| ended.since(started));
            AttemptReport { address: attempt.address.clone(), error, layer, elapsed }
        });
        report.collect()
    }
}

impl Failure {
    pub(super) fn of_connect(error: io::Error) -> Failure {
        Failure { error: Arc::new(error), layer: None }
    }
}

fn no_answer() -> Arc<io::Error> {
    Arc::new(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
}

/// What became of the attempts.
pub(super) enum Progress {
    /// They go on; something is due then.
    Until(Option<Instant>),
    /// This one has connected, and its handshakes are part of the race.
    Reached(usize),
    /// This one serves.
    Won(Runner, Address),
    Failed,
}

impl<H: Host> Reaching<H> {
    pub(super) fn advance(
        &mut self,
        (token, shakes): (u64, bool),
        driver: &mut dyn Driver,
        closed: &mut Vec<Runner>,
        now: Instant,
    ) -> Progress {
        let At::Connecting(race) = &mut self.step else { return Progress::Until(None) };
        while let Some(step) = race.strategy.poll_step() {
            match step {
                Step::Start(index) => {
                    let address = race.strategy.attempts()[index].address.clone();
                    match start(driver, &address, &self.to.local, &self.to.options, token) {
                        Ok((socket, state)) => {
                            race.runners.push(Runner { index, socket, trial: None });
                            match state {
                                Connect::InProgress => {}
                                Connect::Connected if shakes => race.connected.push(index),
                                Connect::Connected => race.strategy.handle_connected(index, now),
                            }
                        }
                        Err(error) => {
                            race.strategy.handle_failed(index, Failure::of_connect(error), now);
                        }
                    }
                }
                Step::Cancel(index) => closed.extend(race.take_runner(index)),
                Step::Done(index) => {
                    let address = race.strategy.attempts()[index].address.clone();
                    return match race.take_runner(index) {
                        Some(runner) => Progress::Won(runner, address),
                        None => Progress::Failed,
                    };
                }
                Step::Failed => return Progress::Failed,
            }
        }
        if let Some(index) = race.connected.pop() {
            return Progress::Reached(index);
        }
        let shaking = race.runners.iter().filter_map(|runner| runner.trial.as_ref()?.deadline());
        let strategy = race.strategy.poll_timeout();
        Progress::Until(strategy.into_iter().chain(shaking).min().filter(|at| *at != Instant::FAR))
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
            driver.set_option(socket, option).map_err(|error| refused(option, &error))?;
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

/// "Operation not permitted" alone would not tell what is not.
fn refused(option: &SocketOption, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option:?} cannot be set: {error}"))
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

/// The local address that a problem with this peer is about.
pub(crate) fn local_of(peer: Option<&Address>, local: &[Address]) -> Option<Address> {
    let chosen = peer.and_then(|peer| local_for(peer, local).ok().flatten());
    chosen.or(local.first()).cloned()
}

/// How a connect ended; `None` while it runs.
pub(super) fn outcome_of(driver: &mut dyn Driver, socket: Descriptor) -> Option<io::Result<()>> {
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
