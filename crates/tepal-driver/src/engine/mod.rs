//! The engine: one set of operations on the kernel's descriptors, over either selector.

mod children;
mod driver;
mod files;
mod machine;
mod names;
mod options;
mod streams;
#[cfg(all(test, target_os = "linux", not(tepal_portable)))]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use tepal_base::{Instant, Key, Slab};

use crate::entry::{self, Entry, Fd, Kind, Registration};
use crate::selector::{Selector, Timeout, Trigger};
use crate::{Descriptor, Event, Interest, Readiness};

pub use names::{driver_names, open_driver};

/// A driver over the kernel, with `S` to hear of readiness.
pub(crate) struct Engine<S: Selector> {
    entries: Slab<Entry>,
    selector: S,
    // For each number of the kernel's that is registered: the entry that did it last. Borrowed
    // descriptors may be closed behind our back and their numbers used again; the number's present
    // holder must not suffer when the old token is closed.
    holders: Vec<Key<Entry>>,
    // Edges that no selector reports, for the next `collect`.
    own_edges: Vec<(Key<Entry>, Readiness)>,
}

// A key that finds nothing: the version of a taken place is odd.
const NOBODY: Key<Entry> = Key::from_bits(0);

impl<S: Selector> Engine<S> {
    pub(crate) fn new() -> io::Result<Engine<S>> {
        Ok(Engine {
            entries: Slab::new(),
            selector: S::new()?,
            holders: Vec::new(),
            own_edges: Vec::new(),
        })
    }

    fn insert(&mut self, entry: Entry) -> Descriptor {
        entry::descriptor(self.entries.insert(entry))
    }

    /// The entry of a token that is no child.
    fn entry(&mut self, descriptor: Descriptor) -> rustix::io::Result<&mut Entry> {
        match self.entries.get_mut(entry::key(descriptor)) {
            Some(entry) if !matches!(entry.kind, Kind::Child { .. } | Kind::Orphan { .. }) => {
                Ok(entry)
            }
            _ => Err(Errno::BADF),
        }
    }

    /// The entry of a token that is a socket.
    fn socket(&mut self, descriptor: Descriptor) -> rustix::io::Result<&mut Entry> {
        match self.entries.get_mut(entry::key(descriptor)) {
            Some(entry) if entry.is_socket() => Ok(entry),
            _ => Err(Errno::BADF),
        }
    }

    fn adopt_fd(&mut self, fd: OwnedFd) -> io::Result<Descriptor> {
        let kind = Kind::of(fd.as_fd())?;
        if kind != Kind::File {
            rustix::io::ioctl_fionbio(&fd, true)?;
        }
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        let mut entry = Entry::owned(fd, kind.made_nonblocking());
        entry.sole = false;
        Ok(self.insert(entry))
    }

    fn borrow_fd(&mut self, fd: RawFd) -> io::Result<Descriptor> {
        if fd < 0 {
            return Err(Errno::BADF.into());
        }
        let mut entry = Entry::new(Fd::Borrowed(fd), Kind::File);
        entry.kind = Kind::of(entry.as_fd())?;
        Ok(self.insert(entry))
    }

    // ---- registration

    fn register_edges(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let key = entry::key(descriptor);
        match self.entries.get(key).ok_or(Errno::BADF)?.registration {
            Registration::None => {}
            Registration::Superseded => return Err(Errno::BADF.into()),
            _ => return Err(Errno::EXIST.into()),
        }
        self.check_unclaimed(key)?;
        let entry = self.entries.get_mut(key).ok_or(Errno::BADF)?;
        let added = match entry.kind {
            Kind::File => Err(Errno::PERM.into()),
            _ => self.selector.add(entry.as_fd(), key, Trigger::Edge, interest),
        };
        match added {
            Ok(slot) => {
                entry.registration = Registration::Edges { token, slot, armed: interest };
                let fd = entry.as_raw_fd();
                self.hold(fd, key);
                Ok(())
            }
            // What epoll refuses never blocks: files, /dev/null.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                entry.kind = Kind::File;
                entry.registration = Registration::AlwaysReady { token };
                self.own_edges.push((key, of_interest(interest)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn watch_levels(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<()> {
        let key = entry::key(descriptor);
        let entry = self.entries.get_mut(key).ok_or(Errno::BADF)?;
        let slot = match entry.registration {
            Registration::None => None,
            Registration::Levels { slot, .. } => slot,
            Registration::Superseded => return Err(Errno::BADF.into()),
            Registration::Edges { .. } | Registration::AlwaysReady { .. } => {
                return Err(Errno::EXIST.into());
            }
        };
        if slot.is_none() {
            self.check_unclaimed(key)?;
        }
        let entry = self.entries.get_mut(key).ok_or(Errno::BADF)?;
        let fd = entry.as_raw_fd();
        let slot = match (slot, interest.is_none()) {
            (None, true) => {
                // Nothing to tell the kernel, so ask whether the descriptor exists.
                rustix::io::fcntl_getfd(entry.as_fd())?;
                None
            }
            (Some(slot), true) => {
                // Hang-ups are reported whatever the interest, so the kernel must let go of it.
                self.selector.remove(entry.as_fd(), slot, false);
                None
            }
            (None, false) if entry.kind == Kind::File => return Err(Errno::PERM.into()),
            (None, false) => Some(self.selector.add(entry.as_fd(), key, trigger, interest)?),
            (Some(slot), false) => {
                self.selector.change(entry.as_fd(), slot, key, trigger, interest)?;
                Some(slot)
            }
        };
        let once = trigger == Trigger::Once;
        entry.registration = Registration::Levels { token, slot, interest, once };
        self.hold(fd, key);
        Ok(())
    }

    // Whether a borrowed descriptor's number is in use by another token. epoll(7) itself knows
    // which file a number names, but not of a watcher that is stopped. A number that we own cannot
    // be anybody else's: who used it before has closed it. A watch that has reported once gives way.
    fn check_unclaimed(&mut self, key: Key<Entry>) -> rustix::io::Result<()> {
        let entry = self.entries.get(key).ok_or(Errno::BADF)?;
        if !entry.is_borrowed() {
            return Ok(());
        }
        let holder = self.holders.get(entry.as_raw_fd() as usize).copied();
        let holder = holder.filter(|holder| *holder != key);
        let Some(holder) = holder.and_then(|holder| self.entries.get_mut(holder)) else {
            return Ok(());
        };
        match holder.registration {
            Registration::Levels { slot: Some(slot), interest, once: true, .. }
                if interest.is_none() =>
            {
                self.selector.remove(holder.as_fd(), slot, false);
                holder.registration = Registration::Superseded;
                Ok(())
            }
            Registration::Levels { slot: None, .. } => Err(Errno::EXIST),
            Registration::Levels { .. } | Registration::Edges { .. } if !S::TELLS_DUPLICATES => {
                Err(Errno::EXIST)
            }
            _ => Ok(()),
        }
    }

    // Notes who has registered a number, and that an earlier holder has lost it.
    fn hold(&mut self, fd: RawFd, key: Key<Entry>) {
        let index = fd as usize; // Not negative: it was registered.
        if index >= self.holders.len() {
            self.holders.resize(index + 1, NOBODY);
        }
        let earlier = std::mem::replace(&mut self.holders[index], key);
        if earlier != key
            && let Some(entry) = self.entries.get_mut(earlier)
        {
            if let Some(slot) = entry.slot() {
                self.selector.remove(entry.as_fd(), slot, true);
            }
            entry.registration = Registration::Superseded;
        }
    }

    fn unregister(&mut self, key: Key<Entry>, entry: &Entry) {
        let fd = entry.as_raw_fd();
        if let Some(holder) = self.holders.get_mut(fd as usize)
            && *holder == key
        {
            *holder = NOBODY;
        }
        if let Some(slot) = entry.slot() {
            let edges = matches!(entry.registration, Registration::Edges { .. });
            self.selector.remove(entry.as_fd(), slot, entry.sole && edges);
        }
    }

    // ---- edges

    // Sees to it that an event follows when more can be read or written: one call to the kernel the
    // first time, none later.
    fn await_ready(&mut self, key: Key<Entry>, wanted: Interest) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Registration::Edges { slot, armed, .. } = &mut entry.registration else { return };
        let slot = *slot;
        if *armed == *armed | wanted {
            self.selector.rearm(slot, wanted);
            return;
        }
        let all = *armed | wanted;
        *armed = all;
        self.ask_again(key, slot, all);
    }

    // As `await_ready`, but what is ready now is reported too: for sockets that say `WouldBlock`
    // for a reason that is not their own (a Unix datagram's receiver is full).
    fn await_ready_afresh(&mut self, key: Key<Entry>, wanted: Interest) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Registration::Edges { slot, armed, .. } = &mut entry.registration else { return };
        let (slot, all) = (*slot, *armed | wanted);
        *armed = all;
        self.ask_again(key, slot, all);
    }

    fn ask_again(&mut self, key: Key<Entry>, slot: u32, interest: Interest) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if self.selector.change(entry.as_fd(), slot, key, Trigger::Edge, interest).is_err() {
            // The kernel has no memory for it, or a borrowed descriptor is gone. An edge of our own
            // lets the loop try again, or meet the error; a lost edge would hang it.
            if let Registration::Edges { armed, .. } = &mut entry.registration {
                *armed = Interest { read: armed.read, write: false };
            }
            self.own_edges.push((key, of_interest(interest)));
        }
    }

    fn timeout(&mut self, deadline: Option<Instant>) -> Timeout {
        if !self.own_edges.is_empty() {
            return Timeout::Now;
        }
        match deadline {
            None => Timeout::Never,
            Some(Instant::ZERO) => Timeout::Now,
            Some(deadline) => match deadline.since(monotonic()) {
                Duration::ZERO => Timeout::Now,
                span => Timeout::Nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
            },
        }
    }

    fn collect_into(
        &mut self,
        wait: Box<dyn crate::Wait>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let Engine { entries, selector, own_edges, .. } = self;
        for (key, readiness) in own_edges.drain(..) {
            if let Some(entry) = entries.get_mut(key) {
                entry.report(readiness, events);
            }
        }
        let mut orphans = Vec::new();
        selector.collect(wait, |key, readiness| match entries.get_mut(key) {
            Some(Entry { kind: Kind::Orphan { .. }, .. }) => orphans.push(key),
            Some(entry) => entry.report(readiness, events),
            None => {}
        })?;
        orphans.into_iter().for_each(|key| self.reap_orphan(key));
        Ok(())
    }
}

impl Entry {
    #[inline]
    fn report(&mut self, readiness: Readiness, events: &mut Vec<Event>) {
        if readiness.intersects(Readiness::READ_CLOSED | Readiness::ERROR) {
            self.closing = true;
        }
        let (token, interest) = match &mut self.registration {
            // Output is reported although it may not have been asked for: an error ends it too.
            Registration::Edges { token, armed, .. } => {
                (*token, Interest { read: armed.read, write: true })
            }
            Registration::Levels { token, interest, once: true, .. } => {
                (*token, std::mem::replace(interest, Interest::NONE))
            }
            Registration::Levels { token, interest, .. } => (*token, *interest),
            Registration::AlwaysReady { token } => (*token, Interest::BOTH),
            Registration::None | Registration::Superseded => return,
        };
        let mut mask = of_interest(interest) | Readiness::ERROR;
        if interest.read {
            mask |= Readiness::READ_CLOSED;
        }
        let readiness = readiness.and(mask);
        if !readiness.is_empty() {
            events.push(Event { token, readiness });
        }
    }
}

fn of_interest(interest: Interest) -> Readiness {
    let read = if interest.read { Readiness::READABLE } else { Readiness::NONE };
    let write = if interest.write { Readiness::WRITABLE } else { Readiness::NONE };
    read | write
}

/// The kernel's monotonic clock.
///
/// By the C library, which is told where the kernel's page for it is; rustix looks for that page in
/// the process's memory, and dies of it under valgrind.
pub(crate) fn monotonic() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing. The call cannot fail: every system has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
