//! What a loop opens: connections, servers, endpoints, processes, and descriptors it is given.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use tepal_driver::{Access, Address, Command, Kind};
use tepal_layers::{Side, Stack};

use super::fate::ClosedCell;
use super::host::{Bound, BoundDatagram, Factory, MakeProtocol};
use super::{
    Connecting, DatagramProtocol, DatagramTransport, Listen, Loop, Process, ProcessProtocol,
    Protocol, Server, Target, Transport,
};
use crate::{Reads, StreamOptions};

impl Loop {
    /// Connects to `target`; the protocol is attached first. Its `connection_made` comes in the
    /// next turn, before anything is sent. The transport may be written to at once.
    ///
    /// A loop that is closed drops the protocol; the transport is closing then.
    pub fn connect(&self, protocol: impl Protocol, target: impl Into<Target>) -> Transport {
        let target: Target = target.into();
        let closed = ClosedCell::default();
        let protocol = Bound::new(Box::new(protocol), closed.clone());
        let (stack, host) = (target.stack.clone(), target.host_name());
        let key = self.0.stream_reach(target.outbound(self), protocol, StreamOptions::default());
        // A stream that was made just now takes layers.
        let _ = self.0.stream_set_layers(key, stack, Side::Client, host);
        self.0.drop_if_closed();
        Transport::new(self.clone(), key, closed)
    }

    /// Connects to `target`; the protocol is made once the connection stands, as PEP 3156 has it.
    /// Dropping the future gives the attempt up.
    pub fn create_connection<P: Protocol>(
        &self,
        factory: impl FnOnce() -> P + 'static,
        target: impl Into<Target>,
    ) -> Connecting {
        Connecting::start(self, Box::new(move || Box::new(factory())), target.into())
    }

    /// Accepts connections; `factory` makes the protocol of each, and is told the peer's address.
    ///
    /// # Errors
    ///
    /// The kernel's, by address; nothing is left open then. `BrokenPipe` if the loop is closed.
    pub fn listen<P: Protocol>(
        &self,
        factory: impl FnMut(&Address) -> P + 'static,
        listen: impl Into<Listen>,
    ) -> io::Result<Server> {
        self.check_open()?;
        // One factory serves several listening sockets; it is never entered twice at once, because
        // accepting is the loop's own step.
        let factory = Rc::new(RefCell::new(factory));
        let factory = move |stack, options| {
            let factory = Rc::clone(&factory);
            let protocol: MakeProtocol = Box::new(move |peer| Box::new(factory.borrow_mut()(peer)));
            Factory { protocol, stack, options }
        };
        Server::start(self, factory, listen.into())
    }

    /// Makes a stream transport of a connected descriptor: a socket, a pipe's end, a terminal. One
    /// that is open for writing only is never read, and the write end of a pipe ends when nobody
    /// reads the other end any more ([`Reads`](crate::Reads)).
    ///
    /// # Errors
    ///
    /// The kernel's; `BrokenPipe` if the loop is closed.
    pub fn attach(&self, protocol: impl Protocol, fd: OwnedFd) -> io::Result<Transport> {
        self.check_open()?;
        let options = options_of(fd.as_raw_fd());
        let descriptor = self.0.with_driver(|driver| driver.adopt(fd))?;
        let closed = ClosedCell::default();
        let protocol = Bound::new(Box::new(protocol), closed.clone());
        let key = self.0.stream(descriptor, protocol, options);
        Ok(Transport::new(self.clone(), key, closed))
    }

    /// As [`attach`](Self::attach), with layers on top of the descriptor, on the side given.
    ///
    /// # Errors
    ///
    /// As for [`attach`](Self::attach).
    pub fn attach_with(
        &self,
        protocol: impl Protocol,
        fd: OwnedFd,
        stack: Stack,
        side: Side,
    ) -> io::Result<Transport> {
        let transport = self.attach(protocol, fd)?;
        // A stream that was made just now takes layers.
        let _ = self.0.stream_set_layers(transport.key(), stack, side, None);
        Ok(transport)
    }

    /// Makes a stream transport of a descriptor that stays its owner's: standard input and output
    /// (0 and 1), a terminal. Its blocking mode, which other processes may share, is left as it is,
    /// and closing the transport leaves it open; keep it open until then.
    ///
    /// # Errors
    ///
    /// `EBADF` if it is not open; `BrokenPipe` if the loop is closed.
    pub fn attach_borrowed(&self, protocol: impl Protocol, fd: RawFd) -> io::Result<Transport> {
        self.check_open()?;
        let options = options_of(fd);
        let descriptor = self.0.with_driver(|driver| driver.borrow(fd))?;
        let closed = ClosedCell::default();
        let protocol = Bound::new(Box::new(protocol), closed.clone());
        let key = self.0.stream(descriptor, protocol, options);
        Ok(Transport::new(self.clone(), key, closed))
    }

    /// Makes a datagram endpoint bound to `local`, connected to `peer`, or both.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if neither is given; `BrokenPipe` if the loop is closed; the kernel's.
    pub fn datagram(
        &self,
        protocol: impl DatagramProtocol,
        local: Option<Address>,
        peer: Option<Address>,
    ) -> io::Result<DatagramTransport> {
        self.check_open()?;
        let Some(sample) = local.as_ref().or(peer.as_ref()) else {
            let text = "a datagram endpoint needs a local address or a peer";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let socket = self.0.open_socket(sample, Kind::Datagram, local.as_ref())?;
        if let Some(peer) = &peer {
            let connected = self.0.with_driver(|driver| {
                driver.connect(socket, peer).inspect_err(|_| drop(driver.close(socket)))
            });
            connected?;
        }
        let protocol = BoundDatagram::new(Box::new(protocol));
        let key = self.0.datagram(socket, protocol, true)?;
        Ok(DatagramTransport::new(self.clone(), key))
    }

    /// Starts a child process; `protocol` gets what it writes to its pipes, and its end.
    ///
    /// # Errors
    ///
    /// The kernel's: the program does not exist, no descriptors are left. `BrokenPipe` if the loop
    /// is closed.
    pub fn subprocess(
        &self,
        protocol: impl ProcessProtocol,
        mut command: Command,
    ) -> io::Result<Process> {
        self.check_open()?;
        Process::start(self, Box::new(protocol), &mut command)
    }
}

// What is open for writing only must not be read.
fn options_of(fd: RawFd) -> StreamOptions {
    let reads = match Access::of(fd) {
        Access::PipeInput => Reads::Gone,
        Access::WriteOnly => Reads::Nothing,
        Access::Other => Reads::Bytes,
    };
    StreamOptions { reads, ..StreamOptions::default() }
}
