//! Blocks of pcapng (draft-ietf-opsawg-pcapng): a section header, one interface with raw IP, and
//! one enhanced packet per segment. Checksums are left 0, as captures with offloading have them.

use std::net::{IpAddr, SocketAddr};

use tepal_base::Instant;

use super::{Encoder, Way};

/// What fits one packet beside its headers.
const SEGMENT: usize = 65_535 - 60;

pub(super) struct Capture {
    own: End,
    peer: End,
    client: bool,
    begun: bool,
}

struct End {
    address: SocketAddr,
    sequence: u32,
}

impl Capture {
    pub(super) fn new(own: SocketAddr, peer: SocketAddr, client: bool) -> Capture {
        let end = |address| End { address, sequence: 1 };
        Capture { own: end(own), peer: end(peer), client, begun: false }
    }

    // The section's head, and a TCP handshake so that the stream is followed from its start.
    fn begin(&mut self, at: Instant, out: &mut Vec<u8>) {
        let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        section.extend([1, 0, 0, 0]);
        section.extend([0xff; 8]); // its length is not known
        block(0x0a0d_0d0a, &section, out);
        let mut interface = vec![101, 0, 0, 0, 0, 0, 0, 0]; // raw IP, no limit
        interface.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]); // times in nanoseconds
        block(1, &interface, out);
        let (first, second) = match self.client {
            true => (&self.own, &self.peer),
            false => (&self.peer, &self.own),
        };
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        packet(at, (first, 0), (second, 0), SYN, &[], out);
        packet(at, (second, 0), (first, 1), SYN | ACK, &[], out);
        packet(at, (first, 1), (second, 1), ACK, &[], out);
    }
}

impl Encoder for Capture {
    fn encode(&mut self, at: Instant, way: Way, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.begun {
            self.begun = true;
            self.begin(at, out);
        }
        for part in bytes.chunks(SEGMENT) {
            let (from, to) = match way {
                Way::Down => (&mut self.own, &self.peer),
                Way::Up => (&mut self.peer, &self.own),
            };
            packet(at, (from, from.sequence), (to, to.sequence), 16 | 8, part, out);
            from.sequence = from.sequence.wrapping_add(part.len() as u32);
        }
    }
}

fn packet(
    at: Instant,
    (from, sequence): (&End, u32),
    (to, acknowledged): (&End, u32),
    flags: u8,
    bytes: &[u8],
    out: &mut Vec<u8>,
) {
    let mut data = Vec::with_capacity(bytes.len() + 60);
    let len = 20 + bytes.len();
    match (from.address.ip(), to.address.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            data.extend([0x45, 0]);
            data.extend((20 + len as u16).to_be_bytes());
            data.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            data.extend(source.octets());
            data.extend(destination.octets());
        }
        (source, destination) => {
            let six = |address: IpAddr| match address {
                IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
                IpAddr::V6(six) => six.octets(),
            };
            data.extend([0x60, 0, 0, 0]);
            data.extend((len as u16).to_be_bytes());
            data.extend([6, 64]);
            data.extend(six(source));
            data.extend(six(destination));
        }
    }
    data.extend(from.address.port().to_be_bytes());
    data.extend(to.address.port().to_be_bytes());
    data.extend(sequence.to_be_bytes());
    data.extend(acknowledged.to_be_bytes());
    data.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    data.extend(bytes);

    let nanos = at.as_nanos();
    let mut body = 0u32.to_le_bytes().to_vec(); // the interface
    body.extend(((nanos >> 32) as u32).to_le_bytes());
    body.extend((nanos as u32).to_le_bytes());
    body.extend((data.len() as u32).to_le_bytes());
    body.extend((data.len() as u32).to_le_bytes());
    body.extend(&data);
    block(6, &body, out);
}

fn block(kind: u32, body: &[u8], out: &mut Vec<u8>) {
    let padding = body.len().wrapping_neg() % 4;
    let total = (12 + body.len() + padding) as u32;
    out.extend(kind.to_le_bytes());
    out.extend(total.to_le_bytes());
    out.extend(body);
    out.extend([0; 3].get(..padding).unwrap_or_default());
    out.extend(total.to_le_bytes());
}
