//! What the tests of names share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::time::Duration;

use tepal::EventLoop;
use tepal::Resolver;
use tepal::names::{
    AddrInfo, AddrInfoQuery, Family, Flags, Hints, ResolveError, Settings, SocketType,
};
use tepal_sim::{Config, SimKernel};

use crate::common::on_every_driver;
use crate::dns::{self, Shared};

pub const STREAM: Hints = Hints {
    flags: Flags(0),
    family: Family::Unspecified,
    socket_type: SocketType::STREAM,
    protocol: 0,
};

pub fn query<'a>(host: &'a str, service: &'a str) -> AddrInfoQuery<'a> {
    let (host, service) = (Some(host), Some(service));
    AddrInfoQuery { host, service, hints: STREAM, timeout: Some(Duration::from_secs(10)) }
}

pub fn addresses(infos: &[AddrInfo]) -> Vec<String> {
    infos.iter().map(|info| info.address.to_string()).collect()
}

pub fn ask(event_loop: &EventLoop, host: &str, service: &str) -> Result<Vec<String>, ResolveError> {
    let asked = event_loop.getaddrinfo(&query(host, service));
    let result = event_loop.run_until_complete(asked).expect("the loop runs");
    result.map(|infos| addresses(&infos))
}

/// A resolver whose only server is the test's.
pub fn resolver(event_loop: &EventLoop, zone: &Shared, settings: Settings) -> Resolver {
    let server = dns::serve(event_loop, zone);
    let resolver = event_loop.resolver(Settings { servers: Some(vec![server]), ..settings });
    event_loop.set_resolver(Some(&resolver));
    resolver
}

pub fn simulated() -> (SimKernel, EventLoop) {
    let kernel = SimKernel::new(Config::seeded(7));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    (kernel, event_loop)
}

/// On every driver of this machine, and on the simulated one.
pub fn everywhere(test: impl Fn(&EventLoop)) {
    on_every_driver(&test);
    test(&simulated().1);
}
