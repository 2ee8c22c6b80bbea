//! Objects that are free, and how one becomes so.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use pyo3::ffi;
use pyo3::prelude::*;

use super::class::{HANDLE, TIMER_HANDLE};
use super::object::{HandleObject, show_context};
use crate::object::UnderGil;

/// How many freed objects are kept for the next ones: about as many callbacks as another thread queues
/// before the loop gets the GIL. They take 5 MiB, which the queue has taken a moment before.
const FREE_MOST: usize = 32 * 1024;

/// How many are kept by a loop that sleeps: about as many callbacks as a busy turn has, 150 KiB.
const FREE_ASLEEP: usize = 1024;

/// How many of those beyond are given back each time that a loop falls asleep. A loop that is fed by a
/// thread sleeps between two floods, too.
const GIVEN_BACK: usize = 64;

/// How many of these are kept for when memory runs out: a future that has its result cannot tell its
/// waiters once more, so their handles must not fail.
const RESERVE: usize = 16;

/// How deep handles may free each other before the rest waits for the outermost. A chain of them, each
/// an argument of the next, would otherwise take a stack frame per link.
const DEPTH_MOST: u32 = 50;

pub(super) static FREED: UnderGil<Freed> = UnderGil::new(Freed {
    lists: [const { FreeList { head: Cell::new(ptr::null_mut()), len: Cell::new(0) } }; 2],
    depth: Cell::new(0),
    waiting: Cell::new(ptr::null_mut()),
    runs: Cell::new(0),
    queued: Cell::new(0),
    leaver: Cell::new(ptr::null_mut()),
});

// Lists go through `weak_references`, which a freed object has no other use for.
pub(super) struct Freed {
    // Of `Handle` and of `TimerHandle`: a freed object keeps its class.
    lists: [FreeList; 2],
    depth: Cell<u32>,
    // Dead objects whose fields are not released yet.
    waiting: Cell<*mut HandleObject>,
    /// How many loops run.
    pub(super) runs: Cell<u32>,
    /// How many handles wait in queues or for their time.
    pub(super) queued: Cell<usize>,
    /// The handle that left a queue last while others held it; null once it is freed. See `queued`.
    pub(super) leaver: Cell<*mut HandleObject>,
}

struct FreeList {
    head: Cell<*mut HandleObject>,
    len: Cell<usize>,
}

impl Freed {
    /// A loop falls asleep: gives back some of what a flood of callbacks has left.
    pub(super) fn shrink(&self) {
        for list in &self.lists {
            let beyond = list.len.get().saturating_sub(FREE_ASLEEP);
            for _ in 0..beyond.min(GIVEN_BACK) {
                let Some(object) = list.take() else { break };
                // SAFETY: an object that nobody else knows and whose fields are released; it counts its
                // class, which lives for ever.
                unsafe { give_back(object.as_ptr()) };
            }
        }
    }
}

/// An object whose fields are not set, or `None` with an exception.
#[inline]
pub(super) fn allocate(py: Python<'_>, timed: bool) -> Option<NonNull<HandleObject>> {
    let list = &FREED.get(py).lists[usize::from(timed)];
    if list.len.get() > RESERVE {
        return list.take();
    }
    let class = if timed { &TIMER_HANDLE } else { &HANDLE };
    // SAFETY: it is a heap type whose objects are `HandleObject`s.
    let made = NonNull::new(unsafe { ffi::PyObject_GC_New::<HandleObject>(class.get(py).get()) });
    made.or_else(|| {
        let kept = list.take()?;
        // What the failure left pending. SAFETY: the GIL is held.
        unsafe { ffi::PyErr_Clear() };
        Some(kept)
    })
}

impl FreeList {
    #[inline]
    fn take(&self) -> Option<NonNull<HandleObject>> {
        let object = NonNull::new(self.head.get())?;
        // SAFETY: an object in the list is ours; it still counts its class, and its own count, which
        // is zero, becomes one.
        unsafe {
            self.head.set((*object.as_ptr()).weak_references.cast());
            ffi::Py_INCREF(object.as_ptr().cast());
        }
        self.len.set(self.len.get() - 1);
        Some(object)
    }
}

// Called by CPython when the last reference is gone.
pub(super) extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let handle = object.cast::<HandleObject>();
    // SAFETY: CPython frees objects with the GIL held.
    let freed = FREED.get(unsafe { Python::assume_attached() });
    let depth = freed.depth.get();
    // SAFETY: nobody else knows the object any more.
    unsafe {
        if (*handle).tracked {
            ffi::PyObject_GC_UnTrack(object.cast::<c_void>());
        }
        if freed.leaver.get() == handle {
            freed.leaver.set(ptr::null_mut());
        }
        if !(*handle).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        if depth >= DEPTH_MOST {
            (*handle).weak_references = freed.waiting.replace(handle).cast();
            return;
        }
        freed.depth.set(depth + 1);
        release_and_keep(freed, handle);
        while depth == 0 && !freed.waiting.get().is_null() {
            let next = freed.waiting.get();
            freed.waiting.set((*next).weak_references.cast());
            release_and_keep(freed, next);
        }
    }
    freed.depth.set(depth);
}

/// # Safety
///
/// `handle` is dead: untracked, without weak references, and known to nobody else.
#[inline]
unsafe fn release_and_keep(freed: &Freed, handle: *mut HandleObject) {
    // SAFETY: nobody sees the fields any more, so they are released in place; all but the rare ones
    // are set again before the next use.
    unsafe {
        let object = handle.cast::<ffi::PyObject>();
        show_context(handle);
        ffi::Py_XDECREF((*handle).callback);
        for index in 1..=usize::from((*handle).count) {
            ffi::Py_DECREF((*handle).arguments[index]);
        }
        ffi::Py_XDECREF((*handle).more);
        ffi::Py_XDECREF((*handle).context);
        ffi::Py_XDECREF((*handle).event_loop);
        ffi::Py_XDECREF((*handle).traceback);
        ffi::Py_XDECREF((*handle).printed);
        let class = ffi::Py_TYPE(object);
        let timed = class == TIMER_HANDLE.get(Python::assume_attached()).get();
        let list = &freed.lists[usize::from(timed)];
        if list.len.get() < FREE_MOST {
            (*handle).weak_references = list.head.replace(handle).cast();
            list.len.set(list.len.get() + 1);
        } else {
            give_back(handle);
        }
    }
}

/// # Safety
///
/// `handle` is dead and its fields are released.
unsafe fn give_back(handle: *mut HandleObject) {
    // SAFETY: as the contract says; the class outlives its objects.
    unsafe {
        let class = ffi::Py_TYPE(handle.cast());
        ffi::PyObject_GC_Del(handle.cast::<c_void>());
        ffi::Py_DECREF(class.cast::<ffi::PyObject>());
    }
}
