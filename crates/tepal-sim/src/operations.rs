//! The trait, call by call: each finds its socket and leaves the rest to [`State`].

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tepal_base::{Buffer, Instant};
use tepal_driver::{
    Address, Child, Command, Connect, Descriptor, Domain, Driver, Event, ExitStatus, FileStamp,
    Half, Interest, Kind, NetworkInterface, Received, ReceivedFrom, Sent, SignalSource,
    SocketOption, Wait, Waker,
};

use crate::driver::SimDriver;
use crate::errno::{EBADF, ENOTCONN, Fault};
use crate::ports::shown;
use crate::signals::SimSignals;
use crate::socket::{Family, Name, Role};
use crate::waiting::SimWait;

impl Driver for SimDriver {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn now(&mut self) -> Instant {
        self.kernel.now()
    }

    fn wall(&mut self) -> SystemTime {
        self.kernel.wall()
    }

    /// Seeded: the same for every run, and different for each driver of a kernel.
    fn entropy(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.call("entropy", format_args!("{}", bytes.len()), |state, driver| {
            state.driver(driver).entropy.fill(bytes);
            Ok(())
        })
    }

    fn open(&mut self, domain: Domain, kind: Kind) -> io::Result<Descriptor> {
        let args = format_args!("{domain:?} {kind:?}");
        self.call("open", args, |state, driver| state.open(driver, domain, kind))
    }

    fn pipe(&mut self) -> io::Result<(Descriptor, Descriptor)> {
        self.call("pipe", format_args!(""), |state, driver| state.pipe(driver))
    }

    /// `Unsupported`, and the descriptor is closed.
    fn adopt(&mut self, _fd: OwnedFd) -> io::Result<Descriptor> {
        self.refuse("adopt")
    }

    /// `Unsupported`.
    fn borrow(&mut self, _fd: RawFd) -> io::Result<Descriptor> {
        self.refuse("borrow")
    }

    /// `None`.
    fn raw_fd(&self, _descriptor: Descriptor) -> Option<RawFd> {
        None
    }

    fn bind(&mut self, socket: Descriptor, local: &Address) -> io::Result<()> {
        self.call("bind", format_args!("{socket:?} {local}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.bind(id, local)
        })
    }

    fn listen(&mut self, socket: Descriptor, backlog: u32) -> io::Result<()> {
        self.call("listen", format_args!("{socket:?} {backlog}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.listen(id, backlog)
        })
    }

    fn connect(&mut self, socket: Descriptor, peer: &Address) -> io::Result<Connect> {
        self.call("connect", format_args!("{socket:?} {peer}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.connect(id, peer)
        })
    }

    fn take_error(&mut self, socket: Descriptor) -> io::Result<Option<io::Error>> {
        let error = self.call("take_error", format_args!("{socket:?}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            Ok(state.socket(id).error.take())
        })?;
        Ok(error.map(io::Error::from))
    }

    fn accept(&mut self, listener: Descriptor) -> io::Result<(Descriptor, Address)> {
        self.call("accept", format_args!("{listener:?}"), |state, driver| {
            let id = state.find_socket(driver, listener)?;
            state.accept(driver, id)
        })
    }

    fn receive(&mut self, stream: Descriptor, mut target: Buffer) -> Received {
        let args = format_args!("{stream:?} {}", target.len());
        let result = self.call("receive", args, |state, driver| {
            let id = state.find(driver, stream)?;
            state.receive(id, &mut target)
        });
        let more = matches!(result, Ok((_, true)));
        Received { buffer: target, result: result.map(|(count, _)| count), more }
    }

    fn receive_from(&mut self, socket: Descriptor, mut target: Buffer) -> ReceivedFrom {
        let args = format_args!("{socket:?} {}", target.len());
        let result = self.call("receive_from", args, |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.receive_from(id, &mut target)
        });
        ReceivedFrom { buffer: target, result }
    }

    fn send(&mut self, stream: Descriptor, bytes: &[IoSlice<'_>]) -> io::Result<Sent> {
        let total: usize = bytes.iter().map(|slice| slice.len()).sum();
        self.call("send", format_args!("{stream:?} {total}"), |state, driver| {
            let id = state.find(driver, stream)?;
            state.send(id, bytes)
        })
    }

    fn send_to(
        &mut self,
        socket: Descriptor,
        bytes: &[u8],
        peer: Option<&Address>,
    ) -> io::Result<usize> {
        let args = format_args!("{socket:?} {} {peer:?}", bytes.len());
        self.call("send_to", args, |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.send_to(id, bytes, peer)
        })
    }

    /// Only from files opened by [`SimDriver::open_file`].
    fn send_file(
        &mut self,
        stream: Descriptor,
        file: Descriptor,
        offset: u64,
        count: usize,
    ) -> io::Result<Sent> {
        let args = format_args!("{stream:?} {file:?} {offset} {count}");
        self.call("send_file", args, |state, driver| {
            let (to, from) = (state.find(driver, stream)?, state.find(driver, file)?);
            state.send_file(to, from, offset, count)
        })
    }

    fn read_at(&mut self, file: Descriptor, offset: u64, target: &mut [u8]) -> io::Result<usize> {
        let args = format_args!("{file:?} {offset} {}", target.len());
        self.call("read_at", args, |state, driver| {
            let file = state.find(driver, file)?;
            state.read_file_at(file, offset, target)
        })
    }

    fn splice(&mut self, from: Descriptor, to: Descriptor, count: usize) -> io::Result<Sent> {
        self.call("splice", format_args!("{from:?} {to:?} {count}"), |state, driver| {
            let (from, to) = (state.find(driver, from)?, state.find(driver, to)?);
            state.splice(from, to, count)
        })
    }

    fn unconfirmed(&mut self, stream: Descriptor) -> io::Result<usize> {
        self.call("unconfirmed", format_args!("{stream:?}"), |state, driver| {
            let id = state.find_socket(driver, stream)?;
            Ok(state.unconfirmed(id))
        })
    }

    fn shutdown(&mut self, socket: Descriptor, half: Half) -> io::Result<()> {
        self.call("shutdown", format_args!("{socket:?} {half:?}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.shutdown(id, half)
        })
    }

    fn close(&mut self, descriptor: Descriptor) -> io::Result<()> {
        self.call("close", format_args!("{descriptor:?}"), |state, driver| {
            state.close(driver, descriptor)
        })
    }

    fn local_address(&mut self, socket: Descriptor) -> io::Result<Address> {
        self.call("local_address", format_args!("{socket:?}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            let socket = state.socket(id);
            Ok(shown(&socket.local, socket.family, socket.v6))
        })
    }

    fn peer_address(&mut self, socket: Descriptor) -> io::Result<Address> {
        self.call("peer_address", format_args!("{socket:?}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            let socket = state.socket(id);
            let connected = match &socket.role {
                Role::Stream(stream) => !stream.is_over() || socket.family == Family::UnixStream,
                Role::Datagrams(_) => socket.peer != Name::None,
                _ => false,
            };
            if connected {
                Ok(shown(&socket.peer, socket.family, socket.v6))
            } else {
                Err(ENOTCONN)
            }
        })
    }

    fn set_option(&mut self, socket: Descriptor, option: &SocketOption) -> io::Result<()> {
        self.call("set_option", format_args!("{socket:?} {option:?}"), |state, driver| {
            let id = state.find_socket(driver, socket)?;
            state.set_option(id, option)
        })
    }

    fn register(
        &mut self,
        descriptor: Descriptor,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let args = format_args!("{descriptor:?} {token} {interest:?}");
        self.call("register", args, |state, driver| {
            state.register(driver, descriptor, token, interest)
        })
    }

    fn watch(&mut self, descriptor: Descriptor, token: u64, interest: Interest) -> io::Result<()> {
        let args = format_args!("{descriptor:?} {token} {interest:?}");
        self.call("watch", args, |state, driver| state.watch(driver, descriptor, token, interest))
    }

    fn prepare(&mut self, deadline: Option<Instant>) -> Box<dyn Wait> {
        let mut state = self.kernel.lock();
        let (blocks, stuck) = state.prepare(self.driver, deadline);
        let patience = if stuck { state.config.thread_patience } else { Duration::ZERO };
        Box::new(SimWait { flag: Arc::clone(&self.flag), blocks, patience })
    }

    fn collect(&mut self, wait: Box<dyn Wait>, events: &mut Vec<Event>) -> io::Result<()> {
        drop(wait);
        let first = events.len();
        let mut state = self.kernel.lock();
        let driver = self.driver;
        state.note_call(driver, "wait");
        let result = state.collect(driver, events);
        let now = state.now;
        for event in &events[first..] {
            let Event { token, readiness } = event;
            state.trace.line(now, format_args!("d{driver} event {token} {readiness:?}"));
        }
        let count = events.len() - first;
        match &result {
            Ok(()) => state.trace.line(now, format_args!("d{driver} wait -> {count} events")),
            Err(error) => state.trace.line(now, format_args!("d{driver} wait -> {error}")),
        }
        result
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.flag) as Waker
    }

    fn signals(&mut self) -> Box<dyn SignalSource> {
        Box::new(SimSignals::new(self.kernel.shared(), self.driver))
    }

    /// `Unsupported`.
    fn spawn(&mut self, _command: &mut Command) -> io::Result<Child> {
        self.call::<()>("spawn", format_args!(""), |_, _| Err(Fault::Unsupported))?;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// `EBADF` or `EINVAL`: no descriptor is a child.
    fn wait_child(&mut self, process: Descriptor) -> io::Result<Option<ExitStatus>> {
        self.call::<()>("wait_child", format_args!("{process:?}"), |state, driver| {
            state.find(driver, process)?;
            Err(EBADF)
        })?;
        Ok(None)
    }

    /// `EBADF`: no descriptor is a child.
    fn kill_child(&mut self, process: Descriptor, signal: i32) -> io::Result<()> {
        self.call("kill_child", format_args!("{process:?} {signal}"), |_, _| Err(EBADF))
    }

    fn read_file(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.call("read_file", format_args!("{}", path.display()), |state, _| {
            state.read_file(path, limit)
        })
    }

    fn file_changed(&mut self, path: &Path) -> io::Result<FileStamp> {
        self.call("file_changed", format_args!("{}", path.display()), |state, _| {
            state.file_changed(path)
        })
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.call("remove_file", format_args!("{}", path.display()), |state, _| {
            state.remove_file(path)
        })
    }

    /// The loopback interface alone.
    fn interfaces(&mut self) -> io::Result<Vec<NetworkInterface>> {
        self.call("interfaces", format_args!(""), |_, _| Ok(()))?;
        let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Ok(vec![NetworkInterface { index: 1, name: "lo".to_owned(), addresses }])
    }

    fn host_name(&mut self) -> io::Result<String> {
        self.call("host_name", format_args!(""), |_, _| Ok(()))?;
        Ok("simulated".to_owned())
    }

    /// A simulated process has no environment.
    fn variable(&mut self, _name: &str) -> Option<String> {
        None
    }
}
