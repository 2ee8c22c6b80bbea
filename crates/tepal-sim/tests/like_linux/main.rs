//! The same scenario on the simulated kernel and on the real one, whose answers must be equal,
//! line by line: results, errors, readiness. This is what keeps the simulation honest.
//!
//! Where the order of a real kernel's work could matter the scenario waits first; ports, which the
//! kernel chooses, are not compared.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod datagrams;
mod local;
mod names;
mod readiness;
mod tcp;

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use common::{Hand, text};
use tepal_driver::Descriptor;
use tepal_sim::Config;

/// What a scenario saw.
type Log = Vec<String>;

#[track_caller]
fn same(scenario: impl Fn(&mut Hand) -> Log) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut hand, kernel) = Hand::sim(Config::default());
    hand.host = host();
    let simulated = scenario(&mut hand);
    let real = tepal_driver::open_driver(Some("epoll")).expect("epoll is there");
    let real = scenario(&mut Hand { driver: real, host: host() });
    assert_eq!(simulated, real, "left: simulated, right: real");
    assert!(!simulated.is_empty());
    drop(hand);
    assert_eq!(kernel.ledger().arrivals, 0, "{}", kernel.ledger());
}

/// A loopback address that no other process listens on: a port that was free stays free. Within
/// this process the scenarios take turns for the same reason.
fn host() -> Ipv4Addr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (b & 63), c, d)
}

/// Readiness, then reads and writes until the answers repeat.
fn use_up(hand: &mut Hand, stream: Descriptor) -> Log {
    let mut log = vec![format!("{:?}", hand.ready(stream))];
    for _ in 0..3 {
        log.push(hand.receive(stream, 10));
    }
    for _ in 0..2 {
        log.push(hand.send(stream, "x"));
    }
    log.push(format!("{:?}", hand.ready(stream)));
    log.push(text(hand.driver.peer_address(stream).map(|_| "has a peer")));
    log
}
