use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tepal_base::Instant;

use crate::{Error, ErrorKind, How, Info, Io, Layer, LayerSpec, Site, Status};

/// Holds the rate of a connection, per direction. Command name `rate`.
///
/// Token buckets: a direction that was quiet may burst, by 1/20 s of its rate unless set
/// otherwise, so that over ten seconds the rate is exceeded by no more than half a percent. What
/// is over the rate waits: reading stops at the wire, and writing shows as write pressure. Nothing
/// is dropped, cut or reordered.
///
/// ```
/// use tepal_layers::{Group, RateLimit};
///
/// let all = Group::new().write(1 << 20); // shared by all connections that are given it
/// let each = RateLimit::new().read(100_000).write(100_000).group(&all);
/// # let _ = each;
/// ```
#[derive(Clone, Default)]
pub struct RateLimit {
    read: Option<u64>,
    write: Option<u64>,
    burst: Option<u64>,
    group: Option<Group>,
}

impl RateLimit {
    /// No limit yet.
    pub fn new() -> RateLimit {
        RateLimit::default()
    }

    /// At most so many bytes per second are read.
    #[must_use]
    pub fn read(mut self, bytes_per_second: u64) -> RateLimit {
        self.read = Some(bytes_per_second);
        self
    }

    /// At most so many bytes per second are written.
    #[must_use]
    pub fn write(mut self, bytes_per_second: u64) -> RateLimit {
        self.write = Some(bytes_per_second);
        self
    }

    /// After a quiet time, so many bytes may pass at once.
    #[must_use]
    pub fn burst(mut self, bytes: u64) -> RateLimit {
        self.burst = Some(bytes);
        self
    }

    /// The connection is also bound by the group's limits.
    #[must_use]
    pub fn group(mut self, group: &Group) -> RateLimit {
        self.group = Some(group.clone());
        self
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.group.is_some();
        write!(f, "RateLimit(read={:?}, write={:?}, group={shared})", self.read, self.write)
    }
}

impl LayerSpec for RateLimit {
    fn name(&self) -> &'static str {
        "rate"
    }

    fn wants_addresses(&self, _: crate::Side) -> bool {
        false
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let gate = |rate: Option<u64>, side: Side| -> Result<Gate, Error> {
            let own = rate.map(|rate| Bucket::new(rate, self.burst, site.now)).transpose()?;
            let group = self.group.as_ref().map(|group| Arc::clone(&group.0));
            let group = group.filter(|all| side(all).is_some());
            Ok(Gate { own, group, side, granted: 0, at: site.now })
        };
        Ok(Box::new(RateLayer {
            read: gate(self.read, |all| &all.read)?,
            write: gate(self.write, |all| &all.write)?,
            paid: 0,
            deadline: None,
        }))
    }
}

/// A rate that several connections share, also from several threads.
#[derive(Clone, Default)]
pub struct Group(Arc<Shared>);

#[derive(Default)]
struct Shared {
    read: Option<Mutex<Bucket>>,
    write: Option<Mutex<Bucket>>,
}

/// A direction's bucket.
type Side = fn(&Shared) -> &Option<Mutex<Bucket>>;

impl Group {
    /// No limit yet. Set the limits before the group is given away: each call makes a new group.
    pub fn new() -> Group {
        Group::default()
    }

    /// All together read at most so many bytes per second; 0 counts as 1.
    #[must_use]
    pub fn read(self, bytes_per_second: u64) -> Group {
        let read = Some(Mutex::new(Bucket::fresh(bytes_per_second.max(1), None, Instant::ZERO)));
        Group(Arc::new(Shared { read, write: self.0.write.as_ref().map(copied) }))
    }

    /// All together write at most so many bytes per second; 0 counts as 1.
    #[must_use]
    pub fn write(self, bytes_per_second: u64) -> Group {
        let write = Some(Mutex::new(Bucket::fresh(bytes_per_second.max(1), None, Instant::ZERO)));
        Group(Arc::new(Shared { read: self.0.read.as_ref().map(copied), write }))
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Group")
    }
}

fn copied(bucket: &Mutex<Bucket>) -> Mutex<Bucket> {
    Mutex::new(*bucket.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A token bucket, counted in byte-nanoseconds so that nothing is ever rounded away.
#[derive(Clone, Copy)]
struct Bucket {
    rate: u64,
    burst: u64,
    // What has been taken and has not flowed back yet, in bytes times 10^9; at most `burst` bytes.
    debt: u128,
    seen: Instant,
}

const SECOND: u128 = 1_000_000_000;

impl Bucket {
    fn new(rate: u64, burst: Option<u64>, now: Instant) -> Result<Bucket, Error> {
        if rate == 0 || burst == Some(0) {
            let message = "a rate and a burst are at least 1 byte";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        Ok(Bucket::fresh(rate, burst, now))
    }

    fn fresh(rate: u64, burst: Option<u64>, now: Instant) -> Bucket {
        Bucket { rate, burst: burst.unwrap_or((rate / 20).max(1)), debt: 0, seen: now }
    }

    // Takes `count` bytes out, also when they are not there yet; returns when they will be.
    fn reserve(&mut self, count: usize, now: Instant) -> Instant {
        let elapsed = now.since(self.seen).as_nanos();
        self.debt = self.debt.saturating_sub(elapsed * u128::from(self.rate));
        self.seen = self.seen.max(now);
        self.debt += count as u128 * SECOND;
        let over = self.debt.saturating_sub(u128::from(self.burst) * SECOND);
        let nanos = over.div_ceil(u128::from(self.rate));
        self.seen + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn give_back(&mut self, count: usize) {
        self.debt = self.debt.saturating_sub(count as u128 * SECOND);
    }
}

/// One direction: what the connection may, and what the group may.
///
/// A share is reserved before it is there, and waited for. So the connections of a group are
/// served in the order in which they asked, whoever's timer happens to run first.
struct Gate {
    own: Option<Bucket>,
    group: Option<Arc<Shared>>,
    side: Side,
    // Bytes reserved and not yet passed, and from when they may.
    granted: usize,
    at: Instant,
}

impl Gate {
    /// How many of `wanted` bytes may pass now; if none may, `at` says when some will.
    fn ready(&mut self, wanted: usize, now: Instant) -> usize {
        if self.granted == 0 {
            let own = self.own.as_ref().map_or(u64::MAX, |bucket| bucket.burst);
            let shared = self.shared(|bucket| bucket.burst).unwrap_or(u64::MAX);
            let most = usize::try_from(own.min(shared) / 4).unwrap_or(usize::MAX).max(1);
            self.granted = wanted.min(most);
            let granted = self.granted;
            let own = self.own.as_mut().map_or(now, |bucket| bucket.reserve(granted, now));
            let shared = self.shared(|bucket| bucket.reserve(granted, now)).unwrap_or(now);
            self.at = own.max(shared);
        }
        if self.at <= now { self.granted } else { 0 }
    }

    fn passed(&mut self, count: usize) {
        self.granted = self.granted.saturating_sub(count);
    }

    fn shared<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        let bucket = (self.side)(self.group.as_deref()?).as_ref()?;
        // A panic elsewhere leaves at worst a count that is off by one share.
        Some(act(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn is_open(&self) -> bool {
        self.own.is_none() && self.group.is_none()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let granted = self.granted;
        self.shared(|bucket| bucket.give_back(granted));
    }
}

struct RateLayer {
    read: Gate,
    write: Gate,
    // How much of the frame at the head of the input may pass already.
    paid: usize,
    deadline: Option<Instant>,
}

impl RateLayer {
    fn wait_until(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Layer for RateLayer {
    fn name(&self) -> &'static str {
        "rate"
    }

    fn passes_on(&self) -> bool {
        true
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        self.deadline = None;
        let now = io.now();
        if self.write.is_open() {
            io.to_below.pass(&mut io.from_above, usize::MAX);
        }
        while !io.from_above.is_empty() || io.from_above.is_frame() {
            if io.to_below.room() == 0 {
                break;
            }
            // An empty frame costs nothing, but has to wait its turn.
            let allowed = self.write.ready(io.from_above.len().max(1), now);
            if allowed == 0 {
                self.wait_until(self.write.at);
                break;
            }
            let passed = io.to_below.pass(&mut io.from_above, allowed);
            self.write.passed(passed);
        }
        if io.finishing() && io.from_above.is_empty() {
            return Ok(Status::Done(How::Closed));
        }
        if self.read.is_open() {
            io.to_above.pass(&mut io.from_below, usize::MAX);
        }
        while !io.from_below.bytes().is_empty() || io.from_below.is_frame() {
            if !io.to_above.may_push() {
                break;
            }
            let unpaid = io.from_below.bytes().len().saturating_sub(self.paid);
            let allowed = self.read.ready(unpaid.max(1), now);
            if allowed == 0 {
                io.from_below.hold();
                self.wait_until(self.read.at);
                break;
            }
            if io.from_below.is_frame() {
                // It passes whole, once it is paid for.
                self.read.passed(allowed);
                self.paid += allowed;
                if self.paid < io.from_below.bytes().len() {
                    continue;
                }
                self.paid = 0;
                io.to_above.pass_one(&mut io.from_below, usize::MAX);
            } else {
                let passed = io.to_above.pass_one(&mut io.from_below, allowed);
                self.read.passed(passed);
            }
        }
        Ok(Status::Open)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
