//! `openssl s_server` and `s_client`.

use rustix::process::Signal;
use tepal_layers::{ErrorKind, How, Late, Stack};

use std::time::Duration;

use crate::certificates::{ca, certificate, client, path, server};
use crate::programs::{Program, all_present, command, repeats};
use crate::wire::{Listener, Wire};

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")];

/// A server that listens on a port of the kernel's choice.
fn s_server(arguments: &[&str]) -> (Program, std::net::SocketAddr) {
    let mut command = command("openssl");
    let (cert, key) = (path("server.pem"), path("server.key"));
    command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key]);
    let program = Program::start(command.args(arguments));
    let address = program.wait_for_port("ACCEPT 127.0.0.1:");
    (program, address)
}

fn s_client(listener: &Listener, arguments: &[&str]) -> Program {
    let mut command = command("openssl");
    let at = format!("127.0.0.1:{}", listener.port());
    let ca = path("ca.pem");
    command.args(["s_client", "-connect", &at, "-CAfile", &ca, "-servername", "localhost"]);
    command.args(["-verify_return_error", "-verify_hostname", "localhost"]);
    Program::start(command.args(arguments))
}

fn tls(builder: tepal_layers::TlsBuilder) -> Stack {
    Stack::new().with(builder.build().unwrap())
}

#[test]
fn both_versions_carry_lines_to_s_server_and_back_however_they_are_cut() {
    if !all_present(&["openssl"]) {
        return;
    }
    for (argument, version) in VERSIONS {
        // It sends each line back reversed.
        let (_program, address) = s_server(&[argument, "-rev"]);
        for piece in [1, 700, 16 << 10] {
            let mut wire = Wire::connect(address, &tls(client()));
            wire.piece = piece;
            assert_eq!(wire.tls_info().version, version);
            wire.write(b"drawer\n");
            wire.until_data(b"reward\n");
            assert_eq!(wire.close(), Some(How::Closed));
        }
    }
}

#[test]
fn s_client_is_served_in_both_versions() {
    if !all_present(&["openssl"]) {
        return;
    }
    for (argument, version) in VERSIONS {
        let listener = Listener::new();
        let mut program = s_client(&listener, &[argument, "-ign_eof"]);
        let mut wire = listener.accept(&tls(server()));
        let info = wire.tls_info();
        assert_eq!((info.version, info.server_name.as_deref()), (version, Some("localhost")));
        program.say("from s_client\n");
        wire.until_data(b"from s_client\n");
        wire.write(b"from us\n");
        program.wait_for_text("from us");
        program.wait_for_text("Verify return code: 0 (ok)");
        // It answers our end with its own.
        assert_eq!(wire.close(), Some(How::Closed));
        assert!(program.finish().0.success());
    }
}

#[test]
fn a_renegotiation_by_the_server_costs_at_most_the_connection() {
    if !all_present(&["openssl"]) {
        return;
    }
    let (mut program, address) = s_server(&["-tls1_2"]);
    let mut wire = Wire::connect(address, &tls(client()));
    wire.until_established();
    program.say("before\n");
    wire.until_data(b"before\n");
    program.say("R\n");
    // We say no with a warning; OpenSSL then gives up with handshake_failure.
    assert_eq!(wire.until_over(), Some(ErrorKind::TlsAlert(40)));
    assert_eq!(wire.bench.data(), b"before\n");
}

#[test]
fn a_renegotiation_by_the_client_costs_at_most_the_connection() {
    if !all_present(&["openssl"]) {
        return;
    }
    let listener = Listener::new();
    let mut program = s_client(&listener, &["-tls1_2"]);
    let mut wire = listener.accept(&tls(server()));
    program.say("before\n");
    wire.until_data(b"before\n");
    program.say("R\n");
    // We say no with a warning; OpenSSL then gives up with handshake_failure.
    assert_eq!(wire.until_over(), Some(ErrorKind::TlsAlert(40)));
    assert_eq!(wire.bench.data(), b"before\n");
}

#[test]
fn key_updates_of_either_peer_lose_no_byte() {
    if !all_present(&["openssl"]) {
        return;
    }
    let (mut program, address) = s_server(&["-tls1_3"]);
    let mut wire = Wire::connect(address, &tls(client()));
    wire.until_established();
    let listener = Listener::new();
    let mut other = s_client(&listener, &["-tls1_3"]);
    let mut served = listener.accept(&tls(server()));
    served.until_established();
    // k changes the sender's key, K asks for the other's too.
    for (program, wire) in [(&mut program, &mut wire), (&mut other, &mut served)] {
        // Behind the tickets.
        program.say("ready\n");
        wire.until_data(b"ready\n");
        for round in 0..5 {
            for command in ["k\n", "K\n"] {
                // A line read in one piece with a command would be taken for a part of it.
                let before = wire.received;
                program.say(command);
                wire.until_received(before + 1);
                let line = format!("round {round} behind {command}");
                program.say(&line);
                wire.until_data(line.as_bytes());
                let answer = format!("our answer {round} to {command}");
                wire.write(answer.as_bytes());
                program.wait_for_text(answer.trim_end());
            }
        }
    }
    assert_eq!(served.close(), Some(How::Closed));
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours_or_tells_why_not() {
    if !all_present(&["openssl"]) {
        return;
    }
    let ca = path("ca.pem");
    for (argument, _) in VERSIONS {
        let arguments = [argument, "-rev", "-Verify", "1", "-verify_return_error", "-CAfile", &ca];
        let (program, address) = s_server(&arguments);
        let shown = client().certificate(certificate("client"));
        let mut wire = Wire::connect(address, &tls(shown));
        wire.write(b"me\n");
        wire.until_data(b"em\n");
        assert_eq!(wire.close(), Some(How::Closed));
        program.wait_for_text("CN = client");
        // Without one, and with one of nobody's.
        for (builder, alerts) in
            [(client(), [40, 116]), (client().certificate(certificate("self")), [18, 48])]
        {
            let mut wire = Wire::connect(address, &tls(builder));
            let kind = wire.until_over();
            let alert =
                |kind| matches!(kind, Some(ErrorKind::TlsAlert(alert)) if alerts.contains(&alert));
            assert!(alert(kind), "{argument}: {kind:?}");
        }
    }
}

#[test]
fn clients_show_their_certificate_or_hear_the_alert() {
    if !all_present(&["openssl"]) {
        return;
    }
    let (cert, key) = (path("client.pem"), path("client.key"));
    for (argument, _) in VERSIONS {
        let strict = tls(server().client_roots(ca()));
        let listener = Listener::new();
        let mut program = s_client(&listener, &[argument, "-cert", &cert, "-key", &key]);
        let mut wire = listener.accept(&strict);
        assert!(!wire.tls_info().peer_certificates.is_empty());
        program.say("it is me\n");
        wire.until_data(b"it is me\n");
        let program = s_client(&listener, &[argument]);
        let mut wire = listener.accept(&strict);
        assert_eq!(wire.until_over(), Some(ErrorKind::TlsCertificate));
        drop(wire);
        program.wait_for_text(if argument == "-tls1_3" { "alert number 116" } else { "alert" });
    }
}

#[test]
fn a_protocol_is_agreed_on_or_the_handshake_fails() {
    if !all_present(&["openssl"]) {
        return;
    }
    for (argument, _) in VERSIONS {
        let (_program, address) = s_server(&[argument, "-rev", "-alpn", "http/1.1,tepal/1"]);
        let mut wire = Wire::connect(address, &tls(client().alpn(["tepal/1", "h2"])));
        assert_eq!(wire.tls_info().alpn.as_deref(), Some(&b"tepal/1"[..]));
        let listener = Listener::new();
        let program = s_client(&listener, &[argument, "-alpn", "x,tepal/1"]);
        let mut wire = listener.accept(&tls(server().alpn(["h2", "tepal/1"])));
        assert_eq!(wire.tls_info().alpn.as_deref(), Some(&b"tepal/1"[..]));
        program.wait_for_text("ALPN protocol: tepal/1");
        let program = s_client(&listener, &[argument, "-alpn", "x"]);
        let mut wire = listener.accept(&tls(server().alpn(["h2"])));
        assert_eq!(wire.until_over(), Some(ErrorKind::TlsHandshake));
        program.wait_for_text("alert number 120");
    }
}

#[test]
fn sessions_are_resumed_with_s_server_and_by_s_client() {
    if !all_present(&["openssl"]) {
        return;
    }
    let folder = crate::programs::Folder::new("sessions");
    for (argument, version) in VERSIONS {
        let (_program, address) = s_server(&[argument, "-rev"]);
        let stack = tls(client());
        for resumed in [false, true, true] {
            let mut wire = Wire::connect(address, &stack);
            let info = wire.tls_info();
            assert_eq!((info.version, info.resumed), (version, resumed));
            // The tickets of TLS 1.3 come with the first bytes at the latest.
            wire.write(b"ab\n");
            wire.until_data(b"ba\n");
            assert_eq!(wire.close(), Some(How::Closed));
        }
        let listener = Listener::new();
        let stack = tls(server());
        let session = folder.file(&format!("session{argument}"));
        for (option, resumed, told) in
            [("-sess_out", false, "New, "), ("-sess_in", true, "Reused, ")]
        {
            let mut program = s_client(&listener, &[argument, option, &session, "-ign_eof"]);
            let mut wire = listener.accept(&stack);
            assert_eq!(wire.tls_info().resumed, resumed, "{argument}");
            program.say("hello\n");
            wire.until_data(b"hello\n");
            wire.write(b"welcome\n");
            program.wait_for_text("welcome");
            assert_eq!(wire.close(), Some(How::Closed));
            assert!(program.finish().1.contains(told));
        }
    }
}

#[test]
fn s_server_and_s_client_end_in_every_way() {
    if !all_present(&["openssl"]) {
        return;
    }
    for (argument, _) in VERSIONS {
        for we_are_the_client in [true, false] {
            for ending in ["leaves", "stands still", "is gone"].repeat(repeats()) {
                let (mut program, mut wire) = match we_are_the_client {
                    true => {
                        let (program, address) = s_server(&[argument]);
                        (program, Wire::connect(address, &tls(client())))
                    }
                    false => {
                        let listener = Listener::new();
                        let program = s_client(&listener, &[argument]);
                        (program, listener.accept(&tls(server())))
                    }
                };
                // s_server takes what is said before that for a part of the handshake.
                wire.until_established();
                program.say("hello\n");
                wire.until_data(b"hello\n");
                match ending {
                    "leaves" => {
                        program.say("Q\n");
                        if we_are_the_client {
                            // It hangs up without a word.
                            assert_eq!(wire.until_over(), Some(ErrorKind::TlsTruncated));
                        } else {
                            wire.until_eof();
                            assert_eq!(wire.close(), Some(How::Closed));
                        }
                    }
                    "stands still" => {
                        program.signal(Signal::STOP);
                        wire.pop(Duration::from_millis(50), Late::Close);
                        assert_eq!(wire.until_over(), Some(ErrorKind::CloseTimeout));
                    }
                    _ => {
                        program.signal(Signal::KILL);
                        let kind = wire.until_over();
                        // A reset, if it had not read our tickets yet.
                        let right = |kind| {
                            matches!(
                                kind,
                                Some(ErrorKind::TlsTruncated | ErrorKind::Io(_, Some(104)))
                            )
                        };
                        assert!(right(kind), "{kind:?}");
                    }
                }
            }
        }
    }
}

// What clients may ask for and few do: each is served, and a name that is none of ours with our
// certificate, as a server does that has only one.
#[test]
fn clients_of_odd_habits_are_served() {
    if !all_present(&["openssl"]) {
        return;
    }
    let long = "a.".repeat(120) + "test";
    let habits: [&[&str]; 14] = [
        &["-maxfraglen", "512"],
        &["-max_send_frag", "512"],
        &["-groups", "P-384:P-256:X25519"],
        &["-record_padding", "4096", "-tls1_3"],
        &["-no_ticket"],
        &["-no_middlebox", "-tls1_3"],
        &["-status"],
        &["-serverinfo", "18,44"],
        &["-fallback_scsv", "-tls1_3"],
        &["-noservername"],
        &["-servername", "LOCALHOST"],
        &["-servername", "under_score.test"],
        &["-servername", "xn--nxasmq6b.test"],
        &["-servername", &long],
    ];
    let listener = Listener::new();
    let stack = tls(server());
    for version in [&[][..], &["-tls1_2"]] {
        for habit in habits {
            let own = habit.contains(&"-tls1_3");
            if own && version == ["-tls1_2"] {
                continue;
            }
            let mut command = command("openssl");
            let at = format!("127.0.0.1:{}", listener.port());
            command.args(["s_client", "-connect", &at, "-CAfile", &path("ca.pem"), "-ign_eof"]);
            let mut program = Program::start(command.args(habit).args(version));
            let mut wire = listener.accept(&stack);
            wire.piece = 1;
            let line = "x".repeat(900) + "\n";
            program.say(&line);
            wire.until_data(line.as_bytes());
            wire.write(b"from us\n");
            program.wait_for_text("from us");
            assert_eq!(wire.close(), Some(How::Closed), "{habit:?}");
            assert!(program.finish().0.success(), "{habit:?}");
        }
    }
}

// The keys of tickets go with the server's configuration. A client that shows one of before gets a
// whole handshake, and early data that it sends with it is not taken for anything.
#[test]
fn a_session_of_before_a_restart_costs_a_handshake_and_nothing_else() {
    if !all_present(&["openssl"]) {
        return;
    }
    let folder = crate::programs::Folder::new("restarts");
    let early = folder.write("early", "early data\n");
    for (argument, version) in VERSIONS {
        let listener = Listener::new();
        let session = folder.file(&format!("session{argument}"));
        for (option, early) in [("-sess_out", None), ("-sess_in", None), ("-sess_in", Some(&early))]
        {
            let mut arguments = vec![argument, option, &session, "-ign_eof"];
            if let Some(early) = early.filter(|_| argument == "-tls1_3") {
                arguments.extend(["-early_data", early]);
            }
            let mut program = s_client(&listener, &arguments);
            let mut wire = listener.accept(&tls(server()));
            let info = wire.tls_info();
            assert_eq!((info.version, info.resumed), (version, false));
            program.say("hello\n");
            wire.until_data(b"hello\n");
            wire.write(b"welcome\n");
            program.wait_for_text("welcome");
            assert_eq!(wire.bench.data(), b"hello\n");
            assert_eq!(wire.close(), Some(How::Closed));
            program.finish();
        }
    }
}
