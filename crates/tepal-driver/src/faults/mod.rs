//! A driver that fails when told to, for tests.
//!
//! [`FaultDriver`] stands before any other driver; the program above it is the one that runs in
//! earnest. A shared handle, [`Faults`], scripts what goes wrong: the n-th call of an operation
//! fails with a chosen errno, reads and writes are short, descriptors are reported ready that are
//! not, or say `WouldBlock` although they are ready, waits end early. All chance comes from a seed.
//! It also counts the calls of each [`Operation`], for tests with a budget.
//!
//! Whatever it makes up, it keeps to the contract of [`Driver`](crate::Driver): after a
//! `WouldBlock` of its own it reports the descriptor again in the next wait, which then does not
//! block; events that it holds back because a wait was made to fail come with the next.
//!
//! ```
//! use tepal_driver::faults::{FaultDriver, Faults, Operation};
//! use tepal_driver::{Domain, Driver, Kind, open_driver};
//!
//! let faults = Faults::new(1);
//! let mut driver = FaultDriver::new(open_driver(None)?, &faults);
//! faults.fail(Operation::Open, 2, libc::EMFILE);
//! assert!(driver.open(Domain::Inet, Kind::Stream).is_ok());
//! let error = driver.open(Domain::Inet, Kind::Stream).unwrap_err();
//! assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
//! assert!(driver.open(Domain::Inet, Kind::Stream).is_ok());
//! assert_eq!((faults.count(Operation::Open), faults.injected()), (3, 1));
//! # std::io::Result::Ok(())
//! ```

mod driver;
mod script;

pub use driver::FaultDriver;
pub use script::{Faults, Operation};
