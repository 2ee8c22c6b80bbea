use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketType};
use tepal_base::{Buffer, Instant};

use super::{Engine, files, machine, monotonic, options};
use crate::entry::{self, Entry, Kind as EntryKind};
use crate::selector::{Selector, Trigger};
use crate::signals::ProcessSignals;
use crate::{
    Address, Child, Command, Connect, Descriptor, Domain, Driver, Event, ExitStatus, FileStamp,
    Half, Interest, Kind, NetworkInterface, Received, ReceivedFrom, Sent, SignalSource,
    SocketOption, Wait, Waker, sockaddr, sys,
};

impl<S: Selector> Driver for Engine<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn now(&mut self) -> Instant {
        monotonic()
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }

    fn entropy(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        sys::entropy(bytes)
    }

    fn open(&mut self, domain: Domain, kind: Kind) -> io::Result<Descriptor> {
        let family = match domain {
            Domain::Inet => AddressFamily::INET,
            Domain::Inet6 => AddressFamily::INET6,
            Domain::Unix => AddressFamily::UNIX,
        };
        let (kind, entry_kind) = match kind {
            Kind::Stream => (SocketType::STREAM, EntryKind::StreamSocket),
            Kind::Datagram => (SocketType::DGRAM, EntryKind::MessageSocket),
        };
        let socket = sys::socket(family, kind)?;
        Ok(self.insert(Entry::owned(socket, entry_kind)))
    }

    fn pipe(&mut self) -> io::Result<(Descriptor, Descriptor)> {
        let (from, to) = sys::pipe()?;
        rustix::io::ioctl_fionbio(&from, true)?;
        rustix::io::ioctl_fionbio(&to, true)?;
        let kind = EntryKind::Pipe { blocking: false };
        Ok((self.insert(Entry::owned(from, kind)), self.insert(Entry::owned(to, kind))))
    }

    fn grow_pipe(&mut self, input: Descriptor, len: usize) -> io::Result<()> {
        sys::grow_pipe(self.entry(input)?.as_fd(), len)
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<Descriptor> {
        self.adopt_fd(fd)
    }

    fn borrow(&mut self, fd: RawFd) -> io::Result<Descriptor> {
        self.borrow_fd(fd)
    }

    fn raw_fd(&self, descriptor: Descriptor) -> Option<RawFd> {
        self.entries.get(entry::key(descriptor)).map(AsRawFd::as_raw_fd)
    }

    fn bind(&mut self, socket: Descriptor, local: &Address) -> io::Result<()> {
        let socket = self.socket(socket)?;
        Ok(rustix::net::bind(socket.as_fd(), &sockaddr::encode(local)?)?)
    }

    fn listen(&mut self, socket: Descriptor, backlog: u32) -> io::Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        Ok(rustix::net::listen(self.socket(socket)?.as_fd(), backlog)?)
    }

    fn connect(&mut self, socket: Descriptor, peer: &Address) -> io::Result<Connect> {
        let entry = self.socket(socket)?;
        match rustix::net::connect(entry.as_fd(), &sockaddr::encode(peer)?) {
            Ok(()) => Ok(Connect::Connected),
            // Interrupted, it goes on by itself; asking again would only say so.
            Err(Errno::INPROGRESS | Errno::INTR) => {
                self.await_ready(entry::key(socket), Interest::WRITE);
                Ok(Connect::InProgress)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take_error(&mut self, socket: Descriptor) -> io::Result<Option<io::Error>> {
        let pending = rustix::net::sockopt::socket_error(self.socket(socket)?.as_fd())?;
        Ok(pending.err().map(io::Error::from))
    }

    fn accept(&mut self, listener: Descriptor) -> io::Result<(Descriptor, Address)> {
        let entry = self.socket(listener)?;
        let kind = entry.kind;
        let result = loop {
            match sys::accept(entry.as_fd()) {
                // This one is gone already; the next may be there.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                result => break result,
            }
        };
        match result {
            Ok((socket, peer)) => {
                let descriptor = self.insert(Entry::owned(socket, kind));
                Ok((descriptor, sockaddr::decode(peer)))
            }
            Err(error) => {
                if error == Errno::AGAIN {
                    self.await_ready(entry::key(listener), Interest::READ);
                }
                Err(error.into())
            }
        }
    }

    fn receive(&mut self, stream: Descriptor, target: Buffer) -> Received {
        self.receive_stream(stream, target)
    }

    fn receive_from(&mut self, socket: Descriptor, target: Buffer) -> ReceivedFrom {
        self.receive_datagram(socket, target)
    }

    fn send(&mut self, stream: Descriptor, bytes: &[IoSlice<'_>]) -> io::Result<Sent> {
        self.send_stream(stream, bytes)
    }

    fn send_to(
        &mut self,
        socket: Descriptor,
        bytes: &[u8],
        peer: Option<&Address>,
    ) -> io::Result<usize> {
        self.send_datagram(socket, bytes, peer)
    }

    fn send_file(
        &mut self,
        stream: Descriptor,
        file: Descriptor,
        offset: u64,
        count: usize,
    ) -> io::Result<Sent> {
        self.send_part_of_file(stream, file, offset, count)
    }

    fn read_at(&mut self, file: Descriptor, offset: u64, target: &mut [u8]) -> io::Result<usize> {
        self.read_part_of_file(file, offset, target)
    }

    fn splice(&mut self, from: Descriptor, to: Descriptor, count: usize) -> io::Result<Sent> {
        self.splice_some(from, to, count)
    }

    fn unconfirmed(&mut self, stream: Descriptor) -> io::Result<usize> {
        Ok(sys::unconfirmed(self.socket(stream)?.as_fd())?)
    }

    fn shutdown(&mut self, socket: Descriptor, half: Half) -> io::Result<()> {
        let how = match half {
            Half::Read => Shutdown::Read,
            Half::Write => Shutdown::Write,
            Half::Both => Shutdown::Both,
        };
        Ok(rustix::net::shutdown(self.socket(socket)?.as_fd(), how)?)
    }

    fn close(&mut self, descriptor: Descriptor) -> io::Result<()> {
        let key = entry::key(descriptor);
        let is_orphan = |entry: &Entry| matches!(entry.kind, EntryKind::Orphan { .. });
        let known = self.entries.get(key).filter(|entry| !is_orphan(entry));
        known.ok_or(Errno::BADF)?;
        let entry = self.entries.remove(key).ok_or(Errno::BADF)?;
        if let EntryKind::Child { pid, status: None } = entry.kind {
            self.keep_orphan(key, entry, pid);
        } else {
            self.unregister(key, &entry);
        }
        Ok(())
    }

    fn local_address(&mut self, socket: Descriptor) -> io::Result<Address> {
        let address = rustix::net::getsockname(self.socket(socket)?.as_fd())?;
        Ok(sockaddr::decode(Some(address)))
    }

    fn peer_address(&mut self, socket: Descriptor) -> io::Result<Address> {
        Ok(sockaddr::decode(rustix::net::getpeername(self.socket(socket)?.as_fd())?))
    }

    fn set_option(&mut self, socket: Descriptor, option: &SocketOption) -> io::Result<()> {
        options::set(self.socket(socket)?.as_fd(), option)
    }

    fn register(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        self.register_edges(descriptor, token, interest)
    }

    fn watch(&mut self, descriptor: Descriptor, token: u64, interest: Interest) -> io::Result<()> {
        self.watch_levels(descriptor, token, Trigger::Level, interest)
    }

    fn watch_once(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<bool> {
        let trigger = if S::HAS_ONCE { Trigger::Once } else { Trigger::Level };
        self.watch_levels(descriptor, token, trigger, interest)?;
        Ok(S::HAS_ONCE)
    }

    fn prepare(&mut self, deadline: Option<Instant>) -> Box<dyn Wait> {
        let timeout = self.timeout(deadline);
        self.selector.prepare(timeout)
    }

    fn collect(&mut self, wait: Box<dyn Wait>, events: &mut Vec<Event>) -> io::Result<()> {
        self.collect_into(wait, events)
    }

    fn waker(&self) -> Waker {
        Arc::<sys::Notifier>::clone(self.selector.notifier())
    }

    fn signals(&mut self) -> Box<dyn SignalSource> {
        Box::new(ProcessSignals::new())
    }

    fn spawn(&mut self, command: &mut Command) -> io::Result<Child> {
        self.start_child(command)
    }

    fn wait_child(&mut self, process: Descriptor) -> io::Result<Option<ExitStatus>> {
        self.reap_child(process)
    }

    fn kill_child(&mut self, process: Descriptor, signal: i32) -> io::Result<()> {
        self.signal_child(process, signal)
    }

    fn read_file(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        files::read(path, limit)
    }

    fn file_changed(&mut self, path: &Path) -> io::Result<FileStamp> {
        files::changed(path)
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn interfaces(&mut self) -> io::Result<Vec<NetworkInterface>> {
        machine::interfaces()
    }

    fn host_name(&mut self) -> io::Result<String> {
        let name = rustix::system::uname();
        Ok(name.nodename().to_string_lossy().into_owned())
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}
