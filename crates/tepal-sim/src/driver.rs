use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tepal_driver::{Descriptor, SocketOption};

use crate::config::Config;
use crate::errno::{Fault, Outcome};
use crate::kernel::{DriverId, SimKernel};
use crate::state::State;
use crate::told::{Telling, Told};
use crate::waiting::Flag;

/// A [`Driver`](tepal_driver::Driver) on a simulated kernel.
///
/// # Time
///
/// `now` costs nothing and moves in waits only. A wait with something ready takes no time; another
/// one jumps to its deadline or to the next arrival. A wait that nothing can end fails in
/// `collect` with [`io::ErrorKind::Deadlock`], whose text names what was waited for.
///
/// # Several drivers on one kernel
///
/// A test steps their loops one after another. The clock does not move while another loop could
/// run, so a wait may end with nothing before its deadline; the test then steps the other loop.
/// A wait that nothing can end returns empty too, for another loop may still do something;
/// [`SimKernel::is_stuck`] tells when none will. A driver that never waits (a test's peer that
/// only makes calls) does not count as a loop: the clock does not stop for it, but it keeps a
/// wait that nothing can end from failing at once. [`Config::stall_limit`] ends a loop that goes
/// on waiting then.
///
/// # Threads
///
/// The driver may move between threads, and its waker be used from any. The clock does not wait
/// for real threads, except as [`Config::thread_patience`] says.
///
/// # What it does not have
///
/// Children and descriptors of the real kernel: `spawn`, `adopt` and `borrow` are `Unsupported`.
/// Dropping the driver closes what is open and counts it in
/// [`Ledger::leaked_descriptors`](crate::Ledger::leaked_descriptors).
///
/// ```
/// use std::io::IoSlice;
/// use tepal_base::Buffer;
/// use tepal_driver::{Address, Domain, Driver, Interest, Kind, Readiness};
/// use tepal_sim::SimDriver;
///
/// let mut driver = SimDriver::new(1);
/// let listener = driver.open(Domain::Inet, Kind::Stream)?;
/// driver.bind(listener, &Address::Ip(([127, 0, 0, 1], 80).into()))?;
/// driver.listen(listener, 16)?;
/// driver.register(listener, 1, Interest::READ)?;
///
/// let client = driver.open(Domain::Inet, Kind::Stream)?;
/// let address = driver.local_address(listener)?;
/// driver.connect(client, &address)?;
/// let wait = driver.prepare(None);
/// let mut events = Vec::new();
/// driver.collect(wait, &mut events)?;
/// assert_eq!((events[0].token, events[0].readiness), (1, Readiness::READABLE));
///
/// let (server, _) = driver.accept(listener)?;
/// driver.send(client, &[IoSlice::new(b"hello")])?;
/// let received = driver.receive(server, Buffer::zeroed(16));
/// assert_eq!(received.result?, 5);
/// assert_eq!(&received.buffer[..5], b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SimDriver {
    pub(crate) kernel: SimKernel,
    pub(crate) driver: usize,
    pub(crate) flag: Arc<Flag>,
}

impl SimDriver {
    /// The only driver of a new kernel with default settings.
    pub fn new(seed: u64) -> SimDriver {
        SimDriver::with(Config::seeded(seed))
    }

    /// The only driver of a new kernel.
    pub fn with(config: Config) -> SimDriver {
        SimKernel::new(config).driver()
    }

    pub(crate) fn attach(kernel: SimKernel, driver: usize, flag: Arc<Flag>) -> SimDriver {
        SimDriver { kernel, driver, flag }
    }

    /// Opens a file of the simulation, to read or to [`send_file`](tepal_driver::Driver::send_file)
    /// it. It counts as always ready.
    ///
    /// # Errors
    ///
    /// `ENOENT` if no test has put it there, `EMFILE`.
    pub fn open_file(&mut self, path: impl AsRef<Path>) -> io::Result<Descriptor> {
        let path = path.as_ref();
        let args = format_args!("{}", path.display());
        self.call("open_file", args, |state, driver| state.open_file(driver, path))
    }

    /// The kernel that this driver is on.
    pub fn kernel(&self) -> &SimKernel {
        &self.kernel
    }

    /// Its name on that kernel.
    pub fn id(&self) -> DriverId {
        DriverId(self.driver)
    }

    /// The options that were set on a socket, the last value of each, in order of setting;
    /// accepted sockets begin with their listener's. Multicast groups are not among them.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    pub fn options(&self, socket: Descriptor) -> io::Result<Vec<SocketOption>> {
        let mut state = self.kernel.lock();
        let id = state.find_socket(self.driver, socket)?;
        Ok(state.socket(id).options.set.clone())
    }

    /// How often each operation was called on this driver; see [`SimKernel::calls`].
    pub fn calls(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.kernel.lock().driver(self.driver).calls.clone()
    }

    /// Runs an operation: counted, traced, and followed by what it makes happen at once.
    pub(crate) fn call<T: Told>(
        &self,
        name: &'static str,
        args: fmt::Arguments<'_>,
        run: impl FnOnce(&mut State, usize) -> Outcome<T>,
    ) -> io::Result<T> {
        let (mut state, driver) = (self.kernel.lock(), self.driver);
        state.note_call(driver, name);
        state.run_due();
        let outcome = run(&mut state, driver);
        let now = state.now;
        match &outcome {
            Ok(value) => {
                let told = Telling(value);
                state.trace.line(now, format_args!("d{driver} {name} {args} -> {told}"));
            }
            Err(fault) => {
                state.trace.line(now, format_args!("d{driver} {name} {args} -> {fault}"));
            }
        }
        state.run_due();
        Ok(outcome?)
    }

    /// An operation that the simulation does not have, on a descriptor that must be right.
    pub(crate) fn refuse<T: Told>(&self, name: &'static str) -> io::Result<T> {
        self.call(name, format_args!(""), |_, _| Err(Fault::Unsupported))
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        let record = self.kernel.lock().remove_driver(self.driver);
        // Its signals' wakers go here, where the lock is free.
        drop(record);
    }
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDriver({} of {:?})", self.driver, self.kernel)
    }
}
