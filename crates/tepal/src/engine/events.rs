//! What the kernel has reported, object by object.

use tepal_driver::Readiness;

use super::{Engine, Flow, Host, Object, ObjectKey, Step};

impl<H: Host> Engine<H> {
    /// What the kernel has reported of an object. A key whose object is gone is harmless.
    #[inline]
    pub(super) fn run_event(&self, key: ObjectKey<H>, readiness: Readiness, look: u32) -> Flow {
        let readable =
            readiness.intersects(Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR);
        let writable = readiness.intersects(Readiness::WRITABLE | Readiness::ERROR);
        let mut objects = self.core().objects.borrow_mut();
        match objects.get_mut(key) {
            Some(Object::Stream(stream)) => {
                stream.readable |= readable;
                // Room first: a reply that waits goes out before more is read.
                if writable && stream.note_writable() {
                    drop(objects);
                    return self.run_both(key);
                }
                if stream.queue_read() {
                    return self.stream_read(key, objects);
                }
                // One of a race's handshakes may have got something.
                let shakes = readable && stream.is_connecting() && stream.note_writable();
                drop(objects);
                if shakes { self.run_step(key, Step::Write) } else { Flow::Continue(()) }
            }
            Some(Object::Datagram(endpoint)) => {
                endpoint.readable |= readable;
                if writable && endpoint.note_writable() {
                    drop(objects);
                    return self.run_both(key);
                }
                let read = endpoint.queue_read();
                drop(objects);
                if read { self.datagram_step(key, Step::Read) } else { Flow::Continue(()) }
            }
            Some(Object::Listener(listener)) => {
                let due = listener.note_readable(look);
                drop(objects);
                if due {
                    return self.listener_accept(key);
                }
                self.listener_ignore(key);
                Flow::Continue(())
            }
            // A level is reported by each look for itself: what an earlier one has left behind (a
            // run was broken off) says nothing new.
            Some(Object::Watch(_)) if look != self.core().looks.get() => Flow::Continue(()),
            Some(Object::Watch(_)) => {
                drop(objects);
                self.run_watch(key, readiness)
            }
            Some(Object::Child(_)) => {
                drop(objects);
                self.child_step(key)
            }
            Some(Object::Exchange(_)) => {
                drop(objects);
                if writable {
                    // It calls nobody who could break the run.
                    self.exchange_step(key, Step::Write)?;
                }
                if readable { self.exchange_step(key, Step::Read) } else { Flow::Continue(()) }
            }
            None => Flow::Continue(()),
        }
    }

    // There is room, and then there may be something to read, in one place of the queue.
    fn run_both(&self, key: ObjectKey<H>) -> Flow {
        let flow = self.run_step(key, Step::Write);
        let read = match self.core().objects.borrow_mut().get_mut(key) {
            Some(Object::Stream(stream)) => stream.queue_read(),
            Some(Object::Datagram(endpoint)) => endpoint.queue_read(),
            _ => false,
        };
        match (read, flow) {
            (false, flow) => flow,
            (true, Flow::Continue(())) => self.run_step(key, Step::Read),
            (true, Flow::Break(())) => {
                self.push_step(key, Step::Read);
                flow
            }
        }
    }
}
