//! A simulated kernel behind the [`Driver`](tepal_driver::Driver) trait: the same compiled program
//! runs above it, in virtual time, and every run of a seed is the same run.
//!
//! ```text
//!   loop and transports          loop and transports
//!          |                            |
//!     SimDriver 0                  SimDriver 1        one per simulated loop
//!          +-------------+-------------+
//!                    SimKernel                        one clock, one network, one ledger
//! ```
//!
//! * [`SimDriver::new`] is all that most tests need. [`SimKernel`] makes several drivers on one
//!   network.
//! * Sockets behave as Linux's do, down to which error comes first after a reset; the tests of
//!   this crate say where each behaviour was seen.
//! * Time moves in waits only. A wait that nothing can end fails with
//!   [`Deadlock`](std::io::ErrorKind::Deadlock) and names what was waited for.
//! * [`Disturbance`] makes the kernel as unfriendly as POSIX allows: short reads and writes,
//!   spurious events, late pieces.
//! * [`Ledger`] tells what is still open or in flight, for the end of a test.
//! * With the feature `kit`, the module `kit` has what tests of a program on `tepal` want.
//!
//! ```
//! use std::time::Duration;
//! use tepal_driver::Driver;
//! use tepal_sim::SimDriver;
//!
//! let mut driver = SimDriver::new(1);
//! let deadline = driver.now() + Duration::from_secs(24 * 3600);
//! let mut wait = driver.prepare(Some(deadline));
//! wait.wait(); // takes no real time
//! driver.collect(wait, &mut Vec::new())?;
//! assert_eq!(driver.now(), deadline);
//!
//! // Now nothing can end a wait.
//! let wait = driver.prepare(None);
//! let error = driver.collect(wait, &mut Vec::new()).unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Bytes on the simulated network are bytes: nothing above the socket is imitated. What is not
//! simulated at all (children, terminals, urgent data, ancillary data) answers `Unsupported` or
//! has no call in the trait.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod config;
mod connect;
mod datagram;
mod driver;
mod ends;
mod errno;
mod files;
mod kernel;
#[cfg(feature = "kit")]
pub mod kit;
mod ledger;
mod operations;
mod options;
mod ports;
mod random;
mod readiness;
mod signals;
mod socket;
mod state;
mod stream;
mod timeline;
mod told;
mod trace;
mod transfer;
mod waiting;

pub use config::{Config, Disturbance};
pub use driver::SimDriver;
pub use kernel::{DriverId, Route, SimKernel};
pub use ledger::Ledger;
