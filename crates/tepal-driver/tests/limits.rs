//! What happens when descriptors run out. The only test of its process, because the limit belongs
//! to all threads.

mod common;

use std::io;

use common::*;
use tepal_driver::{Domain, Interest, Kind, Readiness, driver_names, open_driver};

#[test]
fn running_out_of_descriptors_is_an_error_that_passes() {
    within_limit(|| {
        calls_fail_and_work_again();
        #[cfg(all(target_os = "linux", not(tepal_portable)))]
        a_child_starts_whole_or_not_at_all();
    });
}

fn calls_fail_and_work_again() {
    for name in driver_names() {
        let mut driver = open_driver(Some(name)).expect("opens");
        let driver = &mut *driver;
        let (listener, address) = listener(driver, 1);
        let client = driver.open(Domain::Inet, Kind::Stream).expect("opens");
        driver.connect(client, &address).expect("connects");
        wait_for(driver, 1, Readiness::READABLE);

        set_limit(64);
        let mut hoard = Vec::new();
        let full = loop {
            match driver.open(Domain::Inet, Kind::Datagram) {
                Ok(socket) => hoard.push(socket),
                Err(error) => break error,
            }
        };
        let out = Some(libc::EMFILE);
        assert_eq!(full.raw_os_error(), out);
        assert_eq!(errno(driver.accept(listener).map(|_| ())), out);
        assert_eq!(errno(driver.pipe().map(|_| ())), out);
        assert_eq!(open_driver(Some(name)).map(|_| ()).map_err(code), Err(out));

        // One token closed is room for one connection, which has waited.
        driver.close(hoard.pop().expect("has some")).expect("closes");
        let (server, _) = driver.accept(listener).expect("has room again");
        driver.register(server, 2, Interest::READ).expect("registers");
        hoard.into_iter().for_each(|socket| driver.close(socket).expect("closes"));
        send(driver, client, b"x");
        wait_for(driver, 2, Readiness::READABLE);
        set_limit(1024);
    }
}

// At each of the last free descriptors, starting a child fails whole or succeeds whole: no child
// runs that nobody can hear of, and nothing stays open.
#[cfg(all(target_os = "linux", not(tepal_portable)))]
fn a_child_starts_whole_or_not_at_all() {
    use tepal_driver::{Command, Stdio};

    for name in driver_names() {
        let mut driver = open_driver(Some(name)).expect("opens");
        let mut outcomes = [0, 0];
        for spare in 0..12 {
            let before = open_descriptors();
            set_limit(64);
            let mut hoard = Vec::new();
            while let Ok(socket) = driver.open(Domain::Inet, Kind::Datagram) {
                hoard.push(socket);
            }
            for socket in hoard.drain(..spare) {
                driver.close(socket).expect("closes");
            }
            let mut command = Command {
                program: "true".into(),
                stdin: Stdio::Piped,
                stdout: Stdio::Piped,
                ..Command::default()
            };
            let started = driver.spawn(&mut command);
            set_limit(1024);
            hoard.into_iter().for_each(|socket| driver.close(socket).expect("closes"));
            match started {
                Ok(child) => {
                    outcomes[0] += 1;
                    driver.register(child.process, 1, Interest::READ).expect("registers");
                    wait_for(&mut *driver, 1, Readiness::READABLE);
                    let status = driver.wait_child(child.process).expect("asks");
                    assert!(status.expect("has ended").success());
                    for end in [child.stdin, child.stdout, Some(child.process)] {
                        driver.close(end.expect("is there")).expect("closes");
                    }
                }
                Err(error) => {
                    outcomes[1] += 1;
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                }
            }
            assert_eq!(open_descriptors(), before, "with {spare} to spare");
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    }
}

#[cfg(all(target_os = "linux", not(tepal_portable)))]
fn open_descriptors() -> usize {
    // SAFETY: asking for flags changes nothing.
    (0..1024).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1).count()
}

fn code(error: io::Error) -> Option<i32> {
    error.raw_os_error()
}

fn set_limit(soft: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid place, and the soft limit stays below the hard one.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}
