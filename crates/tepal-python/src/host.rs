//! Python as the engine's host.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;

use pyo3::exceptions::PyMemoryError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tepal::engine::{
    AcceptFault, Engine, Flow, Held, Host, Occasion, Outcome, Report, StreamKey, Verdict,
};
use tepal::{Address, Interest};
use tepal_driver::Wait;

use crate::datagram::PyDatagramProtocol;
use crate::errors::{exception, leaves_run};
use crate::event_loop::{FdHandles, PyTimer, PyWatcher, WakePipe};
use crate::handle::{HandleRef, Queued};
use crate::layers::PyLayers;
use crate::memory::{self, Next};
use crate::object::Ref;
use crate::stream::{PyFactory, PyStreamProtocol};

/// An engine whose callbacks and protocols are Python's.
pub(crate) type PyEngine = Engine<PyHost>;

/// What the engine's host keeps beside the engine.
pub(crate) struct PyHost {
    /// Debug mode, as `set_debug` left it.
    pub(crate) debug: Cell<bool>,
    /// What leaves the run: set before `Break` is returned, taken by `run_forever`.
    pub(crate) pending: Cell<Option<PyErr>>,
    /// `add_reader` and `add_writer`.
    pub(crate) descriptors: RefCell<HashMap<RawFd, FdHandles>>,
    /// What the interpreter's signal handler writes to; made by the first run in the main thread.
    pub(crate) wake_pipe: Cell<Option<WakePipe>>,
    /// Descriptors of open transports, which nobody else may watch.
    pub(crate) transport_fds: RefCell<HashSet<RawFd>>,
    pub(crate) task_factory: RefCell<Option<Ref>>,
    /// The layers that are written in Python.
    pub(crate) layers: PyLayers,
    /// The thread that runs the loop; zero outside a run.
    pub(crate) thread: Cell<u64>,
    /// The thread that runs the loop sleeps in the kernel, without the GIL: whoever calls us now is
    /// another one.
    pub(crate) sleeps: Cell<bool>,
    /// This is a child process, and the loop is its parent's.
    pub(crate) forked: Cell<bool>,
}

/// A callback to run once.
pub(crate) enum Job {
    /// Of `call_soon` and its kin.
    Handle(Queued),
}

/// What other threads hand over: nothing. Whoever holds the GIL may use the queue itself, and only
/// wakes the loop.
pub(crate) enum NoJob {}

/// A callback that runs many times.
pub(crate) enum Callback {
    /// The handles that `add_reader` and `add_writer` set for this descriptor.
    Descriptor(RawFd),
    /// Of `add_signal_handler`.
    Signal(HandleRef),
    /// Of `loop.timer`.
    Timer(Py<PyTimer>),
    /// Of `loop.watch`.
    Watcher(Py<PyWatcher>),
    /// Empties the wake-up pipe.
    WakePipe,
}

/// Hears how an operation ended.
pub(crate) trait Completion {
    /// Runs once, on the loop.
    fn complete(self: Box<Self>, py: Python<'_>, engine: &PyEngine, outcome: Outcome) -> Flow;

    /// Shows the collector the objects that it holds.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

// The queue's entries stay small.
const _: () = assert!(size_of::<Job>() <= 2 * size_of::<usize>());

impl PyHost {
    pub(crate) fn new() -> PyHost {
        PyHost {
            debug: Cell::new(false),
            pending: Cell::new(None),
            descriptors: RefCell::new(HashMap::new()),
            wake_pipe: Cell::new(None),
            transport_fds: RefCell::new(HashSet::new()),
            task_factory: RefCell::new(None),
            layers: PyLayers::default(),
            thread: Cell::new(0),
            sleeps: Cell::new(false),
            forked: Cell::new(false),
        }
    }

    /// Ends the run with `error`, which `run_forever` raises.
    pub(crate) fn leave_run(&self, error: PyErr) -> Flow {
        let old = self.pending.replace(Some(error));
        drop(old);
        Flow::Break(())
    }

    /// The same from a callback of a transport, which it costs nothing: as in asyncio the connection
    /// goes on with the next run.
    pub(crate) fn interrupt(engine: &PyEngine, error: PyErr) {
        let _ = engine.host().leave_run(error);
        engine.interrupt();
    }

    /// An exception that has no caller, of what belongs to `object`: it is printed, unless it leaves
    /// the run, as an interrupt does that came at that moment.
    #[cold]
    pub(crate) fn nobody_gets(engine: &PyEngine, error: PyErr, object: Option<&Bound<'_, PyAny>>) {
        let py = attached();
        // Without memory it was not told to whoever waits for it.
        if leaves_run(py, &error) || error.is_instance_of::<PyMemoryError>(py) {
            PyHost::interrupt(engine, error);
        } else {
            error.write_unraisable(py, object);
        }
    }

    /// What to do after a call out of the loop's own code (an exception handler, a log call).
    pub(crate) fn flow(&self, result: PyResult<()>) -> Flow {
        match result {
            Ok(()) => Flow::Continue(()),
            Err(error) => self.leave_run(error),
        }
    }

    /// Runs a callback; its exception goes to the loop's exception handler.
    #[inline]
    pub(crate) fn run_handle(&self, engine: &PyEngine, py: Python<'_>, handle: &HandleRef) -> Flow {
        if handle.is_cancelled() {
            return Flow::Continue(());
        }
        if self.debug.get() {
            return self.run_handle_in_debug(engine, py, handle);
        }
        match handle.call(py) {
            Ok(()) => Flow::Continue(()),
            Err(()) => self.handle_failed(engine, py, handle),
        }
    }

    #[cold]
    fn run_handle_in_debug(&self, engine: &PyEngine, py: Python<'_>, handle: &HandleRef) -> Flow {
        let started = engine.now();
        let flow = match handle.call(py) {
            Ok(()) => Flow::Continue(()),
            Err(()) => self.handle_failed(engine, py, handle),
        };
        let seconds = engine.now().since(started).as_secs_f64();
        let helpers = crate::imports::imports(py).helpers.bind(py);
        let told =
            helpers.call_method1(intern!(py, "callback_was_slow"), (handle.bind(py), seconds));
        flow?;
        self.flow(told.map(drop))
    }

    #[cold]
    fn handle_failed(&self, engine: &PyEngine, py: Python<'_>, handle: &HandleRef) -> Flow {
        let error = PyErr::fetch(py);
        if leaves_run(py, &error) {
            return self.leave_run(error);
        }
        if error.is_instance_of::<PyMemoryError>(py) {
            match memory::after(py, handle) {
                Next::Again => {
                    engine.call_soon(Job::Handle(Queued::again(py, handle)));
                    return Flow::Continue(());
                }
                Next::Leave => return self.leave_run(error),
                Next::Report => {}
            }
        }
        let helpers = crate::imports::imports(py).helpers.bind(py);
        let told = helpers
            .call_method1(intern!(py, "callback_failed"), (handle.bind(py), exception(py, error)));
        self.flow(told.map(drop))
    }

    /// Shows the collector what is kept here and in the engine.
    pub(crate) fn traverse(
        &self,
        engine: &PyEngine,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        if let Ok(factory) = self.task_factory.try_borrow()
            && let Some(factory) = &*factory
        {
            factory.visit(visit)?;
        }
        if let Ok(descriptors) = self.descriptors.try_borrow() {
            descriptors.values().try_for_each(|handles| handles.visit(visit))?;
        }
        self.layers.visit(visit)?;
        engine.visit(|held| match held {
            Held::Job(job) => job.visit(visit),
            Held::RemoteJob(job) => match *job {},
            Held::Callback(callback) => callback.visit(visit),
            Held::Completion(completion) => completion.visit(visit),
            Held::Protocol(protocol) => protocol.visit(visit),
            Held::DatagramProtocol(protocol) => protocol.visit(visit),
            Held::Factory(factory) => factory.visit(visit),
            _ => Ok(()),
        })
    }
}

impl Job {
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Job::Handle(handle) => handle.visit(visit),
        }
    }
}

impl Callback {
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Callback::Descriptor(_) | Callback::WakePipe => Ok(()),
            Callback::Signal(handle) => handle.visit(visit),
            Callback::Timer(timer) => visit.call(timer),
            Callback::Watcher(watcher) => visit.call(watcher),
        }
    }
}

// The engine calls its host with the GIL held: it runs inside `run_forever`.
pub(crate) fn attached() -> Python<'static> {
    // SAFETY: as above; `Host::wait`, where the GIL is let go, is given no chance to call this.
    unsafe { Python::assume_attached() }
}

impl Host for PyHost {
    type Job = Job;
    type RemoteJob = NoJob;
    type Callback = Callback;
    type Completion = Box<dyn Completion>;
    type Protocol = PyStreamProtocol;
    type DatagramProtocol = PyDatagramProtocol;
    type Factory = PyFactory;

    #[inline]
    fn run_job(&self, engine: &PyEngine, job: Job) -> Flow {
        match job {
            Job::Handle(handle) => self.run_handle(engine, attached(), &handle),
        }
    }

    fn accept_remote(&self, job: NoJob) -> Job {
        match job {}
    }

    fn call(&self, engine: &PyEngine, callback: &mut Callback, why: Occasion) -> Flow {
        let py = attached();
        match callback {
            Callback::Descriptor(fd) => match why {
                Occasion::Ready(ready) => self.descriptor_ready(engine, py, *fd, ready),
                _ => Flow::Continue(()),
            },
            Callback::Signal(handle) => {
                let handle = handle.clone_ref(py);
                self.run_handle(engine, py, &handle)
            }
            Callback::Timer(timer) => {
                let timer = timer.clone_ref(py);
                PyTimer::fire(&timer, py, engine)
            }
            Callback::Watcher(watcher) => {
                let watcher = watcher.clone_ref(py);
                let ready = if let Occasion::Ready(ready) = why { ready } else { Interest::NONE };
                PyWatcher::fire(&watcher, py, engine, ready)
            }
            Callback::WakePipe => {
                self.empty_wake_pipe(engine);
                Flow::Continue(())
            }
        }
    }

    fn complete(
        &self,
        engine: &PyEngine,
        completion: Box<dyn Completion>,
        outcome: Outcome,
    ) -> Flow {
        completion.complete(attached(), engine, outcome)
    }

    fn accepted(
        &self,
        engine: &PyEngine,
        factory: &mut PyFactory,
        stream: StreamKey<PyHost>,
        peer: &Address,
    ) -> Verdict<PyStreamProtocol> {
        factory.make(attached(), engine, stream, peer)
    }

    fn accept_failed(&self, engine: &PyEngine, factory: &mut PyFactory, why: AcceptFault) {
        factory.accept_failed(attached(), engine, why);
    }

    fn report(&self, engine: &PyEngine, report: Report) {
        let py = attached();
        let helpers = crate::imports::imports(py).helpers.bind(py);
        let error = exception(py, crate::errors::os_error(&report.error));
        if let Err(error) = helpers.call_method1(intern!(py, "trouble"), (report.context, error)) {
            // Logging itself failed, and there is no caller to tell.
            PyHost::nobody_gets(engine, error, None);
        }
    }

    fn wait(&self, wait: &mut dyn Wait) -> Flow {
        let py = attached();
        if wait.blocks() || crate::exit::is_near() {
            Queued::rest(py);
            self.sleeps.set(true);
            py.detach(|| crate::exit::wait(|| wait.wait()));
            self.sleeps.set(false);
        } else {
            wait.wait();
        }
        // The interpreter's own handlers run here, if this is the main thread: a signal ends the
        // wait, and none of Python's code may follow for long.
        match py.check_signals() {
            Ok(()) => Flow::Continue(()),
            Err(error) => self.leave_run(error),
        }
    }
}
