//! Any PROXY header of version 2.
#![no_main]

include!("../seeded.rs");
seeded!("proxy_v2_tlv");
