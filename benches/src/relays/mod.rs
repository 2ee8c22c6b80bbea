//! The relays that are compared. Each listens on a port of 127.0.0.1 that the kernel chooses and
//! carries the bytes of a connection to TARGET and back.

mod bare;
mod tepal_join;
mod tokio_copy;

use std::net::SocketAddr;

use crate::options::Failure;
use crate::program;

/// Their names, the one that is compared with all others last. socat is a program of its own.
pub(crate) const NAMES: &[&str] = &["bare-copy", "bare-splice", "tokio", "socat", "tepal"];

/// `serve-relay NAME TARGET`
pub(crate) fn serve(name: &str, target: &str) -> Result<(), Failure> {
    let target: SocketAddr =
        target.parse().map_err(|_| Failure::usage(format!("{target:?} is no address")))?;
    program::enter()?;
    match name {
        "bare-copy" => bare::serve::<bare::Copy>(target),
        "bare-splice" => bare::serve::<bare::Splice>(target),
        "tokio" => tokio_copy::serve(target),
        "tepal" => tepal_join::serve(target),
        // A further relay is a module here, a name in NAMES and a line in this match.
        other => Err(Failure::usage(format!("there is no relay {other:?}: {}", NAMES.join(", ")))),
    }
}
