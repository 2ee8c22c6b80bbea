//! `tepal resolve`: what a name means to this machine, and what name servers hold of it.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tepal::names::{Family, HostAnswer, NameInfoFlags, Origin, RecordType, ResolveError, Settings};
use tepal::{EventLoop, Resolver};

use crate::arguments::{Question, Resolve};
use crate::exit::{Exit, Failure};
use crate::report::Report;

pub(crate) fn run(resolve: Resolve) -> Result<Exit, Failure> {
    let event_loop = EventLoop::new()?;
    let report = Report::new(&event_loop, resolve.verbosity, None);
    let _resolver = resolver(&event_loop, &resolve.servers);
    let asking = Asking { event_loop: &event_loop, report: &report, timeout: resolve.timeout };
    match &resolve.question {
        Question::Addresses(name, family) => {
            let answer = asking.wait(name, event_loop.lookup_host(name, *family))?;
            asking.tell_origin(&answer);
            let mut text = String::new();
            for address in &answer.addresses {
                // A string takes all there is.
                let _ = writeln!(text, "{address}");
            }
            crate::print(&text)
        }
        Question::Name(ip) => {
            let name = asking.name_of((*ip, 0).into())?;
            crate::print(&format!("{name}\n"))
        }
        Question::Records(name, types) => asking.records(name, types, resolve.short),
    }
}

/// A resolver that asks these servers and nobody else, if there are any.
fn resolver(event_loop: &EventLoop, servers: &[SocketAddr]) -> Option<Resolver> {
    if servers.is_empty() {
        return None;
    }
    let servers = Some(servers.to_vec());
    let resolver = event_loop.resolver(Settings { servers, hosts: false, ..Settings::default() });
    event_loop.set_resolver(Some(&resolver));
    Some(resolver)
}

struct Asking<'a> {
    event_loop: &'a EventLoop,
    report: &'a Report,
    timeout: Option<Duration>,
}

impl Asking<'_> {
    fn wait<T>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<T, ResolveError>>,
    ) -> Result<T, Failure> {
        let fail = |text: &dyn std::fmt::Display| {
            Failure::new(Exit::Resolve, format_args!("cannot resolve {what}: {text}"))
        };
        let answer = match self.timeout {
            None => self.event_loop.run_until_complete(asked)?,
            Some(span) => {
                let limited = self.event_loop.timeout(span, asked);
                let answer = self.event_loop.run_until_complete(limited)?;
                answer.map_err(|_| fail(&format!("no answer for {span:?}")))?
            }
        };
        answer.map_err(|error| fail(&error))
    }

    fn name_of(&self, address: SocketAddr) -> Result<Box<str>, Failure> {
        let asked = self.event_loop.getnameinfo(address, NameInfoFlags::NAMEREQD);
        Ok(self.wait(&address.ip().to_string(), asked)?.host)
    }

    /// Each type is asked for; what has no answer is told, and is a failure at the end.
    fn records(&self, name: &str, types: &[RecordType], short: bool) -> Result<Exit, Failure> {
        let (mut text, mut failed) = (String::new(), None);
        for record_type in types {
            let asked = self.event_loop.lookup_records(name, *record_type);
            match self.wait(&format!("{name} {record_type}"), asked) {
                Ok(answer) => {
                    if answer.authenticated {
                        self.report.phase("dnssec", "the server vouches for it");
                    }
                    for record in &answer.records {
                        let _ = match short {
                            true => writeln!(text, "{}", record.data),
                            false => writeln!(text, "{record}"),
                        };
                    }
                }
                Err(failure) => {
                    // The last one is told at the end.
                    if let Some(failure) = failed.replace(failure) {
                        failure.tell();
                    }
                }
            }
        }
        let printed = crate::print(&text)?;
        failed.map_or(Ok(printed), Err)
    }

    fn tell_origin(&self, answer: &HostAnswer) {
        let origin = match answer.origin {
            Origin::Literal => "it is an address",
            Origin::Hosts => "the hosts file",
            Origin::Localhost => "localhost is this machine",
            Origin::MyHostname => "it is this machine's name",
            Origin::Dns => "a name server",
        };
        self.report.phase("origin", origin);
        self.report.phase("name", &answer.canonical);
        if let Some(expires) = answer.expires {
            let left = expires.since(self.event_loop.time()).as_secs_f64();
            self.report.phase("expires", format_args!("in {left:.0} s"));
        }
        if let Some(missing) = &answer.missing {
            self.report.phase("missing", format_args!("one family: {missing}"));
        }
    }
}

/// The types that are named in help; others may be written `TYPE` and a number.
pub(crate) const TYPES: [&str; 9] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"];

/// Of which family addresses are wanted.
pub(crate) fn family(four: bool, six: bool) -> Family {
    match (four, six) {
        (true, false) => Family::V4,
        (false, true) => Family::V6,
        _ => Family::Unspecified,
    }
}
