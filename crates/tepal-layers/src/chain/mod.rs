//! The chain: layers, the links between them, and the pump that moves bytes through.
//!
//! `links[i]` is below `floors[i]` and `links[i + 1]` above it; the first link is the wire's and
//! the last one the protocol's. Everything that happens to a link marks the layers next to it as
//! dirty, and the pump steps dirty layers, lowest first, until none is left or the budget is
//! spent. A layer that asked for room and got none is dirtied again by whoever makes room.

mod change;
mod close;
mod guard;
mod pump;
mod short;
mod top;
mod wire;
mod write;
mod written;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tepal_base::Instant;

use crate::link::Link;
use crate::spec::{Host, Keepsakes, Place, Site, Stack};
use crate::{Error, ErrorKind, Event, Layer, LayerId, Turn};

pub use change::{Late, Residual};
pub use written::Written;

/// How much a chain holds, and how long it waits. Each has a default that can be defended.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes per direction that a link takes before the layer that fills it has to wait. 64 KiB:
    /// four TLS records, and as much as a socket's buffer commonly takes at once.
    pub link: usize,
    /// Bytes that the protocol may leave unread before the connection fails with
    /// [`InputStalled`](ErrorKind::InputStalled). 256 KiB, as the largest single read.
    pub input: usize,
    /// Time for each layer's handshake, from the moment the layer below it is ready. 30 s.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { link: 64 << 10, input: 256 << 10, handshake: Duration::from_secs(30) }
    }
}

/// Layers stacked over a wire that somebody else owns.
///
/// The owner of the wire feeds it what arrives ([`receive`](Chain::receive),
/// [`receive_eof`](Chain::receive_eof)), sends what it finds in [`output`](Chain::output), asks
/// [`poll_event`](Chain::poll_event) until there is none, and calls
/// [`handle_timeout`](Chain::handle_timeout) at [`deadline`](Chain::deadline). It reads from the
/// wire only while [`wants_read`](Chain::wants_read).
///
/// Nothing here calls back. The owner runs the protocol's code between two calls, and applies what
/// the protocol asked for with the methods below before it polls again.
///
/// ```
/// use tepal_base::Instant;
/// use tepal_layers::{Chain, Event, Lines, Place, Side, Stack, Turn, Workspace};
///
/// # fn main() -> Result<(), tepal_layers::Error> {
/// let workspace = Workspace::default();
/// let turn = Turn::new(Instant::ZERO, &workspace);
/// let stack = Stack::new().with(Lines::new(1024));
/// let mut chain = Chain::new(&stack, &Place::new(Side::Client), turn)?;
///
/// let mut wire = *b"one\ntwo\nthr";
/// chain.receive(turn, &mut wire);
/// let mut lines = Vec::new();
/// while let Some(event) = chain.poll_event(turn) {
///     if let Event::Data = event {
///         lines.push(chain.data().to_vec());
///         chain.took(chain.data().len(), turn);
///     }
/// }
/// assert_eq!(lines, [b"one", b"two"]);
///
/// chain.write(b"hello", turn)?;
/// assert!(chain.poll_event(turn).is_none()); // moves what was written
/// assert_eq!(chain.output().to_vec(), b"hello\n");
/// # Ok(())
/// # }
/// ```
pub struct Chain {
    floors: Vec<Floor>,
    links: Vec<Link>,
    // Bit i: floors[i] has something to do.
    dirty: u64,
    // What the pump may still move before it returns to its caller.
    budget: usize,
    limits: Limits,
    // The earliest of all deadlines, found at the end of each pumping.
    deadline: Option<Instant>,
    // Events of the chain itself, not in the order of bytes.
    events: VecDeque<Event>,
    waiting: Vec<change::Waiting>,
    place: Place,
    // The host that a layer on top of all others talks to, or talks through to.
    host: Option<Host>,
    // The layer that told the end of input; empty: the wire.
    eof_layer: Option<&'static str>,
    // The layer that the last notice was about.
    noticed: Option<LayerId>,
    // The protocol is not called with fewer bytes.
    low: usize,
    // Bytes at the top that the protocol has seen and left.
    offered: usize,
    failed: Option<Error>,
    phase: Phase,
    // A layer keeps writes apart, so the top marks them.
    framed: bool,
    announced: bool,
    received_eof: bool,
    wrote_eof: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    Closing,
    Closed,
    Failed,
}

struct Floor {
    layer: Box<dyn Layer>,
    id: LayerId,
    name: &'static str,
    // Bytes that the layer wants to see at least.
    need: usize,
    // Bytes that it has seen and left for want of more.
    left: usize,
    keeps_writes: bool,
    ready: bool,
    finishing: bool,
    // Its pop was asked for.
    popped: bool,
    // Failed, or cut off by a failure below: not stepped again.
    dead: bool,
    // The layer asked for the way up or down in its last step, and it was closed.
    refused_up: bool,
    refused_down: bool,
    // The layer's own deadline, and the chain's for its handshake or close.
    deadline: Option<Instant>,
    limit: Option<Instant>,
    late: Late,
}

/// More layers than this would be a mistake; the dirty bits have to fit a word.
const MOST_LAYERS: usize = 32;

impl Chain {
    /// Builds the layers of a stack, with the default limits and no keepsake.
    ///
    /// # Errors
    ///
    /// What a spec finds wrong with itself here.
    pub fn new(stack: &Stack, place: &Place, turn: Turn<'_>) -> Result<Chain, Error> {
        Chain::with(stack, place, Limits::default(), &mut Keepsakes::default(), turn)
    }

    /// Builds the layers of a stack.
    ///
    /// Nothing has been sent when it returns; the first [`poll_event`](Chain::poll_event) starts
    /// the handshakes.
    ///
    /// # Errors
    ///
    /// What a spec finds wrong with itself here, or that there are more than 32.
    pub fn with(
        stack: &Stack,
        place: &Place,
        limits: Limits,
        keepsakes: &mut Keepsakes,
        turn: Turn<'_>,
    ) -> Result<Chain, Error> {
        let mut chain = Chain {
            floors: Vec::with_capacity(stack.specs().len()),
            links: vec![Link::default()],
            dirty: 0,
            budget: usize::MAX,
            limits,
            deadline: None,
            events: VecDeque::new(),
            waiting: Vec::new(),
            place: place.clone(),
            host: None,
            eof_layer: None,
            noticed: None,
            low: 0,
            offered: 0,
            failed: None,
            phase: Phase::Open,
            framed: false,
            announced: false,
            received_eof: false,
            wrote_eof: false,
        };
        let mut host = place.host.clone();
        for spec in stack.specs() {
            let mut keepsake = keepsakes.take(spec);
            let mut site = Site {
                side: place.side,
                host: host.clone(),
                peer: place.peer,
                local: place.local,
                now: turn.now,
                keepsake: &mut keepsake,
            };
            let layer = guard::guard(|| spec.build(&mut site));
            let layer = layer.map_err(|error| error.in_layer(spec.name()));
            drop(keepsakes.keep(spec, keepsake));
            let floor = chain.make_floor(turn.workspace.layer_id(), layer?)?;
            chain.framed |= floor.keeps_writes;
            chain.floors.push(floor);
            chain.links.push(Link::default());
            host = spec.target().map(|(host, _)| host.clone()).or(host);
        }
        chain.host = host;
        chain.start_handshake(turn);
        chain.dirty = chain.all();
        Ok(chain)
    }

    /// Whether a layer waits for room in the output.
    #[inline]
    pub fn output_is_full(&self) -> bool {
        self.floors.first().is_some_and(|floor| floor.refused_down)
    }

    /// Moves what can be moved without telling anything: what there is to tell waits for
    /// [`poll_event`](Chain::poll_event).
    pub fn advance(&mut self, turn: Turn<'_>) {
        if self.dirty != 0 {
            self.pump(turn, &mut []);
        }
    }

    /// Sets how much the pump may move until the next call of this: bytes plus 64 per step of a
    /// layer. The owner sets it once per connection and turn, so that one connection cannot stall
    /// the others. Unlimited at first.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// Whether the budget ran out before the work did: poll again in the next turn.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.dirty != 0
    }

    /// When to call [`handle_timeout`](Chain::handle_timeout), if nothing happens before.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Bytes written and not yet taken by the wire, in all layers. O(1) in the bytes.
    #[inline]
    pub fn write_len(&self) -> usize {
        self.links.iter().map(|link| link.outbound.len()).sum()
    }

    /// Bytes received and not yet taken by the protocol, in all layers. O(1) in the bytes.
    pub fn read_len(&self) -> usize {
        self.links.iter().map(|link| link.inbound.len()).sum()
    }

    /// Whether each write is kept apart, because a layer makes a frame of it.
    pub fn keeps_writes(&self) -> bool {
        self.framed
    }

    /// The layers' names, from the wire upward.
    pub fn layers(&self) -> impl Iterator<Item = &'static str> {
        self.floors.iter().map(|floor| floor.name)
    }

    /// The layers with their ids, from the wire upward.
    pub fn layer_ids(
        &self,
    ) -> impl DoubleEndedIterator<Item = (LayerId, &'static str)> + ExactSizeIterator {
        self.floors.iter().map(|floor| (floor.id, floor.name))
    }

    /// After [`Event::Layer`]: the layer that it is about.
    pub fn noticed_layer(&self) -> Option<LayerId> {
        self.noticed
    }

    /// After [`Event::Eof`]: the layer that told the end (TLS: close_notify), or empty for the
    /// wire's end.
    pub fn eof_layer(&self) -> Option<&'static str> {
        self.eof_layer
    }

    /// Whether no layer is left, so that a wire with this chain is a plain one.
    pub fn is_plain(&self) -> bool {
        self.floors.is_empty() && self.waiting.is_empty()
    }

    /// Whether the wire can do without this chain from now on: no layer is left, everything has
    /// been told, and nothing is on its way but bytes that the protocol has left unread.
    pub fn is_spent(&self) -> bool {
        let Some(link) = self.links.first() else { return false };
        self.is_plain()
            && self.announced
            && self.phase == Phase::Open
            && self.failed.is_none()
            && self.events.is_empty()
            && !self.wrote_eof
            && link.outbound.is_idle()
            && !link.inbound.has_marks()
    }

    /// The layer whose handshake is under way: the lowest that is not ready.
    pub fn handshaking(&self) -> Option<&'static str> {
        self.floors.iter().find(|floor| !floor.ready).map(|floor| floor.name)
    }

    /// Why the chain failed, if it did.
    pub fn error(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    fn all(&self) -> u64 {
        (1 << self.floors.len()) - 1
    }

    fn make_floor(&self, id: LayerId, layer: Box<dyn Layer>) -> Result<Floor, Error> {
        if self.floors.len() >= MOST_LAYERS {
            return Err(Error::local(ErrorKind::InvalidSetting, "a chain has at most 32 layers"));
        }
        Ok(Floor {
            id,
            name: layer.name(),
            need: 0,
            left: 0,
            keeps_writes: layer.keeps_writes(),
            ready: false,
            finishing: false,
            popped: false,
            dead: false,
            refused_up: false,
            refused_down: false,
            deadline: None,
            limit: None,
            late: Late::Close,
            layer,
        })
    }

    // The lowest layer that is not ready has from now on its time.
    fn start_handshake(&mut self, turn: Turn<'_>) {
        if let Some(floor) = self.floors.iter_mut().find(|floor| !floor.ready)
            && floor.limit.is_none()
        {
            floor.limit = Some(turn.now + self.limits.handshake);
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("layers", &self.layers().collect::<Vec<_>>())
            .field("phase", &self.phase)
            .field("read_len", &self.read_len())
            .field("write_len", &self.write_len())
            .finish_non_exhaustive()
    }
}
