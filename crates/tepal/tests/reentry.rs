//! Whatever a protocol does in whichever callback, its connection ends once and leaves nothing.
//!
//! One test and not many: it counts the descriptors of the process.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{address, on_every_driver, open_descriptors, with_faults};
use tepal::{Closed, EventLoop, Protocol, Server, Transport};

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

listed! { Call, CALLS {
    Made,
    Established,
    Data,
    Eof,
    Pause,
    Resume,
    Out,
    Lost,
} }

listed! { Act, ACTS {
    Write,
    WriteBig,
    WriteSegment,
    WriteThenClose,
    WriteThenAbort,
    WriteEof,
    Close,
    Abort,
    CloseThenAbort,
    PauseForAWhile,
    PauseThenResume,
    Resume,
    SetProtocol,
    SetProtocolTwice,
    SetProtocolThenClose,
    SetProtocolThenPanic,
    SetLimits,
    SetReadLow,
    Stop,
    RunAgain,
    CallSoon,
    Connect,
    Listen,
    CloseServer,
    AbortServer,
    CloseThenPanic,
    Panic,
} }

/// What one case does and what came of it.
struct Case {
    call: Call,
    act: Act,
    // Protocols and callbacks that exist.
    live: Rc<Cell<i32>>,
    sink: SocketAddr,
    server: RefCell<Option<Rc<Server>>>,
    fired: Cell<bool>,
    inside: Cell<bool>,
    made: Cell<u32>,
    established: Cell<u32>,
    lost: Cell<u32>,
    paused: Cell<bool>,
    problems: RefCell<Vec<String>>,
}

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

impl Case {
    fn is_over(&self) -> bool {
        self.lost.get() > 0 && self.live.get() == 0
    }

    fn problem(&self, text: String) {
        self.problems.borrow_mut().push(text);
    }

    fn protocol(self: &Rc<Self>) -> Actor {
        Actor { case: Rc::clone(self), _ticket: Ticket::new(&self.live) }
    }
}

struct Actor {
    case: Rc<Case>,
    _ticket: Ticket,
}

impl Actor {
    fn on(&self, call: Call, transport: &Transport) {
        struct Inside<'a>(&'a Cell<bool>);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let case = &self.case;
        if case.inside.replace(true) {
            case.problem(format!("{call:?} inside another callback"));
        }
        let _inside = Inside(&case.inside);
        if case.lost.get() > 0 {
            case.problem(format!("{call:?} after the end"));
        }
        if (call == Call::Made) != (case.made.get() == 0) {
            case.problem(format!("{call:?} after {} of made", case.made.get()));
        }
        let count = |counter: &Cell<u32>| {
            counter.set(counter.get() + 1);
            if counter.get() > 1 {
                case.problem(format!("{call:?} for the {}th time", counter.get()));
            }
        };
        match call {
            Call::Made => {
                count(&case.made);
                transport.set_write_buffer_limits(0, 10).expect("in order");
            }
            Call::Established => {
                count(&case.established);
                // Above the mark, so that pause, resume and io_out follow.
                transport.write(&[1; 100]);
            }
            Call::Lost => count(&case.lost),
            Call::Data | Call::Eof => {
                if case.paused.get() {
                    case.problem(format!("{call:?} while paused"));
                }
            }
            Call::Pause | Call::Resume | Call::Out => {}
        }
        if call == case.call && !case.fired.replace(true) {
            self.act(transport);
        }
    }

    fn act(&self, transport: &Transport) {
        let case = &self.case;
        let lp = transport.event_loop();
        match case.act {
            Act::Write => drop(transport.write(b"some bytes")),
            Act::WriteBig => drop(transport.write(&vec![2; 1 << 20])),
            Act::WriteSegment => drop(transport.write_segment(vec![3; 100_000])),
            Act::WriteThenClose => {
                transport.write(&vec![2; 200_000]);
                transport.close();
                transport.write(b"dropped");
            }
            Act::WriteThenAbort => {
                transport.write(b"never sent");
                transport.abort();
            }
            Act::WriteEof => {
                // NotConnected at the end.
                let _ = transport.write_eof();
                let _ = transport.write_eof();
                transport.write(b"dropped");
            }
            Act::Close => transport.close(),
            Act::Abort => transport.abort(),
            Act::CloseThenAbort => {
                transport.close();
                transport.abort();
                transport.close();
            }
            Act::PauseForAWhile => {
                transport.pause_reading();
                case.paused.set(true);
                let (case, transport) = (Rc::clone(case), transport.clone());
                lp.call_later(Duration::from_micros(300), move |_| {
                    case.paused.set(false);
                    transport.resume_reading();
                });
            }
            Act::PauseThenResume => {
                transport.pause_reading();
                transport.resume_reading();
            }
            Act::Resume => transport.resume_reading(),
            Act::SetProtocol => transport.set_protocol(case.protocol()),
            Act::SetProtocolTwice => {
                transport.set_protocol(case.protocol());
                transport.set_protocol(case.protocol());
            }
            Act::SetProtocolThenClose => {
                transport.set_protocol(case.protocol());
                transport.close();
            }
            Act::SetProtocolThenPanic => {
                transport.set_protocol(case.protocol());
                panic();
            }
            Act::SetLimits => {
                transport.set_write_buffer_limits(0, 0).expect("in order");
                transport.set_write_buffer_limits(5, 1000).expect("in order");
                assert!(transport.set_write_buffer_limits(2, 1).is_err());
            }
            Act::SetReadLow => drop(transport.set_read_low(1000)),
            Act::Stop => lp.stop(),
            Act::RunAgain => {
                // Running inside a run is impossible from here; a nested loop is not.
                let inner = EventLoop::new().expect("a loop");
                inner.call_soon(|inner| inner.stop());
                inner.run_forever().expect("another loop runs inside");
            }
            Act::CallSoon => {
                let ticket = Ticket::new(&case.live);
                lp.call_soon(move |_| drop(ticket));
            }
            Act::Connect => {
                // The sink's side, which ends with its own ticket.
                case.live.set(case.live.get() + 1);
                lp.connect(Bystander(Ticket::new(&case.live)), case.sink);
            }
            Act::Listen => {
                let server = lp.listen(|_| common::Echo, "127.0.0.1:0").expect("listens");
                let ticket = Ticket::new(&case.live);
                lp.call_soon(move |_| {
                    server.close();
                    drop(ticket);
                });
            }
            Act::CloseServer | Act::AbortServer => {
                let server = case.server.borrow().clone();
                if let Some(server) = server {
                    server.close();
                    match case.act {
                        Act::AbortServer => server.abort_connections(),
                        _ => server.close_connections(),
                    }
                }
            }
            Act::CloseThenPanic => {
                transport.close();
                panic();
            }
            Act::Panic => panic(),
        }
    }
}

/// Panics without a message on standard error.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

impl Protocol for Actor {
    fn connection_made(&mut self, transport: &Transport) {
        self.on(Call::Made, transport);
    }
    fn connection_established(&mut self, transport: &Transport) {
        self.on(Call::Established, transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.on(Call::Data, transport);
        data.len()
    }
    fn eof_received(&mut self, transport: &Transport) -> bool {
        self.on(Call::Eof, transport);
        false
    }
    fn pause_writing(&mut self, transport: &Transport) {
        self.on(Call::Pause, transport);
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.on(Call::Resume, transport);
    }
    fn io_out(&mut self, transport: &Transport) {
        self.on(Call::Out, transport);
    }
    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        self.on(Call::Lost, transport);
    }
}

/// A connection made meanwhile.
struct Bystander(#[allow(dead_code, reason = "counted when it is dropped")] Ticket);

impl Protocol for Bystander {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(b"passing by");
        transport.close();
    }
}

/// The peer: a message, the end of its direction, and all that comes.
fn peer(stream: io::Result<TcpStream>) {
    // Each of these fails if the case has ended the connection by then.
    let Ok(mut stream) = stream else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.write_all(b"hello");
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Starts a connection in one of two directions; the peer's thread, and what releases it.
fn start(event_loop: &EventLoop, case: &Rc<Case>, inbound: bool) -> (JoinHandle<()>, SocketAddr) {
    if inbound {
        let own = Rc::downgrade(case);
        let factory = move |_: &_| own.upgrade().expect("the case goes on").protocol();
        let server = event_loop.listen(factory, "127.0.0.1:0").expect("listens");
        let at = address(&server);
        *case.server.borrow_mut() = Some(Rc::new(server));
        return (std::thread::spawn(move || peer(TcpStream::connect(at))), at);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || peer(listener.accept().map(|(stream, _)| stream)));
    event_loop.connect(case.protocol(), at);
    (thread, at)
}

fn run_case(event_loop: &EventLoop, case: &Rc<Case>, inbound: bool) {
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    let limit = event_loop.call_later(Duration::from_secs(5), move |lp| {
        flag.set(true);
        lp.stop();
    });
    let watched = Rc::clone(case);
    let watch =
        event_loop.timer(Duration::from_micros(50), move |lp, timer| match watched.is_over() {
            true => lp.stop(),
            false => timer.again(),
        });
    watch.start();
    let (thread, at) = start(event_loop, case, inbound);
    while !case.is_over() && !late.get() {
        event_loop.run_forever().expect("runs");
    }
    limit.cancel();
    drop(watch);
    // What may still be queued, so that a callback after the end is seen.
    for _ in 0..2 {
        event_loop.call_soon(|lp| lp.stop());
        event_loop.run_forever().expect("runs");
    }
    let server = case.server.take();
    if let Some(server) = &server {
        server.close();
    } else {
        // The connect may never have been tried: the peer waits for one.
        let _ = TcpStream::connect(at);
    }
    thread.join().expect("the peer ends");
    if late.get() {
        let (lost, live) = (case.lost.get(), case.live.get());
        case.problem(format!("it did not end: lost {lost}, live {live}"));
        case.live.set(0);
    }
    if !case.fired.get() {
        case.problem("the callback never came".to_owned());
    }
}

fn every_case(event_loop: &EventLoop) {
    let live = Rc::new(Cell::new(0));
    let of_sink = Rc::clone(&live);
    // Does not count itself when it is made; see `Act::Connect`.
    let sink = event_loop
        .listen(move |_| Bystander(Ticket(Rc::clone(&of_sink))), "127.0.0.1:0")
        .expect("listens");
    let mut problems = Vec::new();
    let mut before = None;
    for (inbound, call) in [true, false].into_iter().flat_map(|i| CALLS.map(|call| (i, call))) {
        for act in ACTS {
            let case = Rc::new(Case {
                call,
                act,
                live: Rc::clone(&live),
                sink: address(&sink),
                server: RefCell::new(None),
                fired: Cell::new(false),
                inside: Cell::new(false),
                made: Cell::new(0),
                established: Cell::new(0),
                lost: Cell::new(0),
                paused: Cell::new(false),
                problems: RefCell::new(Vec::new()),
            });
            run_case(event_loop, &case, inbound);
            let mut open = open_descriptors();
            // A close with unread input drains it for a moment; the peer has ended by now.
            for _ in 0..300 {
                if before.is_none_or(|before| open == before) {
                    break;
                }
                event_loop.call_later(Duration::from_millis(10), |lp| lp.stop());
                event_loop.run_forever().expect("runs");
                open = open_descriptors();
            }
            // The first case has opened what the loop keeps.
            if open != *before.get_or_insert(open) {
                case.problem(format!("{open} descriptors, and {before:?} before"));
                before = Some(open);
            }
            let way = if inbound { "inbound" } else { "outbound" };
            let texts = case.problems.take();
            problems.extend(texts.iter().map(|text| format!("{way} {call:?} {act:?}: {text}")));
        }
    }
    let driver = event_loop.driver_name();
    assert!(problems.is_empty(), "on {driver}:\n{}", problems.join("\n"));
}

#[test]
fn every_act_in_every_callback_leaves_one_end_and_no_descriptor() {
    on_every_driver(every_case);
    // Again with a kernel that takes and gives little, and wakes for nothing.
    with_faults(|event_loop, faults| {
        faults.short(Some(4096));
        faults.spurious(5);
        faults.interrupt(5);
        every_case(event_loop);
    });
}
