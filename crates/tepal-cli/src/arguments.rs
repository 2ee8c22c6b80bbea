//! The command line, understood.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use tepal::names::{Family, RecordType};

use crate::chain::{Chain, End, Mistake, count, span};
use crate::help;
use crate::listen::Service;
use crate::near::suggestion;
use crate::report::Verbosity;
use crate::resolve::{TYPES, family};

/// What is to be done.
pub(crate) enum Command {
    /// Print a text: help, or the version.
    Print(String),
    Connect(Box<Connect>),
    Listen(Box<Listen>),
    Resolve(Resolve),
}

/// `tepal connect`.
pub(crate) struct Connect {
    pub(crate) chain: Chain,
    pub(crate) verbosity: Verbosity,
    /// How often a peer that was not reached is tried again; the inner `None`: always.
    pub(crate) retry: Option<Option<u32>>,
    /// How long the peer may be quiet once the input has ended.
    pub(crate) after_input: Option<Duration>,
    /// How long the input may be quiet once the peer has ended its direction.
    pub(crate) after_peer: Option<Duration>,
    /// The peer is not told of the end of the input.
    pub(crate) keep_open: bool,
}

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
                "connect" => connect(parser),
                "listen" => listen(parser),
                "resolve" => resolve(parser),
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

fn connect(mut parser: Parser) -> Result<Command, Mistake> {
    const OPTIONS: [&str; 6] =
        ["retry", "after-input", "after-peer", "keep-open", "verbose", "help"];
    let mut chain = Vec::new();
    let mut verbosity = Verbosity::default();
    let (mut retry, mut after_input, mut keep_open) = (None, None, false);
    let mut after_peer = Some(Duration::from_millis(500));
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => chain.push(text(word)?),
            Short('v') | Long("verbose") => verbosity.0 += 1,
            Short('h') | Long("help") => return Ok(Command::Print(help::connect())),
            Long("retry") => {
                let times = parser.optional_value().map(text).transpose()?;
                retry = Some(times.map(|text| read("--retry", &text, count)).transpose()?);
            }
            Long("after-input") => after_input = value(&mut parser, "--after-input", limit)?,
            Long("after-peer") => after_peer = value(&mut parser, "--after-peer", limit)?,
            Long("keep-open") => keep_open = true,
            other => return Err(unknown(&other, &OPTIONS)),
        }
    }
    let chain = Chain::parse(&chain, End::Connects)?;
    let connect = Connect { chain, verbosity, retry, after_input, after_peer, keep_open };
    Ok(Command::Connect(Box::new(connect)))
}

fn listen(mut parser: Parser) -> Result<Command, Mistake> {
    const OPTIONS: [&str; 9] =
        ["to", "echo", "exec", "once", "max-connections", "drain", "quiet", "verbose", "help"];
    let (mut chain, mut to) = (Vec::new(), None::<Vec<String>>);
    let mut services = Vec::new();
    let (mut verbosity, mut quiet, mut once) = (Verbosity::default(), false, false);
    let (mut max_connections, mut drain) = (None, Duration::from_secs(30));
    while let Some(argument) = parser.next()? {
        match argument {
            // What follows --to is the other chain.
            Value(word) => to.as_mut().unwrap_or(&mut chain).push(text(word)?),
            Short('v') | Long("verbose") => verbosity.0 += 1,
            Short('q') | Long("quiet") => quiet = true,
            Short('h') | Long("help") => return Ok(Command::Print(help::listen())),
            Long("to") if to.is_some() => return Err(Mistake::at("--to", 0, "--to stands twice")),
            Long("to") => to = Some(Vec::new()),
            Long("echo") => services.push(Service::Echo),
            Long("exec") => {
                let program = parser.value()?;
                services.push(Service::Exec(program, parser.raw_args()?.collect()));
            }
            Long("once") => once = true,
            Long("max-connections") => {
                max_connections = Some(value(&mut parser, "--max-connections", count)?);
            }
            // A year is longer than anybody waits.
            Long("drain") => {
                let limit = value(&mut parser, "--drain", limit)?;
                drain = limit.unwrap_or(Duration::from_secs(366 * 86_400));
            }
            other => return Err(unknown(&other, &OPTIONS)),
        }
    }
    let mut chain = Chain::parse(&chain, End::Accepts)?;
    if let Some(to) = to {
        let mut to = Chain::parse(&to, End::Connects)?;
        to.match_lines(chain.lines);
        chain.match_lines(to.lines);
        services.push(Service::To(Box::new(to)));
    }
    let text =
        "say what is done with a connection, by one of --to CHAIN, --echo and --exec PROGRAM";
    let (Some(service), true) = (services.pop(), services.is_empty()) else {
        return Err(Mistake::new(text));
    };
    let listen = Listen { chain, service, verbosity, quiet, once, max_connections, drain };
    Ok(Command::Listen(Box::new(listen)))
}

fn resolve(mut parser: Parser) -> Result<Command, Mistake> {
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
