//! What differs between the engines: how they hear that descriptors are ready.

#[cfg(all(target_os = "linux", not(tepal_portable)))]
mod epoll;
mod poll;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tepal_base::Key;

use crate::entry::{Entry, Slot};
use crate::sys::Notifier;
use crate::{Interest, Readiness, Wait};

#[cfg(all(target_os = "linux", not(tepal_portable)))]
pub(crate) use epoll::Epoll;
pub(crate) use poll::Poll;

/// Keeps a set of descriptors and reports, under each one's key, when it becomes ready.
pub(crate) trait Selector: Sized + 'static {
    /// The engine's name, as `TEPAL_DRIVER` spells it.
    const NAME: &'static str;

    /// Whether `add` gives `EEXIST` for a file that is there under the same number.
    const TELLS_DUPLICATES: bool;

    /// Whether it has [`Trigger::Once`].
    const HAS_ONCE: bool;

    fn new() -> io::Result<Self>;

    /// What ends a wait from outside. Its use is not reported.
    fn notifier(&self) -> &Arc<Notifier>;

    /// Starts reporting a descriptor. `EPERM` if it is a file.
    fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<Slot>;

    /// Asks for something else under the same or another key. What is ready now is reported anew.
    fn change(
        &mut self,
        fd: BorrowedFd<'_>,
        slot: Slot,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<()>;

    /// Waits again for edges that have been pulled: of `interest`, which was asked for before.
    fn rearm(&mut self, slot: Slot, interest: Interest);

    /// Stops reporting. `forgotten` tells that the kernel forgets by itself, because the descriptor
    /// is about to be closed or was superseded.
    fn remove(&mut self, fd: BorrowedFd<'_>, slot: Slot, forgotten: bool);

    /// Arms the waiter; see [`Driver::prepare`](crate::Driver::prepare).
    fn prepare(&mut self, timeout: Timeout) -> Box<dyn Wait>;

    /// Takes the waiter back and reports what it found.
    fn collect(
        &mut self,
        wait: Box<dyn Wait>,
        report: impl FnMut(Key<Entry>, Readiness),
    ) -> io::Result<()>;
}

/// When to report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trigger {
    /// When it becomes ready.
    Edge,
    /// As long as it is ready.
    Level,
    /// As `Level`, in one wait; then nothing until it is asked again.
    Once,
}

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timeout {
    /// Only look.
    Now,
    /// At most this many nanoseconds, more than zero.
    Nanos(u64),
    /// Until something comes.
    Never,
}

impl Timeout {
    /// For waits that count in milliseconds: rounded up, so that no timer is early, and cut to what
    /// an `int` holds (the wait then ends early, which it may); -1 for no limit.
    pub(crate) fn millis(self) -> i32 {
        match self {
            Timeout::Now => 0,
            Timeout::Nanos(nanos) => i32::try_from(nanos.div_ceil(1_000_000)).unwrap_or(i32::MAX),
            Timeout::Never => -1,
        }
    }
}

/// Takes an engine's own waiter out of what `collect` was given.
pub(crate) fn own_waiter<W: Wait>(wait: Box<dyn Wait>) -> io::Result<Box<W>> {
    let wait: Box<dyn std::any::Any> = wait;
    wait.downcast().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "the waiter of another driver was collected")
    })
}

#[cfg(test)]
mod tests {
    use super::Timeout;

    #[test]
    fn milliseconds_are_rounded_up_and_never_overflow() {
        let cases = [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (u64::MAX, i32::MAX)];
        for (nanos, millis) in cases {
            assert_eq!(Timeout::Nanos(nanos).millis(), millis);
        }
        assert_eq!((Timeout::Now.millis(), Timeout::Never.millis()), (0, -1));
    }
}
