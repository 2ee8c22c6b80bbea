//! TLS begun in the middle of a connection: mail servers, mail clients, and what is injected.

use std::io::{Read, Write};

use tepal_layers::{ErrorKind, How, Lines, Residual, Stack};

use crate::certificates::{client, path, server};
use crate::programs::{Program, all_present, command};
use crate::servers::{aiosmtpd, smtplib};
use crate::wire::{Listener, Wire, connect_plain};

fn lines() -> Stack {
    Stack::new().with(Lines::new(2000).delimiter(b"\r\n"))
}

/// Says a line and waits for the last line of the answer.
fn converse(wire: &mut Wire, line: &str, answer: &str) {
    let before = wire.bench.seen.len();
    if !line.is_empty() {
        wire.write(line.as_bytes());
    }
    let last = format!("{answer} ");
    wire.until(answer, |bench| {
        let new = bench.seen.get(before..).unwrap_or_default();
        new.iter().any(|seen| {
            matches!(seen, tepal_layers::check::Seen::Data(line) if line.starts_with(last.as_bytes()))
        })
    });
}

#[test]
fn a_mail_is_sent_to_aiosmtpd_behind_starttls() {
    let Some((program, address)) = aiosmtpd() else { return };
    for piece in [16 << 10, 1] {
        let mut wire = Wire::connect(address, &lines());
        wire.piece = piece;
        converse(&mut wire, "", "220");
        converse(&mut wire, "EHLO here", "250");
        converse(&mut wire, "MAIL FROM:<a@here.test>", "530");
        converse(&mut wire, "STARTTLS", "220");
        wire.push_below(client().build().unwrap(), "lines", Residual::Reject);
        assert_eq!(wire.tls_info().version, "TLSv1.3");
        converse(&mut wire, "EHLO here", "250");
        converse(&mut wire, "MAIL FROM:<a@here.test>", "250");
        converse(&mut wire, "RCPT TO:<b@there.test>", "250");
        converse(&mut wire, "DATA", "354");
        wire.write(format!("piece {piece}").as_bytes());
        converse(&mut wire, ".", "250");
        converse(&mut wire, "QUIT", "221");
        assert!(matches!(wire.close(), Some(How::Closed | How::Unconfirmed)));
        program.wait_for_text("mail over tls ['b@there.test']");
        program.wait_for_text(&format!("line piece {piece}\n"));
    }
}

#[test]
fn pythons_smtplib_sends_a_mail_to_us_behind_starttls() {
    if !all_present(&["python3"]) {
        return;
    }
    let listener = Listener::new();
    let program = smtplib(listener.port());
    let mut wire = listener.accept(&lines());
    wire.write(b"220 here");
    let mut answered = 0;
    let (mut body, mut secure) = (None, false);
    while !wire.bench.frames().iter().any(|line| line.eq_ignore_ascii_case(b"quit")) {
        wire.until("a line", |bench| bench.frames().len() > answered);
        for line in wire.bench.frames().split_off(answered) {
            answered += 1;
            let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            if let Some(lines) = &mut body {
                if line != b"." {
                    Vec::push(lines, line);
                    continue;
                }
                assert!(lines.contains(&b"hello".to_vec()) && secure);
                body = None;
                wire.write(b"250 taken");
                continue;
            }
            match verb.to_ascii_uppercase().as_slice() {
                b"EHLO" if !secure => {
                    wire.write(b"250-here");
                    wire.write(b"250 STARTTLS");
                }
                b"STARTTLS" => {
                    wire.queue(b"220 go ahead");
                    wire.push_below(server().build().unwrap(), "lines", Residual::Reject);
                    secure = true;
                }
                b"DATA" => {
                    body = Some(Vec::new());
                    wire.write(b"354 go on");
                }
                b"QUIT" => wire.write(b"221 bye"),
                _ => wire.write(b"250 fine"),
            }
        }
    }
    // It leaves without close_notify, which is no clean end until we have closed too.
    wire.close();
    let (status, text) = program.finish();
    assert!(status.success() && text.contains("sent"), "{text}");
}

/// PostgreSQL's request for TLS: a length and a code, answered with one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

#[test]
fn what_is_injected_behind_a_request_for_tls_is_never_taken_for_protected() {
    let listener = Listener::new();
    let address = ([127, 0, 0, 1], listener.port()).into();
    let evil: &[u8] = b"Q\0\0\0\x0fDROP TABLE\0";
    for split in [false, true] {
        let mut stream = connect_plain(address);
        let mut wire = listener.accept(&Stack::new());
        stream.write_all(&[&SSL_REQUEST[..], evil].concat()).unwrap();
        // The owner takes the request alone, and then what is left is judged.
        wire.until_taken(&SSL_REQUEST);
        if split {
            stream.write_all(b"more of it").unwrap();
        }
        wire.queue(b"S");
        wire.push(server().build().unwrap(), Residual::Reject);
        assert_eq!(wire.until_over(), Some(ErrorKind::ResidualRejected));
        assert_eq!(wire.bench.data(), b"");
        drop(wire);
        let mut answer = Vec::new();
        // The kernel may tell a reset, as input was left unread; no TLS was spoken in any case.
        let _ended = stream.read_to_end(&mut answer);
        assert!(answer.len() <= 1, "{answer:?}");
    }
}

#[test]
fn openssl_begins_tls_as_postgresql_and_as_mail_do() {
    if !all_present(&["openssl"]) {
        return;
    }
    for protocol in ["postgres", "smtp"] {
        let listener = Listener::new();
        let at = format!("127.0.0.1:{}", listener.port());
        let mut command = command("openssl");
        command.args(["s_client", "-connect", &at, "-starttls", protocol, "-verify_return_error"]);
        command.args(["-CAfile", &path("ca.pem"), "-verify_hostname", "localhost", "-ign_eof"]);
        let mut program = Program::start(&mut command);
        let mut wire = listener.accept(&Stack::new());
        if protocol == "postgres" {
            wire.until_taken(&SSL_REQUEST);
            wire.queue(b"S");
        } else {
            wire.write(b"220 here\r\n");
            wire.until_data(b"\r\n");
            wire.write(b"250-here\r\n250 STARTTLS\r\n");
            wire.until_data(b"STARTTLS\r\n");
            wire.queue(b"220 go ahead\r\n");
        }
        wire.push(server().build().unwrap(), Residual::Reject);
        program.say("inside\n");
        wire.until_data(b"inside\n");
        wire.write(b"answered\n");
        program.wait_for_text("answered");
        assert_eq!(wire.close(), Some(How::Closed));
    }
}
