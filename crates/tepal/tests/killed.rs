//! Connections that an administrator kills (`ss -K`): no packet tells, the kernel just ends them.

mod common;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod namespace;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use common::{address, on_every_driver};
use namespace::shell;
use reach::{again, run_to_end, run_until, silent_server};
use story::Story;
use tepal::{CloseKind, Listen, Phase, ProblemCause, ProblemKind, Stack, Target};

#[test]
fn a_connection_that_an_administrator_kills_is_told_to_both_ends() {
    let test = "a_connection_that_an_administrator_kills_is_told_to_both_ends";
    namespace::run(test, &["ss"], "ip link set lo up", || {
        let (client, server) = layered::tls_pair();
        on_every_driver(|event_loop| {
            let plain = (Stack::new(), Stack::new());
            let tls = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
            for (up, down) in [plain, tls] {
                let served = Story::new();
                let accept = served.clone();
                let listen = Listen::on("127.0.0.1:0").stack(down);
                let listener = event_loop.listen(move |_: &tepal::Address| accept.clone(), listen);
                let port = address(&listener.expect("a port")).port();
                let story = Story::new();
                let target = Target::host("127.0.0.1", port).stack(up);
                let transport = event_loop.connect(story.clone(), target);
                let both = (story.clone(), served.clone());
                run_until(event_loop, move || {
                    both.0.count("established") + both.1.count("established") == 2
                });
                shell(&format!("ss -K dst 127.0.0.1 dport = :{port} >/dev/null"));
                run_to_end(event_loop, &transport);
                let far = served.clone();
                run_until(event_loop, move || far.count("lost") == 1);
                for told in [&story, &served] {
                    assert_eq!(told.events(), ["made", "established", "lost"]);
                    let closed = told.0.borrow().ends[0].clone();
                    assert_eq!(closed.kind, CloseKind::Reset, "{closed:?}");
                    let code = closed.error.expect("the kernel's").raw_os_error();
                    let codes = [Some(libc::ECONNABORTED), Some(libc::ECONNRESET)];
                    assert!(codes.contains(&code), "{code:?}");
                }
                let problem = transport.problem().expect("told");
                assert_eq!((problem.phase, problem.kind), (Phase::Established, ProblemKind::Lost));
            }
            // In the middle of a handshake; and then it is tried again.
            let port = silent_server(event_loop).port();
            let left = std::cell::Cell::new(1);
            let story = Story::new().on("error_ssl", move |transport| {
                let problem = transport.problem().expect("told");
                assert_eq!((problem.phase, problem.layer), (Phase::Handshake, Some("tls")));
                assert!(matches!(problem.cause, Some(ProblemCause::Io(_))), "{problem}");
                if left.replace(0) > 0 {
                    again(transport);
                }
            });
            let target = Target::host("127.0.0.1", port).layer(client.clone());
            let transport = event_loop.connect(story.clone(), target);
            for round in 1..=2 {
                let shaking = transport.clone();
                run_until(event_loop, move || shaking.phase() == Phase::Handshake);
                shell(&format!("ss -K dst 127.0.0.1 dport = :{port} >/dev/null"));
                let told = story.clone();
                run_until(event_loop, move || told.count("error_ssl") == round);
            }
            run_to_end(event_loop, &transport);
            assert_eq!(story.events(), ["made", "error_ssl", "error_ssl", "lost"]);
        });
    });
}
