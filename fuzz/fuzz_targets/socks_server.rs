//! Any client of our SOCKS proxy.
#![no_main]

include!("../seeded.rs");
seeded!("socks_server");
