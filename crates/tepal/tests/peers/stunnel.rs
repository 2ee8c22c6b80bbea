//! How TLS ends through the loop with stunnel as a server, in both versions.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;

use tepal::Stack;

use crate::as_client;
use crate::certificates::client;
use crate::common::on_every_driver;
use crate::ends::{Peer, check, end};
use crate::layered::Call;
use crate::programs::{Folder, all_present, repeats};
use crate::servers::{stunnel, stunnel_as_server};

#[test]
fn a_server_of_stunnel_ends_in_every_way() {
    if !all_present(&["stunnel"]) {
        return;
    }
    let folder = Folder::new("loop-stunnel-ends");
    let stack = Stack::new().with(client().build().expect("a client"));
    for version in ["TLSv1.2", "TLSv1.3"] {
        on_every_driver(|event_loop| {
            for ending in ["leaves", "hears", "stands", "gone"].repeat(repeats()) {
                let behind = TcpListener::bind("127.0.0.1:0").expect("a port");
                let port = behind.local_addr().expect("it has one").port();
                // What is behind it says back what it hears, and leaves first or last.
                let target = std::thread::spawn(move || {
                    let (mut target, _) = behind.accept().expect("stunnel comes");
                    let mut heard = [0; 6];
                    target.read_exact(&mut heard).expect("hears us");
                    target.write_all(&heard).expect("stunnel takes it");
                    if ending != "leaves" {
                        // Whichever end it is; a stunnel that was killed may reset it.
                        let _ = target.read(&mut heard);
                    }
                });
                let (program, address) = stunnel(&folder, port, &stunnel_as_server(version));
                let peer: Peer = Rc::new(RefCell::new(Some(program)));
                let acts = Rc::clone(&peer);
                let seen = as_client(event_loop, address, stack.clone(), move |transport, call| {
                    match call {
                        Call::Established => drop(transport.write(b"hello\n")),
                        Call::Data(b"hello\n") if ending != "leaves" => {
                            end(ending, transport, &acts);
                        }
                        _ => {}
                    }
                    None
                });
                let case = format!("{ending} {version} on {}", event_loop.driver_name());
                check(ending, version, &seen, &case);
                assert_eq!(seen.bytes, b"hello\n", "{case}");
                drop(peer.take());
                target.join().expect("it has ended");
            }
        });
    }
}
