//! How TLS ends through the loop with GnuTLS's programs, in both versions and on either side.

use std::cell::RefCell;
use std::rc::Rc;

use tepal::{Stack, Transport};

use crate::certificates::{client, path, server};
use crate::common::on_every_driver;
use crate::ends::{Peer, check, end};
use crate::layered::Call;
use crate::programs::{Program, all_present, command, repeats};
use crate::{as_client, as_server};

const VERSIONS: [(&str, &str); 2] =
    [("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLSv1.2"), ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLSv1.3")];

fn ends(ending: &str, transport: &Transport, call: &Call<'_>, peer: &Peer) -> Option<usize> {
    if let Call::Data(b"hello\n") = call {
        end(ending, transport, peer);
    }
    None
}

#[test]
fn a_server_of_gnutls_ends_in_every_way() {
    if !all_present(&["gnutls-serv"]) {
        return;
    }
    let stack = Stack::new().with(client().build().expect("a client"));
    for (priority, version) in VERSIONS {
        on_every_driver(|event_loop| {
            for ending in ["hears", "stands", "gone"].repeat(repeats()) {
                let (program, address) = Program::serve(|port| {
                    let mut command = command("gnutls-serv");
                    let (cert, key) = (path("server.pem"), path("server.key"));
                    command.args(["--echo", "--quiet", "--priority", priority]);
                    command.args(["--x509certfile", &cert, "--x509keyfile", &key]);
                    command.args(["-p", &port.to_string()]);
                    command
                });
                let peer: Peer = Rc::new(RefCell::new(Some(program)));
                let acts = Rc::clone(&peer);
                let seen = as_client(event_loop, address, stack.clone(), move |transport, call| {
                    if let Call::Established = call {
                        transport.write(b"hello\n");
                    }
                    ends(ending, transport, call, &acts)
                });
                let case = format!("{ending} {version} on {}", event_loop.driver_name());
                check(ending, version, &seen, &case);
                assert_eq!(seen.bytes, b"hello\n", "{case}");
            }
        });
    }
}

#[test]
fn a_client_of_gnutls_ends_in_every_way() {
    if !all_present(&["gnutls-cli"]) {
        return;
    }
    let stack = Stack::new().with(server().build().expect("a server"));
    for (priority, version) in VERSIONS {
        on_every_driver(|event_loop| {
            for ending in ["leaves", "hears", "stands", "gone"].repeat(repeats()) {
                let peer: Peer = Rc::default();
                let held = Rc::clone(&peer);
                let start = |port: u16| {
                    let mut command = command("gnutls-cli");
                    command.args(["--x509cafile", &path("ca.pem"), "--priority", priority]);
                    command.args(["-p", &port.to_string(), "localhost"]);
                    let mut program = Program::start(&mut command);
                    program.say("hello\n");
                    *held.borrow_mut() = Some(program);
                };
                let acts = Rc::clone(&peer);
                let (seen, ()) =
                    as_server(event_loop, stack.clone(), start, move |transport, call| {
                        ends(ending, transport, call, &acts)
                    });
                let case = format!("{ending} {version} on {}", event_loop.driver_name());
                check(ending, version, &seen, &case);
                assert_eq!(seen.bytes, b"hello\n", "{case}");
            }
        });
    }
}
