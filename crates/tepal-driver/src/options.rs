use std::ffi::CString;
use std::net::IpAddr;
use std::time::Duration;

/// A direction of a connection, or both.
///
/// ```
/// use tepal_driver::Half;
///
/// // What a failed send means for a connection whose reads go on.
/// let half = Half::Write;
/// assert_ne!(half, Half::Both);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// What the peer sends.
    Read,
    /// What we send: the peer sees the end of the stream.
    Write,
    /// Both.
    Both,
}

/// A socket option, as `setsockopt(2)` knows it.
///
/// ```
/// use tepal_driver::{Domain, Kind, SocketOption, open_driver};
///
/// let mut driver = open_driver(None)?;
/// let socket = driver.open(Domain::Inet, Kind::Stream)?;
/// driver.set_option(socket, &SocketOption::NoDelay(true))?;
/// driver.close(socket)?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SocketOption {
    /// `SO_REUSEADDR`: bind although old connections linger in TIME_WAIT.
    ReuseAddress(bool),
    /// `SO_REUSEPORT`: several sockets share the port, the kernel spreads connections over them.
    ReusePort(bool),
    /// `TCP_NODELAY`: small writes leave at once. Accepted sockets inherit it.
    NoDelay(bool),
    /// `SO_KEEPALIVE`.
    KeepAlive(bool),
    /// `IPV6_V6ONLY`: an IPv6 listener takes no IPv4 connections.
    OnlyV6(bool),
    /// `SO_BROADCAST`.
    Broadcast(bool),
    /// `SO_LINGER`; `Some(0)` makes `close` send a reset.
    Linger(Option<Duration>),
    /// `SO_RCVBUF`, in bytes.
    ReceiveBuffer(u32),
    /// `SO_SNDBUF`, in bytes.
    SendBuffer(u32),
    /// `SO_BINDTODEVICE`: traffic of this interface only.
    BindToDevice(CString),
    /// `IP_TRANSPARENT` / `IPV6_TRANSPARENT`: bind to addresses that are not local. Privileged.
    Transparent(bool),
    /// Receive datagrams of a multicast group on an interface (by index; 0: the kernel chooses).
    JoinGroup {
        /// The group's address.
        group: IpAddr,
        /// The interface's index.
        interface: u32,
    },
    /// Stop receiving datagrams of a multicast group.
    LeaveGroup {
        /// The group's address.
        group: IpAddr,
        /// The interface's index.
        interface: u32,
    },
    /// Whether multicast datagrams sent here come back to this host (`IP_MULTICAST_LOOP`).
    MulticastLoop(bool),
    /// Hops that multicast datagrams may travel (`IP_MULTICAST_TTL`, `IPV6_MULTICAST_HOPS`).
    MulticastHops(u8),
}
