use std::cell::UnsafeCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{Wake, Waker};

/// A [`Waker`] that can be taken away from those who still hold it.
///
/// A loop's wake-up is a descriptor that other threads may use until the last of them has let go.
/// Cut off, it is closed with the loop, and their wake-ups do nothing.
pub struct Cutoff {
    // Some until `cut`. Read only by who counts in `users` and has then seen `cut` unset; taken
    // only by who has set `cut` and then seen `users` at zero.
    waker: UnsafeCell<Option<Waker>>,
    users: AtomicUsize,
    cut: AtomicBool,
}

// SAFETY: the waker is `Send + Sync`, and the protocol on the field keeps the one writer alone.
unsafe impl Send for Cutoff {}
// SAFETY: as above.
unsafe impl Sync for Cutoff {}

impl Cutoff {
    /// Passes wake-ups on to `waker`.
    pub fn new(waker: Waker) -> Cutoff {
        Cutoff {
            waker: UnsafeCell::new(Some(waker)),
            users: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        }
    }

    /// Drops the waker; wake-ups do nothing from now on. Waits for those that are under way in
    /// other threads: one `write(2)` each. Not for use in a signal handler.
    pub fn cut(&self) {
        if self.cut.swap(true, Ordering::SeqCst) {
            return;
        }
        while self.users.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        // SAFETY: `cut` is set, by us, and nobody who came before is left: see the field.
        let waker = unsafe { (*self.waker.get()).take() };
        drop(waker);
    }
}

impl Wake for Cutoff {
    fn wake(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
        if !self.cut.load(Ordering::SeqCst) {
            // SAFETY: `users` counts us and `cut` was unset after that: see the field.
            if let Some(waker) = unsafe { &*self.waker.get() } {
                waker.wake();
            }
        }
        self.users.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Cutoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutoff").field("cut", &self.cut).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Count(Arc<AtomicUsize>);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wake_ups_end_with_the_cut_and_the_waker_is_dropped_by_it() {
        let count = Arc::new(AtomicUsize::new(0));
        let cutoff = Arc::new(Cutoff::new(Arc::new(Count(Arc::clone(&count)))));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let cutoff = Arc::clone(&cutoff);
                std::thread::spawn(move || (0..10_000).for_each(|_| cutoff.wake()))
            })
            .collect();
        cutoff.wake();
        cutoff.cut();
        let seen = count.load(Ordering::SeqCst);
        assert!(seen >= 1);
        assert_eq!(Arc::strong_count(&count), 1);
        threads.into_iter().for_each(|thread| thread.join().expect("it only wakes"));
        cutoff.cut();
        assert_eq!(count.load(Ordering::SeqCst), seen);
    }
}
