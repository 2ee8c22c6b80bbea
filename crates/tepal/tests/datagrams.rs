//! Datagrams: whole, in both directions, with the errors that belong to them.

mod common;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use common::{on_every_driver, run};
use tepal::{
    Address, CloseKind, Closed, Crossing, DatagramProtocol, DatagramTransport, SocketOption,
};

/// What a [`Peer`] saw.
#[derive(Default)]
struct Seen {
    events: Vec<&'static str>,
    received: Vec<(Vec<u8>, Option<Address>)>,
    errors: Vec<io::ErrorKind>,
    closed: Option<Closed>,
}

type Log = Rc<RefCell<Seen>>;

/// Notes everything; stops the loop when it has `enough` datagrams, and at its end.
struct Peer {
    log: Log,
    enough: usize,
    echo: bool,
}

impl Peer {
    fn new(enough: usize) -> (Peer, Log) {
        let log = Log::default();
        (Peer { log: Rc::clone(&log), enough, echo: false }, log)
    }

    fn echo() -> Peer {
        Peer { log: Log::default(), enough: usize::MAX, echo: true }
    }
}

impl DatagramProtocol for Peer {
    fn connection_made(&mut self, _: &DatagramTransport) {
        self.log.borrow_mut().events.push("made");
    }
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        if self.echo {
            transport.send_to(data, peer).expect("sends back");
        }
        let mut log = self.log.borrow_mut();
        log.received.push((data.to_vec(), peer.cloned()));
        if log.received.len() == self.enough {
            transport.event_loop().stop();
        }
    }
    fn error_received(&mut self, transport: &DatagramTransport, error: &io::Error) {
        self.log.borrow_mut().errors.push(error.kind());
        transport.event_loop().stop();
    }
    fn pause_writing(&mut self, _: &DatagramTransport) {
        self.log.borrow_mut().events.push("pause");
    }
    fn resume_writing(&mut self, _: &DatagramTransport) {
        self.log.borrow_mut().events.push("resume");
    }
    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        let mut log = self.log.borrow_mut();
        log.events.push("lost");
        log.closed = Some(closed.clone());
        transport.event_loop().stop();
    }
}

fn loopback() -> Option<Address> {
    Some(Address::Ip((Ipv4Addr::LOCALHOST, 0).into()))
}

/// A folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tepal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn datagrams_come_whole_and_in_order_even_empty_ones() {
    on_every_driver(|event_loop| {
        let echo = event_loop.datagram(Peer::echo(), loopback(), None).expect("binds");
        let at = echo.local_address().expect("bound");
        let (peer, log) = Peer::new(4);
        let sender = event_loop.datagram(peer, loopback(), None).expect("binds");
        for data in [&b"one"[..], b"", b"three", b""] {
            assert_eq!(sender.send_to(data, Some(&at)).expect("sends"), Crossing::None);
        }
        run(event_loop);
        let log = log.borrow();
        let data: Vec<&[u8]> = log.received.iter().map(|(data, _)| &data[..]).collect();
        assert_eq!(data, [&b"one"[..], b"", b"three", b""]);
        assert!(log.received.iter().all(|(_, peer)| peer.as_ref() == Some(&at)));
        assert_eq!(log.events, ["made"]);
    });
}

#[test]
fn a_connected_endpoint_needs_no_address_and_hears_only_its_peer() {
    on_every_driver(|event_loop| {
        let echo = event_loop.datagram(Peer::echo(), loopback(), None).expect("binds");
        let at = echo.local_address().expect("bound");
        let (peer, log) = Peer::new(1);
        let connected = event_loop.datagram(peer, None, Some(at.clone())).expect("connects");
        let own = connected.local_address().expect("bound").as_ip().expect("an IP address");
        assert!(own.ip().is_loopback() && own.port() != 0);
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("binds");
        // Loopback delivers inside send: the kernel has dropped it before the echo is on its way.
        stranger.send_to(b"not for you", own).expect("sends");
        connected.send_to(b"hello", None).expect("sends");
        run(event_loop);
        assert_eq!(log.borrow().received, [(b"hello".to_vec(), Some(at))]);
    });
}

// S18
#[test]
fn the_local_address_that_was_asked_for_is_the_one_that_peers_see() {
    on_every_driver(|event_loop| {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("binds");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        let free = UdpSocket::bind("127.0.0.2:0").expect("127.0.0.2 is loopback too");
        let wanted = free.local_addr().expect("bound");
        drop(free);
        let peer = Some(Address::Ip(receiver.local_addr().expect("bound")));
        let (protocol, log) = Peer::new(1);
        let endpoint =
            event_loop.datagram(protocol, Some(wanted.into()), peer).expect("binds and connects");
        assert_eq!(endpoint.local_address().expect("bound").as_ip(), Some(wanted));
        endpoint.send_to(b"from where?", None).expect("sends");
        let mut buffer = [0; 32];
        let (count, from) = receiver.recv_from(&mut buffer).expect("arrives");
        assert_eq!((&buffer[..count], from), (&b"from where?"[..], wanted));
        receiver.send_to(b"to there", wanted).expect("sends");
        run(event_loop);
        assert_eq!(log.borrow().received[0].0, b"to there");
    });
}

#[test]
fn a_taken_address_and_no_address_are_errors() {
    on_every_driver(|event_loop| {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let at = Address::Ip(taken.local_addr().expect("bound"));
        let kind = |local, peer| {
            let made = event_loop.datagram(Peer::echo(), local, peer);
            made.map(|_| ()).map_err(|error| error.kind())
        };
        let six = Some(Address::Ip("[::1]:9".parse().expect("an address")));
        assert_eq!(kind(Some(at), None), Err(io::ErrorKind::AddrInUse));
        assert_eq!(kind(None, None), Err(io::ErrorKind::InvalidInput));
        assert!(kind(loopback(), six).is_err(), "families do not mix");
    });
}

#[test]
fn a_refusal_is_told_and_the_endpoint_goes_on() {
    on_every_driver(|event_loop| {
        let gone = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let at = gone.local_addr().expect("bound");
        drop(gone);
        let (protocol, log) = Peer::new(1);
        let endpoint = event_loop.datagram(protocol, None, Some(at.into())).expect("connects");
        endpoint.send_to(b"anybody there?", None).expect("the kernel takes it");
        run(event_loop);
        assert_eq!(log.borrow().errors, [io::ErrorKind::ConnectionRefused]);
        assert!(!endpoint.is_closing());
        let back = UdpSocket::bind(at).expect("the port is free again");
        back.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        endpoint.send_to(b"and now?", None).expect("sends");
        let mut buffer = [0; 32];
        let (count, from) = back.recv_from(&mut buffer).expect("arrives");
        back.send_to(&buffer[..count], from).expect("sends");
        run(event_loop);
        assert_eq!(log.borrow().received[0].0, b"and now?");
    });
}

#[test]
fn a_refusal_found_by_the_next_send_is_its_result() {
    on_every_driver(|event_loop| {
        let gone = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let at = gone.local_addr().expect("bound");
        drop(gone);
        let endpoint = event_loop.datagram(Peer::echo(), None, Some(at.into())).expect("connects");
        endpoint.send_to(b"first", None).expect("the kernel takes it");
        // The answer to the first came back inside its send; the loop has not looked yet.
        let second = endpoint.send_to(b"second", None).map_err(|error| error.kind());
        assert_eq!(second, Err(io::ErrorKind::ConnectionRefused));
        assert!(endpoint.send_to(b"third", None).is_ok());
    });
}

#[test]
fn a_datagram_that_is_too_long_is_an_error_of_that_datagram_alone() {
    on_every_driver(|event_loop| {
        let echo = event_loop.datagram(Peer::echo(), loopback(), None).expect("binds");
        let at = echo.local_address().expect("bound");
        let (peer, log) = Peer::new(2);
        let endpoint = event_loop.datagram(peer, loopback(), None).expect("binds");
        // 65535 less the headers of IPv4 and UDP.
        let most = 65_507;
        let error = endpoint.send_to(&vec![1; most + 1], Some(&at)).expect_err("too long");
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(endpoint.write_buffer_size(), 0);
        endpoint.send_to(&vec![2; most], Some(&at)).expect("as long as can be");
        endpoint.send_to(b"short", Some(&at)).expect("sends");
        run(event_loop);
        let log = log.borrow();
        assert_eq!((log.received[0].0.len(), &log.received[1].0[..]), (most, &b"short"[..]));
        assert!(log.received[0].0.iter().all(|byte| *byte == 2));
    });
}

#[test]
fn a_group_is_joined_on_an_interface_and_left() {
    let any = (Ipv4Addr::UNSPECIFIED, 0).into();
    // The loopback interface, which is the first of every Linux host and namespace.
    let (group, local) = (Ipv4Addr::new(239, 77, 1, 9), (Ipv4Addr::LOCALHOST, 0));
    a_group_is_joined(any, group.into(), local.into(), 1);
}

// In a network namespace of its own, on an interface of its own: IPv6 routes no group to the
// loopback interface.
#[test]
fn a_group_of_ipv6_is_joined_on_an_interface_and_left() {
    const NAME: &str = "a_group_of_ipv6_is_joined_on_an_interface_and_left";
    const INSIDE: &str = "TEPAL_TEST_INSIDE_NAMESPACE";
    // Of two ends of a line, the one that was named first gets the higher index.
    const SET_UP: &str = "ip link set lo up && ip link add v0 type veth peer name v1 \
        && ip link set v0 up && ip link set v1 up && ip -6 addr add fd77::1/64 dev v0 nodad";
    const V0: u32 = 3;
    let unshare = |script: &str| {
        Command::new("unshare").args(["-rn", "sh", "-c", script]).env(INSIDE, "1").output()
    };
    if std::env::var_os(INSIDE).is_some() {
        // Of this link only (RFC 4291, 2.7), and not a well-known one.
        let group = "ff12::7461:7061".parse::<IpAddr>().expect("an address");
        let local = "[fd77::1]:0".parse().expect("an address");
        return a_group_is_joined((Ipv6Addr::UNSPECIFIED, 0).into(), group, local, V0);
    }
    if !unshare(SET_UP).is_ok_and(|output| output.status.success()) {
        println!("not tested: groups of IPv6, which need `unshare -rn` and `ip`");
        return;
    }
    let this = std::env::current_exe().expect("runs");
    let inside = format!("{SET_UP} && exec {this:?} --exact {NAME} --nocapture");
    let output = unshare(&inside).expect("starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "{told}");
}

fn a_group_is_joined(any: SocketAddr, group: IpAddr, local: SocketAddr, interface: u32) {
    let scoped = |port| match group {
        IpAddr::V4(_) => SocketAddr::new(group, port),
        IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, interface).into(),
    };
    on_every_driver(|event_loop| {
        let any = Some(Address::Ip(any));
        let (peer, log) = Peer::new(1);
        let member = event_loop.datagram(peer, any, None).expect("binds");
        let join = SocketOption::JoinGroup { group, interface };
        member.set_option(&join).expect("joins");
        let port = member.local_address().expect("bound").as_ip().expect("IP").port();
        let local = Some(Address::Ip(local));
        let sender = event_loop.datagram(Peer::echo(), local, None).expect("binds");
        sender.set_option(&SocketOption::MulticastLoop(true)).expect("an option");
        sender.set_option(&SocketOption::MulticastHops(1)).expect("an option");
        sender.send_to(b"to all", Some(&Address::Ip(scoped(port)))).expect("sends");
        run(event_loop);
        let from = sender.local_address().expect("bound");
        assert_eq!(log.borrow().received, [(b"to all".to_vec(), Some(from))]);
        let leave = SocketOption::LeaveGroup { group, interface };
        member.set_option(&leave).expect("leaves");
        let again = member.set_option(&leave).map_err(|error| error.kind());
        assert_eq!(again, Err(io::ErrorKind::AddrNotAvailable));
    });
}

#[test]
fn unix_datagrams_carry_the_names_of_their_senders() {
    let folder = Folder::new("datagrams");
    on_every_driver(|event_loop| {
        let path = |name: &str| folder.0.join(format!("{}-{name}", event_loop.driver_name()));
        let (peer, log) = Peer::new(2);
        let receiver =
            event_loop.datagram(peer, Some(Address::unix(path("receiver"))), None).expect("binds");
        let at = receiver.local_address().expect("bound");
        assert_eq!(at, Address::unix(path("receiver")));
        let named = Address::unix(path("sender"));
        let sender = event_loop.datagram(Peer::echo(), Some(named.clone()), None).expect("binds");
        sender.send_to(b"named", Some(&at)).expect("sends");
        let nameless = UnixDatagram::unbound().expect("a socket");
        nameless.send_to(b"unnamed", path("receiver")).expect("sends");
        run(event_loop);
        let log = log.borrow();
        assert_eq!(log.received[0], (b"named".to_vec(), Some(named)));
        assert_eq!(log.received[1].0, b"unnamed");
        let unnamed = Address::Unix(tepal::UnixAddress::Unnamed);
        assert!(log.received[1].1.as_ref().is_none_or(|peer| *peer == unnamed));
        let nobody = sender.send_to(b"lost", Some(&Address::unix(path("nobody"))));
        assert_eq!(nobody.map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    });
}

/// Fills a receiver's queue, closes, and only then lets somebody read it.
fn close_flushes(connected: bool) {
    const COUNT: usize = 600;
    const LEN: usize = 1000;
    let folder = Folder::new(if connected { "flush-connected" } else { "flush" });
    on_every_driver(|event_loop| {
        let path = folder.0.join(event_loop.driver_name());
        let reader = UnixDatagram::bind(&path).expect("binds");
        reader.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        let at = Address::unix(&path);
        let own = Address::unix(path.with_extension("sender"));
        let (protocol, log) = Peer::new(usize::MAX);
        let peer = connected.then(|| at.clone());
        let endpoint = event_loop.datagram(protocol, Some(own), peer).expect("binds");
        let to = (!connected).then_some(&at);
        let mut crossings = 0;
        for n in 0..COUNT {
            let crossing = endpoint.send_to(&[n as u8; LEN], to).expect("sends or queues");
            crossings += usize::from(crossing == Crossing::High);
        }
        assert_eq!(crossings, 1, "the queue of a Unix socket is short");
        assert!(endpoint.write_buffer_size() > 64 << 10);
        endpoint.close();
        assert!(endpoint.is_closing() && log.borrow().closed.is_none());
        let late = endpoint.send_to(b"late", to).map_err(|error| error.kind());
        assert_eq!(late, Err(io::ErrorKind::NotConnected));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; LEN + 1];
            for n in 0..COUNT {
                assert_eq!(reader.recv(&mut buffer).expect("arrives"), LEN);
                assert_eq!(buffer[..LEN], [n as u8; LEN]);
            }
        });
        run(event_loop);
        thread.join().expect("all of them arrived, in order");
        let log = log.borrow();
        let closed = log.closed.as_ref().expect("it ended");
        assert_eq!((closed.kind, closed.unsent), (CloseKind::Local, 0));
        assert_eq!(log.events, ["made", "pause", "resume", "lost"]);
    });
}

#[test]
fn closing_sends_what_is_queued_first() {
    close_flushes(true);
}

#[test]
fn closing_sends_what_is_queued_to_several_peers_too() {
    close_flushes(false);
}

#[test]
fn aborting_drops_what_is_queued_and_counts_it() {
    let folder = Folder::new("abort");
    on_every_driver(|event_loop| {
        let path = folder.0.join(event_loop.driver_name());
        let _full = UnixDatagram::bind(&path).expect("binds");
        let (protocol, log) = Peer::new(usize::MAX);
        let endpoint =
            event_loop.datagram(protocol, None, Some(Address::unix(&path))).expect("connects");
        let mut sent = 0;
        while endpoint.write_buffer_size() < 5000 {
            endpoint.send_to(&[0; 992], None).expect("sends or queues");
            sent += 1;
            assert!(sent < 100_000, "the queue never fills");
        }
        assert_eq!(endpoint.write_buffer_size(), 5000, "eight bytes more for each of five");
        endpoint.abort();
        endpoint.abort();
        endpoint.close();
        run(event_loop);
        let log = log.borrow();
        let closed = log.closed.as_ref().expect("it ended");
        assert_eq!((closed.kind, closed.unsent), (CloseKind::Aborted, 5 * 992));
        assert_eq!(log.events, ["made", "lost"]);
    });
}

#[test]
fn while_paused_the_kernel_keeps_what_comes() {
    on_every_driver(|event_loop| {
        let (protocol, log) = Peer::new(3);
        let endpoint = event_loop.datagram(protocol, loopback(), None).expect("binds");
        endpoint.pause_reading();
        let at = endpoint.local_address().expect("bound").as_ip().expect("an IP address");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("binds");
        for data in [b"a", b"b", b"c"] {
            sender.send_to(data, at).expect("sends");
        }
        event_loop.call_later(Duration::from_millis(5), |lp| lp.stop());
        run(event_loop);
        assert!(log.borrow().received.is_empty());
        endpoint.resume_reading();
        run(event_loop);
        let data: Vec<u8> = log.borrow().received.iter().map(|(data, _)| data[0]).collect();
        assert_eq!(data, b"abc");
    });
}

#[test]
fn a_panicking_protocol_loses_its_endpoint_and_nothing_else() {
    on_every_driver(|event_loop| {
        struct Panics(Log);
        impl DatagramProtocol for Panics {
            fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: Option<&Address>) {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
                self.0.borrow_mut().closed = Some(closed.clone());
                transport.event_loop().stop();
            }
        }
        let log = Log::default();
        let panics = event_loop.datagram(Panics(Rc::clone(&log)), loopback(), None).expect("binds");
        let at = panics.local_address().expect("bound");
        let (peer, other) = Peer::new(1);
        let sender = event_loop.datagram(peer, loopback(), None).expect("binds");
        sender.send_to(b"x", Some(&at)).expect("sends");
        run(event_loop);
        let kind = log.borrow().closed.as_ref().map(|closed| closed.kind);
        assert_eq!(kind, Some(CloseKind::ProtocolFailed));
        assert!(panics.local_address().is_err());
        let itself = sender.local_address().expect("bound");
        sender.send_to(b"still here", Some(&itself)).expect("sends");
        run(event_loop);
        assert_eq!(other.borrow().received[0].0, b"still here");
    });
}
