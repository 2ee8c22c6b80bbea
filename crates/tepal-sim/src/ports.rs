//! Who is bound to which name: IP ports, and names of Unix sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;

use tepal_base::Instant;
use tepal_driver::{Address, UnixAddress};

use crate::errno::{EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENETUNREACH, Fault, Outcome};
use crate::kernel::Route;
use crate::socket::{Family, Name, Role, Socket, SocketId};
use crate::state::State;

/// The name of a Unix socket that others can find it by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum UnixName {
    Path(PathBuf),
    Abstract(Box<[u8]>),
}

impl UnixName {
    pub(crate) fn of(address: &UnixAddress) -> Option<UnixName> {
        match address {
            UnixAddress::Unnamed => None,
            UnixAddress::Path(path) => Some(UnixName::Path(path.clone())),
            UnixAddress::Abstract(name) => Some(UnixName::Abstract(name.clone())),
        }
    }
}

/// The port table.
#[derive(Debug)]
pub(crate) struct Ports {
    // Every socket with a local port, in order of binding; accepted connections too.
    bound: BTreeMap<(bool, u16), Vec<SocketId>>,
    // Where the search for an ephemeral port begins.
    next: u16,
    // TIME_WAIT: local address, end.
    waiting: Vec<(SocketAddr, Instant)>,
    // Names given to Unix sockets that bound to none.
    autobound: u32,
}

impl Ports {
    pub(crate) fn new(first: u16) -> Ports {
        Ports { bound: BTreeMap::new(), next: first, waiting: Vec::new(), autobound: 0 }
    }

    pub(crate) fn keep_waiting(&mut self, local: SocketAddr, until: Instant, now: Instant) {
        self.waiting.retain(|(_, end)| *end > now);
        if until > now {
            self.waiting.push((local, until));
        }
    }

    pub(crate) fn at(&self, family: Family, port: u16) -> &[SocketId] {
        self.bound.get(&(family == Family::Udp, port)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn count(&self) -> usize {
        self.bound.values().map(Vec::len).sum()
    }
}

impl State {
    pub(crate) fn bind(&mut self, id: SocketId, address: &Address) -> Outcome<()> {
        let socket = self.socket(id);
        if socket.local != Name::None {
            return Err(EINVAL);
        }
        if socket.family.is_unix() {
            return self.bind_unix(id, address);
        }
        let wanted = canonical(socket, address)?;
        if !self.is_local(wanted.ip()) && !wanted.ip().is_multicast() {
            return Err(EADDRNOTAVAIL);
        }
        self.bind_ip(id, wanted)?;
        self.socket(id).bound = true;
        Ok(())
    }

    /// Binds to the port, or to a free one if it is zero.
    pub(crate) fn bind_ip(&mut self, id: SocketId, mut wanted: SocketAddr) -> Outcome<()> {
        if wanted.port() == 0 {
            let port = self.ephemeral(|state, port| {
                let address = SocketAddr::new(wanted.ip(), port);
                !state.is_taken(id, address, false)
            });
            wanted.set_port(port.ok_or(EADDRINUSE)?);
        } else if self.is_taken(id, wanted, true) {
            return Err(EADDRINUSE);
        }
        self.take_port(id, wanted);
        Ok(())
    }

    /// Binds to a port from which this peer can be reached. Ports may serve several peers.
    pub(crate) fn bind_to_connect(
        &mut self,
        id: SocketId,
        local: IpAddr,
        peer: SocketAddr,
    ) -> Outcome<()> {
        let family = self.socket(id).family;
        let port = self.ephemeral(|state, port| {
            state.ports.at(family, port).iter().all(|other| {
                state.sockets.get(*other).is_none_or(|other| {
                    let connected = matches!(other.role, Role::Stream(_) | Role::Connecting(_));
                    connected && !other.bound && other.peer.ip() != Some(peer)
                })
            })
        });
        self.take_port(id, SocketAddr::new(local, port.ok_or(EADDRNOTAVAIL)?));
        Ok(())
    }

    /// The next port of the range that will do.
    fn ephemeral(&mut self, will_do: impl Fn(&State, u16) -> bool) -> Option<u16> {
        let range = self.config.ephemeral_ports.clone();
        let first = self.ports.next.clamp(*range.start(), *range.end());
        let port = (first..=*range.end())
            .chain(*range.start()..first)
            .find(|port| will_do(self, *port))?;
        self.ports.next = if port == *range.end() { *range.start() } else { port + 1 };
        Some(port)
    }

    /// Enters a socket into the port table.
    pub(crate) fn take_port(&mut self, id: SocketId, local: SocketAddr) {
        let socket = self.socket(id);
        socket.local = Name::Ip(local);
        let key = (socket.family == Family::Udp, local.port());
        self.ports.bound.entry(key).or_default().push(id);
    }

    /// Whether binding there would be refused. Without `reuse` no option helps.
    fn is_taken(&self, id: SocketId, wanted: SocketAddr, reuse: bool) -> bool {
        let Some(socket) = self.sockets.get(id) else { return true };
        let lingers = socket.family == Family::Tcp
            && !(reuse && socket.options.reuse_address)
            && self.ports.waiting.iter().any(|(address, until)| {
                *until > self.now
                    && address.port() == wanted.port()
                    && overlap(wanted.ip(), is_dual(socket, wanted.ip()), address.ip(), false)
            });
        lingers
            || self.ports.at(socket.family, wanted.port()).iter().any(|other| {
                *other != id
                    && self.sockets.get(*other).is_some_and(|other| {
                        conflicts(socket, wanted, other) && !(reuse && may_share(socket, other))
                    })
            })
    }

    /// Whether another listener holds the port of a socket that is to listen.
    pub(crate) fn is_listened_to(&self, id: SocketId) -> bool {
        let Some(socket) = self.sockets.get(id) else { return false };
        let Some(local) = socket.local.ip() else { return false };
        self.ports.at(Family::Tcp, local.port()).iter().any(|other| {
            *other != id
                && self.sockets.get(*other).is_some_and(|other| {
                    matches!(other.role, Role::Listening(_))
                        && conflicts(socket, local, other)
                        && !(socket.options.reuse_port && other.options.reuse_port)
                })
        })
    }

    /// Who of those bound to the port takes what is sent there: the most exact address wins.
    pub(crate) fn best_match(
        &self,
        family: Family,
        to: SocketAddr,
        fits: impl Fn(&Socket) -> bool,
    ) -> Vec<SocketId> {
        let mut best = (0, Vec::new());
        for id in self.ports.at(family, to.port()) {
            let Some(socket) = self.sockets.get(*id).filter(|socket| fits(socket)) else {
                continue;
            };
            let Some(local) = socket.local.ip() else { continue };
            let exact = match local.ip() {
                ip if ip == to.ip() => 3,
                ip if ip.is_unspecified() && ip.is_ipv4() == to.is_ipv4() => 2,
                ip if is_dual(socket, ip) => 1,
                _ => continue,
            };
            let score = exact + if socket.peer == Name::None { 0 } else { 3 };
            if score > best.0 {
                best = (score, Vec::new());
            }
            if score == best.0 {
                best.1.push(*id);
            }
        }
        best.1
    }

    /// The name of a closed or unbound socket is free, but a Unix socket's file stays.
    pub(crate) fn forget_name(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let family = socket.family;
        match std::mem::replace(&mut socket.local, Name::None) {
            Name::None => {}
            Name::Ip(local) => {
                let key = (family == Family::Udp, local.port());
                if let Some(ids) = self.ports.bound.get_mut(&key) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.ports.bound.remove(&key);
                    }
                }
            }
            Name::Unix(address) => {
                let Some(name) = UnixName::of(&address) else { return };
                if self.unix_names.get(&name) != Some(&Some(id)) {
                    return; // An accepted connection, or the file was removed.
                }
                match name {
                    UnixName::Path(_) => self.unix_names.insert(name, None),
                    UnixName::Abstract(_) => self.unix_names.remove(&name),
                };
            }
        }
    }

    fn bind_unix(&mut self, id: SocketId, address: &Address) -> Outcome<()> {
        let Address::Unix(address) = address else { return Err(EINVAL) };
        let (address, name) = match UnixName::of(address) {
            Some(name) => (address.clone(), name),
            // Linux binds to a free abstract name of five hexadecimal digits.
            None => loop {
                let digits = format!("{:05x}", self.ports.autobound).into_bytes();
                self.ports.autobound += 1;
                let name = UnixName::Abstract(digits.clone().into());
                if !self.unix_names.contains_key(&name) {
                    break (UnixAddress::Abstract(digits.into()), name);
                }
            },
        };
        if let UnixName::Path(path) = &name
            && self.files.contains_key(path)
        {
            return Err(EADDRINUSE);
        }
        if self.unix_names.contains_key(&name) {
            return Err(EADDRINUSE);
        }
        self.unix_names.insert(name, Some(id));
        let socket = self.socket(id);
        socket.local = Name::Unix(address);
        socket.bound = true;
        Ok(())
    }

    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_unspecified()
            || match self.routes.get(&ip) {
                Some(route) => *route == Route::Local,
                None => ip.is_loopback(),
            }
    }

    /// What becomes of what is sent to an address.
    pub(crate) fn route(&self, ip: IpAddr) -> Outcome<Route> {
        match self.routes.get(&ip) {
            Some(Route::Error(errno)) => Err(Fault::Os(*errno)),
            Some(route) => Ok(*route),
            None if ip.is_loopback() => Ok(Route::Local),
            None => Err(ENETUNREACH),
        }
    }
}

/// The address that is meant on a socket of this domain: IPv4 out of IPv6, the loopback address
/// for none.
pub(crate) fn canonical(socket: &Socket, address: &Address) -> Outcome<SocketAddr> {
    let Some(address) = address.as_ip() else { return Err(EAFNOSUPPORT) };
    match (address, socket.v6) {
        (SocketAddr::V4(_), false) => Ok(address),
        (SocketAddr::V6(v6), true) => Ok(match v6.ip().to_ipv4_mapped() {
            Some(_) if socket.options.only_v6 => return Err(ENETUNREACH),
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            // Scope and flow are the interface's matter, and there is one interface.
            None => SocketAddr::new((*v6.ip()).into(), v6.port()),
        }),
        (SocketAddr::V6(_), false) => Err(EAFNOSUPPORT),
        // Too short for a sockaddr_in6.
        (SocketAddr::V4(_), true) => Err(EINVAL),
    }
}

/// Where a peer's address leads: the unspecified one means this host.
pub(crate) fn destination(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port())
        }
        _ => address,
    }
}

/// The local address that Linux gives to what is sent to `peer`.
pub(crate) fn source_for(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() => {
            Ipv4Addr::LOCALHOST.into()
        }
        IpAddr::V6(ip) if ip.is_multicast() => Ipv6Addr::LOCALHOST.into(),
        _ => peer,
    }
}

/// An address as a socket of this domain shows it.
pub(crate) fn shown(name: &Name, family: Family, v6: bool) -> Address {
    match name {
        Name::Unix(address) => Address::Unix(address.clone()),
        Name::None if family.is_unix() => Address::Unix(UnixAddress::Unnamed),
        Name::None if v6 => Address::Ip((Ipv6Addr::UNSPECIFIED, 0).into()),
        Name::None => Address::Ip((Ipv4Addr::UNSPECIFIED, 0).into()),
        Name::Ip(SocketAddr::V4(address)) if v6 => Address::Ip(mapped(*address).into()),
        Name::Ip(address) => Address::Ip(*address),
    }
}

fn mapped(address: SocketAddrV4) -> SocketAddrV6 {
    SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0)
}

/// An IPv6 socket bound to `[::]` takes IPv4 too, unless told otherwise.
fn is_dual(socket: &Socket, ip: IpAddr) -> bool {
    ip.is_ipv6() && ip.is_unspecified() && !socket.options.only_v6
}

fn overlap(a: IpAddr, a_dual: bool, b: IpAddr, b_dual: bool) -> bool {
    if a.is_ipv4() == b.is_ipv4() {
        return a == b || a.is_unspecified() || b.is_unspecified();
    }
    a_dual || b_dual
}

fn conflicts(socket: &Socket, wanted: SocketAddr, other: &Socket) -> bool {
    other.local.ip().is_some_and(|local| {
        let dual = is_dual(socket, wanted.ip());
        overlap(wanted.ip(), dual, local.ip(), is_dual(other, local.ip()))
    })
}

fn may_share(socket: &Socket, other: &Socket) -> bool {
    let listening = matches!(other.role, Role::Listening(_));
    (socket.options.reuse_port && other.options.reuse_port)
        || (socket.options.reuse_address && other.options.reuse_address && !listening)
}
