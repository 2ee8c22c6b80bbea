//! Servers: where they listen, whom they take, how they end.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{
    Echo, address, client, echo, on_every_driver, run, run_with, with_faults,
    with_faults_and_simulated,
};
use tepal::{Address, Listen, Protocol, Server, Transport};
use tepal_driver::faults::Operation;

fn addresses(server: &Server) -> Vec<SocketAddr> {
    server.local_addresses().iter().map(|at| at.as_ip().expect("an IP address")).collect()
}

/// Whether a peer has nothing for us yet.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an option");
    let result = stream.read(&mut [0]);
    stream.set_nonblocking(false).expect("an option");
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn one_server_listens_at_several_places() {
    on_every_driver(|event_loop| {
        let peers = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&peers);
        let factory = move |peer: &Address| {
            log.borrow_mut().push(peer.as_ip().expect("an IP address"));
            Echo
        };
        let listen = Listen::on("127.0.0.1:0").and("127.0.0.2:0").and("[::1]:0");
        let server = event_loop.listen(factory, listen).expect("listens");
        let places = addresses(&server);
        let hosts: Vec<String> = places.iter().map(|at| at.ip().to_string()).collect();
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2", "::1"]);
        let (sender, receiver) = std::sync::mpsc::channel();
        run_with(event_loop, move || {
            let mut clients: Vec<_> = places.iter().map(|at| client(*at)).collect();
            clients.iter_mut().for_each(|stream| echo(stream, b"hello"));
            let own: Vec<_> = clients.iter().map(|c| c.local_addr().expect("bound")).collect();
            sender.send((own, clients)).expect("the test lives");
        });
        let (mut own, clients) = receiver.recv().expect("the client has told");
        assert_eq!(server.connection_count(), 3);
        own.sort();
        peers.borrow_mut().sort();
        assert_eq!(*peers.borrow(), own, "the factory is told who comes");
        drop(clients);
    });
}

#[test]
fn the_wildcard_of_ipv6_takes_ipv4_too_and_other_addresses_do_not() {
    on_every_driver(|event_loop| {
        let server = event_loop.listen(|_| Echo, "[::]:0").expect("listens");
        let port = address(&server).port();
        // The port of `::1` is nobody's in IPv4, so it can be had there; others may be quicker.
        let (_six, narrow) = (0..100)
            .find_map(|_| {
                let six = event_loop.listen(|_| Echo, "[::1]:0").expect("listens");
                let four = TcpListener::bind(("127.0.0.1", address(&six).port())).ok()?;
                Some((six, four))
            })
            .expect("a port that is free in IPv4");
        run_with(event_loop, move || {
            for host in ["127.0.0.1", "[::1]"] {
                let at = format!("{host}:{port}").parse().expect("an address");
                echo(&mut client(at), b"both");
            }
            let at = narrow.local_addr().expect("bound");
            let client = TcpStream::connect(at).expect("connects");
            let (_, peer) = narrow.accept().expect("it came here");
            assert_eq!(peer, client.local_addr().expect("bound"));
        });
    });
}

#[test]
fn a_listening_socket_made_elsewhere_is_adopted() {
    on_every_driver(|event_loop| {
        let made = TcpListener::bind("127.0.0.1:0").expect("binds");
        let at = made.local_addr().expect("bound");
        // Somebody waits there already.
        let mut early = client(at);
        let server = event_loop.listen(|_| Echo, OwnedFd::from(made)).expect("adopts");
        assert_eq!(address(&server), at);
        run_with(event_loop, move || {
            echo(&mut early, b"I was first");
            echo(&mut client(at), b"I was not");
        });
        server.close();
        let refused = TcpStream::connect(at).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn what_cannot_listen_is_refused_and_the_other_places_are_given_up() {
    on_every_driver(|event_loop| {
        let kind = |listen: Listen| {
            let server = event_loop.listen(|_| Echo, listen);
            server.map(|_| ()).map_err(|error| error.kind())
        };
        let (file, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert!(kind(Listen::on(OwnedFd::from(file))).is_err(), "it is connected");
        assert_eq!(kind("127.0.0.1".into()), Err(io::ErrorKind::InvalidInput));
        assert_eq!(kind("".into()), Err(io::ErrorKind::InvalidInput));
        let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
        let taken = taken.local_addr().map(|at| (taken, at)).expect("bound");
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let first = free.local_addr().expect("bound");
        drop(free);
        let error = event_loop
            .listen(|_| Echo, Listen::on(first).and(taken.1))
            .map(|_| ())
            .expect_err("the second is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken.1.to_string()), "{error}");
        let refused = TcpStream::connect(first).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn servers_that_reuse_a_port_share_its_connections() {
    on_every_driver(|event_loop| {
        let counts = Rc::new([Cell::new(0), Cell::new(0)]);
        let factory = |n: usize| {
            let counts = Rc::clone(&counts);
            move |_: &Address| {
                counts[n].set(counts[n].get() + 1);
                Echo
            }
        };
        let first =
            event_loop.listen(factory(0), Listen::on("127.0.0.1:0").reuse_port(true)).expect("one");
        let at = address(&first);
        event_loop.listen(factory(1), Listen::on(at).reuse_port(true)).expect("another");
        let without = event_loop.listen(|_| Echo, at).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(without, Err(io::ErrorKind::AddrInUse));
        run_with(event_loop, move || {
            // The kernel picks by a hash: 2^-63 that one of the two gets none.
            (0..64).for_each(|_| echo(&mut client(at), b"to either"));
        });
        assert_eq!(counts[0].get() + counts[1].get(), 64);
        assert!(counts[0].get() > 0 && counts[1].get() > 0);
    });
}

#[test]
fn connections_above_the_most_wait_and_are_served_when_one_leaves() {
    on_every_driver(|event_loop| {
        let listen = Listen::on("127.0.0.1:0").max_connections(2);
        let server = Rc::new(event_loop.listen(|_| Echo, listen).expect("listens"));
        let at = address(&server);
        let most = Rc::new(Cell::new(0));
        let (watched, peak) = (Rc::clone(&server), Rc::clone(&most));
        let watch = event_loop.timer(Duration::from_micros(100), move |_, timer| {
            peak.set(peak.get().max(watched.connection_count()));
            timer.again();
        });
        watch.start();
        run_with(event_loop, move || {
            let (mut first, mut second) = (client(at), client(at));
            echo(&mut first, b"one");
            echo(&mut second, b"two");
            let mut waiting: Vec<_> = (0..5).map(|_| client(at)).collect();
            waiting.iter_mut().for_each(|stream| stream.write_all(b"w").expect("writes"));
            // The loop has turned since, and has not taken them.
            echo(&mut first, b"still one");
            assert!(waiting.iter_mut().all(is_silent));
            drop(first);
            for mut stream in waiting {
                let mut back = [0];
                stream.read_exact(&mut back).expect("its turn has come");
                assert_eq!(&back, b"w");
            }
            echo(&mut second, b"still two");
        });
        watch.stop();
        assert_eq!(most.get(), 2);
    });
}

#[test]
fn while_accepting_is_paused_connections_wait() {
    on_every_driver(|event_loop| {
        let server = Rc::new(event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens"));
        let other = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let (at, other) = (address(&server), address(&other));
        server.pause_accepting();
        let paused = Rc::clone(&server);
        let resume = event_loop.trigger(move |_| {
            assert_eq!(paused.connection_count(), 0);
            paused.resume_accepting();
        });
        run_with(event_loop, move || {
            let mut waiting = client(at);
            waiting.write_all(b"patience").expect("writes");
            echo(&mut client(other), b"the loop turns");
            assert!(is_silent(&mut waiting));
            resume.fire();
            let mut back = [0; 8];
            waiting.read_exact(&mut back).expect("served");
            assert_eq!(&back, b"patience");
        });
    });
}

#[test]
fn a_flood_of_connections_is_taken_whole() {
    on_every_driver(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        // All of them wait when the loop begins.
        let mut clients: Vec<_> = (0..300).map(|_| client(at)).collect();
        run_with(event_loop, move || {
            clients.iter_mut().for_each(|stream| echo(stream, b"one of many"));
        });
    });
}

#[test]
fn closing_a_server_frees_its_address_and_leaves_connections_alone() {
    on_every_driver(|event_loop| {
        let server = Rc::new(event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens"));
        let at = address(&server);
        let closing = Rc::clone(&server);
        let (sender, closed) = std::sync::mpsc::channel();
        let close = event_loop.trigger(move |_| {
            closing.close();
            closing.close();
            sender.send(()).expect("the client waits");
        });
        run_with(event_loop, move || {
            let mut stream = client(at);
            echo(&mut stream, b"before");
            close.fire();
            closed.recv_timeout(Duration::from_secs(10)).expect("closed");
            let refused = TcpStream::connect(at).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
            echo(&mut stream, b"after");
        });
        event_loop.listen(|_| Echo, at).expect("the address is free").close();
    });
}

/// Much longer than a busy machine needs, where a drain is to end before its time.
const DRAIN: Duration = Duration::from_secs(60);

#[test]
fn a_drain_ends_as_soon_as_the_last_connection_has_left() {
    on_every_driver(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        let (sender, receiver) = std::sync::mpsc::channel();
        run_with(event_loop, move || {
            let mut clients = [client(at), client(at)];
            clients.iter_mut().for_each(|stream| echo(stream, b"in"));
            sender.send(clients).expect("the test lives");
        });
        let clients = receiver.recv().expect("connected");
        assert_eq!(server.connection_count(), 2);
        let begin = Instant::now();
        let drain = server.drain(DRAIN);
        let thread = std::thread::spawn(move || {
            let refused = TcpStream::connect(at).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
            let [mut first, second] = clients;
            echo(&mut first, b"served to the end");
            drop((first, second));
        });
        assert_eq!(event_loop.run_until_complete(drain).expect("runs"), 0);
        assert!(begin.elapsed() < DRAIN / 2);
        thread.join().expect("the client is content");
    });
}

#[test]
fn a_drain_aborts_and_counts_those_that_stay() {
    on_every_driver(|event_loop| {
        let listen = Listen::on("127.0.0.1:0").and("127.0.0.1:0");
        let server = event_loop.listen(|_| Echo, listen).expect("listens");
        let places = addresses(&server);
        let (sender, receiver) = std::sync::mpsc::channel();
        run_with(event_loop, move || {
            let at = [places[0], places[1], places[1]];
            let mut clients = at.map(client);
            clients.iter_mut().for_each(|stream| echo(stream, b"in"));
            sender.send(clients).expect("the test lives");
        });
        let [leaves, mut stays, mut too] = receiver.recv().expect("connected");
        drop(leaves);
        let begin = Instant::now();
        let drain = server.drain(Duration::from_millis(30));
        assert_eq!(event_loop.run_until_complete(drain).expect("runs"), 2);
        assert!(begin.elapsed() >= Duration::from_millis(30));
        for stream in [&mut stays, &mut too] {
            let end = stream.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
        }
    });
}

#[test]
fn a_drain_of_nothing_is_done_at_once() {
    on_every_driver(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let begin = Instant::now();
        let drain = server.drain(DRAIN);
        assert_eq!(event_loop.run_until_complete(drain).expect("runs"), 0);
        assert!(begin.elapsed() < DRAIN / 2);
    });
}

#[test]
fn without_descriptors_accepting_backs_off_and_recovers() {
    with_faults(|event_loop, faults| {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&reports);
        event_loop.set_trouble_hook(move |_, error| log.borrow_mut().push(error.raw_os_error()));
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        let lasting = Duration::from_millis(350);
        faults.fail_always(Operation::Accept, libc::EMFILE);
        let script = faults.clone();
        let while_lasting = Rc::new(Cell::new(0));
        let count = Rc::clone(&while_lasting);
        let waits = faults.count(Operation::Wait);
        event_loop.call_later(lasting, move |_| {
            count.set(script.count(Operation::Accept));
            assert!(script.count(Operation::Wait) - waits < 20, "the loop spins");
            script.clear();
        });
        let begin = Instant::now();
        run_with(event_loop, move || echo(&mut client(at), b"patience"));
        let took = begin.elapsed();
        assert!(took >= lasting, "{took:?}");
        // Once when the connection came, then each tenth of a second.
        assert!((1..=4).contains(&while_lasting.get()), "{} calls", while_lasting.get());
        // And the next time it was taken.
        assert!(faults.count(Operation::Accept) <= while_lasting.get() + 2);
        assert_eq!(reports.borrow().len() as u64, while_lasting.get());
        assert!(reports.borrow().iter().all(|errno| *errno == Some(libc::EMFILE)));
    });
}

/// Has a message sent back to it, and ends the loop when the last of its kind has.
struct Client(Rc<Cell<u32>>);

impl Protocol for Client {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(b"taken");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if data.len() < 5 {
            return 0;
        }
        transport.close();
        self.0.set(self.0.get() - 1);
        if self.0.get() == 0 {
            transport.event_loop().stop();
        }
        data.len()
    }
}

#[test]
fn a_single_failure_to_accept_costs_at_most_a_moment() {
    with_faults_and_simulated(|event_loop, faults| {
        event_loop.set_trouble_hook(|_, _| ());
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        let errors = [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::ECONNABORTED,
            libc::EAGAIN,
            libc::EPROTO,
            libc::EPERM,
            libc::EHOSTUNREACH,
        ];
        for errno in errors {
            for nth in 1..3 {
                faults.clear();
                faults.fail(Operation::Accept, nth, errno);
                let begin = event_loop.time();
                let left = Rc::new(Cell::new(2));
                for _ in 0..2 {
                    event_loop.connect(Client(Rc::clone(&left)), at);
                }
                run(event_loop);
                // A busy machine may be late.
                let took = event_loop.time().since(begin);
                let in_time = took < Duration::from_millis(150);
                let simulated = event_loop.driver_name() == "sim";
                assert!(in_time || !simulated, "error {errno} at call {nth}: {took:?}");
            }
        }
    });
}

#[test]
fn a_connection_that_cannot_be_registered_is_lost_alone() {
    with_faults(|event_loop, faults| {
        event_loop.set_trouble_hook(|_, _| ());
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        faults.fail(Operation::Register, 1, libc::ENOSPC);
        run_with(event_loop, move || {
            let mut unlucky = client(at);
            assert_eq!(unlucky.read(&mut [0]).unwrap_or(0), 0);
            echo(&mut client(at), b"lucky");
        });
        assert_eq!(faults.injected(), 1);
    });
}

/// A factory that panics at the first call.
fn panics_once() -> impl FnMut(&Address) -> Echo {
    let mut first = true;
    move |_: &Address| {
        if std::mem::take(&mut first) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        Echo
    }
}

#[test]
fn a_panicking_factory_costs_that_connection_only() {
    on_every_driver(|event_loop| {
        let listen = Listen::on("127.0.0.1:0").max_connections(1);
        let server = event_loop.listen(panics_once(), listen).expect("listens");
        let at = address(&server);
        run_with(event_loop, move || {
            let mut unlucky = client(at);
            assert_eq!(unlucky.read(&mut [0]).unwrap_or(0), 0, "closed");
            // It does not count as a connection any more.
            echo(&mut client(at), b"lucky");
        });
    });
}

#[test]
fn a_panic_that_ends_the_run_leaves_nobody_waiting_for_ever() {
    on_every_driver(|event_loop| {
        event_loop.set_panic_hook(|_| ControlFlow::Break(()));
        let server = event_loop.listen(panics_once(), "127.0.0.1:0").expect("listens");
        let at = address(&server);
        // Both wait, and one event tells of both.
        let (_first, mut second) = (client(at), client(at));
        run(event_loop);
        run_with(event_loop, move || echo(&mut second, b"after the break"));
    });
}

#[test]
fn a_server_may_be_closed_by_its_own_factory_and_protocol() {
    on_every_driver(|event_loop| {
        struct Closes(Rc<RefCell<Option<Server>>>);
        impl Protocol for Closes {
            fn connection_made(&mut self, transport: &Transport) {
                if let Some(server) = self.0.take() {
                    server.close();
                }
                transport.write(b"bye");
                transport.close();
            }
        }
        for by_factory in [true, false] {
            let place = Rc::new(RefCell::new(None));
            let own = Rc::clone(&place);
            let factory = move |_: &Address| {
                if by_factory && let Some(server) = own.borrow_mut().take() {
                    let server: Server = server;
                    server.close();
                }
                Closes(Rc::clone(&own))
            };
            let server = event_loop.listen(factory, "127.0.0.1:0").expect("listens");
            let at = address(&server);
            *place.borrow_mut() = Some(server);
            run_with(event_loop, move || {
                let mut text = String::new();
                client(at).read_to_string(&mut text).expect("reads");
                assert_eq!(text, "bye");
            });
        }
    });
}
