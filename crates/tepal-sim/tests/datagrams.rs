//! Simulated datagrams: what gets lost, who gets what, and what `like_linux` cannot compare.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use common::{Hand, abstract_name, text, v4, v6};
use tepal_driver::{Address, Descriptor, Domain, Interest, Kind, Readiness, SocketOption};
use tepal_sim::{Config, Disturbance, Route};

fn bound(hand: &mut Hand, address: &Address, options: &[SocketOption]) -> Descriptor {
    let domain = match address {
        Address::Ip(ip) if ip.is_ipv6() => Domain::Inet6,
        _ => Domain::Inet,
    };
    let socket = hand.open(domain, Kind::Datagram);
    for option in options {
        hand.driver.set_option(socket, option).expect("it is set");
    }
    hand.driver.bind(socket, address).expect("it binds");
    socket
}

fn count(hand: &mut Hand, socket: Descriptor) -> usize {
    std::iter::from_fn(|| (hand.receive_from(socket, 100) != "EAGAIN").then_some(())).count()
}

/// Linux charges each datagram's overhead too, so a queue of small ones holds few bytes.
#[test]
fn a_full_queue_drops_and_the_sender_does_not_notice() {
    let (mut hand, kernel) = Hand::sim(Config { receive_buffer: 10_000, ..Config::default() });
    let server = bound(&mut hand, &v4(53), &[]);
    let client = hand.open(Domain::Inet, Kind::Datagram);
    for _ in 0..100 {
        assert_eq!(hand.send_to(client, [1; 500], Some(&v4(53))), "500");
    }
    let kept = count(&mut hand, server);
    assert!((8..20).contains(&kept), "{kept} of 100");
    assert_eq!(hand.send_to(client, vec![0; 60_000], Some(&v4(53))), "60000");
    assert_eq!(count(&mut hand, server), 1, "an empty queue takes any datagram");
    hand.close_all([server, client]);
    kernel.ledger().assert_balanced();
}

#[test]
fn datagrams_overtake_each_other_when_their_latencies_do() {
    let latency = Duration::from_millis(1)..=Duration::from_millis(100);
    let (mut hand, _kernel) = Hand::sim(Config { seed: 3, latency, ..Config::default() });
    let server = bound(&mut hand, &v4(53), &[]);
    let client = hand.open(Domain::Inet, Kind::Datagram);
    hand.driver.register(server, 1, Interest::READ).expect("registered");
    for number in 0..20 {
        hand.send_to(client, format!("{number}"), Some(&v4(53)));
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        assert_eq!(hand.wait_until(None).expect("more to come").len(), 1);
        let text = hand.receive_from(server, 9);
        let number = text.split(' ').next().and_then(|digits| digits.parse::<u32>().ok());
        seen.push(number.expect("a number"));
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    assert_ne!(seen, sorted);
}

#[test]
fn lost_and_doubled_datagrams_come_as_often_as_asked_for() {
    let disturbance =
        Disturbance { lost_datagrams: 30, doubled_datagrams: 50, ..Disturbance::default() };
    let (mut hand, _kernel) = Hand::sim(Config { disturbance, ..Config::default() });
    let server = bound(&mut hand, &v4(53), &[]);
    let client = hand.open(Domain::Inet, Kind::Datagram);
    let mut arrived = [0; 3];
    for _ in 0..1000 {
        hand.send_to(client, "x", Some(&v4(53)));
        arrived[count(&mut hand, server)] += 1;
    }
    // 30 % none, half of the rest one, half two.
    assert!((250..350).contains(&arrived[0]), "{arrived:?}");
    assert!((300..400).contains(&arrived[1]), "{arrived:?}");
    assert!((300..400).contains(&arrived[2]), "{arrived:?}");
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_before_others() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let (peer, stranger) = (bound(&mut hand, &v4(1), &[]), bound(&mut hand, &v4(2), &[]));
    let reuse = [SocketOption::ReuseAddress(true)];
    let connected = bound(&mut hand, &v4(53), &reuse);
    hand.driver.connect(connected, &v4(1)).expect("it connects");
    let open = bound(&mut hand, &v4(53), &reuse);
    hand.send_to(peer, "from the peer", Some(&v4(53)));
    hand.send_to(stranger, "from a stranger", Some(&v4(53)));
    assert_eq!(hand.receive_from(connected, 99), "from the peer from 127.0.0.1:1");
    assert_eq!(hand.receive_from(connected, 99), "EAGAIN");
    assert_eq!(hand.receive_from(open, 99), "from a stranger from 127.0.0.1:2");
}

#[test]
fn a_group_reaches_its_members_on_that_port() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let group = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
    let to = Address::Ip((group, 5353).into());
    let any = Address::Ip(([0, 0, 0, 0], 5353).into());
    let reuse = [SocketOption::ReuseAddress(true)];
    let sockets: Vec<_> = (0..3).map(|_| bound(&mut hand, &any, &reuse)).collect();
    let join = SocketOption::JoinGroup { group, interface: 0 };
    for socket in &sockets[..2] {
        hand.driver.set_option(*socket, &join).expect("it joins");
    }
    assert_eq!(text(hand.driver.set_option(sockets[0], &join).map(|()| "set")), "EADDRINUSE");
    assert_eq!(hand.send_to(sockets[0], "all", Some(&to)), "3");
    let seen: Vec<_> = sockets.iter().map(|socket| count(&mut hand, *socket)).collect();
    assert_eq!(seen, [1, 1, 0]);
    hand.driver.set_option(sockets[0], &SocketOption::MulticastLoop(false)).expect("set");
    hand.send_to(sockets[0], "nobody here", Some(&to));
    assert_eq!(count(&mut hand, sockets[1]), 0);
    let leave = SocketOption::LeaveGroup { group, interface: 0 };
    hand.driver.set_option(sockets[1], &leave).expect("it leaves");
    assert_eq!(text(hand.driver.set_option(sockets[1], &leave).map(|()| "set")), "EADDRNOTAVAIL");
    hand.send_to(sockets[2], "one is left", Some(&to));
    let seen: Vec<_> = sockets.iter().map(|socket| count(&mut hand, *socket)).collect();
    assert_eq!(seen, [1, 0, 0]);
    hand.close_all(sockets);
    kernel.ledger().assert_balanced();
}

#[test]
fn ipv6_sockets_see_ipv4_senders_mapped() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let any = Address::Ip((Ipv6Addr::UNSPECIFIED, 53).into());
    let server = bound(&mut hand, &any, &[]);
    let (four, six) = (bound(&mut hand, &v4(1), &[]), bound(&mut hand, &v6(1), &[]));
    hand.send_to(four, "4", Some(&v4(53)));
    hand.send_to(six, "6", Some(&v6(53)));
    assert_eq!(hand.receive_from(server, 9), "4 from [::ffff:127.0.0.1]:1");
    assert_eq!(hand.receive_from(server, 9), "6 from [::1]:1");
    let back = Address::Ip((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 1).into());
    assert_eq!(hand.send_to(server, "back", Some(&back)), "4");
    assert_eq!(hand.receive_from(four, 9), "back from 127.0.0.1:53");
}

#[test]
fn datagrams_into_a_hole_vanish_and_to_nowhere_fail() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let far = Address::Ip(([203, 0, 113, 7], 53).into());
    let client = hand.open(Domain::Inet, Kind::Datagram);
    assert_eq!(hand.send_to(client, "x", Some(&far)), "ENETUNREACH");
    kernel.set_route([203, 0, 113, 7].into(), Route::Blackhole);
    assert_eq!(hand.send_to(client, "x", Some(&far)), "1");
    assert_eq!(hand.receive_from(client, 1), "EAGAIN");
    assert_eq!(kernel.ledger().arrivals, 0);
}

#[test]
fn a_blocked_unix_sender_is_told_when_there_is_room() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let address = abstract_name("full");
    let receiver = hand.open(Domain::Unix, Kind::Datagram);
    hand.driver.bind(receiver, &address).expect("it binds");
    // One that is connected and one that names the peer each time.
    let (one, two) =
        (hand.open(Domain::Unix, Kind::Datagram), hand.open(Domain::Unix, Kind::Datagram));
    hand.driver.connect(one, &address).expect("it connects");
    hand.driver.register(one, 1, Interest::READ).expect("registered");
    hand.driver.register(two, 2, Interest::READ).expect("registered");
    while hand.send_to(one, "x", None) == "1" {}
    assert_eq!(hand.send_to(two, "x", Some(&address)), "EAGAIN");
    assert!(hand.wait(Duration::from_secs(1)).iter().all(|event| event.token == 2));
    hand.receive_from(receiver, 9);
    let mut events = hand.wait_until(None).expect("room");
    events.sort_unstable_by_key(|event| event.token);
    assert!(events.iter().all(|event| event.readiness == Readiness::WRITABLE));
    assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [1, 2]);
    hand.close_all([receiver, one, two]);
    kernel.ledger().assert_balanced();
}

#[test]
fn a_connected_unix_socket_hears_its_peer_only() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let names = [abstract_name("a"), abstract_name("b"), abstract_name("c")];
    let sockets = names.clone().map(|name| {
        let socket = hand.open(Domain::Unix, Kind::Datagram);
        hand.driver.bind(socket, &name).expect("it binds");
        socket
    });
    hand.driver.connect(sockets[0], &names[1]).expect("it connects");
    assert_eq!(hand.send_to(sockets[1], "hello", Some(&names[0])), "5");
    assert_eq!(hand.send_to(sockets[2], "hello", Some(&names[0])), "EPERM");
    assert_eq!(hand.receive_from(sockets[0], 9), format!("hello from {}", names[1]));
}
