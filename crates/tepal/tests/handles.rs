//! Handles that outlive their loop. The only test of its process, because it counts descriptors.

mod common;

use std::rc::Rc;
use std::time::Duration;

use common::{on_every_driver, open_descriptors};

#[test]
fn handles_that_outlive_their_loop_keep_nothing_of_it_open() {
    on_every_driver(|_| {
        let event_loop = tepal::EventLoop::new().expect("a loop");
        let handle = event_loop.call_soon(|_| ());
        let later = event_loop.call_later(Duration::from_secs(1), |_| ());
        let timer = event_loop.timer(Duration::from_secs(1), |_, _| ());
        timer.start();
        let (watched, _) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&watched);
        let mut watcher = event_loop.watch(fd, tepal::Interest::READ, |_, _| ()).expect("open");
        watcher.start().expect("starts");
        let sleep = event_loop.sleep(Duration::from_secs(1));
        let dropped = Rc::new(());
        let held = Rc::clone(&dropped);
        event_loop.call_soon(move |_| drop(held));
        let before = open_descriptors();
        drop(event_loop);
        assert!(open_descriptors() < before, "the driver's descriptors are closed");
        assert_eq!(Rc::strong_count(&dropped), 1);
        assert!(!handle.cancel() && !handle.is_pending());
        assert!(!later.cancel() && !later.is_pending());
        timer.again();
        assert!(!timer.is_active() && !timer.stop());
        let error = watcher.set(tepal::Interest::WRITE).expect_err("the loop is gone");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        drop((handle, later, timer, watcher, sleep));
    });
}
