//! The system's files, read from text that the caller provides.
//!
//! No parser here fails: what cannot be understood is left out, as the C library does, because a
//! half-written file must not take all names away.

mod hosts;
mod nsswitch;
mod policy;
mod resolv;
mod services;

pub use hosts::{Hosts, HostsEntry};
pub use nsswitch::{Module, ModuleAction, ModuleStatus, Nsswitch};
pub use policy::Policy;
pub use resolv::{Environment, ResolvConf};
pub use services::{IpProtocol, Service, Services};
