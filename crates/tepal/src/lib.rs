//! An event loop with transports and protocols in the line of PEP 3156.
//!
//! A [`Protocol`] says what to do with bytes; a [`Transport`] moves them; the [`EventLoop`] calls
//! the one and drives the other. Nothing here uses a thread of its own.
//!
//! ```
//! use tepal::{EventLoop, Protocol, Transport};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
//!         transport.write(data);
//!         data.len()
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let event_loop = EventLoop::new()?;
//! let server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0")?;
//! println!("listening on {}", server.local_addresses()[0]);
//! # event_loop.stop();
//! event_loop.run_forever()?;
//! # Ok(())
//! # }
//! ```
//!
//! The [`manual`] tells how the loop behaves: what a turn is, how pressure travels, what the count
//! returned by `data_received` means, how connections end.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod engine;
mod event_loop;
pub mod manual;
pub mod names;
pub mod tls;
mod transport;

pub use event_loop::{
    ConnectError, Connecting, DatagramProtocol, DatagramTransport, Drain, Elapsed, Established,
    EventLoop, Handle, Listen, Loop, Pending, Process, ProcessProtocol, Protocol, Remote, Reply,
    Resolve, Resolver, Resolving, Server, Sleep, Target, Task, Timeout, Timer, TimerHandle,
    Transport, Trigger, Watcher,
};
pub use tepal_base::{Buffer, Instant, Segment};
pub use tepal_driver::{
    Address, Command, ExitStatus, Half, Interest, Signal, SocketOption, Stdio, UnixAddress,
    raise_descriptor_limit,
};
pub use tepal_layers as layers;
pub use tepal_layers::{
    Delimiter, Detect, How, HttpConnect, HttpConnectServer, Idle, Info, Late, LayerId, LayerSpec,
    LengthPrefixed, Lines, Netstrings, ProxyHeader, RateLimit, Residual, Side, Socks4, Socks5,
    SocksServer, Stack, Tap, Tls, Which,
};
pub use transport::{
    Addresses, AttemptReport, Backoff, CloseKind, Closed, Crossing, DatagramKey, Handshakes, Phase,
    Problem, ProblemCause, ProblemKind, Reads, Restart, StreamOptions, Timeouts, Unsent,
};
