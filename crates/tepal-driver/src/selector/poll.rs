//! Readiness by poll(2), for any Unix.
//!
//! The kernel tells levels; the engine wants edges. So a descriptor that was reported is not polled
//! for the same direction again until the engine says that it has been pulled ([`Poll::rearm`]).
//! Hang-ups and errors are told whatever one asks for; outside of a report they are told once, and
//! then the descriptor is left out until it is armed again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use rustix::io::Errno;
use tepal_base::Key;

use super::{Selector, Timeout, Trigger, own_waiter};
use crate::entry::{Entry, Slot};
use crate::sys::{self, Notifier};
use crate::{Interest, Readiness, Wait};

pub(crate) struct Poll {
    notifier: Arc<Notifier>,
    // What the kernel is asked, place by place; the first place is the notifier's. A negative
    // number leaves a place out.
    asked: Vec<libc::pollfd>,
    // What is behind each place, and at the same index. Free places hold no key.
    places: Vec<Place>,
    free: Vec<Slot>,
    // Away between `prepare` and `collect`.
    waiter: Option<Box<PollWait>>,
}

#[derive(Clone, Copy)]
struct Place {
    key: Option<Key<Entry>>,
    fd: RawFd,
    trigger: Trigger,
    // An edge was reported that only hang-ups or errors caused; not again until armed.
    told_end: bool,
    // Counts the uses of this place, so that a result for an earlier one is known.
    version: u32,
}

const NOTIFIER: Place =
    Place { key: None, fd: -1, trigger: Trigger::Level, told_end: false, version: 0 };

impl Selector for Poll {
    const NAME: &'static str = "poll";
    const TELLS_DUPLICATES: bool = false;
    const HAS_ONCE: bool = false;

    fn new() -> io::Result<Poll> {
        let notifier = Arc::new(Notifier::new()?);
        let fd = notifier.as_fd().as_raw_fd();
        Ok(Poll {
            notifier,
            asked: vec![libc::pollfd { fd, events: libc::POLLIN, revents: 0 }],
            places: vec![NOTIFIER],
            free: Vec::new(),
            waiter: None,
        })
    }

    fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<Slot> {
        // poll(2) would tell only later that nothing is there.
        rustix::io::fcntl_getfd(fd)?;
        let fd = fd.as_raw_fd();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.asked.push(libc::pollfd { fd: -1, events: 0, revents: 0 });
                self.places.push(NOTIFIER);
                (self.places.len() - 1) as Slot
            }
        };
        let place = &mut self.places[slot as usize];
        let version = place.version.wrapping_add(1);
        *place = Place { key: Some(key), fd, trigger, told_end: false, version };
        self.ask(slot, events(interest));
        Ok(slot)
    }

    fn change(
        &mut self,
        fd: BorrowedFd<'_>,
        slot: Slot,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<()> {
        if trigger == Trigger::Level {
            rustix::io::fcntl_getfd(fd)?;
        }
        let place = &mut self.places[slot as usize];
        *place = Place { key: Some(key), trigger, told_end: false, ..*place };
        self.ask(slot, events(interest));
        Ok(())
    }

    fn rearm(&mut self, slot: Slot, interest: Interest) {
        let asked = self.asked[slot as usize].events;
        self.ask(slot, asked | events(interest));
    }

    fn remove(&mut self, _fd: BorrowedFd<'_>, slot: Slot, _forgotten: bool) {
        let place = &mut self.places[slot as usize];
        place.key = None;
        place.fd = -1;
        self.asked[slot as usize] = libc::pollfd { fd: -1, events: 0, revents: 0 };
        self.free.push(slot);
    }

    fn prepare(&mut self, timeout: Timeout) -> Box<dyn Wait> {
        let mut waiter = self.waiter.take().unwrap_or_else(|| {
            Box::new(PollWait {
                notifier: self.notifier.clone(),
                timeout,
                fds: Vec::new(),
                versions: Vec::new(),
                found: Ok(0),
            })
        });
        waiter.timeout = timeout;
        waiter.found = Ok(0);
        waiter.fds.clone_from(&self.asked);
        waiter.versions.clear();
        waiter.versions.extend(self.places.iter().map(|place| place.version));
        waiter
    }

    fn collect(
        &mut self,
        wait: Box<dyn Wait>,
        mut report: impl FnMut(Key<Entry>, Readiness),
    ) -> io::Result<()> {
        let mut waiter = own_waiter::<PollWait>(wait)?;
        let mut left = match std::mem::replace(&mut waiter.found, Ok(0)) {
            Err(Errno::INTR) => Ok(0),
            result => result,
        }?;
        for (index, fd) in waiter.fds.iter().enumerate() {
            if left == 0 {
                break;
            }
            if fd.revents == 0 {
                continue;
            }
            left -= 1;
            if index == 0 {
                self.notifier.drain();
                continue;
            }
            // Closed and used again while the waiter was away: nothing was asked for it.
            if waiter.versions[index] == self.places[index].version
                && let Some(key) = self.places[index].key
                && let Some(readiness) = self.take(index, fd.revents)
            {
                report(key, readiness);
            }
        }
        self.waiter = Some(waiter);
        Ok(())
    }
}

impl Poll {
    // What to report for a result, after which edges are not asked for again.
    fn take(&mut self, index: usize, found: libc::c_short) -> Option<Readiness> {
        let asked = self.asked[index].events;
        let place = &mut self.places[index];
        let readiness = readiness(found);
        if found & libc::POLLNVAL != 0 {
            // Closed by its owner. Told once: polling it again would not wait.
            place.told_end = true;
            self.ask(index as Slot, 0);
            return Some(readiness);
        }
        if place.trigger == Trigger::Level {
            return Some(readiness);
        }
        let end = found & (libc::POLLHUP | libc::POLLERR) != 0;
        if end && asked == 0 && place.told_end {
            return None;
        }
        place.told_end |= end;
        let mut rest = asked;
        if readiness.intersects(Readiness::READABLE) {
            rest &= !READ_EVENTS;
        }
        if readiness.intersects(Readiness::WRITABLE) {
            rest &= !libc::POLLOUT;
        }
        self.ask(index as Slot, rest);
        Some(readiness)
    }

    fn ask(&mut self, slot: Slot, events: libc::c_short) {
        let place = self.places[slot as usize];
        let idle = match place.trigger {
            Trigger::Edge => events == 0 && place.told_end,
            Trigger::Level | Trigger::Once => events == 0,
        };
        let fd = if idle { -1 } else { place.fd };
        self.asked[slot as usize] = libc::pollfd { fd, events, revents: 0 };
    }
}

const READ_EVENTS: libc::c_short = match sys::POLLRDHUP {
    Some(half_close) => libc::POLLIN | half_close,
    None => libc::POLLIN,
};

fn events(interest: Interest) -> libc::c_short {
    let read = if interest.read { READ_EVENTS } else { 0 };
    let write = if interest.write { libc::POLLOUT } else { 0 };
    read | write
}

fn readiness(found: libc::c_short) -> Readiness {
    let mut readiness = Readiness::NONE;
    if found & (libc::POLLIN | libc::POLLPRI) != 0 {
        readiness |= Readiness::READABLE;
    }
    if found & libc::POLLOUT != 0 {
        readiness |= Readiness::WRITABLE;
    }
    if sys::POLLRDHUP.is_some_and(|half_close| found & half_close != 0) {
        readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
    }
    if found & libc::POLLHUP != 0 {
        readiness |= Readiness::HANG_UP;
    }
    if found & (libc::POLLERR | libc::POLLNVAL) != 0 {
        readiness |= Readiness::FAILED;
    }
    readiness
}

struct PollWait {
    // Keeps the first descriptor of `fds` open.
    notifier: Arc<Notifier>,
    timeout: Timeout,
    fds: Vec<libc::pollfd>,
    // The version of each place when it was asked for.
    versions: Vec<u32>,
    found: rustix::io::Result<usize>,
}

impl Wait for PollWait {
    fn wait(&mut self) {
        debug_assert_eq!(self.fds[0].fd, self.notifier.as_fd().as_raw_fd());
        self.found = sys::poll(&mut self.fds, self.timeout);
    }

    fn blocks(&self) -> bool {
        self.timeout != Timeout::Now
    }
}
