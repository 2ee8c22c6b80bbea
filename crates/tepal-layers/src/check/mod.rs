//! A kit that tests layers: yours as well as ours.
//!
//! [`check_layer`] feeds one layer the same bytes in every way a wire can deliver them and tells
//! where the outcome differs. [`Bench`] drives one chain by hand with a virtual clock, and
//! [`Pair`] joins two of them.

mod bench;
mod pair;
mod sweep;

pub use bench::{Bench, Seen};
pub use pair::Pair;
pub use sweep::{Case, check_layer};
