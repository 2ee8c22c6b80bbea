//! A terminal as a transport: lent and in blocking mode, as standard input and output are.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use common::{Recorder, on_every_driver, run};
use tepal::{CloseKind, Protocol, Transport};

/// A new terminal: the program's side, and ours.
fn terminal() -> (OwnedFd, File) {
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two integers to write to; no name, settings or size are asked for or given.
    let made =
        unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and nobody else has them.
    unsafe { (OwnedFd::from_raw_fd(theirs), File::from_raw_fd(ours)) }
}

fn is_blocking(fd: &impl AsRawFd) -> bool {
    // SAFETY: asks for the flags of an open descriptor.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    assert!(flags >= 0, "the descriptor is open");
    flags & libc::O_NONBLOCK == 0
}

/// Answers each line.
struct Answers;

impl Protocol for Answers {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        transport.write(b"<");
        transport.write(&data[..end]);
        transport.write(b">\n");
        if &data[..end] == b"bye" {
            transport.close();
        }
        end + 1
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &tepal::Closed) {
        assert!(closed.is_clean(), "{closed}");
        transport.event_loop().stop();
    }
}

#[test]
fn a_terminal_that_is_lent_is_read_and_written_and_left_as_it_was() {
    on_every_driver(|event_loop| {
        let (program, mut user) = terminal();
        let transport = event_loop.attach_borrowed(Answers, program.as_raw_fd()).expect("open");
        user.write_all(b"one\ntwo\n").expect("writes");
        let typist = std::thread::spawn(move || {
            let mut screen = Vec::new();
            // The terminal echoes what is typed, and ends lines with a carriage return.
            while !screen.ends_with(b"<two>\r\n") {
                let mut byte = [0];
                user.read_exact(&mut byte).expect("reads");
                screen.push(byte[0]);
            }
            user.write_all(b"bye\n").expect("writes");
            (user, screen)
        });
        run(event_loop);
        let (_user, screen) = typist.join().expect("ends");
        let screen = String::from_utf8_lossy(&screen).into_owned();
        assert!(screen.contains("<one>\r\n"), "{screen:?}");
        assert!(transport.is_closing());
        // Open, and as its owner had it.
        assert!(is_blocking(&program));
    });
}

#[test]
fn a_hang_up_of_the_terminal_ends_the_transport() {
    on_every_driver(|event_loop| {
        let (program, user) = terminal();
        let (recorder, log) = Recorder::new();
        event_loop.attach_borrowed(recorder, program.as_raw_fd()).expect("open");
        event_loop.call_soon(move |_| drop(user));
        run(event_loop);
        assert_eq!(log.borrow().events, ["made", "established", "eof", "lost"]);
        let closed = log.borrow().closed.clone().expect("it has ended");
        assert_eq!(closed.kind, CloseKind::PeerEof);
    });
}

#[test]
fn a_terminal_that_is_open_for_writing_only_is_not_read() {
    on_every_driver(|event_loop| {
        let (program, mut user) = terminal();
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let program_out = File::options().write(true).open(path).expect("opens");
        user.write_all(b"typed for somebody else\n").expect("writes");
        let (recorder, log) = Recorder::new();
        let transport = event_loop.attach(recorder, program_out.into()).expect("attaches");
        event_loop.call_soon(move |event_loop| {
            // The first turn tells of the connection, the second would read.
            fn later(event_loop: &tepal::Loop, transport: Transport, turns: u32) {
                if turns == 0 {
                    transport.write(b"still here");
                    return transport.close();
                }
                event_loop.call_soon(move |event_loop| later(event_loop, transport, turns - 1));
            }
            later(event_loop, transport, 4);
        });
        run(event_loop);
        assert_eq!(log.borrow().events, ["made", "established", "out", "lost"]);
        let mut screen = Vec::new();
        while !screen.ends_with(b"still here") {
            let mut byte = [0];
            user.read_exact(&mut byte).expect("reads");
            screen.push(byte[0]);
        }
        let mut line = [0; 64];
        let count = File::from(program).read(&mut line).expect("reads");
        assert_eq!(&line[..count], b"typed for somebody else\n");
    });
}

#[test]
fn a_lent_descriptor_that_is_not_open_is_refused() {
    on_every_driver(|event_loop| {
        let (recorder, _) = Recorder::new();
        let error = event_loop.attach_borrowed(recorder, -1).expect_err("nothing is there");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    });
}
