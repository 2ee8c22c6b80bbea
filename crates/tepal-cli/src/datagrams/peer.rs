use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tepal::{
    Address, Closed, Crossing, DatagramProtocol, DatagramTransport, EventLoop, Loop, Protocol,
    TimerHandle, Transport,
};

use crate::chain::Chain;
use crate::exit::{Exit, Failure};
use crate::report::Report;
use crate::stdio::Ends;

/// What the three transports of a run share: the peer, standard input, standard output.
pub(super) struct Session {
    lp: Loop,
    report: Report,
    name: String,
    // Whether a line is a datagram, and how long it may be.
    lines: Option<usize>,
    after_input: Option<Duration>,
    idle: Option<Duration>,
    peer: OnceCell<DatagramTransport>,
    input: OnceCell<Transport>,
    output: OnceCell<Transport>,
    input_ended: Cell<bool>,
    quiet: RefCell<Option<TimerHandle>>,
    failure: RefCell<Option<Failure>>,
}

struct Peer(Rc<Session>);

struct Input {
    session: Rc<Session>,
    // A line whose end was not read yet.
    line: Vec<u8>,
}

struct Output(Rc<Session>);

/// What is sent at once of an input without lines; socat's figure. IP cuts it where it must.
const PIECE: usize = 8192;

/// How long an answer is waited for behind the input: no end tells that there is none.
const ANSWER: Duration = Duration::from_millis(500);

impl Session {
    pub(super) fn run(
        event_loop: &EventLoop,
        report: Report,
        chain: &Chain,
        ends: Ends,
    ) -> Result<Exit, Failure> {
        let session = Rc::new(Session {
            lp: (**event_loop).clone(),
            report,
            name: chain.wire.place.to_string(),
            lines: chain.lines,
            after_input: ends.after_input.unwrap_or(Some(ANSWER)),
            idle: chain.wire.timeouts.idle,
            peer: OnceCell::new(),
            input: OnceCell::new(),
            output: OnceCell::new(),
            input_ended: Cell::new(false),
            quiet: RefCell::default(),
            failure: RefCell::default(),
        });
        session.report.phase("connecting", format_args!("to {}", session.name));
        let connected = event_loop.connect_datagram(Peer(Rc::clone(&session)), chain.wire.target());
        let peer = event_loop.run_until_complete(connected)?.map_err(|error| {
            let phase = error.problem().map(|problem| problem.phase);
            let resolved = phase != Some(tepal::Phase::Resolve);
            Failure::new(if resolved { Exit::Connect } else { Exit::Resolve }, error)
        })?;
        let _ = session.peer.set(peer);
        session.attach().map_err(|error| {
            Failure::new(Exit::Stdio, format_args!("standard input or output: {error}"))
        })?;
        session.wait_while_quiet();
        event_loop.run_forever()?;
        session.failure.take().map_or(Ok(Exit::Success), Err)
    }

    fn attach(self: &Rc<Session>) -> io::Result<()> {
        let output = self.lp.attach_borrowed(Output(Rc::clone(self)), 1)?;
        // A terminal is one file: what is typed there is standard input's to read.
        output.pause_reading();
        output.set_closing_timeout(None);
        let input = Input { session: Rc::clone(self), line: Vec::new() };
        let input = self.lp.attach_borrowed(input, 0)?;
        // Nothing was put there before.
        let _ = (self.output.set(output), self.input.set(input));
        Ok(())
    }

    fn send(&self, datagram: &[u8]) {
        let Some(peer) = self.peer.get() else { return };
        match peer.send_to(datagram, None) {
            Ok(Crossing::High) => self.input.get().into_iter().for_each(Transport::pause_reading),
            Ok(_) => {}
            Err(error) => self.lost(&error),
        }
    }

    /// The kernel told something of a datagram.
    fn lost(&self, error: &io::Error) {
        let exit = match error.kind() {
            io::ErrorKind::ConnectionRefused => Exit::Connect,
            _ => Exit::Lost,
        };
        self.fail(Failure::new(exit, format_args!("{}: {error}", self.name)));
    }

    // The first failure stands, and ends the run.
    fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.lp.stop();
    }

    /// Something has passed, or the input has ended: the wait begins anew.
    fn wait_while_quiet(self: &Rc<Session>) {
        if let Some(before) = self.quiet.take() {
            before.cancel();
        }
        let ended = self.input_ended.get();
        let Some(limit) = (if ended { self.after_input } else { self.idle }) else { return };
        let session = Rc::clone(self);
        let handle = self.lp.call_later(limit, move |_| {
            if !session.input_ended.get() {
                let text = "nothing has passed for as long as timeout-idle says";
                session.fail(Failure::new(Exit::Lost, format_args!("{}: {text}", session.name)));
                return;
            }
            session.report.phase("quiet", format_args!("for {limit:?}: closing"));
            // What came is still written.
            session.peer.get().into_iter().for_each(DatagramTransport::close);
            session.output.get().into_iter().for_each(Transport::close);
        });
        self.quiet.replace(Some(handle));
    }
}

impl DatagramProtocol for Peer {
    fn datagram_received(&mut self, peer: &DatagramTransport, data: &[u8], _: Option<&Address>) {
        let session = &self.0;
        let Some(output) = session.output.get() else { return };
        let mut crossing = output.write(data);
        if session.lines.is_some() && output.write(b"\n") == Crossing::High {
            crossing = Crossing::High;
        }
        if crossing == Crossing::High {
            peer.pause_reading();
        }
        session.wait_while_quiet();
    }

    fn error_received(&mut self, _: &DatagramTransport, error: &io::Error) {
        self.0.lost(error);
    }

    fn resume_writing(&mut self, _: &DatagramTransport) {
        self.0.input.get().into_iter().for_each(Transport::resume_reading);
    }
}

impl Input {
    fn send_lines(&mut self, data: &[u8], most: usize) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.strip_suffix(b"\n");
            self.line.extend_from_slice(whole.unwrap_or(piece));
            if self.line.len() > most {
                let text = "standard input: a line is longer than";
                let text = format!("{text} {most} bytes (lines,max=)");
                return self.session.fail(Failure::new(Exit::Stdio, text));
            }
            if whole.is_some() {
                self.session.send(&self.line);
                self.line.clear();
            }
        }
    }
}

impl Protocol for Input {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        match self.session.lines {
            Some(most) => self.send_lines(data, most),
            None => data.chunks(PIECE).for_each(|piece| self.session.send(piece)),
        }
        self.session.wait_while_quiet();
        data.len()
    }

    fn eof_received(&mut self, _: &Transport) -> bool {
        // The last line counts also where its end is missing.
        if !self.line.is_empty() {
            self.session.send(&std::mem::take(&mut self.line));
        }
        self.session.input_ended.set(true);
        self.session.report.phase("input", "ended");
        self.session.wait_while_quiet();
        false
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        if !closed.is_clean() {
            let text = format!("standard input: {closed}");
            self.session.fail(Failure::new(Exit::Stdio, text));
        }
    }
}

impl Protocol for Output {
    fn resume_writing(&mut self, _: &Transport) {
        self.0.peer.get().into_iter().for_each(DatagramTransport::resume_reading);
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        if closed.kind != tepal::CloseKind::Local {
            let code = closed.error.as_ref().and_then(|error| error.raw_os_error());
            let broken = || io::ErrorKind::BrokenPipe.into();
            let error = code.map_or_else(broken, io::Error::from_raw_os_error);
            self.0.fail(Failure::of_output(&error));
        }
        self.0.lp.stop();
    }
}
