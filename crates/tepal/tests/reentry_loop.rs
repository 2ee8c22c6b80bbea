//! Whatever is done in whichever callback of the loop's own (timers, watchers, signals, triggers,
//! datagrams, processes, factories, futures), the loop goes on and leaves nothing.
//!
//! One test and not many: it counts the descriptors of the process.

mod common;
#[path = "common/matrix.rs"]
mod matrix;
#[path = "common/loop_scene.rs"]
mod scene;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, address, open_descriptors};
use matrix::{Ticket, listed};
use scene::{set_up, set_up_real};
use tepal::{
    Address, DatagramTransport, EventLoop, Handle, Interest, Loop, Process, SocketOption, Target,
    Timer, TimerHandle, Transport, Watcher,
};

// Where something is done.
listed! { Call, CALLS {
    Soon,
    Later,
    Timer,
    Watcher,
    Signal,
    Trigger,
    Future,
    Factory,
    DatagramMade,
    DatagramReceived,
    DatagramError,
    DatagramPause,
    DatagramResume,
    DatagramLost,
    ProcessMade,
    ProcessData,
    ProcessPipeLost,
    ProcessExited,
    ProcessLost,
} }

impl Call {
    /// Whether the simulated kernel has what this is about.
    fn is_simulated(self) -> bool {
        use Call::*;
        matches!(
            self,
            Soon | Later
                | Timer
                | Trigger
                | Future
                | Factory
                | DatagramMade
                | DatagramReceived
                | DatagramLost
        )
    }

    fn is_of_a_process(self) -> bool {
        use Call::*;
        matches!(self, ProcessMade | ProcessData | ProcessPipeLost | ProcessExited | ProcessLost)
    }
}

// What is done there.
listed! { Act, ACTS {
    Stop,
    RunAgain,
    CallSoon,
    CallLater,
    CancelSoon,
    CancelLater,
    Spawn,
    StopByRemote,
    CallByRemote,
    StopTimer,
    RearmTimer,
    DropTimer,
    StopWatcher,
    ChangeWatcher,
    DropWatcher,
    RemoveSignal,
    ReplaceSignal,
    DropTrigger,
    FireTrigger,
    Write,
    CloseStream,
    AbortStream,
    SendDatagram,
    PauseDatagram,
    ResumeDatagram,
    SetDatagramOption,
    CloseDatagram,
    AbortDatagram,
    KillProcess,
    CloseProcess,
    Connect,
    Listen,
    PauseAccepting,
    CloseServer,
    CloseConnections,
    AbortConnections,
    Panic,
} }

const SIGNAL: tepal::Signal = libc::SIGUSR2;

/// One case, and what its callbacks can reach.
struct World {
    call: Call,
    act: Act,
    live: Rc<Cell<i32>>,
    fired: Cell<bool>,
    inside: Cell<bool>,
    nested: Cell<bool>,
    run_again: RefCell<Option<Box<dyn Fn() -> io::ErrorKind>>>,
    // What was queued and armed before the run, and may have run.
    soon: RefCell<Option<Handle>>,
    later: RefCell<Option<TimerHandle>>,
    timer: RefCell<Option<Timer>>,
    watcher: RefCell<Option<Watcher>>,
    trigger: RefCell<Option<tepal::Trigger>>,
    stream: RefCell<Option<Transport>>,
    datagram: RefCell<Option<DatagramTransport>>,
    process: RefCell<Option<Process>>,
    server: RefCell<Option<Rc<tepal::Server>>>,
}

impl World {
    /// Called in each callback.
    fn at(self: &Rc<World>, call: Call, lp: &Loop) {
        self.nested.set(self.nested.get() | self.inside.replace(true));
        if call == self.call && !self.fired.replace(true) {
            if self.act == Act::Panic {
                self.inside.set(false);
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            self.act(lp);
        }
        self.inside.set(false);
    }

    fn act(self: &Rc<World>, lp: &Loop) {
        let ticket = Ticket::new(&self.live);
        match self.act {
            Act::Stop => lp.stop(),
            Act::RunAgain => {
                let run_again = self.run_again.borrow();
                let kind = run_again.as_ref().expect("set before the run")();
                assert_eq!(kind, io::ErrorKind::ResourceBusy);
            }
            Act::CallSoon => drop(lp.call_soon(move |_| drop(ticket))),
            Act::CallLater => drop(lp.call_later(Duration::ZERO, move |_| drop(ticket))),
            Act::CancelSoon => drop(self.soon.borrow().as_ref().map(Handle::cancel)),
            Act::CancelLater => drop(self.later.borrow().as_ref().map(TimerHandle::cancel)),
            Act::Spawn => drop(lp.spawn(async move { drop(ticket) })),
            Act::StopByRemote => lp.remote().stop().expect("it is open"),
            Act::CallByRemote => {
                lp.remote().call_soon_threadsafe(|lp| _ = lp.call_soon(|_| ())).expect("open");
            }
            Act::StopTimer => drop(self.timer.borrow().as_ref().map(Timer::stop)),
            Act::RearmTimer => drop(self.timer.borrow().as_ref().map(Timer::again)),
            Act::DropTimer => drop(self.timer.take()),
            Act::StopWatcher => {
                self.watcher.borrow_mut().as_mut().map(Watcher::stop).transpose().expect("open");
            }
            Act::ChangeWatcher => {
                if let Some(watcher) = self.watcher.borrow_mut().as_mut() {
                    watcher.set(Interest::WRITE).and_then(|()| watcher.stop()).expect("open");
                }
            }
            Act::DropWatcher => drop(self.watcher.take()),
            Act::RemoveSignal => drop(lp.remove_signal_handler(SIGNAL).expect("may be gone")),
            Act::ReplaceSignal => {
                lp.add_signal_handler(SIGNAL, move |_, _| _ = &ticket).expect("is ours");
            }
            Act::DropTrigger => drop(self.trigger.take()),
            Act::FireTrigger => self.trigger.borrow().iter().for_each(tepal::Trigger::fire),
            Act::Write => drop(self.stream.borrow().as_ref().map(|stream| stream.write(b"more"))),
            Act::CloseStream => self.stream.borrow().iter().for_each(Transport::close),
            Act::AbortStream => self.stream.borrow().iter().for_each(Transport::abort),
            Act::SendDatagram => {
                if let Some(endpoint) = &*self.datagram.borrow() {
                    // Closed, where its own end is told.
                    let address = endpoint.local_address();
                    drop(address.and_then(|address| endpoint.send_to(b"", Some(&address))));
                }
            }
            Act::PauseDatagram => {
                self.datagram.borrow().iter().for_each(DatagramTransport::pause_reading);
                // Else what comes to it never comes.
                let paused = self.datagram.borrow().clone();
                lp.call_later(Duration::from_micros(100), move |_| {
                    let _held = ticket;
                    paused.iter().for_each(DatagramTransport::resume_reading);
                });
            }
            Act::ResumeDatagram => {
                self.datagram.borrow().iter().for_each(DatagramTransport::resume_reading);
            }
            Act::SetDatagramOption => {
                let option = SocketOption::Broadcast(true);
                // Closed, where its own end is told.
                drop(self.datagram.borrow().as_ref().map(|endpoint| endpoint.set_option(&option)));
            }
            Act::CloseDatagram => self.datagram.borrow().iter().for_each(DatagramTransport::close),
            Act::AbortDatagram => self.datagram.borrow().iter().for_each(DatagramTransport::abort),
            // It may have ended by itself.
            Act::KillProcess => drop(self.process.borrow().as_ref().map(Process::kill)),
            Act::CloseProcess => self.process.borrow().iter().for_each(Process::close),
            Act::Connect => {
                let target = self.server.borrow().as_ref().map(|server| address(server));
                lp.connect(Echo, Target::from(target.expect("listens")));
            }
            Act::Listen => lp.listen(|_: &Address| Echo, "127.0.0.1:0").expect("listens").close(),
            Act::PauseAccepting => self.server.borrow().iter().for_each(|server| {
                server.pause_accepting();
                server.resume_accepting();
            }),
            Act::CloseServer => self.server.borrow().iter().for_each(|server| server.close()),
            Act::CloseConnections => {
                self.server.borrow().iter().for_each(|server| server.close_connections());
            }
            Act::AbortConnections => {
                self.server.borrow().iter().for_each(|server| server.abort_connections());
            }
            Act::Panic => unreachable!("done by the caller"),
        }
    }
}

fn run_case(driver: &str, call: Call, act: Act) {
    let name = format!("{act:?} in {call:?} on {driver}");
    let event_loop = EventLoop::with_driver(match driver {
        "sim" => Box::new(tepal_sim::SimDriver::new(1)),
        name => tepal_driver::open_driver(Some(name)).expect("a driver"),
    });
    let live = Rc::new(Cell::new(0));
    let world = Rc::new(World {
        call,
        act,
        live: Rc::clone(&live),
        fired: Cell::default(),
        inside: Cell::default(),
        nested: Cell::default(),
        run_again: RefCell::default(),
        soon: RefCell::default(),
        later: RefCell::default(),
        timer: RefCell::default(),
        watcher: RefCell::default(),
        trigger: RefCell::default(),
        stream: RefCell::default(),
        datagram: RefCell::default(),
        process: RefCell::default(),
        server: RefCell::default(),
    });
    let event_loop = Rc::new(event_loop);
    let inner = Rc::downgrade(&event_loop);
    *world.run_again.borrow_mut() = Some(Box::new(move || {
        let event_loop = inner.upgrade().expect("it runs");
        event_loop.run_forever().expect_err("it runs already").kind()
    }));
    let made = set_up(&event_loop, &world)
        .and_then(|()| if driver == "sim" { Ok(()) } else { set_up_real(&event_loop, &world) });
    made.unwrap_or_else(|error| panic!("{name}: {error}"));
    // A stop that was asked for in the case may end such a run before its own does.
    let run_a_while = || {
        let end = event_loop.call_later(Duration::from_millis(1), |lp| lp.stop());
        event_loop.run_forever().unwrap_or_else(|error| panic!("{name}: {error}"));
        end.cancel();
    };
    // Until the callback has come and what it did has had its turns.
    for _ in 0..2000 {
        run_a_while();
        if world.fired.get() {
            break;
        }
    }
    run_a_while();
    assert!(world.fired.get(), "{name}: the callback never came");
    assert!(!world.nested.get(), "{name}: one callback ran inside another");
    let process = world.process.take();
    if let Some(process) = process {
        // Killed, closed or ended by itself; reaped in any case.
        let _ = process.kill();
        event_loop.run_until_complete(process.wait()).expect("ends");
    }
    assert_eq!(event_loop.run_until_complete(async { 42 }).expect("runs on"), 42, "{name}");
    world.run_again.take();
    drop((world.soon.take(), world.later.take()));
    drop((world.timer.take(), world.watcher.take(), world.trigger.take()));
    drop((world.stream.take(), world.datagram.take(), world.server.take()));
    let event_loop = Rc::into_inner(event_loop).expect("nobody else holds it");
    drop(event_loop);
    assert_eq!(Rc::strong_count(&world), 1, "{name}: something still holds the world");
    assert_eq!(live.get(), 0, "{name}: values that were not dropped");
}

#[test]
fn every_act_in_every_callback_of_the_loop_leaves_it_whole() {
    // The first uses open what stays open for the process.
    run_case("poll", Call::Soon, Act::Stop);
    let before = open_descriptors();
    for driver in tepal_driver::driver_names().iter().copied().chain(["sim"]) {
        for call in CALLS.into_iter().filter(|call| driver != "sim" || call.is_simulated()) {
            for act in ACTS {
                run_case(driver, call, act);
                assert_eq!(open_descriptors(), before, "{act:?} in {call:?} on {driver}");
            }
        }
    }
}
