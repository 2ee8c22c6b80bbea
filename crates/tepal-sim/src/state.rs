use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tepal_base::{Instant, Key, Slab};
use tepal_driver::{Descriptor, Interest, Signal, Waker};

use crate::config::Config;
use crate::errno::{EBADF, EMFILE, Outcome};
use crate::files::File;
use crate::kernel::Route;
use crate::ports::{Ports, UnixName};
use crate::random::Random;
use crate::socket::{Family, Owner, Socket, SocketId};
use crate::timeline::{Action, Timeline};
use crate::trace::Trace;
use crate::waiting::{Flag, Waiting};

/// All of the simulated world; [`SimKernel`](crate::SimKernel) shares it.
///
/// One value holds everything and sockets name each other by keys, so that a driver's call is a
/// plain method and no object outlives the world. No user code runs inside: wakers are used after
/// the lock is gone.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) now: Instant,
    // What the wall clock shows at Instant::ZERO.
    pub(crate) wall_origin: SystemTime,
    pub(crate) random: Random,
    pub(crate) timeline: Timeline,
    pub(crate) sockets: Slab<Socket>,
    pub(crate) ports: Ports,
    pub(crate) unix_names: BTreeMap<UnixName, Option<SocketId>>,
    pub(crate) files: BTreeMap<PathBuf, File>,
    pub(crate) last_inode: u64,
    pub(crate) routes: BTreeMap<IpAddr, Route>,
    // Dropped drivers leave a hole: a DriverId is never used again.
    pub(crate) drivers: Vec<Option<DriverState>>,
    pub(crate) leaked: usize,
    // Of dropped drivers.
    pub(crate) past_calls: BTreeMap<&'static str, u64>,
    pub(crate) attempts: u32,
    // Waits since the clock last moved.
    pub(crate) stalled: u32,
    pub(crate) trace: Trace,
}

/// What the kernel keeps for one driver.
pub(crate) struct DriverState {
    pub(crate) descriptors: Slab<Entry>,
    // Descriptors with an edge that no wait has looked at.
    pub(crate) ready: VecDeque<Key<Entry>>,
    pub(crate) flag: Arc<Flag>,
    pub(crate) waiting: Waiting,
    pub(crate) entropy: Random,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) signals: BTreeMap<Signal, Subscription>,
    pub(crate) sources: u64,
}

pub(crate) struct Subscription {
    pub(crate) source: u64,
    pub(crate) waker: Waker,
    pub(crate) pending: bool,
}

/// An open descriptor.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) socket: SocketId,
    pub(crate) registration: Option<Registration>,
}

#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) token: u64,
    pub(crate) interest: Interest,
    // By `watch`, not by `register`.
    pub(crate) level: bool,
    // Stands in `DriverState::ready`.
    pub(crate) queued: bool,
}

/// Where a datagram comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) socket: SocketId,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    // The sender's IP_MULTICAST_LOOP.
    pub(crate) group_loop: bool,
}

impl State {
    pub(crate) fn new(config: Config) -> State {
        State {
            now: Instant::ZERO,
            // 2026-01-01T00:00:00Z, a fixed day like any other.
            wall_origin: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600),
            random: Random::new(config.seed, 0),
            timeline: Timeline::default(),
            sockets: Slab::new(),
            ports: Ports::new(*config.ephemeral_ports.start()),
            unix_names: BTreeMap::new(),
            files: BTreeMap::new(),
            last_inode: 0,
            routes: BTreeMap::new(),
            drivers: Vec::new(),
            leaked: 0,
            past_calls: BTreeMap::new(),
            attempts: 0,
            stalled: 0,
            trace: Trace::new(config.record_trace),
            config,
        }
    }

    pub(crate) fn add_driver(&mut self) -> (usize, Arc<Flag>) {
        let index = self.drivers.len();
        let flag = Arc::new(Flag::default());
        self.drivers.push(Some(DriverState {
            descriptors: Slab::new(),
            ready: VecDeque::new(),
            flag: Arc::clone(&flag),
            waiting: Waiting::default(),
            entropy: Random::new(self.config.seed, 1 + index as u64),
            calls: BTreeMap::new(),
            signals: BTreeMap::new(),
            sources: 0,
        }));
        (index, flag)
    }

    /// Closes what a dropped driver left open, as the end of a process does.
    ///
    /// Returns its record, whose wakers the caller drops outside the lock.
    pub(crate) fn remove_driver(&mut self, driver: usize) -> Option<DriverState> {
        let keys: Vec<_> = self.driver(driver).descriptors.iter().map(|(key, _)| key).collect();
        self.leaked += keys.len();
        for key in keys {
            // The key was found a moment ago.
            let _ = self.close(driver, Key::from_bits(key.to_bits()));
        }
        self.run_due();
        let record = self.drivers[driver].take()?;
        for (name, count) in &record.calls {
            *self.past_calls.entry(*name).or_insert(0) += count;
        }
        Some(record)
    }

    pub(crate) fn driver(&mut self, driver: usize) -> &mut DriverState {
        self.drivers[driver].as_mut().expect("a driver's state lives as long as the SimDriver")
    }

    // ---- descriptors

    pub(crate) fn check_room(&mut self, driver: usize, more: usize) -> Outcome<()> {
        let most = self.config.max_descriptors;
        if self.driver(driver).descriptors.len() + more > most { Err(EMFILE) } else { Ok(()) }
    }

    /// Gives a socket a descriptor. The caller has checked that there is room.
    pub(crate) fn install(&mut self, driver: usize, socket: SocketId) -> Descriptor {
        let key = self.driver(driver).descriptors.insert(Entry { socket, registration: None });
        let descriptor = Key::from_bits(key.to_bits());
        if let Some(socket) = self.sockets.get_mut(socket) {
            socket.owner = Some(Owner { driver, descriptor });
        }
        descriptor
    }

    pub(crate) fn entry(&mut self, driver: usize, descriptor: Descriptor) -> Outcome<&mut Entry> {
        self.driver(driver).descriptors.get_mut(entry_key(descriptor)).ok_or(EBADF)
    }

    pub(crate) fn find(&mut self, driver: usize, descriptor: Descriptor) -> Outcome<SocketId> {
        self.entry(driver, descriptor).map(|entry| entry.socket)
    }

    /// As `find`, but `EBADF` for what is no socket.
    pub(crate) fn find_socket(
        &mut self,
        driver: usize,
        descriptor: Descriptor,
    ) -> Outcome<SocketId> {
        let id = self.find(driver, descriptor)?;
        if self.socket(id).family.is_socket() { Ok(id) } else { Err(EBADF) }
    }

    /// The socket of an id that was found in this call: by a descriptor, or looked up before.
    pub(crate) fn socket(&mut self, id: SocketId) -> &mut Socket {
        self.sockets.get_mut(id).expect("a socket lives as long as its descriptor")
    }

    // ---- time

    /// Lets everything happen that is due now.
    pub(crate) fn run_due(&mut self) {
        while let Some(action) = self.timeline.pop_due(self.now) {
            let (what, whom, size) = action.describe();
            self.trace.line(self.now, format_args!("~ {what} s{} {size}", whom as u32));
            self.happen(action);
        }
    }

    fn happen(&mut self, action: Action) {
        match action {
            Action::Syn { from, attempt, tries } => self.syn(from, attempt, tries),
            Action::SynAck { to, attempt, embryo } => self.syn_ack(to, attempt, embryo),
            Action::Established { embryo } => self.established(embryo),
            Action::Refused { to, attempt } => {
                self.connect_failed(to, attempt, crate::errno::ECONNREFUSED);
            }
            Action::GaveUp { to, attempt } => {
                self.connect_failed(to, attempt, crate::errno::ETIMEDOUT);
            }
            Action::Bytes { from, to, bytes } => self.bytes_arrive(from, to, bytes),
            Action::Fin { from, to } => self.fin_arrives(from, to),
            Action::Reset { to } => self.reset_arrives(to),
            Action::Datagram { source, bytes } => self.datagram_arrives(source, bytes),
            Action::Unreachable { to } => self.unreachable_arrives(to),
        }
    }

    /// When something arrives that leaves now.
    pub(crate) fn arrival(&mut self) -> Instant {
        let least = self.config.latency.start().as_nanos() as u64;
        let most = self.config.latency.end().as_nanos() as u64;
        let span = most.saturating_sub(least);
        let extra = if span == 0 { 0 } else { self.random.below(span + 1) };
        self.now + std::time::Duration::from_nanos(least.saturating_add(extra))
    }

    pub(crate) fn note_call(&mut self, driver: usize, name: &'static str) {
        *self.driver(driver).calls.entry(name).or_insert(0) += 1;
    }

    /// Draws whether a call that could do something pretends that it would block; then an edge
    /// follows.
    pub(crate) fn pretends_to_block(&mut self, id: SocketId) -> bool {
        let percent = self.config.disturbance.would_block.min(90);
        let pretends = self.random.chance(percent);
        if pretends {
            self.edge(id);
        }
        pretends
    }

    /// For messages: what a descriptor is.
    pub(crate) fn describe(&self, id: SocketId) -> String {
        let Some(socket) = self.sockets.get(id) else { return "nothing".to_owned() };
        let family = match socket.family {
            Family::Tcp => "tcp",
            Family::Udp => "udp",
            Family::UnixStream => "unix stream",
            Family::UnixDatagram => "unix datagram",
            Family::Pipe => "pipe",
            Family::File => "file",
        };
        format!("{family} {}{}", socket.local, socket.role)
    }
}

pub(crate) fn entry_key(descriptor: Descriptor) -> Key<Entry> {
    Key::from_bits(descriptor.to_bits())
}
