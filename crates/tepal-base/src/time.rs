use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point of a monotonic clock, in nanoseconds since an origin that the driver chose.
///
/// Instants of two drivers cannot be compared. 64 bits hold 584 years, so arithmetic saturates
/// instead of failing: [`Instant::FAR`] is "never".
///
/// ```
/// use std::time::Duration;
/// use tepal_base::Instant;
///
/// let start = Instant::from_nanos(5_000);
/// let deadline = start + Duration::from_micros(2);
/// assert_eq!(deadline.as_nanos(), 7_000);
/// assert_eq!(deadline.since(start), Duration::from_micros(2));
/// assert_eq!(start.since(deadline), Duration::ZERO);
/// assert_eq!(start + Duration::MAX, Instant::FAR);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The clock's origin.
    pub const ZERO: Instant = Instant(0);
    /// Later than every real deadline.
    pub const FAR: Instant = Instant(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the clock's origin, as asyncio's `loop.time()` counts them.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span from `earlier` to this instant; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, span: Duration) -> Instant {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, span: Duration) -> Instant {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}
