//! Errands of every kind that is neither a TCP connection nor a datagram: files, joins, pipes, Unix
//! sockets, watchers, signals and children. Whichever call of the driver fails in one of them, it
//! ends in time, without a panic, the next one on the same loop succeeds, and no descriptor and no
//! child is left behind.
//!
//! They count the descriptors and the children of the process, so they take turns.

mod common;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{Echo, open_descriptors};
use tepal::{
    Command, EventLoop, Interest, Loop, ProcessProtocol, Protocol, SocketOption, Stdio, Target,
    Transport,
};
use tepal_driver::faults::{FaultDriver, Faults};

const SIGNAL: tepal::Signal = libc::SIGUSR2;

/// A fault may cost a message, and then somebody waits for it: so long.
const PATIENCE: Duration = Duration::from_millis(25);

/// Takes what comes.
struct Quiet;

impl Protocol for Quiet {}
impl ProcessProtocol for Quiet {}

/// Waits for the end of a connection, and brings it about if need be.
async fn ended(lp: &Loop, transport: &Transport) {
    let waiting = async {
        while transport.closed().is_none() {
            lp.sleep(Duration::from_micros(200)).await;
        }
    };
    if lp.timeout(PATIENCE, waiting).await.is_ok() {
        return;
    }
    transport.abort();
    lp.sleep(Duration::from_millis(1)).await;
    assert!(transport.closed().is_some(), "an aborted connection has no end");
}

async fn file(lp: &Loop) -> io::Result<()> {
    let (ours, _theirs) = UnixStream::pair()?;
    let transport = lp.attach(Quiet, ours.into())?;
    transport.write(b"before ");
    let result = match transport.send_file(File::open("/proc/self/exe")?, 64, 10_000) {
        Ok(sent) => lp.timeout(PATIENCE, sent).await.unwrap_or(Ok(0)).map(|_| ()),
        Err(error) => Err(error),
    };
    transport.write(b" behind");
    transport.close();
    ended(lp, &transport).await;
    result
}

async fn join(lp: &Loop) -> io::Result<()> {
    let (mut far, near) = UnixStream::pair()?;
    let (next, mut last) = UnixStream::pair()?;
    far.write_all(&[1; 100_000])?;
    last.write_all(b"and back")?;
    far.shutdown(Shutdown::Write)?;
    last.shutdown(Shutdown::Write)?;
    let one = lp.attach(Quiet, near.into())?;
    one.pause_reading();
    let result = match lp.attach(Quiet, next.into()) {
        Ok(other) => {
            other.pause_reading();
            drop(lp.timeout(PATIENCE, other.established()).await);
            let result = match one.join(&other) {
                Ok(joined) => lp.timeout(PATIENCE, joined).await.unwrap_or(Ok((0, 0))).map(|_| ()),
                Err(error) => Err(error),
            };
            other.close();
            ended(lp, &other).await;
            result
        }
        Err(error) => Err(error),
    };
    one.close();
    ended(lp, &one).await;
    result
}

async fn pipe(lp: &Loop) -> io::Result<()> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(b"through a pipe")?;
    drop(writer);
    let transport = lp.attach(Quiet, reader.into())?;
    ended(lp, &transport).await;
    Ok(())
}

async fn unix(lp: &Loop, path: &Path) -> io::Result<()> {
    // Left over by a process that did not clean up.
    drop(UnixListener::bind(path));
    let server = lp.listen(|_| Echo, path)?;
    let transport = lp.connect(Quiet, Target::unix(path));
    transport.write(b"hello");
    let result = lp.timeout(PATIENCE, transport.established()).await;
    let option = transport.set_option(&SocketOption::SendBuffer(10_000));
    let asked = transport.peer_address().and(transport.local_address());
    transport.close();
    ended(lp, &transport).await;
    server.abort_connections();
    server.close();
    drop((result, asked));
    option
}

async fn watch(lp: &Loop) -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"x")?;
    let mut watcher = lp.watch(ours.as_raw_fd(), Interest::READ, |_, _| ())?;
    watcher.start()?;
    lp.sleep(Duration::from_micros(100)).await;
    watcher.set(Interest::READ | Interest::WRITE)?;
    lp.sleep(Duration::from_micros(100)).await;
    watcher.stop()
}

async fn signal(lp: &Loop) -> io::Result<()> {
    lp.add_signal_handler(SIGNAL, |_, _| ())?;
    // SAFETY: sends this thread, before it returns, a signal that was just given a handler.
    assert_eq!(unsafe { libc::raise(SIGNAL) }, 0);
    lp.sleep(Duration::from_micros(100)).await;
    lp.remove_signal_handler(SIGNAL).map(|_| ())
}

async fn child(lp: &Loop) -> io::Result<()> {
    let command = Command {
        program: "cat".into(),
        stdin: Stdio::Piped,
        stdout: Stdio::Piped,
        ..Command::default()
    };
    let process = lp.subprocess(Quiet, command)?;
    if let Some(stdin) = process.pipe(0) {
        stdin.write(b"something");
        stdin.close();
    }
    if lp.timeout(4 * PATIENCE, process.wait()).await.is_err() {
        // The one call that fails may be this one.
        let _ = process.kill().or_else(|_| process.kill());
        process.wait().await;
    }
    process.close();
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Errand {
    File,
    Join,
    Pipe,
    Unix,
    Watch,
    Signal,
    Child,
}

impl Errand {
    async fn run(self, lp: &Loop, path: &Path) -> io::Result<()> {
        match self {
            Errand::File => file(lp).await,
            Errand::Join => join(lp).await,
            Errand::Pipe => pipe(lp).await,
            Errand::Unix => unix(lp, path).await,
            Errand::Watch => watch(lp).await,
            Errand::Signal => signal(lp).await,
            Errand::Child => child(lp).await,
        }
    }
}

/// Runs one errand on a loop; its result, and what was wrong. An error is an answer here.
fn run(
    event_loop: &EventLoop,
    errand: Errand,
    path: &Path,
) -> (Option<io::Result<()>>, Vec<String>) {
    let problems: Rc<RefCell<Vec<String>>> = Rc::default();
    let result = Rc::new(RefCell::new(None));
    let note = Rc::clone(&problems);
    event_loop.set_panic_hook(move |panic| {
        let text = panic.downcast_ref::<&str>().copied().unwrap_or("a panic");
        note.borrow_mut().push(text.to_owned());
        ControlFlow::Continue(())
    });
    event_loop.set_trouble_hook(|_, _| ());
    let (lp, path, place) = ((**event_loop).clone(), path.to_owned(), Rc::clone(&result));
    event_loop.spawn(async move {
        let done = errand.run(&lp, &path).await;
        *place.borrow_mut() = Some(done);
        lp.stop();
    });
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    let limit = event_loop.call_later(Duration::from_secs(5), move |lp| {
        flag.set(true);
        lp.stop();
    });
    while result.borrow().is_none() && !late.get() && problems.borrow().is_empty() {
        // A wait that fails ends the run, and the loop can run again.
        let _ = event_loop.run_forever();
    }
    limit.cancel();
    if late.get() {
        problems.borrow_mut().push(format!("{errand:?} did not end"));
    }
    (result.take(), problems.take())
}

/// Whether this process has a child, running or not reaped.
fn has_child() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all zeroes is a value of this plain record.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to the record, and to nothing else.
    let found = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    found == 0
}

/// What is left once a child that was killed has had the time to die. A driver that is dropped
/// reaps those that others have left behind.
fn left_behind(driver: &str) -> (usize, bool) {
    for _ in 0..1000 {
        drop(tepal_driver::open_driver(Some(driver)).expect("a driver"));
        if !has_child() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (open_descriptors(), has_child())
}

const ERRORS: [i32; 11] = [
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::ENOBUFS,
    libc::ECONNRESET,
    libc::EPIPE,
    libc::ETIMEDOUT,
    libc::EINVAL,
    libc::EAGAIN,
    libc::EIO,
    libc::EACCES,
];

/// Each call of an errand fails by two of the errors, other ones from call to call.
fn every_failure(errand: Errand) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::env::temp_dir().join(format!("tepal-{errand:?}-{}", std::process::id()));
    let mut problems = Vec::new();
    for driver in tepal_driver::driver_names() {
        let open = || {
            let faults = Faults::new(1);
            let driver = tepal_driver::open_driver(Some(driver)).expect("a driver");
            let driver = FaultDriver::new(driver, &faults);
            (EventLoop::with_driver(Box::new(driver)), faults)
        };
        let (event_loop, faults) = open();
        let (result, found) = run(&event_loop, errand, &path);
        assert!(found.is_empty() && matches!(result, Some(Ok(()))), "{found:?} {result:?}");
        let calls = faults.calls();
        drop(event_loop);
        for (nth, n) in (1..=calls).flat_map(|nth| (0..2).map(move |n| (nth, n))) {
            let errno = ERRORS[(nth + 5 * n) as usize % ERRORS.len()];
            let before = open_descriptors();
            let (event_loop, faults) = open();
            faults.fail_any(nth, errno);
            let (_, mut found) = run(&event_loop, errand, &path);
            faults.clear();
            // Whatever failed, the loop is as good as before.
            let (result, more) = run(&event_loop, Errand::Pipe, &path);
            found.extend(more);
            drop(event_loop);
            let mut problem = |text: String| {
                problems.push(format!("{driver}, call {nth} of {calls}, error {errno}: {text}"));
            };
            if !matches!(result, Some(Ok(()))) {
                problem(format!("the next one: {result:?}"));
            }
            found.into_iter().for_each(&mut problem);
            let (after, child) = left_behind(driver);
            if after != before || child {
                problem(format!("{after} descriptors, {before} before, a child: {child}"));
            }
        }
    }
    // The listener may have failed before it took the file away.
    let _ = std::fs::remove_file(&path);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn whichever_call_fails_sending_a_file_ends() {
    every_failure(Errand::File);
}

#[test]
fn whichever_call_fails_a_join_ends() {
    every_failure(Errand::Join);
}

#[test]
fn whichever_call_fails_reading_a_pipe_ends() {
    every_failure(Errand::Pipe);
}

#[test]
fn whichever_call_fails_a_unix_socket_ends() {
    every_failure(Errand::Unix);
}

#[test]
fn whichever_call_fails_a_watcher_ends() {
    every_failure(Errand::Watch);
}

#[test]
fn whichever_call_fails_listening_for_a_signal_ends() {
    every_failure(Errand::Signal);
}

#[test]
fn whichever_call_fails_a_child_ends() {
    every_failure(Errand::Child);
}
