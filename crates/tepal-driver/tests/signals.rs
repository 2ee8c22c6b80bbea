//! Process signals. Dispositions belong to the process, so each test has a signal of its own.

mod common;

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use common::*;
use tepal_driver::{Driver, Signal, SignalSource, Wake, Waker, driver_names, open_driver};

#[test]
fn a_signal_ends_the_wait_and_is_told_once() {
    for (index, name) in driver_names().iter().enumerate() {
        let signal = libc::SIGUSR1;
        within_limit(move || {
            let mut driver = open_driver(Some(name)).expect("opens");
            let mut signals = driver.signals();
            signals.subscribe(signal, &driver.waker()).expect("subscribes");
            let thread = thread::spawn(move || kill(signal));
            assert_eq!(next(&mut *driver, &mut *signals), [signal], "{index}");
            thread.join().expect("joins");
            assert!(taken(&mut *signals).is_empty());
            assert!(signals.unsubscribe(signal).expect("unsubscribes"));
            assert!(!signals.unsubscribe(signal).expect("is no error"));
        });
    }
}

#[test]
fn a_storm_of_signals_loses_none_and_wakes_once_per_look() {
    within_limit(|| {
        let kinds = [libc::SIGURG, libc::SIGWINCH, libc::SIGIO];
        let mut driver = open_driver(None).expect("opens");
        let waker = Arc::new(Counting { inner: driver.waker(), wakes: AtomicU32::new(0) });
        let mut signals = driver.signals();
        for signal in kinds {
            signals.subscribe(signal, &(waker.clone() as Waker)).expect("subscribes");
        }
        let done = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (done, last) = (done.clone(), driver.waker());
                thread::spawn(move || {
                    for round in 0..20_000 {
                        let index = (round + n) % 3;
                        kill(kinds[index]);
                    }
                    done.fetch_add(1, SeqCst);
                    last.wake();
                })
            })
            .collect();
        let mut told = 0u32;
        while done.load(SeqCst) < 4 {
            wait_until(&mut *driver, None);
            told += taken(&mut *signals).len() as u32;
        }
        threads.into_iter().for_each(|thread| thread.join().expect("joins"));
        told += taken(&mut *signals).len() as u32;
        let wakes = waker.wakes.load(SeqCst);
        assert!(wakes <= told + 3, "{wakes} wake-ups for {told} reports");
        // After the storm each kind is told once more for one more signal. What other threads have
        // not been given yet may come with it.
        for signal in kinds {
            raise(signal);
            assert!(taken(&mut *signals).contains(&signal));
        }
    });
}

#[test]
fn storms_from_a_child_process_reach_the_loop() {
    within_limit(|| {
        let signal = libc::SIGUSR2;
        let mut driver = open_driver(None).expect("opens");
        let mut signals = driver.signals();
        signals.subscribe(signal, &driver.waker()).expect("subscribes");
        let script =
            format!("for i in 1 2 3 4 5 6 7 8 9; do kill -USR2 {}; done", std::process::id());
        let mut child =
            std::process::Command::new("sh").args(["-c", &script]).spawn().expect("starts");
        assert_eq!(next(&mut *driver, &mut *signals), [signal]);
        assert!(child.wait().expect("waits").success());
        let _ = taken(&mut *signals);
        raise(signal);
        assert_eq!(taken(&mut *signals), [signal]);
    });
}

#[test]
fn a_second_loop_is_refused_until_the_first_lets_go() {
    let signal = libc::SIGCONT;
    let mut first = open_driver(None).expect("opens");
    let mut second = open_driver(None).expect("opens");
    let mut ours = first.signals();
    let mut theirs = second.signals();
    ours.subscribe(signal, &first.waker()).expect("subscribes");
    for source in [&mut theirs, &mut ours] {
        let error = source.subscribe(signal, &second.waker()).expect_err("is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
    drop(ours);
    theirs.subscribe(signal, &second.waker()).expect("subscribes");
    raise(signal);
    assert_eq!(taken(&mut *theirs), [signal]);
}

#[test]
fn what_cannot_be_caught_or_is_no_signal_is_refused() {
    let mut driver = open_driver(None).expect("opens");
    let mut signals = driver.signals();
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, 0, -1, 129, i32::MAX, i32::MIN] {
        let error = signals.subscribe(signal, &driver.waker()).expect_err("cannot be");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{signal}: {error}");
        assert!(!signals.unsubscribe(signal).expect("is no error"));
    }
}

#[test]
fn a_real_time_signal_is_told() {
    let signal = libc::SIGRTMAX() - 1;
    let mut driver = open_driver(None).expect("opens");
    let mut signals = driver.signals();
    signals.subscribe(signal, &driver.waker()).expect("subscribes");
    raise(signal);
    assert_eq!(taken(&mut *signals), [signal]);
}

static CHAINED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: libc::c_int) {
    CHAINED.fetch_add(1, SeqCst);
}

#[test]
fn an_earlier_handler_is_still_called_and_then_restored() {
    let signal = libc::SIGTTIN;
    let before = install(signal, count as *const () as usize, 0);
    let mut driver = open_driver(None).expect("opens");
    let mut signals = driver.signals();
    signals.subscribe(signal, &driver.waker()).expect("subscribes");
    let ours = disposition(signal);
    assert_eq!(
        ours.sa_flags & (libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO),
        libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO
    );
    raise(signal);
    assert_eq!((taken(&mut *signals), CHAINED.load(SeqCst)), (vec![signal], 1));
    signals.unsubscribe(signal).expect("unsubscribes");
    assert_eq!(disposition(signal).sa_sigaction, count as *const () as usize);
    raise(signal);
    assert_eq!((taken(&mut *signals), CHAINED.load(SeqCst)), (vec![], 2));
    install(signal, before.sa_sigaction, before.sa_flags);
}

#[test]
fn an_ignored_signal_is_told_and_ignored_again_afterwards() {
    let signal = libc::SIGTTOU;
    let before = install(signal, libc::SIG_IGN, 0);
    let mut driver = open_driver(None).expect("opens");
    {
        let mut signals = driver.signals();
        signals.subscribe(signal, &driver.waker()).expect("subscribes");
        raise(signal);
        assert_eq!(taken(&mut *signals), [signal]);
    }
    assert_eq!(disposition(signal).sa_sigaction, libc::SIG_IGN);
    install(signal, before.sa_sigaction, before.sa_flags);
}

static BELOW: AtomicU32 = AtomicU32::new(0);
static ABOVE: AtomicU32 = AtomicU32::new(0);
static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn below(_signal: libc::c_int) {
    BELOW.fetch_add(1, SeqCst);
}

// A handler of somebody else's, installed after ours, that calls on ours as is good manners.
extern "C" fn above(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    ABOVE.fetch_add(1, SeqCst);
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: the test puts our own handler there, which has this type.
    let next = unsafe { std::mem::transmute::<usize, Handler>(NEXT.load(SeqCst)) };
    next(signal, info, context);
}

#[test]
fn a_handler_installed_above_ours_is_left_alone_and_never_loops() {
    let signal = libc::SIGTSTP;
    let before = install(signal, below as *const () as usize, 0);
    let mut driver = open_driver(None).expect("opens");
    let mut signals = driver.signals();
    signals.subscribe(signal, &driver.waker()).expect("subscribes");
    NEXT.store(disposition(signal).sa_sigaction, SeqCst);
    install(signal, above as *const () as usize, libc::SA_SIGINFO);
    signals.unsubscribe(signal).expect("unsubscribes");
    assert_eq!(disposition(signal).sa_sigaction, above as *const () as usize);
    raise(signal);
    assert_eq!((taken(&mut *signals), ABOVE.load(SeqCst), BELOW.load(SeqCst)), (vec![], 1, 1));
    // Once more, above his, which calls on our first.
    signals.subscribe(signal, &driver.waker()).expect("subscribes again");
    raise(signal);
    assert_eq!(
        (taken(&mut *signals), ABOVE.load(SeqCst), BELOW.load(SeqCst)),
        (vec![signal], 2, 2)
    );
    signals.unsubscribe(signal).expect("unsubscribes");
    assert_eq!(disposition(signal).sa_sigaction, above as *const () as usize);
    install(signal, before.sa_sigaction, before.sa_flags);
}

#[test]
fn a_signal_sent_to_one_thread_reaches_the_loop_once() {
    let signal = libc::SIGVTALRM;
    within_limit(move || {
        let mut driver = open_driver(None).expect("opens");
        let mut signals = driver.signals();
        signals.subscribe(signal, &driver.waker()).expect("subscribes");
        let thread = thread::spawn(move || {
            // SAFETY: to ourselves, with a handler installed.
            unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
        });
        assert_eq!(next(&mut *driver, &mut *signals), [signal]);
        thread.join().expect("joins");
        assert!(taken(&mut *signals).is_empty());
    });
}

#[test]
fn a_handler_keeps_errno() {
    let signal = libc::SIGPROF;
    let mut driver = open_driver(None).expect("opens");
    let mut signals = driver.signals();
    signals.subscribe(signal, &driver.waker()).expect("subscribes");
    errno::set_errno(errno::Errno(77));
    // Full eventfds and pipes make the write inside the handler fail.
    for _ in 0..70_000 {
        driver.waker().wake();
    }
    errno::set_errno(errno::Errno(77));
    // SAFETY: the signal has a handler.
    unsafe { libc::raise(signal) };
    assert_eq!(errno::errno().0, 77);
    assert_eq!(taken(&mut *signals), [signal]);
}

#[test]
fn subscribing_under_fire_frees_no_waker_in_use() {
    within_limit(|| {
        let signal = libc::SIGALRM;
        let mut driver = open_driver(None).expect("opens");
        let mut keep = ignored(signal);
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let stop = stop.clone();
                thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        raise(signal)
                    }
                })
            })
            .collect();
        let mut signals = driver.signals();
        for _ in 0..2_000 {
            // A waker that nothing else holds, so that letting go of it frees it.
            let waker = Arc::new(Counting { inner: driver.waker(), wakes: AtomicU32::new(0) });
            signals.subscribe(signal, &(waker.clone() as Waker)).expect("subscribes");
            let weak = Arc::downgrade(&waker);
            drop(waker);
            signals.unsubscribe(signal).expect("unsubscribes");
            assert!(weak.upgrade().is_none(), "it was let go of");
        }
        stop.store(true, SeqCst);
        threads.into_iter().for_each(|thread| thread.join().expect("joins"));
        keep.restore();
    });
}

struct Counting {
    inner: Waker,
    wakes: AtomicU32,
}

impl Wake for Counting {
    fn wake(&self) {
        self.wakes.fetch_add(1, SeqCst);
        self.inner.wake();
    }
}

struct Kept(Signal, libc::sigaction);

fn ignored(signal: Signal) -> Kept {
    Kept(signal, install(signal, libc::SIG_IGN, 0))
}

impl Kept {
    fn restore(&mut self) {
        install(self.0, self.1.sa_sigaction, self.1.sa_flags);
    }
}

// To this thread: it is delivered before the call returns.
fn raise(signal: Signal) {
    // SAFETY: the signal has a handler or is ignored.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

// To the process: whichever thread the kernel picks, perhaps a moment later.
fn kill(signal: Signal) {
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

fn taken(signals: &mut dyn SignalSource) -> Vec<Signal> {
    let mut pending = Vec::new();
    signals.take_pending(&mut pending);
    pending
}

fn next(driver: &mut dyn Driver, signals: &mut dyn SignalSource) -> Vec<Signal> {
    loop {
        wait_until(driver, None);
        let mut pending = Vec::new();
        signals.take_pending(&mut pending);
        if !pending.is_empty() {
            return pending;
        }
    }
}

fn disposition(signal: Signal) -> libc::sigaction {
    let mut action = MaybeUninit::zeroed();
    // SAFETY: only asks, into a valid place.
    unsafe {
        assert_eq!(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()), 0);
        action.assume_init()
    }
}

fn install(signal: Signal, function: usize, flags: libc::c_int) -> libc::sigaction {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let mut before = MaybeUninit::zeroed();
    // SAFETY: all-zero and these fields make a valid sigaction; the handlers of this file are
    // async-signal-safe.
    unsafe {
        (*action.as_mut_ptr()).sa_sigaction = function;
        (*action.as_mut_ptr()).sa_flags = flags;
        assert_eq!(libc::sigaction(signal, action.as_ptr(), before.as_mut_ptr()), 0);
        before.assume_init()
    }
}
