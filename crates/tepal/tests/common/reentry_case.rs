//! One case: a protocol that does one thing in one of its callbacks, and notes what is out of order.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Buffer, Closed, EventLoop, Loop, Pending, Protocol, Server, SocketOption, Transport};

use super::common;
use super::matrix::{Ticket, listed};

listed! { Call, CALLS {
    Made,
    Established,
    Data,
    // Of a protocol that lends the memory to read into.
    Lend,
    Filled,
    Eof,
    Pause,
    Resume,
    Out,
    Lost,
} }

impl Call {
    /// Whether it comes to protocols that lend memory only, or to others only.
    pub(crate) fn lends(self) -> Option<bool> {
        match self {
            Call::Lend | Call::Filled => Some(true),
            Call::Data => Some(false),
            _ => None,
        }
    }
}

listed! { Act, ACTS {
    Write,
    WriteBig,
    WriteSegment,
    WriteLines,
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
    SetReadLimit,
    SetClosingTimeout,
    SetOption,
    Ask,
    SendFile,
    SendFileThenClose,
    Join,
    JoinThenAbort,
    PushThenPop,
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
pub(crate) struct Case {
    pub(crate) call: Call,
    pub(crate) act: Act,
    // Protocols and callbacks that exist.
    pub(crate) live: Rc<Cell<i32>>,
    pub(crate) sink: SocketAddr,
    pub(crate) lends: bool,
    // A connection to join with, where the act is that.
    pub(crate) spare: RefCell<Option<Transport>>,
    pub(crate) server: RefCell<Option<Rc<Server>>>,
    pub(crate) fired: Cell<bool>,
    pub(crate) inside: Cell<bool>,
    pub(crate) made: Cell<u32>,
    pub(crate) established: Cell<u32>,
    pub(crate) lost: Cell<u32>,
    pub(crate) paused: Cell<bool>,
    pub(crate) problems: RefCell<Vec<String>>,
}

impl Case {
    pub(crate) fn is_over(&self) -> bool {
        self.lost.get() > 0 && self.live.get() == 0
    }

    pub(crate) fn problem(&self, text: String) {
        self.problems.borrow_mut().push(text);
    }

    pub(crate) fn protocol(self: &Rc<Self>) -> Actor {
        Actor { case: Rc::clone(self), _ticket: Ticket::new(&self.live) }
    }

    /// An operation that was begun has to end, whichever way; the case is not over before.
    fn await_end<T: 'static, E: 'static>(&self, lp: &Loop, begun: Result<Pending<T>, E>) {
        let ticket = Ticket::new(&self.live);
        if let Ok(operation) = begun {
            lp.spawn(async move {
                operation.await;
                drop(ticket);
            });
        }
    }
}

pub(crate) struct Actor {
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
            Call::Data | Call::Filled | Call::Eof => {
                if case.paused.get() {
                    case.problem(format!("{call:?} while paused"));
                }
            }
            Call::Lend | Call::Pause | Call::Resume | Call::Out => {}
        }
        if call == case.call && !case.fired.replace(true) {
            self.act(transport);
        }
        if call == Call::Lost {
            case.spare.take().iter().for_each(Transport::abort);
        }
    }

    fn act(&self, transport: &Transport) {
        let case = &self.case;
        let lp = transport.event_loop();
        match case.act {
            Act::Write => drop(transport.write(b"some bytes")),
            Act::WriteBig => drop(transport.write(&vec![2; 1 << 20])),
            Act::WriteSegment => drop(transport.write_segment(vec![3; 100_000])),
            Act::WriteLines => drop(transport.writelines([&b"one"[..], b"", b"two"])),
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
            Act::SetReadLimit => transport.set_read_limit(6),
            Act::SetClosingTimeout => {
                transport.set_closing_timeout(None);
                transport.set_closing_timeout(Some(Duration::from_secs(1)));
            }
            // Without a socket, before and after its time, an error.
            Act::SetOption => drop(transport.set_option(&SocketOption::NoDelay(true))),
            Act::Ask => ask_everything(transport),
            Act::SendFile | Act::SendFileThenClose => {
                let file = std::fs::File::open("/proc/self/exe").expect("this program");
                case.await_end(lp, transport.send_file(file, 100, 100_000));
                if case.act == Act::SendFileThenClose {
                    transport.close();
                }
            }
            Act::Join | Act::JoinThenAbort => {
                let spare = case.spare.borrow().clone().expect("made before");
                case.await_end(lp, transport.join(&spare));
                assert!(spare.join(&spare).is_err());
                if case.act == Act::JoinThenAbort {
                    spare.abort();
                }
            }
            Act::PushThenPop => {
                drop(transport.push_layer(tepal::RateLimit::new()));
                let second = Duration::from_secs(1);
                case.await_end(lp, transport.pop_layer(None, second, tepal::Late::Close));
            }
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

/// What is asked has no effect and never fails otherwise than by its error.
fn ask_everything(transport: &Transport) {
    let _ = (transport.is_closing(), transport.is_established(), transport.is_reading());
    let _ = (transport.closed(), transport.write_buffer_limits(), transport.write_buffer_size());
    drop((transport.layers(), transport.layer_ids(), transport.layer_info("tls")));
    drop((transport.phase(), transport.problem(), transport.raw_fd()));
    drop((transport.local_address(), transport.peer_address()));
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
    fn get_buffer(&mut self, transport: &Transport, _: usize) -> Option<Buffer> {
        // Asked again after each change of the protocol.
        self.case.lends.then(|| {
            self.on(Call::Lend, transport);
            Buffer::zeroed(100)
        })
    }
    fn buffer_updated(&mut self, transport: &Transport, _: Buffer, count: usize) {
        if count > 0 {
            self.on(Call::Filled, transport);
        }
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
pub(crate) struct Bystander(
    #[allow(dead_code, reason = "counted when it is dropped")] pub(crate) Ticket,
);

impl Protocol for Bystander {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(b"passing by");
        transport.close();
    }
}
