//! Methods that Python calls by pointer, with their arguments in an array.
//!
//! PyO3 makes a tuple of `*args`; the methods that every program calls all the time take none.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use pyo3::{Borrowed, ffi};

/// The arguments of one call.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, 'py> {
    py: Python<'py>,
    positional: &'a [*mut ffi::PyObject],
    // The values of keywords, which follow the others.
    keywords: &'a [*mut ffi::PyObject],
    names: *mut ffi::PyObject,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// # Safety
    ///
    /// They are what CPython passed to a `METH_FASTCALL | METH_KEYWORDS` function, for its duration.
    #[inline]
    pub(crate) unsafe fn new(
        py: Python<'py>,
        args: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Arguments<'a, 'py> {
        let count = count as usize;
        if names.is_null() && count == 0 {
            return Arguments { py, positional: &[], keywords: &[], names };
        }
        // SAFETY: as the caller says, `names` is a tuple or null, and the values of the keywords
        // follow the positional arguments.
        let (positional, keywords) = unsafe {
            let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
            std::slice::from_raw_parts(args, count + named).split_at(count)
        };
        Arguments { py, positional, keywords, names }
    }

    #[inline]
    pub(crate) fn positional(&self) -> &'a [*mut ffi::PyObject] {
        self.positional
    }

    /// The `index`-th positional argument.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        // SAFETY: the arguments are references that live as long as the call.
        self.positional.get(index).map(|object| unsafe { Borrowed::from_ptr(self.py, *object) })
    }

    /// Whether no keyword is given but perhaps `name`, an interned string; and then its value.
    ///
    /// Names in a caller's code are interned, so that looking at the pointer is enough. `None` for
    /// anything else: look at `keywords`.
    #[inline]
    pub(crate) fn only_keyword(
        &self,
        name: &Bound<'py, PyString>,
    ) -> Option<Option<Borrowed<'a, 'py, PyAny>>> {
        match *self.keywords {
            [] => Some(None),
            // SAFETY: there is a name for the value; the value lives as long as the call.
            [value] => unsafe {
                let given = ffi::PyTuple_GET_ITEM(self.names, 0);
                (given == name.as_ptr()).then(|| Some(Borrowed::from_ptr(self.py, value)))
            },
            _ => None,
        }
    }

    /// The one argument there is to be.
    #[inline]
    fn only<M: OneArgument>(&self) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        match (self.positional, self.keywords) {
            // SAFETY: the arguments are references that live as long as the call.
            ([object], []) => Ok(unsafe { Borrowed::from_ptr(self.py, *object) }),
            _ => self.only_by_name::<M>(),
        }
    }

    #[cold]
    fn only_by_name<M: OneArgument>(&self) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        let function = M::NAME.to_str().unwrap_or_default();
        if let Some((name, _)) = self.keywords().find(|(name, _)| *name != M::ARGUMENT) {
            return Err(unexpected(function, name));
        }
        match (self.positional.len(), self.keywords().next()) {
            (0, Some((_, object))) => Ok(object),
            (0, None) => Err(missing(function, M::ARGUMENT)),
            (1, Some((name, _))) => Err(PyTypeError::new_err(format!(
                "{function}() got multiple values for argument '{name}'"
            ))),
            (count, _) => Err(PyTypeError::new_err(format!(
                "{function}() takes 2 positional arguments but {} were given",
                count + 1
            ))),
        }
    }

    /// The keyword arguments with their names.
    pub(crate) fn keywords(&self) -> impl Iterator<Item = (&'a str, Borrowed<'a, 'py, PyAny>)> {
        let (py, names) = (self.py, self.names);
        self.keywords.iter().enumerate().map(move |(index, value)| {
            // SAFETY: there is a name for each value, a string; all live as long as the call.
            unsafe {
                let name = ffi::PyTuple_GET_ITEM(names, index as ffi::Py_ssize_t);
                (text_of(name), Borrowed::from_ptr(py, *value))
            }
        })
    }
}

// The text of a string as long as that lives. One that has no UTF-8 form is nobody's keyword.
/// # Safety
///
/// `name` is a live string and the GIL is held.
unsafe fn text_of<'a>(name: *mut ffi::PyObject) -> &'a str {
    let mut len = 0;
    // SAFETY: as the contract says; the string keeps its UTF-8 form.
    unsafe {
        let text = ffi::PyUnicode_AsUTF8AndSize(name, &raw mut len);
        if text.is_null() {
            ffi::PyErr_Clear();
            return "?";
        }
        let bytes = std::slice::from_raw_parts(text.cast::<u8>(), len as usize);
        std::str::from_utf8(bytes).unwrap_or("?")
    }
}

/// Runs the body of a function that Python called by pointer: an error becomes the pending
/// exception, and a panic becomes an error instead of ending the process.
#[inline]
pub(crate) fn guard(
    body: impl FnOnce(Python<'_>) -> PyResult<*mut ffi::PyObject>,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls its functions with the GIL held.
    let py = unsafe { Python::assume_attached() };
    // Unwind safety: what a panic leaves is the engine, which lends nothing across calls.
    match catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(object)) => object,
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(_) => {
            panicked().restore(py);
            ptr::null_mut()
        }
    }
}

/// A method with one argument, given by position or by its name. The types that have this trait stand
/// for nothing else.
pub(crate) trait OneArgument {
    const NAME: &'static CStr;
    const ARGUMENT: &'static str;
    const DOC: &'static CStr;

    /// What the method is of.
    type Of;

    fn call(object: Borrowed<'_, '_, Self::Of>, argument: Borrowed<'_, '_, PyAny>) -> PyResult<()>;
}

/// Adds such a method to the class it is of, or to one that derives from it. It returns None.
pub(crate) fn add_one_argument<M: OneArgument>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: one_argument::<M> };
    add_method(class, M::NAME, function, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, M::DOC)
}

extern "C" fn one_argument<M: OneArgument>(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|py| {
        // SAFETY: called by CPython on an instance of the class that the method was added to, with
        // these arguments.
        let (object, arguments) = unsafe {
            let object = Borrowed::from_ptr(py, object).cast_unchecked::<M::Of>();
            (object, Arguments::new(py, args, count, names))
        };
        M::call(object, arguments.only::<M>()?)?;
        // SAFETY: None is live for ever.
        Ok(unsafe { ffi::Py_NewRef(ffi::Py_None()) })
    })
}

/// The error that a panic of ours becomes; its text was printed by the panic hook.
pub(crate) fn panicked() -> PyErr {
    PyRuntimeError::new_err("tepal has a bug: its native code panicked; please report this")
}

/// A missing argument, in CPython's words.
pub(crate) fn missing(function: &str, argument: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{function}() missing 1 required positional argument: '{argument}'"
    ))
}

/// A keyword that a function does not have, in CPython's words.
pub(crate) fn unexpected(function: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'"))
}

/// Adds a method to a type. `method` and its texts live for ever: types are made once.
pub(crate) fn add_method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    function: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static CStr,
) -> PyResult<()> {
    let method = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: the class is a type and `method` lives for ever.
    let descriptor = unsafe {
        let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), method);
        Bound::from_owned_ptr_or_err(class.py(), descriptor)?
    };
    class.setattr(name.to_str().unwrap_or_default(), descriptor)
}
