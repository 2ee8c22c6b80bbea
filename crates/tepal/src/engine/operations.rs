use std::io;

use tepal_driver::{Address, Child, Command, Descriptor, ExitStatus, Interest, Signal};

use super::{Engine, Flow, Held, Host, Object, ObjectKey};
use crate::names::{AddrInfo, HostAnswer, NameInfo, RecordsAnswer, ResolveError};

/// How an operation ended, for its completion.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// A child process ended.
    Exited(ExitStatus),
    /// A relay between two streams ended: bytes from the first to the second, and back.
    Joined(io::Result<(u64, u64)>),
    /// A layer was taken out: how it ended; or why it could not be.
    Popped(Result<tepal_layers::How, tepal_layers::Error>),
    /// A file was sent: its bytes.
    FileSent(io::Result<u64>),
    /// A server has drained: how many connections had to be aborted.
    Drained(usize),
    /// The answer to [`Engine::getaddrinfo`].
    AddrInfo(Result<Vec<AddrInfo>, ResolveError>),
    /// The answer to [`Engine::getnameinfo`].
    NameInfo(Result<NameInfo, ResolveError>),
    /// The answer to [`Engine::lookup_host`].
    Host(Result<HostAnswer, ResolveError>),
    /// The answer to [`Engine::lookup_records`].
    Records(Result<RecordsAnswer, ResolveError>),
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

/// A child process whose end is awaited.
pub(crate) struct ChildWatch<H: Host> {
    process: Descriptor,
    completion: Option<H::Completion>,
}

impl<H: Host> ChildWatch<H> {
    pub(super) fn visit<E>(
        &self,
        visit: &mut impl FnMut(Held<'_, H>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.completion.as_ref().map_or(Ok(()), |completion| visit(Held::Completion(completion)))
    }
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

    /// Starts a child process. `completion` gets [`Outcome::Exited`] once; the child is reaped.
    ///
    /// # Errors
    ///
    /// The kernel's: the program is missing, no descriptors are left. Then there is no child, or one
    /// that has been killed and is reaped in a later turn, when it has died.
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
    pub(crate) fn close_object(&self, mut object: Object<H>) {
        let core = self.core();
        if let Object::Stream(stream) = &mut object
            && let Some(pipe) = stream.take_pipe()
        {
            core.give_pipe(pipe);
        }
        let descriptor = match &object {
            Object::Stream(stream) => stream.descriptor(),
            Object::Datagram(endpoint) => Some(endpoint.descriptor()),
            Object::Listener(listener) => Some(listener.descriptor()),
            Object::Watch(_) => None,
            Object::Child(child) => Some(child.process),
            Object::Exchange(exchange) => exchange.descriptor(),
        };
        if let Some(descriptor) = descriptor {
            // There is nobody to tell, and the token is gone either way.
            let _ = core.driver.borrow_mut().close(descriptor);
        }
        drop(object);
    }
}
