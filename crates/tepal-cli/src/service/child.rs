//! A program that is given a connection as its standard input and output.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use tepal::{
    Command, ExitStatus, Process, ProcessProtocol, Protocol, Side, Stack, Stdio, Transport,
};

use super::Program;
use super::keyboard::Keyboard;
use super::talk::{SIGHUP, Talk};
use crate::exit::Exit;

/// Our end of the pair of sockets that the program has the other end of.
struct Pair(Rc<Talk>);

/// The program.
struct Child {
    talk: Rc<Talk>,
    name: String,
    pty: bool,
}

/// Starts the program and joins it to the connection. It stands in a process group of its own, so
/// that a terminal's interrupt lets it end with its connection.
pub(super) fn start(talk: &Rc<Talk>, program: &Program) -> io::Result<()> {
    let peer = talk.peer.get().map(|peer| peer.to_string().into());
    let command = Command {
        program: program.name.clone(),
        args: program.arguments.clone(),
        envs: vec![("TEPAL_PEER".into(), peer)],
        process_group: true,
        ..Command::default()
    };
    let name = program.name.to_string_lossy().into_owned();
    let child = Child { talk: Rc::clone(talk), name, pty: program.pty };
    match program.pty {
        true => start_in_terminal(child, command),
        false => start_with_pair(child, command),
    }
}

fn start_with_pair(child: Child, command: Command) -> io::Result<()> {
    let talk = Rc::clone(&child.talk);
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let stdin = Stdio::Fd(theirs.try_clone()?);
    begin(child, Command { stdin, stdout: Stdio::Fd(theirs), ..command })?;
    let stack = match talk.station.front.lines {
        // Both sides have frames then, and what is joined is lines.
        Some(most) => Stack::new().with(tepal::Lines::new(most)),
        None => Stack::new(),
    };
    talk.station.lp.attach_with(Pair(Rc::clone(&talk)), ours.into(), stack, Side::Server)?;
    Ok(())
}

fn start_in_terminal(child: Child, command: Command) -> io::Result<()> {
    let talk = Rc::clone(&child.talk);
    let process = begin(child, Command { pty: true, ..command })?;
    // It stands in the next turn, as every transport.
    let lp = talk.station.lp.clone();
    lp.call_soon(move |_| {
        let Some(terminal) = process.pipe(0) else { return };
        match terminal.push_layer(Keyboard) {
            Ok(_) => talk.join(&terminal),
            // The program has gone already, and the terminal with it.
            Err(_) => talk.hang_up(),
        }
    });
    Ok(())
}

fn begin(child: Child, command: Command) -> io::Result<Process> {
    let talk = Rc::clone(&child.talk);
    let process = talk.station.lp.subprocess(child, command)?;
    talk.report.phase("started", format_args!("process {}", process.pid()));
    talk.station.children.borrow_mut().push(process.clone());
    talk.child.replace(Some(process.clone()));
    Ok(process)
}

impl Protocol for Pair {
    fn connection_established(&mut self, transport: &Transport) {
        self.0.join(transport);
    }
}

impl ProcessProtocol for Child {
    fn process_exited(&mut self, process: &Process, status: ExitStatus) {
        let talk = &self.talk;
        talk.child.take();
        talk.station.children.borrow_mut().retain(|child| child.pid() != process.pid());
        // That is how the end of a terminal is told: also to a program that has let go of it itself, and
        // is about to end.
        let hung_up = self.pty && status == ExitStatus::Signal(SIGHUP);
        match status.success() {
            true => talk.report.phase("program", "ended well"),
            false if hung_up => talk.report.phase("program", "ended with its terminal"),
            false => talk.fail(Exit::Child, format_args!("{}: {status}", self.name)),
        }
    }
}
