//! Everything of a loop that can call back, or that can be acted upon, for one case.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use tepal::{
    Address, Command, DatagramProtocol, DatagramTransport, EventLoop, ExitStatus, Interest, Listen,
    Loop, Process, ProcessProtocol, Protocol, Stdio,
};

use super::common::{Echo, address};
use super::{Act, Call, SIGNAL, Ticket, World};

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

/// An endpoint that others refuse or hold up.
struct Pressed(Here);

impl DatagramProtocol for Pressed {
    fn error_received(&mut self, endpoint: &DatagramTransport, _: &io::Error) {
        self.0.0.at(Call::DatagramError, endpoint.event_loop());
    }
    fn pause_writing(&mut self, endpoint: &DatagramTransport) {
        self.0.0.at(Call::DatagramPause, endpoint.event_loop());
    }
    fn resume_writing(&mut self, endpoint: &DatagramTransport) {
        self.0.0.at(Call::DatagramResume, endpoint.event_loop());
    }
}

/// Sends to a port where nobody listens; the kernel tells of it later.
fn be_refused(event_loop: &EventLoop, world: &Rc<World>) -> io::Result<()> {
    let nobody = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint =
        event_loop.datagram(Pressed(Here::new(world)), None, Some(Address::Ip(nobody)))?;
    endpoint.send_to(b"anybody?", None)?;
    *world.datagram.borrow_mut() = Some(endpoint);
    Ok(())
}

/// Sends more than the queue of a Unix socket holds, to a reader that begins a little later.
fn be_held_up(event_loop: &EventLoop, world: &Rc<World>) -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("tepal-reentry-{}", std::process::id()));
    let reader = UnixDatagram::bind(&path)?;
    reader.set_nonblocking(true)?;
    let endpoint = event_loop.datagram(Pressed(Here::new(world)), None, Some(Address::unix(&path)));
    std::fs::remove_file(&path)?;
    let endpoint = endpoint?;
    while endpoint.write_buffer_size() <= 64 << 10 {
        endpoint.send_to(&[7; 1000], None)?;
    }
    *world.datagram.borrow_mut() = Some(endpoint);
    fn drain(lp: &Loop, reader: UnixDatagram) {
        while reader.recv(&mut [0; 1000]).is_ok() {}
        lp.call_later(Duration::from_micros(200), move |lp| drain(lp, reader));
    }
    event_loop.call_later(Duration::from_micros(200), move |lp| drain(lp, reader));
    Ok(())
}

impl ProcessProtocol for Here {
    fn connection_made(&mut self, process: &Process) {
        self.0.at(Call::ProcessMade, process.event_loop());
    }
    fn pipe_data_received(&mut self, process: &Process, _: i32, data: &[u8]) -> usize {
        self.0.at(Call::ProcessData, process.event_loop());
        data.len()
    }
    fn pipe_connection_lost(&mut self, process: &Process, _: i32, _: &tepal::Closed) {
        self.0.at(Call::ProcessPipeLost, process.event_loop());
    }
    fn process_exited(&mut self, process: &Process, _: ExitStatus) {
        self.0.at(Call::ProcessExited, process.event_loop());
    }
    fn connection_lost(&mut self, process: &Process) {
        self.0.at(Call::ProcessLost, process.event_loop());
    }
}

/// Makes everything that can call back, or that can be acted upon.
pub(crate) fn set_up(event_loop: &EventLoop, world: &Rc<World>) -> io::Result<()> {
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
    let soon = event_loop.call_soon(move |lp| {
        let _held = ticket;
        w.at(Call::Soon, lp);
    });
    *world.soon.borrow_mut() = Some(soon);
    let (w, ticket) = here();
    let later = event_loop.call_later(Duration::from_micros(300), move |lp| {
        let _held = ticket;
        w.at(Call::Later, lp);
    });
    *world.later.borrow_mut() = Some(later);
    let (w, ticket) = here();
    let timer = event_loop.timer(Duration::from_micros(300), move |lp, _| {
        let _held = &ticket;
        w.at(Call::Timer, lp);
    });
    timer.start();
    *world.timer.borrow_mut() = Some(timer);

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

    match world.call {
        Call::DatagramError => return be_refused(event_loop, world),
        Call::DatagramPause | Call::DatagramResume => return be_held_up(event_loop, world),
        _ => {}
    }
    let endpoint = event_loop.datagram(Here::new(world), any(), None)?;
    endpoint.send_to(b"to itself", Some(&endpoint.local_address()?))?;
    *world.datagram.borrow_mut() = Some(endpoint);

    Ok(())
}

/// What the simulated kernel does not have: descriptors of the process, signals, children.
pub(crate) fn set_up_real(event_loop: &EventLoop, world: &Rc<World>) -> io::Result<()> {
    let here = || (Rc::clone(world), Ticket::new(&world.live));
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
    // Starting one takes longer than all the rest, so only where it matters.
    if world.call.is_of_a_process() || matches!(world.act, Act::KillProcess | Act::CloseProcess) {
        let command =
            Command { program: "echo".into(), stdout: Stdio::Piped, ..Command::default() };
        *world.process.borrow_mut() = Some(event_loop.subprocess(Here::new(world), command)?);
    }
    Ok(())
}
