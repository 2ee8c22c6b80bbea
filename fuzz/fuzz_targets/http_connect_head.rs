//! Any answer to our CONNECT, and any request for one.
#![no_main]

include!("../seeded.rs");
seeded!("http_connect_head");
