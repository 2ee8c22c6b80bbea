//! `tepal listen --exec`: a program for each connection.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{LIMIT, connect, ends, exchange, gets_nothing, listen, pattern};
use rustix::process::Signal;

#[test]
fn a_program_reads_and_writes_the_connection() {
    let (_server, address) = listen(&["--exec", "sort", "-r"]);
    assert_eq!(exchange(connect(address), b"a\nc\nb\n"), b"c\nb\na\n");
    let (_server, address) = listen(&["--exec", "cat"]);
    let bytes = pattern(4 << 20);
    assert!(exchange(connect(address), &bytes) == bytes);

    let (_server, address) = listen(&["--exec", "sh", "-c", "echo \"$TEPAL_PEER\""]);
    let client = connect(address);
    let own = client.local_addr().expect("its address");
    assert_eq!(exchange(client, b""), format!("{own}\n").as_bytes());

    let (_server, address) = listen(&["lines,end=crlf", "--exec", "cat"]);
    assert_eq!(exchange(connect(address), b"one\r\n\r\ntwo\r\n"), b"one\r\n\r\ntwo\r\n");
}

#[test]
fn a_program_can_have_a_terminal() {
    let script = "test -t 0 && test -t 1 && test -t 2 && read line && echo \"got $line\"";
    let (server, address) = listen(&["--once", "--pty", "--exec", "sh", "-c", script]);
    let mut client = connect(address);
    client.write_all(b"hello\n").expect("writes");
    let mut all = String::new();
    client.read_to_string(&mut all).expect("reads to the end");
    // The terminal shows what is typed.
    assert_eq!(all, "hello\r\ngot hello\r\n");
    drop(client);
    ends(server, 0);

    // The end of the client's direction is typed, in a line and behind one.
    for (sent, shown) in [(&b"one\n"[..], "one\r\none\r\n"), (b"one\ntwo", "one\r\ntwoone\r\ntwo")]
    {
        let (server, address) = listen(&["--once", "--pty", "--exec", "sh", "-c", "exec sort"]);
        let all = String::from_utf8(exchange(connect(address), sent)).expect("UTF-8");
        assert!(all.replace("^D\u{8}\u{8}", "").starts_with(shown), "{all:?}");
        ends(server, 0);
    }
}

#[test]
fn its_exit_status_is_known() {
    for (script, code, text) in [
        ("exit 0", 0, ""),
        ("echo out; exit 3", 9, "sh: exit code 3"),
        ("kill -KILL $$", 9, "sh: ended by signal 9"),
    ] {
        let (server, address) = listen(&["--once", "--exec", "sh", "-c", script]);
        let mut all = Vec::new();
        let mut client = connect(address);
        client.read_to_end(&mut all).expect("reads");
        drop(client);
        let said = ends(server, code);
        assert!(said.contains(text), "{said}");
    }
    let (server, address) = listen(&["--once", "--exec", "/no/such/program"]);
    gets_nothing(address);
    let said = ends(server, 9);
    assert!(said.contains("/no/such/program: cannot be started"), "{said}");
}

#[test]
fn a_client_that_is_gone_hangs_the_program_up() {
    let (server, address) = listen(&["--once", "--exec", "sh", "-c", "echo $$; exec sleep 60"]);
    let mut client = connect(address);
    let mut byte = [0];
    client.read_exact(&mut byte).expect("reads");
    // Something stays unread, so the close is a reset.
    let start = Instant::now();
    drop(client);
    ends(server, 6);
    assert!(start.elapsed() < LIMIT, "long before the program would have ended");
}

#[test]
fn programs_are_reaped_and_leave_no_descriptor() {
    let (server, address) = listen(&["-v", "--exec", "sh", "-c", "echo $PPID"]);
    let process = String::from_utf8(exchange(connect(address), b"")).expect("a number");
    let process = process.trim();
    let folder = format!("/proc/{process}/fd");
    let open = || std::fs::read_dir(&folder).expect("the server runs").count();
    let settle = |connections: usize| {
        server.wait_for("ends", |text| {
            (text.matches("ended well").count() == connections).then_some(())
        });
    };
    let children = format!("/proc/{process}/task/{process}/children");
    // The end is told before the last descriptor of a connection is closed.
    let comes_to = |most: usize| {
        let start = Instant::now();
        loop {
            let left = std::fs::read_to_string(&children).unwrap_or_default();
            let open = open();
            if left.is_empty() && open <= most {
                return open;
            }
            assert!(start.elapsed() < LIMIT, "children {left:?}, {open} descriptors of {most}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    settle(1);
    let before = comes_to(usize::MAX);
    for _ in 0..30 {
        exchange(connect(address), b"");
    }
    settle(31);
    comes_to(before);
}

#[test]
fn the_server_can_end_before_the_program() {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let (server, address) = listen(&["--drain=none", "--exec", "sh", "-c", script]);
    let mut client = connect(address);
    client.read_exact(&mut [0; 6]).expect("it is ready");
    server.signal(Signal::INT);
    server.wait_for_text("left to end");
    server.signal(Signal::INT);
    ends(server, 6);
    // Its connection has gone with the server, and it was asked to end.
    client.read_to_end(&mut Vec::new()).expect("reads to the end");
}
