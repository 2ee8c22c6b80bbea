//! The same scenario on the simulated kernel and on the real one, whose answers must be equal,
//! line by line: results, errors, readiness. This is what keeps the simulation honest.
//!
//! Where the order of a real kernel's work could matter the scenario waits first; ports, which the
//! kernel chooses, are not compared.
#![cfg(target_os = "linux")]

mod common;

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{Hand, abstract_name, name, text, v6};
use tepal_driver::{Address, Connect, Descriptor, Domain, Half, Interest, Kind, SocketOption};
use tepal_sim::Config;

/// What a scenario saw.
type Log = Vec<String>;

#[track_caller]
fn same(scenario: impl Fn(&mut Hand) -> Log) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut hand, kernel) = Hand::sim(Config::default());
    hand.host = host();
    let simulated = scenario(&mut hand);
    let real = tepal_driver::open_driver(Some("epoll")).expect("epoll is there");
    let real = scenario(&mut Hand { driver: real, host: host() });
    assert_eq!(simulated, real, "left: simulated, right: real");
    assert!(!simulated.is_empty());
    drop(hand);
    assert_eq!(kernel.ledger().arrivals, 0, "{}", kernel.ledger());
}

/// A loopback address that no other process listens on: a port that was free stays free. Within
/// this process the scenarios take turns for the same reason.
fn host() -> Ipv4Addr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (b & 63), c, d)
}

/// Readiness, then reads and writes until the answers repeat.
fn use_up(hand: &mut Hand, stream: Descriptor) -> Log {
    let mut log = vec![format!("{:?}", hand.ready(stream))];
    for _ in 0..3 {
        log.push(hand.receive(stream, 10));
    }
    for _ in 0..2 {
        log.push(hand.send(stream, "x"));
    }
    log.push(format!("{:?}", hand.ready(stream)));
    log.push(text(hand.driver.peer_address(stream).map(|_| "has a peer")));
    log
}

#[test]
fn a_reset_lets_arrived_bytes_be_read_and_then_tells_itself_once() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.send(client, "abc");
        hand.reset(client);
        use_up(hand, server)
    });
}

#[test]
fn a_reset_is_told_to_the_writer_if_he_comes_first() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.reset(client);
        let mut log = vec![hand.send(server, "x"), hand.send(server, "x")];
        log.extend(use_up(hand, server));
        log
    });
}

#[test]
fn a_reset_is_told_to_whoever_asks_for_the_error_first() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.reset(client);
        let mut log = vec![hand.take_error(server), hand.take_error(server)];
        log.extend(use_up(hand, server));
        log
    });
}

#[test]
fn closing_with_unread_bytes_resets() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.send(server, "unread");
        hand.close(client);
        use_up(hand, server)
    });
}

#[test]
fn a_write_to_a_closed_peer_succeeds_once_and_then_breaks() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.send(client, "last words");
        hand.close(client);
        let mut log = vec![format!("{:?}", hand.ready(server))];
        log.push(hand.send(server, "x"));
        log.push(format!("{:?}", hand.ready(server)));
        log.extend(use_up(hand, server));
        log
    });
}

#[test]
fn the_error_of_a_broken_connection_after_its_fin_is_epipe() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.close(client);
        vec![hand.send(server, "x"), hand.take_error(server), hand.receive(server, 1)]
    });
}

#[test]
fn a_half_closed_connection_carries_bytes_the_other_way() {
    same(|hand| {
        let (client, server) = hand.pair();
        let mut log = vec![hand.send(client, "question"), hand.shutdown(client, Half::Write)];
        log.push(format!("{:?} {:?}", hand.ready(client), hand.ready(server)));
        log.extend([hand.receive(server, 20), hand.receive(server, 20)]);
        log.extend([hand.send(server, "answer"), hand.shutdown(server, Half::Write)]);
        log.push(hand.send(client, "no more"));
        log.push(format!("{:?} {:?}", hand.ready(client), hand.ready(server)));
        log.extend([hand.receive(client, 20), hand.receive(client, 20)]);
        log.extend([hand.send(server, "x"), hand.shutdown(server, Half::Both)]);
        log.push(text(hand.driver.peer_address(client).map(|_| "has a peer")));
        log
    });
}

#[test]
fn a_stream_shut_for_reading_still_gives_what_arrives() {
    same(|hand| {
        let (client, server) = hand.pair();
        let mut log = vec![hand.shutdown(server, Half::Read)];
        log.push(format!("{:?} {:?}", hand.ready(server), hand.ready(client)));
        log.extend([hand.receive(server, 5), hand.send(client, "late"), hand.receive(server, 5)]);
        log.push(hand.receive(server, 5));
        log
    });
}

#[test]
fn a_socket_that_was_never_connected_refuses_each_call_in_its_own_way() {
    same(|hand| {
        let mut log = Log::new();
        for domain in [Domain::Inet, Domain::Inet6, Domain::Unix] {
            let socket = hand.open(domain, Kind::Stream);
            log.push(format!("{domain:?} {:?}", hand.ready(socket)));
            log.extend([hand.receive(socket, 1), hand.send(socket, "x")]);
            log.push(hand.shutdown(socket, Half::Write));
            log.push(text(hand.driver.accept(socket).map(|_| "accepted")));
            log.push(text(hand.driver.local_address(socket)));
            log.push(text(hand.driver.peer_address(socket)));
            log.push(hand.take_error(socket));
        }
        log
    });
}

#[test]
fn a_refused_connect_is_told_once_and_one_more_connect_aborted() {
    same(|hand| {
        // A port that was free a moment ago.
        let (listener, address) = hand.listen(1);
        hand.close(listener);
        let client = hand.connecting(&address);
        hand.wait_ready(client, Interest::WRITE);
        let mut log = vec![format!("{:?}", hand.ready(client)), hand.take_error(client)];
        log.extend([hand.take_error(client), hand.receive(client, 1), hand.send(client, "x")]);
        log.push(text(hand.driver.connect(client, &address).map(|_| "goes on")));
        log.push(format!("{:?}", hand.driver.connect(client, &address).is_ok()));
        hand.wait_ready(client, Interest::WRITE);
        log.push(text(hand.driver.connect(client, &address).map(|_| "goes on")));
        log
    });
}

#[test]
fn a_refused_connect_is_told_to_the_writer() {
    same(|hand| {
        let (listener, address) = hand.listen(1);
        hand.close(listener);
        let client = hand.connecting(&address);
        hand.wait_ready(client, Interest::WRITE);
        vec![hand.send(client, "x"), hand.send(client, "x"), hand.take_error(client)]
    });
}

#[test]
fn a_second_connect_is_refused() {
    same(|hand| {
        let (listener, address) = hand.listen(1);
        let client = hand.connecting(&address);
        hand.wait_ready(client, Interest::WRITE);
        let mut log = vec![text(hand.driver.connect(client, &address).map(|_| "again"))];
        log.push(text(hand.driver.connect(client, &address).map(|_| "again")));
        log.push(text(hand.driver.connect(listener, &address).map(|_| "listener")));
        log.push(text(hand.driver.listen(client, 1).map(|()| "listens")));
        log.extend([hand.receive(listener, 1), hand.send(listener, "x")]);
        log.push(hand.shutdown(client, Half::Both));
        log
    });
}

#[test]
fn a_full_backlog_leaves_further_clients_waiting() {
    same(|hand| {
        let (listener, address) = hand.listen(0);
        let clients: Vec<_> = (0..3).map(|_| hand.connecting(&address)).collect();
        hand.wait_ready(clients[0], Interest::WRITE);
        let mut log: Vec<_> =
            clients.iter().map(|client| format!("{:?}", hand.ready(*client))).collect();
        log.push(text(hand.driver.connect(clients[2], &address).map(|_| "again")));
        log.extend([hand.send(clients[2], "x"), hand.receive(clients[2], 1)]);
        hand.close(listener);
        log.extend(clients.iter().map(|client| format!("{:?}", hand.ready(*client))));
        log.push(hand.receive(clients[0], 1));
        hand.close_all(clients);
        log
    });
}

#[test]
fn taken_and_foreign_addresses_are_refused() {
    same(|hand| {
        let (listener, address) = hand.listen(1);
        let port = address.as_ip().expect("an IP address").port();
        let mut log = Log::new();
        let any = Address::Ip(([0, 0, 0, 0], port).into());
        let other = Address::Ip((Ipv4Addr::from_bits(host().to_bits() ^ 1), port).into());
        let foreign = Address::Ip(([192, 0, 2, 1], 0).into());
        for (address, reuse) in
            [(&address, false), (&address, true), (&any, false), (&other, false), (&foreign, false)]
        {
            let socket = hand.tcp();
            hand.driver.set_option(socket, &SocketOption::ReuseAddress(reuse)).expect("set");
            log.push(text(hand.driver.bind(socket, address).map(|()| "bound")));
            log.push(text(hand.driver.bind(socket, address).map(|()| "bound")));
        }
        let socket = hand.open(Domain::Inet6, Kind::Stream);
        log.push(text(hand.driver.bind(socket, &address).map(|()| "bound")));
        log.push(text(hand.driver.connect(socket, &address).map(|_| "goes on")));
        let socket = hand.tcp();
        log.push(text(hand.driver.bind(socket, &v6(0)).map(|()| "bound")));
        log.push(text(hand.driver.connect(socket, &v6(1)).map(|_| "goes on")));
        hand.close(listener);
        log
    });
}

#[test]
fn sharing_a_port_takes_the_option_on_both_sides() {
    same(|hand| {
        let mut log = Log::new();
        type Make = fn(bool) -> SocketOption;
        for make in [SocketOption::ReuseAddress as Make, SocketOption::ReusePort as Make] {
            for (first, second) in [(true, true), (true, false), (false, true)] {
                let (a, b) = (hand.tcp(), hand.tcp());
                hand.driver.set_option(a, &make(first)).expect("set");
                hand.driver.set_option(b, &make(second)).expect("set");
                hand.driver.bind(a, &hand.v4(0)).expect("a free port");
                let address = hand.driver.local_address(a).expect("bound");
                log.push(text(hand.driver.bind(b, &address).map(|()| "bound")));
                log.push(text(hand.driver.listen(a, 1).map(|()| "listens")));
                log.push(text(hand.driver.listen(b, 1).map(|()| "listens")));
                hand.close_all([a, b]);
            }
        }
        log
    });
}

#[test]
fn an_ipv6_listener_takes_ipv4_unless_told_otherwise() {
    same(|hand| {
        let mut log = Log::new();
        for only_v6 in [false, true] {
            let listener = hand.open(Domain::Inet6, Kind::Stream);
            hand.driver.set_option(listener, &SocketOption::OnlyV6(only_v6)).expect("set");
            let any = Address::Ip((std::net::Ipv6Addr::UNSPECIFIED, 0).into());
            hand.driver.bind(listener, &any).expect("it binds");
            hand.driver.listen(listener, 4).expect("it listens");
            let local = hand.driver.local_address(listener).expect("bound");
            let port = local.as_ip().expect("an IP address").port();
            let client = hand.connecting(&hand.v4(port));
            hand.wait_ready(client, Interest::WRITE);
            log.push(hand.take_error(client));
            match hand.driver.accept(listener) {
                Ok((server, peer)) => {
                    log.push(peer.as_ip().expect("an IP address").ip().to_string());
                    let local = hand.driver.local_address(server).expect("connected");
                    log.push(local.as_ip().expect("an IP address").ip().to_string());
                }
                Err(error) => log.push(name(&error)),
            }
            let twin = hand.tcp();
            log.push(text(hand.driver.bind(twin, &hand.v4(port)).map(|()| "bound")));
        }
        log
    });
}

#[test]
fn a_unix_peer_that_closes_with_unread_bytes_resets() {
    same(|hand| {
        let (client, server) = hand.unix_pair();
        hand.send(client, "abc");
        hand.send(server, "unread");
        hand.close(client);
        use_up(hand, server)
    });
}

#[test]
fn a_unix_peer_that_closes_cleanly_ends_both_directions() {
    same(|hand| {
        let (client, server) = hand.unix_pair();
        hand.send(client, "abc");
        hand.close(client);
        use_up(hand, server)
    });
}

#[test]
fn each_half_of_a_unix_stream_can_be_shut() {
    same(|hand| {
        let mut log = Log::new();
        for half in [Half::Read, Half::Write, Half::Both] {
            let (client, server) = hand.unix_pair();
            log.push(hand.shutdown(client, half));
            log.push(format!("{:?} {:?}", hand.ready(client), hand.ready(server)));
            log.extend([hand.send(server, "x"), hand.send(client, "x")]);
            log.extend([hand.receive(server, 1), hand.receive(client, 1)]);
        }
        log
    });
}

#[test]
fn a_unix_listener_fills_up_and_resets_whom_it_leaves() {
    same(|hand| {
        let listener = hand.open(Domain::Unix, Kind::Stream);
        let address = abstract_name("backlog");
        let mut log = vec![text(hand.driver.listen(listener, 0).map(|()| "unbound"))];
        hand.driver.bind(listener, &address).expect("it binds");
        hand.driver.listen(listener, 0).expect("it listens");
        let clients: Vec<_> = (0..3).map(|_| hand.open(Domain::Unix, Kind::Stream)).collect();
        for client in &clients {
            let connected = hand.driver.connect(*client, &address);
            log.push(text(connected.map(|how| format!("{:?}", how == Connect::Connected))));
        }
        hand.close(listener);
        log.extend(use_up(hand, clients[0]));
        log.push(text(hand.driver.connect(clients[1], &address).map(|_| "connected")));
        log
    });
}

#[test]
fn a_unix_path_outlives_its_socket() {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("tepal-sim-{}.sock", std::process::id()));
    let address = Address::unix(&path);
    same(|hand| {
        let (a, b) = (hand.open(Domain::Unix, Kind::Stream), hand.open(Domain::Unix, Kind::Stream));
        let mut log = vec![text(hand.driver.connect(b, &address).map(|_| "connected"))];
        log.push(text(hand.driver.bind(a, &address).map(|()| "bound")));
        log.push(text(hand.driver.connect(b, &address).map(|_| "connected")));
        hand.driver.listen(a, 1).expect("it listens");
        let datagrams = hand.open(Domain::Unix, Kind::Datagram);
        log.push(text(hand.driver.connect(datagrams, &address).map(|_| "connected")));
        hand.close(a);
        log.push(text(hand.driver.connect(b, &address).map(|_| "connected")));
        log.push(text(hand.driver.bind(b, &address).map(|()| "bound")));
        log.push(text(hand.driver.remove_file(&path).map(|()| "removed")));
        log.push(text(hand.driver.remove_file(&path).map(|()| "removed")));
        log.push(text(hand.driver.bind(b, &address).map(|()| "bound")));
        log.push(text(hand.driver.remove_file(&path).map(|()| "removed")));
        log
    });
}

#[test]
fn a_pipe_fills_to_its_size_and_each_end_hears_of_the_other() {
    same(|hand| {
        let (reader, writer) = hand.driver.pipe().expect("a pipe");
        let mut log = vec![format!("{:?} {:?}", hand.ready(reader), hand.ready(writer))];
        log.push(hand.send(writer, vec![b'x'; 100_000]));
        log.extend([hand.send(writer, "x"), hand.receive(reader, 3), hand.send(writer, "x")]);
        log.push(format!("{:?} {:?}", hand.ready(reader), hand.ready(writer)));
        log.extend([hand.receive(writer, 1), hand.send(reader, "x")]);
        hand.close(reader);
        log.extend([format!("{:?}", hand.ready(writer)), hand.send(writer, "x")]);
        let (reader, writer) = hand.driver.pipe().expect("a pipe");
        hand.send(writer, "abc");
        hand.close(writer);
        log.push(format!("{:?}", hand.ready(reader)));
        log.extend([hand.receive(reader, 9), hand.receive(reader, 9)]);
        log.push(format!("{:?}", hand.ready(reader)));
        log
    });
}

#[test]
fn udp_answers_like_the_kernel() {
    same(|hand| {
        let socket = hand.open(Domain::Inet, Kind::Datagram);
        let mut log = vec![format!("{:?}", hand.ready(socket))];
        log.extend([hand.send_to(socket, "x", None), hand.receive_from(socket, 1)]);
        log.push(hand.send_to(socket, vec![0; 65_508], Some(&hand.v4(9))));
        let broadcast = Address::Ip(([255, 255, 255, 255], 9).into());
        log.push(hand.send_to(socket, "x", Some(&broadcast)));
        log.push(hand.shutdown(socket, Half::Both));

        let server = hand.open(Domain::Inet, Kind::Datagram);
        hand.driver.bind(server, &hand.v4(0)).expect("it binds");
        let address = hand.driver.local_address(server).expect("bound");
        let client = hand.open(Domain::Inet, Kind::Datagram);
        hand.driver.connect(client, &address).expect("it connects");
        let own = hand.driver.local_address(client).expect("bound").to_string();
        for text in ["", "hello", "longer than that"] {
            log.push(hand.send_to(client, text, None));
        }
        for _ in 0..4 {
            log.push(hand.receive_from(server, 6).replace(&own, "the client"));
        }
        log.push(hand.send(client, "by send"));
        log.push(hand.receive(server, 20));
        log.push(hand.send_to(socket, "stranger", Some(&address)));
        let stranger = hand.driver.local_address(client).expect("bound");
        log.push(hand.send_to(socket, "stranger", Some(&stranger)));
        log.push(hand.receive_from(client, 20));
        hand.close(server);
        log.extend([hand.send_to(client, "x", None), format!("{:?}", hand.ready(client))]);
        log.extend([hand.receive_from(client, 1), hand.receive_from(client, 1)]);
        log.extend([hand.send_to(client, "x", None), hand.send_to(client, "x", None)]);
        log.extend([hand.send_to(client, "x", None), hand.take_error(client)]);
        log
    });
}

#[test]
fn unix_datagrams_make_the_sender_wait() {
    same(|hand| {
        let receiver = hand.open(Domain::Unix, Kind::Datagram);
        let address = abstract_name("datagrams");
        hand.driver.bind(receiver, &address).expect("it binds");
        let sender = hand.open(Domain::Unix, Kind::Datagram);
        let mut log = vec![hand.send_to(sender, "x", None)];
        for _ in 0..12 {
            log.push(hand.send_to(sender, "x", Some(&address)));
        }
        log.push(hand.send_to(sender, vec![0; 300_000], Some(&address)));
        log.push(text(hand.driver.connect(sender, &address).map(|_| "connected")));
        log.push(format!("{:?}", hand.ready(sender)));
        for _ in 0..12 {
            log.push(hand.receive_from(receiver, 5));
        }
        log.push(format!("{:?}", hand.ready(sender)));
        hand.close(receiver);
        log.extend([hand.send_to(sender, "x", None), hand.send_to(sender, "x", None)]);
        log.push(hand.send_to(sender, "x", Some(&abstract_name("nobody"))));
        log
    });
}

#[test]
fn tokens_die_with_their_descriptor() {
    same(|hand| {
        let socket = hand.tcp();
        hand.close(socket);
        let fresh = hand.tcp();
        let mut log = vec![format!("{}", fresh == socket)];
        log.push(text(hand.driver.close(socket).map(|()| "closed")));
        log.push(text(hand.driver.bind(socket, &hand.v4(0)).map(|()| "bound")));
        log.push(text(hand.driver.register(socket, 1, Interest::READ).map(|()| "registered")));
        log.push(text(hand.driver.watch(socket, 1, Interest::READ).map(|()| "watched")));
        log.extend([hand.receive(socket, 1), hand.send(socket, "x"), hand.take_error(socket)]);
        log.push(text(hand.driver.register(fresh, 1, Interest::READ).map(|()| "registered")));
        log.push(text(hand.driver.register(fresh, 1, Interest::READ).map(|()| "registered")));
        log
    });
}

#[test]
fn options_are_refused_where_they_mean_nothing() {
    same(|hand| {
        let mut log = Log::new();
        let kinds = [Kind::Stream, Kind::Datagram];
        for domain in [Domain::Inet, Domain::Inet6, Domain::Unix] {
            for kind in kinds {
                let socket = hand.open(domain, kind);
                for option in [
                    SocketOption::NoDelay(true),
                    SocketOption::KeepAlive(true),
                    SocketOption::ReuseAddress(true),
                    SocketOption::OnlyV6(true),
                    SocketOption::Linger(Some(Duration::from_secs(1))),
                    SocketOption::ReceiveBuffer(5000),
                    SocketOption::JoinGroup { group: [10, 0, 0, 1].into(), interface: 0 },
                ] {
                    let set = hand.driver.set_option(socket, &option).map(|()| "set");
                    log.push(format!("{domain:?} {kind:?} {option:?}: {}", text(set)));
                }
            }
        }
        log
    });
}

#[test]
fn edges_come_once_until_something_new_arrives() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.driver.register(server, 7, Interest::READ).expect("registered");
        let look = |hand: &mut Hand| {
            let events = hand.wait_until(Some(tepal_base::Instant::ZERO)).expect("a look");
            events.iter().map(|event| format!("{} {:?}", event.token, event.readiness)).collect()
        };
        let mut log: Vec<String> = look(hand);
        hand.send(client, "abc");
        log.extend::<Log>(look(hand));
        log.push("untouched".to_owned());
        log.extend::<Log>(look(hand));
        log.push(hand.receive(server, 2));
        log.extend::<Log>(look(hand));
        hand.send(client, "def");
        log.extend::<Log>(look(hand));
        log.extend([hand.receive(server, 10), hand.receive(server, 10)]);
        hand.close(client);
        log.extend::<Log>(look(hand));
        log
    });
}

#[test]
fn a_watched_descriptor_is_reported_as_long_as_it_is_ready() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.driver.watch(server, 7, Interest::READ).expect("watched");
        let look = |hand: &mut Hand| {
            let events = hand.wait_until(Some(tepal_base::Instant::ZERO)).expect("a look");
            events.iter().map(|event| format!("{} {:?}", event.token, event.readiness)).collect()
        };
        let mut log: Vec<String> = look(hand);
        hand.send(client, "abc");
        for _ in 0..2 {
            log.extend::<Log>(look(hand));
        }
        hand.driver.watch(server, 8, Interest::BOTH).expect("changed");
        log.extend::<Log>(look(hand));
        log.push(hand.receive(server, 10));
        log.extend::<Log>(look(hand));
        hand.driver.watch(server, 8, Interest::NONE).expect("stopped");
        hand.close(client);
        log.push("stopped".to_owned());
        log.extend::<Log>(look(hand));
        hand.driver.watch(server, 9, Interest::READ).expect("again");
        log.extend::<Log>(look(hand));
        log
    });
}
