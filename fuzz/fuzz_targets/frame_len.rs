//! Frames with a length before them against a model.
#![no_main]

include!("../seeded.rs");
seeded!("frame_len");
