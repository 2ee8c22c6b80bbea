//! Addresses, names and options.

use std::net::Ipv4Addr;
use std::time::Duration;

use tepal_driver::{Address, Domain, Interest, Kind, SocketOption};

use crate::common::{name, text, v6};
use crate::{Log, host, same};

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
