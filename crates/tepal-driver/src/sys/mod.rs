//! What differs between Unix systems, under the same names: `linux` for Linux, `unix` for any
//! other.
//!
//! Building with `--cfg tepal_portable` takes `unix` on Linux too, so that it can be tested there.

#[cfg(all(target_os = "linux", not(tepal_portable)))]
mod linux;
#[cfg(not(all(target_os = "linux", not(tepal_portable))))]
mod unix;

#[cfg(all(target_os = "linux", not(tepal_portable)))]
pub(crate) use linux::*;
#[cfg(not(all(target_os = "linux", not(tepal_portable))))]
pub(crate) use unix::*;
