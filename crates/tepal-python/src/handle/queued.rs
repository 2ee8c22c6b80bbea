//! Handles that wait in the loop's queue or for their time.
//!
//! Most handles live there and nowhere else: whoever called `call_soon` drops what it returned. The
//! collector would walk over each of them, and over all of them again as they age: with a hundred
//! thousand callbacks queued by a thread, that is most of the time. A loop that runs is no garbage,
//! and neither is what it has queued. So what is queued during a run is not in the collector's lists,
//! and its loop does not show it: its references then count as those of a root.
//!
//! Two moments put it there. The end of the run does, for what still waits. And leaving the queue
//! does, if somebody else holds the handle, too, since that may be part of a cycle. Not at once,
//! though: who has just cancelled a handle drops it a moment later. The last of these, the *leaver*, is
//! looked at when another takes its place, before a wait, and at the end of a run.
//!
//! The same is true of the context, which is a copy that nobody else knows: where more than a few
//! handles wait, it is hidden until it is used.

use std::ops::Deref;
use std::ptr;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi};

use super::freed::FREED;
use super::object::{HandleObject, Parts};
use super::reference::HandleRef;

/// How many handles may wait before contexts are hidden, which costs as much as a glance of the
/// collector's at each.
const FEW: usize = 256;

/// The queue's reference to a handle.
pub(crate) struct Queued(HandleRef);

impl Queued {
    /// Makes a `Handle`, or with a deadline a `TimerHandle`, of a loop that runs or not.
    #[inline]
    pub(crate) fn new(
        py: Python<'_>,
        parts: &Parts<'_, '_>,
        when: Option<f64>,
        runs: bool,
    ) -> PyResult<Queued> {
        let handle = HandleRef::new_untracked(py, parts, when)?;
        if !runs {
            handle.track();
        } else if parts.context.is_none() && FREED.get(py).queued.get() > FEW {
            handle.hide_context();
        }
        Ok(Queued::count(py, handle))
    }

    /// Queues a handle once more, which the collector knows.
    pub(crate) fn again(py: Python<'_>, handle: &HandleRef) -> Queued {
        handle.track();
        Queued::count(py, handle.clone_ref(py))
    }

    #[inline]
    fn count(py: Python<'_>, handle: HandleRef) -> Queued {
        let queued = &FREED.get(py).queued;
        queued.set(queued.get() + 1);
        Queued(handle)
    }

    /// A loop falls asleep: looks at the leaver now, since no other may come for long.
    pub(crate) fn rest(py: Python<'_>) {
        let freed = FREED.get(py);
        settle(freed.leaver.replace(ptr::null_mut()));
        freed.shrink();
    }

    /// The run has ended: the loop is an object like any other.
    pub(crate) fn show(&self) {
        self.0.track();
    }

    /// A reference for whoever called, to keep or to drop.
    #[inline]
    pub(crate) fn to_caller(&self, py: Python<'_>) -> HandleRef {
        self.0.clone_ref(py)
    }

    /// A reference for somebody who gets it later than the caller.
    pub(crate) fn to_other(&self, py: Python<'_>) -> HandleRef {
        self.0.track();
        self.0.clone_ref(py)
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.0.is_tracked() { self.0.visit(visit) } else { Ok(()) }
    }
}

/// A run of a loop, while this lives.
pub(crate) struct QueuedRun<'py>(Python<'py>);

impl<'py> QueuedRun<'py> {
    pub(crate) fn begin(py: Python<'py>) -> QueuedRun<'py> {
        let runs = &FREED.get(py).runs;
        runs.set(runs.get() + 1);
        QueuedRun(py)
    }
}

impl Drop for QueuedRun<'_> {
    fn drop(&mut self) {
        let runs = &FREED.get(self.0).runs;
        runs.set(runs.get() - 1);
        Queued::rest(self.0);
    }
}

impl Deref for Queued {
    type Target = HandleRef;

    #[inline]
    fn deref(&self) -> &HandleRef {
        &self.0
    }
}

impl Drop for Queued {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a live object, which the queue lets go here, with the GIL held.
        let (shared, py) = unsafe { (is_shared(self.0.as_object()), Python::assume_attached()) };
        let queued = &FREED.get(py).queued;
        queued.set(queued.get() - 1);
        if shared {
            leave(py, &self.0);
        }
    }
}

#[inline]
fn leave(py: Python<'_>, handle: &HandleRef) {
    let freed = FREED.get(py);
    if freed.runs.get() == 0 {
        handle.track();
    } else if freed.leaver.get() != handle.as_object() {
        settle(freed.leaver.replace(handle.as_object()));
    }
}

#[inline]
fn settle(leaver: *mut HandleObject) {
    if !leaver.is_null() {
        // SAFETY: the leaver is alive: its destructor takes it out of there.
        unsafe { HandleRef::from_borrowed(leaver.cast()) }.track();
    }
}

/// # Safety
///
/// `handle` is alive and the GIL is held.
#[inline]
unsafe fn is_shared(handle: *mut HandleObject) -> bool {
    // SAFETY: as the contract says.
    unsafe { ffi::Py_REFCNT(handle.cast()) > 1 }
}
