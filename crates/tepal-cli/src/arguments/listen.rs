use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Arg, Parser};

use super::services::Services;
use super::{Command, limit, text, unknown, value};
use crate::chain::{Chain, End, Mistake, count};
use crate::help;
use crate::report::Verbosity;
use crate::service::Service;

/// `tepal listen`.
pub(crate) struct Listen {
    pub(crate) chain: Chain,
    pub(crate) service: Service,
    pub(crate) verbosity: Verbosity,
    /// It is not told where it listens.
    pub(crate) quiet: bool,
    /// One connection is accepted, and its end is ours.
    pub(crate) once: bool,
    /// How many connections there may be at each address.
    pub(crate) max_connections: Option<u32>,
    /// How long connections may take to end by themselves after the first signal.
    pub(crate) drain: Duration,
}

pub(super) fn parse(mut parser: Parser) -> Result<Command, Mistake> {
    const OPTIONS: [&str; 14] = [
        "to",
        "echo",
        "exec",
        "stdio",
        "pty",
        "once",
        "max-connections",
        "drain",
        "after-input",
        "after-peer",
        "keep-open",
        "quiet",
        "verbose",
        "help",
    ];
    let mut services = Services::default();
    let (mut verbosity, mut quiet, mut once) = (Verbosity::default(), false, false);
    let (mut max_connections, mut drain) = (None, Duration::from_secs(30));
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => services.word(text(word)?),
            Short('v') | Long("verbose") => verbosity.0 += 1,
            Short('q') | Long("quiet") => quiet = true,
            Short('h') | Long("help") => return Ok(Command::Print(help::listen())),
            Long("once") => once = true,
            Long("max-connections") => {
                max_connections = Some(value(&mut parser, "--max-connections", count)?);
            }
            // A year is longer than anybody waits.
            Long("drain") => {
                let limit = value(&mut parser, "--drain", limit)?;
                drain = limit.unwrap_or(Duration::from_secs(366 * 86_400));
            }
            Long(name) => {
                let name = name.to_owned();
                if !services.option(&name, &mut parser)? {
                    return Err(unknown(&Arg::Long(&name), &OPTIONS));
                }
            }
            other => return Err(unknown(&other, &OPTIONS)),
        }
    }
    let (chain, service) = services.finish(End::Accepts)?;
    // There is one standard input.
    once |= matches!(service, Service::Stdio(_));
    let listen = Listen { chain, service, verbosity, quiet, once, max_connections, drain };
    Ok(Command::Listen(Box::new(listen)))
}
