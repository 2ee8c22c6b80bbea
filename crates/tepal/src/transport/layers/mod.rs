//! Layers in the loop: a stream whose bytes pass through a chain of `tepal-layers`.
//!
//! While the pump runs it owns the chain: a layer may be user code, and so are the protocol's
//! callbacks in between. What a user asks for goes to the stream's [`Inbox`] at any time and is
//! applied by the pump, in order, before the next callback. What a user asks *about* is answered
//! from cells that the pump keeps up to date. So nothing is borrowed across user code.
//!
//! ```text
//!   protocol   write, close, push, pop ─▶ inbox ─▶ chain ─▶ output ─▶ kernel
//!              data, notices ◀─────────────────── chain ◀─────────── kernel
//! ```
//!
//! The bytes that have left the chain stand in the stream's own output, as those of a plain stream
//! do; the chain is emptied into it only while it is short, so that the layers feel the pressure.

mod build;
mod change;
mod inbox;
mod pump;
mod read;
mod requests;
mod tell;

use tepal_base::{ByteQueue, Instant};
use tepal_layers::{
    Chain, Host as Name, Info, Keepsakes, Layer, LayerId, Residual, Side, Stack, Turn,
};

pub(super) use inbox::{Inbox, Request};
pub(super) use pump::Feed;

use super::Closed;
use super::file::FilePart;
use super::read_out::ReadingOut;
use super::stream::{EndOutput, Phase, Stream};
use crate::engine::{Host, TimerKey};

/// What a stream's layers are made from. It belongs to the transport and survives attempts,
/// pushes and pops.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) stack: Stack,
    pub(super) side: Side,
    // The host that the wire leads to, if it is known by name.
    pub(super) host: Option<Name>,
    pub(super) keepsakes: Keepsakes,
    // The host that the topmost pushed layer leads to.
    pub(super) top: Option<Name>,
    // What the handshakes of this connection's layers have found out, from the wire upward.
    pub(super) infos: Vec<Found>,
    // In this connection layers came or went: what was written to it is not for one that begins
    // with the stack.
    pub(super) changed: bool,
}

/// What a layer's handshake has found out.
#[derive(Debug)]
pub(super) struct Found {
    layer: LayerId,
    name: &'static str,
    info: Info,
}

/// The layers of one stream, from its attempt on or from the first push.
pub(super) struct Layers<H: Host> {
    // None before the wire stands, and while the pump has it.
    pub(super) chain: Option<Box<Chain>>,
    pub(super) inbox: Inbox<H>,
    // ---- cells: as of the pump's last look
    // From the wire upward, with those that were pushed and wait for the pump.
    names: Vec<(LayerId, &'static str)>,
    // Bytes in all layers on their way out and in, and those at the wire.
    pub(super) write_len: usize,
    pub(super) read_len: usize,
    pub(super) wire_len: usize,
    // What was accepted and can never leave, because the chain has failed.
    pub(super) stranded: Vec<ByteQueue>,
    pub(super) stranded_len: usize,
    pub(super) wants_read: bool,
    pub(super) has_work: bool,
    pub(super) can_write_eof: bool,
    // What the chain was told last; see `Engine::sync_chain`.
    told: Told,
    pub(super) handshaking: Option<&'static str>,
    // The chain takes no other change now.
    pub(super) changing: bool,
    // The protocol is another one: it is shown what the last one left.
    pub(super) offer_again: bool,
    // Bytes of the protocol's are on their way, so that it is told once none is left; those of a
    // handshake are nothing to it.
    pub(super) owes_io_out: bool,
    // ---- time
    timer: Option<TimerKey<H>>,
    armed: Option<Instant>,
    pub(super) pump_queued: bool,
    // ---- what is under way
    // The owner has ended its writing.
    pub(super) wrote_eof: bool,
    // The layer that told the end of input; empty for the wire.
    pub(super) eof_layer: Option<&'static str>,
    pub(super) popping: Option<Popping<H>>,
    // Every layer has closed; the wire may be.
    pub(super) done: bool,
    // The chain has failed: what ends the connection once the last bytes (an alert) have left.
    pub(super) failed: Option<Box<Closed>>,
    // Sending has failed; what the peer said before is read to the end first.
    pub(super) write_failed: Option<Box<ReadingOut>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    paused: bool,
    low: usize,
    limit: usize,
}

/// A pop that somebody waits for.
pub(super) struct Popping<H: Host> {
    // None until the pump has begun it.
    layer: Option<LayerId>,
    completion: H::Completion,
}

/// What a lost stream's layers leave behind, to be dropped with nothing borrowed.
pub(in crate::transport) struct Lost<H: Host> {
    chain: Option<Box<Chain>>,
    files: Vec<FilePart<H>>,
    popping: Option<Popping<H>>,
    timer: Option<TimerKey<H>>,
}

/// A layer that is built and not yet put in.
pub(super) struct Pushed {
    id: LayerId,
    layer: Box<dyn Layer>,
    target: Option<Name>,
    below: Option<String>,
    residual: Residual,
}

impl<H: Host> Layers<H> {
    /// Who waits for a layer to close, or for a file to be sent.
    pub(super) fn completions(&self) -> impl Iterator<Item = &H::Completion> {
        let popping = self.popping.as_ref().map(|popping| &popping.completion);
        popping.into_iter().chain(self.inbox.files().filter_map(FilePart::completion))
    }

    /// The layers of a stack that are still to be built.
    pub(super) fn of(stack: &Stack) -> Layers<H> {
        let mut layers = Layers::new();
        layers.names = unbuilt(stack);
        // Unknown until then.
        layers.inbox.framed = true;
        layers
    }

    fn new() -> Layers<H> {
        Layers {
            chain: None,
            inbox: Inbox::new(),
            names: Vec::new(),
            write_len: 0,
            read_len: 0,
            wire_len: 0,
            stranded: Vec::new(),
            stranded_len: 0,
            wants_read: false,
            has_work: false,
            can_write_eof: true,
            told: Told { paused: false, low: 1, limit: 0 },
            handshaking: None,
            changing: false,
            offer_again: false,
            owes_io_out: false,
            timer: None,
            armed: None,
            pump_queued: false,
            wrote_eof: false,
            eof_layer: None,
            popping: None,
            done: false,
            failed: None,
            write_failed: None,
        }
    }

    fn has_named(&self, name: &str) -> bool {
        self.names.iter().any(|(_, own)| *own == name)
    }

    /// Bytes on their way out that have not reached the stream's output.
    pub(super) fn buffered(&self) -> usize {
        self.write_len + self.inbox.len() + self.stranded_len
    }

    /// The same before an attempt: what was asked for stays, and what the last one had is given
    /// back.
    pub(super) fn renew(&mut self, stack: &Stack) -> Lost<H> {
        let mut old = std::mem::replace(self, Layers::of(stack));
        self.inbox = old.inbox.take().renew();
        self.inbox.framed = true;
        self.popping = old.popping.take();
        Lost { chain: old.chain, files: Vec::new(), popping: None, timer: old.timer }
    }

    /// Whether the stream can do without: the last layer is gone, and nothing is on its way but
    /// what the protocol has left unread.
    fn is_spent(&self) -> bool {
        self.inbox.is_empty()
            && self.popping.is_none()
            && self.stranded_len == 0
            && !(self.wrote_eof || self.done)
            && self.failed.is_none()
            && self.write_failed.is_none()
            && self.chain.as_ref().is_some_and(|chain| chain.is_spent())
    }

    pub(super) fn lose(&mut self) -> Lost<H> {
        self.armed = None;
        Lost {
            chain: self.chain.take(),
            files: self.inbox.take_files(),
            popping: self.popping.take(),
            timer: self.timer.take(),
        }
    }

    // Brings the cells up to date.
    pub(super) fn look_at(&mut self, chain: &Chain) {
        self.write_len = chain.write_len();
        self.read_len = chain.read_len();
        self.wire_len = chain.output().len();
        self.wants_read = chain.wants_read();
    }

    // As above, where the layers themselves may have changed.
    pub(super) fn look_at_all(&mut self, chain: &Chain) {
        self.look_at(chain);
        self.has_work = chain.has_work();
        self.handshaking = chain.handshaking();
        self.changing = chain.is_changing();
        let ids = self.names.iter().map(|(id, _)| *id);
        if !chain.layer_ids().map(|(id, _)| id).eq(ids) {
            self.names.clear();
            self.names.extend(chain.layer_ids());
            for pushed in self.inbox.pushes() {
                insert_name(&mut self.names, pushed);
            }
        }
    }
}

/// The id of a layer that a stack names and that is not built yet.
const UNBUILT: LayerId = LayerId::from_bits(0);

fn unbuilt(stack: &Stack) -> Vec<(LayerId, &'static str)> {
    stack.names().map(|name| (UNBUILT, name)).collect()
}

fn insert_name(names: &mut Vec<(LayerId, &'static str)>, pushed: &Pushed) {
    let below = pushed.below.as_deref();
    let at = below.and_then(|below| names.iter().rposition(|(_, name)| *name == below));
    names.insert(at.unwrap_or(names.len()), (pushed.id, pushed.layer.name()));
}

impl<H: Host> Stream<H> {
    /// Takes the layers of a stream that is lost apart. Of an outbound one's, what another
    /// connection could still send goes back to the inbox.
    pub(super) fn lose_layers(&mut self, turn: Turn<'_>) -> Option<Lost<H>> {
        let mut lost = self.layers.as_mut()?.lose();
        if let Some(chain) = &mut lost.chain {
            self.take_back(chain, turn);
        }
        Some(lost)
    }

    fn take_back(&mut self, chain: &mut Chain, turn: Turn<'_>) {
        let Some(layers) = self.layers.as_mut().filter(|_| self.outbound.is_some()) else { return };
        let mut written = chain.take_written(turn);
        written.writes.append(&mut layers.stranded);
        if written.reaches_wire {
            written.writes.insert(0, std::mem::take(&mut self.output));
        }
        if !self.recipe.as_ref().is_some_and(|recipe| recipe.changed) {
            layers.inbox.put_back(written.writes, turn.workspace);
        }
        // From now on they are counted where they are.
        (layers.write_len, layers.stranded_len) = (0, 0);
    }

    /// Whether bytes pass between the kernel and this stream.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Established | Phase::Handshaking)
    }

    /// Whether the wire is to be read.
    #[inline]
    pub(super) fn wants_wire(&self) -> bool {
        match &self.layers {
            None => self.may_read(),
            Some(layers) => layers.wants_read && self.is_open(),
        }
    }

    /// Bytes that were written and that the kernel has not taken, in all layers.
    #[inline]
    pub(super) fn buffered(&self) -> usize {
        match &self.layers {
            None => self.output.len() + self.piped(),
            Some(layers) => self.output.len() + layers.buffered(),
        }
    }

    /// Whether a write of this many bytes is anything: none are an empty frame, where a layer makes
    /// frames of writes or may, and else nothing.
    #[inline]
    pub(super) fn takes_write(&self, len: usize) -> bool {
        len > 0 || self.layers.as_ref().is_some_and(|layers| layers.inbox.framed)
    }

    /// Whether the layers have something to move, or would move it to the output.
    #[inline]
    pub(super) fn has_layer_work(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| {
            layers.has_work
                || !layers.inbox.is_empty()
                || (layers.wire_len > 0 && self.output.len() < pump::OUTPUT)
        })
    }

    /// What has just left was the last of what there is.
    #[inline]
    pub(super) fn note_drained(&mut self) {
        self.drained |= self.wants_io_out
            && match &mut self.layers {
                None => true,
                Some(layers) => layers.buffered() == 0 && std::mem::take(&mut layers.owes_io_out),
            };
    }

    /// Whether it has a chain without a layer; see [`shed_layers`](Self::shed_layers).
    #[inline]
    pub(super) fn is_bare(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.names.is_empty())
    }

    /// Takes the layers away if the last of them is gone, and with them what a plain stream has no
    /// use for. What the protocol has left unread stays.
    pub(super) fn shed_layers(&mut self, turn: Turn<'_>) -> Option<Lost<H>> {
        let layers = self.layers.as_mut().filter(|layers| layers.names.is_empty())?;
        let plain = self.phase == Phase::Established
            && !self.closing
            && (self.relay.is_none() || layers.read_len == 0)
            // What a layer has said last is no write of the protocol's, and not told of as one.
            && (self.output.is_empty() || layers.owes_io_out)
            && layers.is_spent();
        let chain = layers.chain.as_mut().filter(|_| plain)?;
        let (unread, seen) = chain.take_unread(turn);
        self.offer = !unread.is_empty() && (!seen || layers.offer_again);
        self.unread = unread;
        self.layers.take().map(|mut layers| layers.lose())
    }

    /// Whether the pump is to be queued; marks it queued.
    pub(super) fn queue_pump(&mut self) -> bool {
        let open = self.is_open();
        match &mut self.layers {
            Some(layers) if open => !std::mem::replace(&mut layers.pump_queued, true),
            _ => false,
        }
    }

    /// Whether the peer has been told the end of our output.
    pub(super) fn has_told_end(&self) -> bool {
        match &self.layers {
            None => self.end_output == EndOutput::Done,
            Some(layers) => layers.wrote_eof && !self.has_output(),
        }
    }

    // Marks the stream as one to flush at the end of the turn. Whether it was not.
    pub(super) fn mark_dirty(&mut self) -> bool {
        self.is_open() && !std::mem::replace(&mut self.dirty, true)
    }
}
