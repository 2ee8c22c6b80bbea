//! The extension module `tepal._tepal`: Python as a host of tepal's engine.
//!
//! It translates and decides nothing: scheduling, timers and sockets are the engine's. Coroutine
//! methods and whatever is not on a hot path are Python, in `python/tepal`.
//!
//! # Where things are
//!
//! | module | what lives there |
//! |---|---|
//! | `object` | [`Ref`](object::Ref) and [`UnderGil`](object::UnderGil): Python references in the engine |
//! | `host` | `PyHost`, the engine's host: jobs, callbacks, completions, the wait without the GIL |
//! | `handle` | `Handle` and `TimerHandle`, laid out by hand for speed |
//! | `event_loop` | the class `Loop`: `call`, `run`, `io` (descriptors), `signals`, `timer`, `tasks` |
//! | `errors`, `imports` | exceptions out of our errors; what is taken from asyncio, once |
//! | `memory` | what follows where memory runs out |
//! | `raised` | exceptions of layers, on their way to the protocol |
//! | `fastcall` | methods that take their arguments without a tuple or dict |
//! | `layers` | recipes for layers, and layers written in Python |
//! | `stream` | stream transports, servers and their protocols |
//! | `openssl` | TLS with an `ssl.SSLContext` |
//! | `datagram` | datagram transports |
//! | `command` | the command `tepal`, for the script that an installation makes |
//! | `address` | socket addresses in Python's form |
//! | `audit` | whether audit hooks are to hear what socket objects would tell them |
//!
//! # The rules of the border
//!
//! * All of it runs with the GIL held; only [`PyHost::wait`](host::PyHost) lets it go, around the
//!   kernel's wait, with nothing of the engine borrowed. So any thread may call any method: what is
//!   wrong by asyncio's rules may come at the wrong time, but stays memory-safe.
//! * No `RefCell` is borrowed across anything that can run Python: calls, decrefs, allocation of
//!   collected objects, comparison, release of a buffer. Values are moved or cloned out first.
//! * Functions that Python calls by pointer go through [`fastcall::guard`], where panics end.
//! * Objects that hold Python objects are traversed by the collector; what the engine holds is
//!   traversed by its loop.

#![warn(missing_docs)]

mod address;
mod audit;
mod command;
mod datagram;
mod errors;
mod event_loop;
mod exit;
mod fastcall;
mod handle;
mod host;
mod imports;
mod layers;
mod memory;
mod object;
mod openssl;
mod raised;
mod stream;

use pyo3::prelude::*;

/// The native half of the package `tepal`; its names are not public.
#[pymodule(gil_used = true)]
fn _tepal(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    imports::load(py)?;
    module.add_function(wrap_pyfunction!(exit::_stop_loops_of_threads, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    handle::add_types(module)?;
    layers::add_types(module)?;
    module.add_function(wrap_pyfunction!(imports::set_protocol_class, module)?)?;
    event_loop::add_types(module)?;
    module.add_function(wrap_pyfunction!(event_loop::add_fast_methods, module)?)?;
    stream::add_types(module)?;
    datagram::add_types(module)?;
    module.add_function(wrap_pyfunction!(command::run_command, module)?)?;
    openssl::add_types(module)
}
