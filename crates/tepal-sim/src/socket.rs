use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tepal_base::{Instant, Key};
use tepal_driver::{Address, Descriptor, SocketOption, UnixAddress};

use crate::errno::Fault;

pub(crate) type SocketId = Key<Socket>;

/// An object of the simulated kernel: a socket of any kind, a pipe's end or an open file.
///
/// It outlives its descriptor while the network still needs it: a closed TCP socket stays until
/// its bytes and its FIN have arrived, and a connection exists before it is accepted.
#[derive(Debug)]
pub(crate) struct Socket {
    // None: closed by its program, or not accepted yet.
    pub(crate) owner: Option<Owner>,
    pub(crate) family: Family,
    // An IPv6 socket: shows IPv4 addresses mapped. Stored addresses are never mapped.
    pub(crate) v6: bool,
    pub(crate) options: Options,
    pub(crate) local: Name,
    // By `bind`; else a failed connect lets the port go.
    pub(crate) bound: bool,
    pub(crate) peer: Name,
    // SO_ERROR.
    pub(crate) error: Option<Fault>,
    pub(crate) role: Role,
}

/// The driver and the descriptor that a socket belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) driver: usize,
    pub(crate) descriptor: Descriptor,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    Tcp,
    Udp,
    UnixStream,
    UnixDatagram,
    Pipe,
    File,
}

impl Family {
    pub(crate) fn is_ip(self) -> bool {
        matches!(self, Family::Tcp | Family::Udp)
    }

    pub(crate) fn is_unix(self) -> bool {
        matches!(self, Family::UnixStream | Family::UnixDatagram)
    }

    pub(crate) fn is_socket(self) -> bool {
        self.is_ip() || self.is_unix()
    }
}

/// Where a socket is, or its peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    None,
    Ip(SocketAddr),
    Unix(UnixAddress),
}

impl Name {
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Name::Ip(address) => Some(*address),
            _ => None,
        }
    }
}

/// What a socket does now.
///
/// ```text
///            listen                 SYN-ACK
///   Idle ------------> Listening      +--------> Stream
///    |  connect                       |
///    +------------> Connecting -------+
///    ^                  | refused, timed out
///    +---- connect -- Failed <
/// ```
///
/// Datagram sockets, pipes and files have one role for life.
#[derive(Debug)]
pub(crate) enum Role {
    Idle,
    Listening(Listener),
    Connecting(Connecting),
    // Linux answers the next connect with ECONNABORTED if SO_ERROR has been read.
    Failed,
    Stream(Stream),
    Datagrams(Datagrams),
    File(OpenFile),
}

#[derive(Debug)]
pub(crate) struct Listener {
    // Linux lets backlog + 1 connections wait.
    pub(crate) backlog: usize,
    pub(crate) queue: VecDeque<SocketId>,
    // Embryos between SYN and the end of the handshake.
    pub(crate) handshaking: usize,
}

impl Listener {
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() + self.handshaking > self.backlog
    }
}

#[derive(Debug)]
pub(crate) struct Connecting {
    // Answers to an earlier connect of the same socket carry another number.
    pub(crate) attempt: u32,
}

/// One end of a TCP or Unix connection or of a pipe.
#[derive(Debug)]
pub(crate) struct Stream {
    // Finds nothing once the other end is gone.
    pub(crate) peer: SocketId,
    // The listener, while the handshake runs or nobody has accepted.
    pub(crate) listener: Option<SocketId>,
    // Arrived and not read.
    pub(crate) incoming: VecDeque<u8>,
    // Accepted from the program; waits for room at the peer. Empty for Unix sockets and pipes.
    pub(crate) outgoing: VecDeque<u8>,
    // On its way to the peer.
    pub(crate) on_wire: usize,
    // Nothing sent from here arrives before this: streams keep their order.
    pub(crate) arrival: Instant,
    // The program sends no more, or may not.
    pub(crate) write_shut: bool,
    pub(crate) read_shut: bool,
    pub(crate) fin_sent: bool,
    pub(crate) fin_arrived: bool,
    pub(crate) fin_received: bool,
    // Reset: nothing moves any more, though what had arrived can be read.
    pub(crate) dead: bool,
    // Closed by the program; lives on to deliver what it had accepted.
    pub(crate) orphan: bool,
    // One more connect of a client is answered with success, as Linux does.
    pub(crate) connect_told: bool,
    // Pipes have one direction.
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

impl Stream {
    /// Nothing moves any more in either direction.
    pub(crate) fn is_over(&self) -> bool {
        self.dead || (self.fin_arrived && self.fin_received)
    }

    pub(crate) fn to(peer: SocketId) -> Stream {
        Stream {
            peer,
            listener: None,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            on_wire: 0,
            arrival: Instant::ZERO,
            write_shut: false,
            read_shut: false,
            fin_sent: false,
            fin_arrived: false,
            fin_received: false,
            dead: false,
            orphan: false,
            connect_told: true,
            reads: true,
            writes: true,
        }
    }
}

/// The receiving half of a datagram socket, and what it is connected to.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(crate) queue: VecDeque<Datagram>,
    // Payload and overhead of the queue, against SO_RCVBUF.
    pub(crate) queued: usize,
    // Unix: the socket connected to.
    pub(crate) peer: Option<SocketId>,
    // Unix: senders that found the queue full.
    pub(crate) waiting: Vec<SocketId>,
    pub(crate) read_shut: bool,
    pub(crate) write_shut: bool,
}

#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) from: Name,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) path: PathBuf,
    pub(crate) position: usize,
}

/// The options that were set, and those that mean something here.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    // The last value of each.
    pub(crate) set: Vec<SocketOption>,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) broadcast: bool,
    pub(crate) linger_zero: bool,
    pub(crate) groups: BTreeSet<IpAddr>,
    pub(crate) group_loop: bool,
}

impl Socket {
    pub(crate) fn new(family: Family, v6: bool, options: Options) -> Socket {
        let role = match family {
            Family::Udp | Family::UnixDatagram => Role::Datagrams(Datagrams::default()),
            _ => Role::Idle,
        };
        let (local, peer) = (Name::None, Name::None);
        Socket { owner: None, family, v6, options, local, bound: false, peer, error: None, role }
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        match &self.role {
            Role::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.role {
            Role::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn listener_mut(&mut self) -> Option<&mut Listener> {
        match &mut self.role {
            Role::Listening(listener) => Some(listener),
            _ => None,
        }
    }

    pub(crate) fn datagrams(&self) -> Option<&Datagrams> {
        match &self.role {
            Role::Datagrams(datagrams) => Some(datagrams),
            _ => None,
        }
    }

    pub(crate) fn datagrams_mut(&mut self) -> Option<&mut Datagrams> {
        match &mut self.role {
            Role::Datagrams(datagrams) => Some(datagrams),
            _ => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::None => f.write_str("unbound"),
            Name::Ip(address) => address.fmt(f),
            Name::Unix(name) => Address::Unix(name.clone()).fmt(f),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Idle | Role::Datagrams(_) => Ok(()),
            Role::Listening(_) => f.write_str(", listening"),
            Role::Connecting(_) => f.write_str(", connecting"),
            Role::Failed => f.write_str(", connect failed"),
            Role::Stream(stream) if stream.dead => f.write_str(", reset"),
            Role::Stream(_) => f.write_str(", connected"),
            Role::File(file) => write!(f, ", {}", file.path.display()),
        }
    }
}
