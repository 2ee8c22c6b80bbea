//! What is taken from Python's library, once per process.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use pyo3::{ffi, intern};

/// Objects of asyncio and its kin.
pub(crate) struct Imports {
    pub(crate) handle: Py<PyAny>,
    pub(crate) timer_handle: Py<PyAny>,
    /// `asyncio.events._ThreadSafeHandle`, which 3.14 has.
    pub(crate) thread_safe_handle: Option<Py<PyAny>>,
    /// Whether `asyncio.Server` is told which transport is attached: from 3.13 on.
    pub(crate) servers_know_transports: bool,
    // The dictionaries of `asyncio.futures` and `asyncio.tasks`.
    futures: Py<PyDict>,
    tasks: Py<PyDict>,
    /// `asyncio.events`, whose functions are looked up at each use: tests replace them.
    pub(crate) events: Py<PyAny>,
    pub(crate) get_asyncgen_hooks: Py<PyAny>,
    pub(crate) set_asyncgen_hooks: Py<PyAny>,
    pub(crate) get_origin_depth: Py<PyAny>,
    pub(crate) set_origin_depth: Py<PyAny>,
    pub(crate) set_wakeup_fd: Py<PyAny>,
    pub(crate) getsignal: Py<PyAny>,
    pub(crate) buffered_protocol: Py<PyAny>,
    pub(crate) stream_reader: Py<PyAny>,
    pub(crate) stream_reader_protocol: Py<PyAny>,
    /// `tepal.Protocol`, whose counts are read; empty until the package has made it.
    pub(crate) counted_protocol: PyOnceLock<Py<PyAny>>,
    /// `tepal._records`: what layers tell, and how connections end.
    pub(crate) records: Py<PyAny>,
    /// `tepal._transport_calls`.
    pub(crate) transports: Py<PyAny>,
    pub(crate) gaierror: Py<PyAny>,
    pub(crate) af_inet: Py<PyAny>,
    pub(crate) af_inet6: Py<PyAny>,
    pub(crate) sock_stream: Py<PyAny>,
    pub(crate) sock_dgram: Py<PyAny>,
    pub(crate) sock_raw: Py<PyAny>,
    /// `tepal._native`: what native code lets Python do.
    pub(crate) helpers: Py<PyAny>,
}

impl Imports {
    /// `asyncio.Future` as asyncio's own loops find it now: programs and tests replace it.
    #[inline]
    pub(crate) fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        named(self.futures.bind(py), intern!(py, "Future"))
    }

    /// `asyncio.Task`, likewise.
    #[inline]
    pub(crate) fn task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        named(self.tasks.bind(py), intern!(py, "Task"))
    }
}

#[inline]
fn named<'py>(
    module: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a dictionary and a string; what is found is borrowed, and the GIL is held until it
    // has been taken.
    let found = unsafe {
        let found = ffi::PyDict_GetItemWithError(module.as_ptr(), name.as_ptr());
        Bound::from_borrowed_ptr_or_opt(module.py(), found)
    };
    found.ok_or_else(|| {
        PyErr::take(module.py())
            .unwrap_or_else(|| PyAttributeError::new_err(format!("asyncio has no {name}")))
    })
}

static IMPORTS: PyOnceLock<Imports> = PyOnceLock::new();

/// Fills the table; the module's initialisation does.
pub(crate) fn load(py: Python<'_>) -> PyResult<&'static Imports> {
    IMPORTS.get_or_try_init(py, || {
        let asyncio = py.import("asyncio")?;
        let sys = py.import("sys")?;
        let of_asyncio = |name: &str| asyncio.getattr(name).map(Bound::unbind);
        let socket = py.import("socket")?;
        let of_socket = |name: &str| socket.getattr(name).map(Bound::unbind);
        let of_sys = |name: &str| sys.getattr(name).map(Bound::unbind);
        Ok(Imports {
            handle: of_asyncio("Handle")?,
            timer_handle: of_asyncio("TimerHandle")?,
            thread_safe_handle: asyncio
                .getattr("events")?
                .getattr_opt("_ThreadSafeHandle")?
                .map(Bound::unbind),
            servers_know_transports: py.version_info() >= (3, 13),
            futures: py.import("asyncio.futures")?.dict().unbind(),
            tasks: py.import("asyncio.tasks")?.dict().unbind(),
            events: of_asyncio("events")?,
            get_asyncgen_hooks: of_sys("get_asyncgen_hooks")?,
            set_asyncgen_hooks: of_sys("set_asyncgen_hooks")?,
            get_origin_depth: of_sys("get_coroutine_origin_tracking_depth")?,
            set_origin_depth: of_sys("set_coroutine_origin_tracking_depth")?,
            set_wakeup_fd: py.import("signal")?.getattr("set_wakeup_fd")?.unbind(),
            getsignal: py.import("signal")?.getattr("getsignal")?.unbind(),
            buffered_protocol: of_asyncio("BufferedProtocol")?,
            stream_reader: of_asyncio("StreamReader")?,
            stream_reader_protocol: of_asyncio("StreamReaderProtocol")?,
            counted_protocol: PyOnceLock::new(),
            records: py.import("tepal._records")?.into_any().unbind(),
            transports: py.import("tepal._transport_calls")?.into_any().unbind(),
            gaierror: of_socket("gaierror")?,
            af_inet: of_socket("AF_INET")?,
            af_inet6: of_socket("AF_INET6")?,
            sock_stream: of_socket("SOCK_STREAM")?,
            sock_dgram: of_socket("SOCK_DGRAM")?,
            sock_raw: of_socket("SOCK_RAW")?,
            helpers: py.import("tepal._native")?.into_any().unbind(),
        })
    })
}

/// The table.
#[inline]
pub(crate) fn imports(py: Python<'_>) -> &'static Imports {
    IMPORTS.get(py).expect("the module's initialisation has filled it")
}

/// Says which class is `tepal.Protocol`; the package does, once.
#[pyfunction]
pub(crate) fn set_protocol_class(class: Bound<'_, PyAny>) {
    // A second call would be the package's own mistake; the first class stays.
    let _ = imports(class.py()).counted_protocol.set(class.py(), class.unbind());
}
