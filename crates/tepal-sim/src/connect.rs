//! How connections come to be: the handshake of TCP, and Unix sockets, which need none.

use std::net::SocketAddr;
use std::time::Duration;

use tepal_driver::{Address, Connect, Descriptor};

use crate::errno::{
    EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EALREADY, ECONNABORTED, ECONNREFUSED, EINVAL, EISCONN,
    ENOENT, EOPNOTSUPP, EPROTOTYPE, Fault, Outcome,
};
use crate::kernel::Route;
use crate::ports::{UnixName, canonical, destination, shown, source_for};
use crate::socket::{Connecting, Family, Listener, Name, Role, Socket, SocketId, Stream};
use crate::state::State;
use crate::timeline::Action;

impl State {
    pub(crate) fn listen(&mut self, id: SocketId, backlog: u32) -> Outcome<()> {
        let backlog = backlog as usize;
        let socket = self.socket(id);
        if let Role::Listening(listener) = &mut socket.role {
            listener.backlog = backlog;
            return Ok(());
        }
        match socket.family {
            Family::Tcp | Family::UnixStream => {}
            _ => return Err(EOPNOTSUPP),
        }
        if !matches!(socket.role, Role::Idle | Role::Failed) {
            return Err(EINVAL);
        }
        if socket.local == Name::None {
            if socket.family == Family::UnixStream {
                return Err(EINVAL);
            }
            let any = shown(&Name::None, Family::Tcp, socket.v6);
            self.bind(id, &any)?;
        }
        if self.is_listened_to(id) {
            return Err(crate::errno::EADDRINUSE);
        }
        let listener = Listener { backlog, queue: Default::default(), handshaking: 0 };
        self.socket(id).role = Role::Listening(listener);
        self.edge(id);
        Ok(())
    }

    pub(crate) fn connect(&mut self, id: SocketId, peer: &Address) -> Outcome<Connect> {
        let socket = self.socket(id);
        match &mut socket.role {
            Role::Idle | Role::Datagrams(_) => {}
            Role::Failed => {
                socket.role = Role::Idle;
                return Err(socket.error.take().unwrap_or(ECONNABORTED));
            }
            Role::Connecting(_) => return Err(EALREADY),
            Role::Stream(stream) if !stream.connect_told => {
                stream.connect_told = true;
                return Ok(Connect::Connected);
            }
            Role::Stream(_) => return Err(EISCONN),
            Role::Listening(_) if socket.family == Family::UnixStream => return Err(EINVAL),
            Role::Listening(_) => return Err(EISCONN),
            Role::File(_) => return Err(crate::errno::EBADF),
        }
        match socket.family {
            Family::Tcp => self.connect_tcp(id, peer),
            Family::UnixStream => self.connect_unix(id, peer),
            _ => self.connect_datagrams(id, peer),
        }
    }

    fn connect_tcp(&mut self, id: SocketId, peer: &Address) -> Outcome<Connect> {
        let peer = destination(canonical(self.socket(id), peer)?);
        self.route(peer.ip())?;
        self.take_source(id, peer)?;
        self.attempts += 1;
        let attempt = self.attempts;
        let socket = self.socket(id);
        socket.peer = Name::Ip(peer);
        socket.role = Role::Connecting(Connecting { attempt });
        let at = self.arrival();
        self.timeline.plan(at, Action::Syn { from: id, attempt, tries: 0 });
        Ok(Connect::InProgress)
    }

    /// Gives a socket that is to reach `peer` a local address and port, unless it has them.
    pub(crate) fn take_source(&mut self, id: SocketId, peer: SocketAddr) -> Outcome<()> {
        let source = source_for(peer.ip());
        let family = self.socket(id).family;
        let Some(local) = self.socket(id).local.ip() else {
            return match family {
                Family::Udp => self.bind_ip(id, SocketAddr::new(source, 0)),
                _ => self.bind_to_connect(id, source, peer),
            };
        };
        if local.is_ipv4() != peer.is_ipv4() && !local.ip().is_unspecified() {
            return Err(EADDRNOTAVAIL);
        }
        let ip = if local.ip().is_unspecified() { source } else { local.ip() };
        let local = SocketAddr::new(ip, local.port());
        let used = self.ports.at(family, local.port()).iter().any(|other| {
            *other != id
                && self.sockets.get(*other).is_some_and(|other| {
                    other.local.ip() == Some(local) && other.peer.ip() == Some(peer)
                })
        });
        if used && family == Family::Tcp {
            return Err(EADDRNOTAVAIL);
        }
        self.socket(id).local = Name::Ip(local);
        Ok(())
    }

    // ---- the handshake

    /// A SYN arrives where the client sent it.
    pub(crate) fn syn(&mut self, from: SocketId, attempt: u32, tries: u32) {
        let Some(client) = self.connecting(from, attempt) else { return };
        let (Some(to), Some(back)) = (client.peer.ip(), client.local.ip()) else { return };
        if self.route(to.ip()) == Ok(Route::Blackhole) {
            return self.syn_again(from, attempt, tries);
        }
        let listeners =
            self.best_match(Family::Tcp, to, |socket| matches!(socket.role, Role::Listening(_)));
        let pick = self.random_of(&listeners);
        let Some(listener_id) = pick else {
            let at = self.arrival();
            return self.timeline.plan(at, Action::Refused { to: from, attempt });
        };
        let listening = self.socket(listener_id);
        let Role::Listening(listener) = &mut listening.role else { return };
        if listener.is_full() {
            return self.syn_again(from, attempt, tries);
        }
        listener.handshaking += 1;
        let mut embryo = Socket::new(Family::Tcp, listening.v6, listening.options.clone());
        embryo.peer = Name::Ip(back);
        embryo.role = Role::Stream(Stream { listener: Some(listener_id), ..Stream::to(from) });
        let embryo = self.sockets.insert(embryo);
        self.take_port(embryo, to);
        self.send_in_order(embryo, Action::SynAck { to: from, attempt, embryo });
    }

    /// Nobody answered: the client sends its SYN again, ever later, and gives up in the end.
    fn syn_again(&mut self, from: SocketId, attempt: u32, tries: u32) {
        let pause = Duration::from_secs(1 << tries.min(30));
        let action = if tries < self.config.syn_retries {
            Action::Syn { from, attempt, tries: tries + 1 }
        } else {
            Action::GaveUp { to: from, attempt }
        };
        self.timeline.plan(self.now + pause, action);
    }

    pub(crate) fn syn_ack(&mut self, to: SocketId, attempt: u32, embryo: SocketId) {
        if self.connecting(to, attempt).is_none() {
            let at = self.arrival();
            return self.timeline.plan(at, Action::Reset { to: embryo });
        }
        let stream = Stream { connect_told: false, ..Stream::to(embryo) };
        self.socket(to).role = Role::Stream(stream);
        self.edge(to);
        self.send_in_order(to, Action::Established { embryo });
    }

    pub(crate) fn established(&mut self, embryo: SocketId) {
        let Some(stream) = self.stream(embryo) else { return };
        let (listener_id, client) = (stream.listener, stream.peer);
        let listener = listener_id.and_then(|id| self.sockets.get_mut(id));
        match listener.and_then(|socket| socket.listener_mut()) {
            Some(listener) => {
                listener.handshaking -= 1;
                listener.queue.push_back(embryo);
                if let Some(id) = listener_id {
                    self.edge(id);
                }
            }
            None => {
                // The listener was closed meanwhile.
                self.forget_name(embryo);
                self.sockets.remove(embryo);
                let at = self.arrival();
                self.timeline.plan(at, Action::Reset { to: client });
            }
        }
    }

    pub(crate) fn connect_failed(&mut self, to: SocketId, attempt: u32, fault: Fault) {
        if self.connecting(to, attempt).is_none() {
            return;
        }
        if !self.socket(to).bound {
            self.forget_name(to);
        }
        let socket = self.socket(to);
        socket.role = Role::Failed;
        socket.peer = Name::None;
        socket.error = Some(fault);
        self.edge(to);
    }

    fn connecting(&self, id: SocketId, wanted: u32) -> Option<&Socket> {
        self.sockets.get(id).filter(|socket| {
            matches!(socket.role, Role::Connecting(Connecting { attempt }) if attempt == wanted)
        })
    }

    fn random_of(&mut self, ids: &[SocketId]) -> Option<SocketId> {
        match ids {
            [] | [_] => ids.first().copied(),
            _ => ids.get(self.random.below(ids.len() as u64) as usize).copied(),
        }
    }

    /// Whether the connection is on its way into the listener's queue.
    pub(crate) fn is_handshaking(&mut self, listener: SocketId, embryo: SocketId) -> bool {
        let listener = self.sockets.get_mut(listener).and_then(|socket| socket.listener_mut());
        listener.is_some_and(|listener| !listener.queue.contains(&embryo))
    }

    // ---- Unix

    fn connect_unix(&mut self, id: SocketId, peer: &Address) -> Outcome<Connect> {
        let target = self.find_unix(peer, Family::UnixStream)?;
        let local = self.socket(id).local.clone();
        let listening = self.socket(target);
        let (options, listener_name) = (listening.options.clone(), listening.local.clone());
        let Role::Listening(listener) = &mut listening.role else { return Err(ECONNREFUSED) };
        if listener.is_full() {
            return Err(EAGAIN);
        }
        let mut embryo = Socket::new(Family::UnixStream, false, options);
        embryo.local = listener_name.clone();
        // An unbound client is a peer without a name.
        embryo.peer = match local {
            Name::None => Name::Unix(tepal_driver::UnixAddress::Unnamed),
            name => name,
        };
        embryo.role = Role::Stream(Stream { listener: Some(target), ..Stream::to(id) });
        let embryo = self.sockets.insert(embryo);
        if let Some(listener) = self.socket(target).listener_mut() {
            listener.queue.push_back(embryo);
        }
        self.edge(target);
        let socket = self.socket(id);
        socket.peer = listener_name;
        socket.role = Role::Stream(Stream::to(embryo));
        self.edge(id);
        Ok(Connect::Connected)
    }

    /// The live socket behind a Unix address.
    pub(crate) fn find_unix(&mut self, address: &Address, family: Family) -> Outcome<SocketId> {
        let Address::Unix(address) = address else {
            return Err(if family == Family::UnixStream { EAFNOSUPPORT } else { EINVAL });
        };
        let name = UnixName::of(address).ok_or(EINVAL)?;
        let id = match (self.unix_names.get(&name), &name) {
            (Some(Some(id)), _) => *id,
            // A file without a socket, an abstract name that nobody has.
            (Some(None), _) | (None, UnixName::Abstract(_)) => return Err(ECONNREFUSED),
            (None, UnixName::Path(path)) if self.files.contains_key(path) => {
                return Err(ECONNREFUSED);
            }
            (None, UnixName::Path(_)) => return Err(ENOENT),
        };
        if self.socket(id).family == family { Ok(id) } else { Err(EPROTOTYPE) }
    }

    // ---- both

    pub(crate) fn accept(&mut self, driver: usize, id: SocketId) -> Outcome<(Descriptor, Address)> {
        let socket = self.socket(id);
        let family = socket.family;
        let Some(listener) = socket.listener_mut() else {
            return Err(match family {
                Family::Udp | Family::UnixDatagram => EOPNOTSUPP,
                _ => EINVAL,
            });
        };
        let Some(embryo) = listener.queue.front().copied() else { return Err(EAGAIN) };
        self.check_room(driver, 1)?;
        if self.pretends_to_block(id) {
            return Err(EAGAIN);
        }
        if let Some(listener) = self.socket(id).listener_mut() {
            listener.queue.pop_front();
        }
        let descriptor = self.install(driver, embryo);
        let socket = self.socket(embryo);
        let address = shown(&socket.peer, socket.family, socket.v6);
        if let Some(stream) = socket.stream_mut() {
            stream.listener = None;
        }
        Ok((descriptor, address))
    }

    /// Closes a listener: the connections that nobody accepted are reset.
    pub(crate) fn close_listener(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let family = socket.family;
        let queue = socket.listener_mut().map(|listener| std::mem::take(&mut listener.queue));
        self.forget_name(id);
        self.sockets.remove(id);
        for embryo in queue.unwrap_or_default() {
            let Some(stream) = self.stream(embryo) else { continue };
            let client = stream.peer;
            self.forget_name(embryo);
            self.sockets.remove(embryo);
            if family == Family::Tcp {
                let at = self.arrival();
                self.timeline.plan(at, Action::Reset { to: client });
            } else {
                self.unix_reset(client);
            }
        }
    }

    fn unix_reset(&mut self, id: SocketId) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.fin_received = true;
        stream.write_shut = true;
        self.socket(id).error = Some(crate::errno::ECONNRESET);
        self.edge(id);
    }
}
