use std::fmt;
use std::io;

use tepal_driver::{Address, Descriptor, Driver, SocketOption};

use super::Loop;
use super::host::RustHost;
use crate::{Crossing, DatagramKey};

/// A datagram endpoint. Cheap to clone; dropping it closes nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Address, DatagramProtocol, SocketOption};
///
/// struct Quiet;
/// impl DatagramProtocol for Quiet {}
///
/// let any = Address::Ip("127.0.0.1:0".parse().expect("an address"));
/// let endpoint = event_loop.datagram(Quiet, Some(any), None)?;
/// endpoint.set_option(&SocketOption::Broadcast(true))?;
/// let to_itself = endpoint.local_address()?;
/// endpoint.send_to(b"", Some(&to_itself))?; // may be empty
/// endpoint.close();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DatagramTransport {
    lp: Loop,
    key: DatagramKey<RustHost>,
}

impl DatagramTransport {
    pub(super) fn new(lp: Loop, key: DatagramKey<RustHost>) -> DatagramTransport {
        DatagramTransport { lp, key }
    }

    /// The loop.
    pub fn event_loop(&self) -> &Loop {
        &self.lp
    }

    /// Sends one datagram, which may be empty, to `peer`, or to the connected peer. What the kernel
    /// does not take at once is queued, whole.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the end; what the kernel says of this datagram (too long, no route) or
    /// of an earlier one (refused). The endpoint stays usable.
    pub fn send_to(&self, data: &[u8], peer: Option<&Address>) -> io::Result<Crossing> {
        self.lp.engine().datagram_send(self.key, data, peer)
    }

    /// Closes once all is sent.
    pub fn close(&self) {
        self.lp.engine().datagram_close(self.key);
    }

    /// Closes at once.
    pub fn abort(&self) {
        self.lp.engine().datagram_abort(self.key);
    }

    /// Whether the endpoint is closing or closed.
    pub fn is_closing(&self) -> bool {
        self.lp.engine().datagram_is_closing(self.key)
    }

    /// Stops receiving; the kernel keeps, and then drops, what comes.
    pub fn pause_reading(&self) {
        self.lp.engine().datagram_pause_reading(self.key, true);
    }

    /// Lets receiving go on.
    pub fn resume_reading(&self) {
        self.lp.engine().datagram_pause_reading(self.key, false);
    }

    /// How many bytes wait to be sent, counting eight more for each datagram. O(1).
    pub fn write_buffer_size(&self) -> usize {
        self.lp.engine().datagram_buffered(self.key)
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the end, and the kernel's.
    pub fn local_address(&self) -> io::Result<Address> {
        self.ask(|driver, socket| driver.local_address(socket))
    }

    /// Sets an option of the socket: multicast groups, broadcast.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the end, and the kernel's.
    pub fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        self.ask(|driver, socket| driver.set_option(socket, option))
    }

    fn ask<R>(
        &self,
        ask: impl FnOnce(&mut dyn Driver, Descriptor) -> io::Result<R>,
    ) -> io::Result<R> {
        let Some(socket) = self.lp.engine().datagram_descriptor(self.key) else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the endpoint is closed"));
        };
        self.lp.engine().with_driver(|driver| ask(driver, socket))
    }
}

impl fmt::Debug for DatagramTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramTransport").field("key", &self.key).finish_non_exhaustive()
    }
}
