//! Streams: bytes, pressure, ends.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use common::script::{Step, serve};
use common::{Echo, Log, Recorder, address, on_every_driver, on_every_driver_and_simulated, run};
use tepal::{CloseKind, Closed, Crossing, Protocol, Target, Transport};

#[test]
fn an_echo_goes_there_and_back_and_ends_cleanly() {
    on_every_driver_and_simulated(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let (recorder, log) = Recorder::new();
        let transport = event_loop.connect(recorder, address(&server));
        transport.write(b"written before the connection stands");
        let waiting = transport.clone();
        let timer = event_loop.timer(Duration::from_millis(1), move |_, timer| {
            timer.again();
            if log.borrow().bytes.len() == 36 {
                waiting.close();
            }
        });
        timer.start();
        run(event_loop);
        let closed = transport.closed().expect("it has ended");
        assert_eq!((closed.kind, closed.unsent, closed.unread), (CloseKind::Local, 0, 0));
        assert!(closed.is_clean());
    });
}

#[test]
fn callbacks_come_in_their_order() {
    on_every_driver_and_simulated(|event_loop| {
        let server = event_loop
            .listen(
                |_| {
                    struct Once;
                    impl Protocol for Once {
                        fn connection_made(&mut self, transport: &Transport) {
                            transport.write(b"hello");
                            transport.close();
                        }
                    }
                    Once
                },
                "127.0.0.1:0",
            )
            .expect("listens");
        let (recorder, log) = Recorder::new();
        event_loop.connect(recorder, address(&server));
        run(event_loop);
        let log = log.borrow();
        assert_eq!(log.events, ["made", "established", "data", "eof", "lost"]);
        assert_eq!(log.bytes, b"hello");
        assert_eq!(log.closed.as_ref().map(|closed| closed.kind), Some(CloseKind::PeerEof));
    });
}

#[test]
fn a_refused_connect_is_told_once_and_with_the_error() {
    on_every_driver_and_simulated(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let nobody = address(&server);
        server.close();
        let (recorder, log) = Recorder::new();
        event_loop.connect(recorder, nobody);
        run(event_loop);
        assert_eq!(log.borrow().events, ["made", "error_connecting", "lost"]);
        let closed = log.borrow().closed.clone().expect("a record");
        assert_eq!(closed.kind, CloseKind::ConnectFailed);
        let kind = closed.error.map(|error| error.kind());
        assert_eq!(kind, Some(std::io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn sixteen_megabytes_pass_through_a_slow_reader_without_loss() {
    const LEN: usize = 16 << 20;
    on_every_driver(|event_loop| {
        struct Source {
            sent: usize,
            paused: bool,
        }
        impl Source {
            fn pump(&mut self, transport: &Transport) {
                while !self.paused && self.sent < LEN {
                    let block: Vec<u8> =
                        (self.sent..(self.sent + 10_000).min(LEN)).map(|n| n as u8).collect();
                    self.sent += block.len();
                    self.paused = transport.write(&block) == Crossing::High;
                    assert!(transport.write_buffer_size() <= (64 << 10) + 10_000);
                }
                if self.sent == LEN {
                    transport.close();
                }
            }
        }
        impl Protocol for Source {
            fn connection_made(&mut self, transport: &Transport) {
                self.pump(transport);
            }
            fn resume_writing(&mut self, transport: &Transport) {
                self.paused = false;
                self.pump(transport);
            }
        }
        let server = event_loop
            .listen(|_| Source { sent: 0, paused: false }, "127.0.0.1:0")
            .expect("listens");
        let peer = address(&server);
        let reader = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(peer).expect("connects");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("reads");
            bytes
        });
        let remote = event_loop.remote();
        let waiter = std::thread::spawn(move || {
            let bytes = reader.join().expect("the reader ends");
            remote.stop().expect("the loop lives");
            bytes
        });
        run(event_loop);
        let bytes = waiter.join().expect("the waiter ends");
        assert_eq!(bytes.len(), LEN);
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == n as u8));
    });
}

/// Takes lines by counts, keeping nothing itself.
struct Lines {
    lines: Rc<RefCell<Vec<String>>>,
    at_once: bool,
}

impl Protocol for Lines {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        let mut used = 0;
        while let Some(end) = data[used..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&data[used..used + end]);
            self.lines.borrow_mut().push(line.into_owned());
            used += end + 1;
            if !self.at_once {
                break;
            }
        }
        used
    }
    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        transport.event_loop().stop();
    }
}

#[test]
fn a_protocol_that_keeps_no_buffer_gets_every_line_once() {
    on_every_driver_and_simulated(|event_loop| {
        for at_once in [true, false] {
            let lines = Rc::default();
            let pieces = ["one\ntw", "o", "\n", "three\nfour\nfive\nrest"];
            let pieces = pieces.into_iter().map(|piece| Step::Write(piece.into()));
            let protocol = Lines { lines: Rc::clone(&lines), at_once };
            serve(event_loop, protocol, pieces.chain([Step::Close]));
            assert_eq!(*lines.borrow(), ["one", "two", "three", "four", "five"]);
        }
    });
}

#[test]
fn a_count_above_what_was_offered_ends_the_connection() {
    on_every_driver_and_simulated(|event_loop| {
        struct Greedy(Rc<Cell<Option<CloseKind>>>);
        impl Protocol for Greedy {
            fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
                data.len() + 1
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                self.0.set(Some(closed.kind));
                transport.event_loop().stop();
            }
        }
        let kind = Rc::default();
        let heard = serve(event_loop, Greedy(Rc::clone(&kind)), [Step::Write(b"x".into())]);
        assert!(heard.bytes.is_empty());
        assert_eq!(kind.get(), Some(CloseKind::WrongCount));
    });
}

#[test]
fn unused_bytes_at_the_limit_end_the_connection() {
    on_every_driver_and_simulated(|event_loop| {
        struct Stuck(Rc<RefCell<Option<Closed>>>);
        impl Protocol for Stuck {
            fn data_received(&mut self, _: &Transport, _: &[u8]) -> usize {
                0
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                *self.0.borrow_mut() = Some(closed.clone());
                transport.event_loop().stop();
            }
        }
        let closed = Rc::default();
        // The connection may be gone before all of it is written.
        serve(event_loop, Stuck(Rc::clone(&closed)), [Step::Write(vec![7; 1 << 20])]);
        let closed = closed.borrow().clone().expect("it ended");
        assert_eq!(closed.kind, CloseKind::InputStalled);
        assert!(closed.unread >= 256 << 10 && closed.unread <= 512 << 10);
    });
}

#[test]
fn the_low_mark_holds_bytes_back_until_there_are_enough_or_the_end_comes() {
    on_every_driver_and_simulated(|event_loop| {
        struct Messages(Rc<RefCell<Vec<usize>>>);
        impl Protocol for Messages {
            fn connection_made(&mut self, transport: &Transport) {
                transport.set_read_low(1000).expect("below the limit");
            }
            fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
                self.0.borrow_mut().push(data.len());
                data.len().min(1000)
            }
            fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
                transport.event_loop().stop();
            }
        }
        let sizes = Rc::default();
        let pieces = std::iter::repeat_n(Step::Write(vec![1; 100]), 25).chain([Step::Close]);
        serve(event_loop, Messages(Rc::clone(&sizes)), pieces);
        let sizes = sizes.borrow();
        let (last, others) = sizes.split_last().expect("some were offered");
        assert_eq!(*last, 500);
        assert!(others.iter().all(|size| *size >= 1000));
    });
}

#[test]
fn no_byte_is_offered_while_reading_is_paused_even_if_it_is_buffered() {
    on_every_driver_and_simulated(|event_loop| {
        struct OneByOne {
            paused: Rc<Cell<bool>>,
            bytes: Rc<RefCell<Vec<u8>>>,
        }
        impl Protocol for OneByOne {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
                assert!(!self.paused.get(), "bytes came while paused");
                self.bytes.borrow_mut().push(data[0]);
                self.paused.set(true);
                transport.pause_reading();
                let (paused, transport) = (Rc::clone(&self.paused), transport.clone());
                transport.event_loop().clone().call_later(Duration::from_micros(100), move |_| {
                    paused.set(false);
                    transport.resume_reading();
                });
                1
            }
            fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
                transport.event_loop().stop();
            }
        }
        let bytes = Rc::default();
        let protocol = OneByOne { paused: Rc::default(), bytes: Rc::clone(&bytes) };
        serve(event_loop, protocol, [Step::Write(b"0123456789".into()), Step::Close]);
        assert_eq!(*bytes.borrow(), b"0123456789");
    });
}

#[test]
fn a_half_closed_connection_still_answers() {
    on_every_driver_and_simulated(|event_loop| {
        struct Summary(usize);
        impl Protocol for Summary {
            fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
                self.0 += data.len();
                data.len()
            }
            fn eof_received(&mut self, transport: &Transport) -> bool {
                transport.write_segment(format!("{} bytes", self.0));
                transport.write_eof().expect("open");
                let transport = transport.clone();
                transport.event_loop().clone().call_soon(move |_| transport.close());
                true
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                assert_eq!((closed.kind, closed.unsent), (CloseKind::PeerEof, 0));
                transport.event_loop().stop();
            }
        }
        let heard = serve(event_loop, Summary(0), [Step::Write(vec![0; 5000]), Step::Eof]);
        assert_eq!(heard.bytes, b"5000 bytes");
    });
}

#[test]
fn an_abort_resets_the_peer_and_counts_what_was_not_sent() {
    on_every_driver_and_simulated(|event_loop| {
        struct Abort(Rc<Cell<u64>>);
        impl Protocol for Abort {
            fn connection_established(&mut self, transport: &Transport) {
                transport.write(b"never sent");
                transport.abort();
                transport.write(b"not even queued");
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                assert_eq!(closed.kind, CloseKind::Aborted);
                self.0.set(closed.unsent);
                transport.event_loop().stop();
            }
        }
        let unsent = Rc::default();
        let heard = serve(event_loop, Abort(Rc::clone(&unsent)), []);
        assert_eq!(heard.closed.map(|closed| closed.kind), Some(CloseKind::Reset));
        assert_eq!(unsent.get(), 10);
    });
}

#[test]
fn a_reset_by_the_peer_is_told_apart_from_its_end() {
    on_every_driver_and_simulated(|event_loop| {
        struct Greets(Log);
        impl Protocol for Greets {
            fn connection_established(&mut self, transport: &Transport) {
                transport.write(b"unread by the peer");
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                self.0.borrow_mut().closed = Some(closed.clone());
                transport.event_loop().stop();
            }
        }
        let log = Log::default();
        serve(event_loop, Greets(Rc::clone(&log)), [Step::Pause, Step::Reset]);
        let closed = log.borrow().closed.clone().expect("it ended");
        assert_eq!((closed.kind, closed.half), (CloseKind::Reset, Some(tepal::Half::Read)));
    });
}

#[test]
fn a_panicking_protocol_loses_its_connection_and_nothing_else() {
    on_every_driver_and_simulated(|event_loop| {
        struct Panics(Rc<Cell<Option<CloseKind>>>);
        impl Protocol for Panics {
            fn data_received(&mut self, _: &Transport, _: &[u8]) -> usize {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                self.0.set(Some(closed.kind));
                transport.event_loop().stop();
            }
        }
        let payload = Rc::new(RefCell::new(None));
        let place = Rc::clone(&payload);
        event_loop.set_panic_hook(move |panic| {
            *place.borrow_mut() = panic.downcast_ref::<&str>().copied();
            std::ops::ControlFlow::Continue(())
        });
        let kind = Rc::default();
        let heard = serve(event_loop, Panics(Rc::clone(&kind)), [Step::Write(b"x".into())]);
        assert!(heard.bytes.is_empty());
        assert_eq!(kind.get(), Some(CloseKind::ProtocolFailed));
        assert_eq!(*payload.borrow(), Some("on purpose"));
    });
}

#[test]
fn unix_sockets_work_and_a_stale_file_is_no_hindrance() {
    let folder = std::env::temp_dir().join(format!("tepal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    on_every_driver(|event_loop| {
        let path = folder.join(event_loop.driver_name());
        // Left over by a process that did not clean up.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        let server = event_loop.listen(|_| Echo, path.as_path()).expect("listens");
        let second = event_loop.listen(|_| Echo, path.as_path());
        assert_eq!(second.map(|_| ()).map_err(|e| e.kind()), Err(std::io::ErrorKind::AddrInUse));
        let (recorder, log) = Recorder::new();
        let transport = event_loop.connect(recorder, Target::unix(&path));
        transport.write(b"through a file");
        transport.write_eof().expect("open");
        run(event_loop);
        assert_eq!(log.borrow().bytes, b"through a file");
        server.close();
        assert!(!path.exists(), "the socket's file is removed");
    });
    std::fs::remove_dir_all(&folder).expect("removes the folder");
}

#[test]
fn a_close_with_unread_input_does_not_cost_the_peer_the_last_bytes() {
    on_every_driver(|event_loop| {
        struct Refuses;
        impl Protocol for Refuses {
            fn data_received(&mut self, transport: &Transport, _: &[u8]) -> usize {
                transport.pause_reading();
                let transport = transport.clone();
                // By then the kernel holds input that nobody will read.
                transport.event_loop().clone().call_later(Duration::from_millis(20), move |_| {
                    transport.write(&[b'n'; 100_000]);
                    transport.close();
                });
                0
            }
            fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
                assert_eq!((closed.kind, closed.unsent), (CloseKind::Local, 0));
            }
        }
        let server = event_loop.listen(|_| Refuses, "127.0.0.1:0").expect("listens");
        let address = address(&server);
        let remote = event_loop.remote();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("connects");
            let mut twin = stream.try_clone().expect("clones");
            let writer = std::thread::spawn(move || {
                // More than the server reads, until it has ended or the socket is full.
                twin.set_write_timeout(Some(Duration::from_millis(200))).expect("an option");
                let _ = twin.write_all(&vec![0; 8 << 20]);
            });
            let mut answer = Vec::new();
            let result = stream.read_to_end(&mut answer);
            drop(stream);
            writer.join().expect("ends");
            remote.stop().expect("the loop lives");
            (answer.len(), result.map_err(|error| error.kind()))
        });
        run(event_loop);
        assert_eq!(client.join().expect("ends"), (100_000, Ok(100_000)));
    });
}
