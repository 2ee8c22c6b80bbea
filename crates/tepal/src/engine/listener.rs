use std::io;
use std::time::Duration;

use tepal_driver::{Address, Descriptor, Domain, Interest};

use super::objects::{Object, ObjectKey};
use super::{Engine, Flow, Held, Host, Step, TimerKey, flow_of};
use crate::transport::Stream;

/// The name of a listening socket.
pub type ListenerKey<H> = ObjectKey<H>;

/// A listening socket.
pub(crate) struct Listener<H: Host> {
    descriptor: Descriptor,
    // None while it is called.
    factory: Option<H::Factory>,
    // The kernel is asked to tell of connections, by levels.
    asked: bool,
    // How many to accept now, and the look at the kernel that told of some last.
    batch: usize,
    heard: u32,
    paused: bool,
    // Connections accepted here that still exist, and how many there may be.
    open: usize,
    most: usize,
    // Armed while accepting is suspended after an error.
    timer: Option<TimerKey<H>>,
    suspended: bool,
    broken: bool,
}

/// Why a listener could not take a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptFault {
    /// The process or the system is out of something; the listener tries again after
    /// a tenth of a second.
    Exhausted(io::Error),
    /// The connection that waited is lost; others go on.
    Setup(io::Error),
    /// The listening socket is broken: nothing more will be accepted.
    Broken(io::Error),
}

/// How long a listener waits after running out of descriptors or memory. Short enough to recover
/// well within a second, long enough not to spin.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How many connections one listener accepts in one turn, so that a flood of them does not hold up
/// those that exist.
const ACCEPTS_PER_TURN: usize = 64;

impl<H: Host> Listener<H> {
    pub(super) fn descriptor(&self) -> Descriptor {
        self.descriptor
    }

    /// A look at the kernel says that connections wait. Whether some are taken now.
    ///
    /// Most come alone, and to ask for another costs half of what accepting one does (the kernel
    /// makes a socket before it finds that nobody waits). So one is taken first, and twice as many
    /// as before whenever the next look finds that there are more.
    pub(super) fn note_readable(&mut self, look: u32) -> bool {
        let more = look == self.heard.wrapping_add(1);
        self.batch = if more { (2 * self.batch).min(ACCEPTS_PER_TURN) } else { 1 };
        self.heard = look;
        self.is_open()
    }

    pub(super) fn visit<E>(
        &self,
        visit: &mut impl FnMut(Held<'_, H>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.factory.as_ref().map_or(Ok(()), |factory| visit(Held::Factory(factory)))
    }

    // Whether it takes connections.
    fn is_open(&self) -> bool {
        !self.paused && !self.suspended && !self.broken && self.open < self.most
    }
}

impl<H: Host> Engine<H> {
    /// Accepts connections on a listening socket; each gets a protocol of `factory`'s. At most
    /// `most` connections exist at once; further ones wait in the kernel's backlog.
    ///
    /// # Errors
    ///
    /// The driver's; the descriptor is closed then.
    pub fn listener(
        &self,
        descriptor: Descriptor,
        factory: H::Factory,
        most: usize,
    ) -> io::Result<ListenerKey<H>> {
        let core = self.core();
        let listener = Listener {
            descriptor,
            factory: Some(factory),
            asked: true,
            batch: 1,
            heard: core.looks.get().wrapping_sub(1),
            paused: false,
            open: 0,
            most,
            timer: None,
            suspended: false,
            broken: false,
        };
        let key = core.objects.borrow_mut().insert(Object::Listener(Box::new(listener)));
        let registered = core.driver.borrow_mut().watch(descriptor, key.to_bits(), Interest::READ);
        if let Err(error) = registered {
            self.listener_close(key);
            return Err(error);
        }
        Ok(key)
    }

    /// Stops accepting and closes the listening socket. Connections go on. Whether it was open.
    pub fn listener_close(&self, key: ListenerKey<H>) -> bool {
        if !matches!(self.core().objects.borrow().get(key), Some(Object::Listener(_))) {
            return false;
        }
        let gone = self.core().objects.borrow_mut().remove(key);
        if let Some(object) = gone {
            if let Object::Listener(listener) = &object
                && let Some(timer) = listener.timer
            {
                self.timer_remove(timer);
            }
            self.close_object(object);
        }
        true
    }

    /// Suspends or resumes accepting.
    pub fn listener_pause(&self, key: ListenerKey<H>, paused: bool) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(Object::Listener(listener)) = objects.get_mut(key) else { return };
        listener.paused = paused;
        let open = listener.is_open();
        drop(objects);
        if open {
            self.listener_ask(key, true);
        }
    }

    /// The address that a listener is bound to.
    ///
    /// # Errors
    ///
    /// The kernel's; `NotFound` if the listener is closed.
    pub fn listener_address(&self, key: ListenerKey<H>) -> io::Result<Address> {
        match self.core().objects.borrow().get(key) {
            Some(Object::Listener(listener)) => {
                self.core().driver.borrow_mut().local_address(listener.descriptor)
            }
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "the listener is closed")),
        }
    }

    /// The descriptor of a listener.
    pub fn listener_descriptor(&self, key: ListenerKey<H>) -> Option<Descriptor> {
        match self.core().objects.borrow().get(key) {
            Some(Object::Listener(listener)) => Some(listener.descriptor),
            _ => None,
        }
    }

    /// A connection of this listener is gone.
    pub(crate) fn listener_release(&self, key: ListenerKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let mut open = false;
        if let Some(Object::Listener(listener)) = objects.get_mut(key) {
            listener.open -= 1;
            open = listener.is_open();
        }
        drop(objects);
        if open {
            self.listener_ask(key, true);
        }
        self.host().connection_released(self, key);
    }

    /// The connections that were accepted on a listener and still exist, also after it was closed.
    pub fn listener_streams(&self, key: ListenerKey<H>) -> Vec<ObjectKey<H>> {
        let objects = self.core().objects.borrow();
        let of_this = |object: &Object<H>| match object {
            Object::Stream(stream) => stream.listener() == Some(key),
            _ => false,
        };
        objects.iter().filter(|(_, object)| of_this(object)).map(|(key, _)| key).collect()
    }

    /// The time of a suspension is over.
    pub(super) fn listener_step(&self, key: ListenerKey<H>, step: Step) -> Flow {
        debug_assert_eq!(step, Step::Timeout, "a listener has no other step");
        let open = match self.core().objects.borrow_mut().get_mut(key) {
            Some(Object::Listener(listener)) => {
                listener.suspended = false;
                listener.is_open()
            }
            _ => false,
        };
        if open {
            self.listener_ask(key, true);
        }
        Flow::Continue(())
    }

    /// Connections wait, and the listener takes none: it is not to hear of them in every look.
    pub(super) fn listener_ignore(&self, key: ListenerKey<H>) {
        self.listener_ask(key, false);
    }

    // Asks the kernel to tell of connections, or not to. Where it cannot be asked, the listener
    // tries again later.
    fn listener_ask(&self, key: ListenerKey<H>, asked: bool) {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(Object::Listener(listener)) = objects.get_mut(key) else { return };
        if listener.asked == asked {
            return;
        }
        let interest = if asked { Interest::READ } else { Interest::NONE };
        let result = core.driver.borrow_mut().watch(listener.descriptor, key.to_bits(), interest);
        match result {
            Ok(()) => listener.asked = asked,
            // It goes on to hear, which costs time and nothing else.
            Err(_) if !asked => {}
            Err(error) => {
                listener.suspended = true;
                drop(objects);
                // Nobody is called who could break the run.
                let _ = self.accept_fault(key, Some(AcceptFault::Exhausted(error)));
            }
        }
    }

    /// Takes the connections that wait, as many as are due.
    pub(super) fn listener_accept(&self, key: ListenerKey<H>) -> Flow {
        let core = self.core();
        let mut taken = 0;
        loop {
            let mut objects = core.objects.borrow_mut();
            let Some(Object::Listener(listener)) = objects.get_mut(key) else {
                return Flow::Continue(());
            };
            if taken == listener.batch || !listener.is_open() {
                return Flow::Continue(());
            }
            let accepted = core.driver.borrow_mut().accept(listener.descriptor);
            let (descriptor, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    let fault = Self::note_accept_error(listener, error);
                    drop(objects);
                    return self.accept_fault(key, fault);
                }
            };
            taken += 1;
            listener.open += 1;
            drop(objects);
            self.take_connection(key, descriptor, &peer)?;
        }
    }

    fn note_accept_error(listener: &mut Listener<H>, error: io::Error) -> Option<AcceptFault> {
        match error.kind() {
            io::ErrorKind::WouldBlock => None,
            // Network errors of the connection that was about to be taken (accept(2)); others wait.
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut => Some(AcceptFault::Setup(error)),
            _ if is_exhaustion(&error) => {
                listener.suspended = true;
                Some(AcceptFault::Exhausted(error))
            }
            // It does not listen (any more).
            io::ErrorKind::InvalidInput => {
                listener.broken = true;
                Some(AcceptFault::Broken(error))
            }
            // The rest of those network errors have no kind. Should one of them last, it does not
            // spin.
            _ => {
                listener.suspended = true;
                Some(AcceptFault::Setup(error))
            }
        }
    }

    fn accept_fault(&self, key: ListenerKey<H>, fault: Option<AcceptFault>) -> Flow {
        let Some(fault) = fault else { return Flow::Continue(()) };
        let core = self.core();
        let (suspended, timer, open) = match core.objects.borrow().get(key) {
            Some(Object::Listener(listener)) => {
                (listener.suspended, listener.timer, listener.is_open())
            }
            _ => return Flow::Continue(()),
        };
        if !open {
            self.listener_ask(key, false);
        }
        if suspended {
            let timer = self.arm_object(key, timer, self.now() + ACCEPT_RETRY);
            if let Some(Object::Listener(listener)) = core.objects.borrow_mut().get_mut(key) {
                listener.timer = Some(timer);
            }
        }
        let factory = match core.objects.borrow_mut().get_mut(key) {
            Some(Object::Listener(listener)) => listener.factory.take(),
            _ => None,
        };
        if let Some(mut factory) = factory {
            self.host().accept_failed(self, &mut factory, fault);
            self.put_factory(key, factory);
        }
        Flow::Continue(())
    }

    fn take_connection(&self, key: ListenerKey<H>, descriptor: Descriptor, peer: &Address) -> Flow {
        let core = self.core();
        let factory = match core.objects.borrow_mut().get_mut(key) {
            Some(Object::Listener(listener)) => listener.factory.take(),
            _ => None,
        };
        // The place is empty only while a callback of this very listener runs, and that cannot be.
        let Some(mut factory) = factory else {
            let _ = core.driver.borrow_mut().close(descriptor);
            return Flow::Continue(());
        };
        let stream = core
            .objects
            .borrow_mut()
            .insert(Object::Stream(Box::new(Stream::accepted(descriptor, key))));
        let verdict = self.host().accepted(self, &mut factory, stream, peer);
        self.put_factory(key, factory);
        let flow = flow_of(&verdict);
        match verdict {
            Ok(protocol) => self.stream_begin(stream, protocol),
            Err(_) => self.stream_discard(stream),
        }
        flow
    }

    fn put_factory(&self, key: ListenerKey<H>, factory: H::Factory) {
        let mut objects = self.core().objects.borrow_mut();
        let unused = match objects.get_mut(key) {
            Some(Object::Listener(listener)) => listener.factory.replace(factory),
            _ => Some(factory),
        };
        drop(objects);
        drop(unused);
    }
}

/// Whether an error says that the process or the system is out of descriptors or memory.
fn is_exhaustion(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
        || error.raw_os_error().is_some_and(tepal_driver::is_exhaustion)
}

/// The socket domain of an address.
pub(crate) fn domain_of(address: &Address) -> io::Result<Domain> {
    match address {
        Address::Ip(ip) if ip.is_ipv4() => Ok(Domain::Inet),
        Address::Ip(_) => Ok(Domain::Inet6),
        Address::Unix(_) => Ok(Domain::Unix),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a socket of this address family must be opened by the caller",
        )),
    }
}
