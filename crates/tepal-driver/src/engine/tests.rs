//! Budgets: how often the kernel is told what to report.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tepal_base::{Buffer, Instant, Key};

use super::Engine;
use crate::entry::{Entry, Slot};
use crate::selector::{Epoll, Selector, Timeout, Trigger};
use crate::sys::Notifier;
use crate::{
    Address, Descriptor, Domain, Driver, Event, Interest, Kind, Readiness, UnixAddress, Wait,
};

thread_local! {
    // Calls of epoll_ctl by this thread's engine.
    static CONTROLS: Cell<u32> = const { Cell::new(0) };
}

// epoll, counted.
struct Counted(Epoll);

fn count() {
    CONTROLS.set(CONTROLS.get() + 1);
}

impl Selector for Counted {
    const NAME: &'static str = "counted";
    const TELLS_DUPLICATES: bool = Epoll::TELLS_DUPLICATES;
    const HAS_ONCE: bool = Epoll::HAS_ONCE;

    fn new() -> io::Result<Counted> {
        Epoll::new().map(Counted)
    }

    fn notifier(&self) -> &Arc<Notifier> {
        self.0.notifier()
    }

    fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<Slot> {
        count();
        self.0.add(fd, key, trigger, interest)
    }

    fn change(
        &mut self,
        fd: BorrowedFd<'_>,
        slot: Slot,
        key: Key<Entry>,
        trigger: Trigger,
        interest: Interest,
    ) -> io::Result<()> {
        count();
        self.0.change(fd, slot, key, trigger, interest)
    }

    fn rearm(&mut self, slot: Slot, interest: Interest) {
        self.0.rearm(slot, interest);
    }

    fn remove(&mut self, fd: BorrowedFd<'_>, slot: Slot, forgotten: bool) {
        if !forgotten {
            count();
        }
        self.0.remove(fd, slot, forgotten);
    }

    fn prepare(&mut self, timeout: Timeout) -> Box<dyn Wait> {
        self.0.prepare(timeout)
    }

    fn collect(
        &mut self,
        wait: Box<dyn Wait>,
        report: impl FnMut(Key<Entry>, Readiness),
    ) -> io::Result<()> {
        self.0.collect(wait, report)
    }
}

fn wait(driver: &mut Engine<Counted>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut wait = driver.prepare(None);
    wait.wait();
    driver.collect(wait, &mut events).expect("collects");
    events
}

fn connection(driver: &mut Engine<Counted>, domain: Domain) -> (Descriptor, Descriptor) {
    let local = match domain {
        Domain::Unix => Address::Unix(UnixAddress::Unnamed), // the kernel chooses a name
        _ => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
    };
    let listener = driver.open(domain, Kind::Stream).expect("opens");
    driver.bind(listener, &local).expect("binds");
    driver.listen(listener, 1).expect("listens");
    let address = driver.local_address(listener).expect("is bound");
    let client = driver.open(domain, Kind::Stream).expect("opens");
    driver.connect(client, &address).expect("connects");
    let (server, _) = driver.accept(listener).expect("is there");
    driver.close(listener).expect("closes");
    (client, server)
}

#[test]
fn a_connection_that_never_blocks_costs_one_epoll_ctl() {
    let mut driver = Engine::<Counted>::new().expect("opens");
    for domain in [Domain::Inet, Domain::Unix] {
        let (client, server) = connection(&mut driver, domain);
        CONTROLS.set(0);
        driver.register(server, 1, Interest::READ).expect("registers");
        for _ in 0..100 {
            driver.send(client, &[IoSlice::new(b"request")]).expect("sends");
            assert_eq!(wait(&mut driver).len(), 1);
            let received = driver.receive(server, Buffer::zeroed(100));
            assert!(!received.more, "one system call is enough");
            driver.send(server, &[IoSlice::new(b"response")]).expect("sends");
        }
        driver.close(server).expect("closes");
        driver.close(client).expect("closes");
        assert_eq!(CONTROLS.get(), 1);
    }
}

#[test]
fn a_connection_that_blocks_often_costs_two() {
    let mut driver = Engine::<Counted>::new().expect("opens");
    let (client, server) = connection(&mut driver, Domain::Unix);
    CONTROLS.set(0);
    driver.register(server, 1, Interest::READ).expect("registers");
    let block = [7; 1 << 16];
    for _ in 0..10 {
        let mut sent = 0;
        loop {
            let now = driver.send(server, &[IoSlice::new(&block)]).expect("sends");
            sent += now.count;
            if now.blocked {
                break;
            }
        }
        while sent > 0 {
            sent -= driver.receive(client, Buffer::zeroed(1 << 16)).result.expect("reads");
        }
        while !wait(&mut driver).iter().any(|event| event.readiness.intersects(Readiness::WRITABLE))
        {
        }
    }
    driver.close(server).expect("closes");
    assert_eq!(CONTROLS.get(), 2);
}

#[test]
fn whoever_waits_again_and_again_costs_one_epoll_ctl_each_time() {
    let mut driver = Engine::<Counted>::new().expect("opens");
    let (client, server) = connection(&mut driver, Domain::Unix);
    let number = driver.raw_fd(server).expect("is open");
    let borrowed = driver.borrow(number).expect("borrows");
    driver.send(client, &[IoSlice::new(b"request")]).expect("sends");
    CONTROLS.set(0);
    for _ in 0..100 {
        assert!(driver.watch_once(borrowed, 1, Interest::READ).expect("watches"));
        assert_eq!(wait(&mut driver).len(), 1);
    }
    assert_eq!(CONTROLS.get(), 100);
}

#[test]
fn what_is_borrowed_is_deregistered_before_it_is_let_go() {
    let mut driver = Engine::<Counted>::new().expect("opens");
    let (client, server) = connection(&mut driver, Domain::Unix);
    let number = driver.raw_fd(server).expect("is open");
    let borrowed = driver.borrow(number).expect("borrows");
    driver.register(borrowed, 1, Interest::READ).expect("registers");
    CONTROLS.set(0);
    driver.close(borrowed).expect("lets go");
    assert_eq!(CONTROLS.get(), 1);
    driver.send(client, &[IoSlice::new(b"x")]).expect("sends");
    let look = driver.prepare(Some(Instant::ZERO));
    let mut events = Vec::new();
    driver.collect(look, &mut events).expect("collects");
    assert_eq!(events, []);
}

#[test]
fn one_waiter_serves_all_waits() {
    let mut driver = Engine::<Counted>::new().expect("opens");
    let address = |wait: &dyn Wait| std::ptr::from_ref(wait).cast::<()>();
    let first = driver.prepare(None);
    let place = address(&*first);
    driver.collect(first, &mut Vec::new()).expect("collects");
    let second = driver.prepare(None);
    assert_eq!(address(&*second), place);
}
