use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;
use tepal::names::{Family, RecordType};

use super::{Command, text, unknown, value};
use crate::chain::{Mistake, span};
use crate::help;
use crate::near::suggestion;
use crate::report::Verbosity;
use crate::resolve::{TYPES, family};

/// `tepal resolve`.
pub(crate) struct Resolve {
    pub(crate) question: Question,
    pub(crate) verbosity: Verbosity,
    /// Whom to ask instead of the system's servers.
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) timeout: Option<Duration>,
    /// Only the data of records.
    pub(crate) short: bool,
}

/// What is to be resolved.
pub(crate) enum Question {
    Addresses(String, Family),
    Name(IpAddr),
    Records(String, Vec<RecordType>),
}

pub(super) fn parse(mut parser: Parser) -> Result<Command, Mistake> {
    const OPTIONS: [&str; 6] = ["server", "timeout", "short", "reverse", "verbose", "help"];
    let mut words = Vec::new();
    let (mut servers, mut timeout, mut short) = (Vec::new(), None, false);
    let (mut four, mut six, mut reverse) = (false, false, None);
    let mut verbosity = Verbosity::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => words.push(text(word)?),
            Short('4') => four = true,
            Short('6') => six = true,
            Short('x') | Long("reverse") => {
                let wrong = |_| "is an IP address: 192.0.2.1 or ::1".to_owned();
                reverse = Some(value(&mut parser, "-x", |text| text.parse().map_err(wrong))?);
            }
            Long("server") => servers.push(value(&mut parser, "--server", server)?),
            Long("timeout") => timeout = Some(value(&mut parser, "--timeout", span)?),
            Long("short") => short = true,
            Short('v') | Long("verbose") => verbosity.0 += 1,
            Short('h') | Long("help") => return Ok(Command::Print(help::resolve())),
            other => return Err(unknown(&other, &OPTIONS)),
        }
    }
    let question = match (words.split_first(), reverse) {
        (None, Some(address)) => Question::Name(address),
        (Some((word, _)), Some(_)) => {
            return Err(Mistake::at(word, 0, "-x ADDRESS stands for itself, without a NAME"));
        }
        (None, None) => {
            return Err(Mistake::new("say which NAME to resolve; see 'tepal help resolve'"));
        }
        (Some((name, [])), None) => Question::Addresses(name.clone(), family(four, six)),
        (Some((name, types)), None) => {
            let types = types.iter().map(|word| record_type(word)).collect::<Result<_, _>>()?;
            Question::Records(name.clone(), types)
        }
    };
    Ok(Command::Resolve(Resolve { question, verbosity, servers, timeout, short }))
}

fn record_type(word: &str) -> Result<RecordType, Mistake> {
    word.parse().map_err(|_| {
        let upper = word.to_ascii_uppercase();
        let near = suggestion(&upper, TYPES);
        let all = TYPES.join(", ");
        Mistake::at(word, 0, format!("no record type '{word}'{near} ({all}, TYPE and a number)"))
    })
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = inner.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    let address = address.or_else(|_| text.parse());
    address.map_err(|_| "is an address, maybe with a port: 192.0.2.53, [::1]:5353".to_owned())
}
