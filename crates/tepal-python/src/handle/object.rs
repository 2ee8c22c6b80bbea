//! The object behind both classes.
//!
//! A chain of `call_soon` makes and frees one handle per turn, so its cost is a good part of the
//! loop's. Therefore it is laid out by hand: up to three arguments in place (the C Task and Future
//! give none or one), a list of freed objects, no wrapper around its destructor. Its array of
//! arguments leaves the slot before them free, as the vectorcall protocol likes it.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use pyo3::prelude::*;
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};

use super::class::{HANDLE, TIMER_HANDLE};
use crate::object::{Ref, UnderGil};

/// Arguments kept in the object itself; more of them go into a tuple.
const INLINE: usize = 3;

/// How many freed objects are kept for the next ones: about as many callbacks as a busy turn has.
const FREE_MOST: usize = 256;

#[repr(C)]
pub(super) struct HandleObject {
    base: ffi::PyObject,
    pub(super) weak_references: *mut ffi::PyObject,
    // Owned, or null. The loop, the callback and the context are null only in an object that was
    // cancelled or cleared.
    event_loop: *mut ffi::PyObject,
    context: *mut ffi::PyObject,
    callback: *mut ffi::PyObject,
    // arguments[0] stays free; then `count` owned references; or `more`, if that is not null.
    arguments: [*mut ffi::PyObject; INLINE + 1],
    more: *mut ffi::PyObject,
    // Debug mode: where it was made, and how it looked when it was cancelled.
    traceback: *mut ffi::PyObject,
    printed: *mut ffi::PyObject,
    // The timer's key as a word; zero is no key.
    timer: u64,
    when: f64,
    count: u8,
    cancelled: bool,
    // Its callback is being called: what that uses must stay.
    running: bool,
}

/// How deep handles may free each other before the rest waits for the outermost. A chain of them, each
/// an argument of the next, would otherwise take a stack frame per link.
const DEPTH_MOST: u32 = 50;

static FREED: UnderGil<Freed> = UnderGil::new(Freed {
    lists: [const { FreeList { head: Cell::new(ptr::null_mut()), len: Cell::new(0) } }; 2],
    depth: Cell::new(0),
    waiting: Cell::new(ptr::null_mut()),
});

// Lists go through `weak_references`, which a freed object has no other use for.
struct Freed {
    // Of `Handle` and of `TimerHandle`: a freed object keeps its class.
    lists: [FreeList; 2],
    depth: Cell<u32>,
    // Dead objects whose fields are not released yet.
    waiting: Cell<*mut HandleObject>,
}

struct FreeList {
    head: Cell<*mut HandleObject>,
    len: Cell<usize>,
}

/// A reference to a handle.
pub(crate) struct HandleRef(NonNull<HandleObject>);

/// What a handle is made of.
pub(crate) struct Parts<'a, 'py> {
    pub(crate) event_loop: *mut ffi::PyObject,
    pub(crate) callback: Borrowed<'a, 'py, PyAny>,
    pub(crate) arguments: &'a [*mut ffi::PyObject],
    /// Taken as it is; without one, the current context is copied.
    pub(crate) context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl HandleRef {
    /// Makes a `Handle`, or with a deadline a `TimerHandle`.
    #[inline]
    pub(crate) fn new(
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
        // SAFETY: the object is ours alone, and tracked once its fields are valid.
        unsafe {
            fill(object.as_ptr(), parts, context, more, when.unwrap_or(0.0));
            ffi::PyObject_GC_Track(object.as_ptr().cast::<c_void>());
        }
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

    pub(crate) fn is_cancelled(&self) -> bool {
        self.object().cancelled
    }

    /// The deadline, on the loop's clock in seconds; zero for a plain handle.
    pub(crate) fn when(&self) -> f64 {
        self.object().when
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

    pub(crate) fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.field(py, self.object().callback)
    }

    pub(crate) fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
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

    /// Calls the callback in its context. The result is dropped; `Err` leaves the exception
    /// pending.
    #[inline]
    pub(crate) fn call(&self, _py: Python<'_>) -> Result<(), ()> {
        let handle = self.0.as_ptr();
        // SAFETY: the handle is alive while `self` is. `running` keeps callback, arguments and
        // context in place during the call, so that borrowing them is enough.
        unsafe {
            if (*handle).running {
                // It called itself (`handle._run()`): the outer call keeps what is used.
                return call_fields(handle);
            }
            (*handle).running = true;
            let result = call_fields(handle);
            (*handle).running = false;
            if (*handle).cancelled {
                // Nothing that runs here may see our exception, so it is put aside.
                let pending = result.is_err().then(|| PyErr::fetch(_py));
                release_callback(handle);
                if let Some(error) = pending {
                    error.restore(_py);
                }
            }
            result
        }
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
        // SAFETY: the reference moves over; the GIL is held wherever a `HandleRef` is.
        unsafe { Ref::from_owned(handle.into_ptr()) }.expect("a handle is not null")
    }
}

/// # Safety
///
/// `handle` is alive, its fields are valid, and they stay so during the call.
unsafe fn call_fields(handle: *mut HandleObject) -> Result<(), ()> {
    // SAFETY: as the contract says. A result is owned by us.
    unsafe {
        let (context, callback) = ((*handle).context, (*handle).callback);
        if callback.is_null() {
            return Ok(());
        }
        if ffi::PyContext_CheckExact(context) == 0 {
            return call_in_foreign_context(handle);
        }
        if ffi::PyContext_Enter(context) < 0 {
            return Err(());
        }
        let result = if (*handle).more.is_null() {
            let arguments = (&raw const (*handle).arguments).cast::<*mut ffi::PyObject>().add(1);
            let count = usize::from((*handle).count) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
            ffi::PyObject_Vectorcall(callback, arguments, count, ptr::null_mut())
        } else {
            ffi::PyObject_Call(callback, (*handle).more, ptr::null_mut())
        };
        // Fails only if somebody else left it, which the call has then complained of.
        let left = ffi::PyContext_Exit(context);
        if result.is_null() {
            return Err(());
        }
        ffi::Py_DECREF(result);
        if left < 0 { Err(()) } else { Ok(()) }
    }
}

// asyncio takes anything that has a `run` for a context.
/// # Safety
///
/// As for `call_fields`.
unsafe fn call_in_foreign_context(handle: *mut HandleObject) -> Result<(), ()> {
    // SAFETY: the handle is alive and its fields are valid.
    let (py, handle) = unsafe {
        (Python::assume_attached(), HandleRef::from_borrowed(handle.cast::<ffi::PyObject>()))
    };
    let result = (|| {
        let context = handle.context(py).ok_or_else(|| crate::errors::closed(false))?;
        let run = context.getattr("run")?;
        let mut arguments: Vec<Bound<'_, PyAny>> = handle.callback(py).into_iter().collect();
        if let Some(rest) = handle.arguments(py)? {
            for argument in rest.try_iter()? {
                arguments.push(argument?);
            }
        }
        run.call1(pyo3::types::PyTuple::new(py, arguments)?)
    })();
    result.map(drop).map_err(|error: PyErr| error.restore(py))
}

/// # Safety
///
/// `place` is a field of a live handle.
unsafe fn replace(place: *mut *mut ffi::PyObject, object: Bound<'_, PyAny>) {
    // SAFETY: the old value is dropped after the new one is in place.
    unsafe {
        let old = std::mem::replace(&mut *place, object.into_ptr());
        ffi::Py_XDECREF(old);
    }
}

/// # Safety
///
/// `object` is new or from the free list, and known to nobody else; all pointers of `parts` are live,
/// and `context` and `more` are owned.
#[inline]
unsafe fn fill(
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
        (*object).count = 0;
        (*object).cancelled = false;
        (*object).running = false;
        if more.is_null() {
            (*object).count = parts.arguments.len() as u8;
            for (index, argument) in parts.arguments.iter().enumerate() {
                (*object).arguments[1 + index] = ffi::Py_NewRef(*argument);
            }
        }
    }
}

#[inline]
fn allocate(py: Python<'_>, timed: bool) -> Option<NonNull<HandleObject>> {
    let list = &FREED.get(py).lists[usize::from(timed)];
    let reused = list.head.get();
    if let Some(object) = NonNull::new(reused) {
        // SAFETY: an object in the list is ours; it still counts its class, and its own count, which
        // is zero, becomes one.
        unsafe {
            list.head.set((*reused).weak_references.cast());
            ffi::Py_INCREF(reused.cast());
        }
        list.len.set(list.len.get() - 1);
        return Some(object);
    }
    let class = if timed { &TIMER_HANDLE } else { &HANDLE };
    // SAFETY: it is a heap type whose objects are `HandleObject`s.
    NonNull::new(unsafe { ffi::PyObject_GC_New::<HandleObject>(class.get(py).get()) })
}

/// # Safety
///
/// `handle` is alive and the caller keeps it so.
unsafe fn release_callback(handle: *mut HandleObject) {
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

// Called by CPython on an object of ours.
pub(super) extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> std::ffi::c_int {
    // SAFETY: the object is alive; nothing runs Python here.
    unsafe {
        let handle = object.cast::<HandleObject>();
        let count = usize::from((*handle).count);
        let fields = [
            ffi::Py_TYPE(object).cast::<ffi::PyObject>(),
            (*handle).event_loop,
            (*handle).context,
            (*handle).callback,
            (*handle).more,
            (*handle).traceback,
            (*handle).printed,
        ];
        let arguments = (*handle).arguments;
        for field in fields.iter().chain(&arguments[1..=count]) {
            if !field.is_null() {
                let stop = visit(*field, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
        0
    }
}

// Called by CPython on an object of ours.
pub(super) extern "C" fn clear(object: *mut ffi::PyObject) -> std::ffi::c_int {
    // SAFETY: the collector keeps the object alive meanwhile.
    unsafe { release_all(object.cast()) };
    0
}

// Called by CPython when the last reference is gone.
pub(super) extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let handle = object.cast::<HandleObject>();
    // SAFETY: CPython frees objects with the GIL held.
    let freed = FREED.get(unsafe { Python::assume_attached() });
    let depth = freed.depth.get();
    // SAFETY: nobody else knows the object any more.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast::<c_void>());
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
            ffi::PyObject_GC_Del(object.cast::<c_void>());
            ffi::Py_DECREF(class.cast::<ffi::PyObject>());
        }
    }
}

/// # Safety
///
/// `objects` are live references and the GIL is held.
unsafe fn tuple_of(objects: &[*mut ffi::PyObject]) -> *mut ffi::PyObject {
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
