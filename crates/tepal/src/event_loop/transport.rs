use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use tepal_base::Segment;
use tepal_driver::{Address, Descriptor, Driver, SocketOption};

use super::fate::ClosedCell;
use super::host::{Bound, RustHost};
use super::{Loop, Pending, Protocol};
use crate::engine::{Outcome, StreamKey};
use crate::{Closed, Crossing};

/// A stream connection: what a [`Protocol`] writes to. Cheap to clone; dropping it closes nothing.
///
/// All methods may be called inside any callback, and after the end of the connection, when they
/// do nothing. None of them calls a protocol.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Closed, Protocol, Transport};
///
/// struct Greets;
///
/// impl Protocol for Greets {
///     fn connection_established(&mut self, transport: &Transport) {
///         transport.write(b"hello, ");
///         transport.write(b"world"); // leaves with the first
///         transport.close(); // once both have
///     }
///     fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
///         assert!(closed.is_clean() && transport.is_closing());
///         transport.event_loop().stop();
///     }
/// }
///
/// let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
/// event_loop.attach(Greets, ours.into())?;
/// event_loop.run_forever()?;
/// assert_eq!(std::io::read_to_string(&mut theirs)?, "hello, world");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transport {
    pub(super) lp: Loop,
    pub(super) key: StreamKey<RustHost>,
    pub(super) closed: ClosedCell,
}

impl Transport {
    pub(super) fn new(lp: Loop, key: StreamKey<RustHost>, closed: ClosedCell) -> Transport {
        Transport { lp, key, closed }
    }

    pub(super) fn key(&self) -> StreamKey<RustHost> {
        self.key
    }

    /// Nobody waits for `io_out`: it need not be queued at every write.
    pub(super) fn decline_io_out(&self) {
        self.lp.engine().stream_decline_io_out(self.key);
    }

    pub(super) fn remember(&self, closed: &Closed) {
        self.closed.lost(closed);
    }

    /// The loop.
    pub fn event_loop(&self) -> &Loop {
        &self.lp
    }

    /// Queues a copy of `bytes`; all writes of a turn leave together at its end. A write of 16 KiB
    /// or more with nothing queued goes to the kernel at once, without a copy.
    ///
    /// Returns [`Crossing::High`] if the buffer rose above the high mark; the protocol hears of it
    /// ([`Protocol::pause_writing`]) in the next turn. Bytes written after [`close`](Self::close)
    /// are dropped.
    pub fn write(&self, bytes: &[u8]) -> Crossing {
        self.lp.engine().stream_write(self.key, bytes)
    }

    /// Queues bytes that need no copy: a `Vec<u8>`, a `String`, static bytes.
    pub fn write_segment(&self, segment: impl Into<Segment>) -> Crossing {
        self.lp.engine().stream_write_segment(self.key, segment.into())
    }

    /// Queues several pieces in order.
    pub fn writelines<I>(&self, pieces: I) -> Crossing
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        pieces.into_iter().fold(Crossing::None, |before, piece| match self.write(piece.as_ref()) {
            Crossing::High => Crossing::High,
            Crossing::None => before,
        })
    }

    /// Ends our direction once all is sent; the peer sees the end of the stream.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the end of the connection.
    pub fn write_eof(&self) -> io::Result<()> {
        self.lp.engine().stream_write_eof(self.key)
    }

    /// Closes once all is sent; reads no more. `connection_lost` follows in a later turn, at the
    /// latest when the peer has taken nothing for the
    /// [closing time-out](Self::set_closing_timeout).
    ///
    /// An attempt that has not led to a connection yet is given up at once, and with it what was
    /// written early: [`Closed::unsent`] counts it.
    pub fn close(&self) {
        self.lp.engine().stream_close(self.key);
    }

    /// Sets how long [`close`](Self::close) may wait while the peer takes no byte; five seconds
    /// unless set, `None`: for ever, as asyncio does. Each byte that leaves begins it anew, and its
    /// expiry is reported as [`ClosingTimedOut`](crate::CloseKind::ClosingTimedOut). For a close
    /// that has begun it holds from the next byte on.
    pub fn set_closing_timeout(&self, timeout: Option<Duration>) {
        self.lp.engine().stream_set_closing_timeout(self.key, timeout);
    }

    /// Closes at once: what is queued is dropped, and the peer gets a reset.
    pub fn abort(&self) {
        self.lp.engine().stream_abort(self.key);
    }

    /// Whether the connection is closing or closed.
    pub fn is_closing(&self) -> bool {
        self.lp.engine().stream_is_closing(self.key)
    }

    /// Whether bytes may flow.
    pub fn is_established(&self) -> bool {
        self.lp.engine().stream_is_established(self.key)
    }

    /// How the connection ended; `None` while it has not.
    pub fn closed(&self) -> Option<Closed> {
        self.lp.engine().stream_closed(self.key).or_else(|| self.closed.last())
    }

    /// Stops `data_received` until [`resume_reading`](Self::resume_reading), also for bytes that
    /// are buffered.
    pub fn pause_reading(&self) {
        self.lp.engine().stream_pause_reading(self.key, true);
    }

    /// Lets `data_received` go on, in a later turn.
    pub fn resume_reading(&self) {
        self.lp.engine().stream_pause_reading(self.key, false);
    }

    /// Another name for [`pause_reading`](Self::pause_reading).
    pub fn pause_in(&self) {
        self.pause_reading();
    }

    /// Another name for [`resume_reading`](Self::resume_reading).
    pub fn resume_in(&self) {
        self.resume_reading();
    }

    /// Whether reading is neither paused nor over.
    pub fn is_reading(&self) -> bool {
        self.lp.engine().stream_is_reading(self.key)
    }

    /// Says not to call `data_received` with fewer than `low` bytes, except at the end of the
    /// stream; so a large message is looked at once and not at each piece.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `low` is above the limit of [`set_read_limit`](Self::set_read_limit).
    pub fn set_read_low(&self, low: usize) -> io::Result<()> {
        self.lp.engine().stream_set_read_low(self.key, low)
    }

    /// How many bytes may stay unused before the connection is ended; 256 KiB unless set.
    pub fn set_read_limit(&self, limit: usize) {
        self.lp.engine().stream_set_read_limit(self.key, limit);
    }

    /// Sets between which numbers of queued bytes the protocol is told to pause and to resume;
    /// 16 and 64 KiB unless set.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless `low <= high`.
    pub fn set_write_buffer_limits(&self, low: usize, high: usize) -> io::Result<()> {
        self.lp.engine().stream_set_write_marks(self.key, low, high).map(|_| ())
    }

    /// The low and the high mark.
    pub fn write_buffer_limits(&self) -> (usize, usize) {
        self.lp.engine().stream_write_marks(self.key)
    }

    /// How many bytes wait to be sent. O(1).
    pub fn write_buffer_size(&self) -> usize {
        self.lp.engine().stream_buffered(self.key)
    }

    /// Queues `count` bytes of a file from `offset` on, behind what was written before; the kernel
    /// reads them straight from the file (`sendfile(2)`). The value is how many bytes the kernel
    /// took: fewer if the file is shorter.
    ///
    /// # Errors
    ///
    /// At once `NotConnected` if the transport is closing. In the operation: the file's errors,
    /// which leave the connection as it is, and `ConnectionAborted` if the connection ended first.
    pub fn send_file(
        &self,
        file: std::fs::File,
        offset: u64,
        count: u64,
    ) -> io::Result<Pending<io::Result<u64>>> {
        let engine = self.lp.engine();
        let file = engine.with_driver(|driver| driver.adopt(file.into()))?;
        let (operation, finish) = Pending::new();
        let completion = Box::new(move |_: &Loop, outcome: Outcome| {
            if let Outcome::FileSent(result) = outcome {
                finish(result);
            }
        });
        engine
            .stream_send_file(self.key, file, offset, count, completion)
            .map_err(|(error, _)| error)?;
        Ok(operation)
    }

    /// Relays between this connection and another inside the loop: neither protocol is given bytes
    /// any more. An end of input on one side ends the output of the other; when both directions
    /// have ended, both are closed. If one is lost, the other closes, and if one was reset the other
    /// is, too: each once what was passed on has arrived, or its peer has taken nothing for the
    /// closing time-out. The value is how many bytes went from here to there, and back.
    ///
    /// # Errors
    ///
    /// At once `NotConnected` if one of them is not established, `InvalidInput` if one is joined
    /// already or the other is of another loop. In the operation: how a connection was lost.
    pub fn join(&self, other: &Transport) -> io::Result<Pending<io::Result<(u64, u64)>>> {
        if !self.lp.is(&other.lp) {
            let text = "connections of two loops cannot be joined";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (operation, finish) = Pending::new();
        let completion = Box::new(move |_: &Loop, outcome: Outcome| {
            if let Outcome::Joined(result) = outcome {
                finish(result);
            }
        });
        let engine = self.lp.engine();
        engine.stream_join(self.key, other.key, completion).map_err(|(error, _)| error)?;
        Ok(operation)
    }

    /// Replaces the protocol, which is dropped; inside its own callback, after that. The new one
    /// gets what the old one left unread.
    pub fn set_protocol(&self, protocol: impl Protocol) {
        let protocol = Bound::new(Box::new(protocol), Rc::clone(&self.closed));
        self.lp.engine().stream_set_protocol(self.key, protocol);
    }

    /// Replaces the protocol by one that then hears everything from `connection_made` on, as if the
    /// established connection were new.
    pub(super) fn begin_with(&self, protocol: Box<dyn Protocol>) {
        let protocol = Bound::new(protocol, Rc::clone(&self.closed));
        self.lp.engine().stream_begin_again(self.key, protocol);
    }

    /// The address of our side.
    ///
    /// # Errors
    ///
    /// `NotConnected` without a socket, and the kernel's.
    pub fn local_address(&self) -> io::Result<Address> {
        self.ask(|driver, socket| driver.local_address(socket))
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// As for [`local_address`](Self::local_address).
    pub fn peer_address(&self) -> io::Result<Address> {
        self.ask(|driver, socket| driver.peer_address(socket))
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    ///
    /// As for [`local_address`](Self::local_address).
    pub fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        self.ask(|driver, socket| driver.set_option(socket, option))
    }

    /// The descriptor's number, which stays the transport's: do not read, write or close it.
    pub fn raw_fd(&self) -> Option<RawFd> {
        let descriptor = self.lp.engine().stream_descriptor(self.key)?;
        self.lp.engine().with_driver(|driver| driver.raw_fd(descriptor))
    }

    fn ask<R>(
        &self,
        ask: impl FnOnce(&mut dyn Driver, Descriptor) -> io::Result<R>,
    ) -> io::Result<R> {
        let Some(socket) = self.lp.engine().stream_descriptor(self.key) else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the transport has no socket"));
        };
        self.lp.engine().with_driver(|driver| ask(driver, socket))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("key", &self.key).finish_non_exhaustive()
    }
}
