use std::time::Duration;

use super::limit::Limit;
use super::stream::Stream;
use crate::engine::{Engine, Host, StreamKey, stream};

/// How a stream behaves, where its users have not said.
///
/// ```
/// let options = tepal::StreamOptions::default();
/// assert_eq!(options.closing_timeout, Some(std::time::Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How long `close` waits while the peer takes no byte; `None`: for ever, as asyncio does. All
    /// spans count in whole milliseconds, rounded up; more than 49 days is for ever.
    pub closing_timeout: Option<Duration>,
    /// Whether [`pause_writing`](crate::engine::StreamProtocol::pause_writing) and its twin are
    /// called by the engine.
    pub tell_pressure: bool,
    /// How long each layer's handshake may take, from when the layer below it is ready.
    pub handshake_timeout: Duration,
    /// How long a close waits for the peer's answer to a layer's goodbye once all bytes have left,
    /// where `closing_timeout` sets no limit.
    pub shutdown_timeout: Duration,
    /// What is done with the direction toward us. It counts when the stream is made.
    pub reads: Reads,
}

/// What a stream does with the direction toward us.
///
/// ```
/// use tepal::{Reads, StreamOptions};
///
/// let mut options = StreamOptions::default();
/// assert_eq!(options.reads, Reads::Bytes);
/// options.reads = Reads::Gone; // for the write end of a pipe
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Reads {
    /// Bytes are received.
    #[default]
    Bytes,
    /// Nothing is: the write end of a pipe. That there would be something to read, an end or an
    /// error means that whoever reads the other end is gone, and so is the stream then:
    /// [`PeerEof`](crate::CloseKind::PeerEof) if everything written had left, else
    /// [`BrokenPipe`](crate::CloseKind::BrokenPipe).
    Gone,
    /// Nothing is, and nothing is concluded from what there would be to read: a terminal from which
    /// others read. Only a failed write ends the stream.
    Nothing,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions {
            closing_timeout: Some(Duration::from_secs(5)),
            tell_pressure: true,
            handshake_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
            reads: Reads::Bytes,
        }
    }
}

impl<H: Host> Stream<H> {
    pub(super) fn set_options(&mut self, options: StreamOptions) {
        self.closing_timeout = Limit::new(options.closing_timeout);
        self.tell_pressure = options.tell_pressure;
        self.handshake_timeout = Limit::new(Some(options.handshake_timeout));
        self.shutdown_timeout = Limit::new(Some(options.shutdown_timeout));
        self.reads = options.reads;
    }
}

impl<H: Host> Engine<H> {
    /// Sets how long a close may wait while the peer takes no byte; `None`: for ever. For a close
    /// that has begun, from the next byte on.
    pub fn stream_set_closing_timeout(&self, key: StreamKey<H>, timeout: Option<Duration>) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.closing_timeout = Limit::new(timeout);
        }
    }

    /// Sets a stream's options.
    pub fn stream_set_options(&self, key: StreamKey<H>, options: StreamOptions) {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.set_options(options);
        }
    }
}
