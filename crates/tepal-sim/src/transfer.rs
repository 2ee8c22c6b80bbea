//! Bytes that move inside the kernel, and open files of the simulation.

use std::io::IoSlice;

use tepal_driver::Sent;

use crate::errno::{EAGAIN, EISDIR, Fault, Outcome};
use crate::socket::{Family, Role, SocketId};
use crate::state::State;

impl State {
    /// Moves bytes between a stream and a pipe, or a pipe and a pipe.
    pub(crate) fn splice(&mut self, from: SocketId, to: SocketId, count: usize) -> Outcome<Sent> {
        let family = |state: &State, id| state.sockets.get(id).map(|socket| socket.family);
        let families = [family(self, from), family(self, to)];
        let streams = self.stream(from).is_some() && self.stream(to).is_some();
        if !streams || !families.contains(&Some(Family::Pipe)) || from == to {
            return Err(Fault::Unsupported);
        }
        self.check_send(to)?;
        let room = self.room_for(to, count);
        let held = self.stream(from).map_or(0, |stream| stream.incoming.len());
        if held > 0 && room == 0 && count > 0 {
            self.want_writable(to);
            return Ok(Sent { count: 0, blocked: true });
        }
        if count == 0 {
            return Ok(Sent { count: 0, blocked: false });
        }
        // An empty source tells whether it has ended, also while the target is full.
        let mut bytes = vec![0; room.min(held).max(1)];
        match self.receive(from, &mut bytes) {
            Ok((count, _)) => {
                bytes.truncate(count);
                self.give(to, bytes.into());
                Ok(Sent { count, blocked: false })
            }
            Err(EAGAIN) => Ok(Sent { count: 0, blocked: true }),
            Err(fault) => Err(fault),
        }
    }

    /// Sends a part of an open file.
    pub(crate) fn send_file(
        &mut self,
        id: SocketId,
        file: SocketId,
        offset: u64,
        count: usize,
    ) -> Outcome<Sent> {
        let bytes = self.file_range(file, offset, count)?;
        if bytes.is_empty() {
            return Ok(Sent { count: 0, blocked: false });
        }
        self.send(id, &[IoSlice::new(&bytes)])
    }

    pub(crate) fn read_file_at(
        &mut self,
        file: SocketId,
        offset: u64,
        target: &mut [u8],
    ) -> Outcome<usize> {
        let bytes = self.file_range(file, offset, target.len())?;
        target[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// An open file of the simulation, and nothing else.
    fn file_range(&mut self, id: SocketId, offset: u64, count: usize) -> Outcome<Vec<u8>> {
        let path = match &self.socket(id).role {
            Role::File(file) => file.path.clone(),
            _ => return Err(Fault::Unsupported),
        };
        let bytes = self.files.get(&path).map_or(&[][..], |file| &file.bytes);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(count).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    pub(crate) fn read_open_file(
        &mut self,
        id: SocketId,
        target: &mut [u8],
    ) -> Outcome<(usize, bool)> {
        let position = match &self.socket(id).role {
            Role::File(file) => file.position,
            _ => return Err(EISDIR),
        };
        let bytes = self.file_range(id, position as u64, target.len())?;
        target[..bytes.len()].copy_from_slice(&bytes);
        if let Role::File(file) = &mut self.socket(id).role {
            file.position += bytes.len();
        }
        Ok((bytes.len(), bytes.len() == target.len()))
    }
}
