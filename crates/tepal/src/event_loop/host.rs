//! Rust as a host of the engine: closures, boxed protocols, futures.
//!
//! Its types stand in the signatures of keys and of the `Host` trait, so they are `pub`; nothing
//! outside can name them.

#![allow(unreachable_pub, reason = "named by associated types of a public trait")]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Waker;

use tepal_base::{CallOnce, Slab};
use tepal_layers::{Side, Stack};

use super::server::ServerState;
use super::{Loop, Protocol};
use crate::engine::{
    AcceptFault, Engine, Failure, Flow, Host, ListenerKey, Occasion, Outcome, Report, StreamKey,
    Verdict,
};
use crate::{Address, StreamOptions};

/// The Rust host. Public in name only: it stands in the types of keys.
pub struct RustHost {
    pub(super) id: u64,
    // What a panic hook panicked with, for the end of the run.
    raised: Cell<Option<Box<dyn Any + Send>>>,
    // Each is None while it runs, since it may set another.
    panics: RefCell<Option<PanicHook>>,
    troubles: RefCell<Option<TroubleHook>>,
    // The wakers of spawned futures that are not done: with the loop they go too, even where a
    // future and its waker hold each other.
    pub(super) tasks: RefCell<Slab<Option<Waker>>>,
    pub(super) servers: RefCell<HashMap<ListenerKey<RustHost>, Rc<ServerState>>>,
    // Kept alive as long as it is the loop's default.
    pub(super) default_resolver: RefCell<Option<super::Resolver>>,
}

type PanicHook = Box<dyn FnMut(Box<dyn Any + Send>) -> Flow>;
type TroubleHook = Box<dyn FnMut(&'static str, &io::Error)>;

pub(super) type RustEngine = Engine<RustHost>;

pub enum Job {
    Call(CallOnce<Loop>),
    Poll(async_task::Runnable),
}

pub use super::bound::{Bound, BoundDatagram};

pub type RemoteJob = Box<dyn FnOnce(&Loop) + Send>;
pub type Callback = Box<dyn FnMut(&Loop, Occasion)>;
pub type Completion = Box<dyn FnOnce(&Loop, Outcome)>;
pub type MakeProtocol = Box<dyn FnMut(&Address) -> Box<dyn Protocol>>;

/// What makes the connections of a listening socket.
pub struct Factory {
    pub(super) protocol: MakeProtocol,
    pub(super) stack: Stack,
    pub(super) options: StreamOptions,
}

impl RustHost {
    pub(super) fn new(id: u64) -> RustHost {
        RustHost {
            id,
            raised: Cell::new(None),
            // The process's panic hook has printed it by now.
            panics: RefCell::new(Some(Box::new(|_| Flow::Continue(())))),
            troubles: RefCell::new(Some(Box::new(|what, error| {
                eprintln!("tepal: {what}: {error}");
            }))),
            tasks: RefCell::new(Slab::new()),
            servers: RefCell::new(HashMap::new()),
            default_resolver: RefCell::new(None),
        }
    }

    pub(super) fn set_panic_hook(&self, hook: PanicHook) {
        let old = self.panics.replace(Some(hook));
        drop(old);
    }

    pub(super) fn set_trouble_hook(&self, hook: TroubleHook) {
        let old = self.troubles.replace(Some(hook));
        drop(old);
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> Flow {
        let hook = self.panics.take();
        let Some(mut hook) = hook else { return Flow::Continue(()) };
        // Its own panic waits until everything is in order again.
        let flow = catch_unwind(AssertUnwindSafe(|| hook(payload))).unwrap_or_else(|payload| {
            self.raised.set(Some(payload));
            Flow::Break(())
        });
        put_back(&self.panics, hook);
        flow
    }

    /// Goes on with the panic of a panic hook, if one has ended the run.
    pub(super) fn raise(&self) {
        if let Some(payload) = self.raised.take() {
            resume_unwind(payload);
        }
    }

    pub(super) fn drop_hooks(&self) {
        let hooks = (self.panics.take(), self.troubles.take());
        drop(hooks);
    }

    /// For a forked child: what the hooks own may be the parent's, so no destructor of theirs runs.
    pub(super) fn forget_hooks(&self) {
        mem::forget((self.panics.take(), self.troubles.take()));
    }

    /// Runs what is neither a protocol's callback nor a job: a waker, a destructor.
    pub(super) fn guard_aside(&self, engine: &RustEngine, call: impl FnOnce()) {
        if self.guard_flow(call).is_break() && engine.is_running() {
            engine.interrupt();
        }
    }

    pub(super) fn guard<R>(&self, call: impl FnOnce() -> R) -> Verdict<R> {
        // Unwind safety: what `call` may leave half-changed is the user's own protocol, which is
        // dropped, and the engine, which borrows nothing while it runs.
        catch_unwind(AssertUnwindSafe(call)).map_err(|payload| match self.panicked(payload) {
            Flow::Continue(()) => Failure::Connection,
            Flow::Break(()) => Failure::Run,
        })
    }

    fn guard_flow(&self, call: impl FnOnce()) -> Flow {
        match self.guard(call) {
            Ok(()) | Err(Failure::Connection) => Flow::Continue(()),
            Err(Failure::Run) => Flow::Break(()),
        }
    }
}

/// Puts a hook back where it was, unless another has been set meanwhile.
fn put_back<T>(place: &RefCell<Option<T>>, hook: T) {
    let mut place = place.borrow_mut();
    if place.is_none() {
        *place = Some(hook);
        return;
    }
    drop(place);
    drop(hook);
}

impl fmt::Debug for RustHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustHost")
    }
}

impl Host for RustHost {
    type Job = Job;
    type RemoteJob = RemoteJob;
    type Callback = Callback;
    type Completion = Completion;
    type Protocol = Bound;
    type DatagramProtocol = BoundDatagram;
    type Factory = Factory;

    #[inline]
    fn run_job(&self, engine: &RustEngine, job: Job) -> Flow {
        self.guard_flow(|| match job {
            Job::Call(call) => call.call(&Loop::from_engine(engine)),
            Job::Poll(runnable) => {
                runnable.run();
            }
        })
    }

    fn accept_remote(&self, job: RemoteJob) -> Job {
        Job::Call(CallOnce::new(|lp: &Loop| job(lp)))
    }

    fn call(&self, engine: &RustEngine, callback: &mut Callback, why: Occasion) -> Flow {
        self.guard_flow(|| callback(&Loop::from_engine(engine), why))
    }

    fn complete(&self, engine: &RustEngine, completion: Completion, outcome: Outcome) -> Flow {
        self.guard_flow(|| completion(&Loop::from_engine(engine), outcome))
    }

    fn accepted(
        &self,
        engine: &RustEngine,
        factory: &mut Factory,
        stream: StreamKey<Self>,
        peer: &Address,
    ) -> Verdict<Bound> {
        engine.stream_set_options(stream, factory.options);
        let stack = factory.stack.clone();
        if !stack.is_empty() && engine.stream_set_layers(stream, stack, Side::Server, None).is_err()
        {
            // A stream that was accepted just now takes layers.
            return Err(Failure::Connection);
        }
        self.guard(|| Bound::new((factory.protocol)(peer), Rc::default()))
    }

    fn connection_released(&self, engine: &RustEngine, listener: ListenerKey<Self>) {
        let server = self.servers.borrow().get(&listener).cloned();
        if let Some(server) = server {
            self.guard_aside(engine, || server.released());
        }
    }

    fn accept_failed(&self, engine: &RustEngine, _factory: &mut Factory, why: AcceptFault) {
        let (context, error) = match why {
            AcceptFault::Exhausted(error) => ("accepting is suspended for a moment", error),
            AcceptFault::Setup(error) => ("a connection was lost while it was accepted", error),
            AcceptFault::Broken(error) => ("a listening socket is broken", error),
        };
        self.report(engine, Report { context, error });
    }

    fn report(&self, _engine: &RustEngine, report: Report) {
        let hook = self.troubles.take();
        let Some(mut hook) = hook else { return };
        let _ = self.guard(|| hook(report.context, &report.error));
        put_back(&self.troubles, hook);
    }
}
