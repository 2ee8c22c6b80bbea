use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a socket is, or where its peer is.
///
/// ```
/// use tepal_driver::Address;
///
/// let tcp = Address::Ip("[fe80::1%3]:80".parse().expect("an address"));
/// assert_eq!(tcp.to_string(), "[fe80::1%3]:80");
/// assert_eq!(Address::unix("/run/app.sock").to_string(), "/run/app.sock");
/// assert!(Address::unix("/run/app.sock").as_ip().is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Address {
    /// IPv4 or IPv6, with port and, for IPv6, flow label and scope id.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(UnixAddress),
    /// Any other family (netlink, vsock): the `sockaddr` as the kernel gives it, family included.
    Other(Box<[u8]>),
}

/// The name of a Unix socket.
///
/// ```
/// use tepal_driver::{Address, UnixAddress};
///
/// let file = Address::unix("/run/example.socket");
/// let hidden = Address::Unix(UnixAddress::Abstract((*b"example").into()));
/// assert_ne!(file, hidden);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum UnixAddress {
    /// No name, as on the connecting side.
    Unnamed,
    /// A file.
    Path(PathBuf),
    /// A name of Linux's abstract namespace, without its leading zero byte.
    Abstract(Box<[u8]>),
}

impl Address {
    /// The address of a Unix socket's file.
    pub fn unix(path: impl AsRef<Path>) -> Address {
        Address::Unix(UnixAddress::Path(path.as_ref().to_owned()))
    }

    /// The IP address and port, if it is one.
    pub fn as_ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

/// IP addresses as `1.2.3.4:80` and `[::1]:80`, files as paths, abstract names with a leading `@`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(UnixAddress::Unnamed) => f.write_str("unnamed"),
            Address::Unix(UnixAddress::Path(path)) => path.display().fmt(f),
            Address::Unix(UnixAddress::Abstract(name)) => write!(f, "@{}", name.escape_ascii()),
            Address::Other(bytes) => write!(f, "sockaddr of {} bytes", bytes.len()),
        }
    }
}
