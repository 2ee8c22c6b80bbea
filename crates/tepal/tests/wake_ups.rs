//! S9: what waking a loop costs. The only test of its process, because it looks for the loop's
//! wake-up among the descriptors of the process.

mod common;

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use common::{run, with_faults};
use tepal_driver::faults::Operation;

/// What has been written to the wake-ups of this process and not been read; Linux tells it.
fn pending_wake_ups() -> u64 {
    let entries = fs::read_dir("/proc/self/fdinfo").expect("Linux");
    let counts = entries.filter_map(|entry| {
        let info = fs::read_to_string(entry.ok()?.path()).ok()?;
        let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
        u64::from_str_radix(count.trim(), 16).ok()
    });
    counts.sum()
}

#[test]
fn s9_many_calls_before_the_loop_wakes_cost_one_wake_up() {
    const CALLS: usize = 1000;
    with_faults(|event_loop, faults| {
        let ran = Rc::new(Cell::new(0));
        let count_to = |all: usize| {
            let ran = Rc::clone(&ran);
            event_loop.trigger(move |lp| {
                ran.set(ran.get() + 1);
                if ran.get() == all {
                    lp.stop();
                }
            })
        };
        // The loop runs, and looks at what others have handed over before it sleeps: no write.
        let remote = event_loop.remote();
        event_loop.call_soon(move |lp| {
            let before = pending_wake_ups();
            let thread = thread::spawn(move || {
                (0..CALLS).for_each(|_| remote.call_soon_threadsafe(|_| ()).expect("open"));
                remote.call_soon_threadsafe(|lp| lp.stop()).expect("open");
            });
            thread.join().expect("ends");
            assert_eq!(pending_wake_ups(), before, "on {}", lp.driver_name());
        });
        run(event_loop);

        // The loop sleeps: one write for each time that it is woken. The engine that tells edges
        // never reads them, so that all can be counted.
        if event_loop.driver_name() != "epoll" {
            return;
        }
        let last = count_to(1);
        let remote = event_loop.remote();
        let (writes, waits) = (pending_wake_ups(), faults.count(Operation::Wait));
        let thread = thread::spawn(move || {
            // Asleep by then, most likely.
            thread::sleep(Duration::from_millis(5));
            (0..CALLS).for_each(|_| remote.call_soon_threadsafe(|_| ()).expect("open"));
            last.fire();
        });
        run(event_loop);
        thread.join().expect("ends");
        let (writes, waits) = (pending_wake_ups() - writes, faults.count(Operation::Wait) - waits);
        assert!(writes <= waits, "{writes} writes, {waits} waits");
        assert_eq!(ran.get(), 1);
    });
}
