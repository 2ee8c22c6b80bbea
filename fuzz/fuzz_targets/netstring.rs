//! Netstrings against a model.
#![no_main]

include!("../seeded.rs");
seeded!("netstring");
