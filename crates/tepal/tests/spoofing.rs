//! What a stranger has to guess, on the kernels of this machine: the port, the id and the case of
//! each query; and what a flood of guesses comes to.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use asking::ask;
use common::on_every_driver;
use dns::{Zone, put};
use tepal::names::Settings;
use tepal::{Address, DatagramProtocol, DatagramTransport, EventLoop};

/// What a server sees of a query.
struct Query {
    port: u16,
    id: u16,
    name: Vec<u8>,
}

/// Notes queries and answers that there is no such name.
struct Noting(Rc<RefCell<Vec<Query>>>);

impl DatagramProtocol for Noting {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        query: &[u8],
        peer: Option<&Address>,
    ) {
        let end = 12 + query[12..].iter().position(|&byte| byte == 0).expect("a name") + 5;
        let port = peer.and_then(Address::as_ip).expect("an IP socket").port();
        let id = u16::from_be_bytes([query[0], query[1]]);
        self.0.borrow_mut().push(Query { port, id, name: query[12..end - 5].to_vec() });
        let head = [&query[..2], &[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0], &query[12..end]];
        transport.send_to(&head.concat(), peer).expect("the socket is open");
    }
}

/// Chi square of values that should be spread evenly over `count` places.
fn chi_square(places: impl Iterator<Item = usize>, count: usize) -> f64 {
    let mut seen = vec![0f64; count];
    let mut total = 0.0;
    for place in places {
        seen[place] += 1.0;
        total += 1.0;
    }
    let expected = total / count as f64;
    seen.iter().map(|each| (each - expected).powi(2) / expected).sum()
}

#[test]
fn ports_ids_and_case_of_ten_thousand_queries_are_spread_evenly() {
    on_every_driver(|event_loop| {
        const QUERIES: usize = 10_000;
        let queries = Rc::new(RefCell::new(Vec::new()));
        let any: Address = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let server = event_loop.datagram(Noting(Rc::clone(&queries)), Some(any), None);
        let server = server.expect("a socket");
        let address = server.local_address().expect("bound").as_ip().expect("an IP socket");
        let settings =
            Settings { servers: Some(vec![address]), ndots: Some(0), ..Settings::default() };
        let resolver = event_loop.resolver(settings);
        event_loop.set_resolver(Some(&resolver));
        for index in 0..QUERIES / 2 {
            ask(event_loop, &format!("abcdefgh.n{index}.test."), "1").expect_err("no such name");
        }
        let queries = queries.borrow();
        assert_eq!(queries.len(), QUERIES, "one for each family");

        // 64 places have a mean of 63 with a deviation of 11: 140 is seven of them away.
        let ids = chi_square(queries.iter().map(|query| usize::from(query.id >> 10)), 64);
        assert!(ids < 140.0, "ids: {ids}");
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let range = range.unwrap_or_else(|_| "32768 60999".into());
        let bounds: Vec<usize> =
            range.split_whitespace().map(|word| word.parse().expect("a port")).collect();
        let width = (bounds[1] - bounds[0] + 1).div_ceil(64);
        let places = queries.iter().map(|query| (usize::from(query.port) - bounds[0]) / width);
        // Ports that others hold make it a little uneven.
        let ports = chi_square(places, 64);
        assert!(ports < 160.0, "ports: {ports}");
        // Fresh each time: a port comes again as seldom as chance has it.
        let mut times: HashMap<u16, usize> = HashMap::new();
        queries.iter().for_each(|query| *times.entry(query.port).or_default() += 1);
        assert!(times.len() > QUERIES * 3 / 4, "{} ports", times.len());
        assert!(times.values().all(|&count| count < 12));
        let same = queries.windows(2).filter(|pair| pair[0].port == pair[1].port).count();
        assert!(same < 10, "{same} ports were used twice in a row");
        // Letters: each is a coin.
        for letter in 1..9 {
            let upper = queries.iter().filter(|query| query.name[letter].is_ascii_uppercase());
            let upper = upper.count();
            assert!((4_650..5_350).contains(&upper), "letter {letter}: {upper}");
        }
        event_loop.set_resolver(None);
        server.abort();
    });
}

/// Answers every query with all 65,536 ids but its own, and a lie in each; then with the truth.
struct Flooding(Rc<RefCell<usize>>);

impl DatagramProtocol for Flooding {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        query: &[u8],
        peer: Option<&Address>,
    ) {
        let end = 12 + query[12..].iter().position(|&byte| byte == 0).expect("a name") + 5;
        let id = u16::from_be_bytes([query[0], query[1]]);
        for wrong in 1..=u16::MAX {
            let head = id.wrapping_add(wrong).to_be_bytes();
            let mut lie =
                [&head, &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..], &query[12..end]].concat();
            lie.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 6, 6, 6, 6]);
            // What the kernel has no room for is lost, as on a wire.
            let _ = transport.send_to(&lie, peer);
        }
        *self.0.borrow_mut() += 1;
    }
}

#[test]
fn a_flood_of_wrong_ids_is_never_believed_and_leads_to_tcp() {
    on_every_driver(|event_loop: &EventLoop| {
        // The flood by datagrams, the truth over TCP, at one port.
        let zone = Zone::new();
        put(&zone, "bank.test", 60, &["127.0.0.9"]);
        let floods = Rc::default();
        let any: Address = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        // A port that is free for datagrams may be taken for streams.
        let flood_and_truth = || {
            let flood = event_loop.datagram(Flooding(Rc::clone(&floods)), Some(any.clone()), None);
            let flood = flood.expect("a socket");
            let address = flood.local_address().expect("bound").as_ip().expect("an IP socket");
            match dns::streams(event_loop, &zone, address) {
                Ok(_serves) => Some((flood, address)),
                Err(_) => {
                    flood.abort();
                    None
                }
            }
        };
        let found = (0..100).find_map(|_| flood_and_truth());
        let (flood, address) = found.expect("a port free for both");
        let settings =
            Settings { servers: Some(vec![address]), ndots: Some(0), ..Settings::default() };
        let resolver = event_loop.resolver(settings);
        event_loop.set_resolver(Some(&resolver));
        let found = ask(event_loop, "bank.test.", "443").expect("over TCP");
        assert_eq!(found, ["127.0.0.9:443"]);
        assert!(*floods.borrow() >= 1 && zone.borrow().asked.iter().all(|(_, _, tcp)| *tcp));
        assert_eq!(resolver.socket_count(), 0);
        event_loop.set_resolver(None);
        flood.abort();
    });
}
