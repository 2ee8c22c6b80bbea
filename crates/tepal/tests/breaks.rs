//! Panics that end the run, whose other work is done by the next one, and the hook that decides.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{address, client, on_every_driver, run};
use tepal::{EventLoop, Interest, Protocol, Transport};

fn panic() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// Runs a test on loops whose runs are ended by any panic.
fn on_every_loop(test: impl Fn(&EventLoop)) {
    on_every_driver(|event_loop| {
        event_loop.set_panic_hook(|_| ControlFlow::Break(()));
        test(event_loop);
    });
}

#[test]
fn callbacks_behind_it_run_in_the_next_run() {
    on_every_loop(|event_loop| {
        let order = Rc::new(RefCell::new(Vec::new()));
        for n in 0..5 {
            let order = Rc::clone(&order);
            event_loop.call_soon(move |_| {
                order.borrow_mut().push(n);
                if n % 2 == 1 {
                    panic();
                }
            });
        }
        event_loop.call_soon(|lp| lp.stop());
        run(event_loop);
        assert_eq!(*order.borrow(), [0, 1]);
        run(event_loop);
        assert_eq!(*order.borrow(), [0, 1, 2, 3]);
        run(event_loop);
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn other_connections_are_answered_by_the_next_run() {
    on_every_loop(|event_loop| {
        struct PanicsAtX(Rc<Cell<usize>>);
        impl Protocol for PanicsAtX {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
                if data == b"x" {
                    panic();
                }
                transport.write(data);
                self.0.set(self.0.get() + 1);
                if self.0.get() == 4 {
                    transport.event_loop().stop();
                }
                data.len()
            }
        }
        let heard = Rc::new(Cell::new(0));
        let count = Rc::clone(&heard);
        let server = event_loop
            .listen(move |_| PanicsAtX(Rc::clone(&count)), "127.0.0.1:0")
            .expect("listens");
        // All are there when the loop looks, and two of them end its run.
        let messages = [b"a", b"x", b"b", b"c", b"x", b"d"];
        let mut clients: Vec<_> = messages.iter().map(|_| client(address(&server))).collect();
        for (stream, message) in clients.iter_mut().zip(messages) {
            stream.write_all(message).expect("writes");
        }
        (0..3).for_each(|_| run(event_loop));
        assert_eq!(heard.get(), 4);
        // The two have been told; this ends them.
        event_loop.call_later(Duration::from_millis(1), |lp| lp.stop());
        run(event_loop);
        for (stream, message) in clients.iter_mut().zip(messages) {
            let mut back = [0];
            match stream.read(&mut back) {
                Ok(1) => assert_eq!(&back, message),
                _ => assert_eq!(message, b"x"),
            }
        }
    });
}

#[test]
fn a_watcher_a_timer_and_a_trigger_go_on_after_their_own() {
    on_every_loop(|event_loop| {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"x").expect("writes");
        let first = Cell::new(true);
        let mut watcher = event_loop
            .watch(ours.as_raw_fd(), Interest::READ, move |lp, _| {
                if first.take() {
                    panic();
                }
                ours.read_exact(&mut [0]).expect("it is still ready");
                lp.stop();
            })
            .expect("watches");
        watcher.start().expect("starts");
        run(event_loop);
        run(event_loop);
        drop(watcher);

        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        let timer = event_loop.timer(Duration::from_micros(10), move |_, timer| {
            count.set(count.get() + 1);
            timer.again();
            panic();
        });
        timer.start();
        (0..3).for_each(|_| run(event_loop));
        assert_eq!(calls.get(), 3);
        timer.stop();

        calls.set(0);
        let count = Rc::clone(&calls);
        let trigger = event_loop.trigger(move |_| {
            count.set(count.get() + 1);
            panic();
        });
        for round in 1..4 {
            trigger.fire();
            run(event_loop);
            assert_eq!(calls.get(), round);
        }
    });
}

#[test]
fn what_was_written_before_it_is_sent() {
    on_every_loop(|event_loop| {
        struct Speaks;
        impl Protocol for Speaks {
            fn connection_established(&mut self, transport: &Transport) {
                transport.write(b"heard");
                transport.event_loop().call_soon(|_| panic());
            }
        }
        let server = event_loop.listen(|_| Speaks, "127.0.0.1:0").expect("listens");
        let mut stream = client(address(&server));
        run(event_loop);
        let mut back = [0; 5];
        stream.read_exact(&mut back).expect("was sent");
        assert_eq!(&back, b"heard");
    });
}

#[test]
fn a_hook_that_sets_another_gives_way_to_it() {
    let event_loop = Rc::new(EventLoop::new().expect("a loop"));
    let calls = Rc::new(RefCell::new(Vec::new()));
    let (first, second) = (Rc::clone(&calls), Rc::clone(&calls));
    let weak = Rc::downgrade(&event_loop);
    let mut next = Some(move |_: Box<dyn std::any::Any + Send>| {
        second.borrow_mut().push("second");
        ControlFlow::Continue(())
    });
    event_loop.set_panic_hook(move |_| {
        first.borrow_mut().push("first");
        let hook = next.take().expect("called once");
        weak.upgrade().expect("it runs").set_panic_hook(hook);
        ControlFlow::Continue(())
    });
    for _ in 0..3 {
        event_loop.call_soon(|_| panic());
    }
    event_loop.call_soon(|lp| lp.stop());
    run(&event_loop);
    assert_eq!(*calls.borrow(), ["first", "second", "second"]);
}
