//! Readiness, as epoll does it: an edge puts a descriptor on its driver's ready list; a wait then
//! looks at what the descriptor is ready for *at that moment*, so an edge may turn out stale.

use tepal_driver::{Descriptor, Event, Interest, Readiness};

use crate::errno::{EEXIST, EINVAL, Outcome};
use crate::socket::{Family, Role, SocketId, Stream};
use crate::state::{Registration, State, entry_key};

/// A write to a pipe of at most this many bytes is whole or not at all (`PIPE_BUF`).
pub(crate) const PIPE_ATOM: usize = 4096;

impl State {
    pub(crate) fn register(
        &mut self,
        driver: usize,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> Outcome<()> {
        let entry = self.entry(driver, descriptor)?;
        if entry.registration.is_some() {
            return Err(EEXIST);
        }
        let queued = false;
        entry.registration = Some(Registration { token, interest, level: false, queued });
        let id = entry.socket;
        self.edge(id);
        Ok(())
    }

    pub(crate) fn watch(
        &mut self,
        driver: usize,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> Outcome<()> {
        let entry = self.entry(driver, descriptor)?;
        let queued = match &entry.registration {
            Some(registration) if !registration.level => return Err(EINVAL),
            Some(registration) => registration.queued,
            None => false,
        };
        entry.registration = Some(Registration { token, interest, level: true, queued });
        let id = entry.socket;
        self.edge(id);
        Ok(())
    }

    /// Something happened to the socket: the next wait looks at it.
    pub(crate) fn edge(&mut self, id: SocketId) {
        let Some(owner) = self.sockets.get(id).and_then(|socket| socket.owner) else { return };
        let Some(driver) = self.drivers[owner.driver].as_mut() else { return };
        let key = entry_key(owner.descriptor);
        let Some(entry) = driver.descriptors.get_mut(key) else { return };
        if let Some(registration) = &mut entry.registration
            && !registration.queued
        {
            registration.queued = true;
            driver.ready.push_back(key);
        }
    }

    /// A send on this descriptor blocked: from now on room is reported too.
    pub(crate) fn want_writable(&mut self, id: SocketId) {
        let Some(owner) = self.sockets.get(id).and_then(|socket| socket.owner) else { return };
        if let Ok(entry) = self.entry(owner.driver, owner.descriptor)
            && let Some(registration) = &mut entry.registration
            && !registration.level
        {
            registration.interest.write = true;
        }
    }

    /// Whether a wait of this driver would report something now.
    pub(crate) fn has_ready(&self, driver: usize) -> bool {
        let Some(state) = self.drivers[driver].as_ref() else { return false };
        state.ready.iter().any(|key| {
            state.descriptors.get(*key).is_some_and(|entry| {
                entry.registration.as_ref().is_some_and(|registration| {
                    !mask(self.level(entry.socket), registration.interest).is_empty()
                })
            })
        })
    }

    /// Empties the ready list into events.
    pub(crate) fn gather(&mut self, driver: usize, events: &mut Vec<Event>) {
        let first = events.len();
        for _ in 0..self.driver(driver).ready.len() {
            let state = self.driver(driver);
            let Some(key) = state.ready.pop_front() else { break };
            let Some(entry) = state.descriptors.get(key) else { continue };
            let Some(registration) = &entry.registration else { continue };
            let (token, level, interest) =
                (registration.token, registration.level, registration.interest);
            let id = entry.socket;
            let readiness = mask(self.level(id), interest);
            // A watched descriptor stays on the list as long as it is ready.
            let stays = level && !readiness.is_empty();
            let state = self.driver(driver);
            if stays {
                state.ready.push_back(key);
            } else if let Some(entry) = state.descriptors.get_mut(key)
                && let Some(registration) = &mut entry.registration
            {
                registration.queued = false;
            }
            if !readiness.is_empty() {
                events.push(Event { token, readiness });
            }
        }
        self.disturb_events(driver, events, first);
    }

    fn disturb_events(&mut self, driver: usize, events: &mut Vec<Event>, first: usize) {
        let disturbance = self.config.disturbance;
        if self.random.chance(disturbance.spurious_events.min(90)) {
            let registered: Vec<_> = (self.driver(driver).descriptors.iter())
                .filter_map(|(_, entry)| entry.registration.as_ref())
                .filter(|registration| !registration.interest.is_none() && !registration.level)
                .map(|registration| (registration.token, registration.interest))
                .collect();
            let pick = self.random.below(registered.len() as u64) as usize;
            if let Some((token, interest)) = registered.get(pick) {
                let both = Readiness::READABLE | Readiness::WRITABLE;
                let readiness = mask(both, *interest);
                events.push(Event { token: *token, readiness });
            }
        }
        if self.random.chance(disturbance.reordered_events) {
            self.random.shuffle(&mut events[first..]);
        }
    }

    /// What a descriptor is ready for at this moment.
    pub(crate) fn level(&self, id: SocketId) -> Readiness {
        let Some(socket) = self.sockets.get(id) else { return Readiness::NONE };
        let mut ready = match &socket.role {
            // Linux says EPOLLOUT and EPOLLHUP of a fresh stream socket.
            Role::Idle | Role::Failed => hang_up(),
            Role::Listening(listener) if !listener.queue.is_empty() => Readiness::READABLE,
            Role::Listening(_) | Role::Connecting(_) => Readiness::NONE,
            Role::Stream(stream) => self.stream_level(id, stream),
            Role::Datagrams(datagrams) => {
                let mut ready = Readiness::NONE;
                if !datagrams.queue.is_empty() || datagrams.read_shut {
                    ready |= Readiness::READABLE;
                }
                if datagrams.read_shut {
                    ready |= Readiness::READ_CLOSED;
                }
                if !datagrams.peer.is_some_and(|peer| self.is_full(peer)) {
                    ready |= Readiness::WRITABLE;
                }
                ready
            }
            Role::File(_) => Readiness::READABLE | Readiness::WRITABLE,
        };
        if socket.error.is_some() {
            ready = ready | Readiness::ERROR | Readiness::READABLE | Readiness::WRITABLE;
        }
        ready
    }

    fn stream_level(&self, id: SocketId, stream: &Stream) -> Readiness {
        let mut ready = Readiness::NONE;
        let ended = stream.fin_received || stream.read_shut || stream.dead;
        if stream.reads {
            if ended || !stream.incoming.is_empty() {
                ready |= Readiness::READABLE;
            }
            if ended {
                ready |= Readiness::READ_CLOSED;
            }
        }
        if stream.writes && (stream.write_shut || stream.dead || self.is_writable(id)) {
            ready |= Readiness::WRITABLE;
        }
        // EPOLLHUP when both directions are over; for a pipe's end that is its only one.
        let no_input = !stream.reads || stream.fin_received || stream.read_shut;
        let no_output = !stream.writes || stream.write_shut;
        if stream.dead || (no_input && no_output) {
            ready = hang_up();
        }
        if !stream.reads && stream.write_shut {
            // EPOLLERR: a pipe without a reader.
            ready = Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR;
        }
        ready
    }

    /// Whether a stream has so much room that a wait reports it: a third of its buffer, as on
    /// Linux, so that a writer is not woken for every byte; for a pipe one atomic write.
    pub(crate) fn is_writable(&self, id: SocketId) -> bool {
        let Some(socket) = self.sockets.get(id) else { return false };
        let room = self.room(id);
        match socket.family {
            Family::Pipe => room >= PIPE_ATOM,
            _ => room > 0 && room * 3 >= socket.options.send_buffer,
        }
    }
}

/// EPOLLHUP: both directions are at their end, and whoever reads or writes next will learn it.
fn hang_up() -> Readiness {
    Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED | Readiness::ERROR
}

/// The part that was asked for. Errors are always told.
fn mask(ready: Readiness, interest: Interest) -> Readiness {
    let mut wanted = Readiness::NONE;
    for (bit, asked) in [
        (Readiness::READABLE, interest.read),
        (Readiness::READ_CLOSED, interest.read),
        (Readiness::WRITABLE, interest.write),
        (Readiness::ERROR, !interest.is_none()),
    ] {
        if asked && ready.intersects(bit) {
            wanted |= bit;
        }
    }
    wanted
}
