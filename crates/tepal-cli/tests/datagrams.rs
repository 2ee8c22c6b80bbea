//! `udp` at both ends, with sockets of the standard library and socat as peers.

mod common;

use std::net::UdpSocket;

use common::programs::{Program, all_present, command};
use common::{LIMIT, ends, run, tepal};
use rustix::process::Signal;

/// Starts `tepal listen` at a port of the kernel's choice, and says which it is.
fn listen(arguments: &[&str]) -> (Program, String) {
    let server = Program::start(&mut tepal(&[&["listen"], arguments].concat()));
    let address = server.wait_for_port("listening on 127.0.0.1:");
    (server, address.to_string())
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    socket
}

/// Sends a datagram, and returns what comes back.
fn ask(socket: &UdpSocket, address: &str, question: &[u8]) -> Vec<u8> {
    socket.send_to(question, address).expect("sends");
    let mut answer = [0; 65_536];
    let (count, from) = socket.recv_from(&mut answer).expect("an answer");
    assert_eq!(from.to_string(), address);
    answer[..count].to_vec()
}

#[test]
fn datagrams_are_sent_back_one_by_one() {
    let (server, address) = listen(&["udp:127.0.0.1:0", "--echo"]);
    let client = socket();
    for question in [&b"one"[..], b"", &[7; 9000]] {
        assert_eq!(ask(&client, &address, question), question);
    }
    server.signal(Signal::TERM);
    ends(server, 0);
}

#[test]
fn each_line_is_a_datagram_and_the_answers_are_lines() {
    let server = socket();
    let address = server.local_addr().expect("its address");
    let thread = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut datagram = [0; 100];
            let (count, from) = server.recv_from(&mut datagram).expect("a datagram");
            let text = String::from_utf8_lossy(&datagram[..count]).into_owned();
            server.send_to(format!("got {text}").as_bytes(), from).expect("sends");
            seen.push(text);
        }
        seen
    });
    let out = run(&["connect", &format!("udp:{address}"), "lines"], b"one\n\nlast").silent();
    assert_eq!(String::from_utf8_lossy(&out), "got one\ngot \ngot last\n");
    assert_eq!(thread.join().expect("the server ends"), ["one", "", "last"]);
}

#[test]
fn each_client_of_a_relay_gets_its_own_answers_until_it_is_quiet() {
    let (_echo, far) = listen(&["udp:127.0.0.1:0", "--echo"]);
    let to = format!("udp:{far},timeout-idle=100ms");
    let (relay, address) = listen(&["udp:127.0.0.1:0", "-v", "--to", &to]);
    let clients = [socket(), socket(), socket()];
    for round in 0..10_u8 {
        for (number, client) in clients.iter().enumerate() {
            let question = [round, number as u8];
            assert_eq!(ask(client, &address, &question), question);
        }
    }
    relay.wait_for("ends", |text| (text.matches(" closed ").count() >= 3).then_some(()));
    // It begins anew.
    assert_eq!(ask(&clients[0], &address, b"again"), b"again");
    relay.signal(Signal::INT);
    ends(relay, 0);
}

#[test]
fn who_is_not_allowed_gets_no_answer() {
    let (_server, address) = listen(&["udp:127.0.0.1:0,allow=127.0.0.2", "--echo"]);
    let (stranger, friend) = (socket(), UdpSocket::bind("127.0.0.2:0").expect("a port"));
    friend.set_read_timeout(Some(LIMIT)).expect("a limit");
    stranger.send_to(b"?", &address).expect("sends");
    // Both come to one socket, in order.
    assert_eq!(ask(&friend, &address, b"!"), b"!");
    stranger.set_nonblocking(true).expect("a mode");
    stranger.recv(&mut [0; 1]).expect_err("nothing comes");
}

#[test]
fn what_fails_has_its_status() {
    let free = socket().local_addr().expect("its address");
    run(&["connect", &format!("udp:{free}")], b"x").failed(4, &["refused"]);
    run(&["connect", "udp:no-such-host.invalid:1,timeout-dns=5s"], b"x")
        .failed(3, &["no-such-host.invalid"]);
    run(&["connect", &format!("udp:{free}"), "lines,max=2"], b"long\n").failed(7, &["longer"]);
    let quiet = socket();
    let address = quiet.local_addr().expect("its address");
    let mut command = tepal(&["connect", &format!("udp:{address},timeout-idle=100ms")]);
    let mut program = Program::start(&mut command);
    assert_eq!(program.wait().code(), Some(6));
    run(&["listen", &format!("udp:{address}"), "--echo"], b"").failed(8, &["in use"]);
    for (arguments, text) in [
        (&["connect", "udp:a:1", "--echo"][..], "standard input and output"),
        (&["listen", "udp:a:1", "--exec", "cat"], "a program reads a stream"),
        (&["listen", "udp:a:1", "--stdio"], "sent back"),
        (&["listen", "udp:a:1", "--to", "tcp:b:2"], "both chains"),
        (&["listen", "tcp:a:1", "--to", "udp:b:2"], "both chains"),
    ] {
        run(arguments, b"").failed(2, &[text]);
    }
    let ended = run(&["connect", "udp:a:1", "tls"], b"");
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
    assert!(ended.errors.contains("lines alone"), "{}", ended.errors);
}

#[test]
fn socat_is_a_peer() {
    if !all_present(&["socat"]) {
        return;
    }
    let (_server, address) = listen(&["udp:127.0.0.1:0", "--echo"]);
    let mut socat = command("socat");
    socat.args(["-t", "10", "-", &format!("UDP:{address}")]);
    let mut socat = Program::start(&mut socat);
    socat.say("from socat\n");
    socat.wait_for_text("from socat");
}
