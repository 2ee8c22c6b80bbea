use std::io;

use crate::Waker;

/// A signal's number, as `kill -l` prints it.
pub type Signal = i32;

/// Where a loop hears of process signals.
///
/// The default source installs handlers with `sigaction`. A host whose language owns signal
/// dispositions (CPython) brings its own.
pub trait SignalSource {
    /// Starts listening for a signal; each arrival uses `waker` and is then told by
    /// [`take_pending`](SignalSource::take_pending).
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another loop listens for this signal, `InvalidInput` if it cannot be caught
    /// (SIGKILL, SIGSTOP) or is not a signal.
    fn subscribe(&mut self, signal: Signal, waker: &Waker) -> io::Result<()>;

    /// Stops listening and restores the disposition found by `subscribe`. `false` if this source
    /// did not listen for it.
    fn unsubscribe(&mut self, signal: Signal) -> io::Result<bool>;

    /// The signals that arrived since the last call, each once, in order of number. Appends.
    ///
    /// Signals are flags, not a queue: many arrivals between two calls may count as one, but one
    /// is never lost.
    fn take_pending(&mut self, pending: &mut Vec<Signal>);
}
