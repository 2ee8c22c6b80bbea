use std::io;
use std::sync::{Arc, Mutex};

use tepal_driver::{Signal, SignalSource, Waker};

use crate::kernel::lock;
use crate::state::{State, Subscription};

/// The simulated signals of one driver; [`SimKernel::raise`](crate::SimKernel::raise) sends them.
pub(crate) struct SimSignals {
    state: Arc<Mutex<State>>,
    driver: usize,
    // Which source of the driver this is.
    source: u64,
}

impl SimSignals {
    pub(crate) fn new(state: Arc<Mutex<State>>, driver: usize) -> SimSignals {
        let source = {
            let mut state = lock(&state);
            let driver = state.driver(driver);
            driver.sources += 1;
            driver.sources
        };
        SimSignals { state, driver, source }
    }

    /// Runs on the driver's subscriptions; nothing if the driver is gone.
    fn with<R>(
        &self,
        run: impl FnOnce(&mut std::collections::BTreeMap<Signal, Subscription>) -> R,
    ) -> Option<R> {
        let mut state = lock(&self.state);
        state.drivers[self.driver].as_mut().map(|driver| run(&mut driver.signals))
    }
}

impl SignalSource for SimSignals {
    fn subscribe(&mut self, signal: Signal, waker: &Waker) -> io::Result<()> {
        if !(1..=64).contains(&signal) || signal == libc::SIGKILL || signal == libc::SIGSTOP {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let source = self.source;
        let waker = Arc::clone(waker);
        // A waker that is replaced is dropped outside the lock: its destructor is not ours.
        let outcome = self.with(|signals| match signals.get(&signal) {
            Some(other) if other.source != source => Err(waker),
            _ => Ok(signals.insert(signal, Subscription { source, waker, pending: false })),
        });
        match outcome {
            Some(Ok(_replaced)) => Ok(()),
            Some(Err(_unused)) => Err(io::ErrorKind::AddrInUse.into()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn unsubscribe(&mut self, signal: Signal) -> io::Result<bool> {
        let source = self.source;
        let removed = self.with(|signals| match signals.get(&signal) {
            Some(own) if own.source == source => signals.remove(&signal),
            _ => None,
        });
        Ok(removed.flatten().is_some())
    }

    fn take_pending(&mut self, pending: &mut Vec<Signal>) {
        let source = self.source;
        self.with(|signals| {
            for (signal, subscription) in signals.iter_mut() {
                if subscription.source == source && std::mem::take(&mut subscription.pending) {
                    pending.push(*signal);
                }
            }
        });
    }
}

impl Drop for SimSignals {
    fn drop(&mut self) {
        let source = self.source;
        let removed = self.with(|signals| {
            let own: Vec<_> = signals
                .iter()
                .filter(|(_, subscription)| subscription.source == source)
                .map(|(signal, _)| *signal)
                .collect();
            own.iter().filter_map(|signal| signals.remove(signal)).collect::<Vec<_>>()
        });
        // Here the lock is free again, and wakers may be dropped.
        drop(removed);
    }
}
