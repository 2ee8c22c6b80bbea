//! The least that a relay on epoll can do, with bytes copied through memory or moved by `splice`.
//! One connection at a time, like socat without `fork`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::options::Failure;
use crate::program;
use crate::servers::READ_SIZE;

/// How bytes go from one socket to another.
pub(crate) trait Carry: Sized {
    fn new() -> Result<Self, Failure>;
    /// Takes bytes of `from`, which is called only while nothing is held. 0 is the end.
    fn fill(&mut self, from: &OwnedFd) -> Result<usize, Errno>;
    /// Gives what is held to `to`.
    fn drain(&mut self, to: &OwnedFd) -> Result<usize, Errno>;
    /// Bytes taken and not given yet.
    fn held(&self) -> usize;
}

/// Through a buffer of this process.
pub(crate) struct Copy {
    buffer: Vec<u8>,
    // 0 <= start <= end <= buffer.len()
    start: usize,
    end: usize,
}

impl Carry for Copy {
    fn new() -> Result<Copy, Failure> {
        Ok(Copy { buffer: vec![0; READ_SIZE], start: 0, end: 0 })
    }

    fn fill(&mut self, from: &OwnedFd) -> Result<usize, Errno> {
        let (_, count) = recv(from, &mut self.buffer[..], RecvFlags::empty())?;
        (self.start, self.end) = (0, count);
        Ok(count)
    }

    fn drain(&mut self, to: &OwnedFd) -> Result<usize, Errno> {
        let sent = send(to, &self.buffer[self.start..self.end], SendFlags::NOSIGNAL)?;
        self.start += sent;
        Ok(sent)
    }

    fn held(&self) -> usize {
        self.end - self.start
    }
}

/// Through a pipe, by reference to the kernel's pages.
pub(crate) struct Splice {
    output: OwnedFd,
    input: OwnedFd,
    held: usize,
}

/// The most that an unprivileged process may ask for (`/proc/sys/fs/pipe-max-size`).
const PIPE_SIZE: usize = 1 << 20;

impl Carry for Splice {
    fn new() -> Result<Splice, Failure> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&input, PIPE_SIZE)?;
        Ok(Splice { output, input, held: 0 })
    }

    fn fill(&mut self, from: &OwnedFd) -> Result<usize, Errno> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(from, None, &self.input, None, PIPE_SIZE, flags)?;
        self.held += count;
        Ok(count)
    }

    fn drain(&mut self, to: &OwnedFd) -> Result<usize, Errno> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(&self.output, None, to, None, self.held, flags)?;
        self.held -= count;
        Ok(count)
    }

    fn held(&self) -> usize {
        self.held
    }
}

/// One direction.
struct Way<C> {
    carry: C,
    ended: bool,
}

pub(crate) fn serve<C: Carry>(target: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    program::announce(listener.local_addr()?);
    loop {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(target)?;
        for socket in [&near, &far] {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
        }
        // A connection's error ends that connection, as in the other relays.
        let _ = relay::<C>(&[near.into(), far.into()]);
    }
}

/// Carries both ways between two sockets until both have ended. Way `i` leads from `sockets[i]`.
fn relay<C: Carry>(sockets: &[OwnedFd; 2]) -> Result<(), Failure> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut ways = [Way { carry: C::new()?, ended: false }, Way { carry: C::new()?, ended: false }];
    let mut interests = [EventFlags::IN; 2];
    for (index, socket) in sockets.iter().enumerate() {
        epoll::add(&epoll, socket, EventData::new_u64(index as u64), EventFlags::IN)?;
    }
    let mut events = Vec::with_capacity(8);
    while !(ways[0].ended && ways[1].ended) {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            // 0 or 1, our own index, which the kernel gives back.
            let index = event.data.u64() as usize & 1;
            // The kernel's record is packed: its fields are copied, not borrowed.
            let flags = event.flags;
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                step(&mut ways[index], &sockets[index], &sockets[index ^ 1])?;
            }
            if flags.contains(EventFlags::OUT) {
                step(&mut ways[index ^ 1], &sockets[index ^ 1], &sockets[index])?;
            }
        }
        for index in [0, 1] {
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, !ways[index].ended && ways[index].carry.held() == 0);
            wanted.set(EventFlags::OUT, ways[index ^ 1].carry.held() > 0);
            if wanted != interests[index] {
                let data = EventData::new_u64(index as u64);
                epoll::modify(&epoll, &sockets[index], data, wanted)?;
                interests[index] = wanted;
            }
        }
    }
    Ok(())
}

fn step<C: Carry>(way: &mut Way<C>, from: &OwnedFd, to: &OwnedFd) -> Result<(), Failure> {
    if way.carry.held() == 0 {
        if way.ended {
            return Ok(());
        }
        match way.carry.fill(from) {
            Ok(0) => {
                way.ended = true;
                shutdown(to, Shutdown::Write)?;
                return Ok(());
            }
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    match way.carry.drain(to) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
