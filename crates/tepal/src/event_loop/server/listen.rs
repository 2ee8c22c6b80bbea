use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tepal_driver::{Address, Descriptor, Domain, Driver, Kind, SocketOption, UnixAddress};
use tepal_layers::{LayerSpec, Stack};

/// Where and how to listen.
///
/// ```
/// use tepal::Listen;
///
/// let listen = Listen::on("127.0.0.1:0").and("[::1]:0").backlog(64).max_connections(1000);
/// ```
#[derive(Debug)]
pub struct Listen {
    pub(super) places: Vec<Place>,
    pub(super) backlog: u32,
    pub(super) reuse_port: bool,
    pub(super) max_connections: usize,
    pub(super) stack: Stack,
    pub(super) handshaking: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Place {
    Address(Address),
    Fd(OwnedFd),
    Wrong(String),
}

impl Listen {
    /// Listens at one place: an address (`127.0.0.1:80`, `[::1]:80`), an
    /// [`Address`], a path, or a listening socket made elsewhere (socket activation).
    ///
    /// `[::]:PORT` takes IPv4 connections too, where the system allows it.
    pub fn on(place: impl Into<Listen>) -> Listen {
        place.into()
    }

    /// Listens at a further place.
    pub fn and(mut self, place: impl Into<Listen>) -> Listen {
        self.places.extend(place.into().places);
        self
    }

    /// How many connections the kernel may hold before they are accepted; 1024 unless set.
    pub fn backlog(mut self, backlog: u32) -> Listen {
        self.backlog = backlog;
        self
    }

    /// Lets several sockets listen at the same port (`SO_REUSEPORT`).
    pub fn reuse_port(mut self, reuse: bool) -> Listen {
        self.reuse_port = reuse;
        self
    }

    /// How many connections may exist at once, for each listening socket; further ones wait in the
    /// backlog. Unlimited unless set.
    pub fn max_connections(mut self, most: usize) -> Listen {
        self.max_connections = most;
        self
    }

    /// One more layer of each connection, on top of those that were named before: from the wire
    /// upward.
    pub fn layer(mut self, spec: impl LayerSpec + 'static) -> Listen {
        self.stack = self.stack.with(spec);
        self
    }

    /// How long the handshake of each layer may take; 30 seconds unless set.
    pub fn handshaking(mut self, timeout: Duration) -> Listen {
        self.handshaking = Some(timeout);
        self
    }

    /// All layers of each connection at once, from the wire upward.
    pub fn stack(mut self, stack: Stack) -> Listen {
        self.stack = stack;
        self
    }
}

impl From<Place> for Listen {
    fn from(place: Place) -> Listen {
        Listen {
            places: vec![place],
            backlog: 1024,
            reuse_port: false,
            max_connections: usize::MAX,
            stack: Stack::new(),
            handshaking: None,
        }
    }
}

impl From<Address> for Listen {
    fn from(address: Address) -> Listen {
        Listen::from(Place::Address(address))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::from(Address::Ip(address))
    }
}

impl From<&str> for Listen {
    fn from(text: &str) -> Listen {
        Listen::from(match text.parse::<SocketAddr>() {
            Ok(address) => Place::Address(Address::Ip(address)),
            Err(_) => Place::Wrong(text.to_owned()),
        })
    }
}

impl From<&Path> for Listen {
    fn from(path: &Path) -> Listen {
        Listen::from(Address::unix(path))
    }
}

impl From<OwnedFd> for Listen {
    fn from(socket: OwnedFd) -> Listen {
        Listen::from(Place::Fd(socket))
    }
}

impl Place {
    /// Opens it, and says which file stands for it from now on.
    pub(super) fn open(
        self,
        driver: &mut dyn Driver,
        backlog: u32,
        reuse_port: bool,
    ) -> io::Result<(Descriptor, Option<PathBuf>)> {
        let address = match self {
            Place::Address(address) => address,
            Place::Fd(fd) => {
                let socket = driver.adopt(fd)?;
                driver.listen(socket, backlog).inspect_err(|_| drop(driver.close(socket)))?;
                return Ok((socket, None));
            }
            Place::Wrong(text) => {
                let text = format!("'{text}' is no address to listen at, such as 127.0.0.1:80");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let path = match &address {
            Address::Unix(UnixAddress::Path(path)) => Some(path.clone()),
            _ => None,
        };
        if let Some(path) = &path {
            remove_stale(driver, path, &address);
        }
        match open_listener(driver, &address, backlog, reuse_port) {
            Ok(socket) => Ok((socket, path)),
            Err(error) => {
                let text = format!("cannot listen at {address}: {error}");
                Err(io::Error::new(error.kind(), text))
            }
        }
    }
}

fn open_listener(
    driver: &mut dyn Driver,
    address: &Address,
    backlog: u32,
    reuse_port: bool,
) -> io::Result<Descriptor> {
    let domain = match address {
        Address::Ip(ip) if ip.is_ipv4() => Domain::Inet,
        Address::Ip(_) => Domain::Inet6,
        _ => Domain::Unix,
    };
    let socket = driver.open(domain, Kind::Stream)?;
    let prepare = |driver: &mut dyn Driver| {
        if let Address::Ip(ip) = address {
            driver.set_option(socket, &SocketOption::ReuseAddress(true))?;
            // Accepted connections inherit it, which saves them a call each.
            driver.set_option(socket, &SocketOption::NoDelay(true))?;
            if ip.is_ipv6() {
                let dual = ip.ip().is_unspecified();
                driver.set_option(socket, &SocketOption::OnlyV6(!dual))?;
            }
        }
        if reuse_port {
            driver.set_option(socket, &SocketOption::ReusePort(true))?;
        }
        driver.bind(socket, address)?;
        driver.listen(socket, backlog)
    };
    match prepare(driver) {
        Ok(()) => Ok(socket),
        Err(error) => {
            // The first error is the one to tell.
            let _ = driver.close(socket);
            Err(error)
        }
    }
}

// A socket file that nobody listens at is left over from a process that ended: it is removed. One
// that somebody listens at stays, and binding fails.
fn remove_stale(driver: &mut dyn Driver, path: &Path, address: &Address) {
    let Ok(probe) = driver.open(Domain::Unix, Kind::Stream) else { return };
    let result = driver.connect(probe, address);
    let _ = driver.close(probe);
    if matches!(&result, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused) {
        let _ = driver.remove_file(path);
    }
}
