//! Random operations on chains against the laws.
#![no_main]

include!("../seeded.rs");
seeded!("layer_ops");
