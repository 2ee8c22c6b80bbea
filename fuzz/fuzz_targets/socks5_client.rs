//! Any replies to a SOCKS5 client.
#![no_main]

include!("../seeded.rs");
seeded!("socks5_client");
