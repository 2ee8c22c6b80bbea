use std::io;
use std::os::fd::RawFd;

use tepal_driver::{Descriptor, Interest, Readiness};

use super::objects::{Object, ObjectKey};
use super::{Engine, Flow, Held, Host, Occasion};

/// The name of a watcher.
pub type WatchKey<H> = ObjectKey<H>;

/// One descriptor of a user's, watched in both directions.
pub(crate) struct Watch<H: Host> {
    fd: RawFd,
    descriptor: Descriptor,
    interest: Interest,
    once: Once,
    // None while the callback runs.
    callback: Option<H::Callback>,
}

// Whether a watcher stops with its first event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Once {
    No,
    // The driver has to be told.
    Told,
    // The driver stops by itself, and keeps the descriptor.
    Kept,
}

impl<H: Host> Watch<H> {
    pub(super) fn visit<E>(
        &self,
        visit: &mut impl FnMut(Held<'_, H>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.callback.as_ref().map_or(Ok(()), |callback| visit(Held::Callback(callback)))
    }
}

impl<H: Host> Engine<H> {
    /// Watches a descriptor that stays its owner's; nothing is reported until
    /// [`watch_set`](Engine::watch_set).
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the descriptor has a watcher, `EBADF` if it is not open.
    pub fn watch(&self, fd: RawFd, callback: H::Callback) -> io::Result<WatchKey<H>> {
        let core = self.core();
        let known = core.watched.borrow().get(&fd).copied();
        if let Some(kept) = known.filter(|key| self.watch_is_kept(*key)) {
            self.watch_remove(kept);
        } else if known.is_some() {
            let text = format!("descriptor {fd} has a watcher already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let descriptor = core.driver.borrow_mut().borrow(fd)?;
        let (interest, once, callback) = (Interest::NONE, Once::No, Some(callback));
        let watch = Watch { fd, descriptor, interest, once, callback };
        let key = core.objects.borrow_mut().insert(Object::Watch(Box::new(watch)));
        core.watched.borrow_mut().insert(fd, key);
        Ok(key)
    }

    /// The watcher of a descriptor.
    pub fn watch_of(&self, fd: RawFd) -> Option<WatchKey<H>> {
        self.core().watched.borrow().get(&fd).copied()
    }

    /// Asks for other events. Empty: none, and the watcher stays.
    ///
    /// # Errors
    ///
    /// `EBADF` if the descriptor was closed, `EPERM` if it is a file, which cannot be watched;
    /// [`io::ErrorKind::Other`] if the watcher was removed.
    pub fn watch_set(&self, key: WatchKey<H>, interest: Interest) -> io::Result<()> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(Object::Watch(watch)) = objects.get_mut(key) else {
            return Err(io::Error::other("the watcher was removed"));
        };
        if watch.interest != interest || watch.once != Once::No {
            core.driver.borrow_mut().watch(watch.descriptor, key.to_bits(), interest)?;
            (watch.interest, watch.once) = (interest, Once::No);
        }
        Ok(())
    }

    /// Asks for the first of these events, after which nothing is asked for. The watcher may then be
    /// [kept](Engine::watch_is_kept), to be armed again by one call to the kernel.
    ///
    /// # Errors
    ///
    /// Those of [`watch_set`](Engine::watch_set). `EBADF` also if somebody else has taken the
    /// descriptor of a watcher that was kept.
    pub fn watch_once(&self, key: WatchKey<H>, interest: Interest) -> io::Result<()> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let Some(Object::Watch(watch)) = objects.get_mut(key) else {
            return Err(io::Error::other("the watcher was removed"));
        };
        let bits = key.to_bits();
        let stops = core.driver.borrow_mut().watch_once(watch.descriptor, bits, interest)?;
        watch.interest = interest;
        watch.once = if stops { Once::Kept } else { Once::Told };
        Ok(())
    }

    /// Whether a watcher asks for nothing since [`watch_once`](Engine::watch_once) has had its event,
    /// and costs nothing to keep. It gives way to a new watcher or transport.
    pub fn watch_is_kept(&self, key: WatchKey<H>) -> bool {
        match self.core().objects.borrow().get(key) {
            Some(Object::Watch(watch)) => watch.once == Once::Kept && watch.interest.is_none(),
            _ => false,
        }
    }

    /// What a watcher asks for; nothing if it is gone.
    pub fn watch_interest(&self, key: WatchKey<H>) -> Interest {
        match self.core().objects.borrow().get(key) {
            Some(Object::Watch(watch)) => watch.interest,
            _ => Interest::NONE,
        }
    }

    /// Removes a watcher. Whether it was there.
    pub fn watch_remove(&self, key: WatchKey<H>) -> bool {
        let core = self.core();
        if !matches!(core.objects.borrow().get(key), Some(Object::Watch(_))) {
            return false;
        }
        let gone = core.objects.borrow_mut().remove(key);
        if let Some(Object::Watch(watch)) = &gone {
            core.watched.borrow_mut().remove(&watch.fd);
            // An owner that closed it already leaves nothing to do.
            let _ = core.driver.borrow_mut().close(watch.descriptor);
        }
        true
    }

    pub(super) fn run_watch(&self, key: WatchKey<H>, readiness: Readiness) -> Flow {
        let mut objects = self.core().objects.borrow_mut();
        let Some(Object::Watch(watch)) = objects.get_mut(key) else { return Flow::Continue(()) };
        // What is asked for now, which may have changed since the event.
        let failed = readiness.intersects(Readiness::ERROR | Readiness::READ_CLOSED);
        let ready = Interest {
            read: watch.interest.read && (failed || readiness.intersects(Readiness::READABLE)),
            write: watch.interest.write
                && readiness.intersects(Readiness::WRITABLE | Readiness::ERROR),
        };
        if ready.is_none() {
            return Flow::Continue(());
        }
        if watch.once != Once::No {
            watch.interest = Interest::NONE;
        }
        if watch.once == Once::Told {
            watch.once = Once::No;
            let (descriptor, bits) = (watch.descriptor, key.to_bits());
            // Fails if its owner has closed it: then nothing is reported any more anyway.
            let _ = self.core().driver.borrow_mut().watch(descriptor, bits, Interest::NONE);
        }
        let Some(mut callback) = watch.callback.take() else { return Flow::Continue(()) };
        drop(objects);
        let flow = self.host().call(self, &mut callback, Occasion::Ready(ready));
        let mut objects = self.core().objects.borrow_mut();
        let unused = match objects.get_mut(key) {
            Some(Object::Watch(watch)) => watch.callback.replace(callback),
            _ => Some(callback),
        };
        drop(objects);
        drop(unused);
        flow
    }
}
