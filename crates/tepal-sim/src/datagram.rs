//! Datagrams: UDP, which loses what finds no room, and Unix datagrams, which make the sender wait.

use std::net::{IpAddr, SocketAddr};

use tepal_driver::{Address, Connect};

use crate::errno::{
    EACCES, EAGAIN, EBADF, ECONNREFUSED, EDESTADDRREQ, EINVAL, EMSGSIZE, ENOTCONN, EPERM, EPIPE,
    Outcome,
};
use crate::kernel::Route;
use crate::ports::{canonical, destination, shown, source_for};
use crate::socket::{Datagram, Family, Name, SocketId};
use crate::state::{Source, State};
use crate::timeline::Action;

/// The longest payload of UDP over IPv4: 65535 less 20 for IP and 8 for UDP. Over IPv6 20 more.
const UDP_MOST: usize = 65_507;

/// What a queued datagram takes of SO_RCVBUF beside its bytes, about as the kernel counts.
const OVERHEAD: usize = 256;

/// Linux's `net.unix.max_dgram_qlen`; one more may wait.
const UNIX_QUEUE: usize = 10;

impl State {
    pub(crate) fn connect_datagrams(&mut self, id: SocketId, peer: &Address) -> Outcome<Connect> {
        if self.socket(id).family == Family::UnixDatagram {
            let target = self.find_unix(peer, Family::UnixDatagram)?;
            let name = self.socket(target).local.clone();
            let socket = self.socket(id);
            socket.peer = name;
            if let Some(datagrams) = socket.datagrams_mut() {
                datagrams.peer = Some(target);
            }
        } else {
            let peer = destination(canonical(self.socket(id), peer)?);
            self.check_broadcast(id, peer)?;
            self.route_datagram(peer.ip())?;
            self.take_source(id, peer)?;
            self.socket(id).peer = Name::Ip(peer);
        }
        self.edge(id);
        Ok(Connect::Connected)
    }

    pub(crate) fn send_to(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        peer: Option<&Address>,
    ) -> Outcome<usize> {
        let socket = self.socket(id);
        let family = socket.family;
        let Some(datagrams) = socket.datagrams() else { return Err(EINVAL) };
        if datagrams.write_shut {
            return Err(EPIPE);
        }
        match family {
            Family::UnixDatagram => self.send_unix(id, bytes, peer),
            _ => self.send_udp(id, bytes, peer),
        }
    }

    // ---- UDP

    fn send_udp(&mut self, id: SocketId, bytes: &[u8], peer: Option<&Address>) -> Outcome<usize> {
        let socket = self.socket(id);
        let to = match peer {
            Some(peer) => destination(canonical(socket, peer)?),
            None => socket.peer.ip().ok_or(EDESTADDRREQ)?,
        };
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let most = if to.is_ipv6() { UDP_MOST + 20 } else { UDP_MOST };
        if bytes.len() > most {
            return Err(EMSGSIZE);
        }
        self.check_broadcast(id, to)?;
        let route = self.route_datagram(to.ip())?;
        if self.pretends_to_block(id) {
            self.want_writable(id);
            return Err(EAGAIN);
        }
        if self.socket(id).local == Name::None {
            let any = shown(&Name::None, Family::Udp, self.socket(id).v6);
            let any = canonical(self.socket(id), &any)?;
            self.bind_ip(id, any)?;
        }
        let socket = self.socket(id);
        let Some(local) = socket.local.ip() else { return Err(EINVAL) };
        let ip = if local.ip().is_unspecified() { source_for(to.ip()) } else { local.ip() };
        let from = SocketAddr::new(ip, local.port());
        let source = Source { socket: id, from, to, group_loop: socket.options.group_loop };
        let disturbance = self.config.disturbance;
        if route == Route::Blackhole || self.random.chance(disturbance.lost_datagrams) {
            return Ok(bytes.len());
        }
        let copies = if self.random.chance(disturbance.doubled_datagrams) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.arrival();
            self.timeline.plan(at, Action::Datagram { source, bytes: bytes.to_vec() });
        }
        Ok(bytes.len())
    }

    fn check_broadcast(&mut self, id: SocketId, to: SocketAddr) -> Outcome<()> {
        let broadcast = matches!(to.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        if broadcast && !self.socket(id).options.broadcast { Err(EACCES) } else { Ok(()) }
    }

    /// As for connections; groups and broadcasts stay on this host.
    fn route_datagram(&self, ip: IpAddr) -> Outcome<Route> {
        if is_group(ip) && !self.routes.contains_key(&ip) {
            return Ok(Route::Local);
        }
        self.route(ip)
    }

    pub(crate) fn datagram_arrives(&mut self, source: Source, bytes: Vec<u8>) {
        let to = source.to;
        if is_group(to.ip()) {
            for id in self.group_members(source) {
                self.queue_udp(id, source.from, bytes.clone());
            }
            return;
        }
        let takers = self.best_match(Family::Udp, to, |socket| {
            socket.peer == Name::None || socket.peer == Name::Ip(source.from)
        });
        let shares = takers
            .iter()
            .all(|id| self.sockets.get(*id).is_some_and(|socket| socket.options.reuse_port));
        // With SO_REUSEPORT a sender keeps its receiver; with SO_REUSEADDR the last one gets all.
        let pick = match takers.len() {
            0 => {
                let at = self.arrival();
                return self.timeline.plan(at, Action::Unreachable { to: source.socket });
            }
            count if shares => usize::from(source.from.port()) % count,
            count => count - 1,
        };
        self.queue_udp(takers[pick], source.from, bytes);
    }

    fn group_members(&self, source: Source) -> Vec<SocketId> {
        let group = source.to.ip();
        let takes = |id: &SocketId| {
            self.sockets.get(*id).is_some_and(|socket| {
                let here = socket.local.ip().is_some_and(|local| {
                    let fits = local.is_ipv4() == group.is_ipv4() || socket.v6;
                    local.ip() == group || (local.ip().is_unspecified() && fits)
                });
                let joined = !group.is_multicast() || socket.options.groups.contains(&group);
                let peer = socket.peer == Name::None || socket.peer == Name::Ip(source.from);
                here && joined && peer
            })
        };
        if group.is_multicast() && !source.group_loop {
            return Vec::new();
        }
        self.ports.at(Family::Udp, source.to.port()).iter().copied().filter(takes).collect()
    }

    fn queue_udp(&mut self, id: SocketId, from: SocketAddr, bytes: Vec<u8>) {
        let socket = self.socket(id);
        let most = socket.options.receive_buffer;
        let Some(datagrams) = socket.datagrams_mut() else { return };
        let size = bytes.len() + OVERHEAD;
        // A full queue drops; an empty one takes any datagram.
        if datagrams.queued + size > most && !datagrams.queue.is_empty() {
            return;
        }
        datagrams.queued += size;
        datagrams.queue.push_back(Datagram { from: Name::Ip(from), bytes });
        self.edge(id);
    }

    /// ICMP says that nobody is there, which only a connected socket hears.
    pub(crate) fn unreachable_arrives(&mut self, to: SocketId) {
        let Some(socket) = self.sockets.get_mut(to) else { return };
        if socket.peer != Name::None {
            socket.error = Some(ECONNREFUSED);
            self.edge(to);
        }
    }

    // ---- Unix

    fn send_unix(&mut self, id: SocketId, bytes: &[u8], peer: Option<&Address>) -> Outcome<usize> {
        let socket = self.socket(id);
        if bytes.len() > socket.options.send_buffer {
            return Err(EMSGSIZE);
        }
        let from = socket.local.clone();
        let target = match peer {
            Some(peer) => self.find_unix(peer, Family::UnixDatagram)?,
            None => match socket.datagrams().and_then(|datagrams| datagrams.peer) {
                Some(target) if self.sockets.contains(target) => target,
                Some(_) => {
                    // Told once; then the socket is connected to nothing.
                    let socket = self.socket(id);
                    socket.peer = Name::None;
                    if let Some(datagrams) = socket.datagrams_mut() {
                        datagrams.peer = None;
                    }
                    return Err(ECONNREFUSED);
                }
                None => return Err(ENOTCONN),
            },
        };
        if self.pretends_to_block(id) {
            self.want_writable(id);
            return Err(EAGAIN);
        }
        let full = self.is_full(target);
        let Some(datagrams) = self.socket(target).datagrams_mut() else { return Err(EBADF) };
        if datagrams.peer.is_some_and(|only| only != id) {
            return Err(EPERM);
        }
        if datagrams.read_shut {
            return Err(EPIPE);
        }
        if full {
            if !datagrams.waiting.contains(&id) {
                datagrams.waiting.push(id);
            }
            self.want_writable(id);
            return Err(EAGAIN);
        }
        datagrams.queue.push_back(Datagram { from, bytes: bytes.to_vec() });
        self.edge(target);
        Ok(bytes.len())
    }

    pub(crate) fn is_full(&self, id: SocketId) -> bool {
        self.sockets.get(id).is_some_and(|socket| {
            socket.family == Family::UnixDatagram
                && socket.datagrams().is_some_and(|held| held.queue.len() > UNIX_QUEUE)
        })
    }

    /// Tells those who found the queue full that there is room, or that nobody is left.
    fn release_senders(&mut self, waiting: Vec<SocketId>) {
        for sender in waiting {
            self.edge(sender);
        }
    }

    // ---- both

    /// Takes one datagram: its bytes up to the target's length, and its sender.
    pub(crate) fn receive_from(
        &mut self,
        id: SocketId,
        target: &mut [u8],
    ) -> Outcome<(usize, Option<Address>)> {
        let socket = self.socket(id);
        let (family, v6) = (socket.family, socket.v6);
        let error = socket.error.take();
        let Some(datagrams) = socket.datagrams_mut() else { return Err(EINVAL) };
        if let Some(error) = error {
            return Err(error);
        }
        if datagrams.queue.is_empty() {
            return if datagrams.read_shut { Ok((0, None)) } else { Err(EAGAIN) };
        }
        if self.pretends_to_block(id) {
            return Err(EAGAIN);
        }
        let Some(datagrams) = self.socket(id).datagrams_mut() else { return Err(EINVAL) };
        let Some(datagram) = datagrams.queue.pop_front() else { return Err(EAGAIN) };
        datagrams.queued = datagrams.queued.saturating_sub(datagram.bytes.len() + OVERHEAD);
        let waiting = std::mem::take(&mut datagrams.waiting);
        self.release_senders(waiting);
        self.release_connected(id);
        let count = datagram.bytes.len().min(target.len());
        target[..count].copy_from_slice(&datagram.bytes[..count]);
        let from = match datagram.from {
            Name::None => None,
            name => Some(shown(&name, family, v6)),
        };
        Ok((count, from))
    }

    /// A watched sender that is connected here may write again, whether it has tried or not.
    fn release_connected(&mut self, id: SocketId) {
        if self.socket(id).family != Family::UnixDatagram {
            return;
        }
        let connected: Vec<_> = (self.sockets.iter())
            .filter(|(_, socket)| socket.datagrams().is_some_and(|held| held.peer == Some(id)))
            .map(|(key, _)| key)
            .collect();
        self.release_senders(connected);
    }

    pub(crate) fn close_datagrams(&mut self, id: SocketId) {
        self.release_connected(id);
        let waiting = self.socket(id).datagrams_mut().map(|held| std::mem::take(&mut held.waiting));
        self.forget_name(id);
        self.sockets.remove(id);
        self.release_senders(waiting.unwrap_or_default());
    }
}

fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}
