//! Readiness by epoll(7).
//!
//! A connection is added once, edge-triggered, for input, and for output the first time that it is
//! needed; it is never removed, because closing the last descriptor of a file does that. An edge
//! comes only when something *happens*, so two things are not told twice: an end of input that was
//! there when the last event was taken (the engine remembers it), and readiness that nobody pulled
//! (the loop remembers that).
//!
//! Waits are in nanoseconds by `epoll_pwait2` (Linux 5.11). It is tried once per process, because a
//! sandbox may forbid it with any error; where it fails, `epoll_wait` counts milliseconds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::OnceLock;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use tepal_base::Key;

use super::{Selector, Timeout, Trigger, own_waiter};
use crate::entry::{Entry, Slot};
use crate::sys::{Notifier, last_errno};
use crate::{Interest, Readiness, Wait};

pub(crate) struct Epoll {
    epoll: Arc<OwnedFd>,
    notifier: Arc<Notifier>,
    // Away between `prepare` and `collect`.
    waiter: Option<Box<EpollWait>>,
}

// What the notifier is registered under. No key is zero: the version of a taken place is odd.
const NOTIFIER: u64 = 0;

// How many events one wait can take. A full list doubles, up to the larger number: more would make
// one turn long while new events cannot be seen.
const EVENTS: usize = 256;
const MOST_EVENTS: usize = 4096;

impl Selector for Epoll {
    const NAME: &'static str = "epoll";
    const TELLS_DUPLICATES: bool = true;
    const HAS_ONCE: bool = true;

    fn new() -> io::Result<Epoll> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let notifier = Notifier::new()?;
        // By edges, so that a wake-up needs no read to take it back.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &notifier, EventData::new_u64(NOTIFIER), flags)?;
        Ok(Epoll { epoll: Arc::new(epoll), notifier: Arc::new(notifier), waiter: None })
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
        let data = EventData::new_u64(key.to_bits());
        epoll::add(&self.epoll, fd, data, flags(trigger, interest))?;
        Ok(0)
    }

    fn change(
        &mut self,
        fd: BorrowedFd<'_>,
        _slot: Slot,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<()> {
        let data = EventData::new_u64(key.to_bits());
        let flags = flags(trigger, interest);
        match epoll::modify(&self.epoll, fd, data, flags) {
            // A borrowed descriptor was closed by its owner, and the number names another file now.
            Err(Errno::NOENT) => Ok(epoll::add(&self.epoll, fd, data, flags)?),
            result => Ok(result?),
        }
    }

    fn rearm(&mut self, _slot: Slot, _interest: Interest) {
        // The kernel's edges need nothing.
    }

    fn remove(&mut self, fd: BorrowedFd<'_>, _slot: Slot, forgotten: bool) {
        if !forgotten {
            // Fails if the owner has closed it already, which has removed it.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    fn prepare(&mut self, timeout: Timeout) -> Box<dyn Wait> {
        let mut waiter = self.waiter.take().unwrap_or_else(|| EpollWait::new(&self.epoll));
        waiter.timeout = timeout;
        waiter.found = Ok(0);
        waiter
    }

    fn collect(
        &mut self,
        wait: Box<dyn Wait>,
        mut report: impl FnMut(Key<Entry>, Readiness),
    ) -> io::Result<()> {
        let waiter = self.waiter.insert(own_waiter::<EpollWait>(wait)?);
        let count = waiter.take_count()?;
        for event in &waiter.events[..count] {
            let (data, flags) = (event.u64, event.events);
            if data != NOTIFIER {
                report(Key::from_bits(data), readiness(EventFlags::from_bits_retain(flags)));
            }
        }
        if count == waiter.events.len() && count < MOST_EVENTS {
            waiter.events.resize(2 * count, NO_EVENT);
        }
        Ok(())
    }
}

fn flags(trigger: Trigger, interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::ET, trigger == Trigger::Edge);
    flags.set(EventFlags::ONESHOT, trigger == Trigger::Once);
    flags.set(EventFlags::IN | EventFlags::RDHUP, interest.read);
    flags.set(EventFlags::OUT, interest.write);
    flags
}

fn readiness(flags: EventFlags) -> Readiness {
    // Most events, most of the time.
    if flags == EventFlags::IN {
        return Readiness::READABLE;
    }
    let mut readiness = Readiness::NONE;
    if flags.intersects(EventFlags::IN | EventFlags::PRI) {
        readiness |= Readiness::READABLE;
    }
    if flags.intersects(EventFlags::OUT) {
        readiness |= Readiness::WRITABLE;
    }
    if flags.intersects(EventFlags::RDHUP) {
        readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
    }
    if flags.intersects(EventFlags::HUP) {
        readiness |= Readiness::HANG_UP;
    }
    if flags.intersects(EventFlags::ERR) {
        readiness |= Readiness::FAILED;
    }
    readiness
}

struct EpollWait {
    epoll: Arc<OwnedFd>,
    timeout: Timeout,
    events: Vec<libc::epoll_event>,
    // How many events were found. At most `events.len()`.
    found: rustix::io::Result<usize>,
}

const NO_EVENT: libc::epoll_event = libc::epoll_event { events: 0, u64: 0 };

impl EpollWait {
    fn new(epoll: &Arc<OwnedFd>) -> Box<EpollWait> {
        let events = vec![NO_EVENT; EVENTS];
        Box::new(EpollWait { epoll: epoll.clone(), timeout: Timeout::Now, events, found: Ok(0) })
    }

    fn take_count(&mut self) -> io::Result<usize> {
        match std::mem::replace(&mut self.found, Ok(0)) {
            Err(Errno::INTR) => Ok(0),
            result => Ok(result?),
        }
    }
}

impl Wait for EpollWait {
    fn wait(&mut self) {
        let epoll = self.epoll.as_fd();
        self.found = match self.timeout {
            Timeout::Nanos(nanos) if has_pwait2() => pwait2(epoll, &mut self.events, nanos),
            timeout => wait(epoll, &mut self.events, timeout.millis()),
        };
    }

    fn blocks(&self) -> bool {
        self.timeout != Timeout::Now
    }
}

fn wait(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    millis: i32,
) -> rustix::io::Result<usize> {
    let most = events.len().min(MOST_EVENTS) as i32;
    // SAFETY: `events` is valid for `most` elements while the call lasts.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), most, millis) };
    usize::try_from(count).map_err(|_| last_errno())
}

fn pwait2(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    nanos: u64,
) -> rustix::io::Result<usize> {
    // The kernel's timespec, which is the same on 32-bit systems.
    #[repr(C)]
    struct Span {
        secs: i64,
        nanos: i64,
    }
    let span = Span { secs: (nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as i64 };
    let most = events.len().min(MOST_EVENTS) as i32;
    // SAFETY: `events` is valid for `most` elements and `span` for reading while the call lasts;
    // with a null mask its size is not looked at.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            most,
            &raw const span,
            ptr::null::<libc::sigset_t>(),
            0usize,
        )
    };
    usize::try_from(count).map_err(|_| last_errno())
}

fn has_pwait2() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let Ok(epoll) = epoll::create(CreateFlags::CLOEXEC) else { return false };
        pwait2(epoll.as_fd(), &mut [NO_EVENT], 0) == Ok(0)
    })
}
