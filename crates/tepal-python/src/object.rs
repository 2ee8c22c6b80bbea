use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::prelude::*;
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};

/// A counted reference to a Python object, for code that always holds the GIL.
///
/// PyO3's `Py` asks at every drop whether this thread holds it, and where it has not seen the thread
/// come in (a method called by pointer) it postpones the decrement. This one decrements at once.
/// It is `!Send`, so it cannot be taken where the GIL is not.
pub(crate) struct Ref {
    object: ManuallyDrop<Py<PyAny>>,
    // Raw pointers are not Send.
    _here: std::marker::PhantomData<*mut ()>,
}

impl Ref {
    /// Takes over a reference.
    pub(crate) fn new(object: Bound<'_, PyAny>) -> Ref {
        Ref { object: ManuallyDrop::new(object.unbind()), _here: std::marker::PhantomData }
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> Borrowed<'_, 'py, PyAny> {
        self.object.bind_borrowed(py)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Ref {
        Ref::new(self.bind(py).to_owned())
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.object)
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        // SAFETY: this holds one reference, taken in `new`; the type is !Send and made only with
        // the GIL held, and the loop lets that go only around a wait, where no value is dropped.
        unsafe { ffi::Py_DECREF(self.object.as_ptr()) };
    }
}

/// A value that is used only with the GIL held, by whichever thread holds it.
///
/// The engine is `!Send` because it counts references without atomics and borrows without locks.
/// The GIL gives what it needs: one user at a time, and a happens-before edge between two of them.
/// Its borrows end before anything that may let the GIL go (see the crate's rules), so no second
/// thread meets one.
pub(crate) struct UnderGil<T>(UnsafeCell<T>);

// SAFETY: `get` asks for proof that the GIL is held, and the value is dropped by its Python object's
// destructor, which holds it too.
unsafe impl<T> Send for UnderGil<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for UnderGil<T> {}

impl<T> UnderGil<T> {
    pub(crate) const fn new(value: T) -> UnderGil<T> {
        UnderGil(UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn get<'a>(&'a self, _py: Python<'a>) -> &'a T {
        // SAFETY: shared access only, by a thread that holds the GIL.
        unsafe { &*self.0.get() }
    }

    /// For `tp_traverse`, which runs with the GIL held and gets no token.
    ///
    /// # Safety
    ///
    /// The GIL is held.
    pub(crate) unsafe fn get_during_traverse(&self) -> &T {
        // SAFETY: shared access only; the caller holds the GIL.
        unsafe { &*self.0.get() }
    }
}

impl Deref for Ref {
    type Target = Py<PyAny>;

    fn deref(&self) -> &Py<PyAny> {
        &self.object
    }
}
