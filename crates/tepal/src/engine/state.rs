//! What a loop holds.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::RawFd;
use std::sync::Arc;

use tepal_base::{Buffer, Instant, JobQueue, Slab};
use tepal_driver::{Driver, Event};
use tepal_layers::Workspace;

use super::remote::Shared;
use super::signals::Signals;
use super::timers::Timers;
use super::work::{TimerWork, Work};
use super::{Host, Object, ObjectKey, StreamKey};
use crate::names::Names;
use crate::transport::Pipe;

pub(crate) struct Core<H: Host> {
    pub(super) host: H,
    pub(crate) driver: RefCell<Box<dyn Driver>>,
    pub(super) driver_name: &'static str,
    pub(super) ready: RefCell<JobQueue<Work<H>>>,
    pub(super) timers: RefCell<Timers<TimerWork<H>>>,
    pub(crate) objects: RefCell<Slab<Object<H>>>,
    pub(super) watched: RefCell<HashMap<RawFd, ObjectKey<H>>>,
    pub(super) signals: RefCell<Signals<H>>,
    pub(super) shared: Arc<Shared<H>>,
    pub(super) triggers: RefCell<BTreeMap<usize, Option<H::Callback>>>,
    // Streams with bytes to send at the end of the turn.
    pub(crate) dirty: RefCell<Vec<StreamKey<H>>>,
    // The stream whose bytes a protocol looks at now: it is flushed behind that, without the list.
    pub(crate) reading: Cell<Option<StreamKey<H>>>,
    // The stream whose chain the pump has.
    pub(crate) pumping: Cell<Option<StreamKey<H>>>,
    // Blocks for what is on its way, in all layers.
    pub(crate) workspace: Workspace,
    // Empty pipes for joins.
    pub(crate) pipes: RefCell<Vec<Pipe>>,
    pub(crate) large_pipes: Cell<usize>,
    pub(crate) names: RefCell<Names<H>>,
    pub(crate) redundant_connects: Cell<u64>,
    // The memory that streams are read into; away while a protocol looks at it.
    pub(super) scratch: Cell<Option<Buffer>>,
    pub(super) events: Cell<Vec<Event>>,
    // How often the kernel was looked at.
    pub(super) looks: Cell<u32>,
    pub(super) state: Cell<State>,
    pub(super) stopping: Cell<bool>,
    // The run ends behind the work that is under way.
    pub(super) interrupted: Cell<bool>,
    // Looks at the kernel in a row that did not wait and found nothing.
    pub(super) looks_in_vain: Cell<u32>,
    // Since the last look; and the clock at the first of them that read it.
    pub(super) turns_since_poll: Cell<u32>,
    pub(super) skipping_since: Cell<Instant>,
    pub(super) turns: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Idle,
    Running,
    Closed,
}

/// The block that gathers small writes: a few full TCP segments. 64 of them are kept.
const BLOCK_LEN: usize = 16 * 1024;

impl<H: Host> Core<H> {
    pub(super) fn new(host: H, mut driver: Box<dyn Driver>) -> Core<H> {
        let shared = Arc::new(Shared::new(driver.waker()));
        let source = driver.signals();
        Core {
            host,
            driver_name: driver.name(),
            driver: RefCell::new(driver),
            ready: RefCell::new(JobQueue::new()),
            timers: RefCell::new(Timers::new()),
            objects: RefCell::new(Slab::new()),
            watched: RefCell::new(HashMap::new()),
            signals: RefCell::new(Signals::new(source)),
            shared,
            triggers: RefCell::new(BTreeMap::new()),
            dirty: RefCell::new(Vec::new()),
            reading: Cell::new(None),
            pumping: Cell::new(None),
            workspace: Workspace::new(BLOCK_LEN),
            pipes: RefCell::new(Vec::new()),
            large_pipes: Cell::new(0),
            names: RefCell::new(Names::new()),
            redundant_connects: Cell::new(0),
            scratch: Cell::new(None),
            events: Cell::new(Vec::new()),
            looks: Cell::new(0),
            state: Cell::new(State::Idle),
            stopping: Cell::new(false),
            interrupted: Cell::new(false),
            looks_in_vain: Cell::new(0),
            turns_since_poll: Cell::new(0),
            skipping_since: Cell::new(Instant::ZERO),
            turns: Cell::new(0),
        }
    }
}
