//! Starting foreign programs, finding where they listen, and stopping them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// No peer needs longer for anything, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Where a program is; servers are often where only root looks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    let mut places = folders.chain(["/usr/sbin", "/sbin"]).map(|f| Path::new(f).join(program));
    places.find(|place| place.is_file())
}

/// Whether all of the programs are there; if not the file of absent things is told.
pub(crate) fn all_present(programs: &[&str]) -> bool {
    match programs.iter().find(|program| find(program).is_none()) {
        None => true,
        Some(absent) => {
            tell_absent(absent);
            false
        }
    }
}

/// Tells that a test could not run for want of `what`.
pub(crate) fn tell_absent(what: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("{what}: {}, {test}", env!("CARGO_PKG_NAME"));
    println!("not run, absent here: {line}");
    let file = std::env::var_os("TEPAL_ABSENT_FILE").unwrap_or_else(|| panic!("absent: {line}"));
    let mut file = File::options().append(true).create(true).open(file).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// A command of a program that [`find`] finds.
pub(crate) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| panic!("{program} was there a moment ago")))
}

/// How often a test repeats each way in which a connection ends: as often as the variable says, for
/// `make soak`, or once.
pub(crate) fn repeats() -> usize {
    let text = std::env::var("TEPAL_CLOSE_REPEATS").unwrap_or_default();
    text.parse().unwrap_or(1)
}

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let unique = format!("tepal-peers-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, as text for an argument.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().expect("a temporary folder in UTF-8")
    }

    /// Writes a file and returns its name.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), content).unwrap();
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder does no harm.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// A program of this test's, stopped with it.
pub(crate) struct Program {
    child: Child,
    name: String,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    pub(crate) stdin: Option<ChildStdin>,
}

#[derive(Default)]
struct Output {
    text: Mutex<String>,
    more: Condvar,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Output::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        let readers = streams.into_iter().flatten().map(|stream| {
            let output = Arc::clone(&output);
            std::thread::spawn(move || collect(stream, &output))
        });
        let readers = readers.collect();
        let stdin = child.stdin.take();
        let name = command.get_program().to_string_lossy().into_owned();
        Program { child, name, output, readers, stdin }
    }

    /// Starts a server that has to be told its port, and waits until it listens there. The port is
    /// the kernel's choice; if somebody else was quicker to take it, another one is tried.
    pub(crate) fn serve(make: impl Fn(u16) -> Command) -> (Program, SocketAddr) {
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let mut program = Program::start(&mut make(address.port()));
            if program.wait_until_listening(address.port()) {
                return (program, address);
            }
            println!("{}: {}", program.name, program.text());
        }
        panic!("a server that does not start; what it said is above");
    }

    // Whether it listens; `false` if it has ended.
    fn wait_until_listening(&mut self, port: u16) -> bool {
        let end = Instant::now() + PATIENCE;
        let wanted = format!(":{port:04X}");
        while Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let listens = ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
                let text = fs::read_to_string(table).unwrap_or_default();
                text.lines().any(|line| {
                    let mut words = line.split_ascii_whitespace().skip(1);
                    words.next().is_some_and(|local| local.ends_with(&wanted))
                        && words.nth(1) == Some("0A")
                })
            });
            if listens {
                return true;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        panic!("{} does not listen:\n{}", self.name, self.text());
    }

    /// What it has printed until now.
    pub(crate) fn text(&self) -> String {
        self.output.text.lock().unwrap().clone()
    }

    /// Waits until what it has printed satisfies `found`.
    pub(crate) fn wait_for<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut text = self.output.text.lock().unwrap();
        loop {
            if let Some(value) = found(&text) {
                return value;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} never said {what}:\n{text}", self.name);
            text = self.output.more.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Waits until it has printed these words.
    pub(crate) fn wait_for_text(&self, words: &str) {
        self.wait_for(words, |text| text.contains(words).then_some(()));
    }

    /// The number that it prints right behind `before`.
    pub(crate) fn wait_for_port(&self, before: &str) -> SocketAddr {
        let port = self.wait_for(before, |text| {
            let (_, rest) = text.split_once(before)?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            // The line must be whole, else digits may be missing.
            (digits.len() < rest.len()).then(|| digits.parse().ok()).flatten()
        });
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a signal. One that is stopped stands when this returns, with all its threads: until
    /// then another of them might still answer.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        if signal == Signal::STOP {
            let waited = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
            assert!(waited.is_some_and(|(_, status)| status.stopped()), "{} ended", self.name);
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "{} does not end:\n{}", self.name, self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end and returns all it has printed.
    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let status = self.wait();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let text = self.text();
        (status, text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A request first, so that it can stop helpers of its own; it may have ended already.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::CONT);
            self.signal(Signal::TERM);
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end && self.child.try_wait().is_ok_and(|s| s.is_none()) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn collect(mut stream: Box<dyn Read + Send>, output: &Output) {
    let mut block = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        let text = String::from_utf8_lossy(&block[..count]);
        output.text.lock().unwrap().push_str(&text);
        output.more.notify_all();
    }
}
