use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

/// One report of a wait: the token given at registration, and what may be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What [`Driver::register`](crate::Driver::register) or `watch` was given.
    pub token: u64,
    /// What may be done.
    pub readiness: Readiness,
}

/// What a descriptor is ready for.
///
/// ```
/// use tepal_driver::Readiness;
///
/// let told = Readiness::READABLE | Readiness::READ_CLOSED;
/// assert!(told.intersects(Readiness::READABLE) && !told.intersects(Readiness::WRITABLE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Readiness = Readiness(0);
    /// There may be bytes, a connection, a datagram, an exit status, or an end to read.
    pub const READABLE: Readiness = Readiness(1);
    /// There may be room to send, or a connect has ended.
    pub const WRITABLE: Readiness = Readiness(2);
    /// The peer has ended its direction, or the connection is gone: reading will come to an end or
    /// an error, even after a short read.
    pub const READ_CLOSED: Readiness = Readiness(4);
    /// The descriptor has an error or a hang-up pending.
    pub const ERROR: Readiness = Readiness(8);

    /// Both directions are at their end: whoever reads or writes next will learn it.
    pub(crate) const HANG_UP: Readiness = Readiness(1 | 2 | 4 | 8);
    /// An error is pending: whoever reads or writes next gets it.
    pub(crate) const FAILED: Readiness = Readiness(1 | 2 | 8);

    /// Whether some of `other` is in here.
    #[inline]
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in both.
    pub(crate) const fn and(self, other: Readiness) -> Readiness {
        Readiness(self.0 & other.0)
    }

    /// Whether nothing is in here.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Readiness) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Readiness::READABLE, "READABLE"),
            (Readiness::WRITABLE, "WRITABLE"),
            (Readiness::READ_CLOSED, "READ_CLOSED"),
            (Readiness::ERROR, "ERROR"),
        ];
        let set: Vec<_> =
            names.iter().filter(|(bit, _)| self.intersects(*bit)).map(|(_, name)| *name).collect();
        f.write_str(if set.is_empty() { "NONE" } else { "" })?;
        f.write_str(&set.join("|"))
    }
}

/// What to be told of.
///
/// ```
/// use tepal_driver::Interest;
///
/// assert_eq!(Interest::READ | Interest::WRITE, Interest::BOTH);
/// assert!(Interest::NONE.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Interest {
    /// Readiness to read.
    pub read: bool,
    /// Readiness to write.
    pub write: bool,
}

impl Interest {
    /// Neither direction.
    pub const NONE: Interest = Interest { read: false, write: false };
    /// Reading only.
    pub const READ: Interest = Interest { read: true, write: false };
    /// Writing only.
    pub const WRITE: Interest = Interest { read: false, write: true };
    /// Both directions.
    pub const BOTH: Interest = Interest { read: true, write: true };

    /// Whether it asks for nothing.
    pub const fn is_none(self) -> bool {
        !self.read && !self.write
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        Interest { read: self.read || other.read, write: self.write || other.write }
    }
}

/// Ends a wait from outside.
pub trait Wake: Send + Sync {
    /// Makes the current wait, or else the next one, end at once.
    ///
    /// Async-signal-safe: one `write(2)` at most, no lock, no allocation, `errno` kept.
    fn wake(&self);
}

/// A shared [`Wake`].
pub type Waker = Arc<dyn Wake>;
