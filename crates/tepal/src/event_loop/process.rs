use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use tepal_driver::{Command, Descriptor, ExitStatus, Signal};

use super::fate::ClosedCell;
use super::host::{Bound, RustHost};
use super::{Loop, Pending, Protocol, Transport};
use crate::engine::{ChildKey, Outcome};
use crate::{Closed, Reads, StreamOptions};

/// What to do with a child process's output and its end. Every method has a default.
///
/// A panic in a callback costs the child, as it would a connection: its pipes are closed, it is
/// killed, and nothing more is told.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Command, ExitStatus, Process, ProcessProtocol, Stdio};
///
/// struct Lines(Vec<String>);
///
/// impl ProcessProtocol for Lines {
///     fn pipe_data_received(&mut self, _: &Process, _: i32, data: &[u8]) -> usize {
///         // What has no end yet stays in the transport.
///         let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
///         self.0.push(String::from_utf8_lossy(&data[..end]).into_owned());
///         end + 1
///     }
///     fn process_exited(&mut self, _: &Process, status: ExitStatus) {
///         assert_eq!(status, ExitStatus::Code(3));
///     }
///     fn connection_lost(&mut self, process: &Process) {
///         assert_eq!(self.0, ["one", "two"]);
///         process.event_loop().stop();
///     }
/// }
///
/// let command = Command {
///     program: "sh".into(),
///     args: vec!["-c".into(), "echo one; echo two; exit 3".into()],
///     stdout: Stdio::Piped,
///     ..Command::default()
/// };
/// event_loop.subprocess(Lines(Vec::new()), command)?;
/// event_loop.run_forever()?;
/// # Ok(())
/// # }
/// ```
pub trait ProcessProtocol: 'static {
    /// The child runs.
    fn connection_made(&mut self, process: &Process) {
        let _ = process;
    }

    /// The child wrote to descriptor `fd` (1 or 2; 0 for a pseudo-terminal). Returns how many bytes
    /// were used, as [`Protocol::data_received`] does.
    fn pipe_data_received(&mut self, process: &Process, fd: i32, data: &[u8]) -> usize {
        let _ = (process, fd);
        data.len()
    }

    /// A pipe has closed; also standard input, when the child closed its end.
    fn pipe_connection_lost(&mut self, process: &Process, fd: i32, closed: &Closed) {
        let _ = (process, fd, closed);
    }

    /// The child has ended, and has been reaped. Output may still be on its way.
    fn process_exited(&mut self, process: &Process, status: ExitStatus) {
        let _ = (process, status);
    }

    /// The child has ended and all its pipes have closed: nothing more will come.
    fn connection_lost(&mut self, process: &Process) {
        let _ = process;
    }
}

/// A child process. Cheap to clone; dropping it neither ends nor abandons the child.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let event_loop = tepal::EventLoop::new()?;
/// use tepal::{Command, ExitStatus, ProcessProtocol};
///
/// struct Quiet;
/// impl ProcessProtocol for Quiet {}
///
/// let command = Command { program: "sleep".into(), args: vec!["60".into()], ..Command::default() };
/// let process = event_loop.subprocess(Quiet, command)?;
/// process.terminate()?;
/// let status = event_loop.run_until_complete(process.wait())?;
/// assert_eq!(status, ExitStatus::Signal(15));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Process(Rc<Inner>);

struct Inner {
    lp: Loop,
    pid: u32,
    child: Cell<Option<ChildKey<RustHost>>>,
    // None while it is called, and after the end.
    protocol: RefCell<Option<Box<dyn ProcessProtocol>>>,
    pipes: RefCell<Vec<(i32, Transport)>>,
    open: Cell<usize>,
    status: Cell<Option<ExitStatus>>,
    waiters: RefCell<Vec<Waiter>>,
}

type Waiter = Box<dyn FnOnce(ExitStatus)>;

impl Process {
    pub(super) fn start(
        lp: &Loop,
        protocol: Box<dyn ProcessProtocol>,
        command: &mut Command,
    ) -> io::Result<Process> {
        // The process value exists after the child does, so the completion finds it through a cell.
        let place: Rc<RefCell<Option<Process>>> = Rc::default();
        let found = Rc::clone(&place);
        let completion = Box::new(move |_: &Loop, outcome: Outcome| {
            let process = found.borrow_mut().take();
            if let (Some(process), Outcome::Exited(status)) = (process, outcome) {
                process.exited(status);
            }
        });
        let (child, key) = lp.engine().spawn(command, completion)?;
        let process = Process(Rc::new(Inner {
            lp: lp.clone(),
            pid: child.pid,
            child: Cell::new(Some(key)),
            protocol: RefCell::new(Some(protocol)),
            pipes: RefCell::default(),
            open: Cell::new(0),
            status: Cell::new(None),
            waiters: RefCell::default(),
        }));
        *place.borrow_mut() = Some(process.clone());
        let made = process.clone();
        lp.call_soon(move |_| {
            made.call(|protocol, process| protocol.connection_made(process));
        });
        let pipes = [
            (0, child.stdin, Reads::Gone),
            (1, child.stdout, Reads::Bytes),
            (2, child.stderr, Reads::Bytes),
            (0, child.terminal, Reads::Bytes),
        ];
        for (fd, pipe, reads) in pipes {
            if let Some(descriptor) = pipe {
                process.add_pipe(fd, descriptor, reads);
            }
        }
        Ok(process)
    }

    fn add_pipe(&self, fd: i32, descriptor: Descriptor, reads: Reads) {
        let pipe = Pipe { process: Rc::downgrade(&self.0), keep: Some(self.clone()), fd };
        let closed = ClosedCell::default();
        let protocol = Bound::new(Box::new(pipe), closed.clone());
        let engine = self.0.lp.engine();
        let options = StreamOptions { reads, ..StreamOptions::default() };
        let key = engine.stream(descriptor, protocol, options);
        let transport = Transport::new(self.0.lp.clone(), key, closed);
        self.0.pipes.borrow_mut().push((fd, transport));
        self.0.open.set(self.0.open.get() + 1);
    }

    /// The loop.
    pub fn event_loop(&self) -> &Loop {
        &self.0.lp
    }

    /// The child's process id. Once it has ended the number may belong to another process: signal
    /// it by [`send_signal`](Process::send_signal), which cannot miss.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// How the child ended; `None` while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        self.0.status.get()
    }

    /// Waits for the end of the child.
    pub fn wait(&self) -> Pending<ExitStatus> {
        let (operation, finish) = Pending::new();
        match self.status() {
            Some(status) => finish(status),
            None => self.0.waiters.borrow_mut().push(Box::new(finish)),
        }
        operation
    }

    /// The transport of a pipe: 0 writes to the child's standard input, 1 and 2 read what it
    /// writes. A pseudo-terminal is 0, in both directions.
    pub fn pipe(&self, fd: i32) -> Option<Transport> {
        self.0.pipes.borrow().iter().find(|pipe| pipe.0 == fd).map(|pipe| pipe.1.clone())
    }

    /// Sends a signal to the child, never to another process that got its number.
    ///
    /// # Errors
    ///
    /// `NotFound` once it has ended.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        match self.0.child.get() {
            Some(key) => self.0.lp.engine().child_kill(key, signal),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended")),
        }
    }

    /// Asks the child to end (SIGTERM).
    ///
    /// # Errors
    ///
    /// As for [`send_signal`](Process::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(15)
    }

    /// Ends the child (SIGKILL).
    ///
    /// # Errors
    ///
    /// As for [`send_signal`](Process::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(9)
    }

    /// Closes all pipes, and kills the child if it still runs.
    pub fn close(&self) {
        let pipes: Vec<_> = self.0.pipes.borrow().iter().map(|pipe| pipe.1.clone()).collect();
        pipes.iter().for_each(Transport::close);
        // Ended already is what was wanted.
        let _ = self.kill();
    }

    fn call<R>(&self, call: impl FnOnce(&mut dyn ProcessProtocol, &Process) -> R) -> Option<R> {
        let mut protocol = self.0.protocol.borrow_mut().take()?;
        let closing = CloseOnPanic(self);
        let result = call(&mut *protocol, self);
        std::mem::forget(closing);
        *self.0.protocol.borrow_mut() = Some(protocol);
        Some(result)
    }

    fn exited(&self, status: ExitStatus) {
        self.0.status.set(Some(status));
        self.0.child.set(None);
        // Before the callback, which may panic. Who waits goes on in the next turn, behind it.
        let waiters = self.0.waiters.take();
        waiters.into_iter().for_each(|finish| finish(status));
        self.call(|protocol, process| protocol.process_exited(process, status));
        self.end_if_done();
    }

    fn end_if_done(&self) {
        if self.0.open.get() == 0 && self.0.status.get().is_some() {
            self.call(|protocol, process| protocol.connection_lost(process));
            let protocol = self.0.protocol.borrow_mut().take();
            drop(protocol);
        }
    }
}

// A protocol that panicked is gone, and nobody else would end the child.
struct CloseOnPanic<'a>(&'a Process);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

// The protocol of one pipe: passes everything on.
struct Pipe {
    process: Weak<Inner>,
    // Keeps the process as long as the pipe is open.
    keep: Option<Process>,
    fd: i32,
}

impl Pipe {
    fn process(&self) -> Option<Process> {
        self.process.upgrade().map(Process)
    }
}

impl Protocol for Pipe {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        let fd = self.fd;
        let used = self.process().and_then(|process| {
            process.call(|protocol, process| protocol.pipe_data_received(process, fd, data))
        });
        used.unwrap_or(data.len())
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        let fd = self.fd;
        if let Some(process) = self.process() {
            process.0.open.set(process.0.open.get() - 1);
            process.call(|protocol, process| protocol.pipe_connection_lost(process, fd, closed));
            process.end_if_done();
        }
        self.keep = None;
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid()).field("status", &self.status()).finish()
    }
}
