//! `tepal listen`: relays, echoes, and how a server ends.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use common::certificates::path;
use common::programs::{Folder, Program, all_present, command};
use common::{
    LIMIT, connect, ends, exchange, finish, gets_nothing, listen, nobody, pattern, peer, run,
    socat_echo, tepal,
};
use rustix::process::Signal;

#[test]
fn a_relay_passes_all_on_in_both_directions_for_many_clients() {
    if !all_present(&["socat"]) {
        return;
    }
    let (_socat, far) = socat_echo();
    let (relay, address) = listen(&["--to", &format!("tcp:{far}")]);
    // Far more than the marks, the pipes and the sockets hold.
    let bytes = pattern(8 << 20);
    assert!(exchange(connect(address), &bytes) == bytes);
    let clients: Vec<_> = (0..20)
        .map(|number: u8| {
            std::thread::spawn(move || {
                let bytes = vec![number; 100_000 + usize::from(number)];
                assert!(exchange(connect(address), &bytes) == bytes);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client ends"));
    relay.signal(Signal::TERM);
    ends(relay, 0);
}

#[test]
fn an_echo_sends_back_and_a_client_that_does_not_read_holds_nobody_up() {
    let (_server, address) = listen(&["--echo"]);
    let mut idle = connect(address);
    idle.set_nonblocking(true).expect("a mode");
    // It is never read, so the echo must stop reading.
    let block = [0; 65_536];
    while idle.write(&block).is_ok() {}
    let bytes = pattern(4 << 20);
    assert!(exchange(connect(address), &bytes) == bytes);
}

#[test]
fn tls_is_taken_off_for_a_plain_server_and_put_on_for_a_plain_client() {
    if !all_present(&["socat", "openssl"]) {
        return;
    }
    let (_socat, far) = socat_echo();
    let tls = format!("tls,cert={},key={},alpn=echo", path("server.pem"), path("server.key"));
    let (_off, secure) = listen(&[&tls, "--to", &format!("tcp:{far}")]);
    let mut client = command("openssl");
    client.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost"]);
    client.args(["-verify_hostname", "localhost", "-CAfile", &path("ca.pem")]);
    client.args(["-alpn", "echo", "-connect", &secure.to_string()]);
    let mut client = Program::start(&mut client);
    client.say("through TLS\n");
    client.wait_for_text("through TLS");

    let ca = format!("tls,name=localhost,ca={}", path("ca.pem"));
    let (_on, plain) = listen(&["--to", &format!("tcp:{secure}"), &ca]);
    let bytes = pattern(3 << 20);
    assert!(exchange(connect(plain), &bytes) == bytes);
    drop(client);
}

#[test]
fn the_first_signal_drains_and_the_second_cuts_off() {
    let (server, address) = listen(&["--echo"]);
    let mut client = connect(address);
    client.write_all(b"before").expect("writes");
    client.read_exact(&mut [0; 6]).expect("reads");
    server.signal(Signal::INT);
    server.wait_for_text("1 connection is left to end");
    assert!(TcpStream::connect_timeout(&address, LIMIT).is_err(), "it listens no more");
    assert_eq!(exchange(client, b"after"), b"after");
    ends(server, 0);

    for signal in [Signal::TERM, Signal::INT] {
        let (server, address) = listen(&["--echo", "--drain=none"]);
        let mut client = connect(address);
        client.write_all(b"x").expect("writes");
        client.read_exact(&mut [0; 1]).expect("reads");
        server.signal(signal);
        server.wait_for_text("left to end");
        server.signal(Signal::TERM);
        let said = ends(server, 6);
        assert!(said.contains("1 connection is cut off"), "{said}");
    }

    let (server, address) = listen(&["--echo", "--drain", "50ms"]);
    let mut client = connect(address);
    client.write_all(b"x").expect("writes");
    client.read_exact(&mut [0; 1]).expect("reads");
    server.signal(Signal::TERM);
    ends(server, 6);
}

#[test]
fn once_serves_one_connection_and_ends_as_it_did() {
    let (server, address) = listen(&["--once", "--echo"]);
    assert_eq!(exchange(connect(address), b"one"), b"one");
    ends(server, 0);

    let quiet = "tls,name=localhost";
    for (arguments, code, text) in [
        (&["--once", "--to", &nobody()][..], 4, "refused"),
        (&["--once", "--to", "tcp:no-such-host.invalid:1,timeout-dns=5s"], 3, "cannot find"),
        (&["--once", "--to", "unix:/no/such/socket", quiet], 4, "/no/such/socket"),
    ] {
        let (server, address) = listen(arguments);
        gets_nothing(address);
        let said = ends(server, code);
        assert!(said.contains(text), "{said}");
    }

    let tls = format!("tls,cert={},key={}", path("server.pem"), path("server.key"));
    let (server, address) = listen(&[&tls, "--once", "--echo"]);
    connect(address).write_all(b"this is no TLS\r\n\r\n").expect("writes");
    let said = ends(server, 5);
    let line = said.lines().last().expect("a line");
    assert!(line.starts_with("tepal: [1] client 127.0.0.1:") && line.contains("tls"), "{line}");
}

#[test]
fn a_place_that_cannot_be_listened_at_is_8_and_a_name_without_address_3() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    run(&["listen", &format!("tcp:{address}"), "--echo"], b"")
        .failed(8, &[&address, "does another server run there?"]);
    run(&["listen", "tcp:192.0.2.1:0", "--echo"], b"")
        .failed(8, &["192.0.2.1", "no address of this machine"]);
    run(&["listen", "unix:/no/such/folder/socket", "--echo"], b"")
        .failed(8, &["/no/such/folder/socket"]);
    run(&["listen", "tcp:no-such-host.invalid:0,timeout-dns=5s", "--echo"], b"")
        .failed(3, &["no-such-host.invalid"]);
    run(&["listen", "tcp:127.0.0.1:0"], b"").failed(2, &["--to", "--echo", "--exec", "--stdio"]);
    run(&["listen", "tcp:127.0.0.1:0", "--echo", "--exec", "true"], b"").failed(2, &["one of"]);
}

#[test]
fn names_and_all_addresses_can_be_listened_at() {
    for host in ["localhost", "*"] {
        let mut command = tepal(&["listen", &format!("tcp:{host}:0,family=4"), "--echo"]);
        let server = Program::start(&mut command);
        let port = server.wait_for_port(if host == "*" { "0.0.0.0:" } else { "127.0.0.1:" }).port();
        assert_eq!(exchange(connect(([127, 0, 0, 1], port).into()), b"hi"), b"hi");
    }
    let server = Program::start(&mut tepal(&["listen", "tcp:*:0", "--echo"]));
    let port = server.wait_for("listening", |text| {
        let line = text.strip_suffix('\n')?;
        line.rsplit_once(':')?.1.parse().ok()
    });
    assert_eq!(exchange(connect(([127, 0, 0, 1], port).into()), b"hi"), b"hi");
}

#[test]
fn a_unix_socket_is_listened_at_and_its_file_goes_with_the_server() {
    let folder = Folder::new("listen-unix");
    let file = folder.file("socket");
    let chain = format!("unix:{file}");
    for _ in 0..2 {
        let server = Program::start(&mut tepal(&["listen", &chain, "--echo"]));
        server.wait_for_text("listening on");
        let mut client = UnixStream::connect(&file).expect("connects");
        client.write_all(b"hello").expect("writes");
        client.shutdown(std::net::Shutdown::Write).expect("ends its direction");
        let mut back = String::new();
        client.read_to_string(&mut back).expect("reads");
        assert_eq!(back, "hello");
        server.signal(Signal::TERM);
        ends(server, 0);
        assert!(!std::path::Path::new(&file).exists());
    }
}

#[test]
fn the_file_of_a_unix_socket_has_the_permissions_that_were_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("listen-mode");
    for mode in [0o600, 0o660] {
        let file = folder.file(&format!("socket-{mode:o}"));
        let chain = format!("unix:{file},mode={mode:o}");
        let server = Program::start(&mut tepal(&["listen", &chain, "--echo"]));
        server.wait_for_text("listening on");
        let permissions = std::fs::metadata(&file).expect("it is there").permissions();
        assert_eq!(permissions.mode() & 0o777, mode);
    }
}

#[test]
fn who_is_not_allowed_is_not_served_and_does_not_count() {
    let chain = "tcp:127.0.0.1:0,allow=127.0.0.2,allow=127.1.0.0/16";
    let server = Program::start(&mut tepal(&["listen", chain, "--once", "--echo", "-v"]));
    let address = server.wait_for_port("listening on 127.0.0.1:");
    gets_nothing(address);
    server.wait_for_text("allow= does not name its address");
    let ended = run(&["connect", &format!("tcp:{address},local=127.1.2.3")], b"hello");
    assert_eq!(ended.silent(), b"hello");
    ends(server, 0);
}

#[test]
fn a_header_tells_the_server_who_the_client_is() {
    let (far, server) = peer(|mut stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("reads");
        all
    });
    let (relay, address) = listen(&["--once", "--to", &far, "proxy,version=1"]);
    let client = connect(address);
    let (own, to) = (client.local_addr().expect("its address").port(), address.port());
    exchange(client, b"payload");
    let head = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {to}\r\n");
    assert_eq!(server.join().expect("the server ends"), format!("{head}payload"));
    ends(relay, 0);

    // What a trusted proxy in front says of the client is passed on.
    let (far, server) = peer(|mut stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("reads");
        all
    });
    let arguments = ["proxy,trust=127.0.0.0/8", "--once", "--to", &far, "proxy,version=1"];
    let (relay, address) = listen(&arguments);
    exchange(connect(address), b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\npayload");
    let expected = "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\npayload";
    assert_eq!(server.join().expect("the server ends"), expected);
    ends(relay, 0);
}

#[test]
fn lines_on_one_side_are_lines_on_the_other() {
    let (_server, address) = listen(&["lines,end=crlf", "--echo"]);
    assert_eq!(exchange(connect(address), b"one\r\n\r\ntwo\r\n"), b"one\r\n\r\ntwo\r\n");

    for (layer, to_layer) in [("lines,end=crlf", "lines"), ("lines,end=crlf", "rate,read=1g")] {
        let (far, server) = peer(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("reads");
            stream.write_all(b"HTTP/1.0 200\n\nbody\n").expect("writes");
            all
        });
        let (_relay, address) = listen(&[layer, "--to", &far, to_layer]);
        let back = exchange(connect(address), b"GET / HTTP/1.0\r\n\r\nx\r\n");
        assert_eq!(back, b"HTTP/1.0 200\r\n\r\nbody\r\n", "{to_layer}");
        let there = server.join().expect("the server ends");
        assert_eq!(there, b"GET / HTTP/1.0\n\nx\n", "{to_layer}");
    }
}

#[test]
fn a_limit_lets_further_clients_wait() {
    let (_server, address) = listen(&["--echo", "--max-connections=1"]);
    let mut first = connect(address);
    first.write_all(b"1").expect("writes");
    first.read_exact(&mut [0]).expect("reads");
    let mut second = connect(address);
    second.write_all(b"2").expect("writes");
    second.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a limit");
    second.read_exact(&mut [0]).expect_err("it waits");
    second.set_read_timeout(Some(LIMIT)).expect("a limit");
    drop(first);
    second.read_exact(&mut [0]).expect("its turn has come");
}

#[test]
fn a_quiet_connection_is_ended_where_that_was_asked_for() {
    let chain = "tcp:127.0.0.1:0,timeout-idle=100ms";
    let server = Program::start(&mut tepal(&["listen", chain, "--echo", "--once"]));
    let mut client = connect(server.wait_for_port("listening on 127.0.0.1:"));
    assert_eq!(client.read(&mut [0]).expect("reads"), 0);
    ends(server, 6);
    // Also while bytes pass in the loop alone.
    let (far, server) = peer(|mut stream| stream.read_to_end(&mut Vec::new()));
    let (relay, address) = listen(&["--once", "--to", &format!("{far},timeout-idle=100ms")]);
    let mut client = connect(address);
    let ended = client.read(&mut [0]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    ends(relay, 6);
    let _ = server.join().expect("the server ends");
}

#[test]
fn what_is_told_can_be_more_or_nothing() {
    let (far, server) = peer(|mut stream| stream.read_to_end(&mut Vec::new()));
    let (relay, address) = listen(&["-vv", "--to", &far, "rate,write=1m"]);
    exchange(connect(address), b"four");
    server.join().expect("the server ends").expect("it reads to the end");
    for words in ["accepted", "connecting", "established", "rate", "4 bytes there, 0 back"] {
        relay.wait_for_text(words);
    }

    let mut command = tepal(&["listen", "-q", "unix:/no/such/folder/socket", "--echo"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(child.spawn().expect("it starts")).failed(8, &["/no/such/folder"]);
}
