//! References to handles.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use pyo3::prelude::*;
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};

use super::ends::ENDS;
use super::freed::allocate;
use super::object::{
    HandleObject, INLINE, Parts, fill, hide_context, release_callback, replace, show_context,
    tuple_of,
};
use crate::event_loop::Loop;
use crate::object::Ref;

/// A reference to a handle.
pub(crate) struct HandleRef(NonNull<HandleObject>);

impl HandleRef {
    /// Makes a `Handle`.
    pub(crate) fn new(py: Python<'_>, parts: &Parts<'_, '_>) -> PyResult<HandleRef> {
        let handle = HandleRef::new_untracked(py, parts, None)?;
        handle.track();
        Ok(handle)
    }

    /// Makes a `Handle`, or with a deadline a `TimerHandle`, that the collector does not know.
    #[inline]
    pub(super) fn new_untracked(
        py: Python<'_>,
        parts: &Parts<'_, '_>,
        when: Option<f64>,
    ) -> PyResult<HandleRef> {
        let context = match parts.context {
            // SAFETY: a live object.
            Some(context) => unsafe { ffi::Py_NewRef(context.as_ptr()) },
            // SAFETY: the GIL is held.
            None => unsafe { ffi::PyContext_CopyCurrent() },
        };
        let fits = parts.arguments.len() <= INLINE;
        // SAFETY: the arguments are live references.
        let more = if fits { ptr::null_mut() } else { unsafe { tuple_of(parts.arguments) } };
        let object = allocate(py, when.is_some());
        let Some(object) = object.filter(|_| !context.is_null() && (fits || !more.is_null()))
        else {
            // SAFETY: each is owned or null. An object that was made nonetheless is lost with the
            // memory that ran out.
            unsafe {
                ffi::Py_XDECREF(context);
                ffi::Py_XDECREF(more);
            }
            return Err(PyErr::fetch(py));
        };
        // SAFETY: the object is ours alone.
        unsafe { fill(object.as_ptr(), parts, context, more, when.unwrap_or(0.0)) };
        Ok(HandleRef(object))
    }

    /// The handle of an object of one of our classes.
    ///
    /// # Safety
    ///
    /// `object` is a live `Handle` or `TimerHandle`, and the GIL is held.
    pub(crate) unsafe fn from_borrowed(object: *mut ffi::PyObject) -> HandleRef {
        // SAFETY: the caller says so.
        unsafe {
            ffi::Py_INCREF(object);
            HandleRef(NonNull::new_unchecked(object.cast()))
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr().cast()
    }

    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> Borrowed<'_, 'py, PyAny> {
        // SAFETY: this holds a reference.
        unsafe { Borrowed::from_ptr(py, self.as_ptr()) }
    }

    pub(crate) fn clone_ref(&self, _py: Python<'_>) -> HandleRef {
        // SAFETY: this holds a reference to a handle.
        unsafe { HandleRef::from_borrowed(self.as_ptr()) }
    }

    /// Puts it into the collector's lists, unless it is there.
    #[inline]
    pub(super) fn track(&self) {
        // SAFETY: a live object whose fields are valid; nothing runs here.
        unsafe {
            if !(*self.0.as_ptr()).tracked {
                show_context(self.0.as_ptr());
                (*self.0.as_ptr()).tracked = true;
                ffi::PyObject_GC_Track(self.0.as_ptr().cast::<c_void>());
            }
        }
    }

    #[inline]
    pub(super) fn is_tracked(&self) -> bool {
        self.object().tracked
    }

    /// The context is a copy of our own that need not be seen; see `queued`.
    #[inline]
    pub(super) fn hide_context(&self) {
        // SAFETY: a live object; the caller says that the context is a copy.
        unsafe { hide_context(self.0.as_ptr()) };
    }

    pub(super) fn as_object(&self) -> *mut HandleObject {
        self.0.as_ptr()
    }

    /// Says that it was made by `call_soon_threadsafe`, which is seen from 3.14 on.
    pub(crate) fn set_thread_safe(&self) {
        // SAFETY: plain data of a live object; no reference to it is alive.
        unsafe { (*self.0.as_ptr()).thread_safe = true };
    }

    /// Says that it runs a second time. False: it has.
    pub(crate) fn begin_again(&self) -> bool {
        // SAFETY: as above.
        unsafe { !std::mem::replace(&mut (*self.0.as_ptr()).runs_again, true) }
    }

    pub(crate) fn is_thread_safe(&self) -> bool {
        self.object().thread_safe
    }

    /// Whether the callback is being called, and is one that others wait for.
    pub(crate) fn holds_others(&self) -> bool {
        self.object().thread_safe && self.object().running
    }

    /// Lets the GIL go until the callback has returned, which runs in another thread.
    #[cold]
    pub(crate) fn wait_for_end(&self, py: Python<'_>) -> PyResult<()> {
        ENDS.wait(py, || self.holds_others())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.object().cancelled
    }

    /// The deadline, on the loop's clock in seconds; zero for a plain handle.
    pub(crate) fn when(&self) -> f64 {
        self.object().when
    }

    /// Whether the deadline is shown as an int, as it was given.
    pub(crate) fn is_whole(&self) -> bool {
        self.object().whole
    }

    pub(crate) fn set_whole(&self, whole: bool) {
        // SAFETY: plain data of a live object; no reference to it is alive.
        unsafe { (*self.0.as_ptr()).whole = whole };
    }

    /// The key of its timer as a word; of none that exists, if it has none.
    pub(crate) fn timer(&self) -> u64 {
        self.object().timer
    }

    pub(crate) fn set_timer(&self, bits: u64) {
        // SAFETY: plain data of a live object; no reference to it is alive.
        unsafe { (*self.0.as_ptr()).timer = bits };
    }

    /// The loop; `None` once it was cleared.
    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.field(py, self.object().event_loop)
    }

    /// The same, without a reference of its own: for as long as the handle keeps it.
    #[inline]
    pub(crate) fn borrow_loop(&self, py: Python<'_>) -> Option<&Loop> {
        let object = self.object().event_loop;
        // SAFETY: handles are made by methods of `Loop` and by what belongs to one, of themselves.
        (!object.is_null()).then(|| unsafe { &*std::ptr::from_ref(Loop::of(py, object)) })
    }

    pub(crate) fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.field(py, self.object().callback)
    }

    pub(crate) fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: a live object.
        unsafe { show_context(self.0.as_ptr()) };
        self.field(py, self.object().context)
    }

    pub(crate) fn traceback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.field(py, self.object().traceback)
    }

    /// The arguments as a tuple; `None` once cancelled.
    pub(crate) fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = self.object();
        if object.callback.is_null() {
            return Ok(None);
        }
        if !object.more.is_null() {
            return Ok(self.field(py, object.more));
        }
        let arguments = &object.arguments[1..=usize::from(object.count)];
        // SAFETY: `count` references follow the free slot; the result is owned or null.
        unsafe { Bound::from_owned_ptr_or_err(py, tuple_of(arguments)) }.map(Some)
    }

    /// How it looked when it was cancelled, in debug mode.
    pub(crate) fn printed<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.field(py, self.object().printed)
    }

    pub(crate) fn set_traceback(&self, traceback: Bound<'_, PyAny>) {
        // SAFETY: a field of a live object.
        unsafe { replace(&raw mut (*self.0.as_ptr()).traceback, traceback) };
    }

    pub(crate) fn set_printed(&self, printed: Bound<'_, PyAny>) {
        // SAFETY: a field of a live object.
        unsafe { replace(&raw mut (*self.0.as_ptr()).printed, printed) };
    }

    /// Marks it cancelled. Whether it was not before.
    pub(crate) fn mark_cancelled(&self) -> bool {
        // SAFETY: plain data of a live object; no reference to it is alive.
        unsafe { !std::mem::replace(&mut (*self.0.as_ptr()).cancelled, true) }
    }

    /// Lets the callback and its arguments go, unless they are in use.
    pub(crate) fn drop_callback(&self) {
        // SAFETY: a live object, kept so by `self`.
        unsafe { release_callback(self.0.as_ptr()) };
    }

    fn object(&self) -> &HandleObject {
        // SAFETY: a live object; shared access, and nothing that runs while this lives writes it.
        unsafe { self.0.as_ref() }
    }

    fn field<'py>(
        &self,
        py: Python<'py>,
        pointer: *mut ffi::PyObject,
    ) -> Option<Bound<'py, PyAny>> {
        // SAFETY: a field is null or a live reference.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, pointer) }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: `HandleRef` owns one reference, so for the visit it may stand as a `Py`, which is
        // not dropped.
        let object = unsafe {
            std::mem::ManuallyDrop::new(
                Bound::from_owned_ptr(Python::assume_attached(), self.as_ptr()).unbind(),
            )
        };
        visit.call(&*object)
    }
}

impl Drop for HandleRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it owns a reference, and is dropped only with the GIL held, like `Ref`.
        unsafe { ffi::Py_DECREF(self.as_ptr()) };
    }
}

impl From<HandleRef> for Ref {
    fn from(handle: HandleRef) -> Ref {
        // SAFETY: the reference moves over, and is not null; the GIL is held wherever a `HandleRef` is.
        unsafe {
            let py = Python::assume_attached();
            Ref::new(Bound::from_owned_ptr(py, handle.into_ptr()))
        }
    }
}
