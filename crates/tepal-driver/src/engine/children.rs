//! Child processes.
//!
//! `std::process::Command` starts them (by `posix_spawn` where it can), and from then on a child is
//! known by a descriptor that becomes readable when it has ended (a pidfd), never by SIGCHLD and
//! never by its number alone.
//!
//! A child that has ended stays a zombie until its parent asks. If a token is closed before
//! [`wait_child`](crate::Driver::wait_child) has told a status, the engine keeps the descriptor,
//! goes on waiting for it and reaps it in `collect`. If the driver itself is dropped, the rest goes
//! to a list of the process, which is gone through whenever a driver spawns, waits or is dropped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use tepal_base::Key;

use super::Engine;
use super::streams::unsupported;
use crate::entry::{self, Entry, Fd, Kind, Registration};
use crate::selector::{Selector, Trigger};
use crate::{Child, Command, Descriptor, ExitStatus, Interest, Stdio, sys};

impl<S: Selector> Engine<S> {
    pub(super) fn start_child(&mut self, command: &mut Command) -> io::Result<Child> {
        reap_forsaken();
        sys::check_process_watching().map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => unsupported("this system has no descriptors for processes"),
            _ => error,
        })?;
        let mut setup = Setup::new(command)?;
        let mut started = setup.command.spawn()?;
        let pid = started.id();
        let (process, status) = match sys::watch_process(pid) {
            Ok(process) => (Ok(process), None),
            // Nobody else may reap it, but where SIGCHLD is ignored the kernel does, perhaps before
            // this. What stands for it is then a descriptor that is readable at once.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                (sys::ready_descriptor(), Some(ExitStatus::Unknown))
            }
            Err(error) => (Err(error), None),
        };
        let process = match process {
            Ok(process) => process,
            Err(error) => {
                // No descriptor is left for it (`EMFILE`): a child that nobody can hear of must not
                // run. Killing and waiting fail only if it has ended.
                let _ = started.kill();
                let _ = started.wait();
                return Err(error);
            }
        };
        // Dropping the command closes the child's ends, so that its own are the only ones.
        let Setup { stdin, stdout, stderr, terminal, .. } = setup;
        let mut insert =
            |end: Option<OwnedFd>, kind| end.map(|end| self.insert(Entry::owned(end, kind)));
        let pipe = Kind::Pipe { blocking: false };
        Ok(Child {
            pid,
            stdin: insert(stdin, pipe),
            stdout: insert(stdout, pipe),
            stderr: insert(stderr, pipe),
            terminal: insert(terminal, Kind::Device { blocking: false }),
            process: self.insert(Entry::owned(process, Kind::Child { pid, status })),
        })
    }

    pub(super) fn reap_child(&mut self, process: Descriptor) -> io::Result<Option<ExitStatus>> {
        let entry = self.entries.get_mut(entry::key(process)).ok_or(Errno::BADF)?;
        let Kind::Child { pid, status } = entry.kind else { return Err(Errno::BADF.into()) };
        let status = match status {
            Some(status) => Some(status),
            None => sys::reap(entry.as_fd(), pid)?,
        };
        entry.kind = Kind::Child { pid, status };
        if status.is_none() {
            self.await_ready(entry::key(process), Interest::READ);
        }
        Ok(status)
    }

    pub(super) fn signal_child(&mut self, process: Descriptor, signal: i32) -> io::Result<()> {
        let entry = self.entries.get_mut(entry::key(process)).ok_or(Errno::BADF)?;
        match entry.kind {
            Kind::Child { pid, status: None } => sys::kill(entry.as_fd(), pid, signal),
            Kind::Child { status: Some(_), .. } => Err(Errno::SRCH.into()),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// Takes over a child whose token is gone.
    pub(super) fn keep_orphan(&mut self, old: Key<Entry>, mut entry: Entry, pid: u32) {
        // Its descriptor stays open, so that nothing but a call takes it out of the kernel's set.
        entry.sole = false;
        self.unregister(old, &entry);
        entry.kind = Kind::Orphan { pid };
        entry.registration = Registration::None;
        let key = self.entries.insert(entry);
        self.reap_orphan(key);
    }

    /// Reaps an orphan if it has ended, else waits for its end.
    pub(super) fn reap_orphan(&mut self, key: Key<Entry>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Kind::Orphan { pid } = entry.kind else { return };
        if !matches!(sys::reap(entry.as_fd(), pid), Ok(None)) {
            if let Some(entry) = self.entries.remove(key) {
                self.unregister(key, &entry);
            }
            return;
        }
        if entry.registration != Registration::None {
            return;
        }
        let interest = Interest::READ;
        if let Ok(slot) = self.selector.add(entry.as_fd(), key, Trigger::Level, interest) {
            entry.registration =
                Registration::Levels { token: 0, slot: Some(slot), interest, once: false };
        } else if let Some(entry) = self.entries.remove(key) {
            forsake(entry);
        }
    }
}

// Closes descriptors and tells the kernel nothing else: in a forked child the epoll set is still
// the parent's, and to remove something from it would be felt there.
impl<S: Selector> Drop for Engine<S> {
    fn drop(&mut self) {
        for entry in self.entries.drain() {
            match entry.kind {
                Kind::Child { status: None, .. } | Kind::Orphan { .. } => forsake(entry),
                _ => {}
            }
        }
        reap_forsaken();
    }
}

// Children whose driver is gone.
static FORSAKEN: Mutex<Vec<(OwnedFd, u32)>> = Mutex::new(Vec::new());

fn forsake(entry: Entry) {
    if let (Fd::Owned(fd), Kind::Child { pid, .. } | Kind::Orphan { pid }) = (entry.fd, entry.kind)
    {
        FORSAKEN.lock().unwrap_or_else(PoisonError::into_inner).push((fd, pid));
    }
}

fn reap_forsaken() {
    let mut forsaken = FORSAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    forsaken.retain(|(process, pid)| matches!(sys::reap(process.as_fd(), *pid), Ok(None)));
}

/// A command for the standard library, and the parent's ends of its streams.
struct Setup {
    command: process::Command,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Setup {
    fn new(wanted: &mut Command) -> io::Result<Setup> {
        let mut setup = Setup {
            command: process::Command::new(&wanted.program),
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
        };
        setup.describe(wanted);
        if wanted.pty {
            setup.give_pty()?;
        } else {
            setup.give_streams(wanted)?;
        }
        Ok(setup)
    }

    fn describe(&mut self, wanted: &Command) {
        let command = &mut self.command;
        command.args(&wanted.args);
        if wanted.env_clear {
            command.env_clear();
        }
        for (name, value) in &wanted.envs {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &wanted.directory {
            command.current_dir(directory);
        }
        if wanted.process_group && !wanted.pty {
            command.process_group(0);
        }
    }

    fn give_streams(&mut self, wanted: &Command) -> io::Result<()> {
        match &wanted.stdin {
            Stdio::Piped => {
                let (from, to) = sys::pipe()?;
                self.command.stdin(from);
                self.stdin = Some(nonblocking(to)?);
            }
            Stdio::ToStdout => return Err(only_for_stderr()),
            other => {
                self.command.stdin(inherited(other)?);
            }
        }
        let mut for_stderr = None;
        match &wanted.stdout {
            Stdio::Piped => {
                let (from, to) = sys::pipe()?;
                if matches!(wanted.stderr, Stdio::ToStdout) {
                    for_stderr = Some(process::Stdio::from(to.try_clone()?));
                }
                self.command.stdout(to);
                self.stdout = Some(nonblocking(from)?);
            }
            Stdio::ToStdout => return Err(only_for_stderr()),
            other => {
                self.command.stdout(inherited(other)?);
            }
        }
        match (&wanted.stderr, &wanted.stdout) {
            (Stdio::Piped, _) => {
                let (from, to) = sys::pipe()?;
                self.command.stderr(to);
                self.stderr = Some(nonblocking(from)?);
            }
            (Stdio::ToStdout, Stdio::Inherit) => {
                self.command.stderr(rustix::stdio::stdout().try_clone_to_owned()?);
            }
            (Stdio::ToStdout, stdout) => {
                let stderr = for_stderr.map_or_else(|| inherited(stdout), Ok)?;
                self.command.stderr(stderr);
            }
            (other, _) => {
                self.command.stderr(inherited(other)?);
            }
        }
        Ok(())
    }

    fn give_pty(&mut self) -> io::Result<()> {
        let (master, terminal) = sys::open_pty()?;
        self.command.stdin(terminal.try_clone()?);
        self.command.stdout(terminal.try_clone()?);
        self.command.stderr(terminal);
        self.terminal = Some(nonblocking(master)?);
        // SAFETY: between fork and exec only these two system calls are made; they take no lock and
        // allocate nothing. The terminal is descriptor 0 by then.
        unsafe {
            self.command.pre_exec(|| {
                rustix::process::setsid()?;
                let terminal = BorrowedFd::borrow_raw(0);
                Ok(rustix::process::ioctl_tiocsctty(terminal)?)
            });
        }
        Ok(())
    }
}

fn nonblocking(end: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Ok(end)
}

fn inherited(stream: &Stdio) -> io::Result<process::Stdio> {
    Ok(match stream {
        Stdio::Null => process::Stdio::null(),
        Stdio::Fd(fd) => process::Stdio::from(fd.try_clone()?),
        _ => process::Stdio::inherit(),
    })
}

fn only_for_stderr() -> io::Error {
    let text = "only standard error can go where standard output goes";
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
