//! How streams end: FIN, reset, shutdown, close.

use tepal_driver::Half;

use crate::errno::{ECONNRESET, ENOTCONN, EPIPE, Outcome};
use crate::socket::{Family, Name, Role, SocketId};
use crate::state::State;
use crate::timeline::Action;

impl State {
    pub(crate) fn fin_arrives(&mut self, from: SocketId, to: SocketId) {
        if let Some(stream) = self.stream_mut(to)
            && !stream.dead
        {
            stream.fin_received = true;
            self.edge(to);
        }
        let Some(stream) = self.stream_mut(from) else { return };
        stream.fin_arrived = true;
        if stream.orphan {
            self.free_orphan(from);
        }
    }

    /// A closed socket whose FIN has arrived is done. The side that closed first keeps its port.
    fn free_orphan(&mut self, id: SocketId) {
        let closed_first = self.stream(id).is_some_and(|stream| !stream.fin_received);
        if closed_first && let Some(local) = self.sockets.get(id).and_then(|s| s.local.ip()) {
            let until = self.now + self.config.time_wait;
            self.ports.keep_waiting(local, until, self.now);
        }
        self.forget_name(id);
        self.sockets.remove(id);
    }

    pub(crate) fn reset_arrives(&mut self, to: SocketId) {
        let Some(stream) = self.stream_mut(to) else { return };
        if stream.dead {
            return;
        }
        stream.dead = true;
        stream.outgoing.clear();
        stream.on_wire = 0;
        // CLOSE_WAIT: the peer had ended its direction, so it is our writing that broke.
        let error = if stream.fin_received { EPIPE } else { ECONNRESET };
        let (orphan, listener) = (stream.orphan, stream.listener);
        self.socket(to).error = Some(error);
        match listener {
            _ if orphan => {
                self.forget_name(to);
                self.sockets.remove(to);
            }
            // Linux drops a connection that is reset before its handshake ends and lets one that
            // waits in the queue be accepted.
            Some(listener) if self.is_handshaking(listener, to) => {
                if let Some(listener) = self.socket(listener).listener_mut() {
                    listener.handshaking -= 1;
                }
                self.forget_name(to);
                self.sockets.remove(to);
            }
            _ => self.edge(to),
        }
    }

    pub(crate) fn shutdown(&mut self, id: SocketId, half: Half) -> Outcome<()> {
        let (read, write) = (half != Half::Write, half != Half::Read);
        let socket = self.socket(id);
        let family = socket.family;
        let connected = socket.peer != Name::None;
        let peer = match &mut socket.role {
            Role::Stream(stream) if !stream.is_over() || family == Family::UnixStream => {
                stream.read_shut |= read;
                stream.write_shut |= write;
                stream.peer
            }
            Role::Idle if family == Family::UnixStream => return Ok(()),
            Role::Datagrams(datagrams) => {
                datagrams.read_shut |= read;
                datagrams.write_shut |= write;
                self.edge(id);
                // Linux does it to an unconnected UDP socket too, and yet complains.
                let told = connected || family == Family::UnixDatagram;
                return if told { Ok(()) } else { Err(ENOTCONN) };
            }
            _ => return Err(ENOTCONN),
        };
        self.edge(id);
        if write {
            self.transmit(id);
        }
        if read && family == Family::UnixStream {
            if let Some(stream) = self.stream_mut(peer) {
                stream.write_shut = true;
            }
            self.edge(peer);
        }
        Ok(())
    }

    /// The program has closed a stream: its descriptor is gone.
    pub(crate) fn close_stream(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let (family, linger_zero) = (socket.family, socket.options.linger_zero);
        let Some(stream) = socket.stream_mut() else { return };
        let (peer, unread) = (stream.peer, !stream.incoming.is_empty());
        if family != Family::Tcp {
            self.close_local(id, peer, unread && family == Family::UnixStream);
        } else if stream.dead {
            self.forget_name(id);
            self.sockets.remove(id);
        } else if linger_zero || unread {
            self.send_in_order(id, Action::Reset { to: peer });
            self.forget_name(id);
            self.sockets.remove(id);
        } else if stream.fin_arrived {
            self.free_orphan(id);
        } else {
            stream.orphan = true;
            stream.write_shut = true;
            self.transmit(id);
        }
    }

    fn close_local(&mut self, id: SocketId, peer: SocketId, broken: bool) {
        self.forget_name(id);
        self.sockets.remove(id);
        let Some(stream) = self.stream_mut(peer) else { return };
        stream.fin_received = true;
        stream.write_shut = true;
        if broken {
            self.socket(peer).error = Some(ECONNRESET);
        }
        self.edge(peer);
    }
}
