//! Chains: arguments from the wire upward, understood.

mod element;
mod layers;
mod options;
mod proxies;
mod tap;
mod tls;
mod values;
mod wire;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tepal::{LayerSpec, Lines, ProxyHeader, Stack, Target};

pub(crate) use element::Element;
pub(crate) use values::{count, span};
pub(crate) use wire::{Place, Wire};

use crate::exit::Exit;

/// The names that begin an element, in the order in which help tells of them.
pub(crate) const NAMES: [&str; 11] = [
    "tcp",
    "udp",
    "unix",
    "tls",
    "socks5",
    "socks4",
    "http-connect",
    "proxy",
    "rate",
    "tap",
    "lines",
];

/// Which end of the connections the chain describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Connects,
    Accepts,
}

/// A chain: what is at the wire, and the layers above it.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) wire: Wire,
    layers: Vec<Part>,
    /// The longest line, if lines are on top.
    pub(crate) lines: Option<usize>,
}

/// One layer.
#[derive(Clone, Debug)]
enum Part {
    Spec(Arc<dyn LayerSpec>),
    /// A header that tells whose connection is passed on, so that each has its own.
    Header(ProxyHeader),
}

/// Something wrong with the command line: what, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mistake {
    text: String,
    // The argument, and the character in it from 0 on.
    place: Option<(String, usize)>,
    /// What the exit status says of it: a file that cannot be read is no mistake of spelling.
    pub(crate) exit: Exit,
}

impl Chain {
    /// Understands the arguments of a chain.
    pub(crate) fn parse(arguments: &[String], end: End) -> Result<Chain, Mistake> {
        let Some((first, rest)) = arguments.split_first() else {
            return Err(Mistake::new(
                "a chain begins with tcp:HOST:PORT, udp:HOST:PORT or unix:PATH; see 'tepal help chain'",
            ));
        };
        let wire = Wire::parse(&Element::parse(first)?, end)?;
        let mut chain = Chain { wire, layers: Vec::new(), lines: None };
        for argument in rest {
            let element = Element::parse(argument)?;
            if chain.lines.is_some() {
                return Err(element.mistake("lines are the top of a chain: nothing follows them"));
            }
            match chain.wire.is_udp() {
                true => layers::add_to_datagrams(&mut chain, &element, end)?,
                false => layers::add(&mut chain, &element, end)?,
            }
        }
        Ok(chain)
    }

    /// The layers above a connection of its own, or of one that is passed on for a client with
    /// these addresses: its own, and the one that it connected to.
    pub(crate) fn stack(&self, passed_on: PassedOn) -> Stack {
        self.layers.iter().fold(Stack::new(), |stack, part| match (part, passed_on) {
            (Part::Spec(spec), _) => stack.with_shared(Arc::clone(spec)),
            (Part::Header(header), PassedOn::Nobodys) => stack.with(header.clone()),
            (Part::Header(header), PassedOn::Unknown) => stack.with(header.clone().local()),
            (Part::Header(header), PassedOn::From(source, destination)) => {
                stack.with(header.clone().addresses(source, destination))
            }
        })
    }

    /// Where to connect to, over the layers.
    pub(crate) fn target(&self, passed_on: PassedOn) -> Target {
        self.wire.target().stack(self.stack(passed_on))
    }

    /// Cuts lines here too, because the other end of what is joined does.
    pub(crate) fn match_lines(&mut self, other: Option<usize>) {
        if let (None, Some(most)) = (self.lines, other) {
            self.push(Lines::new(most));
            self.lines = Some(most);
        }
    }

    fn push(&mut self, spec: impl LayerSpec + 'static) {
        self.layers.push(Part::Spec(Arc::new(spec)));
    }
}

/// For whom a connection is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PassedOn {
    /// For ourselves.
    Nobodys,
    /// For a client without IP addresses.
    Unknown,
    /// For a client with this address, which connected to that one.
    From(SocketAddr, SocketAddr),
}

impl Mistake {
    pub(crate) fn new(text: impl Into<String>) -> Mistake {
        Mistake { text: text.into(), place: None, exit: Exit::Usage }
    }

    pub(crate) fn at(argument: &str, column: usize, text: impl Into<String>) -> Mistake {
        let place = Some((argument.to_owned(), column));
        Mistake { text: text.into(), place, exit: Exit::Usage }
    }

    /// The same, where this machine is to blame: a file that is not there.
    pub(crate) fn of_machine(self) -> Mistake {
        Mistake { exit: Exit::Local, ..self }
    }
}

/// What is wrong; then, if it has a place, the argument with a mark below the character, and
/// without secrets.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((argument, column)) = &self.place else { return f.write_str(&self.text) };
        let (shown, width) = (values::without_secrets(argument), column + 1);
        write!(f, "{}\n  {shown}\n  {:>width$}", self.text, "^")
    }
}
