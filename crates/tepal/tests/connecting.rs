//! Connections that a future waits for.

mod common;

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use common::{Echo, Recorder, address, on_every_driver, on_every_driver_and_simulated, run};
use tepal::Target;

#[test]
fn an_awaited_connection_echoes_and_has_told_its_protocol_first() {
    on_every_driver_and_simulated(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let (recorder, log) = Recorder::new();
        let connecting = event_loop.create_connection(move || recorder, address(&server));
        let connected = event_loop.run_until_complete(connecting).expect("the loop runs");
        let transport = connected.expect("connects");
        assert_eq!(log.borrow().events, ["made", "established"]);
        transport.write(b"to and fro");
        let (waiting, seen) = (transport.clone(), Rc::clone(&log));
        let timer = event_loop.timer(Duration::from_millis(1), move |_, timer| {
            timer.again();
            if seen.borrow().bytes == b"to and fro" {
                waiting.close();
            }
        });
        timer.start();
        run(event_loop);
        assert_eq!(log.borrow().events, ["made", "established", "out", "data", "lost"]);
        assert!(transport.closed().expect("it has ended").is_clean());
    });
}

#[test]
fn an_awaited_refusal_gives_the_kernels_error_and_makes_no_protocol() {
    on_every_driver(|event_loop| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let nobody = free.local_addr().expect("its address");
        drop(free);
        let made = Rc::new(Cell::new(false));
        let flag = Rc::clone(&made);
        let factory = move || {
            flag.set(true);
            Echo
        };
        let connecting = event_loop.create_connection(factory, nobody);
        let result = event_loop.run_until_complete(connecting).expect("the loop runs");
        let refused = result.expect_err("nobody listens");
        assert_eq!(refused.error.kind(), ErrorKind::ConnectionRefused);
        assert!(refused.error.raw_os_error().is_some(), "the kernel's number is kept");
        assert!(!made.get());
    });
}

#[test]
fn a_missing_unix_socket_is_told_too() {
    on_every_driver_and_simulated(|event_loop| {
        let target = Target::unix("/nonexistent/tepal.sock");
        let connecting = event_loop.create_connection(|| Echo, target);
        let result = event_loop.run_until_complete(connecting).expect("the loop runs");
        assert_eq!(result.expect_err("missing").error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_dropped_attempt_makes_no_protocol() {
    on_every_driver_and_simulated(|event_loop| {
        let server = event_loop.listen(|_| Echo, "127.0.0.1:0").expect("listens");
        let made = Rc::new(Cell::new(false));
        let flag = Rc::clone(&made);
        let factory = move || {
            flag.set(true);
            Echo
        };
        drop(event_loop.create_connection(factory, address(&server)));
        // A later attempt that has come to its end shows that the first had the time to.
        let later = event_loop.create_connection(|| Echo, address(&server));
        let later = event_loop.run_until_complete(later).expect("the loop runs");
        assert!(later.is_ok());
        assert!(!made.get());
    });
}
