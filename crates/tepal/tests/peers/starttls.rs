//! TLS begun in the middle of a connection, through the loop: `openssl s_client` asks us for it.

use std::sync::Arc;

use tepal::{CloseKind, LayerSpec, Lines, Residual, Stack};

use crate::as_server;
use crate::certificates::{path, server};
use crate::common::on_every_driver;
use crate::layered::Call;
use crate::programs::{Program, all_present, command};

#[test]
fn s_client_begins_tls_as_mail_does() {
    if !all_present(&["openssl"]) {
        return;
    }
    let tls: Arc<dyn LayerSpec> = Arc::new(server().build().expect("a server"));
    let lines = Stack::new().with(Lines::new(1000).delimiter(b"\r\n"));
    on_every_driver(|event_loop| {
        let start = |port: u16| {
            let mut command = command("openssl");
            let at = format!("127.0.0.1:{port}");
            command.args(["s_client", "-connect", &at, "-starttls", "smtp", "-ign_eof", "-crlf"]);
            command.args(["-CAfile", &path("ca.pem"), "-verify_return_error"]);
            let mut program = Program::start(&mut command);
            program.say("inside\n");
            program
        };
        let tls = Arc::clone(&tls);
        let (seen, program) =
            as_server(event_loop, lines.clone(), start, move |transport, call| {
                match call {
                    Call::Established => drop(transport.write(b"220 here")),
                    Call::Data(line) if line.starts_with(b"EHLO") => {
                        transport.write(b"250-here");
                        transport.write(b"250 STARTTLS");
                    }
                    Call::Data(b"STARTTLS") => {
                        transport.write(b"220 go ahead");
                        let pushed =
                            transport.push_layer_with(&tls, Some("lines"), Residual::Reject);
                        pushed.expect("it stands");
                    }
                    Call::Data(b"inside") => {
                        assert_eq!(transport.layers(), ["tls", "lines"]);
                        transport.write(b"answered");
                        transport.close();
                    }
                    other => assert!(!matches!(other, Call::Data(_)), "{other:?}"),
                }
                None
            });
        assert_eq!(seen.kind(), CloseKind::Local, "{:?}", seen.closed);
        let (_, text) = program.finish();
        assert!(text.contains("answered"), "{text}");
    });
}
