use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Defines the enum, and the list of what is in it.
macro_rules! operations {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(usize)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every operation, in order.
            pub const ALL: [$name; [$($name::$variant),*].len()] = [$($name::$variant),*];
        }
    };
}

operations! {
    /// The methods of [`Driver`](crate::Driver) that a [`FaultDriver`](super::FaultDriver) counts.
    ///
    /// All but the first three can be made to fail. Most are one system call each, apart from what
    /// the driver does beside them: a first `send` that blocks costs one more, `accept` none.
    Operation {
        /// `now`.
        Now,
        /// `wall`.
        Wall,
        /// `raw_fd`.
        RawFd,
        /// `entropy`.
        Entropy,
        /// `open`.
        Open,
        /// `pipe`.
        Pipe,
        /// `adopt`; when it fails the descriptor is closed.
        Adopt,
        /// `borrow`.
        Borrow,
        /// `bind`.
        Bind,
        /// `listen`.
        Listen,
        /// `connect`.
        Connect,
        /// `take_error`; an injected errno is the call's failure, not the pending error.
        TakeError,
        /// `accept`; the connection stays in the queue.
        Accept,
        /// `receive`; no byte is taken.
        Receive,
        /// `receive_from`; no datagram is taken.
        ReceiveFrom,
        /// `send`; no byte is sent.
        Send,
        /// `send_to`; no datagram is sent.
        SendTo,
        /// `send_file`.
        SendFile,
        /// `read_at`.
        ReadAt,
        /// `splice`.
        Splice,
        /// `shutdown`.
        Shutdown,
        /// `close`; as with a real error of close(2), the descriptor is closed nevertheless.
        Close,
        /// `local_address`.
        LocalAddress,
        /// `peer_address`.
        PeerAddress,
        /// `set_option`.
        SetOption,
        /// `register`.
        Register,
        /// `watch`.
        Watch,
        /// A wait: counted and made to fail by `collect`; what it found comes with the next one.
        Wait,
        /// `spawn`; nothing is started.
        Spawn,
        /// `wait_child`.
        WaitChild,
        /// `kill_child`.
        KillChild,
        /// `read_file`.
        ReadFile,
        /// `file_changed`.
        FileChanged,
        /// `remove_file`.
        RemoveFile,
        /// `interfaces`.
        Interfaces,
        /// `host_name`.
        HostName,
    }
}

impl Operation {
    /// Whether it returns a result.
    pub const fn can_fail(self) -> bool {
        self as usize > Operation::RawFd as usize
    }
}

/// What goes wrong in a [`FaultDriver`](super::FaultDriver), and what has been called.
///
/// A cheap handle: clones share one script, so a test keeps one while the loop owns the driver.
/// Nothing goes wrong until something is asked for.
#[derive(Clone)]
pub struct Faults(Rc<Script>);

struct Script {
    counts: [Cell<u64>; Operation::ALL.len()],
    // Calls of operations that can fail.
    failable: Cell<u64>,
    injected: Cell<u64>,
    planned: RefCell<Vec<Plan>>,
    short: Cell<Option<usize>>,
    spurious: Cell<u32>,
    interrupt: Cell<u32>,
    random: Cell<u64>,
}

struct Plan {
    // `None`: of any operation that can fail.
    operation: Option<Operation>,
    // The count at which it fails; `None`: at each call.
    at: Option<u64>,
    errno: i32,
}

impl Faults {
    /// A script without faults. The seed decides all chance.
    pub fn new(seed: u64) -> Faults {
        Faults(Rc::new(Script {
            counts: [const { Cell::new(0) }; Operation::ALL.len()],
            failable: Cell::new(0),
            injected: Cell::new(0),
            planned: RefCell::new(Vec::new()),
            short: Cell::new(None),
            spurious: Cell::new(0),
            interrupt: Cell::new(0),
            random: Cell::new(seed),
        }))
    }

    /// Makes the `nth` call of an operation from now fail; 1 is the next.
    ///
    /// The operation is not carried out, except where [`Operation`] says so. `EAGAIN` stands for a
    /// descriptor that is not ready, and only a registered one is believed to be.
    ///
    /// # Panics
    ///
    /// If the operation cannot fail, or `nth` is zero.
    pub fn fail(&self, operation: Operation, nth: u64, errno: i32) {
        assert!(operation.can_fail(), "{operation:?} returns no result");
        assert!(nth > 0, "calls are counted from 1");
        let at = Some(self.count(operation) + nth);
        self.plan(Plan { operation: Some(operation), at, errno });
    }

    /// Makes the `nth` call from now of any operation that can fail do so.
    ///
    /// # Panics
    ///
    /// If `nth` is zero.
    pub fn fail_any(&self, nth: u64, errno: i32) {
        assert!(nth > 0, "calls are counted from 1");
        let at = Some(self.0.failable.get() + nth);
        self.plan(Plan { operation: None, at, errno });
    }

    /// Makes every call of an operation fail until [`clear`](Faults::clear).
    ///
    /// # Panics
    ///
    /// If the operation cannot fail.
    pub fn fail_always(&self, operation: Operation, errno: i32) {
        assert!(operation.can_fail(), "{operation:?} returns no result");
        self.plan(Plan { operation: Some(operation), at: None, errno });
    }

    /// Cuts each `receive`, `send`, `send_file` and `splice` to between 1 and `most` bytes; `None`
    /// ends it. A cut `send` may say that it blocked. Datagrams are left whole.
    pub fn short(&self, most: Option<usize>) {
        self.0.short.set(most.map(|most| most.max(1)));
    }

    /// Once in so many times, on average, a ready descriptor says `WouldBlock`, and a wait reports
    /// what is not ready or no longer there; 0 ends it, 1 is refused as nothing would ever move.
    ///
    /// # Panics
    ///
    /// If `one_in` is 1.
    pub fn spurious(&self, one_in: u32) {
        assert!(one_in != 1, "if every pull said WouldBlock, nothing would ever move");
        self.0.spurious.set(one_in);
    }

    /// Once in so many times, on average, a wait ends at once, as a signal makes it; 0 ends it.
    pub fn interrupt(&self, one_in: u32) {
        self.0.interrupt.set(one_in);
    }

    /// Takes back everything that was asked for. Counts stay.
    pub fn clear(&self) {
        self.0.planned.borrow_mut().clear();
        self.short(None);
        self.spurious(0);
        self.interrupt(0);
    }

    /// How often an operation was called.
    pub fn count(&self, operation: Operation) -> u64 {
        self.0.counts[operation as usize].get()
    }

    /// How often operations that can fail were called.
    pub fn calls(&self) -> u64 {
        self.0.failable.get()
    }

    /// How many calls were made to fail.
    pub fn injected(&self) -> u64 {
        self.0.injected.get()
    }

    fn plan(&self, plan: Plan) {
        self.0.planned.borrow_mut().push(plan);
    }

    /// Counts a call; the errno with which it must fail.
    pub(super) fn call(&self, operation: Operation) -> Option<i32> {
        let script = &*self.0;
        let count = self.count(operation) + 1;
        script.counts[operation as usize].set(count);
        if !operation.can_fail() {
            return None;
        }
        script.failable.set(script.failable.get() + 1);
        let failable = script.failable.get();
        let mut planned = script.planned.borrow_mut();
        let index = planned.iter().position(|plan| match plan.operation {
            Some(wanted) => wanted == operation && plan.at.is_none_or(|at| at == count),
            None => plan.at == Some(failable),
        })?;
        let errno = planned[index].errno;
        if planned[index].at.is_some() {
            planned.remove(index);
        }
        script.injected.set(script.injected.get() + 1);
        Some(errno)
    }

    /// How many bytes an operation on `len` bytes may move.
    pub(super) fn cut(&self, len: usize) -> usize {
        match self.0.short.get() {
            Some(most) if len > 1 => 1 + self.below(most.min(len) as u64) as usize,
            _ => len,
        }
    }

    pub(super) fn is_spurious(&self) -> bool {
        self.one_in(self.0.spurious.get())
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.one_in(self.0.interrupt.get())
    }

    fn one_in(&self, times: u32) -> bool {
        times > 0 && self.below(u64::from(times)) == 0
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        let state = self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let called = Operation::ALL.iter().filter(|operation| self.count(**operation) > 0);
        f.debug_map().entries(called.map(|operation| (operation, self.count(*operation)))).finish()
    }
}
