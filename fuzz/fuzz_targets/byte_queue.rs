//! The queue of bytes against a vector.
#![no_main]

include!("../seeded.rs");
seeded!("byte_queue");
