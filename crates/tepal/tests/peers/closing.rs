//! How TLS ends through the loop, with Python's ssl and Node, which end as they are told.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tepal::layers::{CloseMode, ErrorKind};
use tepal::{CloseKind, EventLoop, Late, Listen, Stack, Transport};

use crate::certificates::{certificate, client, path, server};
use crate::common::{address, on_every_driver, run};
use crate::layered::{Call, Log, Script, Seen};
use crate::programs::{Program, all_present, command, repeats};
use crate::{as_client, as_server};

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
const PYTHON: (&str, &str) = ("python3", "tls_peer.py");
const NODE: (&str, &str) = ("node", "tls_peer.js");
const ENDINGS: [&str; 7] = ["bye", "wait", "half", "cut", "silent", "reset", "echo"];
const MANY: usize = 300_000;

fn peer((program, script): (&str, &str), arguments: &[&str]) -> Program {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tepal-layers/tests/peers");
    Program::start(command(program).arg(format!("{folder}/{script}")).args(arguments))
}

/// What we do about an ending once the peer has said `ok`, or has named it.
fn answer(ending: &'static str, version: &str, transport: &Transport) {
    match ending {
        "wait" => transport.close(),
        "half" if version == "TLSv1.3" => transport.write_eof().expect("TLS 1.3 can"),
        "half" => {
            assert!(transport.write_eof().is_err(), "TLS 1.2 cannot end one direction");
            transport.close();
        }
        "silent" => {
            // What becomes of it is the connection's end too, which is looked at.
            let short = Duration::from_millis(50);
            let _operation = transport.pop_layer(None, short, Late::Close).expect("it stands");
        }
        "echo" => {
            let bytes: Vec<u8> = (0..MANY).map(|n| (n % 251) as u8).collect();
            transport.write(&bytes);
        }
        _ => {}
    }
}

/// The end was told as what it was.
fn check(ending: &str, version: &str, prefix: usize, seen: &Seen) {
    let closed = seen.closed.as_ref().expect("it has ended");
    let expected = match ending {
        "bye" => CloseKind::PeerClosedLayer,
        "half" if version == "TLSv1.3" => CloseKind::PeerClosedLayer,
        "cut" => CloseKind::TlsTruncated,
        "silent" => CloseKind::ClosingTimedOut,
        "reset" => CloseKind::Reset,
        _ => CloseKind::Local,
    };
    assert_eq!(closed.kind, expected, "{version} {ending}: {closed:?}");
    assert_eq!(seen.tls().version, version);
    let eof = seen.events.iter().any(|event| event == "eof");
    assert_eq!(eof, expected == CloseKind::PeerClosedLayer, "{ending}: {:?}", seen.events);
    let more = match ending {
        "half" if version == "TLSv1.3" => 40_000,
        "echo" => MANY,
        _ => 0,
    };
    assert_eq!(seen.bytes.len(), prefix + more, "{version} {ending}");
}

/// A server with a port for all and one for those with a certificate.
fn start_server(language: (&str, &str), version: &str) -> (Program, [SocketAddr; 2]) {
    let files = ["server.pem", "server.key", "ca.pem"].map(path);
    let files = files.each_ref().map(String::as_str);
    let program = peer(language, &[&["server", version][..], &files].concat());
    let ports: [u16; 2] = program.wait_for("its ports", |text| {
        let (_, rest) = text.split_once("ports ")?;
        let ports: Vec<u16> = rest.lines().next()?.split(' ').flat_map(str::parse).collect();
        ports.try_into().ok()
    });
    (program, ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))))
}

fn we_are_the_client(language: (&str, &str)) {
    if !all_present(&[language.0]) {
        return;
    }
    for version in VERSIONS {
        let (_program, [open, strict]) = start_server(language, version);
        let stack = Stack::new().with(client().build().expect("a client"));
        on_every_driver(|event_loop| {
            for ending in ENDINGS.repeat(repeats()) {
                let mut count = 0;
                let seen = as_client(event_loop, open, stack.clone(), move |transport, call| {
                    match call {
                        Call::Made => drop(transport.write(format!("{ending}\n").as_bytes())),
                        Call::Data(data) => {
                            if count == 0 {
                                answer(ending, version, transport);
                            }
                            count += data.len();
                            if count == 3 + MANY {
                                transport.close();
                            }
                        }
                        _ => {}
                    }
                    None
                });
                check(ending, version, 3, &seen);
            }
            let seen = as_client(event_loop, strict, stack.clone(), |_, _| None);
            let closed = seen.closed.expect("it has ended");
            assert_eq!(closed.kind, CloseKind::TlsAlert, "{closed:?}");
            let alert = if version == "TLSv1.3" { 116 } else { 40 };
            let error = closed.layer_error.expect("with the alert");
            assert_eq!(error.kind(), ErrorKind::TlsAlert(alert));
            let shown = client().certificate(certificate("client")).build().expect("a client");
            let shown = Stack::new().with(shown);
            let seen = as_client(event_loop, strict, shown, |transport, call| {
                match call {
                    Call::Made => drop(transport.write(b"wait\n")),
                    Call::Data(_) => transport.close(),
                    _ => {}
                }
                None
            });
            check("wait", version, 3, &seen);
        });
    }
}

fn we_are_the_server(language: (&str, &str)) {
    if !all_present(&[language.0]) {
        return;
    }
    let ca = path("ca.pem");
    for version in VERSIONS {
        let stack = Stack::new().with(server().build().expect("a server"));
        on_every_driver(|event_loop| {
            for _ in 0..repeats() {
                let (all, program) = serve_all(event_loop, &stack, version, |port| {
                    let port = port.to_string();
                    peer(language, &[&["client", version, &port, &ca][..], &ENDINGS].concat())
                });
                for (ending, seen) in ENDINGS.iter().zip(&all) {
                    check(ending, version, ending.len() + 1, &seen.borrow());
                }
                assert!(program.finish().0.success());
            }
        });
    }
}

/// Serves one connection after another, each with the next ending.
fn serve_all(
    event_loop: &EventLoop,
    stack: &Stack,
    version: &'static str,
    start: impl FnOnce(u16) -> Program,
) -> (Vec<Log>, Program) {
    let logs: Vec<Log> = ENDINGS.iter().map(|_| Log::default()).collect();
    let mut coming = ENDINGS.into_iter().zip(logs.clone());
    let factory = move |_: &tepal::Address| {
        let (ending, log) = coming.next().expect("one connection for each ending");
        let line = ending.len() + 1;
        let mut count = 0;
        Script::with_log(&log, move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Data(data) => {
                    let before = count;
                    count += data.len();
                    if before < line && count >= line {
                        transport.write(b"ok\n");
                        answer(ending, version, transport);
                    }
                    if count == line + MANY {
                        transport.close();
                    }
                }
                Call::Lost(_) if Some(&ending) == ENDINGS.last() => transport.event_loop().stop(),
                _ => {}
            }
            None
        })
    };
    let listen = Listen::on("127.0.0.1:0").stack(stack.clone());
    let server = event_loop.listen(factory, listen).expect("listens");
    let program = start(address(&server).port());
    run(event_loop);
    server.close();
    (logs, program)
}

#[test]
fn a_server_of_pythons_ssl_ends_in_every_way() {
    we_are_the_client(PYTHON);
}

#[test]
fn a_client_of_pythons_ssl_ends_in_every_way() {
    we_are_the_server(PYTHON);
}

#[test]
fn a_server_of_node_ends_in_every_way() {
    we_are_the_client(NODE);
}

#[test]
fn a_client_of_node_ends_in_every_way() {
    we_are_the_server(NODE);
}

/// What OpenSSL's own programs do at an end: they leave, hear that we leave, stand still, are gone.
#[test]
fn openssls_programs_end_in_every_way() {
    if !all_present(&["openssl"]) {
        return;
    }
    let spec = [client().build(), server().build()].map(|spec| spec.expect("a spec"));
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        on_every_driver(|event_loop| {
            for ending in ["leaves", "hears", "stands", "gone"].repeat(repeats()) {
                let case = format!("{ending} {version} on {}", event_loop.driver_name());
                // The kernel of one that is gone resets the connection if it has not read our tickets.
                let ended = |seen: &Seen| match seen.kind() {
                    CloseKind::Reset if ending == "gone" => CloseKind::TlsTruncated,
                    kind => kind,
                };
                let [client, server] = spec.clone().map(|spec| Stack::new().with(spec));
                // We are the server.
                let program: Rc<RefCell<Option<Program>>> = Rc::default();
                let held = Rc::clone(&program);
                let start = |port: u16| {
                    let mut command = command("openssl");
                    let (to, ca) = (format!("127.0.0.1:{port}"), path("ca.pem"));
                    command.args(["s_client", "-connect", &to, option, "-CAfile", &ca]);
                    let mut program = Program::start(&mut command);
                    program.say("hello\n");
                    *held.borrow_mut() = Some(program);
                };
                let acts = Rc::clone(&program);
                let (seen, ()) = as_server(event_loop, server, start, move |transport, call| {
                    openssl_ends(ending, transport, call, &acts)
                });
                let expected = match ending {
                    "leaves" => CloseKind::PeerClosedLayer,
                    "hears" => CloseKind::Local,
                    "stands" => CloseKind::ClosingTimedOut,
                    _ => CloseKind::TlsTruncated,
                };
                assert_eq!((ended(&seen), seen.tls().version), (expected, version), "{case}");
                // We are the client; this one hangs up without a word.
                let mut command = command("openssl");
                let (cert, key) = (path("server.pem"), path("server.key"));
                command.args(["s_server", "-accept", "127.0.0.1:0", option]);
                let started = Program::start(command.args(["-cert", &cert, "-key", &key]));
                let address = started.wait_for_port("ACCEPT 127.0.0.1:");
                *program.borrow_mut() = Some(started);
                let acts = Rc::clone(&program);
                let seen = as_client(event_loop, address, client, move |transport, call| {
                    if let (Call::Established, Some(program)) = (call, &mut *acts.borrow_mut()) {
                        // What is said before that is taken for a part of the handshake.
                        program.say("hello\n");
                    }
                    openssl_ends(ending, transport, call, &acts)
                });
                let expected = match ending {
                    "leaves" => CloseKind::TlsTruncated,
                    _ => expected,
                };
                assert_eq!((ended(&seen), seen.tls().version), (expected, version), "{case}");
            }
        });
    }
}

/// When it has said hello, something is done about the end.
fn openssl_ends(
    ending: &str,
    transport: &Transport,
    call: &Call<'_>,
    program: &RefCell<Option<Program>>,
) -> Option<usize> {
    let Call::Data(b"hello\n") = call else { return None };
    let mut program = program.borrow_mut();
    let program = program.as_mut().expect("it has said something");
    match ending {
        "leaves" => program.say("Q\n"),
        "hears" => transport.close(),
        "stands" => {
            program.signal(Signal::STOP);
            let short = Duration::from_millis(50);
            let _operation = transport.pop_layer(None, short, Late::Close).expect("it stands");
        }
        _ => program.signal(Signal::KILL),
    }
    None
}

/// It has read nothing since the handshake, tickets neither, and is gone: what it sent is ours.
#[test]
fn a_client_that_leaves_its_tickets_unread_loses_nothing_that_it_sent() {
    if !all_present(&["python3"]) {
        return;
    }
    let ca = path("ca.pem");
    let stack = Stack::new().with(server().build().expect("a server"));
    on_every_driver(|event_loop| {
        let start =
            |port: u16| peer(PYTHON, &["client", "TLSv1.3", &port.to_string(), &ca, "deaf"]);
        let (seen, _program) = as_server(event_loop, stack.clone(), start, |_, _| None);
        assert_eq!(seen.bytes, b"deaf\n");
        let kind = seen.kind();
        let hard = [CloseKind::TlsTruncated, CloseKind::Reset, CloseKind::BrokenPipe];
        assert!(hard.contains(&kind), "{kind:?}");
    });
}

/// Tickets are on their way to us when we go: left unread, they make the kernel reset the
/// connection, and a reset must not cost what we have sent.
#[test]
fn a_server_loses_nothing_of_a_client_that_closes_without_reading() {
    if !all_present(&["python3"]) {
        return;
    }
    for version in VERSIONS {
        let (program, [open, _]) = start_server(PYTHON, version);
        on_every_driver(|event_loop| {
            for mode in [CloseMode::Wait, CloseMode::Notify, CloseMode::None] {
                let tls = client().close(mode).build().expect("a client");
                let before = program.text().len();
                let seen =
                    as_client(event_loop, open, Stack::new().with(tls), |transport, call| {
                        match call {
                            Call::Made => transport.pause_reading(),
                            Call::Established => {
                                transport.write(b"take\n");
                                transport.write(&[7; MANY]);
                                transport.close();
                            }
                            _ => {}
                        }
                        None
                    });
                assert_eq!(seen.kind(), CloseKind::Local, "{version} {mode:?}: {:?}", seen.closed);
                program.wait_for(&format!("all of it ({version} {mode:?})"), |text| {
                    text.get(before..)?.contains(&format!("took {MANY} ")).then_some(())
                });
            }
        });
    }
}
