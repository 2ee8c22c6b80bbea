//! The part that runs inside a signal handler, and what it reads.
//!
//! A handler may interrupt any thread anywhere, so it takes no lock, allocates nothing and keeps
//! `errno`: it sets the signal's flag, uses the waker of the loop that listens, and calls on the
//! handler that was there before. Everything that it reads is static and atomic.
//!
//! *When a waker may be freed.* A handler counts itself in `RUNNING` before it looks for the waker
//! and out after it has used it. Who takes a waker away clears the pointer first and then waits for
//! the count to be zero; a handler that starts later finds no pointer. All four steps are
//! sequentially consistent, so one of the two sees the other. The count is let go before the
//! earlier handler is called, which may take long or never return. In a process forked while
//! another thread was inside a handler the count never becomes zero: the wait gives up and leaks
//! the waker.
//!
//! *Handlers above ours.* Somebody may install a handler after us that calls on ours, as ours does.
//! If we then were to install the same function once more, above his, the two would call each other
//! for ever. So there are a few copies of the function, each with its own record of what it found.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::{Signal, Waker};

/// Signals are numbered from 1; no system has more than 128.
pub(super) const SIGNALS: usize = 129;

/// How many times a handler can be installed above another's that came after ours.
pub(super) const LEVELS: usize = 4;

struct Slot {
    // It has come, and nobody has been told.
    pending: AtomicBool,
    // Owned; null while no loop listens.
    waker: AtomicPtr<Waker>,
    chains: [Chain; LEVELS],
}

// The handler found at installation; at most one of the two is not zero.
struct Chain {
    simple: AtomicUsize,
    with_info: AtomicUsize,
}

static SLOTS: [Slot; SIGNALS] = [const {
    Slot {
        pending: AtomicBool::new(false),
        waker: AtomicPtr::new(ptr::null_mut()),
        chains: [const { Chain { simple: AtomicUsize::new(0), with_info: AtomicUsize::new(0) } };
            LEVELS],
    }
}; SIGNALS];

// Handlers between their look for the waker and their last use of it.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

type Simple = extern "C" fn(libc::c_int);
type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The handler's copies, by level. A static, because a function may have several addresses and ours
/// must be known again.
pub(super) static HANDLERS: [WithInfo; LEVELS] =
    [handle::<0>, handle::<1>, handle::<2>, handle::<3>];

extern "C" fn handle<const LEVEL: usize>(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let Some(slot) = usize::try_from(signal).ok().and_then(|index| SLOTS.get(index)) else {
        return;
    };
    RUNNING.fetch_add(1, SeqCst);
    let waker = slot.waker.load(SeqCst);
    // If the flag stands already, whoever set it has woken the loop or is about to.
    if !waker.is_null() && !slot.pending.swap(true, SeqCst) {
        // SAFETY: `listen` put a valid waker there, and `stop_listening` frees it only after it has
        // seen RUNNING at zero, which this handler holds above zero.
        unsafe { (*waker).wake() };
    }
    RUNNING.fetch_sub(1, SeqCst);

    let chain = &slot.chains[LEVEL];
    let simple = chain.simple.load(SeqCst);
    let with_info = chain.with_info.load(SeqCst);
    if with_info != 0 {
        // SAFETY: it was installed with SA_SIGINFO, so it is a function of this type.
        let earlier = unsafe { mem::transmute::<usize, WithInfo>(with_info) };
        earlier(signal, info, context);
    } else if simple != 0 {
        // SAFETY: it was installed without SA_SIGINFO and is neither SIG_DFL nor SIG_IGN.
        let earlier = unsafe { mem::transmute::<usize, Simple>(simple) };
        earlier(signal);
    }
}

/// Says what a level calls on when it has done its part.
pub(super) fn chain_to(signal: Signal, level: usize, found: &libc::sigaction) {
    let chain = &SLOTS[signal as usize].chains[level];
    let function = match found.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => 0,
        function => function,
    };
    let has_info = found.sa_flags & libc::SA_SIGINFO != 0;
    chain.simple.store(if has_info { 0 } else { function }, SeqCst);
    chain.with_info.store(if has_info { function } else { 0 }, SeqCst);
}

/// Has a signal set its flag and use this waker from now on.
pub(super) fn listen(signal: Signal, waker: &Waker) {
    let slot = &SLOTS[signal as usize];
    slot.pending.store(false, SeqCst);
    let waker = Box::into_raw(Box::new(Waker::clone(waker)));
    let earlier = slot.waker.swap(waker, SeqCst);
    debug_assert!(earlier.is_null(), "one loop per signal");
}

/// Takes the waker back.
pub(super) fn stop_listening(signal: Signal) {
    // A handler is through in a microsecond, unless its thread does not get to run.
    const PATIENCE: usize = 100_000;
    let slot = &SLOTS[signal as usize];
    let waker = slot.waker.swap(ptr::null_mut(), SeqCst);
    if waker.is_null() {
        return;
    }
    let unused = (0..PATIENCE).any(|_| {
        let unused = RUNNING.load(SeqCst) == 0;
        if !unused {
            thread::yield_now();
        }
        unused
    });
    if unused {
        // SAFETY: `listen` made it from a Box, the pointer was taken out above by us alone, and no
        // handler that could have loaded it is still running.
        drop(unsafe { Box::from_raw(waker) });
    }
    slot.pending.store(false, SeqCst);
}

/// Whether the signal has come since the last call.
pub(super) fn take_pending(signal: Signal) -> bool {
    let pending = &SLOTS[signal as usize].pending;
    pending.load(SeqCst) && pending.swap(false, SeqCst)
}
