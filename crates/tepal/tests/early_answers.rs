//! Peers that answer and close while they are still being written to: the answer is read.

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use common::{address, on_every_driver, run, with_faults_and_simulated};
use tepal::{CloseKind, Closed, EventLoop, Half, Protocol, RateLimit, Target, Transport};
use tepal_driver::faults::{FaultDriver, Faults, Operation};
use tepal_sim::{Config, SimDriver};

const ANSWER: &[u8] = b"413 too large";

#[derive(Default)]
struct Seen {
    received: Vec<u8>,
    closed: Option<Closed>,
}

/// Uploads more than any kernel takes.
struct Uploads {
    seen: Rc<RefCell<Seen>>,
    pauses: bool,
}

impl Protocol for Uploads {
    fn connection_established(&mut self, transport: &Transport) {
        if self.pauses {
            transport.pause_reading();
        }
        transport.write_segment(vec![7; 30_000_000]);
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        self.seen.borrow_mut().received.extend_from_slice(data);
        data.len()
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.seen.borrow_mut().closed = Some(closed.clone());
        transport.event_loop().stop();
    }
}

/// Two ends of a connection, the second of them blocking and not ours.
fn pairs() -> [(OwnedFd, Box<dyn Peer>); 2] {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let client = TcpStream::connect(listener.local_addr().expect("has an address"));
    let (accepted, _) = listener.accept().expect("accepts");
    let client = client.expect("connects");
    [(ours.into(), Box::new(theirs)), (client.into(), Box::new(accepted))]
}

trait Peer: Write {}
impl<T: Write> Peer for T {}

/// What an upload comes to see whose peer answers and closes in the midst of it: for each kind of
/// stream.
fn uploads(event_loop: &EventLoop, pauses: bool, check: impl Fn(&[u8], &Closed)) {
    for (ours, mut theirs) in pairs() {
        let seen = Rc::<RefCell<Seen>>::default();
        event_loop.attach(Uploads { seen: Rc::clone(&seen), pauses }, ours).expect("attaches");
        event_loop.call_soon(|lp| {
            // Behind the turn whose end has filled the kernel.
            lp.clone().call_soon(move |_| {
                theirs.write_all(ANSWER).expect("the kernel takes it");
                drop(theirs);
            });
        });
        run(event_loop);
        let seen = seen.take();
        let closed = seen.closed.expect("it has ended");
        assert!(matches!(closed.kind, CloseKind::BrokenPipe | CloseKind::Reset), "{closed}");
        check(&seen.received, &closed);
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_is_read_though_sending_fails() {
    on_every_driver(|event_loop| {
        uploads(event_loop, false, |received, closed| {
            assert_eq!(received, ANSWER, "{closed}");
            assert!(closed.unsent > 0, "{closed}");
        });
    });
}

#[test]
fn one_that_reads_nothing_is_told_of_the_broken_output_at_once() {
    on_every_driver(|event_loop| {
        uploads(event_loop, true, |received, closed| assert_eq!(received, b"", "{closed}"));
    });
}

/// Answers without a question.
struct Answers;

impl Protocol for Answers {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(ANSWER);
    }
}

/// Ends with what it is told to do as it hears the answer.
struct Ends {
    seen: Rc<RefCell<Seen>>,
    how: fn(&Transport),
}

impl Protocol for Ends {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let mut seen = self.seen.borrow_mut();
        seen.received.extend_from_slice(data);
        drop(seen);
        // The first send of this side fails.
        transport.write(b"more");
        let (transport, how) = (transport.clone(), self.how);
        transport.event_loop().clone().call_soon(move |_| how(&transport));
        data.len()
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let mut seen = self.seen.borrow_mut();
        assert!(seen.closed.is_none(), "told twice");
        seen.closed = Some(closed.clone());
        transport.event_loop().stop();
    }
}

#[test]
fn whatever_is_done_meanwhile_the_first_reason_stands() {
    let acts: [fn(&Transport); 6] = [
        |_| {},
        |transport| transport.close(),
        |transport| transport.abort(),
        |transport| transport.pause_reading(),
        |transport| {
            let _ = transport.write_eof();
        },
        |transport| {
            transport.write(&[7; 100_000]);
        },
    ];
    for how in acts {
        with_faults_and_simulated(|event_loop, faults| {
            // The second send of all: the answer is the first.
            faults.fail(Operation::Send, 2, libc::EPIPE);
            let server = event_loop.listen(|_: &_| Answers, "127.0.0.1:0").expect("listens");
            let seen = Rc::<RefCell<Seen>>::default();
            event_loop.connect(Ends { seen: Rc::clone(&seen), how }, address(&server));
            run(event_loop);
            let seen = seen.take();
            let closed = seen.closed.expect("it has ended");
            assert_eq!((closed.kind, closed.half), (CloseKind::BrokenPipe, Some(Half::Write)));
            assert!(closed.unsent >= 4, "{closed}");
            assert_eq!(seen.received, ANSWER);
            server.close();
            server.abort_connections();
            event_loop.call_soon(|lp| lp.stop());
            run(event_loop);
        });
    }
}

/// Writes as much as is taken, for ever.
struct Floods;

impl Protocol for Floods {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write_segment(vec![7; 1 << 20]);
    }
    fn io_out(&mut self, transport: &Transport) {
        transport.write_segment(vec![7; 1 << 20]);
    }
}

#[test]
fn a_peer_that_goes_on_sending_does_not_keep_the_end_from_being_told() {
    for layered in [false, true] {
        // What arrives between two reads fills a read.
        let buffers = 4 << 20;
        let config = Config { send_buffer: buffers, receive_buffer: buffers, ..Config::seeded(1) };
        let faults = Faults::new(1);
        let driver = FaultDriver::new(Box::new(SimDriver::with(config)), &faults);
        let event_loop = EventLoop::with_driver(Box::new(driver));
        let server = event_loop.listen(|_: &_| Floods, "127.0.0.1:0").expect("listens");
        let seen = Rc::<RefCell<Seen>>::default();
        let uploads = Uploads { seen: Rc::clone(&seen), pauses: false };
        let target = Target::address(address(&server));
        // A packet filter's answer to what is sent, which says nothing of what comes.
        faults.fail(Operation::Send, 1, libc::EPERM);
        event_loop.connect(uploads, if layered { target.layer(RateLimit::new()) } else { target });
        run(&event_loop);
        let seen = seen.take();
        let closed = seen.closed.expect("it has ended");
        assert_eq!((closed.kind, closed.half), (CloseKind::Failed, Some(Half::Write)), "{closed}");
        let received = seen.received.len();
        assert!((8 << 20..=16 << 20).contains(&received), "{received} bytes, {layered}");
    }
}

/// Joins what comes in to a connection of its own towards a server.
struct Front(SocketAddr);

struct Back(Transport);

impl Protocol for Front {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        transport.event_loop().connect(Back(transport.clone()), self.0);
    }
}

impl Protocol for Back {
    fn connection_established(&mut self, transport: &Transport) {
        let joined = self.0.join(transport).expect("both are established");
        let event_loop = transport.event_loop().clone();
        transport.event_loop().spawn(async move {
            // By a send that failed, or by the reset that the next read met.
            joined.await.expect_err("the upload was cut off");
            event_loop.stop();
        });
    }
}

#[test]
fn a_relay_carries_an_early_answer_back() {
    on_every_driver(|event_loop| {
        let upper = TcpListener::bind("127.0.0.1:0").expect("listens");
        let target = upper.local_addr().expect("has an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = upper.accept().expect("accepts");
            stream.read_exact(&mut [0; 1000]).expect("the upload begins");
            stream.write_all(ANSWER).expect("the kernel takes it");
        });
        let front = event_loop.listen(move |_| Front(target), "127.0.0.1:0").expect("listens");
        let place = address(&front);
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(place).expect("connects");
            let mut twin = stream.try_clone().expect("clones");
            // It ends with the connection.
            let writer = std::thread::spawn(move || while twin.write_all(&[7; 65536]).is_ok() {});
            let mut answer = [0; ANSWER.len()];
            stream.read_exact(&mut answer).expect("reads the answer");
            // It may have been reset by now.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            writer.join().expect("ends");
            answer
        });
        run(event_loop);
        server.join().expect("ends");
        front.close();
        front.abort_connections();
        event_loop.call_soon(|lp| lp.stop());
        run(event_loop);
        assert_eq!(client.join().expect("ends"), ANSWER);
    });
}
