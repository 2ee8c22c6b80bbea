//! The loop above a kernel that fails: whichever call it is, everything still ends once.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{address, client, open_descriptors, run_with};
use tepal::{
    Address, Closed, DatagramProtocol, DatagramTransport, EventLoop, Loop, Protocol, Transport,
};
use tepal_driver::Driver;
use tepal_driver::faults::{FaultDriver, Faults};
use tepal_sim::SimDriver;

/// One test at a time: the descriptors of the process are counted.
static ALONE: Mutex<()> = Mutex::new(());

fn faulty_loop(driver: &str, seed: u64) -> (EventLoop, Faults) {
    let driver = tepal_driver::open_driver(Some(driver)).expect("a driver of this platform");
    faulty_loop_over(driver, seed)
}

fn faulty_loop_over(driver: Box<dyn Driver>, seed: u64) -> (EventLoop, Faults) {
    let faults = Faults::new(seed);
    let event_loop = EventLoop::with_driver(Box::new(FaultDriver::new(driver, &faults)));
    event_loop.set_trouble_hook(|_, _| ());
    (event_loop, faults)
}

/// What all protocols of a case share.
#[derive(Default)]
struct Shared {
    live: Cell<usize>,
    problems: RefCell<Vec<String>>,
}

/// One protocol's life. The loop stops when the last of them is dropped.
struct Life {
    lp: Loop,
    shared: Rc<Shared>,
    name: &'static str,
    made: bool,
    lost: bool,
}

impl Life {
    fn new(lp: &Loop, shared: &Rc<Shared>, name: &'static str) -> Life {
        shared.live.set(shared.live.get() + 1);
        Life { lp: lp.clone(), shared: Rc::clone(shared), name, made: false, lost: false }
    }

    fn problem(&self, what: &str) {
        self.shared.problems.borrow_mut().push(format!("{}: {what}", self.name));
    }

    fn made(&mut self) {
        if std::mem::replace(&mut self.made, true) {
            self.problem("made twice");
        }
    }

    fn called(&self) {
        if !self.made || self.lost {
            self.problem("called outside its life");
        }
    }

    fn lost(&mut self) {
        self.called();
        self.lost = true;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.made && !self.lost {
            self.problem("dropped without its end");
        }
        self.shared.live.set(self.shared.live.get() - 1);
        if self.shared.live.get() == 0 {
            self.lp.stop();
        }
    }
}

struct Server(Life);

impl Protocol for Server {
    fn connection_made(&mut self, _: &Transport) {
        self.0.made();
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.0.called();
        transport.write(data);
        data.len()
    }
    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        self.0.lost();
    }
}

struct Client {
    life: Life,
    rounds: u32,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) {
        self.life.made();
        transport.write(b"ping");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.life.called();
        if data.len() < 4 {
            return 0;
        }
        self.rounds += 1;
        match self.rounds {
            3 => transport.close(),
            _ => drop(transport.write(&data[..4])),
        }
        4
    }
    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        self.life.lost();
    }
}

/// Sends itself a datagram, and closes when it comes.
struct Endpoint(Life);

impl DatagramProtocol for Endpoint {
    fn connection_made(&mut self, transport: &DatagramTransport) {
        self.0.made();
        let own = transport.local_address().ok();
        if transport.send_to(b"to myself", own.as_ref()).is_err() {
            transport.close();
        }
    }
    fn datagram_received(&mut self, transport: &DatagramTransport, _: &[u8], _: Option<&Address>) {
        self.0.called();
        transport.close();
    }
    fn error_received(&mut self, transport: &DatagramTransport, _: &io::Error) {
        self.0.called();
        transport.close();
    }
    fn connection_lost(&mut self, _: &DatagramTransport, _: &Closed) {
        self.0.lost();
    }
}

/// Serves, connects, talks, sends datagrams, until all is over; what was wrong.
fn everything(event_loop: &EventLoop) -> Vec<String> {
    let shared = Rc::new(Shared::default());
    let (lp, of_server) = ((**event_loop).clone(), Rc::clone(&shared));
    let factory = move |_: &_| Server(Life::new(&lp, &of_server, "server"));
    // Each of these may be what fails.
    let Ok(server) = event_loop.listen(factory, "127.0.0.1:0") else { return Vec::new() };
    let server = Rc::new(server);
    let own = Some(Address::Ip((Ipv4Addr::LOCALHOST, 0).into()));
    let life = Life::new(event_loop, &shared, "endpoint");
    let endpoint = event_loop.datagram(Endpoint(life), own, None).ok();
    let life = Life::new(event_loop, &shared, "client");
    let transport = event_loop.connect(Client { life, rounds: 0 }, address(&server));
    // A fault may cost a message, and then somebody waits for it.
    let (given_up, listening) = (transport.clone(), Rc::clone(&server));
    let patience = event_loop.call_later(Duration::from_millis(25), move |_| {
        given_up.abort();
        listening.abort_connections();
        endpoint.iter().for_each(DatagramTransport::abort);
    });
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    let limit = event_loop.call_later(Duration::from_secs(5), move |lp| {
        flag.set(true);
        lp.stop();
    });
    while shared.live.get() > 0 && !late.get() {
        // A wait that fails ends the run, and the loop can run again.
        let _ = event_loop.run_forever();
    }
    patience.cancel();
    limit.cancel();
    server.close();
    if late.get() {
        shared.problems.borrow_mut().push(format!("{} are left", shared.live.get()));
    }
    if transport.closed().is_none() {
        shared.problems.borrow_mut().push("the client has no record of its end".to_owned());
    }
    shared.problems.take()
}

/// Makes each call fail in turn with each error. `open` gives a loop, and what counts the
/// descriptors that its kernel has open.
fn sweep(name: &str, open: &dyn Fn() -> (EventLoop, Faults, Box<dyn Fn() -> usize>)) {
    let errors = [
        libc::EMFILE,
        libc::ENOMEM,
        libc::ECONNRESET,
        libc::EPIPE,
        libc::EINVAL,
        libc::EAGAIN,
        libc::EIO,
    ];
    let (event_loop, faults, _) = open();
    assert!(everything(&event_loop).is_empty());
    let calls = faults.calls();
    assert!(calls > 20, "{calls} calls");
    drop(event_loop);
    let mut problems = Vec::new();
    for errno in errors {
        for nth in 1..=calls {
            let before = open_descriptors();
            let (event_loop, faults, count_open) = open();
            faults.fail_any(nth, errno);
            let found = everything(&event_loop);
            faults.clear();
            let left = event_loop.close().expect("it does not run");
            let after = (open_descriptors(), count_open());
            let mut problem = |text: String| {
                problems.push(format!("{name}, call {nth}, error {errno}: {text}"));
            };
            found.into_iter().for_each(&mut problem);
            if left > 0 {
                problem(format!("{left} transports stayed"));
            }
            if after != (before, 0) {
                problem(format!("{after:?} descriptors, {before} before"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn whichever_call_fails_everything_ends_once_and_nothing_stays_open() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for driver in tepal_driver::driver_names() {
        sweep(driver, &|| {
            let (event_loop, faults) = faulty_loop(driver, 1);
            (event_loop, faults, Box::new(|| 0))
        });
    }
    sweep("sim", &|| {
        let driver = SimDriver::new(1);
        let kernel = driver.kernel().clone();
        let (event_loop, faults) = faulty_loop_over(Box::new(driver), 1);
        (event_loop, faults, Box::new(move || kernel.ledger().open_descriptors))
    });
}

#[test]
fn no_byte_is_lost_by_short_calls_and_wakes_for_nothing() {
    const LEN: usize = 200_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for driver in tepal_driver::driver_names() {
        for seed in 1..=10 {
            let (event_loop, faults) = faulty_loop(driver, seed);
            let server = event_loop.listen(|_| common::Echo, "127.0.0.1:0").expect("listens");
            let at = address(&server);
            faults.short(Some(1 << (seed + 2)));
            faults.spurious(3);
            faults.interrupt(3);
            run_with(&event_loop, move || {
                use std::io::{Read, Write};
                let mut stream = client(at);
                let mut writer = stream.try_clone().expect("a second handle");
                let sent: Vec<u8> = (0..LEN).map(|n| (n / 251 + n) as u8).collect();
                let expected = sent.clone();
                let thread = std::thread::spawn(move || {
                    writer.write_all(&sent).expect("writes");
                    writer.shutdown(std::net::Shutdown::Write).expect("ends");
                });
                let mut back = Vec::new();
                stream.read_to_end(&mut back).expect("reads");
                thread.join().expect("wrote all");
                assert!(back == expected, "{} bytes came back, of {LEN}", back.len());
            });
        }
    }
}
