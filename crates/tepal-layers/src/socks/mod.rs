//! SOCKS 4, 4a (<https://www.openssh.com/txt/socks4.protocol>, `socks4a.protocol`) and 5 (RFC
//! 1928, RFC 1929): clients, and a server that asks its owner.

mod address;
mod client4;
mod client5;
mod server;

pub use client4::Socks4;
pub use client5::Socks5;
pub use server::{ProxyAnswer, ProxyRequest, SocksServer};

pub(crate) use server::{AuthHook, RuleHook};
