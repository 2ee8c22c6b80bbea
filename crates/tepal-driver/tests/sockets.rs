//! Sockets: addresses, options, datagrams, Unix sockets.

mod common;

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use common::*;
use tepal_base::Buffer;
use tepal_driver::{
    Address, Connect, Descriptor, Domain, Driver, Half, Interest, Kind, Readiness, Sent,
    SocketOption, UnixAddress,
};

on_every_engine! {
    fn both_ends_know_both_addresses(driver) {
        let (client, server) = tcp_pair(driver);
        let here = driver.local_address(client).expect("is bound");
        assert_eq!(driver.peer_address(server).expect("is connected"), here);
        assert_eq!(driver.peer_address(client).expect("is connected"),
            driver.local_address(server).expect("is bound"));
        assert!(here.as_ip().expect("is IP").ip().is_loopback());
        let lonely = driver.open(Domain::Inet, Kind::Stream).expect("opens");
        assert_eq!(errno(driver.peer_address(lonely)), Some(libc::ENOTCONN));
    }

    fn what_is_opened_is_nonblocking_and_closed_on_exec(driver) {
        let (client, server) = tcp_pair(driver);
        let (from, to) = driver.pipe().expect("opens");
        for descriptor in [client, server, from, to] {
            let fd = driver.raw_fd(descriptor).expect("has a number");
            // SAFETY: asking for flags changes nothing.
            let (status, flags) =
                unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::fcntl(fd, libc::F_GETFD)) };
            assert!(status & libc::O_NONBLOCK != 0 && flags & libc::FD_CLOEXEC != 0);
        }
    }

    fn a_half_closed_stream_still_carries_the_other_direction(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(client, 1, Interest::READ).expect("registers");
        driver.register(server, 2, Interest::READ).expect("registers");
        send(driver, client, b"question");
        driver.shutdown(client, Half::Write).expect("shuts down");
        assert_eq!(read_to_end(driver, server, 2), b"question");
        send(driver, server, b"answer");
        driver.close(server).expect("closes");
        assert_eq!(read_to_end(driver, client, 1), b"answer");
        let error = driver.send(client, &[IoSlice::new(b"x")]).expect_err("was shut down");
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    }

    fn an_end_that_was_read_is_not_told_again(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        driver.shutdown(client, Half::Write).expect("shuts down");
        assert_eq!(read_to_end(driver, server, 1), b"");
        for _ in 0..3 {
            assert!(look(driver).is_empty(), "an idle loop would spin");
        }
    }

    fn datagrams_keep_their_borders_and_may_be_empty(driver) {
        let receiver = datagram_socket(driver, 1);
        let to = driver.local_address(receiver).expect("is bound");
        let sender = datagram_socket(driver, 2);
        let from = driver.local_address(sender).expect("is bound");
        for bytes in [&b"one"[..], b"", b"three", b"longer than the target"] {
            assert_eq!(driver.send_to(sender, bytes, Some(&to)).expect("sends"), bytes.len());
        }
        wait_for(driver, 1, Readiness::READABLE);
        for expected in [&b"one"[..], b"", b"three", b"longer t"] {
            let received = driver.receive_from(receiver, Buffer::zeroed(8));
            let (count, sender) = received.result.expect("receives");
            assert_eq!((&received.buffer[..count], sender), (expected, Some(from.clone())));
        }
        let end = driver.receive_from(receiver, Buffer::zeroed(8)).result.expect_err("is empty");
        assert_eq!(end.kind(), std::io::ErrorKind::WouldBlock);
        driver.send_to(sender, b"later", Some(&to)).expect("sends");
        wait_for(driver, 1, Readiness::READABLE);
    }

    fn a_connected_datagram_socket_hears_that_nobody_listens(driver) {
        let gone = datagram_socket(driver, 1);
        let address = driver.local_address(gone).expect("is bound");
        driver.close(gone).expect("closes");
        let socket = driver.open(Domain::Inet, Kind::Datagram).expect("opens");
        assert_eq!(driver.connect(socket, &address).expect("connects"), Connect::Connected);
        driver.register(socket, 2, Interest::READ).expect("registers");
        driver.send_to(socket, b"hello?", None).expect("sends");
        wait_for(driver, 2, Readiness::ERROR);
        let error = driver.receive_from(socket, Buffer::zeroed(8)).result.expect_err("refused");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    fn a_unix_stream_goes_by_a_path(driver) {
        let directory = Directory::new("stream", driver.name());
        let address = Address::unix(directory.0.join("socket"));
        let listener = driver.open(Domain::Unix, Kind::Stream).expect("opens");
        driver.bind(listener, &address).expect("binds");
        driver.listen(listener, 8).expect("listens");
        driver.register(listener, 9, Interest::READ).expect("registers");
        let client = driver.open(Domain::Unix, Kind::Stream).expect("opens");
        assert_eq!(driver.connect(client, &address).expect("connects"), Connect::Connected);
        let server = accept(driver, listener, 9);
        assert_eq!(driver.peer_address(client).expect("is connected"), address);
        let unnamed = Address::Unix(UnixAddress::Unnamed);
        assert_eq!(driver.peer_address(server).expect("is connected"), unnamed);
        driver.register(server, 1, Interest::READ).expect("registers");
        send(driver, client, b"hello");
        driver.close(client).expect("closes");
        assert_eq!(read_to_end(driver, server, 1), b"hello");
        driver.remove_file(&directory.0.join("socket")).expect("removes");
        let again = driver.open(Domain::Unix, Kind::Stream).expect("opens");
        assert_eq!(errno(driver.connect(again, &address)), Some(libc::ENOENT));
    }

    fn a_full_queue_of_a_unix_listener_is_a_failed_connect(driver) {
        let directory = Directory::new("queue", driver.name());
        let address = Address::unix(directory.0.join("socket"));
        let listener = driver.open(Domain::Unix, Kind::Stream).expect("opens");
        driver.bind(listener, &address).expect("binds");
        driver.listen(listener, 0).expect("listens");
        let outcome = (0..100).find_map(|_| {
            let client = driver.open(Domain::Unix, Kind::Stream).expect("opens");
            driver.connect(client, &address).err()
        });
        assert_eq!(outcome.expect("is full").kind(), std::io::ErrorKind::WouldBlock);
    }

    fn unix_datagrams_go_by_a_path(driver) {
        let directory = Directory::new("datagram", driver.name());
        let mut ends = Vec::new();
        for name in ["a", "b"] {
            let socket = driver.open(Domain::Unix, Kind::Datagram).expect("opens");
            let address = Address::unix(directory.0.join(name));
            driver.bind(socket, &address).expect("binds");
            ends.push((socket, address));
        }
        let [(a, from), (b, to)] = &ends[..] else { unreachable!() };
        driver.register(*b, 1, Interest::READ).expect("registers");
        driver.send_to(*a, b"hi", Some(to)).expect("sends");
        wait_for(driver, 1, Readiness::READABLE);
        let received = driver.receive_from(*b, Buffer::zeroed(8));
        assert_eq!(received.result.expect("receives"), (2, Some(from.clone())));
        assert!(driver.receive_from(*b, Buffer::zeroed(8)).result.is_err(), "pulled to the end");
        // An unnamed sender has no address to tell.
        let unnamed = driver.open(Domain::Unix, Kind::Datagram).expect("opens");
        driver.send_to(unnamed, b"x", Some(to)).expect("sends");
        wait_for(driver, 1, Readiness::READABLE);
        let received = driver.receive_from(*b, Buffer::zeroed(8));
        assert_eq!(received.result.expect("receives"), (1, None));
    }

    fn a_blocked_datagram_is_followed_by_an_event(driver) {
        let directory = Directory::new("blocked", driver.name());
        let address = Address::unix(directory.0.join("full"));
        let receiver = driver.open(Domain::Unix, Kind::Datagram).expect("opens");
        driver.bind(receiver, &address).expect("binds");
        let sender = driver.open(Domain::Unix, Kind::Datagram).expect("opens");
        driver.register(sender, 1, Interest::READ).expect("registers");
        let error = loop {
            if let Err(error) = driver.send_to(sender, b"x", Some(&address)) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        driver.receive_from(receiver, Buffer::zeroed(8)).result.expect("receives");
        wait_for(driver, 1, Readiness::WRITABLE);
        driver.send_to(sender, b"x", Some(&address)).expect("has room again");
    }

    fn a_link_local_address_without_a_scope_is_refused(driver) {
        let socket = driver.open(Domain::Inet6, Kind::Stream).expect("opens");
        let local = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        if let Err(error) = driver.bind(socket, &local.into()) {
            println!("not tested, this machine has no IPv6: {error}");
            return;
        }
        let bound = driver.local_address(socket).expect("is bound").as_ip().expect("is IP");
        assert_eq!(bound.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let unscoped = driver.open(Domain::Inet6, Kind::Stream).expect("opens");
        let address = SocketAddrV6::new(link_local, 9, 0, 0);
        assert_eq!(errno(driver.connect(unscoped, &SocketAddr::from(address).into())),
            Some(libc::EINVAL));
    }

    fn a_multicast_group_is_joined_and_left(driver) {
        let receiver = datagram_socket(driver, 1);
        let port = driver.local_address(receiver).expect("is bound").as_ip().expect("IP").port();
        driver.close(receiver).expect("closes");
        let receiver = driver.open(Domain::Inet, Kind::Datagram).expect("opens");
        driver.bind(receiver, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())
            .expect("binds");
        driver.register(receiver, 1, Interest::READ).expect("registers");
        let group = IpAddr::from(Ipv4Addr::new(239, 255, 7, 7));
        let loopback_index = 1;
        let join = SocketOption::JoinGroup { group, interface: loopback_index };
        driver.set_option(receiver, &join).expect("joins");
        assert_eq!(errno(driver.set_option(receiver, &join)), Some(libc::EADDRINUSE));
        let sender = driver.open(Domain::Inet, Kind::Datagram).expect("opens");
        driver.bind(sender, &loopback()).expect("binds");
        driver.set_option(sender, &SocketOption::MulticastLoop(true)).expect("sets");
        driver.set_option(sender, &SocketOption::MulticastHops(0)).expect("sets");
        match driver.send_to(sender, b"all", Some(&SocketAddr::from((group, port)).into())) {
            Ok(count) => {
                assert_eq!(count, 3);
                wait_for(driver, 1, Readiness::READABLE);
                let received = driver.receive_from(receiver, Buffer::zeroed(8));
                assert_eq!(received.result.expect("receives").0, 3);
            }
            Err(error) => println!("delivery not tested, no multicast route: {error}"),
        }
        driver.set_option(receiver, &SocketOption::LeaveGroup { group, interface: loopback_index })
            .expect("leaves");
    }

    fn options_are_set_or_refused(driver) {
        let tcp = driver.open(Domain::Inet, Kind::Stream).expect("opens");
        let udp6 = driver.open(Domain::Inet6, Kind::Datagram).expect("opens");
        for option in [
            SocketOption::ReuseAddress(true), SocketOption::ReusePort(true),
            SocketOption::NoDelay(true), SocketOption::KeepAlive(true),
            SocketOption::Linger(Some(Duration::from_secs(1))), SocketOption::Linger(None),
            SocketOption::ReceiveBuffer(1 << 16), SocketOption::SendBuffer(1 << 16),
        ] {
            driver.set_option(tcp, &option).expect("sets");
        }
        for option in [
            SocketOption::OnlyV6(true), SocketOption::Broadcast(true),
            SocketOption::MulticastLoop(false), SocketOption::MulticastHops(3),
        ] {
            driver.set_option(udp6, &option).expect("sets");
        }
        assert!(driver.set_option(udp6, &SocketOption::NoDelay(true)).is_err());
        assert!(driver.set_option(tcp, &SocketOption::OnlyV6(true)).is_err());
        let nowhere = SocketOption::BindToDevice(c"nowhere0".into());
        assert!(driver.set_option(tcp, &nowhere).is_err());
        let group = IpAddr::from(Ipv4Addr::LOCALHOST);
        let wrong = SocketOption::JoinGroup { group, interface: 0 };
        assert!(driver.set_option(tcp, &wrong).is_err());
    }

    fn two_sockets_share_a_port_only_if_both_say_so(driver) {
        let mut first = None;
        for share in [true, true, false] {
            let socket = driver.open(Domain::Inet, Kind::Stream).expect("opens");
            driver.set_option(socket, &SocketOption::ReusePort(share)).expect("sets");
            let address = first.clone().unwrap_or_else(loopback);
            match driver.bind(socket, &address) {
                Ok(()) => assert!(share),
                Err(error) => {
                    assert!(!share);
                    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
                    continue;
                }
            }
            driver.listen(socket, 8).expect("listens");
            first = Some(driver.local_address(socket).expect("is bound"));
        }
    }

    fn an_empty_target_or_nothing_to_send_moves_nothing(driver) {
        let (client, server) = tcp_pair(driver);
        let (nothing, more) = receive(driver, server, 0);
        assert_eq!((nothing.expect("is no error"), more), (Vec::new(), true));
        let empty = [IoSlice::new(b""), IoSlice::new(b"")];
        for slices in [&empty[..], &[]] {
            let sent = driver.send(client, slices).expect("is no error");
            assert_eq!(sent, Sent { count: 0, blocked: false });
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    on_every_engine! {
        fn abstract_names_need_no_file(driver) {
            let name = format!("tepal\0{}-{}", std::process::id(), driver.name());
            let address = Address::Unix(UnixAddress::Abstract(name.as_bytes().into()));
            let listener = driver.open(Domain::Unix, Kind::Stream).expect("opens");
            driver.bind(listener, &address).expect("binds");
            driver.listen(listener, 1).expect("listens");
            assert_eq!(driver.local_address(listener).expect("is bound"), address);
            let client = driver.open(Domain::Unix, Kind::Stream).expect("opens");
            driver.connect(client, &address).expect("connects");
        }

        fn an_unnamed_bind_gets_an_abstract_name_from_the_kernel(driver) {
            let socket = driver.open(Domain::Unix, Kind::Datagram).expect("opens");
            driver.bind(socket, &Address::Unix(UnixAddress::Unnamed)).expect("binds");
            let bound = driver.local_address(socket).expect("is bound");
            assert!(matches!(bound, Address::Unix(UnixAddress::Abstract(_))), "{bound:?}");
        }

        fn other_families_pass_as_they_are(driver) {
            use std::os::fd::FromRawFd;
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: a new descriptor, checked before it is owned.
            let netlink = unsafe {
                let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
                assert!(fd >= 0);
                std::os::fd::OwnedFd::from_raw_fd(fd)
            };
            let netlink = driver.adopt(netlink).expect("adopts");
            let mut address = vec![0; 12];
            address[..2].copy_from_slice(&(libc::AF_NETLINK as u16).to_ne_bytes());
            driver.bind(netlink, &Address::Other(address.clone().into())).expect("binds");
            let Address::Other(bound) = driver.local_address(netlink).expect("is bound") else {
                panic!("is neither IP nor Unix")
            };
            assert_eq!((bound.len(), &bound[..2]), (12, &address[..2]));
        }
    }
}

fn datagram_socket(driver: &mut dyn Driver, token: u64) -> Descriptor {
    let socket = driver.open(Domain::Inet, Kind::Datagram).expect("opens");
    driver.bind(socket, &loopback()).expect("binds");
    driver.register(socket, token, Interest::READ).expect("registers");
    socket
}
