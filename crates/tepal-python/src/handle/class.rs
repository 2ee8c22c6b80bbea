//! The two classes, made once.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::{offset_of, size_of};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::attributes;
use super::freed::dealloc;
use super::object::{HandleObject, clear, traverse};
use crate::object::UnderGil;

pub(super) static HANDLE: UnderGil<Class> = UnderGil::new(Class(Cell::new(ptr::null_mut())));
pub(super) static TIMER_HANDLE: UnderGil<Class> = UnderGil::new(Class(Cell::new(ptr::null_mut())));

/// A type object that lives for ever.
pub(super) struct Class(Cell<*mut ffi::PyTypeObject>);

impl Class {
    #[inline]
    pub(super) fn get(&self) -> *mut ffi::PyTypeObject {
        self.0.get()
    }
}

/// Makes the classes and adds them to the module.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let plain = make(py, c"tepal._tepal.Handle", HANDLE_DOC, attributes::handle_methods())?;
    let timer =
        make(py, c"tepal._tepal.TimerHandle", TIMER_DOC, attributes::timer_handle_methods())?;
    module.add("Handle", &plain)?;
    module.add("TimerHandle", &timer)?;
    // The table keeps a reference for ever.
    HANDLE.get(py).0.set(plain.into_ptr().cast());
    TIMER_HANDLE.get(py).0.set(timer.into_ptr().cast());
    Ok(())
}

const HANDLE_DOC: &CStr = c"A callback that the loop will call; cancel() takes it back.";
const TIMER_DOC: &CStr = c"A callback that the loop will call at when(); cancel() takes it back.";

fn make<'py>(
    py: Python<'py>,
    name: &'static CStr,
    doc: &'static CStr,
    methods: Vec<ffi::PyMethodDef>,
) -> PyResult<Bound<'py, PyAny>> {
    // CPython keeps pointers to these tables: the classes are made once and live for ever.
    let methods = Vec::leak(methods);
    let getters = Vec::leak(attributes::getters());
    let members = Box::leak(Box::new([
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset_of!(HandleObject, weak_references) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ]));
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_repr, attributes::repr as *mut c_void),
        slot(ffi::Py_tp_richcompare, attributes::compare as *mut c_void),
        slot(ffi::Py_tp_hash, attributes::hash as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_doc, doc.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let flags =
        ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size_of::<HandleObject>() as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec describes `HandleObject`, its functions are for such objects, and its tables
    // live as long as the class.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }
}
