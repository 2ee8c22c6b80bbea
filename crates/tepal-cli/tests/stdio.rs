//! `tepal listen --stdio`, and what `tepal connect` serves in place of standard input and output.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;

use common::programs::{Folder, Program};
use common::{connect, ends, exchange, finish, listen, pattern, peer, run, tepal};

#[test]
fn the_first_client_is_joined_to_standard_input_and_output() {
    let (mut server, address) = listen(&["--stdio"]);
    server.say("typed\n");
    drop(server.stdin.take());
    let mut client = connect(address);
    client.write_all(b"sent").expect("writes");
    client.shutdown(Shutdown::Write).expect("ends its direction");
    let mut all = String::new();
    client.read_to_string(&mut all).expect("reads");
    assert_eq!(all, "typed\n");
    assert!(std::net::TcpStream::connect(address).is_err(), "it listens no more");
    assert!(ends(server, 0).contains("sent"));
}

#[test]
fn much_is_received_into_a_file() {
    let folder = Folder::new("listen-stdio");
    let (socket, to) = (folder.file("socket"), folder.file("to"));
    let mut command = tepal(&["listen", &format!("unix:{socket}"), "--stdio", "-q"]);
    let file = std::fs::File::create(&to).expect("creates");
    command.stdin(std::process::Stdio::null()).stdout(file);
    let server = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let bytes = pattern(5 << 20);
    let sender = run(&["connect", "--retry", &format!("unix:{socket}")], &bytes);
    assert_eq!((sender.code, sender.out.as_slice()), (Some(0), &b""[..]));
    finish(server).silent();
    assert!(std::fs::read(to).expect("reads") == bytes, "all of it, in order");
}

#[test]
fn lines_are_typed_and_shown_on_this_side_too() {
    let mut command = tepal(&["listen", "tcp:127.0.0.1:0", "lines,end=crlf", "--stdio"]);
    let mut server = Program::start(&mut command);
    let address = server.wait_for_port("listening on 127.0.0.1:");
    server.say("hello\n");
    drop(server.stdin.take());
    assert_eq!(exchange(connect(address), b"one\r\ntwo\r\n"), b"hello\r\n");
    assert!(ends(server, 0).contains("one\ntwo\n"));
}

#[test]
fn a_signal_before_the_client_ends_in_order_and_then_as_it_ends_other_programs() {
    use std::os::unix::process::ExitStatusExt;
    let (server, address) = listen(&["--stdio"]);
    server.signal(rustix::process::Signal::INT);
    ends(server, 0);
    assert!(std::net::TcpStream::connect(address).is_err());

    let (mut server, address) = listen(&["--stdio"]);
    let mut client = connect(address);
    client.write_all(b"here\n").expect("writes");
    server.wait_for_text("here");
    server.signal(rustix::process::Signal::INT);
    assert_eq!(server.wait().signal(), Some(2));
}

#[test]
fn a_connection_that_we_make_can_be_given_to_a_program_or_passed_on() {
    let (far, server) = peer(|mut stream| {
        stream.write_all(b"b\na\n").expect("writes");
        stream.shutdown(Shutdown::Write).expect("ends its direction");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("reads");
        all
    });
    run(&["connect", &far, "--exec", "sort"], b"not read").silent();
    assert_eq!(server.join().expect("the server ends"), "a\nb\n");

    let bytes = pattern(3 << 20);
    let sent = bytes.clone();
    let (left, server) = peer(move |stream| exchange(stream, &sent));
    let (right, other) = peer(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("reads");
        stream.write_all(b"back").expect("writes");
        all
    });
    run(&["connect", &left, "--to", &right], b"").silent();
    assert!(other.join().expect("the other ends") == bytes, "all of it, in order");
    assert_eq!(server.join().expect("the server ends"), b"back");

    let (far, server) = peer(|stream| stream.peer_addr().expect("its address").port());
    let ended = run(&["connect", &far, "--exec", "sh", "-c", "exit 3"], b"");
    ended.failed(9, &["sh: exit code 3"]);
    server.join().expect("the server ends");
    run(&["connect", &common::nobody(), "--exec", "true"], b"").failed(4, &["refused"]);
    run(&["connect", &common::nobody(), "--echo", "--exec", "true"], b"").failed(2, &["one of"]);
}

#[test]
fn what_passes_is_shown_and_recorded() {
    let folder = Folder::new("tap");
    let (text, capture) = (folder.file("passed"), folder.file("passed.pcapng"));
    let (_server, address) = listen(&["--echo"]);
    let chain = format!("tcp:{address}");
    let ended = run(&["connect", &chain, "tap"], b"hello tap");
    assert_eq!((ended.code, ended.out.as_slice()), (Some(0), &b"hello tap"[..]));
    assert_eq!(ended.errors.matches("hello tap").count(), 2, "both ways: {}", ended.errors);

    for file in [&text, &capture] {
        run(&["connect", &chain, &format!("tap,file={file}")], b"hello tap").silent();
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(std::fs::read_to_string(text).expect("text").contains("hello tap"));
    let capture = std::fs::read(capture).expect("reads");
    assert_eq!(capture[..4], 0x0a0d_0d0a_u32.to_le_bytes(), "a section of pcapng");
    let ended = run(&["connect", &chain, "tap,file=/dev/full"], b"x");
    assert_eq!((ended.code, ended.out.as_slice()), (Some(0), &b"x"[..]));
    assert_eq!(ended.errors.matches("no more is recorded").count(), 1, "{}", ended.errors);
    run(&["connect", &chain, "tap,form=pcapng"], b"")
        .code
        .filter(|code| *code == 2)
        .expect("usage");
}
