//! HTTP CONNECT (RFC 9110, section 9.3.6): client and server.

mod base64;
mod client;
mod head;
mod server;

pub use client::HttpConnect;
pub use server::HttpConnectServer;
