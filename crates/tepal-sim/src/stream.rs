//! Bytes on their way: what is sent waits in `outgoing` for room at the peer, travels, and waits
//! in the peer's `incoming` to be read. Unix streams and pipes travel in no time, and what their
//! peer has not read counts against the sender's buffer, as on Linux.

use std::collections::VecDeque;
use std::io::IoSlice;

use tepal_driver::Sent;

use crate::errno::{EAGAIN, EBADF, EINVAL, ENOTCONN, EPIPE, Outcome};
use crate::readiness::PIPE_ATOM;
use crate::socket::{Family, Role, SocketId, Stream};
use crate::state::State;
use crate::timeline::Action;

impl State {
    /// Reads to the front of `target`; tells also whether more may be there.
    pub(crate) fn receive(&mut self, id: SocketId, target: &mut [u8]) -> Outcome<(usize, bool)> {
        let short_reads = self.config.disturbance.short_reads;
        let socket = self.socket(id);
        let family = socket.family;
        let stream = match &mut socket.role {
            Role::Stream(stream) => stream,
            Role::Connecting(_) => return Err(EAGAIN),
            Role::Datagrams(_) => {
                // As recv(2) does. Whether another datagram waits, its length does not tell.
                return self.receive_from(id, target).map(|(count, _)| (count, true));
            }
            Role::File(_) => return self.read_open_file(id, target),
            Role::Failed => return socket.error.take().map_or(Ok((0, false)), Err),
            Role::Idle | Role::Listening(_) => {
                return Err(match family {
                    Family::UnixStream => EINVAL,
                    _ => socket.error.take().unwrap_or(ENOTCONN),
                });
            }
        };
        if !stream.reads {
            return Err(EBADF);
        }
        if target.is_empty() {
            return Ok((0, true));
        }
        // After a short read no event would tell of an end that came before.
        let ended = stream.fin_received || stream.dead;
        if stream.incoming.is_empty() {
            // What had arrived comes first, then a FIN, then the error, once.
            return match socket.error {
                _ if stream.fin_received && family == Family::Tcp => Ok((0, false)),
                Some(error) => {
                    socket.error = None;
                    Err(error)
                }
                None if stream.fin_received || stream.read_shut || stream.dead => Ok((0, false)),
                None => Err(EAGAIN),
            };
        }
        let mut count = stream.incoming.len().min(target.len());
        if self.pretends_to_block(id) {
            return Err(EAGAIN);
        }
        let cut = count > 1 && self.random.chance(short_reads);
        if cut {
            count = self.random.part(count - 1);
        }
        let bytes = self.take_incoming(id, count);
        target[..count].copy_from_slice(&bytes);
        if cut && self.random.chance(50) {
            // The other legal answer to what is left: an edge.
            self.edge(id);
            return Ok((count, false));
        }
        Ok((count, cut || ended || count == target.len()))
    }

    /// Takes bytes that have arrived, which makes room for the sender.
    fn take_incoming(&mut self, id: SocketId, count: usize) -> Vec<u8> {
        let Some((peer, was_writable)) =
            self.stream(id).map(|stream| stream.peer).map(|peer| (peer, self.is_writable(peer)))
        else {
            return Vec::new();
        };
        let socket = self.socket(id);
        let is_tcp = socket.family == Family::Tcp;
        let Some(stream) = socket.stream_mut() else { return Vec::new() };
        let bytes = stream.incoming.drain(..count).collect();
        if is_tcp {
            self.transmit(peer);
        } else if !was_writable && self.is_writable(peer) {
            self.edge(peer);
        }
        bytes
    }

    pub(crate) fn send(&mut self, id: SocketId, slices: &[IoSlice<'_>]) -> Outcome<Sent> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.socket(id).datagrams().is_some() {
            return self.send_datagram(id, slices);
        }
        self.check_send(id)?;
        if total == 0 {
            return Ok(Sent { count: 0, blocked: false });
        }
        let room = self.room_for(id, total);
        if room == 0 || self.pretends_to_block(id) {
            self.want_writable(id);
            return Ok(Sent { count: 0, blocked: true });
        }
        let mut most = total;
        if room > 1 && self.random.chance(self.config.disturbance.short_writes) {
            most = self.random.part(room - 1);
            self.edge(id);
        }
        // What arrives at once makes room at once, as on a real loopback.
        let mut count = 0;
        while count < most && self.stream(id).is_some_and(|stream| !stream.dead) {
            let part = self.room_for(id, most - count);
            if part == 0 {
                break;
            }
            self.give(id, copy(slices, count, part));
            self.run_due();
            count += part;
        }
        if count < total {
            self.want_writable(id);
        }
        Ok(Sent { count, blocked: count < total })
    }

    /// As send(2) on a connected datagram socket does: one datagram of all slices.
    fn send_datagram(&mut self, id: SocketId, slices: &[IoSlice<'_>]) -> Outcome<Sent> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        match self.send_to(id, &bytes, None) {
            Ok(count) => Ok(Sent { count, blocked: false }),
            Err(EAGAIN) => Ok(Sent { count: 0, blocked: true }),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) fn check_send(&mut self, id: SocketId) -> Outcome<()> {
        let socket = self.socket(id);
        let family = socket.family;
        match &socket.role {
            Role::Stream(stream) if !stream.writes => Err(EBADF),
            // Linux tells the pending error once, then EPIPE; Unix sockets EPIPE at once.
            Role::Stream(stream) if stream.write_shut || stream.dead => match family {
                Family::Tcp => Err(socket.error.take().unwrap_or(EPIPE)),
                _ => Err(EPIPE),
            },
            Role::Stream(_) | Role::Connecting(_) => Ok(()),
            Role::Datagrams(_) | Role::File(_) => Err(EBADF),
            Role::Idle | Role::Failed | Role::Listening(_) => Err(match family {
                Family::UnixStream => ENOTCONN,
                _ => socket.error.take().unwrap_or(EPIPE),
            }),
        }
    }

    /// How much of `total` bytes a send may take now.
    pub(crate) fn room_for(&mut self, id: SocketId, total: usize) -> usize {
        let room = self.room(id);
        // A pipe holds pages, and one that was read in part is still taken. Saying no until a
        // whole one is free also keeps small writes whole.
        let no_page = self.socket(id).family == Family::Pipe && room < PIPE_ATOM;
        if no_page { 0 } else { room.min(total) }
    }

    /// Free bytes of a stream's send buffer; zero for what is no connected stream.
    pub(crate) fn room(&self, id: SocketId) -> usize {
        let Some(socket) = self.sockets.get(id) else { return 0 };
        let Some(stream) = socket.stream() else { return 0 };
        let used = match socket.family {
            Family::Tcp => stream.outgoing.len() + stream.on_wire,
            _ => stream.on_wire + self.stream(stream.peer).map_or(0, |peer| peer.incoming.len()),
        };
        socket.options.send_buffer.saturating_sub(used)
    }

    /// Bytes that a TCP stream has taken and that have not arrived.
    pub(crate) fn unconfirmed(&self, id: SocketId) -> usize {
        let is_tcp = self.sockets.get(id).is_some_and(|socket| socket.family == Family::Tcp);
        let stream = self.stream(id).filter(|_| is_tcp);
        stream.map_or(0, |stream| stream.outgoing.len() + stream.on_wire)
    }

    /// Takes bytes into the send buffer and sends what the peer has room for.
    pub(crate) fn give(&mut self, id: SocketId, mut bytes: VecDeque<u8>) {
        if let Some(stream) = self.socket(id).stream_mut() {
            stream.outgoing.append(&mut bytes);
        }
        self.transmit(id);
    }

    /// Sends what is waiting, as far as the peer has room, and then the FIN.
    pub(crate) fn transmit(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(id) else { return };
        let Some(stream) = socket.stream() else { return };
        if stream.dead {
            return;
        }
        let (peer, is_tcp) = (stream.peer, socket.family == Family::Tcp);
        let window = match self.sockets.get(peer) {
            Some(other) if is_tcp => {
                let held = other.stream().map_or(0, |other| other.incoming.len());
                other.options.receive_buffer.saturating_sub(held + stream.on_wire)
            }
            // A sender learns from the reset that nobody is there.
            _ => usize::MAX,
        };
        let mut left = stream.outgoing.len().min(window);
        while left > 0 {
            let cut = is_tcp && left > 1 && self.random.chance(self.config.disturbance.pieces);
            let size = if cut { self.random.part(left) } else { left };
            left -= size;
            let Some(stream) = self.socket(id).stream_mut() else { return };
            let bytes: Vec<u8> = stream.outgoing.drain(..size).collect();
            stream.on_wire += size;
            self.send_in_order(id, Action::Bytes { from: id, to: peer, bytes });
        }
        let Some(stream) = self.socket(id).stream_mut() else { return };
        if stream.outgoing.is_empty() && stream.write_shut && !stream.fin_sent {
            stream.fin_sent = true;
            self.send_in_order(id, Action::Fin { from: id, to: peer });
        }
    }

    /// Plans an arrival behind everything that this stream has sent.
    pub(crate) fn send_in_order(&mut self, id: SocketId, action: Action) {
        let is_tcp = self.socket(id).family == Family::Tcp;
        let mut at = if is_tcp { self.arrival() } else { self.now };
        if let Some(stream) = self.socket(id).stream_mut() {
            at = at.max(stream.arrival);
            stream.arrival = at;
        }
        self.timeline.plan(at, action);
    }

    pub(crate) fn bytes_arrive(&mut self, from: SocketId, to: SocketId, bytes: Vec<u8>) {
        let was_writable = self.is_writable(from);
        if let Some(stream) = self.stream_mut(from) {
            stream.on_wire = stream.on_wire.saturating_sub(bytes.len());
            if !was_writable && self.is_writable(from) {
                self.edge(from);
            }
        }
        match self.stream_mut(to) {
            Some(stream) if !stream.orphan && !stream.dead => {
                stream.incoming.extend(bytes);
                self.edge(to);
            }
            found => {
                // Nobody will read this: the sender is told, and an orphan gives up.
                if found.is_some_and(|stream| stream.orphan) {
                    self.forget_name(to);
                    self.sockets.remove(to);
                }
                let at = self.arrival();
                self.timeline.plan(at, Action::Reset { to: from });
            }
        }
    }

    pub(crate) fn stream(&self, id: SocketId) -> Option<&Stream> {
        self.sockets.get(id).and_then(|socket| socket.stream())
    }

    pub(crate) fn stream_mut(&mut self, id: SocketId) -> Option<&mut Stream> {
        self.sockets.get_mut(id).and_then(|socket| socket.stream_mut())
    }
}

/// `count` bytes of the slices, after the first `skip`.
fn copy(slices: &[IoSlice<'_>], mut skip: usize, mut count: usize) -> VecDeque<u8> {
    let mut bytes = VecDeque::with_capacity(count);
    for slice in slices {
        let rest = &slice[skip.min(slice.len())..];
        skip -= slice.len() - rest.len();
        let part = &rest[..count.min(rest.len())];
        bytes.extend(part);
        count -= part.len();
    }
    bytes
}
