//! Lines against a model.
#![no_main]

include!("../seeded.rs");
seeded!("frame_line");
