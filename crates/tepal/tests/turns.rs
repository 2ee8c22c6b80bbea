//! The turn: order, timers, stopping, other threads, futures.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::{on_every_driver, on_every_driver_and_simulated, run};
use tepal::{EventLoop, Interest};

#[test]
fn work_queued_during_a_turn_waits_for_the_next() {
    on_every_driver_and_simulated(|event_loop| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let (a, b) = (Rc::clone(&order), Rc::clone(&order));
        event_loop.call_soon(move |lp| {
            a.borrow_mut().push("first");
            let later = Rc::clone(&a);
            lp.call_soon(move |lp| {
                later.borrow_mut().push("queued by the first");
                lp.stop();
            });
        });
        event_loop.call_soon(move |_| b.borrow_mut().push("second"));
        run(event_loop);
        assert_eq!(*order.borrow(), ["first", "second", "queued by the first"]);
    });
}

#[test]
fn stop_ends_the_run_after_the_turn() {
    on_every_driver_and_simulated(|event_loop| {
        let count = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let count = Rc::clone(&count);
            event_loop.call_soon(move |lp| {
                count.set(count.get() + 1);
                lp.stop();
                lp.call_soon(|_| panic!("this belongs to the next run"));
            });
        }
        event_loop.run_forever().expect("runs");
        assert_eq!(count.get(), 3);
    });
}

#[test]
fn a_run_of_one_turn_looks_at_the_kernel() {
    on_every_driver(|event_loop| {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
        std::io::Write::write_all(&mut writer, b"x").expect("room");
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let mut watcher = event_loop
            .watch(fd, Interest::READ, move |_, _| count.set(count.get() + 1))
            .expect("an open descriptor");
        watcher.start().expect("it can be watched");
        for turn in 1..=3 {
            event_loop.call_soon(|lp| lp.stop());
            event_loop.run_forever().expect("runs");
            assert_eq!(seen.get(), turn);
        }
    });
}

#[test]
fn each_turn_of_a_short_chain_looks_at_the_kernel() {
    on_every_driver(|event_loop| {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let seen = Rc::new(Cell::new(0u32));
        let count = Rc::clone(&seen);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let mut watcher = event_loop
            .watch(fd, Interest::READ, move |_, _| count.set(count.get() + 1))
            .expect("an open descriptor");
        watcher.start().expect("it can be watched");
        // A byte arrives in the fortieth of a chain of turns; the next turn sees it.
        fn hop(lp: &tepal::Loop, left: u32, mut act: impl FnMut(u32) + 'static) {
            act(left);
            match left {
                0 => lp.stop(),
                _ => drop(lp.call_soon(move |lp| hop(lp, left - 1, act))),
            }
        }
        let turns = Rc::clone(&seen);
        event_loop.call_soon(move |lp| {
            hop(lp, 41, move |left| match left {
                2 => std::io::Write::write_all(&mut writer, b"x").expect("room"),
                1 => assert_eq!(turns.get(), 0),
                0 => assert_eq!(turns.get(), 1),
                _ => {}
            });
        });
        run(event_loop);
    });
}

#[test]
fn timers_are_never_early_and_keep_the_order_of_equal_deadlines() {
    on_every_driver_and_simulated(|event_loop| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = event_loop.time();
        for n in 0..200u64 {
            let order = Rc::clone(&order);
            let deadline = start + Duration::from_micros(300 * (n % 10));
            event_loop.call_at(deadline, move |lp| {
                assert!(lp.time() >= deadline, "a timer was early");
                order.borrow_mut().push((deadline, n));
            });
        }
        event_loop.call_at(start + Duration::from_millis(4), |lp| lp.stop());
        run(event_loop);
        let order = order.borrow();
        assert_eq!(order.len(), 200);
        assert!(order.is_sorted());
    });
}

#[test]
fn cancelled_callbacks_do_not_run() {
    on_every_driver_and_simulated(|event_loop| {
        let soon = event_loop.call_soon(|_| panic!("cancelled"));
        let later = event_loop.call_later(Duration::ZERO, |_| panic!("cancelled"));
        assert!(soon.is_pending() && later.is_pending());
        assert!(soon.cancel() && later.cancel());
        assert!(!soon.cancel() && !later.cancel());
        event_loop.call_later(Duration::from_millis(1), |lp| lp.stop());
        run(event_loop);
    });
}

#[test]
fn a_timer_starts_once_changes_its_interval_and_re_arms() {
    on_every_driver_and_simulated(|event_loop| {
        let fired = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&fired);
        let start = event_loop.time();
        let timer = event_loop.timer(Duration::from_millis(2), move |lp, timer| {
            log.borrow_mut().push(lp.time().since(start));
            match log.borrow().len() {
                1 => {
                    timer.set(Duration::from_millis(5));
                    timer.again();
                }
                _ => lp.stop(),
            }
        });
        assert!(!timer.is_active() && !timer.stop());
        timer.start();
        timer.set(Duration::from_secs(1000));
        timer.start();
        assert!(timer.is_active());
        run(event_loop);
        let fired = fired.borrow();
        assert!(fired[0] >= Duration::from_millis(2) && fired[1] >= Duration::from_millis(7));
        assert!(!timer.is_active());
    });
}

#[test]
fn calls_from_many_threads_all_arrive_in_each_threads_order() {
    on_every_driver(|event_loop| {
        let seen = Rc::new(RefCell::new(vec![Vec::new(); 4]));
        let slot = Rc::clone(&seen);
        type Lists = Rc<RefCell<Vec<Vec<u32>>>>;
        thread_local!(static SEEN: RefCell<Option<Lists>> = const { RefCell::new(None) });
        SEEN.with(|place| *place.borrow_mut() = Some(slot));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let remote = event_loop.remote();
                std::thread::spawn(move || {
                    for n in 0..1000 {
                        remote
                            .call_soon_threadsafe(move |lp| {
                                SEEN.with(|place| {
                                    let place = place.borrow();
                                    let seen = place.as_ref().expect("set above");
                                    seen.borrow_mut()[thread].push(n);
                                    if seen.borrow().iter().all(|list| list.len() == 1000) {
                                        lp.stop();
                                    }
                                });
                            })
                            .expect("the loop lives");
                    }
                })
            })
            .collect();
        run(event_loop);
        threads.into_iter().for_each(|thread| thread.join().expect("ends"));
        assert!(seen.borrow().iter().all(|list| list.is_sorted() && list.len() == 1000));
    });
}

#[test]
fn a_closed_loop_gives_calls_back() {
    let event_loop = EventLoop::new().expect("a loop");
    let remote = event_loop.remote();
    assert_eq!(event_loop.close().expect("closes"), 0);
    assert!(remote.call_soon_threadsafe(|_| ()).is_err());
}

#[test]
fn a_trigger_runs_its_callback_in_a_turn() {
    on_every_driver(|event_loop| {
        let trigger = event_loop.trigger(|lp| lp.stop());
        let thread = std::thread::spawn(move || {
            trigger.fire();
            trigger.fire();
        });
        run(event_loop);
        thread.join().expect("ends");
    });
}

#[test]
fn futures_sleep_time_out_and_are_woken_from_other_threads() {
    on_every_driver(|event_loop| {
        let lp = (**event_loop).clone();
        let value = event_loop.run_until_complete(async move {
            let before = lp.time();
            lp.sleep(Duration::from_millis(2)).await;
            assert!(lp.time().since(before) >= Duration::from_millis(2));
            let never = std::future::pending::<()>();
            assert!(lp.timeout(Duration::from_millis(1), never).await.is_err());
            assert_eq!(lp.timeout(Duration::from_secs(9), async { 5 }).await, Ok(5));
            let inner = lp.clone();
            let task = lp.spawn(async move {
                inner.sleep(Duration::from_micros(10)).await;
                37
            });
            task.await + 5
        });
        assert_eq!(value.expect("completes"), 42);
    });
}

#[test]
fn a_waker_used_on_another_thread_wakes_the_task() {
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};
    on_every_driver(|event_loop| {
        let shared: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            loop {
                let mut shared = theirs.lock().expect("not poisoned");
                if let Some(waker) = shared.1.take() {
                    shared.0 = true;
                    drop(shared);
                    waker.wake();
                    return;
                }
                drop(shared);
                std::thread::yield_now();
            }
        });
        let future = std::future::poll_fn(move |context| {
            let mut shared = shared.lock().expect("not poisoned");
            if shared.0 {
                return Poll::Ready("woken");
            }
            shared.1 = Some(context.waker().clone());
            Poll::Pending
        });
        assert_eq!(event_loop.run_until_complete(future).expect("completes"), "woken");
        thread.join().expect("ends");
    });
}

#[test]
fn a_panicking_future_panics_its_waiter_and_leaves_the_loop_usable() {
    on_every_driver_and_simulated(|event_loop| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            event_loop.run_until_complete(async {
                if true {
                    std::panic::resume_unwind(Box::new(7u32));
                }
            })
        }));
        let payload = caught.expect_err("it panics");
        assert_eq!(payload.downcast_ref::<u32>(), Some(&7));
        assert_eq!(event_loop.run_until_complete(async { 1 }).expect("usable"), 1);
    });
}

#[test]
fn running_a_running_loop_is_an_error() {
    for name in tepal_driver::driver_names() {
        let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
        let event_loop = Rc::new(EventLoop::with_driver(driver));
        let (inner, refused) = (Rc::clone(&event_loop), Rc::new(Cell::new(0)));
        let count = Rc::clone(&refused);
        event_loop.call_soon(move |lp| {
            assert!(lp.is_running());
            let runs = [inner.run_forever(), inner.run_until_complete(async {})];
            let busy = runs.map(|run| run.map_err(|error| error.kind()));
            assert_eq!(busy, [Err(std::io::ErrorKind::ResourceBusy); 2]);
            count.set(count.get() + 1);
            lp.stop();
        });
        run(&event_loop);
        assert!(!event_loop.is_running());
        assert_eq!((refused.get(), event_loop.run_until_complete(async { 1 }).ok()), (1, Some(1)));
    }
}

#[test]
fn a_future_that_is_run_may_borrow_from_its_caller_and_keeps_its_place() {
    on_every_driver(|event_loop| {
        let order = RefCell::new(Vec::new());
        let shared = Rc::new(RefCell::new(0));
        let count = Rc::clone(&shared);
        event_loop.call_soon(move |_| *count.borrow_mut() += 1);
        let result = event_loop.run_until_complete(async {
            // The callback that was queued before has run.
            order.borrow_mut().push(*shared.borrow());
            event_loop.sleep(Duration::from_millis(1)).await;
            order.borrow_mut().push(2);
            let (sender, remote) = (Rc::clone(&shared), event_loop.remote());
            std::thread::spawn(move || remote.call_soon_threadsafe(|_| ()))
                .join()
                .expect("ends")
                .expect("open");
            *sender.borrow()
        });
        assert_eq!((result.expect("ends"), order.into_inner()), (1, vec![1, 2]));
        // A stop comes first, and the loop can run on.
        let error = event_loop.run_until_complete(async {
            event_loop.stop();
            std::future::pending::<()>().await;
        });
        assert_eq!(error.expect_err("stopped").kind(), std::io::ErrorKind::Interrupted);
        assert_eq!(event_loop.run_until_complete(async { 5 }).expect("runs"), 5);
    });
}

#[test]
fn futures_that_wait_are_dropped_with_their_loop() {
    on_every_driver(|_| {
        let event_loop = tepal::EventLoop::new().expect("a loop");
        let held = Rc::new(());
        let server = event_loop.listen(|_| common::Echo, "127.0.0.1:0").expect("listens");
        let connecting = event_loop.create_connection(|| common::Echo, common::address(&server));
        let never_run = Rc::clone(&held);
        let (sleeps, connects, drains, waits) =
            (Rc::clone(&held), Rc::clone(&held), Rc::clone(&held), Rc::clone(&held));
        let sleep = event_loop.sleep(Duration::from_secs(60));
        let lp: tepal::Loop = (*event_loop).clone();
        event_loop.spawn(async move {
            sleep.await;
            drop(sleeps);
        });
        event_loop.spawn(async move {
            let transport = connecting.await.expect("connects");
            std::future::pending::<()>().await;
            drop((transport, connects));
        });
        event_loop.spawn(async move {
            lp.sleep(Duration::from_millis(3)).await;
            server.drain(Duration::from_secs(60)).await;
            drop(drains);
        });
        let task = event_loop.spawn(async move {
            std::future::pending::<()>().await;
            drop(waits);
        });
        event_loop.call_later(Duration::from_millis(5), |lp| lp.stop());
        event_loop.run_forever().expect("runs");
        event_loop.spawn(async move { drop(never_run) });
        assert_eq!(Rc::strong_count(&held), 6);
        drop(event_loop);
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(task.is_finished());
    });
}
