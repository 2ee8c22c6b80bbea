//! From the kernel to the layers.

use std::cell::RefMut;
use std::io;

use tepal_base::Slab;
use tepal_layers::Turn;

use super::Feed;
use crate::engine::{Engine, Flow, Host, Object, Step, StreamKey, stream};

impl<H: Host> Engine<H> {
    /// One read of a layered stream, and what its layers and its protocol make of it.
    pub(in crate::transport) fn stream_read_layered(
        &self,
        key: StreamKey<H>,
        mut objects: RefMut<'_, Slab<Object<H>>>,
    ) -> Flow {
        let core = self.core();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        let write_failed = stream.layers.as_ref().is_some_and(|l| l.write_failed.is_some());
        let due = stream.readable && (stream.wants_wire() || write_failed) && stream.is_open();
        let (true, Some(descriptor)) = (due, stream.descriptor) else {
            return Flow::Continue(());
        };
        let mut received = core.driver.borrow_mut().receive(descriptor, self.take_scratch());
        // Before the layers and the protocol run: they may pause and resume.
        let ended = match &received.result {
            Ok(0) => !received.buffer.is_empty(),
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        let more = received.more && !ended;
        stream.readable = more;
        let turn = Turn::new(self.now(), &core.workspace);
        let feed = match received.result {
            Ok(0) if ended => Feed::Eof,
            Ok(count) => {
                if let Some(watch) = &mut stream.watch {
                    watch.note_in(turn.now);
                }
                Feed::Bytes(&mut received.buffer[..count])
            }
            Err(error) if ended => Feed::Error(tepal_layers::Error::os(&error)),
            Err(_) => Feed::Nothing,
        };
        let taken = stream.take_chain(turn);
        drop(objects);
        // Whether to read on the pump sees to.
        let flow = self.stream_pump_taken(key, taken, feed, turn);
        self.give_scratch(received.buffer);
        flow?;
        if write_failed {
            self.read_after_write_failure(key, more);
        }
        Flow::Continue(())
    }

    // A stream that cannot send any more is read on, whatever its layers say, until there is
    // nothing left or what the peer has said explains it.
    fn read_after_write_failure(&self, key: StreamKey<H>, more: bool) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key).filter(|s| s.is_open()) else { return };
        let Some(layers) = &mut stream.layers else { return };
        if layers.failed.is_some() {
            return;
        }
        if more && layers.write_failed.as_mut().is_none_or(|end| end.may_read_on()) {
            if !std::mem::replace(&mut stream.read_queued, true) {
                self.push_step(key, Step::Read);
            }
            return;
        }
        let end = layers.write_failed.take();
        drop(objects);
        if let Some(end) = end {
            self.stream_lose(key, end.closed);
        }
    }
}
