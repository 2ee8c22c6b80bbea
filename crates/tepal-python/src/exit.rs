//! The end of the interpreter, for loops in threads that are not joined.
//!
//! Before 3.14, CPython ends such a thread by `pthread_exit` when it asks for the GIL of an interpreter
//! that finalizes. That unwinds the stack by force, and Rust frames on it end the process instead. So
//! an exit handler, which runs while everything still works, has the loops of other threads stop at
//! their next look at the kernel, without the GIL, for ever.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

static EXITING: AtomicBool = AtomicBool::new(false);
static EXIT_THREAD: OnceLock<ThreadId> = OnceLock::new();
// Threads that run a loop and are not in a wait, or are about to take the GIL again.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// How long the exit handler waits for callbacks that are under way elsewhere.
const PATIENCE: Duration = Duration::from_millis(500);

/// Counts a thread as one that runs a loop, until it is dropped.
pub(crate) struct Active(());

impl Active {
    pub(crate) fn new() -> Active {
        ACTIVE.fetch_add(1, Ordering::SeqCst);
        Active(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs the wait of a loop's thread, which is not active meanwhile, and has let the GIL go. Does not
/// return once the interpreter ends.
pub(crate) fn wait(wait: impl FnOnce()) {
    ACTIVE.fetch_sub(1, Ordering::SeqCst);
    wait();
    while is_near() {
        std::thread::park();
    }
    ACTIVE.fetch_add(1, Ordering::SeqCst);
}

/// Runs `f` with the GIL let go, as of a thread that the end of the interpreter waits for; near that
/// end, with it held.
pub(crate) fn detached(py: Python<'_>, f: impl FnOnce() + Send) {
    if EXITING.load(Ordering::SeqCst) {
        return f();
    }
    // Between the look and this nothing can have changed: the exit handler needs the GIL.
    let active = Active::new();
    py.detach(f);
    drop(active);
}

/// Whether the loop of this thread has to stop. That of the thread which ends the interpreter has not:
/// later exit handlers may run it.
pub(crate) fn is_near() -> bool {
    EXITING.load(Ordering::SeqCst)
        && EXIT_THREAD.get().is_none_or(|thread| *thread != std::thread::current().id())
}

/// The exit handler: returns when no other thread runs a loop, or when its patience ends.
#[pyfunction]
pub(crate) fn _stop_loops_of_threads(py: Python<'_>) {
    EXIT_THREAD.get_or_init(|| std::thread::current().id());
    EXITING.store(true, Ordering::SeqCst);
    let started = Instant::now();
    while ACTIVE.load(Ordering::SeqCst) > 0 && started.elapsed() < PATIENCE {
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
    }
}
