//! A program that is given a connection as its standard input and output.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use tepal::{
    Command, ExitStatus, Process, ProcessProtocol, Protocol, Side, Stack, Stdio, Transport,
};

use super::talk::Talk;
use crate::exit::Exit;

/// Our end of the pair of sockets that the program has the other end of.
struct Pair(Rc<Talk>);

/// The program.
struct Child {
    talk: Rc<Talk>,
    name: String,
}

/// Starts the program and joins it to the client. It stands in a process group of its own, so that
/// a terminal's interrupt lets it end with its connection.
pub(super) fn start(talk: &Rc<Talk>, program: &OsStr, arguments: &[OsString]) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let command = Command {
        program: program.to_owned(),
        args: arguments.to_vec(),
        envs: vec![("TEPAL_PEER".into(), Some(talk.peer.to_string().into()))],
        stdin: Stdio::Fd(theirs.try_clone()?),
        stdout: Stdio::Fd(theirs),
        process_group: true,
        ..Command::default()
    };
    let name = program.to_string_lossy().into_owned();
    let lp = &talk.station.lp;
    let process = lp.subprocess(Child { talk: Rc::clone(talk), name }, command)?;
    talk.report.phase("started", format_args!("process {}", process.pid()));
    talk.station.children.borrow_mut().push(process.clone());
    let stack = match talk.station.front.lines {
        // Both sides have frames then, and what is joined is lines.
        Some(most) => Stack::new().with(tepal::Lines::new(most)),
        None => Stack::new(),
    };
    talk.child.replace(Some(process));
    lp.attach_with(Pair(Rc::clone(talk)), ours.into(), stack, Side::Server)?;
    Ok(())
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
        match status.success() {
            true => talk.report.phase("program", "ended well"),
            false => talk.fail(Exit::Child, format_args!("{}: {status}", self.name)),
        }
    }
}
