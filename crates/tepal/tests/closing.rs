//! Ends that come late: of a peer that takes nothing, and of one that resets a paused connection.

mod common;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{
    address, client, on_every_driver, on_every_driver_and_simulated, run, with_faults_and_simulated,
};
use tepal::{CloseKind, Closed, Half, Protocol, Transport};
use tepal_driver::faults::Operation;

/// Never reads.
struct Deaf(Rc<RefCell<Option<Transport>>>);

impl Protocol for Deaf {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        *self.0.borrow_mut() = Some(transport.clone());
    }
}

/// Writes more than the kernel takes, and closes.
struct Writes {
    timeout: Option<Duration>,
    closed: Rc<RefCell<Option<Closed>>>,
}

impl Protocol for Writes {
    fn connection_established(&mut self, transport: &Transport) {
        transport.set_closing_timeout(self.timeout);
        transport.write_segment(vec![7; 30_000_000]);
        transport.close();
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        *self.closed.borrow_mut() = Some(closed.clone());
        transport.event_loop().stop();
    }
}

#[test]
fn a_close_waits_as_long_as_it_was_told_to_and_says_what_was_not_sent() {
    on_every_driver_and_simulated(|event_loop| {
        let (deaf, closed) =
            <(Rc<RefCell<Option<Transport>>>, Rc<RefCell<Option<Closed>>>)>::default();
        let place = Rc::clone(&deaf);
        let server = event_loop.listen(move |_| Deaf(Rc::clone(&place)), "127.0.0.1:0");
        let server = server.expect("listens");
        let timeout = Some(Duration::from_millis(30));
        let writes = Writes { timeout, closed: Rc::clone(&closed) };
        let begin = event_loop.time();
        event_loop.connect(writes, address(&server));
        run(event_loop);
        let span = event_loop.time().since(begin);
        let closed = closed.take().expect("it has ended");
        assert_eq!(closed.kind, CloseKind::ClosingTimedOut);
        assert!(!closed.is_clean() && closed.unsent > 0, "{closed}");
        let limit = Duration::from_millis(30);
        // A busy machine may be as late as it likes.
        let simulated = event_loop.driver_name() == "sim";
        assert!(span >= limit && (span < limit * 2 || !simulated), "{span:?}");
        server.close();
        deaf.take().expect("connected").abort();
        event_loop.call_soon(|lp| lp.stop());
        run(event_loop);
    });
}

#[test]
fn a_close_without_a_limit_waits_until_the_peer_reads() {
    on_every_driver_and_simulated(|event_loop| {
        let (deaf, closed) =
            <(Rc<RefCell<Option<Transport>>>, Rc<RefCell<Option<Closed>>>)>::default();
        let place = Rc::clone(&deaf);
        let server = event_loop.listen(move |_| Deaf(Rc::clone(&place)), "127.0.0.1:0");
        let server = server.expect("listens");
        let writes = Writes { timeout: None, closed: Rc::clone(&closed) };
        event_loop.connect(writes, address(&server));
        let reader = Rc::clone(&deaf);
        event_loop.call_later(Duration::from_millis(40), move |_| {
            reader.borrow().as_ref().expect("connected").resume_reading();
        });
        run(event_loop);
        let closed = closed.take().expect("it has ended");
        assert_eq!((closed.kind, closed.unsent), (CloseKind::Local, 0));
        server.close();
        deaf.take().expect("connected").abort();
        event_loop.call_soon(|lp| lp.stop());
        run(event_loop);
    });
}

/// Reads only after a while.
struct Sleepy {
    received: Rc<Cell<usize>>,
    closed: Rc<RefCell<Option<Closed>>>,
}

impl Protocol for Sleepy {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        let transport = transport.clone();
        let early = Rc::clone(&self.closed);
        transport.event_loop().clone().call_later(Duration::from_millis(60), move |_| {
            // The reset has come long ago.
            assert!(early.borrow().is_none() && !transport.is_closing());
            transport.resume_reading();
        });
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        self.received.set(self.received.get() + data.len());
        data.len()
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        *self.closed.borrow_mut() = Some(closed.clone());
        transport.event_loop().stop();
    }
}

/// Writes a little and resets the connection a moment later.
struct Resets;

impl Protocol for Resets {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(&[1; 1000]);
        let transport = transport.clone();
        let lp = transport.event_loop().clone();
        lp.call_later(Duration::from_millis(20), move |_| transport.abort());
    }
}

// As in asyncio: an end that were told at once would overtake the bytes that wait before it.
#[test]
fn a_reset_while_reading_is_paused_is_told_behind_the_bytes_that_came_before_it() {
    on_every_driver_and_simulated(|event_loop| {
        event_loop.set_panic_hook(|panic| std::panic::resume_unwind(panic));
        let (received, closed) = <(Rc<Cell<usize>>, Rc<RefCell<Option<Closed>>>)>::default();
        let (count, end) = (Rc::clone(&received), Rc::clone(&closed));
        let server = event_loop
            .listen(
                move |_| Sleepy { received: Rc::clone(&count), closed: Rc::clone(&end) },
                "127.0.0.1:0",
            )
            .expect("listens");
        event_loop.connect(Resets, address(&server));
        run(event_loop);
        server.close();
        let closed = closed.take().expect("it has ended");
        let name = event_loop.driver_name();
        assert_eq!((closed.kind, received.get()), (CloseKind::Reset, 1000), "on {name}");
    });
}

/// A failed write is told apart from a failed read, by an error and by no signal.
#[test]
fn s78_s79_a_failed_write_is_no_failed_read_and_no_signal() {
    struct Writes {
        at: bool,
        closed: Rc<RefCell<Option<Closed>>>,
    }
    impl Protocol for Writes {
        fn connection_established(&mut self, transport: &Transport) {
            if self.at {
                transport.write(b"x");
            }
        }
        fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
            *self.closed.borrow_mut() = Some(closed.clone());
            transport.event_loop().stop();
        }
    }
    struct Speaks;
    impl Protocol for Speaks {
        fn connection_established(&mut self, transport: &Transport) {
            transport.write(b"hello");
        }
    }
    for half in [Half::Write, Half::Read] {
        with_faults_and_simulated(|event_loop, faults| {
            let (operation, errno) = match half {
                Half::Write => (Operation::Send, libc::EPIPE),
                _ => (Operation::Receive, libc::ECONNRESET),
            };
            faults.fail(operation, 1, errno);
            let closed = Rc::new(RefCell::new(None));
            let at = half == Half::Write;
            let server = match at {
                true => event_loop.listen(|_: &_| common::Echo, "127.0.0.1:0"),
                false => event_loop.listen(|_: &_| Speaks, "127.0.0.1:0"),
            };
            let server = server.expect("listens");
            event_loop.connect(Writes { at, closed: Rc::clone(&closed) }, address(&server));
            run(event_loop);
            let closed = closed.take().expect("it has ended");
            let error = closed.error.as_ref().expect("with the kernel's error");
            assert_eq!((closed.half, error.raw_os_error()), (Some(half), Some(errno)), "{closed}");
            let kind = if at { CloseKind::BrokenPipe } else { CloseKind::Reset };
            assert_eq!(closed.kind, kind);
            server.close();
            server.abort_connections();
            let (lp, limit) = ((**event_loop).clone(), Duration::from_millis(5));
            event_loop.run_until_complete(async move { lp.sleep(limit).await }).expect("runs");
        });
    }
}

/// The kernel says once that the peer has reset the connection, and that the pipe is broken from
/// then on.
#[test]
fn the_first_error_of_sending_is_the_one_that_is_told() {
    struct Large {
        segment: bool,
        closed: Rc<RefCell<Option<Closed>>>,
    }
    impl Protocol for Large {
        fn connection_established(&mut self, transport: &Transport) {
            match self.segment {
                true => transport.write_segment(vec![1; 100_000]),
                false => transport.write(&[1; 100_000]),
            };
        }
        fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
            *self.closed.borrow_mut() = Some(closed.clone());
            transport.event_loop().stop();
        }
    }
    for segment in [false, true] {
        with_faults_and_simulated(|event_loop, faults| {
            faults.fail(Operation::Send, 1, libc::ECONNRESET);
            faults.fail(Operation::Send, 2, libc::EPIPE);
            let closed = Rc::new(RefCell::new(None));
            let server = event_loop.listen(|_: &_| common::Echo, "127.0.0.1:0").expect("listens");
            event_loop.connect(Large { segment, closed: Rc::clone(&closed) }, address(&server));
            run(event_loop);
            let closed = closed.take().expect("it has ended");
            assert_eq!((closed.kind, closed.half), (CloseKind::Reset, Some(Half::Write)));
            assert_eq!(faults.count(Operation::Send), 1, "it is not tried again");
            server.close();
        });
    }
}

#[test]
fn a_reset_that_a_write_meets_is_no_end_of_the_input() {
    struct Answers {
        gone: Receiver<()>,
        told: Rc<RefCell<Vec<&'static str>>>,
        closed: Rc<RefCell<Option<Closed>>>,
    }
    impl Protocol for Answers {
        fn connection_established(&mut self, transport: &Transport) {
            transport.write(b"hello");
        }
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
            // The peer leaves before the loop looks again.
            self.gone.recv_timeout(Duration::from_secs(20)).expect("it leaves");
            self.told.borrow_mut().push("data");
            transport.write(&[1; 100_000]);
            data.len()
        }
        fn eof_received(&mut self, _: &Transport) -> bool {
            self.told.borrow_mut().push("eof");
            true
        }
        fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
            *self.closed.borrow_mut() = Some(closed.clone());
            transport.event_loop().stop();
        }
    }
    on_every_driver(|event_loop| {
        let (told, closed) = <(Rc<RefCell<_>>, Rc<RefCell<Option<Closed>>>)>::default();
        let (leaves, gone) = channel();
        let answers = Answers { gone, told: Rc::clone(&told), closed: Rc::clone(&closed) };
        let mut answers = Some(answers);
        let listen = event_loop.listen(move |_| answers.take().expect("one"), "127.0.0.1:0");
        let server = listen.expect("listens");
        let mut stream = client(address(&server));
        let peer = std::thread::spawn(move || {
            stream.write_all(b"go").expect("writes");
            // What is not read makes the kernel answer with a reset.
            assert_eq!(stream.peek(&mut [0]).expect("a greeting"), 1);
            drop(stream);
            leaves.send(()).expect("somebody waits");
        });
        run(event_loop);
        peer.join().expect("it has left");
        let closed = closed.take().expect("it has ended");
        assert_eq!((closed.kind, closed.half), (CloseKind::Reset, Some(Half::Write)));
        assert_eq!(told.borrow()[..], ["data"]);
        server.close();
    });
}
