//! Loops that are closed while others still hold them: nothing is kept, nothing is opened.
//!
//! One test and not many: it counts the descriptors of the process.

mod common;

use std::cell::RefCell;
use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{Nothing, Recorder, open_descriptors};
use tepal::{Address, Command, EventLoop, Interest, Loop, ProcessProtocol, Protocol};

/// What a callback holds: a mark that tells whether it was dropped, and its loop.
type Held = (Rc<()>, Loop);

struct Keeps(#[allow(dead_code, reason = "only held")] Held);

impl Protocol for Keeps {}
impl ProcessProtocol for Keeps {}

fn somewhere() -> SocketAddr {
    "127.0.0.1:9".parse().expect("an address")
}

/// Gives a loop that is closed everything that a loop takes.
fn give_everything(lp: &Loop, mark: &Rc<()>) {
    let held = || -> Held { (Rc::clone(mark), lp.clone()) };
    let (one, two) = (held(), held());
    assert!(!lp.call_soon(move |_| drop(one)).is_pending());
    assert!(!lp.call_later(Duration::from_secs(1), move |_| drop(two)).is_pending());
    let one = held();
    let timer = lp.timer(Duration::from_secs(1), move |_, _| drop(one.clone()));
    timer.start();
    assert!(!timer.is_active());
    let one = held();
    lp.trigger(move |_| drop(one.clone())).fire();
    let one = held();
    let task = lp.spawn(async move {
        pending::<()>().await;
        drop(one);
    });
    assert!(task.is_finished());

    let transport = lp.connect(Keeps(held()), somewhere());
    assert!(transport.is_closing());
    transport.write(b"to nobody");
    drop(lp.create_connection(|| Recorder::new().0, somewhere()));
    drop(lp.resolve("localhost", 80));

    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let one = held();
    let refused = [
        lp.listen(|_: &Address| Recorder::new().0, "127.0.0.1:0").map(|_| ()),
        lp.attach(Keeps(held()), OwnedFd::from(ours)).map(|_| ()),
        lp.attach_borrowed(Keeps(held()), theirs.as_raw_fd()).map(|_| ()),
        lp.watch(theirs.as_raw_fd(), Interest::READ, move |_, _| drop(one.clone())).map(|_| ()),
        lp.datagram(Nothing, None, Some(Address::Ip(somewhere()))).map(|_| ()),
        lp.add_signal_handler(libc::SIGUSR1, |_, _| ()),
        lp.subprocess(Keeps(held()), Command { program: "true".into(), ..Command::default() })
            .map(|_| ()),
    ];
    for refusal in refused {
        assert_eq!(refusal.expect_err("closed").kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_loop_that_is_closed_keeps_nothing_that_it_is_given_and_nothing_of_its_own() {
    for name in tepal_driver::driver_names() {
        let before = open_descriptors();
        let mark = Rc::new(());
        let driver = tepal_driver::open_driver(Some(name)).expect("a driver of this platform");
        let event_loop = EventLoop::with_driver(driver);
        let lp = event_loop.clone();
        // Hooks that hold the loop that holds them.
        let held = (Rc::clone(&mark), lp.clone());
        event_loop.set_trouble_hook(move |_, _| drop(held.clone()));
        let held = (Rc::clone(&mark), lp.clone());
        event_loop.set_panic_hook(move |_| {
            drop(held.clone());
            std::ops::ControlFlow::Continue(())
        });
        // What a destructor queues while the loop is closed.
        struct Requeues(RefCell<Option<Held>>);
        impl Drop for Requeues {
            fn drop(&mut self) {
                if let Some((mark, lp)) = self.0.take() {
                    let again = lp.clone();
                    lp.call_soon(move |_| drop((mark, again)));
                }
            }
        }
        let requeues = Requeues(RefCell::new(Some((Rc::clone(&mark), lp.clone()))));
        event_loop.call_soon(move |_| drop(requeues));
        drop(event_loop);
        give_everything(&lp, &mark);
        drop(lp);
        assert_eq!(Rc::strong_count(&mark), 1, "dropped, on {name}");
        assert_eq!(open_descriptors(), before, "descriptors, on {name}");
    }
}
