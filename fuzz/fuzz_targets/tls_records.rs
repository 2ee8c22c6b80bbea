//! TLS over a wire that edits records.
#![no_main]

include!("../seeded.rs");
seeded!("tls_records");
