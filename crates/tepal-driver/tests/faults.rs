//! Made-up faults, over every engine.

mod common;

use common::*;
use tepal_base::{Buffer, Instant};
use tepal_driver::faults::{FaultDriver, Faults, Operation};
use tepal_driver::{
    Address, Descriptor, Domain, Driver, Half, Interest, Kind, Readiness, Sent, SocketOption,
    open_driver,
};

on_every_engine! {
    fn short_spurious_and_interrupted_io_loses_nothing(driver) {
        for seed in 0..20 {
            let faults = Faults::new(seed);
            let inner = open_driver(Some(driver.name())).expect("opens");
            let mut faulty = FaultDriver::new(inner, &faults);
            let (client, server) = tcp_pair(&mut faulty);
            faults.short(Some(1 + seed as usize * 50));
            faults.spurious(2 + seed as u32 % 5);
            faults.interrupt(3);
            relay_a_message(&mut faulty, client, server);
        }
    }

    fn a_failed_wait_keeps_its_events_for_the_next(driver) {
        let faults = Faults::new(3);
        let mut faulty = FaultDriver::new(open_driver(Some(driver.name())).expect("opens"), &faults);
        let (client, server) = tcp_pair(&mut faulty);
        faulty.register(server, 1, Interest::READ).expect("registers");
        send(&mut faulty, client, b"x");
        faults.fail(Operation::Wait, 1, libc::ENOMEM);
        let mut wait = faulty.prepare(None);
        wait.wait();
        let mut events = Vec::new();
        assert_eq!(errno(faulty.collect(wait, &mut events)), Some(libc::ENOMEM));
        assert!(events.is_empty());
        wait_for(&mut faulty, 1, Readiness::READABLE);
    }

    fn an_injected_would_block_is_followed_by_an_event(driver) {
        let faults = Faults::new(3);
        let mut faulty = FaultDriver::new(open_driver(Some(driver.name())).expect("opens"), &faults);
        let (client, server) = tcp_pair(&mut faulty);
        faulty.register(server, 1, Interest::READ).expect("registers");
        faulty.register(client, 2, Interest::READ).expect("registers");
        faults.fail(Operation::Send, 1, libc::EAGAIN);
        assert_eq!(send(&mut faulty, client, b"x"), Sent { count: 0, blocked: true });
        wait_for(&mut faulty, 2, Readiness::WRITABLE);
        assert_eq!(send(&mut faulty, client, b"x").count, 1);
        wait_for(&mut faulty, 1, Readiness::READABLE);
        faults.fail(Operation::Receive, 1, libc::EAGAIN);
        assert!(receive(&mut faulty, server, 9).0.is_err());
        wait_for(&mut faulty, 1, Readiness::READABLE);
        assert_eq!(receive(&mut faulty, server, 9).0.expect("reads"), b"x");
    }

    fn every_operation_can_be_made_to_fail_and_then_works(driver) {
        let faults = Faults::new(5);
        let mut faulty = FaultDriver::new(open_driver(Some(driver.name())).expect("opens"), &faults);
        for operation in Operation::ALL.into_iter().filter(|operation| operation.can_fail()) {
            faults.fail(operation, 1, libc::ENOTRECOVERABLE);
            let before = faults.injected();
            let failed = call(&mut faulty, operation);
            assert_eq!(failed.raw_os_error(), Some(libc::ENOTRECOVERABLE), "{operation:?}");
            assert_eq!(faults.injected(), before + 1, "{operation:?}");
        }
    }

    fn the_nth_call_of_any_operation_fails(driver) {
        let faults = Faults::new(5);
        let mut faulty = FaultDriver::new(open_driver(Some(driver.name())).expect("opens"), &faults);
        faults.fail_any(3, libc::ENFILE);
        let socket = faulty.open(Domain::Inet, Kind::Stream).expect("is the first");
        faulty.bind(socket, &loopback()).expect("is the second");
        assert_eq!(errno(faulty.listen(socket, 1)), Some(libc::ENFILE));
        faulty.listen(socket, 1).expect("is the fourth");
        assert_eq!((faults.calls(), faults.injected()), (4, 1));
        faults.fail_always(Operation::Open, libc::EMFILE);
        for _ in 0..3 {
            assert_eq!(errno(faulty.open(Domain::Inet, Kind::Stream)), Some(libc::EMFILE));
        }
        faults.clear();
        faulty.open(Domain::Inet, Kind::Stream).expect("opens again");
        assert_eq!(faults.count(Operation::Open), 5);
    }
}

// Sends a message through two registered ends as a loop does: pulls only after an event, and until
// told that nothing is left.
fn relay_a_message(driver: &mut FaultDriver, client: Descriptor, server: Descriptor) {
    let message: Vec<u8> = (0..20_000u32).map(|n| (n * 7) as u8).collect();
    driver.register(client, 1, Interest::READ).expect("registers");
    driver.register(server, 2, Interest::READ).expect("registers");
    let (mut sent, mut writable, mut shut) = (0, true, false);
    let (mut received, mut readable) = (Vec::new(), false);
    loop {
        while writable && sent < message.len() {
            let now = send(driver, client, &message[sent..]);
            sent += now.count;
            writable = !now.blocked;
        }
        if sent == message.len() && !shut {
            driver.shutdown(client, Half::Write).expect("shuts down");
            shut = true;
        }
        if readable {
            let (some, end) = drain(driver, server, 500);
            received.extend(some);
            readable = false;
            if end {
                break;
            }
        }
        for event in wait_until(driver, None) {
            writable |= event.token == 1 && event.readiness.intersects(Readiness::WRITABLE);
            readable |= event.token == 2 && event.readiness.intersects(Readiness::READABLE);
        }
    }
    assert!(received == message);
    driver.close(client).expect("closes");
    driver.close(server).expect("closes");
}

// The failure of one call of an operation.
fn call(driver: &mut FaultDriver, operation: Operation) -> std::io::Error {
    // What the call needs, made by operations that come before it in the list or cannot fail now.
    let nothing = Descriptor::from_bits(0);
    let nowhere: Address = loopback();
    let missing = std::path::Path::new("/nonexistent");
    let option = SocketOption::KeepAlive(true);
    let result = match operation {
        Operation::Now | Operation::Wall | Operation::RawFd => unreachable!("cannot fail"),
        Operation::Entropy => driver.entropy(&mut [0; 4]),
        Operation::Open => driver.open(Domain::Inet, Kind::Stream).map(|_| ()),
        Operation::Pipe => driver.pipe().map(|_| ()),
        Operation::Adopt => {
            let (end, _) = std::io::pipe().expect("opens");
            driver.adopt(end.into()).map(|_| ())
        }
        Operation::Borrow => driver.borrow(0).map(|_| ()),
        Operation::Bind => driver.bind(nothing, &nowhere),
        Operation::Listen => driver.listen(nothing, 1),
        Operation::Connect => driver.connect(nothing, &nowhere).map(|_| ()),
        Operation::TakeError => driver.take_error(nothing).map(|_| ()),
        Operation::Accept => driver.accept(nothing).map(|_| ()),
        Operation::Receive => driver.receive(nothing, Buffer::zeroed(1)).result.map(|_| ()),
        Operation::ReceiveFrom => {
            driver.receive_from(nothing, Buffer::zeroed(1)).result.map(|_| ())
        }
        Operation::Send => driver.send(nothing, &[]).map(|_| ()),
        Operation::SendTo => driver.send_to(nothing, b"", None).map(|_| ()),
        Operation::SendFile => driver.send_file(nothing, nothing, 0, 1).map(|_| ()),
        Operation::ReadAt => driver.read_at(nothing, 0, &mut [0]).map(|_| ()),
        Operation::Splice => driver.splice(nothing, nothing, 1).map(|_| ()),
        Operation::Shutdown => driver.shutdown(nothing, Half::Both),
        Operation::Close => {
            let socket = driver.open(Domain::Inet, Kind::Stream).expect("opens");
            let result = driver.close(socket);
            assert_eq!(driver.raw_fd(socket), None, "a failed close closes nevertheless");
            result
        }
        Operation::LocalAddress => driver.local_address(nothing).map(|_| ()),
        Operation::PeerAddress => driver.peer_address(nothing).map(|_| ()),
        Operation::SetOption => driver.set_option(nothing, &option),
        Operation::Register => driver.register(nothing, 1, Interest::READ),
        Operation::Watch => driver.watch(nothing, 1, Interest::READ),
        Operation::Wait => {
            let wait = driver.prepare(Some(Instant::ZERO));
            driver.collect(wait, &mut Vec::new())
        }
        Operation::Spawn => driver.spawn(&mut tepal_driver::Command::default()).map(|_| ()),
        Operation::WaitChild => driver.wait_child(nothing).map(|_| ()),
        Operation::KillChild => driver.kill_child(nothing, 0),
        Operation::ReadFile => driver.read_file(missing, 1).map(|_| ()),
        Operation::FileChanged => driver.file_changed(missing).map(|_| ()),
        Operation::RemoveFile => driver.remove_file(missing),
        Operation::Interfaces => driver.interfaces().map(|_| ()),
        Operation::HostName => driver.host_name().map(|_| ()),
    };
    result.expect_err("was told to fail")
}
