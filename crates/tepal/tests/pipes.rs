//! The write end of a pipe as a transport: when the reader leaves.

mod common;

use std::io::Read;

use common::{Recorder, on_every_driver, run};
use tepal::CloseKind;

#[test]
fn a_reader_that_has_everything_leaves_in_peace() {
    on_every_driver(|event_loop| {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (recorder, log) = Recorder::new();
        let transport = event_loop.attach(recorder, writer.into()).expect("attaches");
        transport.write(b"all");
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 3];
            reader.read_exact(&mut bytes).expect("reads");
            bytes
        });
        run(event_loop);
        assert_eq!(&thread.join().expect("ends"), b"all");
        assert_eq!(log.borrow().events, ["made", "established", "out", "lost"]);
        let closed = log.borrow().closed.clone().expect("it has ended");
        assert_eq!((closed.kind, closed.unsent), (CloseKind::PeerEof, 0), "{closed}");
    });
}

#[test]
fn a_reader_that_leaves_before_the_end_is_told_of() {
    on_every_driver(|event_loop| {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (recorder, log) = Recorder::new();
        let transport = event_loop.attach(recorder, writer.into()).expect("attaches");
        // More than any pipe holds.
        transport.write(&vec![0; 4 << 20]);
        let thread = std::thread::spawn(move || {
            reader.read_exact(&mut [0; 1000]).expect("reads");
        });
        run(event_loop);
        thread.join().expect("ends");
        let closed = log.borrow().closed.clone().expect("it has ended");
        assert_eq!(closed.kind, CloseKind::BrokenPipe, "{closed}");
        assert!(closed.unsent > 1 << 20, "{closed}");
        assert!(closed.error.is_some());
    });
}
