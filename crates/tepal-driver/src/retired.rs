use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;
use tepal_base::{Buffer, Instant};

use crate::engine::monotonic;
use crate::{
    Address, Child, Command, Connect, Descriptor, Domain, Driver, Event, ExitStatus, FileStamp,
    Half, Interest, Kind, NetworkInterface, Received, ReceivedFrom, Sent, Signal, SignalSource,
    SocketOption, Wait, Wake, Waker,
};

/// The driver of a loop that is closed: it holds no descriptor, tells the time, and refuses the
/// rest with `EBADF`, as every driver does for a token that names nothing.
///
/// A loop takes it in place of its own so that closing frees what the driver itself has open, even
/// while somebody still holds the loop.
#[derive(Debug, Default)]
pub struct Retired;

fn refused<T>() -> io::Result<T> {
    Err(Errno::BADF.into())
}

impl Driver for Retired {
    fn name(&self) -> &'static str {
        "retired"
    }

    fn now(&mut self) -> Instant {
        monotonic()
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }

    fn entropy(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        crate::sys::entropy(bytes)
    }

    fn open(&mut self, _: Domain, _: Kind) -> io::Result<Descriptor> {
        refused()
    }

    fn pipe(&mut self) -> io::Result<(Descriptor, Descriptor)> {
        refused()
    }

    fn adopt(&mut self, _: OwnedFd) -> io::Result<Descriptor> {
        refused()
    }

    fn borrow(&mut self, _: RawFd) -> io::Result<Descriptor> {
        refused()
    }

    fn raw_fd(&self, _: Descriptor) -> Option<RawFd> {
        None
    }

    fn bind(&mut self, _: Descriptor, _: &Address) -> io::Result<()> {
        refused()
    }

    fn listen(&mut self, _: Descriptor, _: u32) -> io::Result<()> {
        refused()
    }

    fn connect(&mut self, _: Descriptor, _: &Address) -> io::Result<Connect> {
        refused()
    }

    fn take_error(&mut self, _: Descriptor) -> io::Result<Option<io::Error>> {
        refused()
    }

    fn accept(&mut self, _: Descriptor) -> io::Result<(Descriptor, Address)> {
        refused()
    }

    fn receive(&mut self, _: Descriptor, target: Buffer) -> Received {
        Received { buffer: target, result: refused(), more: false }
    }

    fn receive_from(&mut self, _: Descriptor, target: Buffer) -> ReceivedFrom {
        ReceivedFrom { buffer: target, result: refused() }
    }

    fn send(&mut self, _: Descriptor, _: &[IoSlice<'_>]) -> io::Result<Sent> {
        refused()
    }

    fn send_to(&mut self, _: Descriptor, _: &[u8], _: Option<&Address>) -> io::Result<usize> {
        refused()
    }

    fn send_file(&mut self, _: Descriptor, _: Descriptor, _: u64, _: usize) -> io::Result<Sent> {
        refused()
    }

    fn read_at(&mut self, _: Descriptor, _: u64, _: &mut [u8]) -> io::Result<usize> {
        refused()
    }

    fn splice(&mut self, _: Descriptor, _: Descriptor, _: usize) -> io::Result<Sent> {
        refused()
    }

    fn unconfirmed(&mut self, _: Descriptor) -> io::Result<usize> {
        refused()
    }

    fn shutdown(&mut self, _: Descriptor, _: Half) -> io::Result<()> {
        refused()
    }

    fn close(&mut self, _: Descriptor) -> io::Result<()> {
        refused()
    }

    fn local_address(&mut self, _: Descriptor) -> io::Result<Address> {
        refused()
    }

    fn peer_address(&mut self, _: Descriptor) -> io::Result<Address> {
        refused()
    }

    fn set_option(&mut self, _: Descriptor, _: &SocketOption) -> io::Result<()> {
        refused()
    }

    fn register(&mut self, _: Descriptor, _: u64, _: Interest) -> io::Result<()> {
        refused()
    }

    fn watch(&mut self, _: Descriptor, _: u64, _: Interest) -> io::Result<()> {
        refused()
    }

    fn prepare(&mut self, _: Option<Instant>) -> Box<dyn Wait> {
        Box::new(NoWait)
    }

    fn collect(&mut self, _: Box<dyn Wait>, _: &mut Vec<Event>) -> io::Result<()> {
        Ok(())
    }

    fn waker(&self) -> Waker {
        Arc::new(NoWake)
    }

    fn signals(&mut self) -> Box<dyn SignalSource> {
        Box::new(NoSignals)
    }

    fn spawn(&mut self, _: &mut Command) -> io::Result<Child> {
        refused()
    }

    fn wait_child(&mut self, _: Descriptor) -> io::Result<Option<ExitStatus>> {
        refused()
    }

    fn kill_child(&mut self, _: Descriptor, _: i32) -> io::Result<()> {
        refused()
    }

    fn read_file(&mut self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        refused()
    }

    fn file_changed(&mut self, _: &Path) -> io::Result<FileStamp> {
        refused()
    }

    fn remove_file(&mut self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn interfaces(&mut self) -> io::Result<Vec<NetworkInterface>> {
        refused()
    }

    fn host_name(&mut self) -> io::Result<String> {
        refused()
    }

    fn variable(&mut self, _: &str) -> Option<String> {
        None
    }
}

struct NoWait;

impl Wait for NoWait {
    fn wait(&mut self) {}

    fn blocks(&self) -> bool {
        false
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

struct NoSignals;

impl SignalSource for NoSignals {
    fn subscribe(&mut self, _: Signal, _: &Waker) -> io::Result<()> {
        refused()
    }

    fn unsubscribe(&mut self, _: Signal) -> io::Result<bool> {
        Ok(false)
    }

    fn take_pending(&mut self, _: &mut Vec<Signal>) {}
}
