//! Protocols that lend the memory to read into.

mod common;

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::script::{Step, serve};
use common::{on_every_driver, on_every_driver_and_simulated, run};
use tepal::{Buffer, Closed, EventLoop, Lines, Protocol, RateLimit, Side, Stack, Transport};

#[test]
fn lent_memory_is_read_into_and_comes_back() {
    on_every_driver_and_simulated(|event_loop| {
        struct Lends {
            buffer: Option<Buffer>,
            bytes: Rc<RefCell<Vec<u8>>>,
        }
        impl Protocol for Lends {
            fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<Buffer> {
                self.buffer.take()
            }
            fn buffer_updated(&mut self, _: &Transport, buffer: Buffer, count: usize) {
                self.bytes.borrow_mut().extend_from_slice(&buffer[..count]);
                self.buffer = Some(buffer);
            }
            fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
                assert!(self.buffer.is_some(), "the memory came back");
                transport.event_loop().stop();
            }
        }
        let bytes = Rc::default();
        let buffer = Some(Buffer::zeroed(7));
        let written = Step::Write(b"seven bytes at a time".into());
        let lends = Lends { buffer, bytes: Rc::clone(&bytes) };
        serve(event_loop, lends, [written, Step::Close]);
        assert_eq!(*bytes.borrow(), b"seven bytes at a time");
    });
}

type Act = Box<dyn FnOnce(&Transport)>;

/// Lends memory, and does something in the first `get_buffer`.
struct Acts {
    act: Option<Act>,
    // Memory that has not come back.
    lent: usize,
    log: Rc<RefCell<Vec<String>>>,
}

impl Protocol for Acts {
    fn get_buffer(&mut self, transport: &Transport, _: usize) -> Option<Buffer> {
        if let Some(act) = self.act.take() {
            act(transport);
        }
        self.lent += 1;
        Some(Buffer::zeroed(64))
    }
    fn buffer_updated(&mut self, _: &Transport, buffer: Buffer, count: usize) {
        self.lent -= 1;
        // Zero: nothing was read, as at the end.
        if count > 0 {
            let text = String::from_utf8_lossy(&buffer[..count]);
            self.log.borrow_mut().push(format!("filled {text}"));
        }
    }
    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        assert_eq!(self.lent, 0);
        self.log.borrow_mut().push("lost".to_owned());
        transport.event_loop().stop();
    }
}

/// Takes slices.
struct Slices(Rc<RefCell<Vec<String>>>);

impl Protocol for Slices {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        self.0.borrow_mut().push(format!("slice {}", String::from_utf8_lossy(data)));
        data.len()
    }
    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        self.0.borrow_mut().push("lost".to_owned());
        transport.event_loop().stop();
    }
}

/// What a lender heard of five bytes and their end, with and without a layer; it must be the same.
fn story(act: impl Fn(&Transport, &Rc<RefCell<Vec<String>>>) + Clone + 'static) -> Vec<String> {
    let stories = Rc::new(RefCell::new(Vec::new()));
    on_every_driver(|event_loop: &EventLoop| {
        for stack in [Stack::new(), Stack::new().with(RateLimit::new())] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            std::io::Write::write_all(&mut &theirs, b"hello").expect("writes");
            drop(theirs);
            let log = Rc::default();
            let (act, seen) = (act.clone(), Rc::clone(&log));
            let act: Act = Box::new(move |transport| act(transport, &seen));
            let lender = Acts { act: Some(act), lent: 0, log: Rc::clone(&log) };
            event_loop.attach_with(lender, ours.into(), stack, Side::Server).expect("open");
            run(event_loop);
            stories.borrow_mut().push(log.take());
        }
    });
    let mut stories = stories.take();
    stories.dedup();
    assert_eq!(stories.len(), 1, "{stories:?}");
    stories.remove(0)
}

#[test]
fn a_frame_fills_lent_memory_that_is_as_large_and_none_that_is_smaller() {
    /// Lends this much, whatever is asked for.
    struct LendsLittle {
        len: usize,
        log: Rc<RefCell<Vec<String>>>,
    }
    impl Protocol for LendsLittle {
        fn get_buffer(&mut self, _: &Transport, size_hint: usize) -> Option<Buffer> {
            self.log.borrow_mut().push(format!("asked for {size_hint}"));
            Some(Buffer::zeroed(self.len))
        }
        fn buffer_updated(&mut self, _: &Transport, buffer: Buffer, count: usize) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            self.log.borrow_mut().push(format!("filled {text:?}"));
        }
        fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
            self.log.borrow_mut().push(format!("{:?}: {closed}", closed.kind));
            transport.event_loop().stop();
        }
    }
    on_every_driver(|event_loop: &EventLoop| {
        for (len, end) in [(6, "PeerEof"), (5, "WrongCount")] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            std::io::Write::write_all(&mut &theirs, b"first\nsecond\n").expect("writes");
            drop(theirs);
            let log = Rc::default();
            let lender = LendsLittle { len, log: Rc::clone(&log) };
            let stack = Stack::new().with(Lines::new(64));
            event_loop.attach_with(lender, ours.into(), stack, Side::Server).expect("open");
            run(event_loop);
            let mut told = log.take();
            let last = told.pop().expect("an end");
            assert!(last.starts_with(end), "{last}");
            let whole = ["asked for 5", "filled \"first\"", "asked for 6", "filled \"second\""];
            if len == 6 {
                assert_eq!(told, whole);
            } else {
                assert_eq!(told[..3], whole[..3]);
                assert_eq!(told[3..], ["filled \"\""], "no part of a frame is told");
                assert!(last.contains("lent 5 bytes for a frame of 6"), "{last}");
            }
        }
    });
}

#[test]
fn a_pause_while_memory_is_asked_for_holds() {
    let story = story(|transport, log| {
        transport.pause_reading();
        let (transport, log) = (transport.clone(), Rc::clone(log));
        transport.event_loop().clone().call_later(Duration::from_millis(5), move |_| {
            log.borrow_mut().push("resumed".to_owned());
            transport.resume_reading();
        });
    });
    assert_eq!(story, ["resumed", "filled hello", "lost"]);
}

#[test]
fn a_protocol_set_while_memory_is_asked_for_gets_the_bytes() {
    let story = story(|transport, log| transport.set_protocol(Slices(Rc::clone(log))));
    assert_eq!(story, ["slice hello", "lost"]);
}

#[test]
fn a_close_while_memory_is_asked_for_ends_reading() {
    let story = story(|transport, _| transport.close());
    assert_eq!(story, ["lost"]);
}
