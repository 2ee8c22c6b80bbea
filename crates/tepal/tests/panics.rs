//! Panics where no callback is: in destructors, in wakers, in the panic hook. The connections end
//! as ever, and the loop goes on.

mod common;

use std::cell::Cell;
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{Echo, address, on_every_driver, on_every_driver_and_simulated, run};
use tepal::{
    Address, Closed, Command, DatagramProtocol, EventLoop, ExitStatus, Process, ProcessProtocol,
    Protocol, Stdio, Transport,
};

/// Panics without a message on standard error.
fn panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Counts the panics that the loop reports.
fn count_panics(event_loop: &EventLoop) -> Rc<Cell<u32>> {
    let panics = Rc::new(Cell::new(0));
    let count = Rc::clone(&panics);
    event_loop.set_panic_hook(move |_| {
        count.set(count.get() + 1);
        ControlFlow::Continue(())
    });
    panics
}

/// Panics when it is dropped.
struct Brittle;

impl Drop for Brittle {
    fn drop(&mut self) {
        panic();
    }
}

impl Protocol for Brittle {
    fn connection_established(&mut self, transport: &Transport) {
        transport.close();
    }
}

impl DatagramProtocol for Brittle {
    fn connection_made(&mut self, endpoint: &tepal::DatagramTransport) {
        endpoint.close();
    }
}

#[test]
fn a_destructor_that_panics_is_reported_and_the_connection_ends_whole() {
    // That no descriptor is left the simulated kernel's ledger tells.
    on_every_driver_and_simulated(|event_loop| {
        let panics = count_panics(event_loop);
        let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("listens");
        let transport = event_loop.connect(Brittle, address(&server));
        let any = Address::Ip("127.0.0.1:0".parse().expect("an address"));
        let endpoint = event_loop.datagram(Brittle, Some(any), None).expect("binds");
        event_loop.call_later(Duration::from_millis(20), |lp| lp.stop());
        run(event_loop);
        assert_eq!(panics.get(), 2, "one of each");
        assert!(transport.closed().is_some_and(|closed| closed.is_clean()));
        assert!(transport.raw_fd().is_none(), "its socket is closed");
        assert!(endpoint.is_closing() && endpoint.local_address().is_err());
        assert_eq!(server.connection_count(), 0, "the peer has heard of it");
        // One that is never called is dropped with its loop.
        event_loop.connect(Brittle, address(&server));
    });
}

#[test]
fn a_protocol_that_is_replaced_may_panic_as_it_is_dropped() {
    on_every_driver_and_simulated(|event_loop| {
        struct Replaces(#[allow(dead_code, reason = "only dropped")] Brittle);
        impl Protocol for Replaces {
            fn connection_established(&mut self, transport: &Transport) {
                transport.set_protocol(Ends);
                transport.write(b"there and back");
            }
        }
        struct Ends;
        impl Protocol for Ends {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
                transport.close();
                data.len()
            }
            fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
                assert!(closed.is_clean(), "{closed}");
                transport.event_loop().stop();
            }
        }
        let panics = count_panics(event_loop);
        let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("listens");
        event_loop.connect(Replaces(Brittle), address(&server));
        run(event_loop);
        assert_eq!(panics.get(), 1);
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic();
    }
}

#[derive(Default)]
struct Notes(AtomicBool);

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_waker_that_panics_costs_neither_the_connection_nor_the_others_that_wait() {
    on_every_driver_and_simulated(|event_loop| {
        let panics = count_panics(event_loop);
        let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("listens");
        let transport = event_loop.connect(Echo, address(&server));
        let (panicking, notes) = (Waker::from(Arc::new(Panics)), Arc::<Notes>::default());
        let noting = Waker::from(Arc::clone(&notes));
        for waker in [&panicking, &noting] {
            let mut established = pin!(transport.established());
            assert!(established.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        event_loop.call_later(Duration::from_millis(20), |lp| lp.stop());
        run(event_loop);
        assert!(transport.is_established() && notes.0.load(Ordering::Relaxed));
        assert_eq!(panics.get(), 1);

        let mut drained = pin!(server.drain(Duration::from_secs(1)));
        let mut context = Context::from_waker(&panicking);
        assert!(drained.as_mut().poll(&mut context).is_pending());
        transport.close();
        event_loop.call_later(Duration::from_millis(20), |lp| lp.stop());
        run(event_loop);
        assert_eq!(panics.get(), 2);
        assert!(drained.as_mut().poll(&mut context).is_ready());
    });
}

#[test]
fn a_panic_hook_that_panics_ends_the_run_which_unwinds_once_all_is_in_order() {
    on_every_driver_and_simulated(|event_loop| {
        struct Fails(Rc<Cell<u32>>);
        impl Protocol for Fails {
            fn connection_established(&mut self, _: &Transport) {
                panic();
            }
            fn connection_lost(&mut self, _: &Transport, _: &Closed) {
                self.0.set(self.0.get() + 1);
            }
        }
        event_loop.set_panic_hook(|payload| resume_unwind(payload));
        let server = event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").expect("listens");
        let lost = Rc::default();
        for _ in 0..2 {
            let before = Rc::<Cell<u32>>::clone(&lost).get();
            event_loop.connect(Fails(Rc::clone(&lost)), address(&server));
            let payload = catch_unwind(AssertUnwindSafe(|| run(event_loop))).expect_err("unwinds");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
            assert_eq!(lost.get(), before, "told in a later turn");
            event_loop.call_later(Duration::from_millis(20), |lp| lp.stop());
            run(event_loop);
            assert_eq!(lost.get(), before + 1);
        }
        event_loop.call_soon(|_| panic());
        let future = async { std::future::pending::<()>().await };
        let run = || event_loop.run_until_complete(future);
        catch_unwind(AssertUnwindSafe(run)).expect_err("unwinds");
    });
}

#[test]
fn a_panic_in_a_callback_of_a_process_ends_the_child_that_nobody_else_would_end() {
    /// Panics when the child has begun, or when it speaks.
    struct Fails {
        at_once: bool,
    }
    impl ProcessProtocol for Fails {
        fn connection_made(&mut self, _: &Process) {
            if self.at_once {
                panic();
            }
        }
        fn pipe_data_received(&mut self, _: &Process, _: i32, _: &[u8]) -> usize {
            panic();
        }
        fn process_exited(&mut self, _: &Process, _: ExitStatus) {
            unreachable!("nothing is told to a protocol that has panicked");
        }
    }
    on_every_driver(|event_loop| {
        let panics = count_panics(event_loop);
        for at_once in [true, false] {
            let command = Command {
                program: "sh".into(),
                args: vec!["-c".into(), "echo hello; exec sleep 60".into()],
                stdin: Stdio::Piped,
                stdout: Stdio::Piped,
                ..Command::default()
            };
            let process = event_loop.subprocess(Fails { at_once }, command).expect("starts");
            let ended = event_loop.timeout(Duration::from_secs(10), process.wait());
            let status = event_loop.run_until_complete(ended).expect("the loop runs");
            assert_eq!(status, Ok(ExitStatus::Signal(libc::SIGKILL)));
        }
        assert_eq!(panics.get(), 2);
    });
}
