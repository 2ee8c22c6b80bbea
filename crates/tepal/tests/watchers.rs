//! Watchers of descriptors that are not the loop's.

mod common;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{on_every_driver, run};
use tepal::{EventLoop, Interest, Watcher};

/// A watcher that notes what it reports, stops the loop, and has its descriptor read until it is
/// empty; the other end.
fn watched(event_loop: &EventLoop, seen: &Rc<RefCell<Vec<Interest>>>) -> (Watcher, UnixStream) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("an option");
    let (fd, log) = (ours.as_raw_fd(), Rc::clone(seen));
    let report = move |lp: &tepal::Loop, events: Interest| {
        log.borrow_mut().push(events);
        if events.read {
            let empty = ours.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
            assert_eq!(empty, Err(ErrorKind::WouldBlock), "the peer is there");
        }
        lp.stop();
    };
    (event_loop.watch(fd, Interest::READ, report).expect("watches"), theirs)
}

/// What is reported in a few milliseconds, if nothing is expected.
fn nothing_more(event_loop: &EventLoop, seen: &Rc<RefCell<Vec<Interest>>>) {
    event_loop.call_later(Duration::from_millis(2), |lp| lp.stop());
    run(event_loop);
    assert_eq!(*seen.borrow(), []);
}

#[test]
fn s26_one_is_stopped_gets_other_events_and_starts_again() {
    on_every_driver(|event_loop| {
        let seen = Rc::default();
        let (mut watcher, mut peer) = watched(event_loop, &seen);
        let next = || {
            run(event_loop);
            seen.take()
        };
        peer.write_all(b"a").expect("writes");
        // Created stopped.
        assert!(!watcher.is_active());
        nothing_more(event_loop, &seen);
        watcher.start().expect("starts");
        watcher.start().expect("has started");
        assert_eq!(next(), [Interest::READ]);
        nothing_more(event_loop, &seen);
        watcher.stop().expect("stops");
        peer.write_all(b"b").expect("writes");
        watcher.set(Interest::WRITE).expect("sets");
        nothing_more(event_loop, &seen);
        watcher.start().expect("starts again");
        assert_eq!(next(), [Interest::WRITE]);
        // By levels: as long as there is room.
        assert_eq!(next(), [Interest::WRITE]);
        // Changed while it runs.
        watcher.set(Interest::READ).expect("sets");
        assert_eq!(next(), [Interest::READ]);
        assert!(watcher.is_active());
        peer.write_all(b"c").expect("writes");
        drop(watcher);
        nothing_more(event_loop, &seen);
    });
}

#[test]
fn s25_one_carries_both_directions_and_a_second_is_refused() {
    on_every_driver(|event_loop| {
        let seen = Rc::default();
        let (mut watcher, mut peer) = watched(event_loop, &seen);
        watcher.set(Interest::BOTH).expect("sets");
        watcher.start().expect("starts");
        run(event_loop);
        assert_eq!(seen.take(), [Interest::WRITE], "nothing to read yet");
        peer.write_all(b"a").expect("writes");
        run(event_loop);
        assert_eq!(seen.take(), [Interest::BOTH], "one call for both");

        let other = UnixStream::pair().expect("a pair").0;
        let first = event_loop.watch(other.as_raw_fd(), Interest::READ, |_, _| ());
        let twin = event_loop.watch(other.as_raw_fd(), Interest::WRITE, |_, _| ());
        assert_eq!(twin.map(|_| ()).map_err(|e| e.kind()), Err(ErrorKind::AlreadyExists));
        drop(first);
        let later = event_loop.watch(other.as_raw_fd(), Interest::WRITE, |_, _| ());
        assert!(later.is_ok(), "the first is gone");
    });
}
