//! Anything where a PROXY header is mandatory.
#![no_main]

include!("../seeded.rs");
seeded!("proxy_v1");
