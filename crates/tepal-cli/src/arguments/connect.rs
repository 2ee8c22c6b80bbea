use lexopt::Arg::{Long, Short, Value};
use lexopt::{Arg, Parser};

use super::services::Services;
use super::{Command, read, text, unknown};
use crate::chain::{Chain, End, Mistake, count};
use crate::help;
use crate::report::Verbosity;
use crate::service::Service;

/// `tepal connect`.
pub(crate) struct Connect {
    pub(crate) chain: Chain,
    pub(crate) service: Service,
    pub(crate) verbosity: Verbosity,
    /// How often a peer that was not reached is tried again; the inner `None`: always.
    pub(crate) retry: Option<Option<u32>>,
}

pub(super) fn parse(mut parser: Parser) -> Result<Command, Mistake> {
    const OPTIONS: [&str; 10] = [
        "retry",
        "after-input",
        "after-peer",
        "keep-open",
        "to",
        "echo",
        "exec",
        "pty",
        "verbose",
        "help",
    ];
    let mut services = Services::default();
    let (mut verbosity, mut retry) = (Verbosity::default(), None);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => services.word(text(word)?),
            Short('v') | Long("verbose") => verbosity.0 += 1,
            Short('h') | Long("help") => return Ok(Command::Print(help::connect())),
            Long("retry") => {
                let times = parser.optional_value().map(text).transpose()?;
                retry = Some(times.map(|text| read("--retry", &text, count)).transpose()?);
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
    let (chain, service) = services.finish(End::Connects)?;
    Ok(Command::Connect(Box::new(Connect { chain, service, verbosity, retry })))
}
