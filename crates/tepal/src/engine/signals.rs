use std::collections::BTreeMap;
use std::io;

use tepal_driver::{Signal, SignalSource};

use super::{Engine, Flow, Host, Occasion, Work};

/// The signals that a loop listens for.
pub(super) struct Signals<H: Host> {
    source: Box<dyn SignalSource>,
    // None while the callback runs.
    callbacks: BTreeMap<Signal, Option<H::Callback>>,
    pending: Vec<Signal>,
}

impl<H: Host> Signals<H> {
    pub(super) fn new(source: Box<dyn SignalSource>) -> Signals<H> {
        Signals { source, callbacks: BTreeMap::new(), pending: Vec::new() }
    }

    pub(super) fn callbacks(&self) -> impl Iterator<Item = &H::Callback> {
        self.callbacks.values().flatten()
    }

    pub(super) fn take_callbacks(&mut self) -> BTreeMap<Signal, Option<H::Callback>> {
        std::mem::take(&mut self.callbacks)
    }

    pub(super) fn set_source(&mut self, source: Box<dyn SignalSource>) -> Box<dyn SignalSource> {
        std::mem::replace(&mut self.source, source)
    }
}

impl<H: Host> Engine<H> {
    /// Runs `callback` in a turn after the signal arrives, between other callbacks. A callback that
    /// was set before is replaced and returned.
    ///
    /// # Errors
    ///
    /// Those of [`SignalSource::subscribe`].
    pub fn signal_add(
        &self,
        signal: Signal,
        callback: H::Callback,
    ) -> io::Result<Option<H::Callback>> {
        let mut signals = self.core().signals.borrow_mut();
        if !signals.callbacks.contains_key(&signal) {
            signals.source.subscribe(signal, self.core().shared.waker())?;
        }
        Ok(signals.callbacks.insert(signal, Some(callback)).flatten())
    }

    /// Stops listening. The callback, or `None` if there was none.
    ///
    /// # Errors
    ///
    /// Those of [`SignalSource::unsubscribe`]; the callback is gone all the same.
    pub fn signal_remove(&self, signal: Signal) -> io::Result<Option<Option<H::Callback>>> {
        let mut signals = self.core().signals.borrow_mut();
        let Some(callback) = signals.callbacks.remove(&signal) else { return Ok(None) };
        signals.source.unsubscribe(signal)?;
        Ok(Some(callback))
    }

    /// Queues a signal of which the host has learnt by itself, if somebody listens for it.
    pub fn signal_arrived(&self, signal: Signal) {
        if self.core().signals.borrow().callbacks.contains_key(&signal) {
            self.core().ready.borrow_mut().push(Work::Signal(signal));
        }
    }

    /// Queues what has arrived. Whether there was something.
    pub(super) fn take_signals(&self) -> bool {
        let mut signals = self.core().signals.borrow_mut();
        if signals.callbacks.is_empty() {
            return false;
        }
        let mut pending = std::mem::take(&mut signals.pending);
        signals.source.take_pending(&mut pending);
        let any = !pending.is_empty();
        let mut ready = self.core().ready.borrow_mut();
        for signal in pending.drain(..) {
            ready.push(Work::Signal(signal));
        }
        signals.pending = pending;
        any
    }

    pub(super) fn run_signal(&self, signal: Signal) -> Flow {
        let place = |engine: &Self| {
            engine.core().signals.borrow_mut().callbacks.get_mut(&signal).and_then(Option::take)
        };
        let Some(mut callback) = place(self) else { return Flow::Continue(()) };
        let flow = self.host().call(self, &mut callback, Occasion::Signal(signal));
        let mut signals = self.core().signals.borrow_mut();
        let unused = match signals.callbacks.get_mut(&signal) {
            Some(place @ None) => {
                *place = Some(callback);
                None
            }
            // Removed or replaced by itself.
            _ => Some(callback),
        };
        drop(signals);
        drop(unused);
        flow
    }

    /// Forgets all signals; returns the callbacks to drop.
    pub(super) fn close_signals(&self) -> Vec<H::Callback> {
        let mut signals = self.core().signals.borrow_mut();
        let callbacks = std::mem::take(&mut signals.callbacks);
        for signal in callbacks.keys() {
            // The loop goes away; there is nobody left to tell.
            let _ = signals.source.unsubscribe(*signal);
        }
        callbacks.into_values().flatten().collect()
    }
}
