//! Two loops in one thread: what is the one's is not the other's.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{Recorder, run};
use tepal::names::{AddrInfo, AddrInfoError, AddrInfoQuery, ResolveError, Settings};
use tepal::{
    Command, EventLoop, ExitStatus, Loop, ProcessProtocol, Protocol, Reply, Resolve, Target,
    Transport,
};

/// A connection whose other end is not ours.
fn connection(event_loop: &EventLoop, protocol: impl Protocol) -> (Transport, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    (event_loop.attach(protocol, ours.into()).expect("attaches"), theirs)
}

/// A few turns.
fn turns(event_loop: &EventLoop) {
    event_loop.call_soon(|lp| {
        lp.call_soon(|lp| {
            lp.call_soon(Loop::stop);
        });
    });
    run(event_loop);
}

#[test]
fn connections_of_two_loops_are_not_joined_and_nobody_elses_is() {
    let (one, two) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let (recorder, log) = Recorder::new();
    // The second of each loop: by its place in its own loop the stranger could be the bystander.
    let (ours, _our_peer) = connection(&one, Recorder::new().0);
    let (_bystander, mut peer) = connection(&one, recorder);
    let (_first, _its_peer) = connection(&two, Recorder::new().0);
    let (stranger, _stranger_peer) = connection(&two, Recorder::new().0);
    turns(&one);
    turns(&two);
    let error = ours.join(&stranger).expect_err("of another loop");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    peer.write_all(b"for the bystander").expect("the kernel takes it");
    turns(&one);
    assert_eq!(log.borrow().bytes, b"for the bystander");
}

/// Answers every question with the same address.
struct Always(&'static str);

impl Resolve for Always {
    fn getaddrinfo(&self, _: &Loop, query: &AddrInfoQuery<'_>, reply: Reply<Vec<AddrInfo>>) {
        let answer = format!("{} for {:?}", self.0, query.host);
        reply.send(Err(ResolveError::foreign(AddrInfoError::NoName, answer)));
    }
}

#[test]
fn a_resolver_of_another_loop_answers_nothing_and_nobody_else_answers_for_it() {
    let (one, two) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    // The same place in both loops.
    let _own = one.foreign_resolver(Always("the wrong one"));
    let stranger = two.foreign_resolver(Always("the right one"));
    let query = AddrInfoQuery { host: Some("a.test"), ..AddrInfoQuery::default() };
    let asked = one.getaddrinfo_with(Some(&stranger), &query);
    let error = one.run_until_complete(asked).expect("the loop runs").expect_err("a stranger");
    assert!(error.to_string().contains("another loop"), "{error}");

    one.set_resolver(Some(&stranger));
    let asked = one.resolve("a.test", 80);
    let error = one.run_until_complete(asked).expect("the loop runs").expect_err("a stranger");
    assert!(error.to_string().contains("another loop"), "{error}");

    let target = Target::host("a.test", 80).resolver(&stranger);
    let connecting = one.create_connection(|| Recorder::new().0, target);
    let error = one.run_until_complete(connecting).expect("the loop runs").expect_err("a stranger");
    assert!(error.to_string().contains("another loop"), "{error}");

    let own = two.resolver(Settings::default());
    drop((own, Rc::new(stranger)));
}

#[test]
fn one_loop_runs_inside_a_callback_of_another() {
    let outer = EventLoop::new().expect("a loop");
    let (transport, mut peer) = connection(&outer, {
        struct Nests;
        impl Protocol for Nests {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
                let inner = EventLoop::new().expect("a loop");
                let (recorder, log) = Recorder::new();
                let (_, mut peer) = connection(&inner, recorder);
                peer.write_all(data).expect("the kernel takes it");
                drop(peer);
                run(&inner);
                transport.write(&log.borrow().bytes);
                // The outer one does not run a second time meanwhile.
                transport.event_loop().stop();
                data.len()
            }
        }
        Nests
    });
    peer.write_all(b"through two loops").expect("the kernel takes it");
    run(&outer);
    let mut back = [0; 17];
    peer.read_exact(&mut back).expect("reads");
    assert_eq!(&back, b"through two loops");
    assert!(transport.is_established());
}

#[test]
fn s8_each_of_two_threads_has_timers_and_children_of_its_own() {
    struct Quiet;
    impl ProcessProtocol for Quiet {}

    // Both at once: no loop is the one that watches children.
    for name in tepal_driver::driver_names() {
        let use_all = move |code: i32| {
            let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
            let event_loop = EventLoop::with_driver(driver);
            for _ in 0..10 {
                let command = Command {
                    program: "sh".into(),
                    args: vec!["-c".into(), format!("exit {code}").into()],
                    ..Command::default()
                };
                let child = event_loop.subprocess(Quiet, command).expect("starts");
                let ended = event_loop.timeout(Duration::from_secs(10), child.wait());
                let status = event_loop.run_until_complete(ended).expect("the loop runs");
                assert_eq!(status, Ok(ExitStatus::Code(code)));
            }
            let before = event_loop.time();
            let sleep = event_loop.sleep(Duration::from_millis(2));
            event_loop.run_until_complete(sleep).expect("the loop runs");
            assert!(event_loop.time().since(before) >= Duration::from_millis(2));
        };
        let threads = [3, 4].map(|code| std::thread::spawn(move || use_all(code)));
        use_all(5);
        threads.into_iter().for_each(|thread| thread.join().expect("is content"));
    }
}
