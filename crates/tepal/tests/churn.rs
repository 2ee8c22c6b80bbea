//! What has ended leaves nothing behind, however often: connections, servers, timers, layers.

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "common/layered.rs"]
mod layered;

use std::cell::Cell;
use std::time::Duration;

use common::{address, on_every_driver};
use counting::LIVE;
use layered::{Call, Pair, echo, tls_pair, tls_server};
use tepal::layers::PeerClose;
use tepal::{EventLoop, Late, Lines, Protocol, RateLimit, Stack, Tls, Transport};

struct Nothing;

impl Protocol for Nothing {}

impl tepal::DatagramProtocol for Nothing {}

type Round = Box<dyn Fn(&EventLoop)>;

fn check(rounds: &[(&str, Round)]) {
    on_every_driver(|event_loop| {
        let left: Vec<_> =
            rounds.iter().map(|(name, round)| (*name, left_by(event_loop, round))).collect();
        // Some are swept out only when there are several.
        let leaks: Vec<_> = left.into_iter().filter(|(_, left)| *left > 50).collect();
        assert!(leaks.is_empty(), "blocks left by 100 rounds: {leaks:?}");
    });
}

/// Runs `round` over and over, with turns of the loop between; how many blocks a hundred rounds
/// leave behind.
fn left_by(event_loop: &EventLoop, round: impl Fn(&EventLoop)) -> i64 {
    let rounds = || {
        for _ in 0..100 {
            round(event_loop);
            for _ in 0..3 {
                event_loop.call_soon(|lp| lp.stop());
                event_loop.run_forever().expect("runs");
            }
        }
    };
    // Tables grow to what they need.
    (0..3).for_each(|_| rounds());
    let before = LIVE.with(Cell::get);
    rounds();
    LIVE.with(Cell::get) - before
}

#[test]
fn what_has_ended_leaves_no_memory_behind() {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    let rounds: [(&str, Round); 9] = [
        (
            "a server closed",
            Box::new(|lp| lp.listen(|_| Nothing, "127.0.0.1:0").expect("listens").close()),
        ),
        (
            "a server drained",
            Box::new(|lp| {
                let server = lp.listen(|_| Nothing, "127.0.0.1:0").expect("listens");
                let drain = server.drain(Duration::from_secs(9));
                assert_eq!(lp.run_until_complete(drain).expect("runs"), 0);
            }),
        ),
        (
            "a connection",
            Box::new(|lp| {
                let server = lp.listen(|_| Nothing, "127.0.0.1:0").expect("listens");
                let transport = lp.connect(Nothing, address(&server));
                transport.write(b"some bytes");
                lp.call_soon(|lp| _ = lp.call_soon(|lp| lp.stop()));
                lp.run_forever().expect("runs");
                transport.abort();
                server.close();
                server.abort_connections();
            }),
        ),
        (
            "an attached stream",
            Box::new(|lp| {
                let (ours, _theirs) = UnixStream::pair().expect("a pair");
                lp.attach(Nothing, OwnedFd::from(ours)).expect("attaches").close();
            }),
        ),
        (
            "a datagram endpoint",
            Box::new(|lp| {
                let own = tepal::Address::Ip((std::net::Ipv4Addr::LOCALHOST, 0).into());
                lp.datagram(Nothing, Some(own), None).expect("binds").close();
            }),
        ),
        (
            "timers",
            Box::new(|lp| {
                lp.call_later(Duration::from_secs(9), |_| ()).cancel();
                let timer = lp.timer(Duration::from_secs(9), |_, _| ());
                timer.start();
            }),
        ),
        (
            "a watcher",
            Box::new(|lp| {
                let (ours, _theirs) = UnixStream::pair().expect("a pair");
                let fd = ours.as_raw_fd();
                let mut watcher = lp.watch(fd, tepal::Interest::BOTH, |_, _| ()).expect("watches");
                watcher.start().expect("starts");
                drop(watcher);
            }),
        ),
        ("a trigger", Box::new(|lp| lp.trigger(|_| ()).fire())),
        (
            "a signal",
            Box::new(|lp| {
                lp.add_signal_handler(libc::SIGWINCH, |_, _| ()).expect("listens");
                lp.remove_signal_handler(libc::SIGWINCH).expect("removes");
            }),
        ),
    ];
    check(&rounds);
}

/// One connection over two stacks: a word there and back, and the end of both.
fn exchange(event_loop: &EventLoop, up: Stack, down: Stack, change: bool) {
    let asks = move |transport: &Transport, call: &Call<'_>| {
        match call {
            Call::Established => drop(transport.write(b"word")),
            Call::Data(b"word") if change => {
                drop(transport.pop_layer(None, Duration::from_secs(1), Late::Close));
                transport.write(b"more");
            }
            Call::Data(_) => transport.close(),
            _ => {}
        }
        None
    };
    let pair = Pair::connect(event_loop, (up, asks), (down, echo));
    let (client, _) = pair.run(event_loop);
    assert!(client.closed.is_some_and(|closed| closed.is_clean()));
}

#[test]
fn connections_in_layers_leave_no_memory_behind() {
    let (client, server) = tls_pair();
    let pops = tls_server().peer_close(PeerClose::Pop).build().expect("a server");
    let stack = |tls: &Tls| Stack::new().with(tls.clone());
    let lines = || Stack::new().with(Lines::new(100));
    let layered = |rate: Stack, tls: &Tls| rate.with(tls.clone()).with(Lines::new(100));
    let rate = || Stack::new().with(RateLimit::new().write(1 << 30));
    let (tls_up, tls_down) = (stack(&client), stack(&server));
    let (pop_up, pop_down) = (stack(&client), stack(&pops));
    let (deep_up, deep_down) = (layered(rate(), &client), layered(rate(), &server));
    let rounds: [(&str, Round); 4] = [
        ("lines", Box::new(move |lp| exchange(lp, lines(), lines(), false))),
        ("TLS", Box::new(move |lp| exchange(lp, tls_up.clone(), tls_down.clone(), false))),
        ("TLS popped", Box::new(move |lp| exchange(lp, pop_up.clone(), pop_down.clone(), true))),
        ("three", Box::new(move |lp| exchange(lp, deep_up.clone(), deep_down.clone(), false))),
    ];
    check(&rounds);
}
