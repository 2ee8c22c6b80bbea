//! Any reply to a SOCKS4 request.
#![no_main]

include!("../seeded.rs");
seeded!("socks4_reply");
