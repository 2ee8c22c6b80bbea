//! A layer that records what passes.

mod pcapng;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tepal_base::Instant;

use crate::{Error, How, Info, Io, Layer, LayerSpec, Side, Site, Status};

/// Where a record goes: called with whole lines, or whole blocks, in order.
type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Records the bytes that pass it, in both directions, and changes nothing. Command name `tap`.
///
/// Where it stands decides what it sees: below TLS the records, above it the plaintext. The sink
/// is given encoded bytes and does with them what it wants (append them to a file); it runs inside
/// the pump, so it should be quick.
#[derive(Clone)]
pub struct Tap {
    sink: Sink,
    pcapng: bool,
}

impl Tap {
    /// Text: a line with the time and the direction, then lines of 16 bytes in hexadecimal and as
    /// characters.
    pub fn text(sink: impl Fn(&[u8]) + Send + Sync + 'static) -> Tap {
        Tap { sink: Arc::new(sink), pcapng: false }
    }

    /// A capture that Wireshark opens (pcapng). Each connection is a section of its own, in which
    /// the bytes are dressed as TCP segments between the connection's addresses.
    pub fn pcapng(sink: impl Fn(&[u8]) + Send + Sync + 'static) -> Tap {
        Tap { sink: Arc::new(sink), pcapng: true }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.pcapng { "Tap(pcapng)" } else { "Tap(text)" })
    }
}

impl LayerSpec for Tap {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        // Without addresses the two ends are 127.0.0.1:1 and :2.
        let own = site.local.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 1)));
        let peer = site.peer.filter(|peer| peer.is_ipv4() == own.is_ipv4());
        let (own, peer) = match peer {
            Some(peer) => (own, peer),
            None => (
                SocketAddr::from(([127, 0, 0, 1], own.port())),
                SocketAddr::from(([127, 0, 0, 1], 2)),
            ),
        };
        let encoder: Box<dyn Encoder> = match self.pcapng {
            true => Box::new(pcapng::Capture::new(own, peer, site.side == Side::Client)),
            false => Box::new(text::Text),
        };
        Ok(Box::new(TapLayer { sink: Arc::clone(&self.sink), encoder, out: Vec::new() }))
    }
}

/// Which way bytes pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Down,
    Up,
}

trait Encoder {
    fn encode(&mut self, at: Instant, way: Way, bytes: &[u8], out: &mut Vec<u8>);
}

struct TapLayer {
    sink: Sink,
    encoder: Box<dyn Encoder>,
    out: Vec<u8>,
}

impl TapLayer {
    fn record(&mut self, at: Instant, way: Way, bytes: &[u8]) {
        self.encoder.encode(at, way, bytes, &mut self.out);
        (self.sink)(&self.out);
        self.out.clear();
    }
}

impl Layer for TapLayer {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn passes_on(&self) -> bool {
        true
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        let now = io.now();
        while io.to_below.room() > 0 && (!io.from_above.is_empty() || io.from_above.is_frame()) {
            let piece = io.from_above.bytes();
            let count = piece.len().min(io.to_below.room());
            self.record(now, Way::Down, piece.get(..count).unwrap_or_default());
            io.to_below.pass(&mut io.from_above, count.max(1));
        }
        while (!io.from_below.bytes().is_empty() || io.from_below.is_frame())
            && io.to_above.may_push()
        {
            let bytes = io.from_below.bytes();
            let count = bytes.len();
            self.record(now, Way::Up, bytes);
            io.to_above.pass_one(&mut io.from_below, count);
        }
        Ok(if io.finishing() { Status::Done(How::Closed) } else { Status::Open })
    }
}
