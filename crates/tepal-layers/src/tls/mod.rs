//! TLS client and server, on rustls.
//!
//! [`layer`] is the layer and knows no TLS library; [`engine`] is what it needs of one; `rustls`
//! is the only module that names rustls' types, since its next release changes them. It uses the
//! unbuffered interface: bytes are decrypted where the wire's reader put them, and bytes behind
//! close_notify stay where they are for the next layer, where the buffered interface drops them.

mod adapters;
mod certificate;
mod engine;
mod layer;
mod resolver;
mod rustls;
mod spec;

pub use certificate::{Certificate, Roots};
pub use spec::{CloseMode, KeyLog, PeerClose, Tls, TlsBuilder, TlsVersion, WallClock};
