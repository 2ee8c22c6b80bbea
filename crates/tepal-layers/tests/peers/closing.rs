//! Every way in which a TLS connection can end, with peers that end as they are told: Python's ssl
//! and Node's tls, as servers and as clients, in both versions.

use std::net::SocketAddr;
use std::time::Duration;

use tepal_layers::check::Seen;
use tepal_layers::{CloseMode, ErrorKind, How, Late, Stack, TlsBuilder};

use crate::certificates::{certificate, client, path, server};
use crate::programs::{Program, all_present, command, repeats};
use crate::wire::{Listener, Wire};

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
const PYTHON: (&str, &str) = ("python3", "tls_peer.py");
const NODE: (&str, &str) = ("node", "tls_peer.js");

fn peer((program, script): (&str, &str), arguments: &[&str]) -> Program {
    let script = format!("{}/tests/peers/{script}", env!("CARGO_MANIFEST_DIR"));
    Program::start(command(program).arg(script).args(arguments))
}

fn tls(builder: TlsBuilder) -> Stack {
    Stack::new().with(builder.build().unwrap())
}

/// A server with a port for all and one for those with a certificate.
fn start_server(language: (&str, &str), version: &str) -> (Program, [SocketAddr; 2]) {
    let files = ["server.pem", "server.key", "ca.pem"].map(path);
    let files = files.each_ref().map(String::as_str);
    let program = peer(language, &[&["server", version][..], &files].concat());
    let ports = program.wait_for("its ports", |text| {
        let (_, rest) = text.split_once("ports ")?;
        let ports: Vec<u16> = rest.lines().next()?.split(' ').flat_map(str::parse).collect();
        <[u16; 2]>::try_from(ports).ok()
    });
    (program, ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))))
}

/// The connection's end as the peer was told to make it, told to us as what it was.
fn check(ending: &str, version: &str, wire: &mut Wire) {
    match ending {
        "bye" => {
            wire.until_eof();
            assert_eq!(wire.close(), Some(How::Closed));
        }
        "wait" => assert_eq!(wire.close(), Some(How::Closed)),
        "half" if version == "TLSv1.3" => {
            wire.write_eof().unwrap();
            wire.until_eof();
            assert_eq!(wire.bench.data().len(), 3 + 40_000);
            assert_eq!(wire.close(), Some(How::Closed));
        }
        "half" => {
            let error = wire.write_eof().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WriteEofRefused);
            wire.bench.chain.close();
            // Its last words are behind our close, so nobody wants them.
            wire.until_over();
            assert_eq!(wire.bench.data(), b"ok\n");
        }
        "cut" => assert_eq!(wire.until_over(), Some(ErrorKind::TlsTruncated)),
        "silent" => {
            wire.pop(Duration::from_millis(50), Late::Close);
            assert_eq!(wire.until_over(), Some(ErrorKind::CloseTimeout));
        }
        "reset" => {
            let kind = wire.until_over();
            assert!(matches!(kind, Some(ErrorKind::Io(_, Some(104)))), "{kind:?}");
        }
        "echo" => {
            let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
            wire.write(&sent);
            wire.until("all of it", |bench| bench.data().len() == 3 + sent.len());
            assert!(wire.bench.data().ends_with(&sent));
            assert_eq!(wire.close(), Some(How::Closed));
        }
        other => panic!("{other}"),
    }
}

const ENDINGS: [&str; 7] = ["bye", "wait", "half", "cut", "silent", "reset", "echo"];

fn we_are_the_client(language: (&str, &str)) {
    if !all_present(&[language.0]) {
        return;
    }
    for version in VERSIONS {
        let (program, [open, strict]) = start_server(language, version);
        let stack = tls(client());
        for piece in [16 << 10, 3] {
            for ending in ENDINGS.repeat(repeats()) {
                println!("{version} {ending} {piece}");
                let mut wire = Wire::connect(open, &stack);
                wire.piece = if ending == "echo" { 16 << 10 } else { piece };
                assert_eq!(wire.tls_info().version, version);
                wire.write(format!("{ending}\n").as_bytes());
                wire.until_data(b"ok\n");
                check(ending, version, &mut wire);
            }
        }
        // Without the certificate that it wants it sends an alert, in TLS 1.3 behind our handshake.
        let mut wire = Wire::connect(strict, &stack);
        let kind = wire.until_over();
        let alert = if version == "TLSv1.3" { 116 } else { 40 };
        assert_eq!(kind, Some(ErrorKind::TlsAlert(alert)));
        let mut wire = Wire::connect(strict, &tls(client().certificate(certificate("client"))));
        wire.write(b"wait\n");
        wire.until_data(b"ok\n");
        assert_eq!(wire.close(), Some(How::Closed));
        // We do not wait for its answer, or say nothing at all.
        for (mode, told) in [(CloseMode::Notify, true), (CloseMode::None, false)] {
            let mut wire = Wire::connect(open, &tls(client().close(mode)));
            wire.write(b"wait\n");
            wire.until_data(b"ok\n");
            let before = program.text().len();
            assert_eq!(wire.close(), Some(How::Unconfirmed));
            drop(wire);
            program.wait_for("how it ended", |text| {
                let end = text.get(before..)?;
                (end.contains("done wait") || (!told && end.contains("error"))).then_some(())
            });
        }
    }
}

fn we_are_the_server(language: (&str, &str), also: &[&str]) {
    if !all_present(&[language.0]) {
        return;
    }
    for version in VERSIONS.repeat(repeats()) {
        let listener = Listener::new();
        let port = listener.port().to_string();
        let endings = [&ENDINGS[..], also].concat();
        let program =
            peer(language, &[&["client", version, &port, &path("ca.pem")][..], &endings].concat());
        let stack = tls(server());
        for ending in endings {
            println!("{version} {ending}");
            let mut wire = listener.accept(&stack);
            match ending {
                "distrust" => {
                    let kind = wire.until_over();
                    // Node looks at certificates when it has shaken hands, and hangs up.
                    let right = match kind {
                        Some(ErrorKind::TlsAlert(48)) => true,
                        Some(ErrorKind::TlsTruncated | ErrorKind::EofInHandshake) => {
                            language == NODE
                        }
                        _ => false,
                    };
                    assert!(right, "{kind:?}");
                    continue;
                }
                // What was sent before the reset is not lost, and the end is not a clean one.
                "deaf" => {
                    wire.until_data(b"deaf\n");
                    let kind = wire.until_over();
                    let right = |kind| {
                        matches!(
                            kind,
                            Some(ErrorKind::TlsTruncated | ErrorKind::Io(_, Some(104 | 32)))
                        )
                    };
                    assert!(right(kind), "{kind:?}");
                    continue;
                }
                _ => {}
            }
            assert_eq!(wire.tls_info().version, version);
            wire.until_data(format!("{ending}\n").as_bytes());
            wire.write(b"ok\n");
            // As the client sees the same endings, but for the first line, which was ours there.
            let line = wire.bench.data().len();
            let first = wire.bench.seen.iter().position(|s| matches!(s, Seen::Data(_)));
            wire.bench.seen[first.unwrap()] = Seen::Data(b"ok\n".to_vec());
            assert_eq!(line, ending.len() + 1);
            check(ending, version, &mut wire);
        }
        let (status, text) = program.finish();
        assert!(status.success(), "{text}");
    }
}

#[test]
fn a_server_of_pythons_ssl_ends_in_every_way() {
    we_are_the_client(PYTHON);
}

#[test]
fn a_client_of_pythons_ssl_ends_in_every_way() {
    we_are_the_server(PYTHON, &["deaf", "distrust"]);
}

#[test]
fn a_server_of_node_ends_in_every_way() {
    we_are_the_client(NODE);
}

#[test]
fn a_client_of_node_ends_in_every_way() {
    we_are_the_server(NODE, &["distrust"]);
}
