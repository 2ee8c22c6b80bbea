//! Runs of the built command. No wait lasts for ever, and no process outlives its test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

#[path = "../../../tepal-layers/tests/peers/certificates.rs"]
pub mod certificates;
#[path = "../../../tepal-layers/tests/peers/programs.rs"]
pub mod programs;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use programs::Program;

/// How long any one step may take before its test fails.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub errors: String,
}

/// The command with arguments, nothing connected yet.
pub fn tepal(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tepal"));
    command.args(arguments);
    command
}

/// Runs it to its end, with these bytes as its input.
pub fn run(arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = tepal(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A run that ends early does not read all of it.
        let _ = stdin.write_all(&input);
    });
    let ended = finish(child);
    writer.join().expect("the writer ends");
    ended
}

/// Waits for the end of a run whose output is piped.
pub fn finish(mut child: Child) -> Ended {
    let out = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let code = wait(&mut child);
    let read = |thread: Option<JoinHandle<Vec<u8>>>| {
        thread.map(|thread| thread.join().expect("a reader ends")).unwrap_or_default()
    };
    let errors = String::from_utf8(read(errors)).expect("messages are UTF-8");
    Ended { code, out: read(out), errors }
}

/// Waits for the end of a process.
pub fn wait(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return status.code();
        }
        if start.elapsed() > LIMIT {
            child.kill().expect("it can be killed");
            panic!("the command does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error counts.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

/// Starts `tepal listen` at a port of the kernel's choice, and says which it is.
pub fn listen(arguments: &[&str]) -> (Program, SocketAddr) {
    let all = [&["listen", "tcp:127.0.0.1:0"], arguments].concat();
    let program = Program::start(&mut tepal(&all));
    let address = program.wait_for_port("listening on 127.0.0.1:");
    (program, address)
}

/// Waits for the end of a server, which must have this status, and returns what it has said.
pub fn ends(server: Program, code: i32) -> String {
    let (status, said) = server.finish();
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

/// A client that nobody serves: its connection is ended, maybe before it knows that it has one.
pub fn gets_nothing(address: SocketAddr) {
    if let Ok(mut stream) = TcpStream::connect_timeout(&address, LIMIT) {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(count) => assert_eq!(count, 0, "it is not served"),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it ends"),
        }
    }
}

/// An echo of socat's, for many connections.
pub fn socat_echo() -> (Program, SocketAddr) {
    Program::serve(|port| {
        let mut socat = programs::command("socat");
        let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=64");
        socat.args([&listen, "EXEC:cat"]);
        socat
    })
}

/// Sends `bytes` from a thread and ends the direction, while this thread reads to the end.
pub fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut writer = stream.try_clone().expect("a second handle");
    let bytes = bytes.to_vec();
    let sender = std::thread::spawn(move || {
        writer.write_all(&bytes).expect("sends");
        writer.shutdown(std::net::Shutdown::Write).expect("ends the direction");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("reads");
    sender.join().expect("the sender ends");
    back
}

/// A peer made of a thread: what it does with its one connection.
pub fn peer<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        serve(stream)
    });
    (format!("tcp:{address}"), thread)
}

/// The chain of an address that nobody listens at.
pub fn nobody() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("tcp:{}", free.local_addr().expect("its address"))
}

/// Bytes that show a loss, a repetition and a change of order.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// Connects with time limits on every call.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.set_write_timeout(Some(LIMIT)).expect("a limit");
    stream
}

impl Ended {
    /// It ended well, without a word on standard error.
    pub fn silent(self) -> Vec<u8> {
        assert_eq!((self.code, self.errors.as_str()), (Some(0), ""));
        self.out
    }

    /// It ended with this status, and one line on standard error that has all these words.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.errors);
        assert_eq!(self.errors.lines().count(), 1, "{}", self.errors);
        for word in words {
            assert!(self.errors.contains(word), "{word}: {}", self.errors);
        }
    }
}
