//! From the kernel to the protocol.

use std::cell::RefMut;
use std::io;
use std::ops::ControlFlow;

use tepal_base::{Buffer, Slab};
use tepal_driver::{Descriptor, Half};

use super::Closed;
use super::stream::{Phase, Stream};
use super::stream_options::Reads;
use crate::engine::{
    Consumed, Core, Engine, Flow, Host, Object, Step, StreamKey, StreamProtocol, stream,
};

impl<H: Host> Stream<H> {
    /// What a plain read needs: the descriptor and the protocol, which is taken out. `None` unless
    /// new bytes may go straight to the protocol, all of them.
    #[inline]
    fn take_plain(&mut self) -> Option<(Descriptor, H::Protocol)> {
        let plain = self.phase == Phase::Established
            && self.readable
            && self.reads == Reads::Bytes
            && !(self.paused | self.closing | self.peer_eof | self.offer | self.may_lend)
            && self.read_low == 1
            && self.relay.is_none()
            && self.layers.is_none()
            && self.watch.is_none()
            && self.send_failure.is_none()
            && self.unread.is_empty();
        let descriptor = self.descriptor.filter(|_| plain)?;
        Some((descriptor, self.protocol.take()?))
    }
}

/// While a protocol is given bytes of a stream: what it writes there need not be listed for the end
/// of the turn, because a flush follows at once.
pub(super) struct Reading<'a, H: Host> {
    core: &'a Core<H>,
    key: StreamKey<H>,
    outer: Option<StreamKey<H>>,
}

impl<'a, H: Host> Reading<'a, H> {
    #[inline]
    pub(super) fn begin(core: &'a Core<H>, key: StreamKey<H>) -> Self {
        Reading { core, key, outer: core.reading.replace(Some(key)) }
    }
}

impl<H: Host> Drop for Reading<'_, H> {
    #[inline]
    fn drop(&mut self) {
        self.core.reading.set(self.outer);
        // A panic passes through, and with it what follows here.
        if std::thread::panicking() {
            self.core.dirty.borrow_mut().push(self.key);
        }
    }
}

impl<H: Host> Engine<H> {
    /// One read of at most 256 KiB, and what the protocol makes of it. More waits for the next
    /// turn, so that one peer cannot hold up the others.
    pub(crate) fn stream_read(
        &self,
        key: StreamKey<H>,
        mut objects: RefMut<'_, Slab<Object<H>>>,
    ) -> Flow {
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        stream.read_queued = false;
        if let Some(plain) = stream.take_plain() {
            return self.read_plain(key, objects, plain);
        }
        if stream.lingering {
            drop(objects);
            return self.drain(key);
        }
        if stream.reads != Reads::Bytes {
            drop(objects);
            self.stream_reader_gone(key);
            return Flow::Continue(());
        }
        if stream.is_reading_out() {
            drop(objects);
            return self.read_out(key);
        }
        self.stream_read_on_long_way(key, objects)
    }

    /// What [`stream_read`](Self::stream_read) does where anything is out of the ordinary.
    pub(super) fn stream_read_on_long_way(
        &self,
        key: StreamKey<H>,
        mut objects: RefMut<'_, Slab<Object<H>>>,
    ) -> Flow {
        let core = self.core();
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        if stream.layers.is_some() {
            return self.stream_read_layered(key, objects);
        }
        if !stream.may_read() {
            return Flow::Continue(());
        }
        if stream.offer {
            drop(objects);
            self.offer_unread(key, &[], false)?;
            self.read_on(key);
            return Flow::Continue(());
        }
        let (true, Some(descriptor)) = (stream.readable && !stream.peer_eof, stream.descriptor)
        else {
            return Flow::Continue(());
        };
        let joined = stream.relay.is_some();
        let may_lend = stream.may_lend;
        drop(objects);
        if joined {
            return self.stream_read_joined(key, descriptor);
        }
        let lent = match may_lend {
            true => match self.call_lend(key, crate::engine::READ_LEN)? {
                Some(lent) => lent,
                // Gone, or failed.
                None => return Flow::Continue(()),
            },
            false => None,
        };
        let is_lent = lent.is_some();
        let target = lent.unwrap_or_else(|| self.take_scratch());
        let received = core.driver.borrow_mut().receive(descriptor, target);
        if let Some(stream) = self::stream(&mut core.objects.borrow_mut(), key) {
            stream.readable = received.more;
        }
        let flow = match received.result {
            Ok(0) if !received.buffer.is_empty() => {
                self.give_back(key, received.buffer, is_lent, 0)?;
                return self.stream_eof(key);
            }
            Ok(count) if is_lent => {
                self.note_in(key);
                self.give_back(key, received.buffer, true, count)
            }
            Ok(count) => {
                self.note_in(key);
                let flow = self.deliver(key, &received.buffer[..count]);
                self.give_scratch(received.buffer);
                flow
            }
            Err(error) => {
                let flow = self.give_back(key, received.buffer, is_lent, 0);
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.stream_lose(key, Closed::failed(Half::Read, error));
                }
                flow
            }
        };
        flow?;
        self.read_on(key);
        self.flush_written(key)
    }

    // What a callback wrote leaves behind it and not at the end of the turn: the connection's
    // memory, here and in the kernel, is still in the cache.
    fn flush_written(&self, key: StreamKey<H>) -> Flow {
        let wrote = stream(&mut self.core().objects.borrow_mut(), key).is_some_and(|s| s.dirty);
        if wrote { self.flush_stream(key) } else { Flow::Continue(()) }
    }

    /// The same for most reads: nothing was kept before, and everything is used. The stream is
    /// looked up twice, before and after its callback; what is not plain leaves for the long way.
    fn read_plain(
        &self,
        key: StreamKey<H>,
        mut objects: RefMut<'_, Slab<Object<H>>>,
        (descriptor, mut protocol): (Descriptor, H::Protocol),
    ) -> Flow {
        let core = self.core();
        let received = core.driver.borrow_mut().receive(descriptor, self.take_scratch());
        let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
        stream.readable = received.more;
        let count = match received.result {
            Ok(count) if count > 0 => count,
            result => {
                stream.protocol = Some(protocol);
                drop(objects);
                self.give_scratch(received.buffer);
                return match result {
                    Ok(_) => self.stream_eof(key),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flow::Continue(()),
                    Err(error) => {
                        self.stream_lose(key, Closed::failed(Half::Read, error));
                        Flow::Continue(())
                    }
                };
            }
        };
        drop(objects);
        let reading = Reading::begin(core, key);
        let verdict = protocol.data_received(self, key, &received.buffer[..count]);
        drop(reading);
        let mut objects = core.objects.borrow_mut();
        let place = self::stream(&mut objects, key);
        if let Some(stream @ Stream { protocol: None, .. }) = place {
            stream.protocol = Some(protocol);
            let all = match verdict {
                Ok(Consumed::All) => true,
                Ok(Consumed::Count(used)) => used == count,
                Err(_) => false,
            };
            // A layer that was pushed meanwhile has writes of its own to carry.
            if all && stream.layers.is_none() {
                let again = stream.queue_read();
                let after = if stream.dirty { self.send_output(key, stream) } else { None };
                drop(objects);
                self.give_scratch(received.buffer);
                if again {
                    self.push_step(key, Step::Read);
                }
                return match after {
                    None => Flow::Continue(()),
                    Some(after) => self.flushed(key, after),
                };
            }
            drop(objects);
        } else {
            // Another one was set meanwhile, or the stream is gone.
            drop(objects);
            drop(protocol);
        }
        let flow = self.plain_rest(key, &received.buffer[..count], verdict);
        self.give_scratch(received.buffer);
        self.read_on(key);
        self.flush_written(key)?;
        flow
    }

    // Asks for memory. A protocol that has none is not asked again. `Continue(None)`: there is
    // nobody to be given bytes now.
    pub(super) fn call_lend(
        &self,
        key: StreamKey<H>,
        size_hint: usize,
    ) -> ControlFlow<(), Option<Option<Buffer>>> {
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.may_lend = false;
        }
        let lent = self.call_protocol(key, |protocol| protocol.lend(self, key, size_hint))?;
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return ControlFlow::Continue(None) };
        let Some(lent) = lent else {
            // Gone, or failed.
            stream.may_lend = true;
            return ControlFlow::Continue(None);
        };
        // Another protocol, set inside the call, has not lent this.
        let replaced = std::mem::replace(&mut stream.may_lend, lent.is_some());
        stream.may_lend |= replaced;
        let interrupted = self.is_interrupted();
        let now = stream.may_tell() && stream.relay.is_none() && !interrupted;
        drop(objects);
        if now && !replaced {
            return ControlFlow::Continue(Some(lent));
        }
        if let Some(buffer) = lent.filter(|_| !replaced && !interrupted) {
            self.give_back(key, buffer, true, 0)?;
        }
        self.call_again(key);
        ControlFlow::Continue(None)
    }

    // What the stream has for its protocol is offered again, in a later step.
    fn call_again(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        stream.layers.iter_mut().for_each(|layers| layers.offer_again = true);
        let (read, pump) = (stream.queue_read(), stream.queue_pump());
        drop(objects);
        if pump {
            self.push_step(key, Step::Pump);
        }
        if read {
            self.push_step(key, Step::Read);
        }
    }

    // Bytes came from the kernel: the stream is not quiet.
    fn note_in(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        if let Some(watch) = stream(&mut objects, key).and_then(|stream| stream.watch.as_mut()) {
            watch.note_in(self.now());
        }
    }

    fn stream_read_joined(&self, key: StreamKey<H>, descriptor: Descriptor) -> Flow {
        if let Some(flow) = self.splice_in(key, descriptor) {
            flow?;
            self.read_on(key);
            return Flow::Continue(());
        }
        let target = self.take_scratch();
        let received = self.core().driver.borrow_mut().receive(descriptor, target);
        if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
            stream.readable = received.more;
        }
        let flow = match received.result {
            Ok(0) => self.relay_eof(key),
            Ok(count) => {
                self.note_in(key);
                self.relay_deliver(key, &received.buffer[..count])
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                self.stream_lose(key, Closed::failed(Half::Read, error));
                None
            }
        };
        self.give_scratch(received.buffer);
        flow.unwrap_or(Flow::Continue(()))?;
        self.read_on(key);
        Flow::Continue(())
    }

    pub(super) fn give_back(
        &self,
        key: StreamKey<H>,
        buffer: Buffer,
        is_lent: bool,
        count: usize,
    ) -> Flow {
        if !is_lent {
            self.give_scratch(buffer);
            return Flow::Continue(());
        }
        self.call_protocol(key, |protocol| protocol.buffer_updated(self, key, buffer, count))?;
        Flow::Continue(())
    }

    pub(super) fn read_on(&self, key: StreamKey<H>) {
        let again = stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|stream| stream.queue_read());
        if again {
            self.push_step(key, Step::Read);
        }
    }

    /// The peer has ended its direction.
    fn stream_eof(&self, key: StreamKey<H>) -> Flow {
        let (reset, withheld) = match stream(&mut self.core().objects.borrow_mut(), key) {
            Some(stream) => {
                let reset = stream.is_reset();
                stream.peer_eof = !reset;
                stream.readable = false;
                // Bytes below the low mark have not been offered yet; now they are.
                (reset, !stream.unread.is_empty() && stream.unread.len() < stream.read_low)
            }
            None => return Flow::Continue(()),
        };
        if withheld {
            self.offer_unread(key, &[], true)?;
        }
        if reset {
            return Flow::Continue(());
        }
        let may_read = stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|stream| stream.may_read());
        if !may_read {
            // Paused while the last bytes were offered: the end is told on resuming.
            if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
                stream.peer_eof = false;
                stream.readable = true;
            }
            return Flow::Continue(());
        }
        let keep_open = self.call_protocol(key, |protocol| protocol.eof_received(self, key))?;
        if self.is_interrupted() {
            // Whether to keep it open is not known: the kernel is asked again, and the protocol.
            if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
                stream.peer_eof = false;
                stream.readable = true;
            }
            self.read_on(key);
        } else if keep_open == Some(false) {
            self.stream_end(key);
        }
        Flow::Continue(())
    }

    // ---- what users ask and set

    /// Stops or resumes reading. While paused no data callback comes, not even for bytes that were
    /// kept before.
    pub fn stream_pause_reading(&self, key: StreamKey<H>, paused: bool) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        stream.paused = paused;
        let (read, pump) = (stream.queue_read(), stream.queue_pump());
        drop(objects);
        if pump {
            self.push_step(key, Step::Pump);
        }
        if read {
            self.push_step(key, Step::Read);
        }
    }

    /// Reads nothing before what is in the ready queue now has run: for a host that has just woken
    /// whoever waits for this connection, and who is to hear of it before its first bytes.
    pub fn stream_read_later(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        // Until the queued step has run, an event only notes that there is something to read.
        let queued = std::mem::replace(&mut stream.read_queued, true);
        drop(objects);
        if !queued {
            self.push_step(key, Step::Read);
        }
    }

    /// Whether reading is neither paused nor over.
    pub fn stream_is_reading(&self, key: StreamKey<H>) -> bool {
        stream(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|stream| !stream.paused && !stream.is_ending())
    }
}
