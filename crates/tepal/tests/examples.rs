//! The examples, each run as a process and talked to over loopback.

mod programs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use programs::{LIMIT, Program, connect, exchange};

/// Bytes that show a loss, a repetition and a change of order.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn every_example_explains_itself_and_refuses_wrong_arguments() {
    let wrong: &[(&str, &[&str])] = &[
        ("echo_server", &[]),
        ("echo_server", &["localhost"]),
        ("echo_server", &["127.0.0.1:0", "more"]),
        ("echo_server", &["127.0.0.1:0", "--tls", "cert.pem"]),
        ("proxy", &["127.0.0.1"]),
        ("proxy", &["127.0.0.1:0", "--password", "alone"]),
        ("echo_client", &["127.0.0.1:1", "--count"]),
        ("echo_client", &["127.0.0.1:1", "--count", "0"]),
        ("echo_client", &["127.0.0.1:1", "--size", "-5"]),
        ("echo_client", &["127.0.0.1:1", "--speed", "5"]),
        ("chat", &["127.0.0.1"]),
        ("udp_echo", &["127.0.0.1:70000"]),
        ("relay", &["127.0.0.1:0"]),
        ("relay", &["127.0.0.1:0", "example.org:80"]),
        ("ticker", &["--interval", "0"]),
        ("ticker", &["5"]),
        ("subprocess", &[]),
        ("subprocess", &["--input"]),
        ("subprocess", &["--output", "text", "cat"]),
        ("demo", &["quickly"]),
        ("futures", &["now"]),
    ];
    for (name, arguments) in wrong {
        let ended = Program::start(name, arguments).wait();
        assert_eq!(ended.code, Some(2), "{name} {arguments:?}");
        assert!(ended.errors.contains(&format!("usage: {name}")), "{}", ended.errors);
        assert!(ended.lines.is_empty(), "what is wrong goes to standard error");

        let ended = Program::start(name, &["--help"]).wait();
        assert_eq!(ended.code, Some(0), "{name} --help");
        assert!(ended.lines[0].starts_with(&format!("usage: {name}")), "{}", ended.lines[0]);
    }
}

#[test]
fn the_program_of_the_readme_is_the_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let page = std::fs::read_to_string(path).expect("the README is there");
    let (_, rest) = page.split_once("```rust,ignore\n").expect("it has a program");
    let (program, _) = rest.split_once("```").expect("which ends");
    let example = include_str!("../examples/readme.rs");
    assert_eq!(example, format!("//! The program of the README.\n\n{program}"));
}

#[test]
fn an_address_in_use_is_an_error_and_not_a_panic() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for name in ["echo_server", "chat"] {
        let ended = Program::start(name, &[&address]).wait();
        assert_eq!(ended.code, Some(1), "{name}");
        assert!(ended.errors.contains(&address), "{}", ended.errors);
        assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    }
}

#[test]
fn the_echo_server_returns_all_and_drains() {
    let mut server = Program::start("echo_server", &["127.0.0.1:0"]);
    let address = server.address();
    // Far more than the marks and the sockets hold: the sender is held up meanwhile.
    let bytes = pattern(8 << 20);
    assert!(exchange(connect(address), bytes.clone()) == bytes, "eight megabytes come back");

    let mut kept = connect(address);
    kept.write_all(b"before").expect("sends");
    let mut reply = [0; 6];
    kept.read_exact(&mut reply).expect("reads");
    server.terminate();
    assert_eq!(server.line(), "draining 1 connections");
    // It listens no more, and the connection that stands is still served.
    assert!(TcpStream::connect_timeout(&address, LIMIT).is_err());
    assert_eq!(exchange(kept, b"after".to_vec()), b"after");
    let ended = server.wait();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(ended.lines, ["drained, 0 aborted"]);
}

#[test]
fn the_echo_client_counts_its_round_trips() {
    let mut server = Program::start("echo_server", &["127.0.0.1:0"]);
    let address = server.address().to_string();
    for size in ["1", "1000000"] {
        let arguments = [&address, "--count", "20", "--size", size];
        let ended = Program::start("echo_client", &arguments).wait();
        assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
        assert_eq!(ended.lines[0], format!("20 round trips of {size} bytes"));
        let mean = ended.lines[1].strip_prefix("mean latency ").expect("the mean");
        let mean: f64 = mean.strip_suffix(" us").expect("its unit").parse().expect("a number");
        assert!(mean > 0.0);
    }
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn the_echo_pair_speaks_tls_and_refuses_whom_it_does_not_trust() {
    let data = |name: &str| {
        let data =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tepal-layers/tests/data");
        data.join(name).to_str().expect("a name in Unicode").to_owned()
    };
    let files = [data("server.pem"), data("server.key"), data("ca.pem"), data("self.pem")];
    let mut server = Program::start("echo_server", &["127.0.0.1:0", "--tls", &files[0], &files[1]]);
    let address = server.address().to_string();
    let tls = [&address, "--tls", "server.test", "--ca", &files[2], "--size", "100000"];
    let ended = Program::start("echo_client", &tls).wait();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(ended.lines[0], "100 round trips of 100000 bytes");
    for wrong in [
        [&address, "--tls", "server.test", "--ca", &files[3]],
        [&address, "--tls", "other.test", "--ca", &files[2]],
    ] {
        let ended = Program::start("echo_client", &wrong).wait();
        assert_eq!(ended.code, Some(1));
        assert!(ended.errors.contains("cannot set up tls with"), "{}", ended.errors);
    }
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn the_proxy_relays_for_each_protocol_and_only_for_those_who_know_the_password() {
    let mut echo = Program::start("echo_server", &["127.0.0.1:0"]);
    let mut proxy = Program::start("proxy", &["127.0.0.1:0"]);
    let (target, address) = (echo.address(), proxy.address());
    let port = target.port().to_be_bytes();
    let socks4 = [&[4, 1][..], &port, &[127, 0, 0, 1], b"me\0"].concat();
    let socks5 = [&[5, 1, 0, 5, 1, 0, 3, 9][..], b"localhost", &port].concat();
    let connect_head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes();
    for (request, granted) in [
        (socks4, &[0, 90][..]),
        (socks5, &[5, 0, 5, 0, 0, 1, 127, 0, 0, 1]),
        (connect_head, b"HTTP/1.1 200"),
    ] {
        // What follows the request in the same segment is the far side's.
        let back = exchange(connect(address), [&request[..], b"glued behind"].concat());
        assert!(back.starts_with(granted), "{back:?}");
        assert!(back.ends_with(b"glued behind"), "{back:?}");
    }
    assert_eq!(proxy.end().code, Some(0));

    let mut proxy = Program::start("proxy", &["127.0.0.1:0", "--password", "me", "secret"]);
    let address = proxy.address();
    let greeting = |password: &[u8]| {
        let name = [&[5, 1, 2, 1, 2][..], b"me", &[password.len() as u8], password].concat();
        [&name[..], &[5, 1, 0, 1, 127, 0, 0, 1], &port].concat()
    };
    let back = exchange(connect(address), [&greeting(b"secret")[..], b"in"].concat());
    assert!(back.starts_with(&[5, 2, 1, 0, 5, 0]) && back.ends_with(b"in"), "{back:?}");
    let mut stream = connect(address);
    stream.write_all(&greeting(b"guess")).expect("sends");
    let mut back = Vec::new();
    // The proxy may reset what it has not read.
    let _ = stream.read_to_end(&mut back);
    assert!(back.starts_with(&[5, 2, 1]) && back[3] != 0 && back.len() == 4, "{back:?}");
    assert_eq!(proxy.end().code, Some(0));
    assert_eq!(echo.end().code, Some(0));
}

#[test]
fn the_echo_client_tells_a_refusal_and_a_wrong_reply() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let client = Program::start("echo_client", &[&address, "--size", "5"]);
    let (mut stream, _) = listener.accept().expect("the client connects");
    stream.write_all(b"wrong").expect("sends");
    let ended = client.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("differs"), "{}", ended.errors);

    drop((listener, stream));
    let ended = Program::start("echo_client", &[&address]).wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("cannot connect to"), "{}", ended.errors);
}

struct Person(BufReader<TcpStream>);

impl Person {
    fn join(address: std::net::SocketAddr, name: &str, here: usize) -> Person {
        let mut person = Person(BufReader::new(connect(address)));
        assert_eq!(person.hear(), "your name?");
        person.say(&format!("{name}\r\n"));
        assert_eq!(person.hear(), format!("welcome, {name}; {here} here"));
        person
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("sends");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("reads");
        line.trim_end().to_owned()
    }
}

#[test]
fn chat_passes_whole_lines_to_the_others() {
    let mut server = Program::start("chat", &["127.0.0.1:0"]);
    let address = server.address();
    let mut ann = Person::join(address, "Ann", 0);
    let mut bob = Person::join(address, "Bob", 1);
    assert_eq!(ann.hear(), "* Bob joined");
    // Several lines in one packet, and one line in two.
    bob.say("one\ntwo\nthr");
    assert_eq!(ann.hear(), "Bob: one");
    assert_eq!(ann.hear(), "Bob: two");
    bob.say("ee\n");
    assert_eq!(ann.hear(), "Bob: three");
    // Bytes that are no text, and a line that never ends: the first is shown, the second ends.
    bob.0.get_mut().write_all(b"\xff\n").expect("sends");
    assert_eq!(ann.hear(), "Bob: \u{fffd}");
    bob.say(&"x".repeat(5000));
    assert_eq!(ann.hear(), "* Bob left");
    drop(ann);
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn chat_drops_a_member_that_does_not_read() {
    let mut server = Program::start("chat", &["127.0.0.1:0"]);
    let address = server.address();
    let ann = Person::join(address, "Ann", 0);
    let mut bob = Person::join(address, "Bob", 1);
    let mut writer = bob.0.get_ref().try_clone().expect("a second handle");
    // More than the sockets and the server's limit hold together; it stops when Bob leaves.
    let talker = std::thread::spawn(move || {
        let line = [vec![b'x'; 4000], vec![b'\n']].concat();
        (0..20_000).take_while(|_| writer.write_all(&line).is_ok()).count()
    });
    assert_eq!(bob.hear(), "* Ann left");
    bob.0.get_ref().shutdown(std::net::Shutdown::Both).expect("leaves");
    assert!(talker.join().expect("the talker ends") > 200, "it was not dropped at once");
    drop(ann);
    let ended = server.end();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
}

#[test]
fn udp_echo_returns_datagrams_whole_and_empty_ones_too() {
    let mut server = Program::start("udp_echo", &["127.0.0.1:0"]);
    let address = server.address();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a time limit");
    for len in [0, 1, 1400, 60_000] {
        let sent = pattern(len);
        socket.send_to(&sent, address).expect("sends");
        let mut reply = vec![0; 65_536];
        let (count, from) = socket.recv_from(&mut reply).expect("a reply");
        assert_eq!(from, address);
        assert!(reply[..count] == sent, "{len} bytes come back");
    }
    let ended = server.end();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(ended.lines, ["4 echoed, 0 failed"]);
}

/// A server that reads to the end and then answers with the same bytes backwards.
fn backwards(listener: TcpListener) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the relay connects");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a time limit");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("reads");
        bytes.reverse();
        stream.write_all(&bytes).expect("writes");
    })
}

#[test]
fn the_relay_passes_both_directions_and_their_ends() {
    let target = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target_address = target.local_addr().expect("its address").to_string();
    let server = backwards(target);
    let mut relay = Program::start("relay", &["127.0.0.1:0", &target_address]);
    let address = relay.address();
    let bytes = pattern(3_000_000);
    let back = exchange(connect(address), bytes.clone());
    server.join().expect("the target has answered");
    assert!(back.iter().rev().eq(bytes.iter()), "all bytes came back, backwards");
    assert_eq!(relay.line(), "relayed 3000000 bytes there, 3000000 back");

    // Nobody listens at the target now. The client is told by a reset, which may come so soon that
    // connecting already fails with it.
    let told = TcpStream::connect_timeout(&address, LIMIT).and_then(|mut refused| {
        refused.set_read_timeout(Some(LIMIT))?;
        refused.read(&mut [0; 1])
    });
    assert_eq!(told.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    assert!(relay.line().starts_with("cannot connect to "));
    let ended = relay.end();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(ended.lines, ["draining 0 connections", "drained, 0 aborted"]);
}

#[test]
fn the_ticker_is_never_early_and_obeys_signals() {
    let ended = Program::start("ticker", &["--interval", "5", "--count", "4"]).wait();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(ended.lines.len(), 6, "{:?}", ended.lines);
    for (n, line) in ended.lines[1..5].iter().enumerate() {
        let rest = line.strip_prefix(&format!("tick {} after ", n + 1)).expect("a tick");
        let (millis, _) = rest.split_once(" ms").expect("its unit");
        assert!(millis.parse::<f64>().expect("a number") >= 5.0, "{line}");
    }

    // An interval that no test waits for: what comes is the signals' doing.
    let mut ticker = Program::start("ticker", &["--interval", "600000"]);
    assert_eq!(ticker.line(), "ticking every 600000 ms");
    for (signal, answer) in
        [("USR1", "restarted"), ("HUP", "paused"), ("HUP", "going on"), ("USR1", "restarted")]
    {
        ticker.signal(signal);
        assert_eq!(ticker.line(), answer);
    }
    let ended = ticker.end();
    assert_eq!((ended.code, ended.lines), (Some(0), vec!["ended".to_owned()]));
}

#[test]
fn the_subprocess_example_passes_bytes_and_exit_codes() {
    let script = "read line; echo \"got $line\"; echo oops >&2; exit 7";
    let ended = Program::start("subprocess", &["--input", "a line\n", "sh", "-c", script]).wait();
    assert_eq!((ended.code, ended.lines), (Some(7), vec!["got a line".to_owned()]));
    assert!(ended.errors.contains("oops\n"), "{}", ended.errors);
    assert!(ended.errors.contains("exit code 7, 11 bytes out, 5 to errors"), "{}", ended.errors);

    let missing = Program::start("subprocess", &["/no/such/program"]).wait();
    assert_eq!(missing.code, Some(1));

    // A signal to the parent reaches the child, which says so and ends.
    let script = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut parent = Program::start("subprocess", &["sh", "-c", script]);
    assert_eq!(parent.line(), "ready");
    let ended = parent.end();
    assert_eq!((ended.code, ended.lines), (Some(0), vec!["told".to_owned()]));
    assert_eq!(Program::start("subprocess", &["sh", "-c", "kill -KILL $$"]).wait().code, Some(137));
}

#[test]
fn the_futures_example_awaits_tasks_limits_and_connections() {
    let ended = Program::start("futures", &[]).wait();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(
        ended.lines,
        [
            "slept: short, long",
            "a minute in five milliseconds: the time is up",
            "one has 3 letters",
            "three has 5 letters",
            "seventeen has 9 letters",
            "drained, 0 aborted",
            "then the connection is refused",
        ]
    );
}

#[test]
fn the_demo_finds_everything_right() {
    let ended = Program::start("demo", &[]).wait();
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{:#?}", ended.lines);
    let parts = ended.lines.iter().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(parts, 7, "{:#?}", ended.lines);
}
