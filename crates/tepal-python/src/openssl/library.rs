//! The OpenSSL that `_ssl` has loaded.
//!
//! Nothing is linked: the functions are looked up in the library that the extension module `_ssl`
//! depends on, which is loaded already, so that an `SSL*` made by `_ssl` meets the code it was made
//! by. Where `_ssl` is built into the interpreter, or brings an OpenSSL whose symbols are hidden,
//! nothing is found, and the caller goes through Python.

use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::{ffi, intern};

/// `SSL`.
pub(super) enum Ssl {}
/// `SSL_CTX`.
pub(super) enum SslContext {}
/// `BIO`.
pub(super) enum Bio {}
/// `BIO_METHOD`.
pub(super) enum BioMethod {}

// SAFETY: OpenSSL calls them on a BIO that has the method, with what its manual says of each.
pub(super) type BioWrite = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
pub(super) type BioRead = unsafe extern "C" fn(*mut Bio, *mut c_char, c_int) -> c_int;
pub(super) type BioControl = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
pub(super) type BioDestroy = unsafe extern "C" fn(*mut Bio) -> c_int;

macro_rules! functions {
    ($($field:ident: $name:literal = ($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used, by their names in OpenSSL's manual (1.1.1 and 3).
        pub(super) struct Library {
            // SAFETY: each is called as OpenSSL's manual says of the function it is.
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// How our own BIO works; made once, and never freed.
            pub(super) bio_method: *mut BioMethod,
        }

        impl Library {
            // All of them, or nothing; there is no BIO method yet.
            fn find(handle: *mut c_void) -> Option<Library> {
                Some(Library {
                    $($field: {
                        // SAFETY: the handle is open, and the name ends with a zero.
                        let address = unsafe {
                            libc::dlsym(handle, concat!($name, "\0").as_ptr().cast())
                        };
                        if address.is_null() {
                            return None;
                        }
                        // SAFETY: OpenSSL's function of this name has this signature.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(address)
                        }
                    },)*
                    bio_method: ptr::null_mut(),
                })
            }
        }
    };
}

functions! {
    version: "OpenSSL_version_num" = () -> c_ulong;
    context_of: "SSL_get_SSL_CTX" = (*const Ssl) -> *mut SslContext;
    read: "SSL_read" = (*mut Ssl, *mut c_void, c_int) -> c_int;
    write: "SSL_write" = (*mut Ssl, *const c_void, c_int) -> c_int;
    get_error: "SSL_get_error" = (*const Ssl, c_int) -> c_int;
    has_pending: "SSL_has_pending" = (*const Ssl) -> c_int;
    get_shutdown: "SSL_get_shutdown" = (*const Ssl) -> c_int;
    set_bio: "SSL_set_bio" = (*mut Ssl, *mut Bio, *mut Bio);
    clear_error: "ERR_clear_error" = ();
    bio_new_index: "BIO_get_new_index" = () -> c_int;
    bio_meth_new: "BIO_meth_new" = (c_int, *const c_char) -> *mut BioMethod;
    bio_meth_set_write: "BIO_meth_set_write" = (*mut BioMethod, BioWrite) -> c_int;
    bio_meth_set_read: "BIO_meth_set_read" = (*mut BioMethod, BioRead) -> c_int;
    bio_meth_set_ctrl: "BIO_meth_set_ctrl" = (*mut BioMethod, BioControl) -> c_int;
    bio_meth_set_destroy: "BIO_meth_set_destroy" = (*mut BioMethod, BioDestroy) -> c_int;
    bio_new: "BIO_new" = (*const BioMethod) -> *mut Bio;
    bio_up_ref: "BIO_up_ref" = (*mut Bio) -> c_int;
    bio_free: "BIO_free" = (*mut Bio) -> c_int;
    bio_set_data: "BIO_set_data" = (*mut Bio, *mut c_void);
    bio_get_data: "BIO_get_data" = (*mut Bio) -> *mut c_void;
    bio_set_init: "BIO_set_init" = (*mut Bio, c_int);
    bio_set_flags: "BIO_set_flags" = (*mut Bio, c_int);
    bio_clear_flags: "BIO_clear_flags" = (*mut Bio, c_int);
}

// SAFETY: functions and a method table that nobody changes after it was made.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

// Read by the callbacks of a BIO, which may run without the GIL.
static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();

/// Set: sessions go through Python and its memory buffers. For tests, and for whoever suspects us.
static BUFFERS_ONLY: AtomicBool = AtomicBool::new(false);

/// Leaves OpenSSL to Python's `ssl` module if it is set to something.
const SWITCH: &str = "TEPAL_OPENSSL_BUFFERS";

/// Takes or leaves the direct way for sessions begun from now on; returns whether it is there.
pub(super) fn prefer_direct(py: Python<'_>, direct: bool) -> bool {
    let found = found(py).is_some();
    BUFFERS_ONLY.store(!direct, Ordering::Relaxed);
    found && direct
}

/// The library, unless it is not to be found, or not to be used.
pub(super) fn library(py: Python<'_>) -> Option<&'static Library> {
    found(py).filter(|_| !BUFFERS_ONLY.load(Ordering::Relaxed))
}

fn found(py: Python<'_>) -> Option<&'static Library> {
    if LIBRARY.get().is_none() {
        if std::env::var_os(SWITCH).is_some_and(|value| !value.is_empty()) {
            BUFFERS_ONLY.store(true, Ordering::Relaxed);
        }
        // Whatever is unusual about the module: then it is not the one that is known here. Another
        // thread may have been first; what it found is the same.
        let _ = LIBRARY.set(find(py).ok().flatten());
    }
    loaded()
}

fn find(py: Python<'_>) -> PyResult<Option<Library>> {
    let module = py.import(intern!(py, "_ssl"))?;
    let Ok(file) = module.getattr(intern!(py, "__file__")) else { return Ok(None) };
    let Ok(path) = CString::new(file.extract::<String>()?) else { return Ok(None) };
    // SAFETY: a path that ends with a zero. The library is loaded already or is not found; the
    // handle stays open for ever, as extension modules do.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return Ok(None);
    }
    let Some(mut library) = Library::find(handle) else { return Ok(None) };
    let expected: c_ulong = module.getattr(intern!(py, "OPENSSL_VERSION_NUMBER"))?.extract()?;
    // SAFETY: it takes nothing and returns a number.
    if unsafe { (library.version)() } != expected {
        return Ok(None);
    }
    let Some(method) = super::wire::make_method(&library) else { return Ok(None) };
    library.bio_method = method;
    Ok(Some(library))
}

/// The library, if it was looked for and found. Needs no GIL.
pub(super) fn loaded() -> Option<&'static Library> {
    LIBRARY.get()?.as_ref()
}

/// Finds the `SSL*` inside an `ssl.SSLObject`.
///
/// `_ssl` begins its objects with: the object's head, the socket's weak reference, the `SSL*`, the
/// context (3.6 to 3.15); and a context with its head and the `SSL_CTX*`. The context found there
/// has to be the very object that `SSLObject.context` was made by, before anything behind the
/// pointer is touched; then OpenSSL is asked whether the two belong together.
pub(super) fn ssl_of(
    library: &Library,
    object: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> Option<ptr::NonNull<Ssl>> {
    let py = object.py();
    let module = py.import(intern!(py, "_ssl")).ok()?;
    let native = object.getattr(intern!(py, "_sslobj")).ok()?;
    let kind = native.get_type();
    let expected = module.getattr(intern!(py, "_SSLSocket")).ok()?;
    let contexts = module.getattr(intern!(py, "_SSLContext")).ok()?;
    if kind.as_ptr() != expected.as_ptr() || !context.is_instance(&contexts).ok()? {
        return None;
    }
    let size: usize = kind.getattr(intern!(py, "__basicsize__")).ok()?.extract().ok()?;
    let least: usize = contexts.getattr(intern!(py, "__basicsize__")).ok()?.extract().ok()?;
    let word = size_of::<*mut c_void>();
    let head = size_of::<ffi::PyObject>();
    if !head.is_multiple_of(word) || size < head + 3 * word || least < head + word {
        return None;
    }
    // SAFETY: the two objects are at least this long, as just seen, and alive.
    let (ssl, owner, expected) = unsafe {
        let session = native.as_ptr().cast::<u8>().add(head).cast::<*mut c_void>();
        let context = context.as_ptr().cast::<u8>().add(head).cast::<*mut c_void>();
        (*session.add(1), *session.add(2), *context)
    };
    if owner != context.as_ptr().cast() || expected.is_null() {
        return None;
    }
    let ssl = ptr::NonNull::new(ssl.cast::<Ssl>()).filter(|ssl| ssl.is_aligned())?;
    // SAFETY: by the layout just confirmed this is the session's SSL.
    let found = unsafe { (library.context_of)(ssl.as_ptr()) };
    (found.cast::<c_void>() == expected).then_some(ssl)
}
