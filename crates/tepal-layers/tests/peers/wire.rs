//! A chain over a socket, without a loop: what an owner of a wire has to do, in one place.

use std::io::{ErrorKind as IoError, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tepal_layers::check::{Bench, Seen};
use tepal_layers::{
    Error, ErrorKind, Event, Host, How, Info, Late, LayerSpec, Limits, Notice, Place, Residual,
    Side, Stack, TlsInfo, Turn,
};

use crate::programs::PATIENCE;

/// One connection whose protocol takes everything and remembers it.
pub(crate) struct Wire {
    pub(crate) bench: Bench,
    stream: TcpStream,
    started: Instant,
    read_end: bool,
    write_end: bool,
    // The kernel tells a reset once, to a write or to a read; what came before it can still be read.
    write_error: Option<Error>,
    /// How many bytes have come, whatever they were.
    pub(crate) received: usize,
    // Bytes that are asked of the kernel at once; small to cut what comes into pieces.
    pub(crate) piece: usize,
}

/// A socket on which a foreign client finds us.
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn new() -> Listener {
        Listener(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next connection, plain.
    pub(crate) fn accept_plain(&self) -> TcpStream {
        wait(&self.0, PollFlags::IN, PATIENCE);
        self.0.set_nonblocking(true).unwrap();
        let (stream, _) = self.0.accept().expect("nobody has connected in time");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The next connection.
    pub(crate) fn accept(&self, stack: &Stack) -> Wire {
        Wire::over(self.accept_plain(), stack, Side::Server)
    }
}

/// A plain connection to a foreign server, for what is on the other side of a foreign proxy.
pub(crate) fn connect_plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr, stack: &Stack) -> Wire {
        Wire::over(connect_plain(address), stack, Side::Client)
    }

    pub(crate) fn over(stream: TcpStream, stack: &Stack, side: Side) -> Wire {
        let place = Place {
            side,
            host: (side == Side::Client).then(|| Host::parse("localhost").unwrap()),
            peer: stream.peer_addr().ok(),
            local: stream.local_addr().ok(),
        };
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let bench = Bench::at(stack, &place, Limits::default()).unwrap();
        let started = Instant::now();
        Wire {
            bench,
            stream,
            started,
            read_end: false,
            write_end: false,
            write_error: None,
            received: 0,
            piece: 16 << 10,
        }
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Whether nothing more can happen.
    pub(crate) fn is_over(&self) -> bool {
        self.bench.failure().is_some() || self.bench.saw(&Seen::Closed)
    }

    /// Runs until `done`, or panics with all that was seen.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Bench) -> bool) {
        let end = Instant::now() + PATIENCE;
        self.step(Duration::ZERO);
        while !done(&self.bench) {
            assert!(!self.is_over(), "over before {what}: {:?}", self.bench.seen);
            assert!(Instant::now() < end, "no {what} in time: {:?}", self.bench.seen);
            self.step(end.saturating_duration_since(Instant::now()));
        }
        self.step(Duration::ZERO);
    }

    /// Runs for so long, whatever happens.
    pub(crate) fn during(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end && !self.is_over() {
            self.step(end.saturating_duration_since(Instant::now()));
        }
    }

    /// Runs until the protocol has been told of the end of the connection.
    pub(crate) fn until_over(&mut self) -> Option<ErrorKind> {
        let over = |bench: &Bench| bench.failure().is_some() || bench.saw(&Seen::Closed);
        self.until("the end of the connection", over);
        self.bench.failure_kind()
    }

    /// Runs until the data seen ends with `bytes`.
    pub(crate) fn until_data(&mut self, bytes: &[u8]) {
        let what = format!("{:?}", String::from_utf8_lossy(bytes));
        self.until(&what, |bench| bench.data().windows(bytes.len()).any(|part| part == bytes));
    }

    /// Runs until so many bytes have come from the socket.
    pub(crate) fn until_received(&mut self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.received < count {
            assert!(Instant::now() < end, "only {} bytes of {count} came", self.received);
            self.step(end.saturating_duration_since(Instant::now()));
        }
    }

    pub(crate) fn until_eof(&mut self) {
        self.until("end of input", |bench| bench.saw(&Seen::Eof));
    }

    pub(crate) fn until_established(&mut self) {
        self.until("establishment", |bench| bench.saw(&Seen::Established));
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.bench.write(bytes).unwrap();
        self.step(Duration::ZERO);
    }

    /// As [`write`](Wire::write), without taking anything that has come.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        let turn = Turn::new(self.bench.now, &self.bench.workspace);
        self.bench.chain.write(bytes, turn).unwrap();
    }

    pub(crate) fn write_eof(&mut self) -> Result<(), Error> {
        let result = self.bench.chain.write_eof();
        self.step(Duration::ZERO);
        result
    }

    /// Closes the chain and runs until it is closed or has failed; tells how a layer of TLS ended.
    pub(crate) fn close(&mut self) -> Option<How> {
        self.bench.chain.close();
        self.until_over();
        self.how("tls")
    }

    /// How the layer of that name ended.
    pub(crate) fn how(&self, name: &str) -> Option<How> {
        self.bench.seen.iter().rev().find_map(|seen| match seen {
            Seen::Layer(Notice::Removed { layer, how }) if *layer == name => Some(*how),
            _ => None,
        })
    }

    /// Runs until these bytes have come, and takes them and no more, as a protocol does that knows
    /// what it reads.
    pub(crate) fn until_taken(&mut self, bytes: &[u8]) {
        let end = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while heard.len() < bytes.len() {
            wait(&self.stream, PollFlags::IN, end.saturating_duration_since(Instant::now()));
            let mut block = vec![0; self.piece];
            let count = self.stream.read(&mut block).expect("bytes have come");
            assert_ne!(count, 0, "an end before {bytes:?}");
            let turn = Turn::new(self.bench.now, &self.bench.workspace);
            self.bench.chain.receive(turn, &mut block[..count]);
            while let Some(event) = self.bench.chain.poll_event(turn) {
                if let Event::Data = event {
                    let missing = bytes.len() - heard.len();
                    let data = self.bench.chain.data();
                    let count = missing.min(data.len());
                    heard.extend_from_slice(&data[..count]);
                    self.bench.chain.took(count, turn);
                    if heard.len() == bytes.len() {
                        break;
                    }
                }
            }
        }
        assert_eq!(heard, bytes);
    }

    /// The socket, once no layer is left, with what has come for the protocol and not been used.
    pub(crate) fn into_plain(mut self) -> (TcpStream, Vec<u8>) {
        let sent = |wire: &Wire| wire.bench.wire.is_empty();
        self.until("nothing left to send", |_| true);
        assert!(self.bench.chain.is_plain() && sent(&self));
        self.stream.set_nonblocking(false).unwrap();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        (self.stream, self.bench.data())
    }

    pub(crate) fn push(&mut self, spec: impl LayerSpec + 'static, residual: Residual) {
        self.push_at(Arc::new(spec), None, residual);
    }

    pub(crate) fn push_below(
        &mut self,
        spec: impl LayerSpec + 'static,
        below: &str,
        residual: Residual,
    ) {
        self.push_at(Arc::new(spec), Some(below), residual);
    }

    fn push_at(&mut self, spec: Arc<dyn LayerSpec>, below: Option<&str>, residual: Residual) {
        let turn = Turn::new(self.bench.now, &self.bench.workspace);
        let keepsakes = &mut self.bench.keepsakes;
        self.bench.chain.push(&spec, below, residual, keepsakes, turn).unwrap();
        self.step(Duration::ZERO);
    }

    pub(crate) fn pop(&mut self, timeout: Duration, late: Late) {
        self.read_clock();
        let turn = Turn::new(self.bench.now, &self.bench.workspace);
        self.bench.chain.pop(None, timeout, late, turn).unwrap();
        self.step(Duration::ZERO);
    }

    /// What TLS has told when it was ready.
    pub(crate) fn tls_info(&mut self) -> Arc<TlsInfo> {
        self.until("the handshake of TLS", |bench| bench.info("tls").is_some());
        match self.bench.info("tls") {
            Some(Info::Tls(info)) => info,
            other => panic!("{other:?}"),
        }
    }

    fn read_clock(&mut self) {
        let base = tepal_base::Instant::from_nanos(1_000_000_000);
        self.bench.now = self.bench.now.max(base + self.started.elapsed());
    }

    // Everything that can be done now, after waiting at most so long for something to do.
    fn step(&mut self, most: Duration) {
        self.read_clock();
        let now = self.bench.now;
        if self.bench.chain.deadline().is_some_and(|at| at <= now) {
            let turn = Turn::new(now, &self.bench.workspace);
            self.bench.chain.handle_timeout(turn);
        }
        self.bench.settle();
        self.send();
        if self.is_over() && self.bench.wire.is_empty() {
            return;
        }
        let mut wanted = PollFlags::empty();
        if self.bench.chain.wants_read() && !self.read_end {
            wanted |= PollFlags::IN;
        }
        if !self.bench.wire.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let until = self.bench.chain.deadline().map(|at| at.since(now));
        // A deadline has come when the clock is past it, so a little is added.
        let most = until.map_or(most, |until| most.min(until + Duration::from_micros(50)));
        if wanted.is_empty() {
            std::thread::sleep(most);
        } else {
            wait(&self.stream, wanted, most);
        }
        self.send();
        if wanted.contains(PollFlags::IN) {
            self.receive();
        }
        self.bench.settle();
        self.send();
    }

    fn send(&mut self) {
        while !self.bench.wire.is_empty() {
            match self.stream.write(&self.bench.wire) {
                Ok(count) => drop(self.bench.wire.drain(..count)),
                Err(error) if error.kind() == IoError::WouldBlock => return,
                Err(error) => {
                    self.bench.wire.clear();
                    self.write_error.get_or_insert_with(|| Error::os(&error));
                }
            }
        }
        let ended = self.bench.saw(&Seen::WriteEof) || self.bench.saw(&Seen::Closed);
        if !self.write_end && (ended || self.bench.failure().is_some()) {
            self.write_end = true;
            // The peer may have gone, and then there is nobody to tell.
            let _told = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn receive(&mut self) {
        let mut block = vec![0; self.piece];
        match self.stream.read(&mut block) {
            Ok(0) => match self.write_error.take() {
                Some(error) => self.fail(error),
                None => {
                    self.read_end = true;
                    self.bench.receive_eof();
                }
            },
            Ok(count) => {
                self.received += count;
                self.bench.receive(&block[..count]);
            }
            Err(error) if error.kind() == IoError::WouldBlock => {}
            Err(error) => self.fail(Error::os(&error)),
        }
    }

    fn fail(&mut self, error: Error) {
        self.read_end = true;
        let turn = Turn::new(self.bench.now, &self.bench.workspace);
        self.bench.chain.receive_error(error, turn);
    }
}

fn wait(socket: &impl std::os::fd::AsFd, wanted: PollFlags, most: Duration) {
    let most = Timespec::try_from(most).unwrap();
    let mut fds = [PollFd::new(socket, wanted)];
    // Interrupted or not, the caller looks again.
    let _count = poll(&mut fds, Some(&most));
}
