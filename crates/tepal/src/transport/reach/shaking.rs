//! Handshakes, and the addresses that are left when one fails.
//!
//! By default the first address that connects is the stream's, and its layers make their handshakes
//! there as those of any stream do. Only if they fail is the next address tried. Where handshakes
//! are part of a race, each attempt has a chain of its own, which nobody is told of: it is moved
//! here, without the protocol, until all its layers are ready. Then it becomes the stream's, with
//! everything that it has to tell still in it.

use std::sync::Arc;

use tepal_base::Instant;
use tepal_layers::{Error, ErrorKind, Fault};

use super::race::Failure;
use super::{At, Phase as PublicPhase, Reaching};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, stream};
use crate::transport::Closed;
use crate::transport::stream::{Phase, Stream};

/// What a failed handshake means for the addresses that are left.
///
/// In any case the time for connecting ([`Timeouts::connecting`](crate::Timeouts)) stands still
/// during handshakes, each of which has its own ([`Timeouts::handshake`](crate::Timeouts)).
/// [`Timeouts::total`](crate::Timeouts) limits all of it; where addresses are tried one after
/// another it is shared out among those that are left, so that a peer that connects and then is
/// silent does not use it up.
///
/// An error that another address would give again ends the attempt at once: settings of ours that
/// cannot work, and credentials that were refused (which a peer might count).
///
/// ```
/// use tepal::{Handshakes, Target};
///
/// // As asyncio has it: a certificate that is refused is the end, for all addresses.
/// let target = Target::host("www.example", 443).handshakes(Handshakes::Once);
/// # let _ = target;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Handshakes {
    /// None is tried: the first address that connects decides, as asyncio has it.
    Once,
    /// The next address is tried.
    #[default]
    Next,
    /// Handshakes are part of the race: the next attempt begins after the delay though a connect
    /// has succeeded, the first to finish all handshakes wins, and the others are closed
    /// (RFC 8305, section 5, with "connection established" read as in later drafts). It costs
    /// peers handshakes in vain, and is for those that accept connections and then are slow.
    /// Where addresses are tried one after another it is the same as `Next`.
    Race,
}

impl<H: Host> Reaching<H> {
    /// Until when the handshakes of an address may take that has just connected.
    pub(in crate::transport) fn handshake_end(&self, now: Instant) -> Instant {
        match &self.step {
            At::Chosen(race) if self.to.handshakes != Handshakes::Once => {
                race.strategy.handshake_end(self.deadline, now)
            }
            _ => self.deadline,
        }
    }
}

/// Whether another address may have a better answer.
pub(super) fn is_of_address(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::AuthRefused | ErrorKind::NoAuthMethod | ErrorKind::HttpStatus(401 | 407) => {
            false
        }
        ErrorKind::TlsCertificate => true,
        _ => !matches!(error.fault(), Fault::Local | Fault::Misuse),
    }
}

impl<H: Host> Engine<H> {
    /// Every address was tried, and a handshake is what failed last but for connects.
    pub(super) fn stream_unshaken(
        &self,
        key: StreamKey<H>,
        mut closed: Closed,
        now: Instant,
    ) -> Flow {
        {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            if let Some(reaching) = &mut stream.outbound {
                let shaken = reaching.reports.iter().rfind(|report| report.layer.is_some());
                reaching.address =
                    shaken.map(|report| report.address.clone()).or(reaching.address.take());
            }
            closed.problem = stream.problem_in(PublicPhase::Handshake, &closed, now);
            if let Some(reaching) = &mut stream.outbound {
                reaching.problem.clone_from(&closed.problem);
            }
        }
        self.fail_stream(key, closed, true)
    }

    // What stands in the output already, in one call.
    fn send_last_words(&self, key: StreamKey<H>) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if let (Some(socket), false, false) =
            (stream.descriptor, stream.output.is_empty(), stream.blocked)
        {
            let mut slices = [std::io::IoSlice::new(&[]); 16];
            let count = stream.output.io_slices_within(usize::MAX, &mut slices);
            let sent = core.driver.borrow_mut().send(socket, &slices[..count]);
            // A peer that does not hear why is no worse off than one whose wire broke.
            if let Ok(sent) = sent {
                stream.output.consume(sent.count, &mut core.workspace.pool());
                stream.blocked = sent.blocked;
            }
        }
    }

    /// A handshake of the stream's own has failed. Whether the next address is tried instead of
    /// telling anybody; that begins in a later step, since the caller may be the pump.
    pub(in crate::transport) fn stream_next_address(
        &self,
        key: StreamKey<H>,
        closed: &Closed,
    ) -> bool {
        let now = self.now();
        let core = self.core();
        let (lost, socket, output, timer) = {
            // An alert that was just made is given to the kernel as far as that takes it.
            self.send_last_words(key);
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return false };
            if stream.phase != Phase::Handshaking || stream.closing {
                return false;
            }
            let Some(reaching) = &mut stream.outbound else { return false };
            let At::Chosen(race) = &mut reaching.step else { return false };
            let failure = Failure::of_closed(closed);
            let address = reaching.address.clone();
            let winner = race.strategy.attempts().iter().position(|attempt| {
                Some(&attempt.address) == address.as_ref()
                    && matches!(attempt.outcome, tepal_names::strategy::AttemptOutcome::Connected)
            });
            let Some(winner) = winner else { return false };
            let asked = reaching.again.is_some();
            let of_address = closed.layer_error.as_ref().is_none_or(is_of_address);
            let goes_on = reaching.to.handshakes != Handshakes::Once;
            let may = goes_on && of_address && !asked && now < reaching.deadline;
            let goes_on = race.strategy.handle_lost(winner, failure, may, now);
            reaching.reports = race.reports(now);
            if !goes_on {
                return false;
            }
            race.shaken = Some(closed.clone());
            let At::Chosen(race) = std::mem::replace(&mut reaching.step, At::Nothing) else {
                return false;
            };
            reaching.step = At::Connecting(race);
            stream.phase = Phase::Connecting;
            stream.write_queued = true;
            let (lost, output) = stream.rewind_layers();
            (lost, stream.descriptor.take(), output, stream.timer)
        };
        self.stream_lose_layers(lost, closed);
        drop(output);
        if let Some(socket) = socket {
            let _ = core.driver.borrow_mut().close(socket);
        }
        if let Some(timer) = timer {
            self.timer_disarm(timer);
        }
        self.push_step(key, Step::Write);
        true
    }
}

impl<H: Host> Stream<H> {
    /// All layers are ready: other addresses will not be tried. What is given back is to be
    /// abandoned.
    pub(in crate::transport) fn forget_addresses(&mut self) -> At<H> {
        match &mut self.outbound {
            Some(reaching) if matches!(reaching.step, At::Chosen(_)) => {
                std::mem::replace(&mut reaching.step, At::Nothing)
            }
            _ => At::Nothing,
        }
    }
}

impl Failure {
    pub(super) fn of_layer(error: &Error) -> Failure {
        let layer = Some(error.layer()).filter(|name| !name.is_empty());
        Failure { error: Arc::new(error.clone().into()), layer }
    }

    fn of_closed(closed: &Closed) -> Failure {
        let error = match (&closed.error, &closed.layer_error) {
            (Some(error), _) => Arc::clone(error),
            (None, Some(error)) => Arc::new(error.clone().into()),
            (None, None) => Arc::new(std::io::Error::other(closed.clone())),
        };
        Failure { error, layer: closed.layer() }
    }
}
