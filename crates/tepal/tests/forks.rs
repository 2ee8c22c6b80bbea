//! Processes that fork with a loop at hand. The only test of its process, which has one thread
//! beside the test harness's.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, address, client, echo, on_every_driver, run, run_with};
use tepal::{Address, EventLoop, Interest};

/// Runs `body` in a child process, and returns its exit status.
fn in_child(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child makes only calls of its own thread, and ends by `_exit`. No lock that it
    // takes is held by another thread now: the harness's waits for this test.
    match unsafe { libc::fork() } {
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the child without the destructors that are the parent's to run.
            unsafe { libc::_exit(i32::from(!done.unwrap_or(false))) }
        }
        child => {
            assert!(child > 0, "forks");
            let mut status = -1;
            // SAFETY: waits for the child made here; `status` is ours.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(waited, child);
            status
        }
    }
}

#[test]
fn a_child_that_abandons_the_loop_leaves_the_parents_untouched() {
    on_every_driver(|event_loop| {
        let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        let mut old = client(at);
        // Watched by the loop, and not its own: dropping a loop takes its registration away.
        let (watched, mut other) = UnixStream::pair().expect("a pair");
        let fd = watched.as_raw_fd();
        let mut watcher = event_loop
            .watch(fd, Interest::READ, move |lp, _| {
                let mut byte = [0];
                assert_eq!((&watched).read(&mut byte).expect("reads"), 1);
                lp.stop();
            })
            .expect("open");
        watcher.start().expect("starts");
        event_loop.call_later(Duration::from_millis(5), |lp| lp.stop());
        run(event_loop);

        let status = in_child(|| {
            let kept = Rc::new(());
            let hook = Rc::clone(&kept);
            let mine = EventLoop::new().expect("a loop");
            mine.set_trouble_hook(move |_, _| drop(Rc::clone(&hook)));
            mine.abandon_after_fork();
            drop(mine);
            assert_eq!(Rc::strong_count(&kept), 2, "dropped");
            event_loop.abandon_after_fork();
            // What the child does with its own loop is its own affair.
            let own = EventLoop::new().expect("a loop of the child's");
            own.call_later(Duration::from_millis(1), |lp| lp.stop());
            own.run_forever().expect("runs");
            drop(own);
            event_loop.is_closed()
                && event_loop.connect(Echo, at).is_closing()
                && event_loop.run_forever().is_err()
        });
        assert_eq!(status, 0, "the child is content");

        other.write_all(b"x").expect("the kernel takes it");
        run(event_loop);
        run_with(event_loop, move || {
            echo(&mut old, b"still there");
            echo(&mut client(at), b"and still listening");
            // The child's copies hold nothing open.
            old.shutdown(std::net::Shutdown::Write).expect("open");
            assert_eq!(old.read(&mut [0]).expect("the end"), 0);
        });
        drop(server);
        assert!(TcpStream::connect(at).is_ok(), "a server lives until it is closed");
    });
}
