use super::{Engine, Host, Object, TimerWork, Work};

/// A value of the host's that an engine keeps.
#[allow(missing_debug_implementations, reason = "it lends values that need not be printable")]
#[non_exhaustive]
pub enum Held<'a, H: Host> {
    /// A job that is queued or waits for its deadline.
    Job(&'a H::Job),
    /// A job that another thread has handed over and the loop has not seen.
    RemoteJob(&'a H::RemoteJob),
    /// The callback of a timer, a watcher, a signal or a trigger.
    Callback(&'a H::Callback),
    /// Who hears of the end of an operation.
    Completion(&'a H::Completion),
    /// The protocol of a stream.
    Protocol(&'a H::Protocol),
    /// The protocol of a datagram endpoint.
    DatagramProtocol(&'a H::DatagramProtocol),
    /// What makes a listener's protocols.
    Factory(&'a H::Factory),
}

impl<H: Host> Engine<H> {
    /// Shows the queued jobs in their order. `visit` must not call the engine.
    pub fn visit_queued(&self, visit: impl FnMut(&H::Job)) {
        let ready = self.core().ready.borrow();
        let jobs = ready.iter().filter_map(|work| match work {
            Work::Job(job) => Some(job),
            _ => None,
        });
        jobs.for_each(visit);
    }

    /// Shows every job, queued or waiting for its deadline. `visit` must not call the engine.
    pub fn visit_jobs(&self, mut visit: impl FnMut(&H::Job)) {
        self.visit_queued(&mut visit);
        for work in self.core().timers.borrow().works() {
            if let TimerWork::Once(job) = work {
                visit(job);
            }
        }
    }

    /// Shows every value of the host's that the engine keeps, for a host whose collector must know
    /// what is reachable (Python's `tp_traverse`).
    ///
    /// A value that is being called has been moved out and is not shown: its caller holds it. The
    /// same is true of all of them if this is called from inside the engine. `visit` must not call
    /// the engine; it stops the visit by an error.
    ///
    /// # Errors
    ///
    /// What `visit` returned.
    pub fn visit<E>(&self, mut visit: impl FnMut(Held<'_, H>) -> Result<(), E>) -> Result<(), E> {
        let core = self.core();
        if let Ok(ready) = core.ready.try_borrow() {
            ready.iter().try_for_each(|work| match work {
                Work::Job(job) => visit(Held::Job(job)),
                Work::Complete(completion, _) => visit(Held::Completion(completion)),
                _ => Ok(()),
            })?;
        }
        if let Ok(timers) = core.timers.try_borrow() {
            timers.works().try_for_each(|work| match work {
                TimerWork::Once(job) => visit(Held::Job(job)),
                TimerWork::Repeat(callback) => visit(Held::Callback(callback)),
                _ => Ok(()),
            })?;
        }
        if let Ok(objects) = core.objects.try_borrow() {
            objects.iter().try_for_each(|(_, object)| match object {
                Object::Stream(stream) => stream.visit(&mut visit),
                Object::Datagram(endpoint) => endpoint.visit(&mut visit),
                Object::Listener(listener) => listener.visit(&mut visit),
                Object::Watch(watch) => watch.visit(&mut visit),
                Object::Child(child) => child.visit(&mut visit),
                Object::Exchange(_) => Ok(()),
            })?;
        }
        if let Ok(names) = core.names.try_borrow() {
            names.completions().try_for_each(|completion| visit(Held::Completion(completion)))?;
        }
        if let Ok(triggers) = core.triggers.try_borrow() {
            triggers.values().flatten().try_for_each(|callback| visit(Held::Callback(callback)))?;
        }
        if let Ok(signals) = core.signals.try_borrow() {
            signals.callbacks().try_for_each(|callback| visit(Held::Callback(callback)))?;
        }
        core.shared.visit(|job| visit(Held::RemoteJob(job)))
    }
}
