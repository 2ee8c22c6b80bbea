use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::cpu;
use crate::options::Failure;

/// Another process of a measurement: a server or a relay. It is ended when this value goes.
pub(crate) struct Program {
    child: Child,
    /// The process to measure: the child, or under a wrapper the child's child.
    pub(crate) process: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    // Kept open: a program that writes to a closed pipe would die of it.
    _output: Box<dyn BufRead>,
}

impl Program {
    /// Starts this program again with other words, pinned to a core, behind the words of `wrapper`
    /// if there are any, and waits for the line that [`announce`] prints.
    pub(crate) fn own(wrapper: &[&str], words: &[&str], core: usize) -> Result<Program, Failure> {
        let mut command = own_command(wrapper)?;
        command.args(words).stdout(Stdio::piped());
        let mut child = spawn(&mut command, core)?;
        let output = child.stdout.take();
        Program::wait_for_line(child, output, |line| {
            let mut parts = line.strip_prefix("listening ")?.split_whitespace();
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
    }

    /// Starts socat as a relay to `target`, pinned to a core.
    pub(crate) fn socat(target: SocketAddr, core: usize) -> Result<Program, Failure> {
        let mut command = Command::new("socat");
        // -d -d makes it tell, on standard error, which port the kernel chose.
        command
            .args(["-d", "-d", "-b", "65536", "TCP4-LISTEN:0,bind=127.0.0.1,nodelay"])
            .arg(format!("TCP4:{target},nodelay"))
            .stderr(Stdio::piped());
        let mut child = spawn(&mut command, core)?;
        let (output, process) = (child.stderr.take(), child.id());
        Program::wait_for_line(child, output, |line| {
            let (_, address) = line.split_once("listening on AF=2 ")?;
            Some((address.trim().parse().ok()?, process))
        })
    }

    fn wait_for_line(
        child: Child,
        output: Option<impl Read + 'static>,
        parse: impl Fn(&str) -> Option<(SocketAddr, u32)>,
    ) -> Result<Program, Failure> {
        let process = child.id();
        let output = output.ok_or_else(|| Failure::run("a program without output"))?;
        let mut program = Program {
            child,
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            _output: Box::new(BufReader::new(output)),
        };
        let mut line = String::new();
        loop {
            line.clear();
            if program._output.read_line(&mut line)? == 0 {
                return Err(Failure::run("a program ended before it listened"));
            }
            if let Some((address, process)) = parse(&line) {
                (program.address, program.process) = (address, process);
                return Ok(program);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The measured process first, politely: a wrapper then has something to report.
        let measured = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        let ended = match measured {
            Some(process) => rustix::process::kill_process(process, Signal::TERM).is_ok(),
            None => false,
        };
        if !ended {
            // It has ended already, or there is nothing else to end it by.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Tells the runner where a server listens, and who it is.
pub(crate) fn announce(address: SocketAddr) {
    println!("listening {address} {}", std::process::id());
}

/// What every server does first: it ends with its runner, whatever ends that, and may have many
/// descriptors.
pub(crate) fn enter() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    cpu::raise_descriptor_limit();
    Ok(())
}

/// A command that starts this program again.
pub(crate) fn own_command(wrapper: &[&str]) -> Result<Command, Failure> {
    let own = std::env::current_exe()?;
    Ok(match wrapper.split_first() {
        None => Command::new(own),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(own);
            command
        }
    })
}

/// Starts a process on a core, without standard input.
pub(crate) fn spawn(command: &mut Command, core: usize) -> Result<Child, Failure> {
    spawn_on(command.stdin(Stdio::null()), core)
}

/// Starts a process on a core, with a pipe as its standard input.
pub(crate) fn spawn_with_input(command: &mut Command, core: usize) -> Result<Child, Failure> {
    spawn_on(command.stdin(Stdio::piped()), core)
}

/// A child inherits the affinity of the thread that starts it, so that goes there for a moment.
fn spawn_on(command: &mut Command, core: usize) -> Result<Child, Failure> {
    let before = sched_getaffinity(None)?;
    cpu::pin(core)?;
    let child = command.spawn();
    sched_setaffinity(None, &before)?;
    child.map_err(|e| Failure::run(format!("{:?}: {e}", command.get_program())))
}
