//! Another attempt: asked for, or planned.

use std::time::Duration;

use tepal_base::{ByteQueue, Instant};
use tepal_driver::Descriptor;
use tepal_layers::{Stack, Workspace};

use super::{At, Reaching};
use crate::engine::{Engine, Flow, Host, Step, StreamKey, stream};
use crate::transport::layers::{Inbox, Layers, Lost};
use crate::transport::stream::{EndOutput, Phase, Stream};
use crate::transport::{CloseKind, Closed};

/// Where a new attempt begins.
///
/// ```
/// use tepal::{Closed, EventLoop, Protocol, Restart, Transport, Unsent};
///
/// /// Comes again once, with what has not left.
/// struct Again(bool);
///
/// impl Protocol for Again {
///     fn connection_established(&mut self, transport: &Transport) {
///         transport.close();
///     }
///     fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
///         match std::mem::take(&mut self.0) {
///             true => drop(transport.reconnect_with(None, Restart::Connect, Unsent::Keep)),
///             false => transport.event_loop().stop(),
///         }
///     }
/// }
/// # struct Quiet;
/// # impl Protocol for Quiet {}
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = EventLoop::new()?;
/// let server = event_loop.listen(|_: &tepal::Address| Quiet, "127.0.0.1:0")?;
/// let at = server.local_addresses()[0].as_ip().expect("an IP address");
/// event_loop.connect(Again(true), at);
/// event_loop.run_forever()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Restart {
    /// With the name: a peer that has moved is found.
    #[default]
    Resolve,
    /// With the addresses that are known, if any are.
    Connect,
}

/// What becomes of bytes that were written to an established connection and have not left.
///
/// Bytes written *before* a connection is established always wait for it, through all attempts.
///
/// ```
/// use tepal::{Closed, EventLoop, Protocol, Restart, Transport, Unsent};
///
/// /// Comes again once, with what has not left.
/// struct Again(bool);
///
/// impl Protocol for Again {
///     fn connection_established(&mut self, transport: &Transport) {
///         transport.close();
///     }
///     fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
///         match std::mem::take(&mut self.0) {
///             true => drop(transport.reconnect_with(None, Restart::Connect, Unsent::Keep)),
///             false => transport.event_loop().stop(),
///         }
///     }
/// }
/// # struct Quiet;
/// # impl Protocol for Quiet {}
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = EventLoop::new()?;
/// let server = event_loop.listen(|_: &tepal::Address| Quiet, "127.0.0.1:0")?;
/// let at = server.local_addresses()[0].as_ip().expect("an IP address");
/// event_loop.connect(Again(true), at);
/// event_loop.run_forever()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Unsent {
    /// They are dropped, and [`Closed::unsent`] counts them: a peer that has lost its state could
    /// not make sense of the middle of a conversation.
    #[default]
    Drop,
    /// They are sent on the next connection, in order and once, as far as it is certain that no
    /// peer has got them and they still are what was written:
    ///
    /// * without layers, what the kernel has not taken;
    /// * with layers, what none of them has changed: TLS takes no more than it can encrypt at once,
    ///   so of a long write nearly all is kept; a rate limit changes nothing, so that all is;
    /// * with framing layers, whole frames: one of which a part is gone is dropped whole.
    ///
    /// The rest is dropped: what a layer has made of it is of no use to another connection's, or
    /// nobody can say whether it arrived. So is what was written behind a file whose sending was
    /// broken off, and all that was written once layers were pushed or taken out, because the next
    /// connection begins without them: what was meant for TLS is never sent in clear.
    ///
    /// [`Closed::unsent`] counts everything that has not left, kept or not.
    Keep,
}

/// Bytes to be dropped with nothing borrowed.
type Dropped<H> = (ByteQueue, Option<Inbox<H>>);

/// A new attempt that was asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct Again {
    // `None`: the plan's next wait, else none.
    pub(super) delay: Option<Duration>,
    pub(super) restart: Restart,
    pub(super) unsent: Unsent,
}

impl Again {
    pub(super) fn resolves(self) -> bool {
        self.restart == Restart::Resolve
    }

    pub(in crate::transport) fn keeps(self) -> bool {
        self.unsent == Unsent::Keep
    }
}

impl<H: Host> Engine<H> {
    /// Makes a new attempt with the same protocol, after `delay`; `None`: after the next wait of
    /// the stream's [`Backoff`](super::Backoff), without one at once.
    ///
    /// Legal in every callback, `connection_lost` included, and between them:
    /// * while an attempt runs, that one is given up without being told;
    /// * on an established connection, that one is lost first
    ///   ([`CloseKind::Reconnecting`]), and `connection_lost` is told;
    /// * while the stream waits, it waits anew;
    /// * after `close`, it stays alive after all.
    ///
    /// `connection_made` is not told again; `connection_established` is, with each success.
    /// Returns `false` if this is no outbound stream, or it is gone.
    pub fn stream_reconnect(
        &self,
        key: StreamKey<H>,
        delay: Option<Duration>,
        restart: Restart,
        unsent: Unsent,
    ) -> bool {
        let phase = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return false };
            if stream.lingering {
                return false;
            }
            let Some(reaching) = &mut stream.outbound else { return false };
            reaching.again = Some(Again { delay, restart, unsent });
            reaching.given_up = false;
            stream.phase
        };
        match phase {
            // Its first attempt begins soon, and this asks for no other; but for the delay.
            Phase::Attached | Phase::Waiting => self.stream_wait(key),
            // In a hook this is the way on; else the attempt ends here.
            Phase::Resolving | Phase::Connecting | Phase::Handshaking | Phase::Established => {
                self.stream_lose(key, Closed::new(CloseKind::Reconnecting));
            }
            // Its end is about to be told, or being told.
            Phase::Lost => {}
        }
        true
    }

    /// Whether a lost stream is to try again: asked for, or by its plan. What it says then stands
    /// in `again`.
    pub(in crate::transport) fn stream_plans(&self, key: StreamKey<H>) -> bool {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return false };
        let Some(reaching) = &mut stream.outbound else { return false };
        if reaching.again.is_some() {
            return true;
        }
        let Some(backoff) = reaching.to.backoff.filter(|_| !reaching.given_up) else {
            return false;
        };
        let delay = backoff.delay(reaching.retries, self.chance());
        reaching.again = delay.map(|delay| Again {
            delay: Some(delay),
            restart: Restart::Resolve,
            unsent: Unsent::Drop,
        });
        reaching.retries += u32::from(delay.is_some());
        delay.is_some()
    }

    // A random number from 0 to 1.
    fn chance(&self) -> f64 {
        let mut bytes = [0; 8];
        // Without entropy all waits are the plan's own: still a plan.
        match self.entropy(&mut bytes) {
            Ok(()) => (u64::from_ne_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64,
            Err(_) => 0.5,
        }
    }

    /// Brings a lost stream back to where an attempt may begin, and begins to wait.
    pub(in crate::transport) fn stream_revive(&self, key: StreamKey<H>) {
        let core = self.core();
        let (old, dropped, relieved) = {
            let mut objects = core.objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            let (old, dropped) = stream.rewind(&core.workspace);
            (old, dropped, stream.relieve())
        };
        // Bytes may be a host's memory, whose release is its code.
        drop(dropped);
        if let Some(descriptor) = old {
            // There is nobody to tell, and the token is gone either way.
            let _ = core.driver.borrow_mut().close(descriptor);
        }
        if relieved {
            self.push_step(key, Step::Notify);
        }
        self.stream_wait(key);
    }

    /// Waits as long as was asked for.
    fn stream_wait(&self, key: StreamKey<H>) {
        let delay = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            let Some(reaching) = &mut stream.outbound else { return };
            let Some(again) = reaching.again else { return };
            stream.phase = Phase::Waiting;
            match (again.delay, reaching.to.backoff) {
                (Some(delay), _) => delay,
                (None, Some(backoff)) => {
                    let delay = backoff.delay(reaching.retries, self.chance());
                    reaching.retries = reaching.retries.saturating_add(1);
                    // Whoever asks gets another attempt, though the plan has no more of them.
                    delay.unwrap_or(backoff.most)
                }
                (None, None) => Duration::ZERO,
            }
        };
        self.arm_stream_at(key, self.now() + delay);
    }

    /// A phase before the connection has used up its time.
    pub(in crate::transport) fn stream_reach_timeout(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let phase = stream.phase;
        let question = match stream.outbound.as_ref().map(|reaching| &reaching.step) {
            Some(At::Resolving(question)) if question.deadline <= now => Some(question.lookup),
            _ => None,
        };
        drop(objects);
        match (phase, question) {
            (Phase::Waiting, _) => self.push_step(key, Step::Connect),
            (Phase::Connecting, _) => return self.stream_connect_timeout(key),
            (Phase::Resolving, Some(lookup)) => return self.stream_resolve_timeout(key, lookup),
            _ => {}
        }
        Flow::Continue(())
    }

    pub(in crate::transport) fn arm_stream_at(&self, key: StreamKey<H>, deadline: Instant) {
        let old = stream(&mut self.core().objects.borrow_mut(), key).and_then(|s| s.timer);
        let timer = self.arm_object(key, old, deadline);
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.timer = Some(timer);
        }
    }
}

impl<H: Host> Reaching<H> {
    /// A connection has ended: if it stood for long enough, the plan begins anew.
    pub(in crate::transport) fn note_stood(&mut self, now: Instant) {
        let steady = self.to.backoff.map_or(Duration::ZERO, |backoff| backoff.steady);
        if self.was_established && now.since(self.stands) >= steady {
            self.retries = 0;
        }
    }
}

impl<H: Host> Stream<H> {
    /// Forgets the last connection. What is set by users stays: limits, the pause, what was
    /// written for the next one. Gives back the descriptor to close.
    fn rewind(&mut self, workspace: &Workspace) -> (Option<Descriptor>, Dropped<H>) {
        let changed = self.recipe.as_mut().is_some_and(|r| std::mem::take(&mut r.changed));
        let keeps = self.outbound.as_ref().is_some_and(|reaching| {
            !reaching.was_established || reaching.again.is_some_and(Again::keeps)
        }) && !changed;
        let dropped = match keeps {
            true => Dropped::<H>::default(),
            false => self.drop_output(),
        };
        self.readable = false;
        self.peer_eof = false;
        self.offer = false;
        self.unread.clear();
        self.sent = 0;
        self.dirty = false;
        self.blocked = false;
        self.end_output = EndOutput::No;
        self.drained = false;
        self.closing = false;
        self.closed = None;
        let kept = self.layers.take().map(|mut layers| layers.inbox.take());
        self.layers = self.forget_layers().map(|stack| {
            let mut layers = Layers::of(&stack);
            match kept {
                Some(kept) => layers.inbox = kept.of_writes(workspace),
                // They were to go out as they are; they pass the layers now.
                None => layers.inbox.adopt(std::mem::take(&mut self.output)),
            }
            layers.inbox.framed = true;
            Box::new(layers)
        });
        (self.descriptor.take(), dropped)
    }

    // What the layers of the last connection left is gone; the stack for the next one, if any.
    fn forget_layers(&mut self) -> Option<Stack> {
        let recipe = self.recipe.as_mut()?;
        recipe.infos.clear();
        recipe.top = None;
        (!recipe.stack.is_empty()).then(|| recipe.stack.clone())
    }

    /// Forgets the layers of an address whose handshake failed; the next one's are still to be
    /// built. What was written waits on.
    pub(super) fn rewind_layers(&mut self) -> (Option<Lost<H>>, ByteQueue) {
        self.readable = false;
        self.peer_eof = false;
        self.blocked = false;
        self.dirty = false;
        self.unanswered = false;
        let stack = self.forget_layers().unwrap_or_default();
        let lost = self.layers.as_mut().map(|layers| layers.renew(&stack));
        (lost, std::mem::take(&mut self.output))
    }

    /// What was dropped may have made room. Whether the protocol is to be told.
    fn relieve(&mut self) -> bool {
        if self.over && self.buffered() <= self.low {
            self.over = false;
            // A host that calls pause_writing itself has done so.
            self.told_over |= !self.tell_pressure;
        }
        let tell = self.told_over && !self.over && !self.notify_queued;
        self.notify_queued |= tell;
        tell
    }

    /// Takes what can never be sent on another connection: what a layer has made of it, or what
    /// comes behind a file.
    pub(in crate::transport) fn drop_sealed(&mut self, workspace: &Workspace) -> Dropped<H> {
        let first = self.files.as_ref().and_then(|files| files.front());
        let before = first.map(|part| usize::try_from(part.at - self.sent).unwrap_or(0));
        let keeps = match (&self.layers, before) {
            (Some(_), _) => 0,
            (None, before) => before.unwrap_or(usize::MAX).min(self.output.len()),
        };
        let mut kept = ByteQueue::new();
        self.output.move_to(keeps, &mut kept, &mut workspace.pool());
        (std::mem::replace(&mut self.output, kept), None)
    }

    /// Takes all that was written and has not left.
    pub(in crate::transport) fn drop_output(&mut self) -> Dropped<H> {
        let inbox = self.layers.as_mut().map(|layers| layers.inbox.take());
        (std::mem::take(&mut self.output), inbox)
    }
}
