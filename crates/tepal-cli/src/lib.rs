//! The command `tepal`: connections as stacks, from the shell.
//!
//! A *chain* is a list of arguments from the wire upward, each `name:host:port,option=value`. The
//! command joins a chain to standard input and output, accepts connections and passes them on, or tells
//! what a name means:
//!
//! ```text
//! tepal connect tcp:example.org:443 tls
//! tepal listen tcp:127.0.0.1:8443 tls,cert=c.pem,key=k.pem --to tcp:127.0.0.1:8080
//! tepal resolve example.org MX
//! ```
//!
//! Everything here is done by the public interface of the crate `tepal`; this crate reads the
//! command line, and tells in words and in the exit status what came of it. `tepal --help` is its
//! documentation.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod arguments;
mod chain;
mod connect;
mod datagrams;
mod exit;
mod help;
mod hint;
mod listen;
mod near;
mod report;
mod resolve;
mod service;
mod stdio;

use std::ffi::OsString;
use std::io::{self, Write};

use arguments::Command;
use exit::{Exit, Failure};

/// Runs the command with these arguments, the program's name not among them, and returns its exit
/// status. It reads standard input and writes to standard output and standard error.
///
/// An interrupt is to have its default action when this is called: `connect` and `resolve` end by it,
/// and `listen` handles it while it runs.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    // Each connection is a descriptor. Where the limit cannot be raised, fewer will do.
    let _ = tepal::raise_descriptor_limit();
    let outcome = match arguments::parse(arguments) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Connect(connect)) => connect::run(*connect),
        Ok(Command::Listen(listen)) => listen::run(*listen),
        Ok(Command::Resolve(resolve)) => resolve::run(resolve),
        Err(mistake) => Err(Failure::new(mistake.exit, mistake)),
    };
    let exit = match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            failure.tell();
            failure.exit
        }
    };
    exit.code()
}

fn print(text: &str) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::of_output(&error)),
    }
}
