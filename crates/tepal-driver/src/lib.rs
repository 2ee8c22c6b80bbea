//! The seam between tepal and the world outside: every system call is made here.
//!
//! [`Driver`] is everything the rest of tepal knows of an operating system. Engines implement it:
//! `epoll` (Linux, the default there) and `poll` (any Unix); `tepal-sim` implements it over a
//! simulated kernel. The seam is shaped so that engines whose operations complete later (io_uring,
//! IOCP) fit without a second API: bytes move in owned buffers, and the loop *pulls* results after
//! the driver has said that there is something to pull.

#![warn(missing_docs)]

mod access;
mod address;
mod cutoff;
mod driver;
mod engine;
mod entry;
mod errors;
mod event;
pub mod faults;
mod file_stamp;
mod interface;
mod limits;
mod options;
mod process;
mod retired;
mod selector;
mod signal;
mod signals;
mod sigpipe;
mod sockaddr;
mod sys;
mod system_names;

pub use access::Access;
pub use address::{Address, UnixAddress};
pub use cutoff::Cutoff;
pub use driver::{
    Connect, Descriptor, Domain, Driver, Kind, OpenDescriptor, Received, ReceivedFrom, Sent, Wait,
};
pub use engine::{driver_names, open_driver};
pub use errors::is_exhaustion;
pub use event::{Event, Interest, Readiness, Wake, Waker};
pub use file_stamp::FileStamp;
pub use interface::NetworkInterface;
pub use limits::raise_descriptor_limit;
pub use options::{Half, SocketOption};
pub use process::{Child, Command, ExitStatus, Stdio};
pub use retired::Retired;
pub use signal::{Signal, SignalSource};
pub use signals::ProcessSignals;
pub use system_names::{
    SystemAddrInfo, SystemNamesError, SystemQuery, system_getaddrinfo, system_getnameinfo,
};
