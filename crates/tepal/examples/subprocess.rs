//! Runs a child process, writes to its standard input and reads its two outputs, in one thread.

mod common;

use std::cell::Cell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;

use common::Done;
use tepal::{Command, EventLoop, ExitStatus, Loop, Process, ProcessProtocol, Stdio};

const USAGE: &str = "subprocess [--input TEXT] PROGRAM [ARGUMENT]...

Runs PROGRAM, writes TEXT (nothing) to its standard input and ends that, passes on what it
writes to its two outputs, and tells how it ended. The exit code is the child's, or 128 and
the signal's number. SIGINT and SIGTERM are passed on as SIGTERM.";

struct Arguments {
    input: String,
    command: Command,
}

/// What the child wrote, by descriptor.
#[derive(Default)]
struct Counts([Cell<u64>; 3]);

struct Child {
    lp: Loop,
    counts: Rc<Counts>,
}

impl ProcessProtocol for Child {
    fn pipe_data_received(&mut self, _: &Process, fd: i32, data: &[u8]) -> usize {
        // Our own outputs are written to with blocking calls: a slow reader of ours holds the
        // child up, and here nothing else waits for the loop.
        let written = match fd {
            1 => io::stdout().write_all(data),
            _ => io::stderr().write_all(data),
        };
        if let Err(error) = written {
            eprintln!("subprocess: {error}");
        }
        if let Some(count) = self.counts.0.get(fd as usize) {
            count.set(count.get() + data.len() as u64);
        }
        data.len()
    }

    // Comes after the exit and after the last byte of both pipes.
    fn connection_lost(&mut self, _: &Process) {
        self.lp.stop();
    }
}

fn parse(arguments: &mut common::Arguments) -> Result<Arguments, String> {
    let mut input = String::new();
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--input" => input = arguments.text("the TEXT of --input")?,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    let command = Command {
        program: arguments.text("PROGRAM")?.into(),
        args: arguments.rest().into_iter().map(Into::into).collect(),
        stdin: Stdio::Piped,
        stdout: Stdio::Piped,
        stderr: Stdio::Piped,
        ..Command::default()
    };
    Ok(Arguments { input, command })
}

fn run(arguments: Arguments) -> Done<ExitCode> {
    let event_loop = EventLoop::new()?;
    let counts = Rc::new(Counts::default());
    let child = Child { lp: (*event_loop).clone(), counts: Rc::clone(&counts) };
    let process = event_loop.subprocess(child, arguments.command)?;
    if let Some(stdin) = process.pipe(0) {
        stdin.write(arguments.input.as_bytes());
        // The child reads its end of input once all of it has left.
        stdin.close();
    }
    let signalled = process.clone();
    common::on_signals(&event_loop, move |_| {
        // An error means that it has ended, which was the aim.
        let _ = signalled.terminate();
    })?;
    event_loop.run_forever()?;

    let status = process.status().unwrap_or(ExitStatus::Unknown);
    io::stdout().flush()?;
    let [_, out, err] = &counts.0;
    eprintln!("subprocess: {status}, {} bytes out, {} to errors", out.get(), err.get());
    let code = match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
        _ => 1,
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn main() -> ExitCode {
    common::main(USAGE, parse, run)
}
