//! Connections as stacks: sans-IO layers, the links between them and the pump that moves bytes.
//!
//! ```text
//!            protocol                      above
//!   data, notices ^   | writes
//!  ---------------+---v---------  link n
//!            [ lines   ]          layer
//!  -----------------------------  link
//!            [ tls     ]          layer
//!  ---------------+---+---------  link 0
//!   bytes read    ^   v bytes to send
//!              wire                        below
//! ```
//!
//! A [`Stack`] is a list of [`LayerSpec`]s, from the wire upward. A [`Chain`] is built from it for
//! one connection attempt: it takes what the wire delivers and what the protocol wants, and gives
//! what the wire is to send, what the protocol is to hear, and one deadline. It does no I/O and
//! reads no clock, so it runs over any wire: the loop's sockets, a test's vectors, another chain.
//!
//! Layers are swapped while the connection runs: see [`Chain::push`] and [`Chain::pop`]. A layer
//! of your own implements [`Layer`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod chain;
#[cfg(feature = "kit")]
pub mod check;
mod connect;
mod detect;
mod error;
mod event;
mod framing;
mod handshake;
mod hello;
mod idle;
mod io;
mod layer;
mod link;
mod network;
mod proxy;
mod rate;
mod scan;
mod socks;
mod spec;
mod tap;
#[cfg(feature = "tls")]
mod tls;
mod unread;
mod workspace;

pub use chain::{Chain, Late, Limits, Residual, Written};
pub use connect::{HttpConnect, HttpConnectServer};
pub use detect::Detect;
pub use error::{Error, ErrorKind, Fault, SocksReply};
pub use event::{Event, How, Info, Notice, ProxyInfo, TlsInfo};
pub use framing::{ByteOrder, Delimiter, LengthPrefixed, Lines, LinesMode, Netstrings};
pub use idle::Idle;
pub use io::{FromAbove, FromBelow, Io, ToAbove, ToBelow};
pub use layer::{Layer, LayerId, Passed, Status, Which, WriteEof};
pub use link::Pauses;
pub use network::Network;
pub use proxy::{ProxyHeader, Untrusted};
pub use rate::{Group, RateLimit};
pub use socks::{ProxyAnswer, ProxyRequest, Socks4, Socks5, SocksServer};
pub use spec::{Host, Keepsakes, LayerSpec, Place, Side, Site, Stack};
pub use tap::Tap;
#[cfg(feature = "tls")]
pub use tls::{
    Certificate, CloseMode, KeyLog, PeerClose, Roots, Tls, TlsBuilder, TlsVersion, WallClock,
};
pub use unread::Unread;
pub use workspace::{Turn, Workspace};
