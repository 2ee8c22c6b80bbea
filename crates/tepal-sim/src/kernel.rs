use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tepal_base::Instant;
use tepal_driver::Signal;

use crate::config::Config;
use crate::driver::SimDriver;
use crate::ledger::Ledger;
use crate::state::State;

/// A simulated kernel: one clock, one network, any number of drivers. A cheap handle; clones mean
/// the same kernel.
///
/// Each [`SimDriver`] stands for one process with one loop. The test steps the loops one after
/// another; see [`SimDriver`] for what their waits do then. Everything here may be called at any
/// time between the calls of the drivers, from one thread at a time if the run is to repeat.
///
/// ```
/// use std::time::Duration;
/// use tepal_base::Instant;
/// use tepal_driver::Driver;
/// use tepal_sim::{Config, SimKernel};
///
/// let kernel = SimKernel::new(Config::seeded(42));
/// kernel.put_file("/etc/hosts", "127.0.0.1 localhost\n");
/// let mut driver = kernel.driver();
/// assert_eq!(driver.read_file("/etc/hosts".as_ref(), 9)?, b"127.0.0.1");
///
/// // A wait with nothing ready jumps to its deadline.
/// let hour = Instant::ZERO + Duration::from_secs(3600);
/// let mut wait = driver.prepare(Some(hour));
/// wait.wait();
/// driver.collect(wait, &mut Vec::new())?;
/// assert_eq!(kernel.now(), hour);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SimKernel {
    state: Arc<Mutex<State>>,
}

/// What becomes of what is sent to an IP address that is not a loopback one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Route {
    /// It is an address of this host: sockets can bind to it.
    Local,
    /// It vanishes: connections time out, datagrams are lost.
    Blackhole,
    /// `connect` and `send_to` fail at once with this errno, as `ip route add unreachable` does.
    Error(i32),
}

/// Names a driver of a [`SimKernel`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DriverId(pub(crate) usize);

impl SimKernel {
    /// A kernel at time zero with nothing open.
    pub fn new(config: Config) -> SimKernel {
        SimKernel { state: Arc::new(Mutex::new(State::new(config))) }
    }

    /// One more driver on this kernel.
    pub fn driver(&self) -> SimDriver {
        let (driver, flag) = self.lock().add_driver();
        SimDriver::attach(self.clone(), driver, flag)
    }

    /// The monotonic clock that all drivers share.
    pub fn now(&self) -> Instant {
        self.lock().now
    }

    /// Moves the clock; what arrives until then arrives in its order.
    ///
    /// For tests that call a driver directly. A loop's own waits move the clock by themselves, and
    /// find themselves late after this, as after a stopped process.
    pub fn advance(&self, span: Duration) {
        let mut state = self.lock();
        let end = state.now + span;
        while let Some(next) = state.timeline.next().filter(|next| *next <= end) {
            state.now = state.now.max(next);
            state.run_due();
        }
        state.now = end;
        state.stalled = 0;
    }

    /// The wall clock. It starts at 2026-01-01T00:00:00Z and runs with the monotonic one.
    pub fn wall(&self) -> SystemTime {
        self.lock().wall()
    }

    /// Sets the wall clock, which the monotonic one does not notice.
    ///
    /// A time that would put the clock's origin before what [`SystemTime`] can hold is ignored.
    pub fn set_wall(&self, now: SystemTime) {
        let mut state = self.lock();
        let elapsed = state.now.since(Instant::ZERO);
        if let Some(origin) = now.checked_sub(elapsed) {
            state.wall_origin = origin;
        }
    }

    /// Creates or replaces a file; its time of change is the wall clock's.
    pub fn put_file(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) {
        self.lock().put_file(path.as_ref().to_owned(), bytes.into());
    }

    /// Moves a file to another's place, as `mv` does: with its inode and its time of contents. Does
    /// nothing if there is no such file.
    pub fn rename_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        self.lock().rename_file(from.as_ref(), to.as_ref());
    }

    /// Says what becomes of what is sent to an address. Without this, loopback addresses are
    /// local and all others unreachable (`ENETUNREACH`).
    pub fn set_route(&self, address: IpAddr, route: Route) {
        self.lock().routes.insert(address.to_canonical(), route);
    }

    /// Sends a signal to a driver's process. `false` if nobody there listens for it (a real
    /// process would follow the signal's default, which is mostly its end).
    pub fn raise(&self, driver: DriverId, signal: Signal) -> bool {
        let waker = {
            let mut state = self.lock();
            let found = state.drivers.get_mut(driver.0).and_then(Option::as_mut);
            let subscription = found.and_then(|driver| driver.signals.get_mut(&signal));
            subscription.map(|subscription| {
                subscription.pending = true;
                Arc::clone(&subscription.waker)
            })
        };
        // Outside the lock: the waker may be a host's.
        waker.inspect(|waker| waker.wake()).is_some()
    }

    /// What the kernel holds now.
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger()
    }

    /// How often each operation of [`Driver`](tepal_driver::Driver) was called, by its name, over
    /// all drivers, dropped ones too. `now`, `wall` and `raw_fd`, which cost nothing, are not
    /// counted.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        let state = self.lock();
        let mut sum = state.past_calls.clone();
        for driver in state.drivers.iter().flatten() {
            for (name, count) in &driver.calls {
                *sum.entry(*name).or_insert(0) += count;
            }
        }
        sum
    }

    /// A hash of everything that happened so far: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.lock().trace.hash()
    }

    /// Everything that happened so far, one line each, if [`Config::record_trace`] is on: calls
    /// as `TIME dDRIVER CALL ARGUMENTS -> RESULT`, arrivals as `TIME ~ WHAT`.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.lines()
    }

    /// Whether all loops sleep and nothing simulated can wake any of them: how a test that steps
    /// several loops knows that no step will do anything more.
    pub fn is_stuck(&self) -> bool {
        self.lock().is_stuck()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn shared(&self) -> Arc<Mutex<State>> {
        Arc::clone(&self.state)
    }
}

impl fmt::Debug for SimKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        write!(f, "SimKernel(at {:?}, holds {})", state.now, state.ledger())
    }
}

/// A panic under the lock is a failed test; what comes after may still look at the kernel.
pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
