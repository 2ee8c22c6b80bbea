use std::mem;

use super::timers::Timers;
use super::{Engine, Host, State};
use crate::names::Names;

impl<H: Host> Engine<H> {
    /// For the child process, after a `fork`: lets go of all that the parent's loop has, without a
    /// sign to the parent or to a peer.
    ///
    /// The child's copies of descriptors are closed, since a copy would keep a connection open that
    /// the parent has closed. Nothing is called, and nothing of the host's is dropped, because its
    /// destructors might write to what is the parent's. The loop is closed from then on; a run that
    /// the fork happened in ends when its current callback returns.
    ///
    /// The driver goes too: its kernel objects (an epoll set, a wake-up) are shared with the parent
    /// and must not be touched.
    pub fn abandon_after_fork(&self) {
        let core = self.core();
        core.state.set(State::Closed);
        core.stopping.set(true);
        mem::forget(core.ready.borrow_mut().take_all());
        mem::forget(core.timers.replace(Timers::new()));
        mem::forget(core.objects.borrow_mut().drain());
        mem::forget(core.names.replace(Names::new()));
        mem::forget(mem::take(&mut *core.triggers.borrow_mut()));
        mem::forget(core.signals.borrow_mut().take_callbacks());
        core.watched.borrow_mut().clear();
        core.dirty.borrow_mut().clear();
        core.pipes.borrow_mut().clear();
        // Closes descriptors, and does nothing to what the kernel has registered.
        self.retire_driver();
    }
}
