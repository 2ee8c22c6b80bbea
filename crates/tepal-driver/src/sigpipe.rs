//! Writes that must not raise SIGPIPE although the kernel has no flag for it.
//!
//! Sockets have `MSG_NOSIGNAL`, and pipes a flag of `pwritev2` from Linux 6.18 on. Before that, and
//! for `sendfile` and `splice`, there is nothing like it, and the disposition of SIGPIPE belongs to
//! the program. Rust's runtime and Python ignore SIGPIPE, so the first look is at the disposition:
//! one cheap call, and nothing else to do. A program that has set SIGPIPE back to its default must
//! not die of our write either: then the signal is blocked for this thread during the write, taken
//! back if the write raised it, and the mask restored. SIGPIPE is sent to the thread that writes, so
//! no other thread sees it.

use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;

/// Runs a write during which SIGPIPE does not reach the process; it sees `EPIPE` instead.
pub(crate) fn without_sigpipe<T>(
    write: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    if is_ignored() {
        return write();
    }
    let already_pending = is_pending();
    let before = block();
    let result = write();
    if matches!(result, Err(Errno::PIPE)) && !already_pending && is_pending() {
        take();
    }
    restore(&before);
    result
}

fn is_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; all-zero is a valid sigaction if the call fails.
    let action = unsafe {
        libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: sigemptyset initialises the set, sigaddset gets a valid signal; neither can fail.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn is_pending() -> bool {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: all-zero is a valid set if sigpending fails, which it cannot with a valid pointer.
    unsafe {
        libc::sigpending(set.as_mut_ptr());
        libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1
    }
}

fn block() -> libc::sigset_t {
    let mut before = MaybeUninit::zeroed();
    // SAFETY: both sets live during the call, which cannot fail with SIG_BLOCK.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &only_sigpipe(), before.as_mut_ptr());
        before.assume_init()
    }
}

// Called only while SIGPIPE is pending and blocked, so it returns at once.
fn take() {
    let mut signal = 0;
    // SAFETY: both pointers are valid during the call.
    while unsafe { libc::sigwait(&only_sigpipe(), &mut signal) } == libc::EINTR {}
}

fn restore(before: &libc::sigset_t) {
    // SAFETY: `before` came from pthread_sigmask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}
