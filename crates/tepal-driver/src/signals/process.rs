use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::handler::{self, HANDLERS, LEVELS, SIGNALS};
use crate::{Signal, SignalSource, Waker};

/// The signals of the process, by handlers installed with `sigaction(2)`.
///
/// Every handler is installed with `SA_RESTART | SA_ONSTACK | SA_SIGINFO` and a full mask: system
/// calls of other threads go on, threads with small stacks (Go's, coroutines') are safe, and
/// handlers do not pile up on one alternate stack, which holds only a few of them. It sets a flag,
/// wakes the loop that listens, and then calls the handler that was there before; `SIG_DFL` and
/// `SIG_IGN` are not acted upon, and the earlier handler's own mask and flags are not applied. The
/// kernel may pick any thread that does not block the signal; the loop hears of it all the same.
/// Signals sent to one thread (`pthread_kill`) are not meant for a loop, but arrive.
///
/// One loop at a time listens for a signal. [`unsubscribe`](SignalSource::unsubscribe) and dropping
/// the source restore the disposition that was found, unless somebody has installed another handler
/// since: then ours stays below it and only calls on.
///
/// A child process begins with default dispositions, as `exec` does it.
///
/// ```
/// use tepal_driver::SignalSource;
///
/// let mut driver = tepal_driver::open_driver(None)?;
/// let mut signals = driver.signals();
/// signals.subscribe(libc::SIGUSR1, &driver.waker())?;
/// // SAFETY: raising a signal that has a handler.
/// unsafe { libc::raise(libc::SIGUSR1) };
/// let mut pending = Vec::new();
/// signals.take_pending(&mut pending);
/// assert_eq!(pending, [libc::SIGUSR1]);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct ProcessSignals {
    // In order of number.
    subscribed: Vec<Signal>,
}

impl ProcessSignals {
    /// A source that listens for nothing yet.
    pub fn new() -> ProcessSignals {
        ProcessSignals::default()
    }
}

impl SignalSource for ProcessSignals {
    fn subscribe(&mut self, signal: Signal, waker: &Waker) -> io::Result<()> {
        check(signal)?;
        let mut records = RECORDS.lock().unwrap_or_else(PoisonError::into_inner);
        let record = &mut records[signal as usize];
        if record.taken {
            let text = format!("a loop listens for signal {signal} already");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        handler::listen(signal, waker);
        if let Err(error) = record.install(signal) {
            handler::stop_listening(signal);
            return Err(error);
        }
        record.taken = true;
        let place = self.subscribed.partition_point(|other| *other < signal);
        self.subscribed.insert(place, signal);
        Ok(())
    }

    fn unsubscribe(&mut self, signal: Signal) -> io::Result<bool> {
        let Ok(place) = self.subscribed.binary_search(&signal) else { return Ok(false) };
        self.subscribed.remove(place);
        let mut records = RECORDS.lock().unwrap_or_else(PoisonError::into_inner);
        let record = &mut records[signal as usize];
        let restored = record.restore(signal);
        handler::stop_listening(signal);
        record.taken = false;
        restored.map(|()| true)
    }

    fn take_pending(&mut self, pending: &mut Vec<Signal>) {
        pending.extend(self.subscribed.iter().filter(|signal| handler::take_pending(**signal)));
    }
}

impl Drop for ProcessSignals {
    fn drop(&mut self) {
        while let Some(signal) = self.subscribed.last().copied() {
            // sigaction does not fail for a signal that it has accepted before.
            let _ = self.unsubscribe(signal);
        }
    }
}

// What is known of one signal, apart from what the handler reads.
struct Record {
    // A source listens.
    taken: bool,
    // What each level of our handler found when it was installed.
    found: [Option<libc::sigaction>; LEVELS],
}

static RECORDS: Mutex<[Record; SIGNALS]> =
    Mutex::new([const { Record { taken: false, found: [None; LEVELS] } }; SIGNALS]);

impl Record {
    fn install(&mut self, signal: Signal) -> io::Result<()> {
        let current = disposition(signal)?;
        if level_of(&current).is_some() {
            // Left in place when somebody was above it, who has gone since.
            return Ok(());
        }
        let Some(level) = self.found.iter().position(Option::is_none) else {
            let text =
                format!("too many handlers for signal {signal} were installed above another");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        };
        // Known to the handler before it can run.
        handler::chain_to(signal, level, &current);
        let found = set_disposition(signal, &ours(level))?;
        if found.sa_sigaction != current.sa_sigaction {
            // Another thread has put its own there since we looked.
            handler::chain_to(signal, level, &found);
        }
        self.found[level] = Some(found);
        Ok(())
    }

    fn restore(&mut self, signal: Signal) -> io::Result<()> {
        let Some(level) = level_of(&disposition(signal)?) else { return Ok(()) };
        if let Some(found) = &self.found[level] {
            set_disposition(signal, found)?;
            self.found[level] = None;
        }
        Ok(())
    }
}

fn check(signal: Signal) -> io::Result<()> {
    let refused = match signal {
        libc::SIGKILL | libc::SIGSTOP => "cannot be caught",
        // Those that the processor raises: to go on after the handler is undefined.
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => "tells of a fault",
        1.. if (signal as usize) < SIGNALS => return Ok(()),
        _ => "is no signal",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("signal {signal} {refused}")))
}

fn ours(level: usize) -> libc::sigaction {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all-zero is a valid sigaction, which the full set and the two fields complete.
    unsafe {
        libc::sigfillset(&raw mut (*action.as_mut_ptr()).sa_mask);
        (*action.as_mut_ptr()).sa_sigaction = HANDLERS[level] as usize;
        (*action.as_mut_ptr()).sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
        action.assume_init()
    }
}

fn level_of(action: &libc::sigaction) -> Option<usize> {
    HANDLERS.iter().position(|handler| *handler as usize == action.sa_sigaction)
}

fn disposition(signal: Signal) -> io::Result<libc::sigaction> {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action only asks; the other pointer is valid during the call.
    match unsafe { libc::sigaction(signal, ptr::null(), found.as_mut_ptr()) } {
        // SAFETY: the call has filled it.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_disposition(signal: Signal, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is a handler of ours, which is async-signal-safe, or what sigaction itself
    // told before; both pointers are valid during the call.
    match unsafe { libc::sigaction(signal, action, found.as_mut_ptr()) } {
        // SAFETY: the call has filled it.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}
