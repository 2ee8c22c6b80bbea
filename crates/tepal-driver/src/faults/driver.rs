use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::SystemTime;

use tepal_base::{Buffer, Instant};

use super::{Faults, Operation};
use crate::{
    Address, Child, Command, Connect, Descriptor, Domain, Driver, Event, ExitStatus, FileStamp,
    Half, Interest, Kind, NetworkInterface, Readiness, Received, ReceivedFrom, Sent, SignalSource,
    SocketOption, Wait, Waker,
};

/// A driver in which a test makes things go wrong. See [the module](crate::faults).
pub struct FaultDriver {
    inner: Box<dyn Driver>,
    faults: Faults,
    // Tokens of descriptors that report edges.
    tokens: HashMap<u64, u64>,
    // Tokens that were registered once, to report when they are gone.
    stale: Vec<u64>,
    // Events for the next collect.
    held: Vec<Event>,
}

impl FaultDriver {
    /// Puts `faults` before `inner`.
    pub fn new(inner: Box<dyn Driver>, faults: &Faults) -> FaultDriver {
        FaultDriver {
            inner,
            faults: faults.clone(),
            tokens: HashMap::new(),
            stale: Vec::new(),
            held: Vec::new(),
        }
    }

    fn check(&mut self, operation: Operation) -> io::Result<()> {
        match self.faults.call(operation) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    // As `check`, for an operation that pulls: it may also be told to wait for an event, which then
    // comes.
    fn check_pull(
        &mut self,
        operation: Operation,
        descriptor: Descriptor,
        readiness: Readiness,
    ) -> io::Result<()> {
        let errno = match self.faults.call(operation) {
            None if self.faults.is_spurious() => libc::EAGAIN,
            None => return Ok(()),
            Some(errno) => errno,
        };
        if errno == libc::EAGAIN && !self.report_again(descriptor, readiness) {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(errno))
    }

    // Whether there is a token to report.
    fn report_again(&mut self, descriptor: Descriptor, readiness: Readiness) -> bool {
        let Some(token) = self.tokens.get(&descriptor.to_bits()) else { return false };
        self.held.push(Event { token: *token, readiness });
        true
    }

    fn pick(&self, tokens: &[u64]) -> Option<u64> {
        let count = tokens.len() as u64;
        if count == 0 { None } else { Some(tokens[self.faults.below(count) as usize]) }
    }
}

impl Driver for FaultDriver {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn now(&mut self) -> Instant {
        self.faults.call(Operation::Now);
        self.inner.now()
    }

    fn wall(&mut self) -> SystemTime {
        self.faults.call(Operation::Wall);
        self.inner.wall()
    }

    fn entropy(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.check(Operation::Entropy)?;
        self.inner.entropy(bytes)
    }

    fn open(&mut self, domain: Domain, kind: Kind) -> io::Result<Descriptor> {
        self.check(Operation::Open)?;
        self.inner.open(domain, kind)
    }

    fn pipe(&mut self) -> io::Result<(Descriptor, Descriptor)> {
        self.check(Operation::Pipe)?;
        self.inner.pipe()
    }

    fn grow_pipe(&mut self, input: Descriptor, len: usize) -> io::Result<()> {
        self.inner.grow_pipe(input, len)
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Descriptor> {
        self.check(Operation::Adopt)?;
        self.inner.adopt(fd)
    }

    fn borrow(&mut self, fd: RawFd) -> io::Result<Descriptor> {
        self.check(Operation::Borrow)?;
        self.inner.borrow(fd)
    }

    fn raw_fd(&self, descriptor: Descriptor) -> Option<RawFd> {
        self.faults.call(Operation::RawFd);
        self.inner.raw_fd(descriptor)
    }

    fn bind(&mut self, socket: Descriptor, local: &Address) -> io::Result<()> {
        self.check(Operation::Bind)?;
        self.inner.bind(socket, local)
    }

    fn listen(&mut self, socket: Descriptor, backlog: u32) -> io::Result<()> {
        self.check(Operation::Listen)?;
        self.inner.listen(socket, backlog)
    }

    fn connect(&mut self, socket: Descriptor, peer: &Address) -> io::Result<Connect> {
        self.check(Operation::Connect)?;
        self.inner.connect(socket, peer)
    }

    fn take_error(&mut self, socket: Descriptor) -> io::Result<Option<io::Error>> {
        self.check(Operation::TakeError)?;
        self.inner.take_error(socket)
    }

    fn accept(&mut self, listener: Descriptor) -> io::Result<(Descriptor, Address)> {
        self.check_pull(Operation::Accept, listener, Readiness::READABLE)?;
        self.inner.accept(listener)
    }

    fn receive(&mut self, stream: Descriptor, mut target: Buffer) -> Received {
        if let Err(error) = self.check_pull(Operation::Receive, stream, Readiness::READABLE) {
            return Received { buffer: target, result: Err(error), more: false };
        }
        let len = self.faults.cut(target.len());
        if len == target.len() {
            return self.inner.receive(stream, target);
        }
        let Received { buffer, result, more } = self.inner.receive(stream, Buffer::zeroed(len));
        if let Ok(count) = result {
            target[..count].copy_from_slice(&buffer[..count]);
        }
        Received { buffer: target, result, more }
    }

    fn receive_from(&mut self, socket: Descriptor, target: Buffer) -> ReceivedFrom {
        match self.check_pull(Operation::ReceiveFrom, socket, Readiness::READABLE) {
            Ok(()) => self.inner.receive_from(socket, target),
            Err(error) => ReceivedFrom { buffer: target, result: Err(error) },
        }
    }

    fn send(&mut self, stream: Descriptor, bytes: &[IoSlice<'_>]) -> io::Result<Sent> {
        match self.check_pull(Operation::Send, stream, Readiness::WRITABLE) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Sent { count: 0, blocked: true });
            }
            Err(error) => return Err(error),
        }
        let total = bytes.iter().map(|slice| slice.len()).sum();
        let len = self.faults.cut(total);
        if len == total {
            return self.inner.send(stream, bytes);
        }
        let mut left = len;
        let cut: Vec<IoSlice<'_>> = bytes
            .iter()
            .map(|slice| {
                let now = slice.len().min(left);
                left -= now;
                IoSlice::new(&slice[..now])
            })
            .collect();
        let mut sent = self.inner.send(stream, &cut)?;
        if !sent.blocked && self.faults.below(2) == 0 {
            sent.blocked = self.report_again(stream, Readiness::WRITABLE);
        }
        Ok(sent)
    }

    fn send_to(
        &mut self,
        socket: Descriptor,
        bytes: &[u8],
        peer: Option<&Address>,
    ) -> io::Result<usize> {
        self.check_pull(Operation::SendTo, socket, Readiness::WRITABLE)?;
        self.inner.send_to(socket, bytes, peer)
    }

    fn send_file(
        &mut self,
        stream: Descriptor,
        file: Descriptor,
        offset: u64,
        count: usize,
    ) -> io::Result<Sent> {
        match self.check_pull(Operation::SendFile, stream, Readiness::WRITABLE) {
            Ok(()) => self.inner.send_file(stream, file, offset, self.faults.cut(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Sent { count: 0, blocked: true })
            }
            Err(error) => Err(error),
        }
    }

    fn read_at(&mut self, file: Descriptor, offset: u64, target: &mut [u8]) -> io::Result<usize> {
        self.check(Operation::ReadAt)?;
        let len = self.faults.cut(target.len());
        self.inner.read_at(file, offset, &mut target[..len])
    }

    // Only failures and short counts: which of the two descriptors a made-up block would have to
    // report again, the caller alone knows.
    fn splice(&mut self, from: Descriptor, to: Descriptor, count: usize) -> io::Result<Sent> {
        self.check(Operation::Splice)?;
        self.inner.splice(from, to, self.faults.cut(count))
    }

    fn unconfirmed(&mut self, stream: Descriptor) -> io::Result<usize> {
        self.inner.unconfirmed(stream)
    }

    fn shutdown(&mut self, socket: Descriptor, half: Half) -> io::Result<()> {
        self.check(Operation::Shutdown)?;
        self.inner.shutdown(socket, half)
    }

    fn close(&mut self, descriptor: Descriptor) -> io::Result<()> {
        const REMEMBERED: usize = 16;
        let checked = self.check(Operation::Close);
        if let Some(token) = self.tokens.remove(&descriptor.to_bits()) {
            self.stale.truncate(REMEMBERED - 1);
            self.stale.insert(0, token);
        }
        self.inner.close(descriptor)?;
        checked
    }

    fn local_address(&mut self, socket: Descriptor) -> io::Result<Address> {
        self.check(Operation::LocalAddress)?;
        self.inner.local_address(socket)
    }

    fn peer_address(&mut self, socket: Descriptor) -> io::Result<Address> {
        self.check(Operation::PeerAddress)?;
        self.inner.peer_address(socket)
    }

    fn set_option(&mut self, socket: Descriptor, option: &SocketOption) -> io::Result<()> {
        self.check(Operation::SetOption)?;
        self.inner.set_option(socket, option)
    }

    fn register(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        self.check(Operation::Register)?;
        self.inner.register(descriptor, token, interest)?;
        self.tokens.insert(descriptor.to_bits(), token);
        Ok(())
    }

    fn watch(&mut self, descriptor: Descriptor, token: u64, interest: Interest) -> io::Result<()> {
        self.check(Operation::Watch)?;
        self.inner.watch(descriptor, token, interest)
    }

    fn prepare(&mut self, deadline: Option<Instant>) -> Box<dyn Wait> {
        if self.faults.is_spurious() {
            let mut registered: Vec<u64> = self.tokens.values().copied().collect();
            registered.sort_unstable(); // the map's order is no part of the seed
            let readiness = Readiness::READABLE | Readiness::WRITABLE;
            for tokens in [&registered, &self.stale] {
                let picked = self.pick(tokens);
                self.held.extend(picked.map(|token| Event { token, readiness }));
            }
        }
        let early = !self.held.is_empty() || self.faults.is_interrupted();
        self.inner.prepare(if early { Some(Instant::ZERO) } else { deadline })
    }

    fn collect(&mut self, wait: Box<dyn Wait>, events: &mut Vec<Event>) -> io::Result<()> {
        if let Err(error) = self.check(Operation::Wait) {
            // What was found is not lost, only late.
            self.inner.collect(wait, &mut self.held)?;
            return Err(error);
        }
        events.append(&mut self.held);
        self.inner.collect(wait, events)
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }

    fn signals(&mut self) -> Box<dyn SignalSource> {
        self.inner.signals()
    }

    fn spawn(&mut self, command: &mut Command) -> io::Result<Child> {
        self.check(Operation::Spawn)?;
        self.inner.spawn(command)
    }

    fn wait_child(&mut self, process: Descriptor) -> io::Result<Option<ExitStatus>> {
        self.check(Operation::WaitChild)?;
        self.inner.wait_child(process)
    }

    fn kill_child(&mut self, process: Descriptor, signal: i32) -> io::Result<()> {
        self.check(Operation::KillChild)?;
        self.inner.kill_child(process, signal)
    }

    fn read_file(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.check(Operation::ReadFile)?;
        self.inner.read_file(path, limit)
    }

    fn file_changed(&mut self, path: &Path) -> io::Result<FileStamp> {
        self.check(Operation::FileChanged)?;
        self.inner.file_changed(path)
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.check(Operation::RemoveFile)?;
        self.inner.remove_file(path)
    }

    fn interfaces(&mut self) -> io::Result<Vec<NetworkInterface>> {
        self.check(Operation::Interfaces)?;
        self.inner.interfaces()
    }

    fn host_name(&mut self) -> io::Result<String> {
        self.check(Operation::HostName)?;
        self.inner.host_name()
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        self.inner.variable(name)
    }
}

impl fmt::Debug for FaultDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultDriver").field("inner", &self.inner.name()).finish_non_exhaustive()
    }
}
