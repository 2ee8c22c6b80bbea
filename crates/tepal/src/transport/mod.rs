//! Transports: connections, datagram endpoints, and how they end.

mod breaking;
mod closed;
mod datagram;
mod ending;
mod establish;
mod file;
mod flush;
mod hosted;
mod layers;
mod limit;
mod linger;
mod offer;
mod protocol;
mod reach;
mod read;
mod read_out;
mod relay;
mod splice;
mod stream;
mod stream_options;
mod write;

pub use closed::{CloseKind, Closed};
pub(crate) use datagram::Datagram;
pub use datagram::DatagramKey;
pub use file::FileCut;
pub use reach::{
    Addresses, AttemptReport, Backoff, Handshakes, Outbound, Peer, Phase, Problem, ProblemCause,
    ProblemKind, Restart, Timeouts, Unsent,
};
pub(crate) use reach::{local_for, local_of};
pub(crate) use splice::Pipe;
pub(crate) use stream::Stream;
pub use stream_options::{Reads, StreamOptions};
pub use write::Crossing;
