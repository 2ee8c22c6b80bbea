use std::io;

use tepal_base::Segment;
use tepal_driver::{Address, Half};

use super::{DatagramKey, OVERHEAD};
use crate::engine::{DatagramProtocol, Engine, Flow, Host, Step, datagram};
use crate::transport::{CloseKind, Closed, Crossing};

impl<H: Host> Engine<H> {
    /// Sends one datagram: at once if the kernel takes it, else when it does. It may be empty.
    /// `peer`: `None` on a connected socket.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the endpoint was closed, and what the kernel says at once about this
    /// very datagram (too long, refused by an earlier one, unreachable).
    pub fn datagram_send(
        &self,
        key: DatagramKey<H>,
        data: &[u8],
        peer: Option<&Address>,
    ) -> io::Result<Crossing> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let endpoint = datagram(&mut objects, key).filter(|endpoint| !endpoint.closing);
        let Some(endpoint) = endpoint else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the endpoint is closed"));
        };
        if endpoint.output.is_empty() {
            let descriptor = endpoint.descriptor;
            match self.with_driver(|driver| driver.send_to(descriptor, data, peer)) {
                Ok(_) => return Ok(Crossing::None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        endpoint.buffered += data.len() + OVERHEAD;
        endpoint.output.push_back((Segment::from(data.to_vec()), peer.cloned()));
        if endpoint.over || endpoint.buffered <= endpoint.high {
            return Ok(Crossing::None);
        }
        endpoint.over = true;
        endpoint.pause_due = endpoint.tell_pressure;
        endpoint.told_over |= !endpoint.tell_pressure;
        if endpoint.tell_pressure && !std::mem::replace(&mut endpoint.notify_queued, true) {
            self.push_step(key, Step::Notify);
        }
        Ok(Crossing::High)
    }

    pub(super) fn datagram_flush(&self, key: DatagramKey<H>) -> Flow {
        loop {
            let mut objects = self.core().objects.borrow_mut();
            let Some(endpoint) = datagram(&mut objects, key) else { return Flow::Continue(()) };
            endpoint.write_queued = false;
            let descriptor = endpoint.descriptor;
            let Some((data, peer)) = endpoint.output.front() else { break };
            let sent = self.with_driver(|driver| driver.send_to(descriptor, data, peer.as_ref()));
            let failed = match sent {
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => Some(error),
            };
            let gone = endpoint.output.pop_front();
            endpoint.buffered -= gone.as_ref().map_or(0, |(data, _)| data.len() + OVERHEAD);
            if endpoint.over && endpoint.buffered <= endpoint.low {
                endpoint.over = false;
                if !std::mem::replace(&mut endpoint.notify_queued, true) {
                    self.push_step(key, Step::Notify);
                }
            }
            drop(objects);
            drop(gone);
            if let Some(error) = failed {
                self.datagram_error(key, Half::Write, error)?;
            }
        }
        let done = datagram(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|endpoint| endpoint.closing && endpoint.output.is_empty());
        if done {
            self.datagram_lose(key, Closed::new(CloseKind::Local));
        }
        Flow::Continue(())
    }

    pub(super) fn datagram_notify(&self, key: DatagramKey<H>) -> Flow {
        let pause = match datagram(&mut self.core().objects.borrow_mut(), key) {
            Some(endpoint) => {
                endpoint.notify_queued = false;
                endpoint.told_over |= endpoint.pause_due;
                std::mem::take(&mut endpoint.pause_due)
            }
            None => return Flow::Continue(()),
        };
        if pause {
            self.call_datagram(key, |protocol| protocol.pause_writing(self, key))?;
        }
        let resume = datagram(&mut self.core().objects.borrow_mut(), key)
            .is_some_and(|endpoint| !endpoint.over && std::mem::take(&mut endpoint.told_over));
        match resume {
            true => self.call_datagram(key, |protocol| protocol.resume_writing(self, key)),
            false => Flow::Continue(()),
        }
    }
}
