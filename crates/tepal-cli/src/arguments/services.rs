//! The two chains of a command line, and what is done with the connection.

use lexopt::Parser;

use super::{limit, value};
use crate::chain::{Chain, End, Mistake};
use crate::service::{Program, Service};
use crate::stdio::Ends;

/// What was said of them until now.
#[derive(Default)]
pub(super) struct Services {
    chain: Vec<String>,
    to: Option<Vec<String>>,
    chosen: Vec<Service>,
    stdio: bool,
    pty: bool,
    ends: Ends,
    // An option of the ends of standard input and output was there.
    ends_named: Option<&'static str>,
}

impl Services {
    /// A word of a chain: what follows --to is the other one.
    pub(super) fn word(&mut self, word: String) {
        self.to.as_mut().unwrap_or(&mut self.chain).push(word);
    }

    /// Takes an option, if it is about this.
    pub(super) fn option(&mut self, name: &str, parser: &mut Parser) -> Result<bool, Mistake> {
        match name {
            "to" if self.to.is_some() => return Err(Mistake::at("--to", 0, "--to stands twice")),
            "to" => self.to = Some(Vec::new()),
            "echo" => self.chosen.push(Service::Echo),
            "exec" => {
                let name = parser.value()?;
                let arguments = parser.raw_args()?.collect();
                self.chosen.push(Service::Exec(Program { name, arguments, pty: false }));
            }
            "stdio" => self.stdio = true,
            "pty" => self.pty = true,
            "after-input" => {
                self.ends.after_input = Some(value(parser, "--after-input", limit)?);
                self.ends_named = Some("--after-input");
            }
            "after-peer" => {
                self.ends.after_peer = value(parser, "--after-peer", limit)?;
                self.ends_named = Some("--after-peer");
            }
            "keep-open" => {
                self.ends.keep_open = true;
                self.ends_named = Some("--keep-open");
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The chain, and the one thing that is done. A connection that we make is joined to standard
    /// input and output unless something else is said.
    pub(super) fn finish(mut self, end: End) -> Result<(Chain, Service), Mistake> {
        let mut chain = Chain::parse(&self.chain, end)?;
        if let Some(to) = self.to.take() {
            let mut to = Chain::parse(&to, End::Connects)?;
            to.match_lines(chain.lines);
            chain.match_lines(to.lines);
            self.chosen.push(Service::To(Box::new(to)));
        }
        if self.stdio || (end == End::Connects && self.chosen.is_empty()) {
            self.chosen.push(Service::Stdio(self.ends));
        }
        let (Some(mut service), true) = (self.chosen.pop(), self.chosen.is_empty()) else {
            return Err(Mistake::new(match end {
                End::Connects => "one of --to CHAIN, --echo and --exec PROGRAM, or none of them",
                End::Accepts => {
                    "say what is done with a connection, by one of --to CHAIN, --echo, \
                     --exec PROGRAM and --stdio"
                }
            }));
        };
        if let Some(option) = self.ends_named
            && !matches!(service, Service::Stdio(_))
        {
            return Err(Mistake::at(option, 0, format!("{option} is about standard input")));
        }
        if let Some(mistake) = mixed(&chain, &service) {
            return Err(mistake);
        }
        match &mut service {
            Service::Exec(_) if self.pty && chain.lines.is_some() => {
                Err(Mistake::at("--pty", 0, "a terminal is not cut into lines"))
            }
            Service::Exec(program) => {
                program.pty = self.pty;
                Ok((chain, service))
            }
            _ if self.pty => Err(Mistake::at("--pty", 0, "--pty is about --exec, before it")),
            _ => Ok((chain, service)),
        }
    }
}

/// Streams and datagrams are served by their like.
fn mixed(chain: &Chain, service: &Service) -> Option<Mistake> {
    let text = match (chain.wire.is_udp(), service) {
        (true, Service::Exec(_)) => "a program reads a stream, and udp carries datagrams",
        (udp, Service::To(to)) if udp != to.wire.is_udp() => {
            "both chains carry datagrams (udp), or both streams"
        }
        _ => return None,
    };
    Some(Mistake::new(text))
}
