//! The PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>): the first bytes of a
//! connection tell who is behind the proxy.

mod crc;
mod read;
mod spec;
mod write;

pub use spec::{ProxyHeader, Untrusted};
