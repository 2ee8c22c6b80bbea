//! What the engine has to do, and to whom.

use tepal_driver::{Readiness, Signal};

use super::timers;
use super::{Host, ObjectKey, Outcome};
use crate::names::ResolverKey;

/// What waits in the ready queue.
///
/// Its tag is a word, so that a job lies at words behind it. Behind a byte it would be moved in
/// pieces that straddle its words, and whoever reads one of those next waits for all of them.
#[repr(u64)]
pub(crate) enum Work<H: Host> {
    Job(H::Job),
    Timer(timers::TimerKey<TimerWork<H>>),
    // What a look at the kernel found, and which look that was.
    Event(ObjectKey<H>, Readiness, u32),
    Object(ObjectKey<H>, Step),
    Complete(H::Completion, Box<Outcome>),
    Signal(Signal),
    Trigger(usize),
    // Nobody can fire it any more.
    Untrigger(usize),
}

/// What is due to happen to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Tell the protocol of its transport.
    Made,
    /// Start the connection attempt.
    Connect,
    /// There may be something to pull, or bytes that were kept to offer again.
    Read,
    /// There may be room to send, or a connect has ended.
    Write,
    /// Tell the protocol what changed on the sending side.
    Notify,
    /// The end has come: tell the protocol and let go.
    Lost,
    /// The object's own timer is due.
    Timeout,
    /// A stream's layers have something to move or to tell.
    Pump,
    /// A deadline of a stream's layers has passed.
    LayerTimeout,
    /// The question of an outbound stream is answered.
    Resolved,
    /// What is watched of an established stream may be due.
    Watch,
}

pub(crate) enum TimerWork<H: Host> {
    /// Runs once and is gone.
    Once(H::Job),
    /// A restartable timer.
    Repeat(H::Callback),
    /// A deadline of an object.
    Object(ObjectKey<H>),
    /// A deadline of a stream's layers.
    Layers(ObjectKey<H>),
    /// A limit of an established stream.
    Watch(ObjectKey<H>),
    /// The deadline of a resolver.
    Resolver(ResolverKey<H>),
}
