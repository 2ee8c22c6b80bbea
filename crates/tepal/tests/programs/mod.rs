//! Runs the examples as processes: each ends with its test, and no wait lasts for ever.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long any one step may take before its test fails.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A running example. Dropping it kills the process, if it is still there.
pub struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

/// How an example ended, and what it printed that no test had read before.
pub struct Ended {
    pub code: Option<i32>,
    pub lines: Vec<String>,
    pub errors: String,
}

// Cargo puts examples next to the folder of the test's own executable.
fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

impl Program {
    pub fn start(name: &str, arguments: &[&str]) -> Program {
        let mut child = Command::new(path_of(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let out = child.stdout.take().expect("it is piped");
        let mut err = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The test may have seen enough.
                let _ = sender.send(line);
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        });
        Program { name: name.to_owned(), child, lines, errors: Some(errors) }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(_) => {
                // Ended or stuck: either way its errors tell more than the missing line.
                let _ = self.child.kill();
                let errors = self.errors.take().map(|errors| errors.join());
                panic!("{} printed no line: {errors:?}", self.name);
            }
        }
    }

    /// The address in its first line.
    pub fn address(&mut self) -> SocketAddr {
        let line = self.line();
        let text = line.strip_prefix("listening on ").expect("it says where it listens");
        text.parse().expect("an address")
    }

    /// Sends SIGTERM to this process alone.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, by its name, to this process alone.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "the signal is sent");
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(2));
        };
        let lines = self.lines.iter().collect();
        let errors = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        Ended { code: status.code(), lines, errors }
    }

    /// Ends it by SIGTERM.
    pub fn end(self) -> Ended {
        self.terminate();
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects with time limits on every call.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    stream.set_write_timeout(Some(LIMIT)).expect("a time limit");
    stream
}

/// Sends `bytes` from a thread and ends the direction, while this thread reads to the end.
pub fn exchange(mut stream: TcpStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut writer = stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        writer.write_all(&bytes).expect("sends");
        writer.shutdown(std::net::Shutdown::Write).expect("ends the direction");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("reads");
    sender.join().expect("the sender ends");
    back
}
