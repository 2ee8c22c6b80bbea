//! Whatever a protocol does to its layers in whichever callback, its connection ends once, in
//! order, and in time.

mod common;
#[path = "common/layer_case.rs"]
mod layer_case;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/listed.rs"]
mod listed;

use std::time::Duration;

use layer_case::{ACTS, ATS, Act, At, HASTY, PATIENT, run_case};
use layered::tls_pair;
use tepal::{EventLoop, Idle, Lines, RateLimit, Stack, Tls};
use tepal_sim::{Config, SimKernel};

fn plain() -> (Stack, Stack) {
    (Stack::new(), Stack::new())
}

fn idle() -> (Stack, Stack) {
    let stack = || Stack::new().with(Idle::new(Duration::from_millis(20)));
    (stack(), stack())
}

fn lines() -> (Stack, Stack) {
    let stack = || Stack::new().with(Lines::new(1 << 21));
    (stack(), stack())
}

fn tls() -> (Stack, Stack) {
    let (client, server) = tls_pair();
    (Stack::new().with(client), Stack::new().with(server))
}

fn deep() -> (Stack, Stack) {
    let stack = |tls: Tls| {
        let rate = RateLimit::new().write(1 << 40);
        Stack::new().with(rate).with(tls).with(Lines::new(1 << 21))
    };
    let (client, server) = tls_pair();
    (stack(client), stack(server))
}

/// Every act in every callback of a connection with these stacks, on the simulated kernel.
fn every_case((up, down): (Stack, Stack)) {
    let kernel = SimKernel::new(Config::seeded(11));
    let event_loop = EventLoop::with_driver(Box::new(kernel.driver()));
    event_loop.set_panic_hook(|_| std::ops::ControlFlow::Continue(()));
    event_loop.set_trouble_hook(|_, _| ());
    let (mut problems, mut fired, mut count, mut twice) = (Vec::new(), 0, 0, 0);
    for (inbound, when) in [false, true].into_iter().flat_map(|i| ATS.map(|at| (i, at))) {
        for what in ACTS {
            let case = (when, what, inbound);
            let (did, connections, result) = run_case(&event_loop, (&up, &down), case, PATIENT);
            count += 1;
            fired += u32::from(did);
            twice += u32::from(connections == 2);
            let way = if inbound { "inbound" } else { "outbound" };
            if let Err(problem) = result {
                problems.push(format!("{way} {when:?} {what:?}: {problem}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}:\n{}", problems.len(), problems.join("\n"));
    // Not every stack has every callback.
    assert!(fired * 10 >= count * 6, "{fired} of {count}");
    // Three acts connect anew, in twelve callbacks; the first comes too early for a second
    // establishment, and two or three are none of this stack's.
    assert!(twice >= 18, "{twice}");
}

#[test]
fn every_act_in_every_callback_without_layers_leaves_one_end() {
    every_case(plain());
}

#[test]
fn every_act_in_every_callback_of_an_idle_limit_leaves_one_end() {
    every_case(idle());
}

#[test]
fn every_act_in_every_callback_of_lines_leaves_one_end() {
    every_case(lines());
}

#[test]
fn every_act_in_every_callback_of_tls_leaves_one_end() {
    every_case(tls());
}

#[test]
fn every_act_in_every_callback_of_a_deep_stack_leaves_one_end() {
    every_case(deep());
}

// The simulated kernel runs them all; here those of the stack that is changed most, on the kernel of
// this machine, where time is real.
#[test]
fn the_acts_on_a_tls_connection_do_so_on_real_sockets_too() {
    use Act::*;
    let (up, down) = tls();
    let acts = [
        PushThenWrite,
        PushBelow,
        PushThenClose,
        PopThenPush,
        PopLate,
        PopThenClose,
        PushThenPop,
        PopThenReconnect,
        Reconnect,
        WriteEof,
        Close,
        Abort,
        PauseForAWhile,
        SetProtocol,
    ];
    common::on_every_driver(|event_loop| {
        let driver = event_loop.driver_name();
        // Idle is no callback of this stack.
        for when in ATS.into_iter().filter(|when| *when != At::Idle) {
            for (what, inbound) in acts.into_iter().flat_map(|act| [(act, false), (act, true)]) {
                let case = (when, what, inbound);
                let (_, _, result) = run_case(event_loop, (&up, &down), case, HASTY);
                assert_eq!(result, Ok(()), "{when:?} {what:?} {inbound} on {driver}");
            }
        }
    });
}
