//! Bytes in and out.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tepal_base::Buffer;

use super::Engine;
use crate::entry::{self, Entry, Kind};
use crate::selector::{Selector, Timeout};
use crate::sigpipe::without_sigpipe;
use crate::{Address, Descriptor, Interest, Received, ReceivedFrom, Sent, sockaddr, sys};

// The most slices that one call takes (`UIO_MAXIOV`; POSIX promises 16).
const MOST_SLICES: usize = 1024;

// A write that a pipe in blocking mode takes without blocking once poll(2) says that there is room
// (`PIPE_BUF` is at least 512 everywhere, 4096 on Linux).
const PIPE_ROOM: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

// The most that Linux moves at once; other systems take it too.
const MOST_BYTES: usize = 0x7fff_f000;

impl<S: Selector> Engine<S> {
    pub(super) fn receive_stream(&mut self, stream: Descriptor, mut target: Buffer) -> Received {
        let entry = match self.entry(stream) {
            Ok(entry) => entry,
            Err(error) => {
                return Received { buffer: target, result: Err(error.into()), more: false };
            }
        };
        if target.is_empty() {
            return Received { buffer: target, result: Ok(0), more: true };
        }
        let result = read(entry, &mut target);
        let more = match result {
            // Not the end for a socket of messages: an empty one.
            Ok(0) => entry.kind == Kind::MessageSocket,
            Ok(count) => {
                let emptied = count < target.len()
                    && matches!(entry.kind, Kind::StreamSocket | Kind::Pipe { .. });
                !emptied || entry.closing
            }
            Err(_) => false,
        };
        let again = match result {
            Ok(0) => false,
            Ok(_) => !more,
            Err(error) => error == Errno::AGAIN,
        };
        if again {
            self.await_ready(entry::key(stream), Interest::READ);
        } else if !more {
            // The end, or an error that reading has brought: nothing further is closing.
            entry.closing = false;
        }
        Received { buffer: target, result: result.map_err(io::Error::from), more }
    }

    pub(super) fn receive_datagram(
        &mut self,
        socket: Descriptor,
        mut target: Buffer,
    ) -> ReceivedFrom {
        let result = self.socket(socket).and_then(|entry| {
            retry(|| rustix::net::recvfrom(entry.as_fd(), &mut *target, RecvFlags::DONTWAIT))
        });
        if let Err(Errno::AGAIN) = result {
            self.await_ready(entry::key(socket), Interest::READ);
        }
        let result = result.map_err(io::Error::from).map(|(count, _, sender)| {
            (count.min(target.len()), sender.map(|sender| sockaddr::decode(Some(sender))))
        });
        let result = result.map(|(count, sender)| match sender {
            Some(Address::Unix(crate::UnixAddress::Unnamed)) => (count, None),
            sender => (count, sender),
        });
        ReceivedFrom { buffer: target, result }
    }

    pub(super) fn send_stream(
        &mut self,
        stream: Descriptor,
        bytes: &[IoSlice<'_>],
    ) -> io::Result<Sent> {
        let entry = self.entry(stream)?;
        let bytes = &bytes[..bytes.len().min(MOST_SLICES)];
        let total: usize = bytes.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Ok(Sent { count: 0, blocked: false });
        }
        let (count, blocked) = match write(entry, bytes) {
            // A blocking pipe is given less than all on purpose.
            Ok(count) => (count, count < total.min(MOST_BYTES) && !entry.kind.blocks()),
            Err(Errno::AGAIN) => (0, true),
            Err(error) => return Err(error.into()),
        };
        if blocked {
            self.await_ready(entry::key(stream), Interest::WRITE);
        }
        Ok(Sent { count, blocked })
    }

    pub(super) fn send_datagram(
        &mut self,
        socket: Descriptor,
        bytes: &[u8],
        peer: Option<&Address>,
    ) -> io::Result<usize> {
        let entry = self.socket(socket)?;
        let peer = peer.map(sockaddr::encode).transpose()?;
        let result = retry(|| sys::send_to(entry.as_fd(), bytes, peer.as_ref()));
        if result == Err(Errno::AGAIN) {
            self.await_ready_afresh(entry::key(socket), Interest::WRITE);
        }
        Ok(result?)
    }

    pub(super) fn send_part_of_file(
        &mut self,
        stream: Descriptor,
        file: Descriptor,
        offset: u64,
        count: usize,
    ) -> io::Result<Sent> {
        self.entry(stream)?;
        self.entry(file)?;
        if i64::try_from(offset).is_err() {
            return Err(Errno::INVAL.into());
        }
        let result = {
            let (to, from) = self.two(stream, file)?;
            // Flags cannot keep this call from blocking on such a descriptor.
            if to.is_borrowed() && to.is_blocking() {
                return Err(unsupported("sendfile to a blocking descriptor"));
            }
            let count = count.min(MOST_BYTES);
            retry(|| without_sigpipe(|| sys::send_file(to.as_fd(), from.as_fd(), offset, count)))
        };
        match result {
            // A short count may be the file's end or the socket's: the next call tells which.
            Ok(count) => Ok(Sent { count, blocked: false }),
            Err(Errno::AGAIN) => {
                self.await_ready(entry::key(stream), Interest::WRITE);
                Ok(Sent { count: 0, blocked: true })
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE) => {
                Err(unsupported("sendfile between these two descriptors"))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn read_part_of_file(
        &mut self,
        file: Descriptor,
        offset: u64,
        target: &mut [u8],
    ) -> io::Result<usize> {
        let file = self.entry(file)?;
        if i64::try_from(offset).is_err() {
            return Err(Errno::INVAL.into());
        }
        match retry(|| rustix::io::pread(file.as_fd(), &mut *target, offset)) {
            Err(Errno::SPIPE) => Err(unsupported("reading this descriptor at a place in it")),
            result => Ok(result?),
        }
    }

    pub(super) fn splice_some(
        &mut self,
        from: Descriptor,
        to: Descriptor,
        count: usize,
    ) -> io::Result<Sent> {
        self.entry(from)?;
        self.entry(to)?;
        let result = {
            let (to, from) = self.two(to, from)?;
            let foreign = |entry: &Entry| entry.is_borrowed() && entry.is_blocking();
            if foreign(to) || foreign(from) {
                return Err(unsupported("splice with a blocking descriptor"));
            }
            let count = count.min(MOST_BYTES);
            retry(|| without_sigpipe(|| sys::splice(from.as_fd(), to.as_fd(), count)))
        };
        match result {
            Ok(count) => Ok(Sent { count, blocked: false }),
            Err(Errno::AGAIN) => {
                self.await_ready(entry::key(from), Interest::READ);
                self.await_ready(entry::key(to), Interest::WRITE);
                Ok(Sent { count: 0, blocked: true })
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE) => {
                Err(unsupported("splice between these two descriptors"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn two(&self, first: Descriptor, second: Descriptor) -> rustix::io::Result<(&Entry, &Entry)> {
        let first = self.entries.get(entry::key(first)).ok_or(Errno::BADF)?;
        let second = self.entries.get(entry::key(second)).ok_or(Errno::BADF)?;
        Ok((first, second))
    }
}

impl Entry {
    /// Whether calls without a flag of their own would block on it now.
    fn is_blocking(&self) -> bool {
        rustix::fs::fcntl_getfl(self.as_fd())
            .is_ok_and(|flags| !flags.contains(rustix::fs::OFlags::NONBLOCK))
    }
}

fn read(entry: &Entry, target: &mut Buffer) -> rustix::io::Result<usize> {
    if entry.kind.blocks() {
        ready_now(entry, libc::POLLIN)?;
    }
    retry(|| match entry.kind {
        Kind::StreamSocket => rustix::net::recv(entry.as_fd(), &mut **target, RecvFlags::DONTWAIT)
            .map(|(count, _)| count),
        // The kernel tells the whole length of a message that was cut.
        Kind::MessageSocket => rustix::net::recv(entry.as_fd(), &mut **target, RecvFlags::DONTWAIT)
            .map(|(count, _)| count),
        _ => rustix::io::read(entry.as_fd(), &mut **target),
    })
}

fn write(entry: &Entry, bytes: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    if entry.is_socket() {
        return retry(|| match bytes {
            [one] => sys::send(entry.as_fd(), one),
            many => sys::send_slices(entry.as_fd(), many),
        });
    }
    if entry.kind.blocks() {
        ready_now(entry, libc::POLLOUT)?;
        let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        let first = &first[..first.len().min(PIPE_ROOM)];
        return retry(|| without_sigpipe(|| rustix::io::write(entry.as_fd(), first)));
    }
    retry(|| {
        if let Some(result) = sys::write_quietly(entry.as_fd(), bytes) {
            return result;
        }
        without_sigpipe(|| match bytes {
            [one] => rustix::io::write(entry.as_fd(), one),
            many => rustix::io::writev(entry.as_fd(), many),
        })
    })
}

// For descriptors in blocking mode: `AGAIN` unless a call would not block. It is not atomic: if
// another process takes the bytes in between, the call blocks, as it would for every other program.
fn ready_now(entry: &Entry, events: libc::c_short) -> rustix::io::Result<()> {
    let mut fds = [libc::pollfd { fd: entry.as_raw_fd(), events, revents: 0 }];
    match retry(|| sys::poll(&mut fds, Timeout::Now))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// Makes the call again while signals interrupt it.
#[inline]
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

pub(super) fn unsupported(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}
