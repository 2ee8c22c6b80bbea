//! Signals: told between callbacks, from whichever thread, and never lost.
//!
//! Dispositions belong to the process and tests run in threads of it: each uses a signal of its own.
//! No loop here runs on the main thread.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;

use common::{on_every_driver, run, run_with};
use tepal::{EventLoop, Signal};

/// Sends a signal to this process.
fn kill(signal: Signal) {
    // SAFETY: no memory is involved; the caller has a handler installed.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

/// Sends a signal to this very thread; its handler has run when this returns.
fn raise(signal: Signal) {
    // SAFETY: as for `kill`.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

fn disposition(signal: Signal) -> libc::sigaction {
    let mut found = MaybeUninit::zeroed();
    // SAFETY: a null action only asks, and the other pointer is valid during the call.
    assert_eq!(unsafe { libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) }, 0);
    // SAFETY: the call has filled it.
    unsafe { found.assume_init() }
}

/// Blocks or unblocks a signal for this thread.
fn mask(how: libc::c_int, signal: Signal) {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is ours and initialized before it is used; the old mask is not asked for.
    let result = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut())
    };
    assert_eq!(result, 0);
}

/// Counts arrivals and stops the loop at each.
fn counter(event_loop: &EventLoop, signal: Signal) -> Rc<Cell<usize>> {
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    let callback = move |lp: &tepal::Loop, told| {
        assert_eq!(told, signal);
        counted.set(counted.get() + 1);
        lp.stop();
    };
    event_loop.add_signal_handler(signal, callback).expect("listens");
    count
}

// S1
#[test]
fn a_signal_is_told_between_callbacks_and_on_the_loops_thread() {
    on_every_driver(|event_loop| {
        let thread = std::thread::current().id();
        let inside = Rc::new(Cell::new(false));
        let order = Rc::new(RefCell::new(Vec::new()));
        for name in ["first", "second"] {
            let (inside, order) = (Rc::clone(&inside), Rc::clone(&order));
            event_loop.call_soon(move |_| {
                inside.set(true);
                raise(libc::SIGUSR1);
                order.borrow_mut().push(name);
                inside.set(false);
            });
        }
        let log = Rc::clone(&order);
        let callback = move |lp: &tepal::Loop, _| {
            assert!(!inside.get(), "a callback was interrupted");
            assert_eq!(std::thread::current().id(), thread);
            log.borrow_mut().push("signal");
            lp.stop();
        };
        event_loop.add_signal_handler(libc::SIGUSR1, callback).expect("listens");
        run(event_loop);
        assert_eq!(*order.borrow(), ["first", "second", "signal"], "both arrivals count as one");
    });
}

// S2
#[test]
fn a_second_loop_is_refused_by_name_until_the_first_lets_go() {
    on_every_driver(|event_loop| {
        let count = counter(event_loop, libc::SIGUSR2);
        let second = EventLoop::new().expect("a loop");
        let refused = second.add_signal_handler(libc::SIGUSR2, |_, _| ());
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
        let elsewhere = std::thread::spawn(|| {
            let third = EventLoop::new().expect("a loop");
            third.add_signal_handler(libc::SIGUSR2, |_, _| ()).map_err(|error| error.kind())
        });
        assert_eq!(elsewhere.join().expect("ends"), Err(io::ErrorKind::AddrInUse));
        // The refusals have changed nothing for the first.
        raise(libc::SIGUSR2);
        run(event_loop);
        assert_eq!(count.get(), 1);
        assert!(!second.remove_signal_handler(libc::SIGUSR2).expect("was not its own"));
        assert!(event_loop.remove_signal_handler(libc::SIGUSR2).expect("lets go"));
        let count = counter(&second, libc::SIGUSR2);
        raise(libc::SIGUSR2);
        run(&second);
        assert_eq!(count.get(), 1);
        // Dropping the loop lets go too.
        drop(second);
        event_loop.add_signal_handler(libc::SIGUSR2, |_, _| ()).expect("free again");
    });
}

// S2
#[test]
fn what_cannot_be_caught_is_refused() {
    on_every_driver(|event_loop| {
        let wrong = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, 0, -1, 1000, i32::MIN, i32::MAX];
        for signal in wrong {
            let refused = event_loop.add_signal_handler(signal, |_, _| ());
            let kind = refused.map_err(|error| error.kind());
            assert_eq!(kind, Err(io::ErrorKind::InvalidInput), "signal {signal}");
            assert!(!event_loop.remove_signal_handler(signal).expect("there was none"));
        }
    });
}

// S3, S5
#[test]
fn a_signal_raised_by_a_thread_arrives_once_whenever_the_thread_began() {
    on_every_driver(|event_loop| {
        let worker = || {
            let (go, told) = mpsc::channel::<()>();
            let thread = std::thread::spawn(move || {
                while told.recv().is_ok() {
                    raise(libc::SIGHUP);
                }
            });
            (go, thread)
        };
        let before = worker();
        let count = counter(event_loop, libc::SIGHUP);
        let after = worker();
        for (round, (go, _)) in [&before, &after, &before, &after].into_iter().enumerate() {
            go.send(()).expect("the thread waits");
            run(event_loop);
            assert_eq!(count.get(), round + 1);
        }
        for (go, thread) in [before, after] {
            drop(go);
            thread.join().expect("ends");
        }
        // No second telling was left behind.
        event_loop.call_later(std::time::Duration::from_millis(1), |lp| lp.stop());
        run(event_loop);
        assert_eq!(count.get(), 4);
    });
}

// S3
#[test]
fn a_signal_that_the_loops_thread_blocks_arrives_through_another() {
    on_every_driver(|event_loop| {
        let count = counter(event_loop, libc::SIGALRM);
        mask(libc::SIG_BLOCK, libc::SIGALRM);
        let (done, wait) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            // A new thread inherits the mask.
            mask(libc::SIG_UNBLOCK, libc::SIGALRM);
            wait.recv().expect_err("the channel is closed");
        });
        kill(libc::SIGALRM);
        run(event_loop);
        mask(libc::SIG_UNBLOCK, libc::SIGALRM);
        drop(done);
        other.join().expect("ends");
        assert_eq!(count.get(), 1);
    });
}

// S3: sent from outside, to a loop that sleeps.
#[test]
fn a_signal_of_another_process_wakes_the_loop() {
    on_every_driver(|event_loop| {
        let count = counter(event_loop, libc::SIGTERM);
        let thread = std::thread::spawn(|| {
            let mut command = std::process::Command::new("kill");
            command.args(["-TERM", &std::process::id().to_string()]);
            assert!(command.status().expect("kill runs").success());
        });
        run(event_loop);
        thread.join().expect("sent");
        assert_eq!(count.get(), 1);
    });
}

// S4, S5
#[test]
fn blocking_calls_of_other_threads_go_on() {
    on_every_driver(|event_loop| {
        let arrivals = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&arrivals);
        let (told, next) = mpsc::channel();
        let callback = move |_: &tepal::Loop, _| {
            counted.fetch_add(1, SeqCst);
            let _ = told.send(());
        };
        event_loop.add_signal_handler(libc::SIGVTALRM, callback).expect("listens");
        let flags = disposition(libc::SIGVTALRM).sa_flags;
        let wanted = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
        assert_eq!(flags & wanted, wanted);
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        run_with(event_loop, move || {
            // `read`, unlike `read_exact`, tells of an interruption.
            let reader = std::thread::spawn(move || ours.read(&mut [0]));
            for _ in 0..50 {
                // SAFETY: the thread was not joined, so that its id is valid.
                let sent = unsafe { libc::pthread_kill(reader.as_pthread_t(), libc::SIGVTALRM) };
                assert_eq!(sent, 0);
                let limit = std::time::Duration::from_secs(10);
                next.recv_timeout(limit).expect("each arrives");
            }
            theirs.write_all(b"x").expect("writes");
            assert_eq!(reader.join().expect("ends").expect("was not interrupted"), 1);
        });
        assert_eq!(arrivals.load(SeqCst), 50);
    });
}

// S4
#[test]
fn removing_restores_what_was_there_which_was_called_all_along() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn earlier(_: libc::c_int) {
        CALLED.fetch_add(1, SeqCst);
    }
    const SIGNAL: Signal = libc::SIGPROF;
    // SAFETY: the handler only counts, which is async-signal-safe; all-zero is a valid sigaction.
    let result = unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = earlier as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(SIGNAL, &action, std::ptr::null_mut())
    };
    assert_eq!(result, 0);
    let found = disposition(SIGNAL).sa_sigaction;
    on_every_driver(|event_loop| {
        let before = CALLED.load(SeqCst);
        let count = counter(event_loop, SIGNAL);
        assert_ne!(disposition(SIGNAL).sa_sigaction, found);
        raise(SIGNAL);
        assert_eq!(CALLED.load(SeqCst), before + 1);
        run(event_loop);
        assert_eq!(count.get(), 1);
        // Replaced, not installed a second time.
        let second = counter(event_loop, SIGNAL);
        raise(SIGNAL);
        run(event_loop);
        assert_eq!((count.get(), second.get(), CALLED.load(SeqCst)), (1, 1, before + 2));
        assert!(event_loop.remove_signal_handler(SIGNAL).expect("removes"));
        assert!(!event_loop.remove_signal_handler(SIGNAL).expect("there is none"));
        assert_eq!(disposition(SIGNAL).sa_sigaction, found);
        raise(SIGNAL);
        assert_eq!(CALLED.load(SeqCst), before + 3);
        event_loop.call_soon(|lp| lp.stop());
        run(event_loop);
        assert_eq!(second.get(), 1, "nothing arrives after the removal");
    });
    assert_eq!(disposition(SIGNAL).sa_sigaction, found);
}

#[test]
fn a_callback_may_remove_replace_or_panic() {
    // Ignored unless somebody listens.
    const SIGNAL: Signal = libc::SIGWINCH;
    on_every_driver(|event_loop| {
        let replaced = |lp: &tepal::Loop, _| {
            assert!(lp.remove_signal_handler(SIGNAL).expect("removes itself"));
            lp.stop();
        };
        let first = move |lp: &tepal::Loop, _| {
            lp.add_signal_handler(SIGNAL, replaced).expect("replaces itself");
            lp.call_soon(|_| raise(SIGNAL));
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        event_loop.add_signal_handler(SIGNAL, first).expect("listens");
        raise(SIGNAL);
        run(event_loop);
        assert!(!event_loop.remove_signal_handler(SIGNAL).expect("it is gone"));
        // One that panics without replacing itself stays.
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let panics = move |lp: &tepal::Loop, _| {
            counted.set(counted.get() + 1);
            lp.stop();
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        event_loop.add_signal_handler(SIGNAL, panics).expect("listens");
        for round in 1..4 {
            raise(SIGNAL);
            run(event_loop);
            assert_eq!(count.get(), round);
        }
    });
}

#[test]
fn a_storm_is_told_after_its_last_signal() {
    const COUNT: usize = 10_000;
    on_every_driver(|event_loop| {
        let last = Arc::new(AtomicBool::new(false));
        let sent = Arc::clone(&last);
        let told = Rc::new(Cell::new(0));
        let count = Rc::clone(&told);
        let callback = move |lp: &tepal::Loop, _| {
            count.set(count.get() + 1);
            if last.load(SeqCst) {
                lp.stop();
            }
        };
        // Ignored unless somebody listens: the last may come when the test is over.
        event_loop.add_signal_handler(libc::SIGURG, callback).expect("listens");
        let thread = std::thread::spawn(move || {
            (1..COUNT).for_each(|_| kill(libc::SIGURG));
            sent.store(true, SeqCst);
            kill(libc::SIGURG);
        });
        run(event_loop);
        thread.join().expect("sent all");
        assert!((1..=COUNT).contains(&told.get()));
    });
}

#[test]
fn several_signals_come_in_the_order_of_their_numbers() {
    on_every_driver(|event_loop| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let signals: Vec<Signal> = (0..4).map(|n| libc::SIGRTMIN() + 2 + n).collect();
        for signal in &signals {
            let order = Rc::clone(&order);
            let callback = move |lp: &tepal::Loop, told| {
                order.borrow_mut().push(told);
                lp.stop();
            };
            event_loop.add_signal_handler(*signal, callback).expect("listens");
        }
        signals.iter().rev().for_each(|signal| raise(*signal));
        run(event_loop);
        assert_eq!(*order.borrow(), signals);
    });
}
