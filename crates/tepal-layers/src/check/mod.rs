//! A kit that tests layers: yours as well as ours.
//!
//! [`check_layer`] feeds one layer the same bytes in every way a wire can deliver them and tells
//! where the outcome differs, or what the layer owes its neighbours. [`Bench`] drives one chain by hand with a virtual clock, and
//! [`Pair`] joins two of them. [`Shift`] is a layer to put around others.
//!
//! A layer that compresses, from its recipe to its tests:
//!
//! ```
#![doc = include_str!("../../examples/deflate.rs")]
//! ```

mod bench;
mod manners;
mod pair;
mod shift;
mod sweep;

pub use bench::{Bench, Seen};
pub use pair::Pair;
pub use shift::Shift;
pub use sweep::{Case, check_layer};
