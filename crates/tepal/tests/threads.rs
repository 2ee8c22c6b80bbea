//! S12: the loop creates no thread on its own behalf. One test, so that the process is its own.
//! And what may go to other threads, which the compiler says.

mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;

use common::on_every_driver;
use dns::{Say, Zone, put};
use tepal::names::Settings;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux").count()
}

#[test]
fn s12_names_are_resolved_without_a_thread() {
    on_every_driver(|event_loop| {
        let before = threads();
        let zone = Zone::new();
        put(&zone, "a.test", 60, &["127.0.0.1", "::1"]);
        let big = Say::Truncated(60, vec![dns::a([127, 0, 0, 1]); 100]);
        zone.borrow_mut().answers.insert(("big.test".to_owned(), dns::A), big);
        let server = dns::serve(event_loop, &zone);
        let settings = Settings { servers: Some(vec![server]), ..Settings::default() };
        let resolver = event_loop.resolver(settings);
        event_loop.set_resolver(Some(&resolver));
        for host in ["a.test", "big.test", "nobody.test", "localhost", "127.0.0.1"] {
            let asked = event_loop.resolve(host, 80);
            assert_eq!(threads(), before, "while {host} is asked for");
            let answer = event_loop.run_until_complete(asked).expect("runs");
            assert_eq!(answer.is_ok(), host != "nobody.test", "{host}: {answer:?}");
            assert_eq!(threads(), before, "after {host}");
        }
    });
}

/// Compiles if these may go to other threads: handles for them, and what is told and passed on.
#[allow(dead_code, reason = "it is compiled, which is the test")]
fn what_other_threads_may_have() {
    fn anywhere<T: Send + Sync>() {}
    anywhere::<tepal::Remote>();
    anywhere::<tepal::Trigger>();
    anywhere::<tepal::Closed>();
    anywhere::<tepal::ConnectError>();
    anywhere::<tepal::Problem>();
    anywhere::<tepal::names::ResolveError>();
    anywhere::<tepal::layers::Error>();
    anywhere::<tepal::Address>();
    anywhere::<tepal::Stack>();
    anywhere::<tepal::Timeouts>();
}
