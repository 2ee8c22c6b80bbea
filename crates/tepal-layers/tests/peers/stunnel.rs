//! stunnel: TLS on both sides, and the PROXY protocol that it sends.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::Signal;
use tepal_layers::{ErrorKind, How, Info, Late, ProxyHeader, Stack};

use crate::certificates::{client, path, server};
use crate::programs::{Folder, all_present};
use crate::servers::{stunnel, stunnel_as_server};
use crate::wire::{Listener, Wire, connect_plain};

#[test]
fn a_stunnel_server_ends_in_every_way() {
    if !all_present(&["stunnel"]) {
        return;
    }
    let folder = Folder::new("stunnel-server");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let behind = Listener::new();
        let (program, address) = stunnel(&folder, behind.port(), &stunnel_as_server(version));
        let stack = Stack::new().with(client().build().unwrap());
        let reach = || {
            let mut wire = Wire::connect(address, &stack);
            assert_eq!(wire.tls_info().version, version);
            wire.write(b"hello");
            let mut target = behind.accept_plain();
            target.read_exact(&mut [0; 5]).unwrap();
            target.write_all(b"welcome").unwrap();
            wire.until_data(b"welcome");
            (wire, target)
        };
        // What is behind it closes, then we do.
        let (mut wire, target) = reach();
        drop(target);
        wire.until_eof();
        assert_eq!(wire.close(), Some(How::Closed));
        // We close first.
        let (mut wire, mut target) = reach();
        wire.bench.chain.close();
        wire.during(Duration::from_millis(20));
        assert_eq!(target.read(&mut [0; 5]).unwrap(), 0);
        drop(target);
        wire.until_over();
        assert_eq!(wire.how("tls"), Some(How::Closed));
        // It stands still, and then it is gone.
        let ((mut late, _behind_late), (mut cut, _behind_cut)) = (reach(), reach());
        program.signal(Signal::STOP);
        late.pop(Duration::from_millis(50), Late::Close);
        assert_eq!(late.until_over(), Some(ErrorKind::CloseTimeout));
        program.signal(Signal::KILL);
        assert_eq!(cut.until_over(), Some(ErrorKind::TlsTruncated));
    }
}

#[test]
fn a_stunnel_client_is_served_and_ends_in_every_way() {
    if !all_present(&["stunnel"]) {
        return;
    }
    let folder = Folder::new("stunnel-client");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let listener = Listener::new();
        let ca = path("ca.pem");
        let settings = format!(
            "client = yes\nCAfile = {ca}\nverifyChain = yes\ncheckHost = localhost\n\
             sni = localhost\nsslVersion = {version}\n"
        );
        let (program, address) = stunnel(&folder, listener.port(), &settings);
        let stack = Stack::new().with(server().build().unwrap());
        let reach = || {
            let mut user = connect_plain(address);
            user.write_all(b"hello").unwrap();
            let mut wire = listener.accept(&stack);
            assert_eq!(wire.tls_info().version, version);
            wire.until_data(b"hello");
            wire.write(b"welcome");
            user.read_exact(&mut [0; 7]).unwrap();
            (wire, user)
        };
        let (mut wire, user) = reach();
        drop(user);
        wire.until_eof();
        assert_eq!(wire.close(), Some(How::Closed));
        let (mut wire, mut user) = reach();
        wire.bench.chain.close();
        wire.during(Duration::from_millis(20));
        assert_eq!(user.read(&mut [0; 5]).unwrap(), 0);
        drop(user);
        wire.until_over();
        assert_eq!(wire.how("tls"), Some(How::Closed));
        let ((mut late, _user_late), (mut cut, _user_cut)) = (reach(), reach());
        program.signal(Signal::STOP);
        late.pop(Duration::from_millis(50), Late::Close);
        assert_eq!(late.until_over(), Some(ErrorKind::CloseTimeout));
        program.signal(Signal::KILL);
        assert_eq!(cut.until_over(), Some(ErrorKind::TlsTruncated));
    }
}

#[test]
fn a_header_of_stunnel_tells_who_is_behind_it() {
    if !all_present(&["stunnel"]) {
        return;
    }
    let folder = Folder::new("stunnel-proxy");
    let behind = Listener::new();
    let settings = stunnel_as_server("TLSv1.3") + "protocol = proxy\n";
    let (_program, address) = stunnel(&folder, behind.port(), &settings);
    let mut user = Wire::connect(address, &Stack::new().with(client().build().unwrap()));
    user.until_established();
    user.write(b"hello");
    let accept = ProxyHeader::new().trust("127.0.0.0/8").unwrap();
    let mut wire = behind.accept(&Stack::new().with(accept));
    wire.until_data(b"hello");
    let Some(Info::Proxy(info)) = wire.bench.info("proxy") else { panic!("no header") };
    assert_eq!(info.version, 1);
    let (from, to) = info.addresses.expect("two addresses");
    assert_eq!((from, to), (user.local_address(), address));
}
