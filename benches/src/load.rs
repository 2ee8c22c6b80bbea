mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, sockopt};

use crate::cpu;
use crate::options::{Failure, Options};

pub(crate) const OPTIONS: &[&str] =
    &["connections", "size", "seconds", "warmup", "protocol", "memory!"];

/// A server that answers nothing for this long is broken.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// `load ADDRESS PID`: keeps one message outstanding on each connection and prints one line:
/// `requests N cpu_ns N wall_ns N total N`, where the first three belong to the counted part.
///
/// `--protocol` is tcp, udp or tls (whatever certificate the server shows is taken); with tls-full
/// and tls-resumed a request is a connection that is made, echoes one message and goes. `--memory`
/// prints instead how much memory the process needs more for that many connections that have
/// answered once and wait: `memory BYTES`.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let address = options.word(0, "ADDRESS")?;
    let process = options.word(1, "PID")?;
    let seconds: f64 = options.value("seconds", 0.5)?;
    let warmup: f64 = options.value("warmup", 0.1)?;
    let connections = options.value("connections", 64)?;
    let size = options.value("size", 1024)?;
    if connections == 0 || size == 0 || !(0.0..3600.0).contains(&seconds.max(warmup)) {
        return Err(Failure::usage("connections, size and seconds are above 0"));
    }

    let protocol = match options.text("protocol", "tcp") {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "tls" => Protocol::Tls,
        kind @ ("tls-full" | "tls-resumed") => {
            let settings = tls::settings(kind == "tls-resumed")?;
            let connect = |span| tls::keep_connecting(&settings, address, size, span);
            let warm = connect(Duration::from_secs_f64(warmup))?;
            return count(process, warm, || connect(Duration::from_secs_f64(seconds)));
        }
        other => return Err(Failure::usage(format!("there is no protocol {other:?}"))),
    };
    cpu::raise_descriptor_limit();
    if options.flag("memory") {
        // The first ones find what a server makes once.
        let mut first = Load::connect(address, FIRST, size, protocol)?;
        first.keep_busy(Duration::from_millis(50), true)?;
        let before = cpu::memory_of(process)?;
        let mut load = Load::connect(address, connections, size, protocol)?;
        load.keep_busy(Duration::ZERO, true)?;
        let memory = cpu::memory_of(process)?.saturating_sub(before);
        println!("memory {memory}");
        return Ok(());
    }
    let mut load = Load::connect(address, connections, size, protocol)?;
    let warm = load.keep_busy(Duration::from_secs_f64(warmup), true)?;
    count(process, warm, || load.keep_busy(Duration::from_secs_f64(seconds), false))
}

/// Runs the counted part, and prints the line.
fn count(
    process: u32,
    warm: u64,
    part: impl FnOnce() -> Result<u64, Failure>,
) -> Result<(), Failure> {
    let (cpu, started) = (cpu::time_of(process)?, Instant::now());
    let counted = part()?;
    let wall = started.elapsed();
    let cpu = cpu::time_of(process)? - cpu;
    println!(
        "requests {counted} cpu_ns {cpu} wall_ns {} total {}",
        wall.as_nanos(),
        counted + warm
    );
    Ok(())
}

/// Connections that are made before memory is counted.
const FIRST: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Tcp,
    Udp,
    Tls,
}

struct Connection {
    socket: OwnedFd,
    tls: Option<Box<tls::Session>>,
    // Of the message: bytes given to the kernel, and bytes of the answer that came.
    sent: usize,
    received: usize,
}

struct Load {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

impl Load {
    fn connect(
        address: SocketAddr,
        count: usize,
        size: usize,
        protocol: Protocol,
    ) -> Result<Load, Failure> {
        let settings = tls::settings(false)?;
        let kind = match protocol {
            Protocol::Udp => SocketType::DGRAM,
            Protocol::Tcp | Protocol::Tls => SocketType::STREAM,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let socket = rustix::net::socket(AddressFamily::INET, kind, None)?;
            // A whole message fits, so that the load rarely needs a second call to send it.
            sockopt::set_socket_send_buffer_size(&socket, (2 * size).max(16 << 10))?;
            rustix::net::connect(&socket, &address)?;
            if protocol != Protocol::Udp {
                sockopt::set_tcp_nodelay(&socket, true)?;
            }
            let tls = match protocol {
                Protocol::Tls => Some(tls::Session::shake_hands(&settings, &socket)?),
                Protocol::Tcp | Protocol::Udp => None,
            };
            rustix::io::ioctl_fionbio(&socket, true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN)?;
            connections.push(Connection { socket, tls, sent: 0, received: 0 });
        }
        // A prime period: an answer that lost or doubled a page does not look right.
        let message = (0..size).map(|at| (at % 251) as u8).collect();
        Ok(Load { epoll, connections, message, buffer: vec![0; 256 << 10] })
    }

    /// Sends on every connection, again after each whole answer, until the time is up and every
    /// answer has come. Returns the count of answers. `verify` compares their bytes.
    fn keep_busy(&mut self, span: Duration, verify: bool) -> Result<u64, Failure> {
        let until = Instant::now() + span;
        let mut outstanding = self.connections.len();
        let mut answers = 0;
        for index in 0..self.connections.len() {
            self.begin(index)?;
        }
        let mut events = Vec::with_capacity(1024);
        while outstanding > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&PATIENCE))?;
            if events.is_empty() {
                return Err(Failure::run(format!("{outstanding} answers did not come")));
            }
            let over = Instant::now() >= until;
            for event in &events {
                // Our own index, which the kernel gives back.
                let index = event.data.u64() as usize;
                // The kernel's record is packed: its fields are copied, not borrowed.
                let flags = event.flags;
                if flags.contains(epoll::EventFlags::OUT) {
                    self.continue_sending(index)?;
                }
                if self.receive(index, verify)? {
                    answers += 1;
                    if over {
                        outstanding -= 1;
                    } else {
                        self.begin(index)?;
                    }
                }
            }
        }
        Ok(answers)
    }

    fn begin(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.received = 0;
        connection.sent = 0;
        if let Some(tls) = &mut connection.tls {
            tls.encrypt(&self.message)?;
            let left = !tls.send(&connection.socket)?;
            return if left { self.interest(index, true) } else { Ok(()) };
        }
        let sent = attempt(send(&connection.socket, &self.message, SendFlags::NOSIGNAL))?;
        connection.sent = sent;
        if sent < self.message.len() { self.interest(index, true) } else { Ok(()) }
    }

    fn continue_sending(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if let Some(tls) = &mut connection.tls {
            let left = !tls.send(&connection.socket)?;
            return if left { Ok(()) } else { self.interest(index, false) };
        }
        let rest = &self.message[connection.sent..];
        connection.sent += attempt(send(&connection.socket, rest, SendFlags::NOSIGNAL))?;
        if connection.sent == self.message.len() { self.interest(index, false) } else { Ok(()) }
    }

    fn interest(&self, index: usize, output: bool) -> Result<(), Failure> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, output);
        let data = epoll::EventData::new_u64(index as u64);
        Ok(epoll::modify(&self.epoll, &self.connections[index].socket, data, flags)?)
    }

    /// One `recv`. True when the answer is whole.
    fn receive(&mut self, index: usize, verify: bool) -> Result<bool, Failure> {
        let connection = &mut self.connections[index];
        let count = match recv(&connection.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(Failure::run("the server closed a connection")),
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let count = match &mut connection.tls {
            Some(tls) => tls.decrypt(&mut self.buffer, count)?,
            None => count,
        };
        let end = connection.received + count;
        let expected = self.message.get(connection.received..end);
        if expected.is_none() || (verify && expected != self.buffer.get(..count)) {
            return Err(Failure::run("the answer is not what was sent"));
        }
        connection.received = end;
        Ok(end == self.message.len())
    }
}

/// A full socket takes nothing for now.
fn attempt(sent: Result<usize, Errno>) -> Result<usize, Errno> {
    match sent {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        other => other,
    }
}
