//! Foreign programs as peers of the loop, on every driver of this machine. What each peer does in
//! detail is tested on chains, in tepal-layers' tests of the same name; here it is the loop that
//! has to read, write, close and wait as they need it.
//!
//! A program that is absent is told to the file named by `TEPAL_ABSENT_FILE`; without that file
//! the test fails.
#![cfg(target_os = "linux")]

#[path = "../../../tepal-layers/tests/peers/certificates.rs"]
#[allow(dead_code, reason = "shared with the tests of chains")]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/layered.rs"]
mod layered;
#[path = "../../../tepal-layers/tests/peers/programs.rs"]
#[allow(dead_code, reason = "shared with the tests of chains")]
mod programs;

#[path = "../../../tepal-layers/tests/peers/servers.rs"]
mod servers;

mod closing;
mod ends;
mod gnutls;
mod mail;
mod nginx;
mod proxies;
mod starttls;
mod stunnel;
mod tunnels;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use layered::{Call, Script, Seen};
use tepal::{EventLoop, Listen, Stack, Target, Transport};

/// Connects over a stack, does what `act` says, and runs to the connection's end.
fn as_client(
    event_loop: &EventLoop,
    address: SocketAddr,
    stack: Stack,
    mut act: impl FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static,
) -> Seen {
    let (script, log) = Script::new(move |transport: &Transport, call: &Call<'_>| {
        let answer = act(transport, call);
        if let Call::Lost(_) = call {
            transport.event_loop().stop();
        }
        answer
    });
    event_loop.connect(script, Target::address(address).stack(stack));
    common::run(event_loop);
    log.take()
}

/// Listens over a stack, lets `start` make a peer of the port, and runs to the end of its first
/// connection.
fn as_server<P>(
    event_loop: &EventLoop,
    stack: Stack,
    start: impl FnOnce(u16) -> P,
    act: impl FnMut(&Transport, &Call<'_>) -> Option<usize> + 'static,
) -> (Seen, P) {
    let log = layered::Log::default();
    let (act, told) = (Rc::new(RefCell::new(act)), Rc::clone(&log));
    let taken = Cell::new(false);
    let factory = move |_: &tepal::Address| {
        assert!(!taken.replace(true), "one connection only");
        let act = Rc::clone(&act);
        Script::with_log(&told, move |transport: &Transport, call: &Call<'_>| {
            let answer = (act.borrow_mut())(transport, call);
            if let Call::Lost(_) = call {
                transport.event_loop().stop();
            }
            answer
        })
    };
    let listen = Listen::on("127.0.0.1:0").stack(stack);
    let server = event_loop.listen(factory, listen).expect("listens");
    let peer = start(common::address(&server).port());
    common::run(event_loop);
    server.close();
    (log.take(), peer)
}
