//! The echo servers that are compared. Each listens on a port of 127.0.0.1 that the kernel chooses,
//! reads with 64 KiB at most, sets `TCP_NODELAY`, and runs until it is ended.

mod bare_epoll;
mod bare_tls;
mod certificate;
mod tepal_echo;
mod tokio_echo;

use crate::options::Failure;
use crate::program;

/// How much one read may bring, the same for all servers and relays.
pub(crate) const READ_SIZE: usize = 64 << 10;

/// Their names, the one that the others are compared with first.
pub(crate) const NAMES: &[&str] = &["bare-epoll", "bare-epoll-edge", "tokio", "tepal"];

/// Those over TLS.
pub(crate) const TLS_NAMES: &[&str] = &["bare-tls", "tokio-tls", "tepal-tls"];

/// What `echo` compares unless told otherwise.
pub(crate) const DEFAULT: &str = "bare-epoll,tokio,tepal";

/// `serve NAME`
pub(crate) fn serve(name: &str) -> Result<(), Failure> {
    program::enter()?;
    match name {
        "bare-epoll" => bare_epoll::serve(bare_epoll::Trigger::Level),
        "bare-epoll-edge" => bare_epoll::serve(bare_epoll::Trigger::Edge),
        "tokio" => tokio_echo::serve(),
        "tepal" => tepal_echo::serve(false),
        "bare-tls" => bare_tls::serve(),
        "tokio-tls" => tokio_echo::serve_tls(),
        "tepal-tls" => tepal_echo::serve(true),
        // A further server is a module here, a name in NAMES and a line in this match.
        other => Err(Failure::usage(format!("there is no server {other:?}: {}", NAMES.join(", ")))),
    }
}
