use std::fmt;
use std::time::Duration;

use tepal::{EventLoop, Listen, Target};
use tepal_base::Instant;
use tepal_driver::faults::{FaultDriver, Faults};

use super::script::{Script, Scripted};
use crate::{Config, SimKernel};

/// How often a condition is looked at, in virtual time.
const TICK: Duration = Duration::from_millis(1);

/// An event loop on a simulated kernel of its own.
///
/// ```
/// use std::time::Duration;
/// use tepal_sim::Config;
/// use tepal_sim::kit::Simulation;
///
/// let simulation = Simulation::new(Config::seeded(7));
/// let day = Duration::from_secs(24 * 3600);
/// let sleep = simulation.event_loop().sleep(day);
/// simulation.complete(day, sleep);
/// assert_eq!(simulation.elapsed(), day);
/// simulation.finish();
/// ```
pub struct Simulation {
    event_loop: EventLoop,
    kernel: SimKernel,
    faults: Faults,
    seed: u64,
}

impl Simulation {
    /// A loop on a kernel like this, at time zero.
    pub fn new(config: Config) -> Simulation {
        let seed = config.seed;
        let kernel = SimKernel::new(config);
        let faults = Faults::new(seed);
        let driver = FaultDriver::new(Box::new(kernel.driver()), &faults);
        let event_loop = EventLoop::with_driver(Box::new(driver));
        Simulation { event_loop, kernel, faults, seed }
    }

    /// The loop, for the program under test.
    pub fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// The kernel: its clock, files, routes, signals, ledger and trace.
    pub fn kernel(&self) -> &SimKernel {
        &self.kernel
    }

    /// What makes chosen calls of the kernel fail.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The seed of the kernel's configuration: for chance of the test's own.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.kernel.now().since(Instant::ZERO)
    }

    /// Runs the loop for this long in virtual time, or until something stops it.
    ///
    /// # Panics
    ///
    /// If the loop fails: it spins without time passing (see
    /// [`stall_limit`](Config::stall_limit)), or a callback's panic comes out of it.
    #[track_caller]
    pub fn run_for(&self, span: Duration) {
        let end = self.event_loop.call_later(span, |lp| lp.stop());
        let ran = self.event_loop.run_forever();
        end.cancel();
        if let Err(error) = ran {
            self.fail(format_args!("the loop fails: {error}"));
        }
    }

    /// Runs the loop until the condition holds. It is looked at each millisecond of virtual time.
    ///
    /// # Panics
    ///
    /// If it does not hold within `limit`, and as [`run_for`](Self::run_for) does.
    #[track_caller]
    pub fn run_until(&self, limit: Duration, condition: impl Fn() -> bool) {
        if !self.run_within(limit, condition) {
            self.fail(format_args!("what is waited for has not come within {limit:?}"));
        }
    }

    // Whether the condition has come to hold.
    #[track_caller]
    pub(super) fn run_within(&self, limit: Duration, condition: impl Fn() -> bool) -> bool {
        let end = self.kernel.now() + limit;
        while !condition() {
            if self.kernel.now() >= end {
                return false;
            }
            self.run_for(TICK);
        }
        true
    }

    /// Runs the loop until the future is done, and returns its value.
    ///
    /// # Panics
    ///
    /// If it is not done within `limit` in virtual time, and with the future's own panic.
    #[track_caller]
    pub fn complete<F: Future>(&self, limit: Duration, future: F) -> F::Output {
        let limited = self.event_loop.timeout(limit, future);
        match self.event_loop.run_until_complete(limited) {
            Ok(Ok(output)) => output,
            Ok(Err(_)) => self.fail(format_args!("the future is not done within {limit:?}")),
            Err(error) => self.fail(format_args!("the future is not done: {error}")),
        }
    }

    /// Accepts connections there, and plays one script with each, in this order. Further
    /// connections are reset.
    ///
    /// # Panics
    ///
    /// If it cannot listen there.
    #[track_caller]
    pub fn serve(
        &self,
        listen: impl Into<Listen>,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Scripted<'_> {
        match Scripted::serve(self, listen.into(), scripts.into_iter().collect()) {
            Ok(scripted) => scripted,
            Err(error) => self.fail(format_args!("a peer cannot listen: {error}")),
        }
    }

    /// Connects to the target, and plays a script.
    pub fn connect(&self, target: impl Into<Target>, script: Script) -> Scripted<'_> {
        Scripted::connect(self, target.into(), script)
    }

    /// Ends the simulation: runs what is left to run for a minute of virtual time, closes the loop,
    /// and looks whether the program has let everything go.
    ///
    /// # Panics
    ///
    /// If the kernel still holds a descriptor, with the ledger in words: a server that was not
    /// closed, a connection that nobody ends.
    #[track_caller]
    pub fn finish(self) {
        self.run_for(Duration::from_secs(60));
        let held = self.kernel.ledger();
        if held.open_descriptors > 0 {
            self.fail(format_args!("at its end the program holds {held}"));
        }
    }

    #[track_caller]
    pub(super) fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        panic!("{what} (seed {}, at {:?})", self.seed, self.elapsed());
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("kernel", &self.kernel)
            .finish()
    }
}
