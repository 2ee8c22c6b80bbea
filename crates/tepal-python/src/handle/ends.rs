//! Who asks about a handle of `call_soon_threadsafe` from another thread while its callback runs.
//!
//! From 3.14 on asyncio has a class for these handles, whose `cancel` and `cancelled` wait until the
//! callback has returned: afterwards the caller knows whether it ran. asyncio gives each of them a
//! lock. Here a thread that asks waits for the next end of any such callback, and looks again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

/// How long a thread waits before it looks for signals, which Python handles between its bytecodes.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// The ends of such callbacks, in all loops of the process.
pub(super) static ENDS: Ends =
    Ends { waiting: AtomicUsize::new(0), count: Mutex::new(0), ended: Condvar::new() };

pub(super) struct Ends {
    // Threads that wait. Changed and read with the GIL held, so a thread that found its callback
    // running is seen by that callback's end.
    waiting: AtomicUsize,
    // Ends that somebody waited for.
    count: Mutex<u64>,
    ended: Condvar,
}

impl Ends {
    /// A callback has returned, and is not running any more.
    #[inline]
    pub(super) fn tell(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.ended.notify_all();
    }

    /// Waits with the GIL let go until `runs` is false, which is asked with the GIL held.
    ///
    /// # Errors
    ///
    /// What a signal handler raises meanwhile.
    pub(super) fn wait(&self, py: Python<'_>, runs: impl Fn() -> bool) -> PyResult<()> {
        while runs() {
            let seen = *self.count.lock().unwrap_or_else(PoisonError::into_inner);
            self.waiting.fetch_add(1, Ordering::Relaxed);
            py.detach(|| {
                let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
                let waited =
                    self.ended.wait_timeout_while(count, SIGNALS_EVERY, |count| *count == seen);
                // Let go before the GIL is taken: whoever holds that may want it.
                drop(waited);
            });
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            py.check_signals()?;
        }
        Ok(())
    }
}
