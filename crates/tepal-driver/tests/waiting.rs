//! Waits: deadlines, wake-ups, registrations, tokens.

mod common;

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::*;
use tepal_base::Instant;
use tepal_driver::{Domain, Interest, Kind, Readiness, Stdio, driver_names, open_driver};

/// Whether this kernel, or what stands before it, lets epoll wait in nanoseconds.
fn has_nanoseconds() -> bool {
    // SAFETY: no epoll descriptor is named and no memory given, so that it does nothing but fail.
    let result = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            -1,
            std::ptr::null_mut::<u8>(),
            1,
            0usize,
            0usize,
            0usize,
        )
    };
    let error = std::io::Error::last_os_error().raw_os_error();
    result == -1 && matches!(error, Some(libc::EBADF | libc::EFAULT))
}

on_every_engine! {
    fn a_wait_never_ends_before_its_deadline(driver) {
        for micros in [1, 10, 300, 700, 1000, 1001, 3500, 20_000] {
            let deadline = driver.now() + Duration::from_micros(micros);
            assert!(wait_until(driver, Some(deadline)).is_empty());
            assert!(driver.now() >= deadline, "{micros} us");
        }
    }

    fn a_delay_below_a_millisecond_is_kept(driver) {
        // `poll(2)` counts in milliseconds, and so does epoll where `epoll_pwait2` is refused.
        if driver.name() != "epoll" || !has_nanoseconds() {
            return;
        }
        // A busy machine may be late each time but one.
        let quickest = (0..500).map(|_| {
            let start = driver.now();
            assert!(wait_until(driver, Some(start + Duration::from_micros(100))).is_empty());
            driver.now().since(start)
        });
        let quickest = quickest.min().expect("some");
        assert!(quickest < Duration::from_millis(1), "{quickest:?}");
    }

    fn a_deadline_that_has_passed_only_looks(driver) {
        let past = driver.now() - Duration::from_secs(1);
        for deadline in [Instant::ZERO, past] {
            let wait = driver.prepare(Some(deadline));
            assert!(!wait.blocks());
            driver.collect(wait, &mut Vec::new()).expect("collects");
        }
        let wait = driver.prepare(None);
        assert!(wait.blocks());
        driver.collect(wait, &mut Vec::new()).expect("collects");
        assert!(look(driver).is_empty());
    }

    fn a_far_deadline_is_no_error(driver) {
        let waker = driver.waker();
        for deadline in [Instant::FAR, driver.now() + Duration::from_secs(1 << 40)] {
            waker.wake();
            assert!(wait_until(driver, Some(deadline)).is_empty());
        }
    }

    fn a_wake_up_before_the_wait_ends_it(driver) {
        driver.waker().wake();
        assert!(wait_until(driver, None).is_empty());
    }

    fn wake_ups_from_many_threads_end_waits_and_are_no_events(driver) {
        const THREADS: usize = 8;
        const ROUNDS: usize = 200;
        let (ask, asked) = mpsc::channel();
        let threads: Vec<_> = (0..THREADS).map(|_| {
            let (waker, ask) = (driver.waker(), ask.clone());
            thread::spawn(move || for _ in 0..ROUNDS {
                // The work first, then the wake-up, as `call_soon_threadsafe` has it.
                let _ = ask.send(());
                waker.wake();
            })
        }).collect();
        let mut got = 0;
        while got < THREADS * ROUNDS {
            assert!(wait_until(driver, None).is_empty());
            got += asked.try_iter().count();
        }
        threads.into_iter().for_each(|thread| thread.join().expect("joins"));
    }

    fn one_wake_up_serves_all_work_given_before_it(driver) {
        let flag = Arc::new(AtomicBool::new(false));
        let (waker, shared) = (driver.waker(), flag.clone());
        let thread = thread::spawn(move || {
            shared.store(true, Ordering::SeqCst);
            waker.wake();
        });
        while !flag.load(Ordering::SeqCst) {
            wait_until(driver, None);
        }
        thread.join().expect("joins");
    }

    fn a_waker_outlives_its_driver(driver) {
        let other = open_driver(Some(driver.name())).expect("opens");
        let waker = other.waker();
        drop(other);
        waker.wake();
    }

    fn the_wait_may_be_made_on_another_thread(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        let mut wait = driver.prepare(None);
        let thread = thread::spawn(move || { wait.wait(); wait });
        send(driver, client, b"x");
        let mut events = Vec::new();
        driver.collect(thread.join().expect("joins"), &mut events).expect("collects");
        assert!(of_token(&events, 1).intersects(Readiness::READABLE));
    }

    fn the_waiter_of_another_driver_is_refused(driver) {
        let mut other = open_driver(Some(driver.name())).expect("opens");
        let name = if driver.name() == "poll" { driver_names()[0] } else { "poll" };
        if name != driver.name() {
            let foreign = open_driver(Some(name)).expect("opens").prepare(None);
            let error = driver.collect(foreign, &mut Vec::new()).expect_err("is foreign");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
        // And a waiter that never came back is replaced.
        drop(other.prepare(None));
        assert!(look(&mut *other).is_empty());
    }

    fn a_closed_token_finds_nothing_and_tells_nothing(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        send(driver, client, b"x");
        driver.close(server).expect("closes");
        assert_eq!(errno(driver.close(server)), Some(libc::EBADF));
        // Very likely the same number and the same place in the driver's table.
        let next = driver.open(Domain::Inet, Kind::Stream).expect("opens");
        assert_ne!(next, server);
        assert_eq!(driver.raw_fd(server), None);
        let result = receive(driver, server, 10).0;
        assert_eq!(errno(result), Some(libc::EBADF));
        assert_eq!(errno(driver.local_address(server)), Some(libc::EBADF));
        assert_eq!(errno(driver.register(server, 2, Interest::READ)), Some(libc::EBADF));
        assert_eq!(errno(driver.watch(server, 2, Interest::READ)), Some(libc::EBADF));
        assert_eq!(errno(driver.send(server, &[])), Some(libc::EBADF));
        assert!(look(driver).is_empty());
    }

    fn a_close_between_wait_and_collect_reaches_no_successor(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        send(driver, client, b"x");
        let mut wait = driver.prepare(None);
        wait.wait();
        driver.close(server).expect("closes");
        let (_from, to) = driver.pipe().expect("opens");
        driver.register(to, 2, Interest::READ).expect("registers");
        let mut events = Vec::new();
        driver.collect(wait, &mut events).expect("collects");
        assert_eq!(events, []);
    }

    fn a_descriptor_is_registered_once(driver) {
        let (_client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        assert_eq!(errno(driver.register(server, 2, Interest::READ)), Some(libc::EEXIST));
        assert_eq!(errno(driver.watch(server, 2, Interest::READ)), Some(libc::EEXIST));
    }

    fn a_watch_reports_as_long_as_there_is_something(driver) {
        let (ours, theirs) = UnixStream::pair().expect("opens");
        let watched = driver.borrow(ours.as_raw_fd()).expect("borrows");
        driver.watch(watched, 5, Interest::BOTH).expect("watches");
        for _ in 0..3 {
            assert_eq!(of_token(&look(driver), 5), Readiness::WRITABLE);
        }
        driver.watch(watched, 6, Interest::READ).expect("changes");
        assert!(look(driver).is_empty());
        std::io::Write::write_all(&mut &theirs, b"xy").expect("writes");
        for _ in 0..3 {
            assert_eq!(of_token(&look(driver), 6), Readiness::READABLE);
        }
        driver.watch(watched, 6, Interest::NONE).expect("stops");
        drop(theirs);
        assert!(look(driver).is_empty(), "a hang-up must not be told to a stopped watcher");
        driver.watch(watched, 6, Interest::READ).expect("starts again");
        assert!(of_token(&look(driver), 6).intersects(Readiness::READ_CLOSED));
        driver.close(watched).expect("lets go");
        assert!(look(driver).is_empty());
        let mut bytes = Vec::new();
        (&ours).read_to_end(&mut bytes).expect("is still open");
        assert_eq!(bytes, b"xy");
    }

    fn a_watch_that_has_reported_once_is_armed_again_and_gives_way(driver) {
        let (ours, mut theirs) = UnixStream::pair().expect("opens");
        let watched = driver.borrow(ours.as_raw_fd()).expect("borrows");
        std::io::Write::write_all(&mut theirs, b"x").expect("writes");
        let mut stops = false;
        for token in [5, 6] {
            stops = driver.watch_once(watched, token, Interest::READ).expect("watches");
            assert_eq!(of_token(&look(driver), token), Readiness::READABLE);
            if stops {
                assert!(look(driver).is_empty(), "it has reported");
            }
        }
        assert_eq!(stops, driver.name() == "epoll");
        if !stops {
            driver.close(watched).expect("lets go");
        }
        let next = driver.borrow(ours.as_raw_fd()).expect("borrows");
        driver.register(next, 7, Interest::READ).expect("registers");
        assert_eq!(of_token(&look(driver), 7), Readiness::READABLE);
        assert_eq!(errno(driver.watch_once(watched, 6, Interest::READ)), Some(libc::EBADF));
    }

    fn a_second_watcher_for_a_descriptor_is_refused(driver) {
        let (ours, _theirs) = UnixStream::pair().expect("opens");
        let first = driver.borrow(ours.as_raw_fd()).expect("borrows");
        let second = driver.borrow(ours.as_raw_fd()).expect("borrows");
        driver.watch(first, 1, Interest::READ).expect("watches");
        assert_eq!(errno(driver.watch(second, 2, Interest::READ)), Some(libc::EEXIST));
        driver.watch(first, 1, Interest::NONE).expect("stops");
        assert_eq!(errno(driver.watch(second, 2, Interest::READ)), Some(libc::EEXIST));
        driver.close(first).expect("lets go");
        driver.watch(second, 2, Interest::READ).expect("watches");
    }

    fn descriptors_that_are_closed_or_none_are_refused(driver) {
        for fd in [-1, i32::MAX] {
            assert_eq!(errno(driver.borrow(fd)), Some(libc::EBADF));
        }
        let (ours, theirs) = UnixStream::pair().expect("opens");
        let borrowed = driver.borrow(ours.as_raw_fd()).expect("borrows");
        drop(ours);
        // Other tests open descriptors meanwhile, so the number may name something by now: what
        // matters is that nothing breaks and that the token can be closed.
        let _ = driver.watch(borrowed, 1, Interest::READ);
        driver.close(borrowed).expect("lets go");
        drop(theirs);
    }

    fn closing_an_old_borrowed_token_leaves_the_numbers_new_holder_alone(driver) {
        let (ours, _theirs) = UnixStream::pair().expect("opens");
        let number = ours.as_raw_fd();
        let stale = driver.borrow(number).expect("borrows");
        driver.watch(stale, 1, Interest::READ).expect("watches");
        // The owner closes it, and the kernel gives the number to a connection of ours: done in one
        // step here, as other tests open descriptors meanwhile.
        let (client, server) = tcp_pair(driver);
        let source = driver.raw_fd(server).expect("is open");
        // SAFETY: both numbers are open; `ours` is given up to the driver below.
        assert_eq!(unsafe { libc::dup2(source, number) }, number);
        let server = driver.adopt(OwnedFd::from(ours)).expect("adopts");
        driver.register(server, 2, Interest::READ).expect("registers");
        driver.close(stale).expect("lets go");
        send(driver, client, b"x");
        wait_for(driver, 2, Readiness::READABLE);
        assert_eq!(drain(driver, server, 10), (b"x".to_vec(), false));
    }

    fn tokens_of_the_wrong_kind_are_refused(driver) {
        let (from, _to) = driver.pipe().expect("opens");
        let (client, _server) = tcp_pair(driver);
        let mut command = tepal_driver::Command { program: "true".into(), stdin: Stdio::Null,
            ..Default::default() };
        let bad = Some(libc::EBADF);
        assert_eq!(errno(driver.bind(from, &loopback())), bad);
        assert_eq!(errno(driver.listen(from, 1)), bad);
        assert_eq!(errno(driver.connect(from, &loopback())), bad);
        assert_eq!(errno(driver.accept(from)), bad);
        assert_eq!(errno(driver.take_error(from)), bad);
        assert_eq!(errno(driver.send_to(from, b"", None)), bad);
        assert_eq!(errno(driver.shutdown(from, tepal_driver::Half::Write)), bad);
        assert_eq!(errno(driver.wait_child(client)), bad);
        assert_eq!(errno(driver.kill_child(client, 0)), bad);
        if let Ok(child) = driver.spawn(&mut command) {
            assert_eq!(errno(driver.send(child.process, &[])), bad);
            assert_eq!(errno(receive(driver, child.process, 1).0), bad);
            assert_eq!(errno(driver.splice(from, child.process, 1)), bad);
            assert_eq!(errno(driver.local_address(child.process)), bad);
        }
    }
}

#[test]
fn a_driver_is_chosen_by_name_and_an_unknown_one_is_refused() {
    for name in driver_names() {
        assert_eq!(open_driver(Some(name)).expect("opens").name(), *name);
    }
    let error = open_driver(Some("kevent")).err().expect("there is none");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    for name in driver_names() {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn clocks_and_chance_are_the_systems() {
    let mut driver = open_driver(None).expect("opens");
    let (first, second) = (driver.now(), driver.now());
    assert!(first <= second && first > Instant::ZERO);
    assert!(driver.wall() > std::time::SystemTime::UNIX_EPOCH);
    let mut bytes = [0; 700];
    driver.entropy(&mut bytes).expect("gives");
    assert!(bytes.chunks(100).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    driver.entropy(&mut []).expect("gives nothing");
}
