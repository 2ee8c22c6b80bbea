//! How simulated connections come to be and end: what `like_linux` cannot wait for or does not
//! dare to do to a real kernel.

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{Hand, abstract_name, name, text, v4};
use tepal_base::Instant;
use tepal_driver::{Address, Connect, Domain, Interest, Kind, SocketOption};
use tepal_sim::{Config, Route, SimKernel};

const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

fn slow(millis: u64) -> Config {
    let latency = Duration::from_millis(millis);
    Config { latency: latency..=latency, ..Config::default() }
}

#[test]
fn a_connect_takes_a_round_trip_and_its_acceptance_half_more() {
    let (mut hand, kernel) = Hand::sim(slow(10));
    let (listener, address) = hand.listen(1);
    hand.driver.register(listener, 1, Interest::READ).expect("registered");
    let client = hand.connecting(&address);
    hand.driver.register(client, 2, Interest::BOTH).expect("registered");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let events = hand.wait_until(None).expect("it goes on");
        seen.extend(events.iter().map(|event| (event.token, kernel.now().as_nanos() / 1_000_000)));
    }
    assert_eq!(seen, [(2, 20), (1, 30)]);
}

#[test]
fn a_refusal_takes_a_round_trip() {
    let (mut hand, kernel) = Hand::sim(slow(10));
    let client = hand.connecting(&v4(1));
    hand.driver.register(client, 1, Interest::BOTH).expect("registered");
    assert_eq!(hand.wait_until(None).expect("refused").len(), 1);
    assert_eq!(kernel.now(), Instant::from_nanos(20_000_000));
    assert_eq!(hand.take_error(client), "ECONNREFUSED");
}

/// Linux: `net.ipv4.tcp_syn_retries` = 6 gives up after 127 s.
#[test]
fn a_connect_into_nothing_times_out_after_its_retries() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    kernel.set_route(FAR, Route::Blackhole);
    let client = hand.connecting(&Address::Ip((FAR, 80).into()));
    hand.driver.register(client, 1, Interest::BOTH).expect("registered");
    assert_eq!(hand.wait_until(None).expect("it gives up").len(), 1);
    assert_eq!(kernel.now(), Instant::ZERO + Duration::from_secs(127));
    assert_eq!(hand.take_error(client), "ETIMEDOUT");
}

#[test]
fn a_full_backlog_is_retried_and_gets_in_when_there_is_room() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let (listener, address) = hand.listen(0);
    let clients: Vec<_> = (0..2).map(|_| hand.connecting(&address)).collect();
    hand.driver.register(clients[1], 1, Interest::BOTH).expect("registered");
    hand.wait(Duration::from_millis(500));
    let first = hand.accept(listener);
    assert_eq!(hand.wait_until(None).expect("the second SYN gets in").len(), 1);
    assert_eq!(kernel.now(), Instant::ZERO + Duration::from_secs(1));
    let second = hand.accept(listener);
    hand.close_all([listener, first, second, clients[0], clients[1]]);
    kernel.ledger().assert_balanced();
}

#[test]
fn a_listener_closed_during_the_handshake_resets_the_client() {
    // The SYN has arrived, and the client's last word finds no listener.
    for (wait, expected) in [(5, "ECONNREFUSED"), (15, "ECONNRESET"), (25, "ECONNRESET")] {
        let (mut hand, kernel) = Hand::sim(slow(10));
        let (listener, address) = hand.listen(4);
        let client = hand.connecting(&address);
        hand.driver.register(client, 1, Interest::BOTH).expect("registered");
        kernel.advance(Duration::from_millis(wait));
        hand.close(listener);
        kernel.advance(Duration::from_secs(1));
        assert_eq!(hand.take_error(client), expected, "closed after {wait} ms");
        hand.close(client);
        kernel.ledger().assert_balanced();
    }
}

#[test]
fn a_client_that_closes_while_connecting_leaves_nothing_behind() {
    for wait in [0, 5, 15, 25] {
        let (mut hand, kernel) = Hand::sim(slow(10));
        let (listener, address) = hand.listen(4);
        let client = hand.connecting(&address);
        kernel.advance(Duration::from_millis(wait));
        hand.close(client);
        kernel.advance(Duration::from_secs(1));
        let accepted = hand.driver.accept(listener).map(|(server, _)| server);
        // Once connected, the close is a FIN, and the connection can be accepted.
        assert_eq!(accepted.is_ok(), wait == 25, "closed after {wait} ms");
        if let Ok(server) = accepted {
            assert_eq!(hand.receive(server, 1), "end");
            hand.close(server);
        }
        hand.close(listener);
        kernel.advance(Duration::from_secs(1));
        kernel.ledger().assert_balanced();
    }
}

/// Linux: a connection that was reset in the queue is accepted all the same.
#[test]
fn a_connection_reset_in_the_queue_is_accepted_and_tells_then() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let (listener, address) = hand.listen(4);
    let client = hand.connecting(&address);
    hand.wait_ready(client, Interest::WRITE);
    hand.send(client, "abc");
    hand.reset(client);
    let server = hand.accept(listener);
    assert_eq!(hand.receive(server, 9), "abc");
    assert_eq!(hand.receive(server, 9), "ECONNRESET");
    hand.close_all([listener, server]);
    kernel.ledger().assert_balanced();
}

#[test]
fn routes_make_addresses_local_unreachable_or_lost() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let far = Address::Ip((FAR, 80).into());
    let socket = hand.tcp();
    assert_eq!(text(hand.driver.bind(socket, &far).map(|()| "bound")), "EADDRNOTAVAIL");
    let connect = |hand: &mut Hand| text(hand.driver.connect(socket, &far).map(|_| "goes on"));
    assert_eq!(connect(&mut hand), "ENETUNREACH");
    kernel.set_route(FAR, Route::Error(libc::EPERM));
    assert_eq!(connect(&mut hand), "EPERM");
    kernel.set_route(FAR, Route::Local);
    let listener = hand.tcp();
    hand.driver.bind(listener, &far).expect("local now");
    hand.driver.listen(listener, 1).expect("it listens");
    assert_eq!(connect(&mut hand), "goes on");
    let server = hand.accept(listener);
    let local = hand.driver.local_address(server).expect("connected");
    assert_eq!(local.to_string(), "203.0.113.7:80");
}

#[test]
fn running_out_of_ephemeral_ports_is_told_and_ends_when_one_is_free() {
    let config = Config { ephemeral_ports: 40_000..=40_003, ..Config::default() };
    let (mut hand, kernel) = Hand::sim(config);
    let listen = |hand: &mut Hand, port| {
        let listener = hand.tcp();
        hand.driver.bind(listener, &v4(port)).expect("it binds");
        hand.driver.listen(listener, 16).expect("it listens");
    };
    listen(&mut hand, 80);
    listen(&mut hand, 81);
    let clients: Vec<_> = (0..4).map(|_| hand.connecting(&v4(80))).collect();
    let late = hand.tcp();
    let connect =
        |hand: &mut Hand, port| text(hand.driver.connect(late, &v4(port)).map(|_| "goes on"));
    assert_eq!(connect(&mut hand, 80), "EADDRNOTAVAIL");
    let bound = hand.tcp();
    assert_eq!(text(hand.driver.bind(bound, &v4(0)).map(|()| "bound")), "EADDRINUSE");
    hand.reset(clients[2]);
    assert_eq!(connect(&mut hand, 80), "goes on");
    // A port serves one more connection to another peer.
    let other = hand.connecting(&v4(81));
    let port = hand.driver.local_address(other).expect("bound");
    assert!((40_000..=40_003).contains(&port.as_ip().expect("an IP address").port()));
    assert!(kernel.ledger().ports > 4);
}

#[test]
fn the_side_that_closes_first_keeps_its_port_for_a_minute() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let (listener, address) = hand.listen(1);
    let client = hand.connecting(&address);
    let server = hand.accept(listener);
    hand.close_all([listener, server, client]);
    kernel.ledger().assert_balanced();
    let bind = |hand: &mut Hand, reuse| {
        let socket = hand.tcp();
        hand.driver.set_option(socket, &SocketOption::ReuseAddress(reuse)).expect("set");
        let bound = text(hand.driver.bind(socket, &address).map(|()| "bound"));
        hand.close(socket);
        bound
    };
    assert_eq!(bind(&mut hand, false), "EADDRINUSE");
    assert_eq!(bind(&mut hand, true), "bound");
    kernel.advance(Duration::from_secs(60));
    assert_eq!(bind(&mut hand, false), "bound");
}

#[test]
fn the_side_that_closes_last_keeps_no_port() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let (listener, address) = hand.listen(1);
    let client = hand.connecting(&address);
    let server = hand.accept(listener);
    hand.close_all([listener, client, server]);
    let socket = hand.tcp();
    hand.driver.bind(socket, &address).expect("free");
}

#[test]
fn the_descriptor_limit_holds_everywhere_and_keeps_connections_waiting() {
    let (mut hand, kernel) = Hand::sim(Config { max_descriptors: 3, ..Config::default() });
    let (listener, address) = hand.listen(4);
    let client = hand.connecting(&address);
    hand.wait_ready(listener, Interest::READ);
    let spare = hand.tcp();
    let opened = hand.driver.open(Domain::Unix, Kind::Datagram).map(|_| "opened");
    assert_eq!(text(opened), "EMFILE");
    assert_eq!(text(hand.driver.pipe().map(|_| "made")), "EMFILE");
    for _ in 0..2 {
        assert_eq!(text(hand.driver.accept(listener).map(|_| "accepted")), "EMFILE");
    }
    hand.close(spare);
    assert_eq!(text(hand.driver.pipe().map(|_| "made")), "EMFILE", "a pipe needs two");
    assert_eq!(kernel.ledger().open_descriptors, 2);
    let server = hand.driver.accept(listener).map(|(server, _)| server).expect("it waited");
    hand.close_all([listener, client, server]);
    kernel.ledger().assert_balanced();
}

#[test]
fn connections_spread_over_listeners_that_share_a_port() {
    let (mut hand, _kernel) = Hand::sim(Config::seeded(5));
    let listeners: Vec<_> = (0..2)
        .map(|_| {
            let listener = hand.tcp();
            hand.driver.set_option(listener, &SocketOption::ReusePort(true)).expect("set");
            hand.driver.bind(listener, &v4(80)).expect("shared");
            hand.driver.listen(listener, 100).expect("shared");
            listener
        })
        .collect();
    for _ in 0..40 {
        hand.connecting(&v4(80));
    }
    for listener in listeners {
        let mut count = 0;
        while hand.driver.accept(listener).is_ok() {
            count += 1;
        }
        assert!((5..=35).contains(&count), "{count} of 40");
    }
}

#[test]
fn accepted_sockets_inherit_their_listeners_options() {
    let kernel = SimKernel::new(Config::default());
    let mut driver = kernel.driver();
    let mut peer = Hand::new(kernel.driver());
    use tepal_driver::Driver;
    let listener = driver.open(Domain::Inet, Kind::Stream).expect("opens");
    for option in [SocketOption::NoDelay(false), SocketOption::NoDelay(true)] {
        driver.set_option(listener, &option).expect("set");
    }
    driver.bind(listener, &v4(80)).expect("binds");
    driver.listen(listener, 1).expect("listens");
    peer.connecting(&v4(80));
    let (server, from) = driver.accept(listener).expect("a connection");
    assert_eq!(driver.options(server).expect("open"), [SocketOption::NoDelay(true)]);
    assert!(from.as_ip().is_some());
    driver.close(server).expect("open");
    assert!(driver.options(server).is_err());
}

#[test]
fn unix_addresses_of_both_ends_are_as_bound() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let (there, here) = (abstract_name("there"), abstract_name("here"));
    let listener = hand.open(Domain::Unix, Kind::Stream);
    hand.driver.bind(listener, &there).expect("it binds");
    hand.driver.listen(listener, 2).expect("it listens");
    let client = hand.open(Domain::Unix, Kind::Stream);
    hand.driver.bind(client, &here).expect("it binds");
    assert_eq!(hand.driver.connect(client, &there).expect("connects"), Connect::Connected);
    let (server, from) = hand.driver.accept(listener).expect("a connection");
    assert_eq!(from, here);
    for (address, expected) in [
        (hand.driver.local_address(server), &there),
        (hand.driver.peer_address(server), &here),
        (hand.driver.local_address(client), &here),
        (hand.driver.peer_address(client), &there),
    ] {
        assert_eq!(&address.expect("named"), expected);
    }
    // Closing what was accepted does not free the listener's name.
    hand.close(server);
    let other = hand.open(Domain::Unix, Kind::Stream);
    hand.driver.connect(other, &there).expect("it still listens");
    hand.close_all([listener, client, other]);
    kernel.ledger().assert_balanced();
    let again = hand.open(Domain::Unix, Kind::Stream);
    hand.driver.bind(again, &there).expect("an abstract name goes with its socket");
}

#[test]
fn unix_sockets_can_be_bound_without_a_name() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let unnamed = Address::Unix(tepal_driver::UnixAddress::Unnamed);
    let names: Vec<_> = (0..2)
        .map(|_| {
            let socket = hand.open(Domain::Unix, Kind::Datagram);
            hand.driver.bind(socket, &unnamed).expect("it gets a name");
            hand.driver.local_address(socket).expect("bound")
        })
        .collect();
    assert_ne!(names[0], names[1]);
    assert_ne!(names[0], unnamed);
}

#[test]
fn what_is_not_simulated_says_so() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let unsupported = std::io::ErrorKind::Unsupported;
    let mut command = tepal_driver::Command::default();
    assert_eq!(hand.driver.spawn(&mut command).expect_err("no children").kind(), unsupported);
    assert_eq!(hand.driver.borrow(0).expect_err("no real descriptors").kind(), unsupported);
    let socket = hand.tcp();
    assert_eq!(hand.driver.raw_fd(socket), None);
    assert_eq!(name(&hand.driver.wait_child(socket).expect_err("no child")), "EBADF");
    assert_eq!(name(&hand.driver.kill_child(socket, 9).expect_err("no child")), "EBADF");
    let splice = hand.driver.splice(socket, socket, 1).expect_err("no pipe");
    assert_eq!(splice.kind(), unsupported);
    let send_file = hand.driver.send_file(socket, socket, 0, 1).expect_err("no file");
    assert_eq!(send_file.kind(), unsupported);
    assert_eq!(hand.driver.name(), "sim");
    drop(hand);
    assert_eq!(kernel.ledger().leaked_descriptors, 1);
    assert_eq!(kernel.ledger().to_string(), "1 leaked descriptors");
}
