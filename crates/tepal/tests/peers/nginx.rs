//! How TLS ends through the loop with nginx, in both versions and on either side.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use tepal::{CloseKind, Stack};

use crate::certificates::{client, path, server};
use crate::common::on_every_driver;
use crate::ends::{Peer, check, end};
use crate::layered::Call;
use crate::programs::{Folder, all_present, repeats};
use crate::servers::nginx;
use crate::{as_client, as_server};

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

#[test]
fn a_server_of_nginx_ends_in_every_way() {
    if !all_present(&["nginx"]) {
        return;
    }
    let folder = Folder::new("loop-nginx-server");
    let stack = Stack::new().with(client().build().expect("a client"));
    for version in VERSIONS {
        on_every_driver(|event_loop| {
            for ending in ["leaves", "hears", "stands", "gone"].repeat(repeats()) {
                let (program, address) = nginx(&folder, |port| {
                    format!(
                        "listen 127.0.0.1:{port} ssl; ssl_protocols {version};\n\
                         location / {{ return 200 \"hello\\n\"; }}"
                    )
                });
                let peer: Peer = Rc::new(RefCell::new(Some(program)));
                let acts = Rc::clone(&peer);
                let mut got = Vec::new();
                let seen = as_client(event_loop, address, stack.clone(), move |transport, call| {
                    match call {
                        Call::Established => {
                            let kept = if ending == "leaves" { "close" } else { "keep-alive" };
                            let head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection:";
                            transport.write(format!("{head} {kept}\r\n\r\n").as_bytes());
                        }
                        Call::Data(data) => {
                            got.extend_from_slice(data);
                            if got.ends_with(b"\r\n\r\nhello\n") && ending != "leaves" {
                                end(ending, transport, &acts);
                            }
                        }
                        _ => {}
                    }
                    None
                });
                let case = format!("{ending} {version} on {}", event_loop.driver_name());
                assert!(seen.bytes.ends_with(b"\r\n\r\nhello\n"), "{case}");
                check(ending, version, &seen, &case);
            }
        });
    }
}

/// It asks us for what its own user wants, and either it or we are the first to leave.
#[test]
fn a_client_of_nginx_leaves_and_is_left() {
    if !all_present(&["nginx"]) {
        return;
    }
    let folder = Folder::new("loop-nginx-client");
    let stack = Stack::new().with(server().build().expect("a server"));
    for version in VERSIONS {
        on_every_driver(|event_loop| {
            for leaves in [true, false] {
                let start = |ours: u16| {
                    let (program, address) = nginx(&folder, |port| {
                        let ca = path("ca.pem");
                        format!(
                            "listen 127.0.0.1:{port};\nlocation / {{\n\
                             proxy_pass https://127.0.0.1:{ours};\n\
                             proxy_ssl_protocols {version}; proxy_ssl_verify on;\n\
                             proxy_ssl_name localhost; proxy_ssl_server_name on;\n\
                             proxy_ssl_trusted_certificate {ca};\n}}"
                        )
                    });
                    let user = std::thread::spawn(move || {
                        let mut user = TcpStream::connect(address).expect("it listens");
                        user.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("takes it");
                        let mut answer = String::new();
                        user.read_to_string(&mut answer).expect("ends");
                        answer
                    });
                    (program, user)
                };
                let mut asked = Vec::new();
                let (seen, (_program, user)) =
                    as_server(event_loop, stack.clone(), start, move |transport, call| {
                        if let Call::Data(data) = call {
                            asked.extend_from_slice(data);
                            if asked.ends_with(b"\r\n\r\n") {
                                let length = if leaves { "Content-Length: 5\r\n" } else { "" };
                                let head = format!("HTTP/1.1 200 OK\r\n{length}\r\n");
                                transport.write(head.as_bytes());
                                transport.write(b"hello");
                                if !leaves {
                                    // Only our end tells it that the body is whole.
                                    transport.close();
                                }
                            }
                        }
                        None
                    });
                let answer = user.join().expect("it has got an answer");
                assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
                let kind = if leaves { CloseKind::PeerClosedLayer } else { CloseKind::Local };
                assert_eq!((seen.kind(), seen.tls().version), (kind, version), "{:?}", seen.closed);
            }
        });
    }
}
