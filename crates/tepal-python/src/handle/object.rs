//! The object behind both classes.
//!
//! A chain of `call_soon` makes and frees one handle per turn, so its cost is a good part of the
//! loop's. Therefore it is laid out by hand: up to three arguments in place (the C Task and Future
//! give none or one), a list of freed objects, no wrapper around its destructor. Its array of
//! arguments leaves the slot before them free, as the vectorcall protocol likes it.

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

/// Arguments kept in the object itself; more of them go into a tuple.
pub(super) const INLINE: usize = 3;

#[repr(C)]
pub(super) struct HandleObject {
    base: ffi::PyObject,
    pub(super) weak_references: *mut ffi::PyObject,
    // Owned, or null. The loop, the callback and the context are null only in an object that was
    // cancelled or cleared.
    pub(super) event_loop: *mut ffi::PyObject,
    pub(super) context: *mut ffi::PyObject,
    pub(super) callback: *mut ffi::PyObject,
    // arguments[0] stays free; then `count` owned references; or `more`, if that is not null.
    pub(super) arguments: [*mut ffi::PyObject; INLINE + 1],
    pub(super) more: *mut ffi::PyObject,
    // Debug mode: where it was made, and how it looked when it was cancelled.
    pub(super) traceback: *mut ffi::PyObject,
    pub(super) printed: *mut ffi::PyObject,
    // The timer's key as a word; zero is no key.
    pub(super) timer: u64,
    pub(super) when: f64,
    // The deadline was given as an int, and is shown as one.
    pub(super) whole: bool,
    pub(super) count: u8,
    pub(super) cancelled: bool,
    // Made by `call_soon_threadsafe`, where that makes a difference; see `ends`.
    pub(super) thread_safe: bool,
    // Its callback is being called: what that uses must stay.
    pub(super) running: bool,
    // It failed for want of memory and runs once more; see `memory`.
    pub(super) runs_again: bool,
    // Whether the collector has it in its lists; see `queued`.
    pub(super) tracked: bool,
    // Whether the context is out of these lists, where it must be again before anybody sees it.
    hides_context: bool,
}

/// What a handle is made of.
pub(crate) struct Parts<'a, 'py> {
    pub(crate) event_loop: *mut ffi::PyObject,
    pub(crate) callback: Borrowed<'a, 'py, PyAny>,
    pub(crate) arguments: &'a [*mut ffi::PyObject],
    /// Taken as it is; without one, the current context is copied.
    pub(crate) context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl HandleObject {
    /// Shows every reference it holds, until `visit` returns something else than zero.
    ///
    /// # Safety
    ///
    /// `handle` is alive, and `visit` runs no Python.
    pub(super) unsafe fn visit(
        handle: *mut HandleObject,
        mut visit: impl FnMut(*mut ffi::PyObject) -> c_int,
    ) -> c_int {
        // SAFETY: as the contract says.
        let (fields, arguments, count) = unsafe {
            let fields = [
                (*handle).event_loop,
                (*handle).context,
                (*handle).callback,
                (*handle).more,
                (*handle).traceback,
                (*handle).printed,
            ];
            (fields, (*handle).arguments, usize::from((*handle).count))
        };
        let held = fields.iter().chain(&arguments[1..=count]).filter(|field| !field.is_null());
        held.map(|field| visit(*field)).find(|stop| *stop != 0).unwrap_or(0)
    }
}

// Called by CPython on an object of ours.
pub(super) extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the object is alive; nothing runs Python here.
    unsafe {
        match visit(ffi::Py_TYPE(object).cast::<ffi::PyObject>(), arg) {
            0 => HandleObject::visit(object.cast(), |field| visit(field, arg)),
            stop => stop,
        }
    }
}

/// Takes the context out of the collector's lists.
///
/// # Safety
///
/// `handle` is alive, and its context is a copy that nobody else refers to.
#[inline]
pub(super) unsafe fn hide_context(handle: *mut HandleObject) {
    // SAFETY: as the contract says; nothing runs here.
    unsafe {
        ffi::PyObject_GC_UnTrack((*handle).context.cast());
        (*handle).hides_context = true;
    }
}

/// Undoes it; CPython's destructor of contexts expects them in the lists.
///
/// # Safety
///
/// `handle` is alive.
#[inline]
pub(super) unsafe fn show_context(handle: *mut HandleObject) {
    // SAFETY: as the contract says; the context is where `hide_context` found it.
    unsafe {
        if (*handle).hides_context {
            (*handle).hides_context = false;
            ffi::PyObject_GC_Track((*handle).context.cast());
        }
    }
}

// Called by CPython on an object of ours.
pub(super) extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: the collector keeps the object alive meanwhile.
    unsafe { release_all(object.cast()) };
    0
}

/// # Safety
///
/// `object` is new or from the free list, and known to nobody else; all pointers of `parts` are live,
/// and `context` and `more` are owned.
#[inline]
pub(super) unsafe fn fill(
    object: *mut HandleObject,
    parts: &Parts<'_, '_>,
    context: *mut ffi::PyObject,
    more: *mut ffi::PyObject,
    when: f64,
) {
    // SAFETY: as the caller says.
    unsafe {
        (*object).weak_references = ptr::null_mut();
        (*object).event_loop = ffi::Py_NewRef(parts.event_loop);
        (*object).context = context;
        (*object).callback = ffi::Py_NewRef(parts.callback.as_ptr());
        (*object).more = more;
        (*object).traceback = ptr::null_mut();
        (*object).printed = ptr::null_mut();
        (*object).timer = 0;
        (*object).when = when;
        (*object).whole = false;
        (*object).count = 0;
        (*object).cancelled = false;
        (*object).thread_safe = false;
        (*object).running = false;
        (*object).runs_again = false;
        (*object).tracked = false;
        (*object).hides_context = false;
        if more.is_null() {
            (*object).count = parts.arguments.len() as u8;
            for (index, argument) in parts.arguments.iter().enumerate() {
                (*object).arguments[1 + index] = ffi::Py_NewRef(*argument);
            }
        }
    }
}

/// # Safety
///
/// `place` is a field of a live handle.
pub(super) unsafe fn replace(place: *mut *mut ffi::PyObject, object: Bound<'_, PyAny>) {
    // SAFETY: the old value is dropped after the new one is in place.
    unsafe {
        let old = std::mem::replace(&mut *place, object.into_ptr());
        ffi::Py_XDECREF(old);
    }
}

/// # Safety
///
/// `handle` is alive and the caller keeps it so.
pub(super) unsafe fn release_callback(handle: *mut HandleObject) {
    // SAFETY: fields are emptied before anything is dropped, since dropping runs Python.
    unsafe {
        if (*handle).running {
            return;
        }
        let callback = std::mem::replace(&mut (*handle).callback, ptr::null_mut());
        let more = std::mem::replace(&mut (*handle).more, ptr::null_mut());
        let count = std::mem::replace(&mut (*handle).count, 0);
        let arguments = (*handle).arguments;
        ffi::Py_XDECREF(callback);
        ffi::Py_XDECREF(more);
        for argument in &arguments[1..=usize::from(count)] {
            ffi::Py_DECREF(*argument);
        }
    }
}

/// # Safety
///
/// As for `release_callback`.
unsafe fn release_all(handle: *mut HandleObject) {
    // SAFETY: as above.
    unsafe {
        release_callback(handle);
        show_context(handle);
        let event_loop = std::mem::replace(&mut (*handle).event_loop, ptr::null_mut());
        let context = std::mem::replace(&mut (*handle).context, ptr::null_mut());
        let traceback = std::mem::replace(&mut (*handle).traceback, ptr::null_mut());
        let printed = std::mem::replace(&mut (*handle).printed, ptr::null_mut());
        ffi::Py_XDECREF(event_loop);
        ffi::Py_XDECREF(context);
        ffi::Py_XDECREF(traceback);
        ffi::Py_XDECREF(printed);
    }
}

/// # Safety
///
/// `objects` are live references and the GIL is held.
pub(super) unsafe fn tuple_of(objects: &[*mut ffi::PyObject]) -> *mut ffi::PyObject {
    // SAFETY: the tuple is new; every place is filled with a reference of its own.
    unsafe {
        let tuple = ffi::PyTuple_New(objects.len() as ffi::Py_ssize_t);
        if !tuple.is_null() {
            for (index, object) in objects.iter().enumerate() {
                let object = ffi::Py_NewRef(*object);
                ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, object);
            }
        }
        tuple
    }
}
