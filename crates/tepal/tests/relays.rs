//! Joined streams, files, and child processes.

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use common::{address, on_every_driver, run, with_faults};
use tepal::{Closed, Command, ExitStatus, Process, ProcessProtocol, Protocol, Stdio, Transport};
use tepal_driver::faults::{Faults, Operation};

/// Joins each connection to one of its own towards a target.
struct Front {
    target: std::net::SocketAddr,
    counts: Rc<RefCell<Vec<(u64, u64)>>>,
}

struct Back {
    front: Transport,
    counts: Rc<RefCell<Vec<(u64, u64)>>>,
}

impl Protocol for Front {
    fn connection_established(&mut self, transport: &Transport) {
        transport.pause_reading();
        let back = Back { front: transport.clone(), counts: Rc::clone(&self.counts) };
        transport.event_loop().connect(back, self.target);
    }
}

impl Protocol for Back {
    fn connection_established(&mut self, transport: &Transport) {
        let joined = self.front.join(transport).expect("both are established");
        let counts = Rc::clone(&self.counts);
        transport.event_loop().spawn(async move {
            let result = joined.await.expect("ends cleanly");
            counts.borrow_mut().push(result);
        });
    }
}

#[test]
fn a_relay_passes_everything_on_in_both_directions_and_counts_it() {
    const LEN: usize = 5_000_000;
    on_every_driver(|event_loop| {
        let upper = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
        let target = upper.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = upper.accept().expect("accepts");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("reads");
            all.reverse();
            stream.write_all(&all).expect("writes");
        });
        let counts: Rc<RefCell<Vec<(u64, u64)>>> = Rc::default();
        let log = Rc::clone(&counts);
        let front = event_loop
            .listen(move |_| Front { target, counts: Rc::clone(&log) }, "127.0.0.1:0")
            .expect("listens");
        let address = address(&front);
        let remote = event_loop.remote();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("connects");
            let mut sent: Vec<u8> = (0..LEN).map(|n| (n % 251) as u8).collect();
            let mut twin = stream.try_clone().expect("clones");
            let bytes = sent.clone();
            let writer = std::thread::spawn(move || {
                twin.write_all(&bytes).expect("writes");
                twin.shutdown(std::net::Shutdown::Write).expect("half-closes");
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).expect("reads");
            writer.join().expect("ends");
            sent.reverse();
            assert!(back == sent, "the bytes came back wrong");
            remote.stop().expect("the loop lives");
        });
        run(event_loop);
        client.join().expect("the client is content");
        server.join().expect("the server is content");
        assert_eq!(*counts.borrow(), [(LEN as u64, LEN as u64)]);
    });
}

#[test]
fn a_file_goes_out_between_the_writes_around_it() {
    file_between_writes("sent", |_| ());
}

#[test]
fn a_file_that_the_kernel_does_not_send_is_read_and_sent() {
    file_between_writes("copied", |faults| faults.fail_always(Operation::SendFile, libc::ENOSYS));
    file_between_writes("short", |faults| {
        faults.fail_always(Operation::SendFile, libc::EOPNOTSUPP);
        faults.short(Some(30_000));
    });
}

fn file_between_writes(name: &str, script: impl Fn(&Faults)) {
    let path = std::env::temp_dir().join(format!("tepal-file-{name}-{}", std::process::id()));
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 241) as u8).collect();
    std::fs::write(&path, &content).expect("writes the file");
    with_faults(|event_loop, faults| {
        script(faults);
        struct Sends(std::path::PathBuf, Rc<RefCell<Vec<u64>>>);
        impl Protocol for Sends {
            fn connection_established(&mut self, transport: &Transport) {
                transport.write(b"before|");
                let file = std::fs::File::open(&self.0).expect("opens");
                let sent = transport.send_file(file, 1000, 2_000_000).expect("open");
                transport.write(b"|between|");
                let file = std::fs::File::open(&self.0).expect("opens");
                let short = transport.send_file(file, 2_999_990, 1000).expect("open");
                transport.write(b"|after");
                transport.close();
                let log = Rc::clone(&self.1);
                transport.event_loop().spawn(async move {
                    let counts = [sent.await.expect("sent"), short.await.expect("sent")];
                    log.borrow_mut().extend(counts);
                });
            }
        }
        let log = Rc::default();
        let (place, counts) = (path.clone(), Rc::clone(&log));
        let server = event_loop
            .listen(move |_| Sends(place.clone(), Rc::clone(&counts)), "127.0.0.1:0")
            .expect("listens");
        let address = address(&server);
        let remote = event_loop.remote();
        let client = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            TcpStream::connect(address).expect("connects").read_to_end(&mut bytes).expect("reads");
            remote.stop().expect("the loop lives");
            bytes
        });
        run(event_loop);
        let expected =
            [b"before|", &content[1000..2_001_000], b"|between|", &content[2_999_990..], b"|after"]
                .concat();
        assert!(client.join().expect("ends") == expected);
        assert_eq!(*log.borrow(), [2_000_000, 10]);
    });
    std::fs::remove_file(&path).expect("removes the file");
}

/// Notes what a child says and stops the loop at its end.
struct Listens(Rc<RefCell<Vec<String>>>);

impl ProcessProtocol for Listens {
    fn pipe_data_received(&mut self, _: &Process, fd: i32, data: &[u8]) -> usize {
        let text = format!("{fd}: {}", String::from_utf8_lossy(data).trim_end());
        self.0.borrow_mut().push(text);
        data.len()
    }
    fn pipe_connection_lost(&mut self, _: &Process, _: i32, _: &Closed) {}
    fn process_exited(&mut self, _: &Process, status: ExitStatus) {
        self.0.borrow_mut().push(status.to_string());
    }
    fn connection_lost(&mut self, process: &Process) {
        self.0.borrow_mut().push("lost".to_owned());
        let lp = process.pipe(1).expect("a pipe").event_loop().clone();
        lp.stop();
    }
}

fn shell(script: &str) -> Command {
    Command {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        stdin: Stdio::Piped,
        stdout: Stdio::Piped,
        stderr: Stdio::Piped,
        ..Command::default()
    }
}

#[test]
fn a_child_is_written_to_read_from_and_reaped() {
    on_every_driver(|event_loop| {
        let said: Rc<RefCell<Vec<String>>> = Rc::default();
        let script = "read line; echo \"got $line\"; echo oops >&2; exit 3";
        let process =
            event_loop.subprocess(Listens(Rc::clone(&said)), shell(script)).expect("starts");
        let stdin = process.pipe(0).expect("a pipe");
        stdin.write(b"something\n");
        run(event_loop);
        let mut said = said.borrow().clone();
        assert_eq!(said.pop().as_deref(), Some("lost"));
        said.sort();
        assert_eq!(said, ["1: got something", "2: oops", "exit code 3"]);
        assert_eq!(process.status(), Some(ExitStatus::Code(3)));
        let gone = process.kill().expect_err("it has ended");
        assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
        // Reaped: the kernel does not know the process any more.
        assert!(!std::path::Path::new(&format!("/proc/{}", process.pid())).exists());
    });
}

#[test]
fn a_child_with_a_terminal_of_its_own_is_typed_to() {
    on_every_driver(|event_loop| {
        let said: Rc<RefCell<Vec<String>>> = Rc::default();
        let script = "test -t 0 && test -t 1 && test -t 2 && read line && echo \"got $line\"";
        let command = Command { pty: true, ..shell(script) };
        let child = event_loop.subprocess(Types(Rc::clone(&said)), command).expect("starts");
        child.pipe(0).expect("the terminal").write(b"typed\n");
        // Until the child has ended and its terminal has closed, in whichever order.
        run(event_loop);
        assert_eq!(child.status(), Some(ExitStatus::Code(0)));
        let said = said.borrow().concat();
        assert!(said.contains("got typed\r\n"), "{said:?}");
    });
}

/// Notes what stands on the terminal of a child.
struct Types(Rc<RefCell<Vec<String>>>);

impl ProcessProtocol for Types {
    fn pipe_data_received(&mut self, _: &Process, _: i32, data: &[u8]) -> usize {
        self.0.borrow_mut().push(String::from_utf8_lossy(data).into_owned());
        data.len()
    }
    fn connection_lost(&mut self, process: &Process) {
        process.event_loop().stop();
    }
}

#[test]
fn a_killed_child_tells_its_signal() {
    on_every_driver(|event_loop| {
        struct Quiet;
        impl ProcessProtocol for Quiet {}
        let process = event_loop.subprocess(Quiet, shell("exec sleep 60")).expect("starts");
        process.terminate().expect("runs");
        let status = process.wait();
        assert_eq!(event_loop.run_until_complete(status).expect("ends"), ExitStatus::Signal(15));
    });
}

#[test]
fn a_missing_program_is_an_error_of_the_call() {
    on_every_driver(|event_loop| {
        let command = Command { program: "/no/such/program".into(), ..Command::default() };
        let error = event_loop.subprocess(Listens(Rc::default()), command).expect_err("missing");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn who_waits_for_a_child_hears_of_its_end_although_its_protocol_panics() {
    on_every_driver(|event_loop| {
        struct Panics;
        impl ProcessProtocol for Panics {
            fn process_exited(&mut self, _: &Process, _: ExitStatus) {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }
        let process = event_loop.subprocess(Panics, shell("exit 3")).expect("starts");
        let ended = event_loop.timeout(Duration::from_secs(20), process.wait());
        let status = event_loop.run_until_complete(ended).expect("the loop goes on");
        assert_eq!(status, Ok(ExitStatus::Code(3)));
    });
}
