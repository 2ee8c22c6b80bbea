//! The command line, understood.

mod connect;
mod listen;
mod resolve;
mod services;

use std::ffi::OsString;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};

use crate::chain::{Mistake, span};
use crate::help;
use crate::near::suggestion;
pub(crate) use connect::Connect;
pub(crate) use listen::Listen;
pub(crate) use resolve::{Question, Resolve};

/// What is to be done.
pub(crate) enum Command {
    /// Print a text: help, or the version.
    Print(String),
    Connect(Box<Connect>),
    Listen(Box<Listen>),
    Resolve(Resolve),
}

const COMMANDS: [&str; 4] = ["connect", "listen", "resolve", "help"];

/// Understands the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Mistake> {
    let mut parser = Parser::from_args(arguments);
    match parser.next()? {
        None => Err(Mistake::new("say what to do: connect, listen or resolve; see 'tepal --help'")),
        Some(Short('h') | Long("help")) => Ok(Command::Print(help::overview())),
        Some(Short('V') | Long("version")) => Ok(Command::Print(help::version())),
        Some(Value(word)) => {
            let word = text(word)?;
            match word.as_str() {
                "connect" => connect::parse(parser),
                "listen" => listen::parse(parser),
                "resolve" => resolve::parse(parser),
                "help" => help_about(parser),
                _ => {
                    let near = suggestion(&word, COMMANDS);
                    let all = COMMANDS.join(", ");
                    Err(Mistake::at(&word, 0, format!("no command '{word}'{near} ({all})")))
                }
            }
        }
        Some(other) => {
            Err(Mistake::new(format!("{} before the command; see 'tepal --help'", shown(&other))))
        }
    }
}

fn help_about(mut parser: Parser) -> Result<Command, Mistake> {
    let Some(argument) = parser.next()? else { return Ok(Command::Print(help::overview())) };
    let Value(topic) = argument else { return Err(unknown(&argument, &[])) };
    let topic = text(topic)?;
    match help::about(&topic) {
        Some(text) => Ok(Command::Print(text)),
        None => {
            let near = suggestion(&topic, help::topics());
            let all = help::topics().collect::<Vec<_>>().join(", ");
            Err(Mistake::at(&topic, 0, format!("no help about '{topic}'{near} ({all})")))
        }
    }
}

// A time that may be nothing at all, or have no end.
fn limit(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "none" => Ok(None),
        "0" => Ok(Some(Duration::ZERO)),
        text => span(text).map(Some),
    }
}

fn value<T>(
    parser: &mut Parser,
    option: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Mistake> {
    let text = text(parser.value()?)?;
    read(option, &text, parse)
}

fn read<T>(
    option: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Mistake> {
    parse(text).map_err(|wrong| Mistake::at(text, 0, format!("{option} {wrong}")))
}

fn unknown(argument: &lexopt::Arg<'_>, options: &[&str]) -> Mistake {
    let shown = shown(argument);
    let near = match argument {
        Long(name) => suggestion(name, options.iter().copied()).replacen(" '", " '--", 1),
        _ => String::new(),
    };
    let text = match argument {
        Value(_) => format!("one word too many: '{shown}'"),
        _ => format!("no option '{shown}'{near}"),
    };
    Mistake::at(&shown, 0, text)
}

fn shown(argument: &lexopt::Arg<'_>) -> String {
    match argument {
        Short(letter) => format!("-{letter}"),
        Long(name) => format!("--{name}"),
        Value(value) => value.to_string_lossy().into_owned(),
    }
}

fn text(value: OsString) -> Result<String, Mistake> {
    value.string().map_err(|_| Mistake::new("an argument is not UTF-8"))
}

impl From<lexopt::Error> for Mistake {
    fn from(error: lexopt::Error) -> Mistake {
        Mistake::new(error.to_string())
    }
}
