//! Mail servers and mail clients that begin TLS in the middle of a connection, through the loop.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tepal::{LayerSpec, Lines, Residual, Stack, Transport};

use crate::certificates::{client, server};
use crate::common::on_every_driver;
use crate::layered::Call;
use crate::programs::all_present;
use crate::servers::{aiosmtpd, smtplib};
use crate::{as_client, as_server};

fn lines() -> Stack {
    Stack::new().with(Lines::new(2000).delimiter(b"\r\n"))
}

#[test]
fn a_mail_is_sent_to_aiosmtpd_behind_starttls() {
    let Some((program, address)) = aiosmtpd() else { return };
    let tls: Arc<dyn LayerSpec> = Arc::new(client().build().expect("a client"));
    on_every_driver(|event_loop| {
        let before = program.text().len();
        let body = format!("from {}", event_loop.driver_name());
        // What we say to each answer; the empty one stands for STARTTLS's push.
        let mut said = [
            "EHLO here",
            "MAIL FROM:<a@here.test>",
            "STARTTLS",
            "",
            "MAIL FROM:<a@here.test>",
            "RCPT TO:<b@there.test>",
            "DATA",
            &body,
            "QUIT",
        ]
        .map(str::to_owned)
        .into_iter();
        let mut answers = Vec::new();
        let told: Rc<std::cell::RefCell<Vec<String>>> = Rc::default();
        let log = Rc::clone(&told);
        let tls = Arc::clone(&tls);
        let seen = as_client(event_loop, address, lines(), move |transport, call| {
            let Call::Data(line) = call else { return None };
            // All but the last line of an answer have a hyphen.
            if line.get(3) != Some(&b' ') {
                return None;
            }
            answers.push(line.get(..3).unwrap_or_default().to_vec());
            log.borrow_mut().push(String::from_utf8_lossy(&line[..3]).into_owned());
            match said.next() {
                Some(next) if next.is_empty() => {
                    let pushed = transport.push_layer_with(&tls, Some("lines"), Residual::Reject);
                    pushed.expect("it stands");
                    transport.write(b"EHLO here");
                }
                Some(next) => {
                    transport.write(next.as_bytes());
                    if next == body {
                        transport.write(b".");
                    }
                }
                None => transport.close(),
            }
            None
        });
        let expected = "220 250 530 220 250 250 250 354 250 221";
        assert_eq!(told.borrow().join(" "), expected, "{:?}", seen.closed);
        assert_eq!(seen.tls().version, "TLSv1.3");
        let line = format!("line from {}\n", event_loop.driver_name());
        program.wait_for("the mail", |text| {
            let new = text.get(before..)?;
            (new.contains("mail over tls ['b@there.test']") && new.contains(&line)).then_some(())
        });
    });
}

#[test]
fn pythons_smtplib_sends_a_mail_to_us_behind_starttls() {
    if !all_present(&["python3"]) {
        return;
    }
    let tls: Arc<dyn LayerSpec> = Arc::new(server().build().expect("a server"));
    on_every_driver(|event_loop| {
        let tls = Arc::clone(&tls);
        let taken = Rc::new(Cell::new(false));
        let (mail, mut body, mut secure) = (Rc::clone(&taken), false, false);
        let mut answer = move |transport: &Transport, line: &[u8]| {
            if body {
                mail.set(mail.get() | (line == b"hello" && secure));
                if line == b"." {
                    body = false;
                    transport.write(b"250 taken");
                }
                return;
            }
            let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            match verb.to_ascii_uppercase().as_slice() {
                b"EHLO" if !secure => {
                    transport.write(b"250-here");
                    transport.write(b"250 STARTTLS");
                }
                b"STARTTLS" => {
                    transport.write(b"220 go ahead");
                    let pushed = transport.push_layer_with(&tls, Some("lines"), Residual::Reject);
                    pushed.expect("it stands");
                    secure = true;
                }
                b"DATA" => {
                    body = true;
                    transport.write(b"354 go on");
                }
                b"QUIT" => {
                    transport.write(b"221 bye");
                    transport.close();
                }
                _ => drop(transport.write(b"250 fine")),
            }
        };
        let (seen, program) = as_server(event_loop, lines(), smtplib, move |transport, call| {
            match call {
                Call::Established => drop(transport.write(b"220 here")),
                Call::Data(line) => answer(transport, line),
                _ => {}
            }
            None
        });
        let (status, text) = program.finish();
        assert!(status.success() && text.contains("sent"), "{text} {:?}", seen.closed);
        assert!(taken.get(), "{:?}", seen.frames);
    });
}
