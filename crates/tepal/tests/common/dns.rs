//! A name server that does what a test says, on the loop of the test itself: no thread, and the
//! same on the simulated kernel.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, DatagramProtocol, DatagramTransport, EventLoop, Protocol, Transport};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;

/// How a server answers a question.
#[derive(Clone, Debug)]
pub enum Say {
    /// With these records' data, and a TTL in seconds.
    Records(u32, Vec<Vec<u8>>),
    /// Over UDP cut off, over TCP with these.
    Truncated(u32, Vec<Vec<u8>>),
    /// With an error code.
    Code(u16),
    /// Not at all.
    Nothing,
    /// With bytes that are no answer, and nothing else.
    Garbage,
}

/// What a server knows, and what it was asked.
#[derive(Default)]
pub struct Zone {
    pub answers: BTreeMap<(String, u16), Say>,
    /// What is said to anything else.
    pub otherwise: Option<Say>,
    /// Name, type, and whether by TCP.
    pub asked: Vec<(String, u16, bool)>,
    /// Out of a hundred datagrams so many are dropped, cut off, or answered with garbage.
    pub losses: (u64, u64, u64),
    pub seed: u64,
    /// Answers to questions of this type leave that much later.
    pub delays: BTreeMap<u16, Duration>,
    /// Closes each connection without a word.
    pub hangs_up: bool,
}

pub type Shared = Rc<RefCell<Zone>>;

impl Zone {
    pub fn new() -> Shared {
        Rc::default()
    }
}

pub fn a(address: [u8; 4]) -> Vec<u8> {
    address.to_vec()
}

pub fn aaaa(address: &str) -> Vec<u8> {
    let IpAddr::V6(v6) = address.parse().expect("an address") else { panic!("IPv6") };
    v6.octets().to_vec()
}

/// Puts addresses of a name in the zone, and that it has none of the other type.
pub fn put(zone: &Shared, name: &str, ttl: u32, addresses: &[&str]) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address.parse().expect("an address") {
            IpAddr::V4(ip) => v4.push(ip.octets().to_vec()),
            IpAddr::V6(ip) => v6.push(ip.octets().to_vec()),
        }
    }
    let mut zone = zone.borrow_mut();
    zone.answers.insert((name.to_owned(), A), Say::Records(ttl, v4));
    zone.answers.insert((name.to_owned(), AAAA), Say::Records(ttl, v6));
}

/// Starts a server for datagrams and streams on one port.
pub fn serve(event_loop: &EventLoop, zone: &Shared) -> SocketAddr {
    // A port that is free for datagrams may be taken for streams.
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (0..100).find_map(|_| try_serve(event_loop, zone, any).ok()).expect("a port free for both")
}

/// Starts a server at an address.
pub fn serve_at(event_loop: &EventLoop, zone: &Shared, address: SocketAddr) {
    try_serve(event_loop, zone, address).expect("the port is free");
}

pub fn try_serve(
    event_loop: &EventLoop,
    zone: &Shared,
    address: SocketAddr,
) -> std::io::Result<SocketAddr> {
    let udp = event_loop.datagram(Server(Rc::clone(zone)), Some(address.into()), None)?;
    let address = udp.local_address()?.as_ip().expect("an IP socket");
    match streams(event_loop, zone, address) {
        // It serves as long as the loop lives.
        Ok(listener) => drop(listener),
        Err(error) => {
            udp.abort();
            return Err(error);
        }
    }
    Ok(address)
}

/// Answers datagrams at an address, and nothing else.
pub fn datagrams(event_loop: &EventLoop, zone: &Shared, address: SocketAddr) -> DatagramTransport {
    let server = Server(Rc::clone(zone));
    event_loop.datagram(server, Some(address.into()), None).expect("the port is free")
}

/// Answers over TCP at an address, and nothing else.
pub fn streams(
    event_loop: &EventLoop,
    zone: &Shared,
    address: SocketAddr,
) -> std::io::Result<tepal::Server> {
    let shared = Rc::clone(zone);
    event_loop.listen(move |_: &Address| Server(Rc::clone(&shared)), address)
}

struct Server(Shared);

impl DatagramProtocol for Server {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        let mut zone = self.0.borrow_mut();
        let Some(reply) = zone.reply(data, false) else { return };
        match zone.asked.last().and_then(|(_, asked, _)| zone.delays.get(asked)) {
            Some(delay) => {
                let (later, peer) = (transport.clone(), peer.cloned());
                let lp = transport.event_loop();
                // Whoever asked may have gone meanwhile.
                drop(lp.call_later(*delay, move |_| drop(later.send_to(&reply, peer.as_ref()))));
            }
            None => drop(transport.send_to(&reply, peer).expect("the socket is open")),
        }
    }
}

impl Protocol for Server {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some((head, rest)) = data.split_first_chunk() else { return 0 };
        let len = usize::from(u16::from_be_bytes(*head));
        let Some(query) = rest.get(..len) else { return 0 };
        match self.0.borrow_mut().reply(query, true) {
            Some(reply) if reply.is_empty() => transport.close(),
            Some(reply) => {
                transport.write(&(reply.len() as u16).to_be_bytes());
                transport.write(&reply);
            }
            None => {}
        }
        2 + len
    }
}

impl Zone {
    fn chance(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) % 100
    }

    /// `None`: nothing; empty: hang up.
    fn reply(&mut self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, end) = name_at(query, 12);
        let record_type = u16::from_be_bytes([query[end], query[end + 1]]);
        self.asked.push((name.clone(), record_type, tcp));
        if tcp && self.hangs_up {
            return Some(Vec::new());
        }
        let mut say = self.answers.get(&(name, record_type)).cloned();
        say = say.or_else(|| self.otherwise.clone());
        let mut say = say.unwrap_or(Say::Code(3));
        if !tcp && self.losses != (0, 0, 0) {
            let (drop, cut, garbage) = self.losses;
            let chance = self.chance();
            say = match say {
                _ if chance < drop => Say::Nothing,
                Say::Records(ttl, data) if chance < drop + cut => Say::Truncated(ttl, data),
                _ if chance < drop + cut + garbage => Say::Garbage,
                say => say,
            };
        }
        let (mut flags, mut ttl, mut records) = (0x8180_u16, 0, Vec::new());
        match say {
            Say::Nothing => return None,
            Say::Garbage => return Some(b"no answer at all".to_vec()),
            Say::Code(code) => flags |= code,
            Say::Truncated(..) if !tcp => flags |= 0x0200,
            Say::Truncated(t, data) | Say::Records(t, data) => (ttl, records) = (t, data),
        }
        let mut reply = query[..2].to_vec();
        reply.extend(flags.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend((records.len() as u16).to_be_bytes());
        reply.extend([0, 0, 0, 0]);
        reply.extend(&query[12..end + 4]);
        for data in records {
            reply.extend([0xc0, 12]);
            reply.extend(record_type.to_be_bytes());
            reply.extend([0, 1]);
            reply.extend(ttl.to_be_bytes());
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        }
        Some(reply)
    }
}

/// A name, in lower case, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] != 0 {
        let len = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + len]).to_lowercase());
        at += 1 + len;
    }
    (labels.join("."), at + 1)
}

/// A name as it stands in a message.
pub fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
