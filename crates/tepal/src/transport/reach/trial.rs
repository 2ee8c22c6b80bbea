//! Handshakes as part of a race: each attempt has a chain of its own, which is moved here without
//! the protocol. See `shaking.rs`.

use tepal_base::{ByteQueue, Instant};
use tepal_driver::Descriptor;
use tepal_layers::{Chain, Error, Turn};

use super::race::{Failure, Race, Runner};
use super::shaking::is_of_address;
use super::{At, Reaching};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, stream};
use crate::transport::Closed;
use crate::transport::layers::Feed;
use crate::transport::stream::Phase;

/// The handshakes of one attempt of a race.
pub(in crate::transport) struct Trial {
    // None while it is moved.
    chain: Option<Box<Chain>>,
    // What has left the chain and not the process.
    output: ByteQueue,
    blocked: bool,
    deadline: Option<Instant>,
    // Something outside has given a layer work.
    pub(in crate::transport) woken: bool,
}

/// What one step of a trial may move: handshakes are small.
const BUDGET: usize = 256 * 1024;

/// Reads made for one trial in a turn.
const READS: usize = 4;

impl Trial {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl<H: Host> Race<H> {
    pub(super) fn is_shaking(&self) -> bool {
        self.runners.iter().any(|runner| runner.trial.is_some())
    }
}

impl<H: Host> Engine<H> {
    /// Closes what an attempt had, with nothing borrowed.
    pub(super) fn close_runner(&self, runner: Runner) {
        // Nothing of the owner's was sent on it, so nothing can be lost.
        let _ = self.core().driver.borrow_mut().close(runner.socket);
        drop(runner.trial);
    }

    /// An attempt of a race has connected: builds its layers and begins their handshakes.
    pub(super) fn trial_begin(&self, key: StreamKey<H>, index: usize) {
        let now = self.now();
        let (socket, limits) = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            let mut limits = stream.chain_limits();
            let Some(reaching) = &mut stream.outbound else { return };
            let end = reaching.deadline;
            let At::Connecting(race) = &mut reaching.step else { return };
            let waits = race.runner(index).filter(|runner| runner.trial.is_none());
            let Some(socket) = waits.map(|runner| runner.socket) else { return };
            // The layer's own limit tells whose handshake it was; the strategy's is behind it.
            let limit = race.strategy.handshake_end(end, now);
            if limit != Instant::FAR {
                limits.handshake = limits.handshake.min(limit.since(now));
            }
            race.strategy.handle_reached(index, end, now);
            (socket, limits)
        };
        let generation = self.stream_generation(key);
        let built = self.build_chain(key, Some(socket), limits);
        if self.stream_generation(key) != generation {
            return drop(built);
        }
        match built {
            Some(Ok(chain)) => {
                {
                    let mut objects = self.core().objects.borrow_mut();
                    let Some(runner) = runner(&mut objects, key, index) else { return };
                    let deadline = chain.deadline();
                    runner.trial = Some(Box::new(Trial {
                        chain: Some(Box::new(chain)),
                        output: ByteQueue::new(),
                        blocked: false,
                        deadline,
                        woken: false,
                    }));
                }
                self.trial_run(key, index, Feed::Nothing);
            }
            Some(Err(error)) => self.trial_failed(key, index, error),
            None => {}
        }
    }

    /// A trial's socket may have something, or have room.
    pub(super) fn trial_event(&self, key: StreamKey<H>, index: usize) {
        for _ in 0..READS {
            let socket = {
                let mut objects = self.core().objects.borrow_mut();
                let Some(runner) = runner(&mut objects, key, index) else { return };
                let Some(trial) = &mut runner.trial else { return };
                trial.blocked = false;
                if std::mem::take(&mut trial.woken)
                    && let Some(chain) = &mut trial.chain
                {
                    chain.wake();
                }
                runner.socket
            };
            let target = self.take_scratch();
            let mut received = self.core().driver.borrow_mut().receive(socket, target);
            let feed = match received.result {
                Ok(0) if !received.buffer.is_empty() => Feed::Eof,
                Ok(count) => Feed::Bytes(&mut received.buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Feed::Nothing,
                Err(error) => Feed::Error(Error::os(&error)),
            };
            let more = received.more && matches!(feed, Feed::Bytes(_));
            self.trial_run(key, index, feed);
            self.give_scratch(received.buffer);
            if !more {
                return;
            }
        }
        let mut objects = self.core().objects.borrow_mut();
        let again = stream(&mut objects, key)
            .is_some_and(|stream| !std::mem::replace(&mut stream.write_queued, true));
        drop(objects);
        if again {
            self.push_step(key, Step::Write);
        }
    }

    /// Something outside has given a layer work, maybe one of a race's. Whether one runs.
    pub(in crate::transport) fn wake_trials(&self, key: StreamKey<H>) -> bool {
        let queue = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(race) = race(&mut objects, key).filter(|race| race.is_shaking()) else {
                return false;
            };
            let trials = race.runners.iter_mut().filter_map(|runner| runner.trial.as_mut());
            trials.for_each(|trial| trial.woken = true);
            stream(&mut objects, key)
                .is_some_and(|stream| !std::mem::replace(&mut stream.write_queued, true))
        };
        if queue {
            self.push_step(key, Step::Write);
        }
        true
    }

    /// Lets those trials know whose time is over.
    pub(super) fn trial_timeouts(&self, key: StreamKey<H>, now: Instant) {
        let due: Vec<usize> = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            let Some(Reaching { step: At::Connecting(race), .. }) = stream.outbound.as_deref()
            else {
                return;
            };
            let is_due = |runner: &&Runner| {
                runner.trial.as_ref().and_then(|trial| trial.deadline).is_some_and(|at| at <= now)
            };
            race.runners.iter().filter(is_due).map(|runner| runner.index).collect()
        };
        due.into_iter().for_each(|index| self.trial_run(key, index, Feed::Timeout));
    }

    // Moves a trial's bytes. Its layers may be user code, so nothing is borrowed meanwhile, and
    // afterwards the attempt may be another one.
    fn trial_run(&self, key: StreamKey<H>, index: usize, feed: Feed<'_>) {
        let core = self.core();
        let generation = self.stream_generation(key);
        let taken = {
            let mut objects = core.objects.borrow_mut();
            runner(&mut objects, key, index)
                .and_then(|runner| runner.trial.as_mut())
                .and_then(|trial| trial.chain.take())
        };
        let Some(mut chain) = taken else { return };
        let outer = core.pumping.replace(Some(key));
        let turn = Turn::new(self.now(), &core.workspace);
        chain.set_budget(BUDGET);
        match feed {
            Feed::Nothing => {}
            Feed::Bytes(bytes) => chain.receive(turn, bytes),
            Feed::Eof => chain.receive_eof(turn),
            Feed::Error(error) => chain.receive_error(error, turn),
            Feed::Timeout => chain.handle_timeout(turn),
        }
        chain.advance(turn);
        core.pumping.set(outer);
        if self.stream_generation(key) != generation {
            return drop(chain);
        }
        let failed = chain.error().cloned().map(|error| match chain.handshaking() {
            Some(layer) => error.in_layer(layer),
            None => error,
        });
        let ready = failed.is_none() && chain.handshaking().is_none();
        let mut objects = core.objects.borrow_mut();
        let place = runner(&mut objects, key, index);
        let Some(Runner { socket, trial: Some(trial), .. }) = place else {
            drop(objects);
            return drop(chain);
        };
        chain.take_output(&mut trial.output, turn);
        let sent = self.trial_send(*socket, trial);
        trial.deadline = chain.deadline();
        trial.chain = Some(chain);
        drop(objects);
        match (failed, sent) {
            (Some(error), _) => self.trial_failed(key, index, error),
            // What the peer said before is read first; the read fails as well.
            (None, Err(_)) => {}
            (None, Ok(())) if ready => {
                let now = self.now();
                let mut objects = core.objects.borrow_mut();
                if let Some(race) = race(&mut objects, key) {
                    race.strategy.handle_connected(index, now);
                }
            }
            (None, Ok(())) => {}
        }
    }

    fn trial_send(&self, socket: Descriptor, trial: &mut Trial) -> std::io::Result<()> {
        let core = self.core();
        while !trial.output.is_empty() && !trial.blocked {
            let mut slices = [std::io::IoSlice::new(&[]); 16];
            let count = trial.output.io_slices_within(usize::MAX, &mut slices);
            let sent = core.driver.borrow_mut().send(socket, &slices[..count])?;
            trial.output.consume(sent.count, &mut core.workspace.pool());
            trial.blocked = sent.blocked;
        }
        Ok(())
    }

    // A handshake of the race has failed.
    fn trial_failed(&self, key: StreamKey<H>, index: usize, error: Error) {
        let now = self.now();
        let gone = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(race) = race(&mut objects, key) else { return };
            let gone = race.take_runner(index);
            race.shaken = Some(Closed::of_layer(error.clone(), true).in_layer(Some(error.layer())));
            let failure = Failure::of_layer(&error);
            match is_of_address(&error) {
                true => race.strategy.handle_failed(index, failure, now),
                false => race.strategy.handle_refused(index, failure, now),
            }
            gone
        };
        gone.into_iter().for_each(|runner| self.close_runner(runner));
    }

    /// An attempt of a race has finished its handshakes before all others: it is the stream's.
    pub(super) fn stream_wire_ready(&self, key: StreamKey<H>, trial: Trial) -> Flow {
        let timer = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            stream.phase = Phase::Handshaking;
            stream.output = trial.output;
            stream.blocked = trial.blocked;
            // What came behind the handshake may stand in the kernel; its event is over.
            stream.readable = true;
            if let (Some(layers), Some(chain)) = (&mut stream.layers, trial.chain) {
                layers.look_at_all(&chain);
                layers.chain = Some(chain);
            }
            stream.timer
        };
        if let Some(timer) = timer {
            self.timer_disarm(timer);
        }
        self.stream_pump(key, Feed::Nothing)?;
        self.read_on(key);
        self.flush_stream(key)
    }
}

fn race<H: Host>(
    objects: &mut tepal_base::Slab<crate::engine::Object<H>>,
    key: StreamKey<H>,
) -> Option<&mut Race<H>> {
    match stream(objects, key)?.outbound.as_deref_mut() {
        Some(Reaching { step: At::Connecting(race), .. }) => Some(race),
        _ => None,
    }
}

fn runner<H: Host>(
    objects: &mut tepal_base::Slab<crate::engine::Object<H>>,
    key: StreamKey<H>,
    index: usize,
) -> Option<&mut Runner> {
    race(objects, key)?.runner(index)
}
