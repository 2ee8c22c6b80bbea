use std::io;
use std::time::Duration;

use tepal_driver::{Address, Child, Command, Connect, Descriptor, ExitStatus, Interest, Signal};

use super::{Engine, Flow, Host, Object, ObjectKey, Step, TimerKey};

/// How an operation ended, for its completion.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// A connection attempt without a protocol: the connected descriptor, to make a stream of.
    Connected(io::Result<Descriptor>),
    /// A child process ended.
    Exited(ExitStatus),
    /// A relay between two streams ended: bytes from the first to the second, and back.
    Joined(io::Result<(u64, u64)>),
    /// A file was sent: its bytes.
    FileSent(io::Result<u64>),
    /// A server has drained: how many connections had to be aborted.
    Drained(usize),
}

/// Something went wrong that belongs to no caller.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// What was being done.
    pub context: &'static str,
    /// What the kernel said.
    pub error: io::Error,
}

/// The name of a watched child.
pub type ChildKey<H> = ObjectKey<H>;

/// A connection attempt whose protocol is made later, if it succeeds.
pub(crate) struct Attempt<H: Host> {
    descriptor: Descriptor,
    completion: Option<H::Completion>,
    timer: Option<TimerKey<H>>,
}

/// A child process whose end is awaited.
pub(crate) struct ChildWatch<H: Host> {
    process: Descriptor,
    completion: Option<H::Completion>,
}

impl<H: Host> Engine<H> {
    /// Opens a socket towards `peer`, bound to `local` if given.
    ///
    /// # Errors
    ///
    /// The kernel's; the socket is closed then.
    pub fn open_socket(
        &self,
        peer: &Address,
        kind: tepal_driver::Kind,
        local: Option<&Address>,
    ) -> io::Result<Descriptor> {
        let mut driver = self.core().driver.borrow_mut();
        let domain = super::listener::domain_of(peer)?;
        let socket = driver.open(domain, kind)?;
        let prepared = (|| {
            if matches!(peer, Address::Ip(_)) && kind == tepal_driver::Kind::Stream {
                driver.set_option(socket, &tepal_driver::SocketOption::NoDelay(true))?;
            }
            match local {
                Some(local) => driver.bind(socket, local),
                None => Ok(()),
            }
        })();
        if prepared.is_err() {
            // The first error is the one to tell.
            let _ = driver.close(socket);
        }
        prepared.map(|()| socket)
    }

    /// Connects to an address without a protocol; `completion` gets
    /// [`Outcome::Connected`]. The key cancels the attempt ([`Engine::attempt_cancel`]).
    pub fn attempt(
        &self,
        peer: &Address,
        local: Option<&Address>,
        timeout: Option<Duration>,
        completion: H::Completion,
    ) -> Option<ObjectKey<H>> {
        let core = self.core();
        let started =
            self.open_socket(peer, tepal_driver::Kind::Stream, local).and_then(|socket| {
                let state = core.driver.borrow_mut().connect(socket, peer);
                if state.is_err() {
                    let _ = core.driver.borrow_mut().close(socket);
                }
                Ok((socket, state?))
            });
        let socket = match started {
            Ok((socket, Connect::InProgress)) => socket,
            Ok((socket, Connect::Connected)) => {
                self.push_outcome(completion, Outcome::Connected(Ok(socket)));
                return None;
            }
            Err(error) => {
                self.push_outcome(completion, Outcome::Connected(Err(error)));
                return None;
            }
        };
        let attempt = Attempt { descriptor: socket, completion: Some(completion), timer: None };
        let key = core.objects.borrow_mut().insert(Object::Attempt(Box::new(attempt)));
        if let Err(error) = core.driver.borrow_mut().register(socket, key.to_bits(), Interest::BOTH)
        {
            self.end_attempt(key, Err(error));
            return None;
        }
        if let Some(timeout) = timeout {
            let timer = self.arm_object(key, None, self.now() + timeout);
            if let Some(Object::Attempt(attempt)) = core.objects.borrow_mut().get_mut(key) {
                attempt.timer = Some(timer);
            }
        }
        Some(key)
    }

    /// Gives an attempt up and closes its socket; its completion is dropped untold.
    pub fn attempt_cancel(&self, key: ObjectKey<H>) {
        if matches!(self.core().objects.borrow().get(key), Some(Object::Attempt(_))) {
            let gone = self.core().objects.borrow_mut().remove(key);
            gone.into_iter().for_each(|object| self.close_object(object));
        }
    }

    pub(super) fn attempt_step(&self, key: ObjectKey<H>, step: Step) -> Flow {
        let descriptor = match self.core().objects.borrow().get(key) {
            Some(Object::Attempt(attempt)) => attempt.descriptor,
            _ => return Flow::Continue(()),
        };
        if step == Step::Timeout {
            let error = io::Error::new(io::ErrorKind::TimedOut, "no answer to the connect in time");
            self.end_attempt(key, Err(error));
            return Flow::Continue(());
        }
        let mut driver = self.core().driver.borrow_mut();
        let result = match driver.take_error(descriptor) {
            Ok(None) => match driver.peer_address(descriptor) {
                Ok(_) => Ok(()),
                // A spurious event: the attempt still runs.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return Flow::Continue(());
                }
                Err(error) => Err(error),
            },
            Ok(Some(error)) | Err(error) => Err(error),
        };
        drop(driver);
        self.end_attempt(key, result);
        Flow::Continue(())
    }

    fn end_attempt(&self, key: ObjectKey<H>, result: io::Result<()>) {
        let Some(Object::Attempt(mut attempt)) = self.core().objects.borrow_mut().remove(key)
        else {
            return;
        };
        if let Some(timer) = attempt.timer.take() {
            self.timer_remove(timer);
        }
        let Some(completion) = attempt.completion.take() else { return };
        let result = match result {
            Ok(()) => Ok(attempt.descriptor),
            Err(error) => {
                let _ = self.core().driver.borrow_mut().close(attempt.descriptor);
                Err(error)
            }
        };
        self.push_outcome(completion, Outcome::Connected(result));
    }

    /// Starts a child process. `completion` gets [`Outcome::Exited`] once; the child is reaped.
    ///
    /// # Errors
    ///
    /// The kernel's: the program is missing, no descriptors are left. Nothing stays behind then.
    pub fn spawn(
        &self,
        command: &mut Command,
        completion: H::Completion,
    ) -> io::Result<(Child, ChildKey<H>)> {
        let core = self.core();
        let child = core.driver.borrow_mut().spawn(command)?;
        let watch = ChildWatch { process: child.process, completion: Some(completion) };
        let key = core.objects.borrow_mut().insert(Object::Child(Box::new(watch)));
        let registered =
            core.driver.borrow_mut().register(child.process, key.to_bits(), Interest::READ);
        if let Err(error) = registered {
            let gone = core.objects.borrow_mut().remove(key);
            let mut driver = core.driver.borrow_mut();
            let _ = driver.kill_child(child.process, 9);
            let pipes = [child.stdin, child.stdout, child.stderr, child.terminal];
            pipes.into_iter().flatten().for_each(|pipe| drop(driver.close(pipe)));
            drop(driver);
            gone.into_iter().for_each(|object| self.close_object(object));
            return Err(error);
        }
        Ok((child, key))
    }

    /// Sends a signal to a child.
    ///
    /// # Errors
    ///
    /// `ESRCH` (as [`io::ErrorKind::NotFound`]) once it has ended.
    pub fn child_kill(&self, key: ChildKey<H>, signal: Signal) -> io::Result<()> {
        let core = self.core();
        match core.objects.borrow().get(key) {
            Some(Object::Child(child)) => {
                core.driver.borrow_mut().kill_child(child.process, signal)
            }
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended")),
        }
    }

    pub(super) fn child_step(&self, key: ChildKey<H>) -> Flow {
        let core = self.core();
        let process = match core.objects.borrow().get(key) {
            Some(Object::Child(child)) => child.process,
            _ => return Flow::Continue(()),
        };
        let status = match core.driver.borrow_mut().wait_child(process) {
            Ok(None) => return Flow::Continue(()),
            Ok(Some(status)) => status,
            Err(_) => ExitStatus::Unknown,
        };
        let gone = core.objects.borrow_mut().remove(key);
        let _ = core.driver.borrow_mut().close(process);
        match gone {
            Some(Object::Child(mut child)) => match child.completion.take() {
                Some(completion) => self.host().complete(self, completion, Outcome::Exited(status)),
                None => Flow::Continue(()),
            },
            _ => Flow::Continue(()),
        }
    }

    /// Closes what an object holds, telling nobody, and drops it.
    pub(crate) fn close_object(&self, object: Object<H>) {
        let core = self.core();
        let descriptor = match &object {
            Object::Stream(stream) => stream.descriptor(),
            Object::Datagram(endpoint) => Some(endpoint.descriptor()),
            Object::Listener(listener) => Some(listener.descriptor()),
            Object::Watch(_) => None,
            Object::Attempt(attempt) => Some(attempt.descriptor),
            Object::Child(child) => Some(child.process),
        };
        if let Some(descriptor) = descriptor {
            // There is nobody to tell, and the token is gone either way.
            let _ = core.driver.borrow_mut().close(descriptor);
        }
        if let Object::Attempt(attempt) = &object
            && let Some(timer) = attempt.timer
        {
            self.timer_remove(timer);
        }
        drop(object);
    }
}
