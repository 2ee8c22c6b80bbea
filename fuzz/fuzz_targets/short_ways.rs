//! The short ways through a chain against the whole way.
#![no_main]

include!("../seeded.rs");
seeded!("short_ways");
