//! A kit for the tests of programs on tepal (feature `kit`).
//!
//! A [`Simulation`] is an [`EventLoop`](tepal::EventLoop) on a simulated kernel of its own. The
//! program under test is made on it as it would be made in earnest; time passes only when nothing
//! can run, so a test of a back-off of a minute takes no time. A [`Sweep`] runs such a test under
//! many seeds, each with other short reads, late pieces and orders of events, and names the seed
//! that fails. A [`Script`] is a peer that sends and expects what it is told.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use tepal::{Protocol, Transport};
//! use tepal_sim::kit::{Script, Sweep};
//!
//! /// Answers each line with the line.
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
//!         let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
//!         transport.write(&data[..=end]);
//!         end + 1
//!     }
//! }
//!
//! Sweep::seeds(0..20).run(|simulation| {
//!     let event_loop = simulation.event_loop();
//!     let server = event_loop.listen(|_| Echo, "127.0.0.1:7").expect("listens");
//!     let script = Script::new()
//!         .send(b"one\ntwo")
//!         .expect(b"one\n")
//!         .wait(Duration::from_secs(3600))
//!         .send(b"\n")
//!         .expect(b"two\n")
//!         .send_eof()
//!         .expect_eof();
//!     simulation.connect(SocketAddr::from(([127, 0, 0, 1], 7)), script).finish();
//!     server.close();
//! });
//! ```
//!
//! Everything runs in the thread that calls it. What the simulation cannot do (processes, real
//! descriptors, several loops in one test) is told in the documentation of the [crate].

mod player;
mod script;
mod simulation;
mod sweep;

pub use script::{Script, Scripted};
pub use simulation::Simulation;
pub use sweep::Sweep;
pub use tepal_driver::faults::{Faults, Operation};
