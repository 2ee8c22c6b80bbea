//! `tepal connect` with pipes, files and terminals at one end and plain peers at the other.

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::programs::{Folder, Program, all_present, command};
use common::{LIMIT, finish, nobody, pattern, peer, run, socat_echo, tepal};

#[test]
fn what_is_piped_comes_back_from_an_echo_of_socat() {
    if !all_present(&["socat"]) {
        return;
    }
    let (_socat, address) = socat_echo();
    // Far more than the marks, the pipes and the sockets hold: each side is held up meanwhile.
    let bytes = pattern(8 << 20);
    let out = run(&["connect", &format!("tcp:{address}")], &bytes).silent();
    assert!(out == bytes, "{} bytes came back", out.len());
    assert_eq!(run(&["connect", &format!("tcp:{address}")], b"").silent(), b"");
}

#[test]
fn files_are_read_to_their_end_and_written() {
    let folder = Folder::new("files");
    let bytes = pattern(3 << 20);
    let (from, to) = (folder.write("from", &bytes), folder.file("to"));
    let (chain, server) = peer(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("reads");
        all.reverse();
        stream.write_all(&all).expect("writes");
    });
    let mut command = tepal(&["connect", &chain]);
    command.stdin(File::open(from).expect("opens")).stdout(File::create(&to).expect("creates"));
    finish(command.stderr(Stdio::piped()).spawn().expect("it starts")).silent();
    server.join().expect("the server ends");
    let mut back = std::fs::read(to).expect("reads");
    back.reverse();
    assert!(back == bytes, "all of it, in order");
}

#[test]
fn the_end_of_the_input_is_told_and_the_answer_is_read() {
    let (chain, server) = peer(|mut stream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).expect("reads to the end");
        stream.write_all(b"the answer").expect("writes");
        question
    });
    assert_eq!(run(&["connect", &chain], b"the question").silent(), b"the answer");
    assert_eq!(server.join().expect("the server ends"), b"the question");
}

#[test]
fn a_peer_that_ends_first_still_gets_the_whole_input() {
    let (chain, server) = peer(|mut stream| {
        stream.shutdown(Shutdown::Write).expect("ends its direction");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("reads");
        all
    });
    let bytes = pattern(6 << 20);
    assert_eq!(run(&["connect", &chain], &bytes).silent(), b"");
    assert!(server.join().expect("the server ends") == bytes);
}

#[test]
fn a_peer_that_has_gone_ends_the_run_although_the_input_stays_open() {
    let (chain, server) = peer(|mut stream| stream.write_all(b"bye").expect("writes"));
    let mut command = tepal(&["connect", &chain]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let _input = child.stdin.take();
    assert_eq!(finish(child).silent(), b"bye");
    server.join().expect("the server ends");
}

#[test]
fn the_end_of_the_input_can_be_kept_to_oneself_and_waits_limited() {
    let (chain, server) = peer(|mut stream| {
        let mut word = [0; 4];
        stream.read_exact(&mut word).expect("reads");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit");
        let end = stream.read(&mut word).expect_err("no end comes");
        assert!(matches!(end.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{end}");
        stream.write_all(b"still here").expect("writes");
    });
    assert_eq!(run(&["connect", "--keep-open", &chain], b"word").silent(), b"still here");
    server.join().expect("the server ends");

    for after in ["--after-input=0", "--after-input=50ms"] {
        let (chain, server) = peer(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("reads");
            // Closed from the other side: it ends although we say nothing.
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
            let mut more = [0];
            let _ = stream.read(&mut more);
            all
        });
        assert_eq!(run(&["connect", &chain, after], b"all of it").silent(), b"");
        assert_eq!(server.join().expect("the server ends"), b"all of it");
    }
}

#[test]
fn standard_streams_that_are_closed_or_null_or_full() {
    for (streams, code, expected) in [
        ("</dev/null", 0, "<>"),
        ("<&-", 0, "<>"),
        ("</dev/null >/dev/null", 0, ""),
        ("</dev/null >&-", 0, ""),
        ("</dev/null >/dev/full", 7, ""),
    ] {
        let (chain, server) = peer(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("reads");
            stream.write_all(&[b"<", &all[..], b">"].concat()).expect("writes");
        });
        let mut command = Command::new("sh");
        let script = format!("exec \"$0\" connect {chain} {streams}");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_tepal")]).stdin(Stdio::piped());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let ended = finish(child.expect("it starts"));
        assert_eq!(ended.code, Some(code), "{streams}: {}", ended.errors);
        assert_eq!(ended.out, expected.as_bytes(), "{streams}");
        if code == 7 {
            ended.failed(7, &["standard output", "No space left"]);
        }
        server.join().expect("the server ends");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_run() {
    let (chain, server) = peer(|mut stream| {
        let line = [b'y'; 4096];
        while stream.write_all(&line).is_ok() {}
    });
    let mut command = Command::new("sh");
    let script = format!("{{ \"$0\" connect {chain} </dev/null; echo $? >&2; }} | head -c 5");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tepal")]).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let ended = finish(child.expect("it starts"));
    assert_eq!((ended.out.as_slice(), ended.errors.as_str()), (&b"yyyyy"[..], "7\n"));
    server.join().expect("the server ends");
}

#[test]
fn a_terminal_is_used_and_left_as_it_was() {
    if !all_present(&["python3"]) {
        return;
    }
    let (chain, server) = peer(|mut stream| {
        let mut byte = [0];
        let mut line = Vec::new();
        while byte != *b"\n" {
            stream.read_exact(&mut byte).expect("reads");
            line.push(byte[0]);
        }
        stream.write_all(b"you said ").expect("writes");
        stream.write_all(&line).expect("writes");
        // The typist ends it, by control-D.
        stream.read_to_end(&mut line).expect("reads");
    });
    let script = r#"
import fcntl, os, pty, subprocess, sys, termios
master, slave = pty.openpty()
before = fcntl.fcntl(slave, fcntl.F_GETFL), termios.tcgetattr(slave)
run = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave)
os.write(master, b"hello\n")
screen = b""
while b"you said hello\r\n" not in screen:
    screen += os.read(master, 100)
os.write(master, b"\x04")
print(run.wait(timeout=20), before == (fcntl.fcntl(slave, fcntl.F_GETFL), termios.tcgetattr(slave)))
"#;
    let mut command = Command::new("python3");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tepal"), "connect", &chain]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let ended = finish(child.expect("python3 starts"));
    assert_eq!(String::from_utf8_lossy(&ended.out), "0 True\n", "{}", ended.errors);
    server.join().expect("the server ends");
}

#[test]
fn a_peer_that_is_not_there_yet_is_tried_again() {
    let chain = nobody();
    let child = tepal(&["connect", "--retry", &chain])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("it starts");
    let mut errors = child.stderr.take().expect("it is piped");
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        errors.read_exact(&mut byte).expect("it tells of its failure");
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.contains("refused") && text.ends_with("trying again\n"), "{text}");
    let address = chain.strip_prefix("tcp:").expect("an address");
    let listener = TcpListener::bind(address).expect("the port is free still");
    drop(child.stdin.take());
    let (mut stream, _) = listener.accept().expect("it comes");
    stream.write_all(b"at last").expect("writes");
    drop(stream);
    let ended = finish(child);
    assert_eq!((ended.code, ended.out.as_slice()), (Some(0), &b"at last"[..]));

    let ended = run(&["connect", "--retry=1", &nobody()], b"");
    let lines: Vec<_> = ended.errors.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(4), 2), "{lines:?}");
    assert!(lines[0].ends_with("trying again") && lines[1].contains("attempt 2"), "{lines:?}");
}

#[test]
fn lines_get_the_ends_that_the_peer_wants() {
    let (chain, server) = peer(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("reads");
        stream.write_all(b"250 fine\r\n\r\nlast\r\n").expect("writes");
        all
    });
    let out = run(&["connect", &chain, "lines,end=crlf"], b"helo\n\nlast").silent();
    assert_eq!(out, b"250 fine\n\nlast\n");
    assert_eq!(server.join().expect("the server ends"), b"helo\r\n\r\nlast\r\n");

    // Many lines, in pieces that end anywhere.
    let (chain, server) = peer(|stream| {
        let mut back = stream.try_clone().expect("a second handle");
        std::io::copy(&mut &stream, &mut back).expect("copies");
        back.shutdown(Shutdown::Write).expect("ends its direction");
    });
    let mut text = String::new();
    for number in 0..100_000 {
        text.push_str(&format!("line {number}\n"));
    }
    let out = run(&["connect", &chain, "lines,end=nul"], text.as_bytes()).silent();
    assert!(out == text.as_bytes(), "each line comes back");
    server.join().expect("the server ends");

    let (chain, server) = peer(|mut stream| stream.read_to_end(&mut Vec::new()));
    let ended = run(&["connect", &chain, "lines,max=4"], b"12345\n");
    ended.failed(7, &["standard input", "longer than 4 bytes"]);
    // Cut off in the middle of the session, by either kind of end.
    let _ = server.join().expect("the server ends");
}

#[test]
fn both_ends_are_where_they_were_asked_to_be() {
    let (chain, server) = peer(|stream| stream.peer_addr().expect("its address"));
    run(&["connect", &format!("{chain},local=127.0.0.2,keepalive")], b"").silent();
    assert_eq!(server.join().expect("the server ends").ip().to_string(), "127.0.0.2");

    if !all_present(&["socat"]) {
        return;
    }
    let folder = Folder::new("unix");
    let path = folder.file("socket");
    let mut socat = command("socat");
    let socat = Program::start(socat.args(["-dd", &format!("UNIX-LISTEN:{path}"), "EXEC:cat"]));
    socat.wait_for_text("listening on");
    assert_eq!(run(&["connect", &format!("unix:{path}")], b"by file").silent(), b"by file");
}

#[test]
fn a_signal_ends_it_as_it_ends_other_programs() {
    let (chain, server) = peer(|mut stream| {
        stream.write_all(b"!").expect("writes");
        stream.read_to_end(&mut Vec::new())
    });
    let mut command = tepal(&["connect", &chain]);
    let mut program = Program::start(&mut command);
    program.wait_for_text("!");
    program.signal(rustix::process::Signal::INT);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(program.wait().signal(), Some(2));
    let _ = server.join().expect("the server ends");
}
