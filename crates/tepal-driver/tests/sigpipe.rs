//! SIGPIPE never reaches the process, whatever its disposition. The only test of its process,
//! because dispositions belong to all threads.

mod common;

use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use common::*;
use tepal_driver::{Half, driver_names, open_driver};

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: libc::c_int) {
    SEEN.fetch_add(1, SeqCst);
}

#[test]
fn a_broken_pipe_is_an_error_and_never_a_signal() {
    let handlers = [libc::SIG_IGN, count as *const () as usize, libc::SIG_DFL];
    for (name, handler) in driver_names().iter().zip(handlers.iter().cycle()).chain(
        driver_names().iter().flat_map(|name| handlers.iter().map(move |handler| (name, handler))),
    ) {
        // SAFETY: a handler that only counts, or one of the system's.
        unsafe { libc::signal(libc::SIGPIPE, *handler) };
        let mut driver = open_driver(Some(name)).expect("opens");
        let driver = &mut *driver;
        let broken = Some(libc::EPIPE);

        let (from, to) = driver.pipe().expect("opens");
        driver.close(from).expect("closes");
        assert_eq!(errno(driver.send(to, &[IoSlice::new(b"x")])), broken);
        assert_eq!(errno(driver.send(to, &[IoSlice::new(b"x"), IoSlice::new(b"y")])), broken);

        let (client, _server) = tcp_pair(driver);
        driver.shutdown(client, Half::Write).expect("shuts down");
        assert_eq!(errno(driver.send(client, &[IoSlice::new(b"x")])), broken);
        assert_eq!(errno(driver.send(client, &[IoSlice::new(b"x"), IoSlice::new(b"y")])), broken);

        if cfg!(all(target_os = "linux", not(tepal_portable))) {
            let file = std::fs::File::open(std::env::current_exe().expect("is a file"));
            let file = driver.adopt(file.expect("opens").into()).expect("adopts");
            assert_eq!(errno(driver.send_file(client, file, 0, 10)), broken);
            let (full, pipe) = driver.pipe().expect("opens");
            send(driver, pipe, b"x");
            assert_eq!(errno(driver.splice(full, client, 10)), broken);
            assert_eq!(errno(driver.splice(full, to, 10)), broken);
        }
    }
    assert_eq!(SEEN.load(SeqCst), 0);
    // One of the program's own still comes.
    // SAFETY: as above; raised with a handler installed.
    unsafe {
        libc::signal(libc::SIGPIPE, count as *const () as usize);
        libc::raise(libc::SIGPIPE);
    }
    assert_eq!(SEEN.load(SeqCst), 1);
}
