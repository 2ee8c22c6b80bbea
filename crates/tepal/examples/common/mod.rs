//! What the examples share: their command line, and the orderly end by a signal.

#![allow(dead_code, unreachable_pub, reason = "each example uses its own part")]

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use tepal::{EventLoop, Server, Signal};

pub const SIGINT: Signal = 2;
pub const SIGTERM: Signal = 15;

/// How long connections may take to end by themselves once a signal has come.
const DRAIN: Duration = Duration::from_secs(3);

/// What an example's work results in.
pub type Done<T = ()> = Result<T, Box<dyn Error>>;

/// The arguments after the program's name.
pub struct Arguments(std::iter::Peekable<std::vec::IntoIter<String>>);

/// Parses the command line and runs the example. The exit code is 0, 1 if the work failed, or 2 if
/// the command line was wrong; `--help` prints the usage, whose first word names the program.
pub fn main<A, T: Termination>(
    usage: &str,
    parse: impl FnOnce(&mut Arguments) -> Result<A, String>,
    run: impl FnOnce(A) -> Done<T>,
) -> ExitCode {
    let name = usage.split_whitespace().next().unwrap_or_default();
    let texts = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned());
    let texts: Vec<String> = texts.collect();
    if matches!(texts.first().map(String::as_str), Some("--help" | "-h")) {
        println!("usage: {usage}");
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments(texts.into_iter().peekable());
    let parsed = parse(&mut arguments).and_then(|parsed| match arguments.0.next() {
        None => Ok(parsed),
        Some(text) => Err(format!("'{text}' is one argument too many")),
    });
    // Each connection is a descriptor. Where the limit cannot be raised, fewer will do.
    let _ = tepal::raise_descriptor_limit();
    match parsed.map(run) {
        Ok(Ok(value)) => value.report(),
        Ok(Err(error)) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{name}: {problem}\n\nusage: {usage}");
            ExitCode::from(2)
        }
    }
}

impl Arguments {
    /// The next argument, an IP address and port; `what` names it.
    pub fn address(&mut self, what: &str) -> Result<SocketAddr, String> {
        let text = self.0.next().ok_or_else(|| format!("{what} is missing"))?;
        text.parse().map_err(|_| format!("'{text}' is no {what}, such as 127.0.0.1:7000"))
    }

    /// The next argument, if it begins with `--`.
    pub fn option(&mut self) -> Option<String> {
        self.0.next_if(|text| text.starts_with("--"))
    }

    /// The next argument, whatever it is; `what` names it.
    pub fn text(&mut self, what: &str) -> Result<String, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// All that is left.
    pub fn rest(&mut self) -> Vec<String> {
        self.0.by_ref().collect()
    }

    /// The number after an option, at least 1.
    pub fn number(&mut self, option: &str) -> Result<usize, String> {
        let text = self.0.next().ok_or_else(|| format!("{option} needs a number"))?;
        match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{option} needs a number above zero, not '{text}'")),
        }
    }
}

/// Prints where a server listens, at once, so that a program that waits for the line gets it.
pub fn announce(server: &Server) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for address in server.local_addresses() {
        writeln!(out, "listening on {address}")?;
    }
    out.flush()
}

/// Runs until SIGINT or SIGTERM, then accepts no more, lets connections end by themselves for
/// three seconds, aborts the rest, and returns. A second signal ends the wait.
pub fn serve(event_loop: &EventLoop, server: Server) -> io::Result<()> {
    let server = RefCell::new(Some(server));
    on_signals(event_loop, move |lp| match server.take() {
        Some(server) => {
            let (count, stop) = (server.connection_count(), lp.clone());
            // Accepts no more from here on, before the future runs.
            let drain = server.drain(DRAIN);
            println!("draining {count} connections");
            lp.spawn(async move {
                let aborted = drain.await;
                println!("drained, {aborted} aborted");
                stop.stop();
            });
        }
        None => lp.stop(),
    })?;
    event_loop.run_forever()
}

/// Runs `callback` on SIGINT and on SIGTERM.
pub fn on_signals(
    event_loop: &EventLoop,
    callback: impl FnMut(&tepal::Loop) + 'static,
) -> io::Result<()> {
    let callback = std::rc::Rc::new(RefCell::new(callback));
    for signal in [SIGINT, SIGTERM] {
        let callback = callback.clone();
        event_loop.add_signal_handler(signal, move |lp, _| (callback.borrow_mut())(lp))?;
    }
    Ok(())
}
