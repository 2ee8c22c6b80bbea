//! Any first bytes where several stacks wait for theirs.
#![no_main]

include!("../seeded.rs");
seeded!("client_hello");
