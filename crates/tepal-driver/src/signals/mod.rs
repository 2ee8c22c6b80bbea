//! Process signals by `sigaction(2)`.

mod handler;
mod process;

pub use process::ProcessSignals;
