//! Shows the loop at work on real connections of this machine, and checks what it shows.

mod common;
#[path = "proxy/front.rs"]
mod front;
#[path = "demo/moving.rs"]
mod moving;
#[path = "demo/stacked.rs"]
mod stacked;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::Done;
use tepal::{
    Address, CloseKind, Closed, Crossing, DatagramProtocol, DatagramTransport, EventLoop, Instant,
    Loop, Protocol, Server, Transport,
};

const USAGE: &str = "demo

Runs servers and their clients in one process and one thread, over loopback, and prints what
they did and what was measured. The exit code is 0 only if all of it was right.";

/// No part takes a tenth of this on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);

/// What a part of the demo measured, or what was wrong.
type Outcome = Result<String, String>;

/// Counts what is still to happen; a future waits for zero.
#[derive(Default)]
struct Latch {
    left: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl Latch {
    fn new(left: usize) -> Rc<Latch> {
        Rc::new(Latch { left: Cell::new(left), waker: Cell::default() })
    }

    fn count_down(&self) {
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            self.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if self.left.get() == 0 {
                return Poll::Ready(());
            }
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

/// Bytes that show a loss, a repetition and a change of order; `at` is the place in the stream.
fn pattern(at: usize) -> u8 {
    (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

fn target(server: &Server) -> Result<Address, String> {
    server.local_addresses().first().cloned().ok_or_else(|| "the server has no address".to_owned())
}

fn wrong(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check(right: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(problem()) }
}

// ---- echo

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if transport.write(data) == Crossing::High {
            transport.pause_reading();
        }
        data.len()
    }
    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}

#[derive(Default)]
struct Tally {
    right: Cell<usize>,
    wrong: Cell<usize>,
    unclean: Cell<usize>,
    slowest: Cell<Duration>,
}

/// Sends messages of many sizes one after another, and compares each reply.
struct Client {
    id: usize,
    left: usize,
    message: Vec<u8>,
    sent: Instant,
    tally: Rc<Tally>,
    ended: Rc<Latch>,
}

impl Client {
    fn send(&mut self, transport: &Transport) {
        let len = 1 + (self.id * 7919 + self.left * 104_729) % 4000;
        self.message = (0..len).map(|n| pattern(self.id + self.left + n)).collect();
        self.sent = transport.event_loop().time();
        transport.write(&self.message);
    }
}

impl Protocol for Client {
    fn connection_established(&mut self, transport: &Transport) {
        self.send(transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if data.len() < self.message.len() {
            return 0;
        }
        let counter = if data == self.message { &self.tally.right } else { &self.tally.wrong };
        counter.set(counter.get() + 1);
        let took = transport.event_loop().time().since(self.sent);
        self.tally.slowest.set(self.tally.slowest.get().max(took));
        self.left -= 1;
        if self.left == 0 {
            transport.close();
        } else {
            self.send(transport);
        }
        data.len()
    }
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.tally.unclean.set(self.tally.unclean.get() + usize::from(!closed.is_clean()));
        self.ended.count_down();
    }
}

async fn echo(lp: Loop) -> Outcome {
    const CLIENTS: usize = 200;
    const MESSAGES: usize = 25;
    let server = lp.listen(|_: &Address| Echo, "127.0.0.1:0").map_err(wrong)?;
    let target = target(&server)?;
    let (tally, ended, start) = (Rc::new(Tally::default()), Latch::new(CLIENTS), lp.time());
    for id in 0..CLIENTS {
        let (tally, ended) = (Rc::clone(&tally), Rc::clone(&ended));
        let message = Vec::new();
        let client = Client { id, left: MESSAGES, message, sent: start, tally, ended };
        lp.connect(client, target.clone());
    }
    ended.wait().await;
    let took = lp.time().since(start);
    let (right, wrong) = (tally.right.get(), tally.wrong.get());
    check(right == CLIENTS * MESSAGES && wrong == 0 && tally.unclean.get() == 0, || {
        format!("{right} replies right, {wrong} wrong, {} bad ends", tally.unclean.get())
    })?;
    server.close();
    let rate = right as f64 / took.as_secs_f64();
    let slowest = millis(tally.slowest.get());
    Ok(format!(
        "{CLIENTS} clients, {right} messages, all right; {rate:.0} a second, slowest {slowest:.1} ms"
    ))
}

// ---- a slow reader

const STREAM_LEN: usize = 16 << 20;
const BLOCK: usize = 10_000;

/// Writes a long stream and stops whenever it is told to.
struct Source {
    sent: usize,
    seen: Rc<Pressure>,
}

/// Reads one piece, pauses for a while, and reads on.
struct SlowReader {
    seen: Rc<Pressure>,
    ended: Rc<Latch>,
}

#[derive(Default)]
struct Pressure {
    received: Cell<usize>,
    damaged: Cell<bool>,
    most_queued: Cell<usize>,
    pauses: Cell<usize>,
    clean: Cell<bool>,
}

impl Source {
    fn pump(&mut self, transport: &Transport) {
        while self.sent < STREAM_LEN {
            let end = (self.sent + BLOCK).min(STREAM_LEN);
            let block: Vec<u8> = (self.sent..end).map(pattern).collect();
            self.sent = end;
            let crossing = transport.write(&block);
            let queued = transport.write_buffer_size();
            self.seen.most_queued.set(self.seen.most_queued.get().max(queued));
            if crossing == Crossing::High {
                self.seen.pauses.set(self.seen.pauses.get() + 1);
                return;
            }
        }
        transport.close();
    }
}

impl Protocol for Source {
    fn connection_established(&mut self, transport: &Transport) {
        self.pump(transport);
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.pump(transport);
    }
}

impl Protocol for SlowReader {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let from = self.seen.received.get();
        let same = data.iter().enumerate().all(|(n, byte)| *byte == pattern(from + n));
        self.seen.damaged.set(self.seen.damaged.get() || !same);
        self.seen.received.set(from + data.len());
        transport.pause_reading();
        let later = transport.clone();
        let callback = move |_: &Loop| later.resume_reading();
        transport.event_loop().call_later(Duration::from_micros(500), callback);
        data.len()
    }
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.seen.clean.set(closed.is_clean());
        self.ended.count_down();
    }
}

async fn pressure(lp: Loop) -> Outcome {
    let (seen, ended) = (Rc::new(Pressure::default()), Latch::new(1));
    let shared = Rc::clone(&seen);
    let factory = move |_: &Address| Source { sent: 0, seen: Rc::clone(&shared) };
    let server = lp.listen(factory, "127.0.0.1:0").map_err(wrong)?;
    let reader = SlowReader { seen: Rc::clone(&seen), ended: Rc::clone(&ended) };
    let transport = lp.connect(reader, target(&server)?);
    let (_, high) = transport.write_buffer_limits();
    ended.wait().await;
    server.close();
    let (received, pauses, most) = (seen.received.get(), seen.pauses.get(), seen.most_queued.get());
    check(received == STREAM_LEN && !seen.damaged.get(), || {
        format!("{received} of {STREAM_LEN} bytes, damaged: {}", seen.damaged.get())
    })?;
    check(seen.clean.get(), || "the connection did not end cleanly".to_owned())?;
    check(pauses > 0, || "the writer was never held up".to_owned())?;
    check(most <= high + BLOCK, || format!("{most} bytes were queued above a mark of {high}"))?;
    let (mib, most) = (received >> 20, most / 1024);
    Ok(format!("{mib} MiB without loss; writer held up {pauses} times, at most {most} KiB queued"))
}

// ---- datagrams

struct UdpEcho;

struct UdpClient {
    next: usize,
    lost: Rc<Cell<bool>>,
    ended: Rc<Latch>,
}

const DATAGRAMS: usize = 500;

impl DatagramProtocol for UdpEcho {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        // A datagram that cannot be sent is a lost one; the client sees it.
        let _ = transport.send_to(data, peer);
    }
}

impl UdpClient {
    // The first is empty, which a datagram may be.
    fn message(&self) -> Vec<u8> {
        (0..self.next * 3 % 1400).map(|n| pattern(self.next + n)).collect()
    }
    fn send(&self, transport: &DatagramTransport) {
        self.lost.set(self.lost.get() || transport.send_to(&self.message(), None).is_err());
    }
}

impl DatagramProtocol for UdpClient {
    fn connection_made(&mut self, transport: &DatagramTransport) {
        self.send(transport);
    }
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        _: Option<&Address>,
    ) {
        self.lost.set(self.lost.get() || data != self.message());
        self.ended.count_down();
        self.next += 1;
        if self.next < DATAGRAMS {
            self.send(transport);
        }
    }
}

async fn datagrams(lp: Loop) -> Outcome {
    let here: Address = Address::Ip(([127, 0, 0, 1], 0).into());
    let (lost, ended, start) = (Rc::new(Cell::new(false)), Latch::new(DATAGRAMS), lp.time());
    let server = lp.datagram(UdpEcho, Some(here), None).map_err(wrong)?;
    let peer = server.local_address().map_err(wrong)?;
    let client = UdpClient { next: 0, lost: Rc::clone(&lost), ended: Rc::clone(&ended) };
    let client = lp.datagram(client, None, Some(peer)).map_err(wrong)?;
    ended.wait().await;
    let each = lp.time().since(start).as_secs_f64() * 1e6 / DATAGRAMS as f64;
    client.close();
    server.close();
    check(!lost.get(), || "a datagram came back changed".to_owned())?;
    Ok(format!("{DATAGRAMS} there and back, one empty, all right; {each:.0} us each"))
}

// ---- timers

async fn timers(lp: Loop) -> Outcome {
    const TIMERS: usize = 1000;
    let (early, ended) = (Rc::new(Cell::new(0)), Latch::new(TIMERS));
    let lateness: Rc<RefCell<Vec<Duration>>> = Rc::default();
    for n in 0..TIMERS {
        // From nothing to 200 ms, in steps that no clock tick divides.
        let deadline = lp.time() + Duration::from_nanos((n as u64 * 48_271_000) % 200_000_003);
        let (early, ended, late) = (Rc::clone(&early), Rc::clone(&ended), Rc::clone(&lateness));
        lp.call_at(deadline, move |lp| {
            let now = lp.time();
            early.set(early.get() + usize::from(now < deadline));
            late.borrow_mut().push(now.since(deadline));
            ended.count_down();
        });
    }
    ended.wait().await;
    check(early.get() == 0, || format!("{} timers fired early", early.get()))?;
    let mut late = lateness.take();
    late.sort_unstable();
    let micros = |span: &Duration| span.as_secs_f64() * 1e6;
    let median = late.get(TIMERS / 2).map_or(0.0, micros);
    let worst = late.last().map_or(0.0, micros);
    Ok(format!(
        "{TIMERS} timers, none early; late by {median:.0} us (median), {worst:.0} us (worst)"
    ))
}

// ---- a drain

/// Leaves after a while; never, if there is none.
struct Guest {
    stay: Option<Duration>,
    reset: Rc<Cell<usize>>,
    arrived: Rc<Latch>,
    ended: Rc<Latch>,
}

impl Protocol for Guest {
    fn connection_established(&mut self, transport: &Transport) {
        transport.write(b"hello");
    }
    // The reply says that the server has accepted us.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        self.arrived.count_down();
        if let Some(stay) = self.stay {
            let later = transport.clone();
            transport.event_loop().call_later(stay, move |_| later.close());
        }
        data.len()
    }
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.reset.set(self.reset.get() + usize::from(closed.kind == CloseKind::Reset));
        self.ended.count_down();
    }
}

async fn drain(lp: Loop) -> Outcome {
    const GUESTS: usize = 20;
    const SPAN: Duration = Duration::from_millis(250);
    let server = lp.listen(|_: &Address| Echo, "127.0.0.1:0").map_err(wrong)?;
    let target = target(&server)?;
    let reset = Rc::new(Cell::new(0));
    let (arrived, ended) = (Latch::new(GUESTS), Latch::new(GUESTS));
    for n in 0..GUESTS {
        let stay = (n > 0).then(|| Duration::from_millis(5 * n as u64));
        let (reset, arrived, ended) = (Rc::clone(&reset), Rc::clone(&arrived), Rc::clone(&ended));
        lp.connect(Guest { stay, reset, arrived, ended }, target.clone());
    }
    arrived.wait().await;
    let start = lp.time();
    let drain = server.drain(SPAN);
    let refused = lp.create_connection(|| Echo, target).await.is_err();
    let aborted = drain.await;
    let took = lp.time().since(start);
    ended.wait().await;
    check(refused, || "a draining server still accepts".to_owned())?;
    check(aborted == 1 && reset.get() == 1, || {
        format!("{aborted} connections aborted, {} guests saw it", reset.get())
    })?;
    check(took >= SPAN, || format!("the drain gave {took:?} instead of {SPAN:?}"))?;
    let left = GUESTS - aborted;
    Ok(format!(
        "{left} of {GUESTS} left by themselves, {aborted} aborted after {:.0} ms",
        millis(took)
    ))
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn run((): ()) -> Done {
    let event_loop = EventLoop::new()?;
    println!("tepal over {}, one thread, loopback", event_loop.driver_name());
    let start = event_loop.time();
    let limit = event_loop.call_later(LIMIT, |lp| lp.stop());
    let mut failed = 0;
    for part in 0..7 {
        let lp = (*event_loop).clone();
        let begun = event_loop.time();
        let (name, outcome) = match part {
            0 => ("echo", event_loop.run_until_complete(echo(lp))?),
            1 => ("slow reader", event_loop.run_until_complete(pressure(lp))?),
            2 => ("datagrams", event_loop.run_until_complete(datagrams(lp))?),
            3 => ("timers", event_loop.run_until_complete(timers(lp))?),
            4 => ("drain", event_loop.run_until_complete(drain(lp))?),
            5 => ("moving peer", moving::run(&event_loop)?),
            _ => ("stack", stacked::run(&event_loop)?),
        };
        let (mark, text) = match outcome {
            Ok(text) => ("ok  ", text),
            Err(text) => ("FAIL", text),
        };
        failed += usize::from(mark == "FAIL");
        let took = millis(event_loop.time().since(begun));
        println!("{mark} {name:<12} {text} [{took:.0} ms]");
    }
    limit.cancel();
    println!("{:.2} s in all", event_loop.time().since(start).as_secs_f64());
    // Everything has been closed: nothing is left that would keep a program from ending.
    let open = event_loop.close()?;
    match (failed, open) {
        (0, 0) => Ok(()),
        (0, open) => Err(format!("{open} transports were left open").into()),
        (failed, _) => Err(format!("{failed} parts failed").into()),
    }
}

fn main() -> ExitCode {
    common::main(USAGE, |_| Ok(()), run)
}
