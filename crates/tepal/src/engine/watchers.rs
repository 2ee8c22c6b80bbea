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
    // None while the callback runs.
    callback: Option<H::Callback>,
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
        if core.watched.borrow().contains_key(&fd) {
            let text = format!("descriptor {fd} has a watcher already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let descriptor = core.driver.borrow_mut().borrow(fd)?;
        let watch = Watch { fd, descriptor, interest: Interest::NONE, callback: Some(callback) };
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
        if watch.interest != interest {
            core.driver.borrow_mut().watch(watch.descriptor, key.to_bits(), interest)?;
            watch.interest = interest;
        }
        Ok(())
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
