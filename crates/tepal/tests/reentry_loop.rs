//! Whatever is done in whichever callback of the loop's own (timers, watchers, signals, triggers,
//! datagrams, processes, factories, futures), the loop goes on and leaves nothing.
//!
//! One test and not many: it counts the descriptors of the process.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, address, open_descriptors};
use tepal::{
    Address, Command, DatagramProtocol, DatagramTransport, EventLoop, ExitStatus, Interest, Listen,
    Loop, Process, ProcessProtocol, Protocol, Stdio, Target, Timer, Transport, Watcher,
};

/// An enum, and a list of all that is in it.
macro_rules! listed {
    ($name:ident, $all:ident { $($variant:ident,)* }) => {
        #[derive(Clone, Copy, PartialEq, Debug)]
        enum $name {
            $($variant,)*
        }
        const $all: [$name; [$($name::$variant),*].len()] = [$($name::$variant),*];
    };
}

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
    DatagramLost,
    ProcessMade,
    ProcessData,
    ProcessExited,
    ProcessLost,
} }

// What is done there.
listed! { Act, ACTS {
    Stop,
    RunAgain,
    CallSoon,
    CallLater,
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
    CloseDatagram,
    AbortDatagram,
    KillProcess,
    CloseProcess,
    Connect,
    Listen,
    CloseServer,
    Panic,
} }

const SIGNAL: tepal::Signal = libc::SIGUSR2;

/// Counts what holds it, from its making to its dropping.
struct Ticket(Rc<Cell<i32>>);

impl Ticket {
    fn new(live: &Rc<Cell<i32>>) -> Ticket {
        live.set(live.get() + 1);
        Ticket(Rc::clone(live))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One case, and what its callbacks can reach.
struct World {
    call: Call,
    act: Act,
    live: Rc<Cell<i32>>,
    fired: Cell<bool>,
    inside: Cell<bool>,
    nested: Cell<bool>,
    run_again: RefCell<Option<Box<dyn Fn() -> io::ErrorKind>>>,
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
            Act::CloseServer => self.server.borrow().iter().for_each(|server| server.close()),
            Act::Panic => unreachable!("done by the caller"),
        }
    }
}

/// The world as a protocol of each kind.
struct Here(Rc<World>, #[allow(dead_code, reason = "counts")] Ticket);

impl Here {
    fn new(world: &Rc<World>) -> Here {
        Here(Rc::clone(world), Ticket::new(&world.live))
    }
}

impl Protocol for Here {}

impl DatagramProtocol for Here {
    fn connection_made(&mut self, endpoint: &DatagramTransport) {
        self.0.at(Call::DatagramMade, endpoint.event_loop());
    }
    fn datagram_received(&mut self, endpoint: &DatagramTransport, _: &[u8], _: Option<&Address>) {
        self.0.at(Call::DatagramReceived, endpoint.event_loop());
        endpoint.close();
    }
    fn connection_lost(&mut self, endpoint: &DatagramTransport, _: &tepal::Closed) {
        self.0.at(Call::DatagramLost, endpoint.event_loop());
    }
}

impl ProcessProtocol for Here {
    fn connection_made(&mut self, process: &Process) {
        self.0.at(Call::ProcessMade, process.event_loop());
    }
    fn pipe_data_received(&mut self, process: &Process, _: i32, data: &[u8]) -> usize {
        self.0.at(Call::ProcessData, process.event_loop());
        data.len()
    }
    fn process_exited(&mut self, process: &Process, _: ExitStatus) {
        self.0.at(Call::ProcessExited, process.event_loop());
    }
    fn connection_lost(&mut self, process: &Process) {
        self.0.at(Call::ProcessLost, process.event_loop());
    }
}

/// Makes everything that can call back, or that can be acted upon.
fn set_up(event_loop: &EventLoop, world: &Rc<World>) -> io::Result<()> {
    let any = || Some(Address::Ip("127.0.0.1:0".parse().expect("an address")));
    let here = || (Rc::clone(world), Ticket::new(&world.live));

    let (w, ticket) = here();
    let factory = move |_: &Address| {
        let _held = &ticket;
        w.at(Call::Factory, w.stream.borrow().as_ref().expect("connected").event_loop());
        Here::new(&w)
    };
    let server = event_loop.listen(factory, Listen::on("127.0.0.1:0"))?;
    *world.stream.borrow_mut() = Some(event_loop.connect(Echo, address(&server)));
    *world.server.borrow_mut() = Some(Rc::new(server));

    let (w, ticket) = here();
    event_loop.call_soon(move |lp| {
        let _held = ticket;
        w.at(Call::Soon, lp);
    });
    let (w, ticket) = here();
    event_loop.call_later(Duration::from_micros(300), move |lp| {
        let _held = ticket;
        w.at(Call::Later, lp);
    });
    let (w, ticket) = here();
    let timer = event_loop.timer(Duration::from_micros(300), move |lp, _| {
        let _held = &ticket;
        w.at(Call::Timer, lp);
    });
    timer.start();
    *world.timer.borrow_mut() = Some(timer);

    let (w, ticket) = here();
    let (ours, theirs) = UnixStream::pair()?;
    let fd = ours.as_raw_fd();
    let mut watcher = event_loop.watch(fd, Interest::READ, move |lp, _| {
        let _held = (&ticket, &ours);
        w.at(Call::Watcher, lp);
        // Else it reports the level for ever; taken out, since it may be gone or changed.
        let watcher = w.watcher.take();
        if let Some(mut watcher) = watcher {
            watcher.stop().expect("open");
            *w.watcher.borrow_mut() = Some(watcher);
        }
    })?;
    watcher.start()?;
    io::Write::write_all(&mut &theirs, b"x")?;
    *world.watcher.borrow_mut() = Some(watcher);

    let (w, ticket) = here();
    event_loop.add_signal_handler(SIGNAL, move |lp, _| {
        let _held = &ticket;
        w.at(Call::Signal, lp);
    })?;
    if world.call == Call::Signal {
        // SAFETY: sends this process a signal that was just given a handler.
        assert_eq!(unsafe { libc::kill(libc::getpid(), SIGNAL) }, 0);
    }
    let (w, ticket) = here();
    let trigger = event_loop.trigger(move |lp| {
        let _held = &ticket;
        w.at(Call::Trigger, lp);
    });
    trigger.fire();
    *world.trigger.borrow_mut() = Some(trigger);

    let (w, ticket) = here();
    let lp: Loop = (**event_loop).clone();
    event_loop.spawn(async move {
        let _held = ticket;
        lp.sleep(Duration::from_micros(200)).await;
        w.at(Call::Future, &lp);
    });

    let endpoint = event_loop.datagram(Here::new(world), any(), None)?;
    endpoint.send_to(b"to itself", Some(&endpoint.local_address()?))?;
    *world.datagram.borrow_mut() = Some(endpoint);

    // Starting one takes longer than all the rest, so only where it matters.
    let of_process = matches!(world.act, Act::KillProcess | Act::CloseProcess)
        || [Call::ProcessMade, Call::ProcessData, Call::ProcessExited, Call::ProcessLost]
            .contains(&world.call);
    if of_process {
        let command =
            Command { program: "echo".into(), stdout: Stdio::Piped, ..Command::default() };
        *world.process.borrow_mut() = Some(event_loop.subprocess(Here::new(world), command)?);
    }
    Ok(())
}

fn run_case(driver: &str, call: Call, act: Act) {
    let name = format!("{act:?} in {call:?} on {driver}");
    let event_loop =
        EventLoop::with_driver(tepal_driver::open_driver(Some(driver)).expect("a driver"));
    let live = Rc::new(Cell::new(0));
    let world = Rc::new(World {
        call,
        act,
        live: Rc::clone(&live),
        fired: Cell::default(),
        inside: Cell::default(),
        nested: Cell::default(),
        run_again: RefCell::default(),
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
    set_up(&event_loop, &world).unwrap_or_else(|error| panic!("{name}: {error}"));
    // Until the callback has come and what it did has had its turns.
    for _ in 0..2000 {
        event_loop.call_later(Duration::from_millis(1), |lp| lp.stop());
        event_loop.run_forever().unwrap_or_else(|error| panic!("{name}: {error}"));
        if world.fired.get() {
            break;
        }
    }
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
    for driver in tepal_driver::driver_names() {
        for call in CALLS {
            for act in ACTS {
                run_case(driver, call, act);
                assert_eq!(open_descriptors(), before, "{act:?} in {call:?} on {driver}");
            }
        }
    }
}
