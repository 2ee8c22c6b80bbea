//! What the tests of layers share: certificates, and protocols told by a closure what to do.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tepal::layers::{Certificate, Host, Info, ProxyRequest, Roots, TlsBuilder, TlsInfo, WallClock};
use tepal::{Closed, EventLoop, How, Listen, Protocol, Server, Stack, Target, Tls, Transport};
use tepal_sim::{Config, SimKernel};

/// A clock that stands within the test certificates' time.
#[derive(Debug)]
pub struct FixedClock(pub u64);

impl WallClock for FixedClock {
    fn unix_seconds(&self) -> Option<u64> {
        Some(self.0)
    }
}

const NOW: u64 = 1_800_000_000;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("../../../tepal-layers/tests/data/", $name))
    };
}

pub fn ca() -> Roots {
    Roots::from_pem(data!("ca.pem")).expect("a certificate")
}

pub fn certificate(name: &str) -> Certificate {
    let (chain, key): (&[u8], &[u8]) = match name {
        "server" => (data!("server.pem"), data!("server.key")),
        "client" => (data!("client.pem"), data!("client.key")),
        "other" => (data!("other.pem"), data!("other.key")),
        _ => (data!("self.pem"), data!("self.key")),
    };
    Certificate::from_pem(chain, key).expect("a certificate and its key")
}

pub fn tls_client() -> TlsBuilder {
    Tls::builder().roots(ca()).server_name("server.test").clock(Arc::new(FixedClock(NOW)))
}

pub fn tls_server() -> TlsBuilder {
    Tls::builder().certificate(certificate("server")).clock(Arc::new(FixedClock(NOW)))
}

pub fn tls_pair() -> (Tls, Tls) {
    (tls_client().build().expect("a client"), tls_server().build().expect("a server"))
}

/// What a protocol is told.
#[derive(Debug)]
pub enum Call<'a> {
    Made,
    Established,
    Data(&'a [u8]),
    Eof,
    Pause,
    Resume,
    Out,
    Ready(&'a str, &'a Info),
    Added(&'a str),
    Removed(&'a str, How),
    Idle,
    Request(&'a str, &'a ProxyRequest),
    Error(&'a Closed),
    Lost(&'a Closed),
}

/// What it was told, and what came of it.
#[derive(Default, Debug)]
pub struct Seen {
    pub events: Vec<String>,
    pub bytes: Vec<u8>,
    pub frames: Vec<Vec<u8>>,
    pub infos: Vec<(String, Info)>,
    pub closed: Option<Closed>,
    pub transport: Option<Transport>,
    // There may be another connection behind the end of one.
    pub again: bool,
}

pub type Log = Rc<RefCell<Seen>>;

/// Does what a closure says. `Data` may answer a count; `Eof` with 1 keeps our direction open.
pub struct Script<F> {
    log: Log,
    act: F,
}

impl<F: FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static> Script<F> {
    pub fn new(act: F) -> (Script<F>, Log) {
        let log = Log::default();
        (Script { log: Rc::clone(&log), act }, log)
    }

    pub fn with_log(log: &Log, act: F) -> Script<F> {
        Script { log: Rc::clone(log), act }
    }

    fn tell(&mut self, transport: &Transport, call: &Call<'_>, event: &str) -> Option<usize> {
        {
            let mut log = self.log.borrow_mut();
            assert!(log.closed.is_none() || log.again, "{event} after the end");
            if event != "data" || log.events.last().is_none_or(|last| last != "data") {
                log.events.push(event.to_owned());
            }
        }
        (self.act)(transport, call)
    }
}

impl<F: FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static> Protocol for Script<F> {
    fn connection_made(&mut self, transport: &Transport) {
        self.log.borrow_mut().transport = Some(transport.clone());
        self.tell(transport, &Call::Made, "made");
    }
    fn connection_established(&mut self, transport: &Transport) {
        self.tell(transport, &Call::Established, "established");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        assert!(transport.is_reading() || transport.is_closing(), "data while paused");
        let used = self.tell(transport, &Call::Data(data), "data").unwrap_or(data.len());
        let mut log = self.log.borrow_mut();
        let taken = data.get(..used).unwrap_or_default();
        log.bytes.extend_from_slice(taken);
        log.frames.push(taken.to_vec());
        used
    }
    fn eof_received(&mut self, transport: &Transport) -> bool {
        self.tell(transport, &Call::Eof, "eof") == Some(1)
    }
    fn pause_writing(&mut self, transport: &Transport) {
        self.tell(transport, &Call::Pause, "pause");
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.tell(transport, &Call::Resume, "resume");
    }
    fn io_out(&mut self, transport: &Transport) {
        self.tell(transport, &Call::Out, "out");
    }
    fn layer_ready(&mut self, transport: &Transport, layer: &str, info: &Info) {
        self.log.borrow_mut().infos.push((layer.to_owned(), info.clone()));
        self.tell(transport, &Call::Ready(layer, info), &format!("ready {layer}"));
    }
    fn layer_added(&mut self, transport: &Transport, layer: &str) {
        self.tell(transport, &Call::Added(layer), &format!("added {layer}"));
    }
    fn layer_removed(&mut self, transport: &Transport, layer: &str, how: How) {
        self.tell(transport, &Call::Removed(layer, how), &format!("removed {layer} {how:?}"));
    }
    fn timeout_idle(&mut self, transport: &Transport) {
        self.tell(transport, &Call::Idle, "idle");
    }
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        self.tell(transport, &Call::Request(layer, request), "request");
    }
    fn error_layer(&mut self, transport: &Transport, closed: &Closed) {
        self.tell(transport, &Call::Error(closed), "error_layer");
    }
    fn error_connecting(&mut self, transport: &Transport, closed: &Closed) {
        self.tell(transport, &Call::Error(closed), "error_connecting");
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.tell(transport, &Call::Lost(closed), "lost");
        self.log.borrow_mut().closed = Some(closed.clone());
    }
}

/// Runs a test on every driver of this machine and on the simulated one.
pub fn everywhere(test: impl Fn(&EventLoop)) {
    super::common::on_every_driver(&test);
    let kernel = SimKernel::new(Config::seeded(7));
    test(&EventLoop::with_driver(Box::new(kernel.driver())));
}

/// A connection between two scripts on one loop, over the layers given.
pub struct Pair {
    pub client: Log,
    pub server: Log,
    pub listener: Server,
}

impl Pair {
    /// Both ends stop the loop once both have ended.
    pub fn connect<C, S>(
        event_loop: &EventLoop,
        (up, mut client): (Stack, C),
        (down, server): (Stack, S),
    ) -> Pair
    where
        C: FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static,
        S: FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static,
    {
        let server = Rc::new(RefCell::new(server));
        let (near, far) = (Log::default(), Log::default());
        let ends = Rc::new(RefCell::new(0));
        let (log, ended) = (Rc::clone(&far), Rc::clone(&ends));
        let factory = move |_: &tepal::Address| {
            let (server, ended) = (Rc::clone(&server), Rc::clone(&ended));
            Script::with_log(&log, move |transport: &Transport, call: &Call<'_>| {
                let answer = (server.borrow_mut())(transport, call);
                note_end(transport, call, &ended);
                answer
            })
        };
        let listen = Listen::on("127.0.0.1:0").stack(down);
        let listener = event_loop.listen(factory, listen).expect("listens");
        let target = Target::address(super::common::address(&listener)).stack(up);
        let script = Script::with_log(&near, move |transport: &Transport, call: &Call<'_>| {
            let answer = client(transport, call);
            note_end(transport, call, &ends);
            answer
        });
        event_loop.connect(script, target);
        Pair { client: near, server: far, listener }
    }

    /// Runs to the end of both.
    pub fn run(self, event_loop: &EventLoop) -> (Seen, Seen) {
        super::common::run(event_loop);
        self.listener.close();
        (self.client.take(), self.server.take())
    }
}

fn note_end(transport: &Transport, call: &Call<'_>, ends: &Rc<RefCell<u32>>) {
    if let Call::Lost(_) = call {
        *ends.borrow_mut() += 1;
        if *ends.borrow() == 2 {
            transport.event_loop().stop();
        }
    }
}

impl Seen {
    pub fn tls(&self) -> Arc<TlsInfo> {
        self.all_tls().last().cloned().expect("a TLS handshake")
    }

    pub fn all_tls(&self) -> Vec<Arc<TlsInfo>> {
        let tls = |(_, info): &(String, Info)| match info {
            Info::Tls(info) => Some(Arc::clone(info)),
            _ => None,
        };
        self.infos.iter().filter_map(tls).collect()
    }

    pub fn kind(&self) -> tepal::CloseKind {
        self.closed.as_ref().expect("it has ended").kind
    }
}

pub fn host(name: &str) -> Host {
    Host::parse(name).expect("a host")
}

/// Does nothing about what it is told.
pub fn quiet(_: &Transport, _: &Call<'_>) -> Option<usize> {
    None
}

/// Sends back what it gets.
pub fn echo(transport: &Transport, call: &Call<'_>) -> Option<usize> {
    if let Call::Data(data) = call {
        transport.write(data);
    }
    None
}

/// Bytes that show if some are missing, doubled or out of order.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// A layer that passes everything until it is told to be deaf: then nothing from below.
#[derive(Debug)]
pub struct Plug;

struct PlugLayer {
    deaf: bool,
}

impl tepal::LayerSpec for Plug {
    fn name(&self) -> &'static str {
        "plug"
    }
    fn build(
        &self,
        _: &mut tepal::layers::Site<'_>,
    ) -> Result<Box<dyn tepal::layers::Layer>, tepal::layers::Error> {
        Ok(Box::new(PlugLayer { deaf: false }))
    }
}

impl tepal::layers::Layer for PlugLayer {
    fn name(&self) -> &'static str {
        "plug"
    }
    fn step(
        &mut self,
        io: &mut tepal::layers::Io<'_>,
    ) -> Result<tepal::layers::Status, tepal::layers::Error> {
        io.ready(Info::None);
        if self.deaf {
            io.from_below.hold();
        } else {
            io.to_above.pass(&mut io.from_below, usize::MAX);
        }
        io.to_below.pass(&mut io.from_above, usize::MAX);
        Ok(match io.finishing() && io.from_above.is_empty() {
            true => tepal::layers::Status::Done(How::Closed),
            false => tepal::layers::Status::Open,
        })
    }
    fn handle_command(&mut self, _: &dyn std::any::Any) -> Result<(), tepal::layers::Error> {
        self.deaf = true;
        Ok(())
    }
}
