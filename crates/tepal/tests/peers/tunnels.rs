//! squid, `ssh -D` and stunnel, through the loop.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tepal::layers::ErrorKind;
use tepal::{CloseKind, HttpConnect, Info, ProxyHeader, Socks4, Socks5, Stack, Target, Tls};

use crate::as_server;
use crate::certificates::{client, path, server};
use crate::common::on_every_driver;
use crate::layered::{Call, Script};
use crate::programs::{Folder, all_present};
use crate::proxies::{refused, reverser, through};
use crate::servers::{has_squid, has_ssh, squid, ssh_dynamic, stunnel, stunnel_as_server};

/// What has come through a proxy's tunnel, with TLS in it.
fn carries(proxy: SocketAddr, way: Stack, tls: &Tls, event_loop: &tepal::EventLoop) {
    let seen = through(event_loop, proxy, way.with(tls.clone()));
    assert_eq!((seen.kind(), &*seen.bytes), (CloseKind::Local, &b"reward\n"[..]));
}

#[test]
fn tls_through_squid_and_its_refusals() {
    if !has_squid() {
        return;
    }
    let (_target, at) = reverser();
    let folder = Folder::new("loop-squid");
    let (_squid, proxy) = squid(&folder);
    let to = |host: &str, port| HttpConnect::new(host, port).expect("a host");
    let tls = client().build().expect("a client");
    on_every_driver(|event_loop| {
        carries(proxy, Stack::new().with(to("localhost", at.port())), &tls, event_loop);
        let kind = |spec| refused(&through(event_loop, proxy, Stack::new().with(spec)));
        assert_eq!(kind(to("127.0.0.3", 1)), ErrorKind::HttpStatus(403));
        assert_eq!(kind(to("127.0.0.2", 1)), ErrorKind::HttpStatus(407));
        let with = |password| to("127.0.0.2", 1).credentials("me", password).expect("good ones");
        assert_eq!(kind(with("wrong")), ErrorKind::HttpStatus(407));
        // It is let in, and nobody is there.
        assert!(matches!(kind(with("secret")), ErrorKind::HttpStatus(500..=599)));
    });
}

#[test]
fn tls_through_ssh_by_every_version_of_socks() {
    if !has_ssh() {
        return;
    }
    let (_target, at) = reverser();
    let folder = Folder::new("loop-ssh");
    let (_server, _dynamic, proxy) = ssh_dynamic(&folder);
    let tls = client().build().expect("a client");
    on_every_driver(|event_loop| {
        for host in ["127.0.0.1", "localhost"] {
            let socks5 = Socks5::new(host, at.port()).expect("a host");
            carries(proxy, Stack::new().with(socks5), &tls, event_loop);
            // An address by SOCKS4, a name by 4a.
            let socks4 = Socks4::new(host, at.port()).expect("a host");
            carries(proxy, Stack::new().with(socks4), &tls, event_loop);
        }
        let dead = Socks5::new("127.0.0.1", 1).expect("an address");
        // It tells no reason, but hangs up.
        let kind = refused(&through(event_loop, proxy, Stack::new().with(dead)));
        assert_eq!(kind, ErrorKind::EofInHandshake);
    });
}

/// stunnel takes TLS from us and passes plain text on to us, behind a header that tells who we are.
#[test]
fn stunnel_unwraps_our_tls_and_says_where_we_came_from() {
    if !all_present(&["stunnel"]) {
        return;
    }
    let tls = client().build().expect("a client");
    for version in ["TLSv1.2", "TLSv1.3"] {
        on_every_driver(|event_loop| {
            let folder = Folder::new("loop-stunnel-server");
            let header = ProxyHeader::new().trust("127.0.0.0/8").expect("a network");
            let lp = (**event_loop).clone();
            let local = Rc::new(Cell::new(None));
            let own = Rc::clone(&local);
            let start = |port: u16| {
                let settings = stunnel_as_server(version) + "protocol = proxy\n";
                let (program, address) = stunnel(&folder, port, &settings);
                let (user, _) = Script::new(move |transport, call| {
                    match call {
                        Call::Established => {
                            own.set(transport.local_address().expect("it stands").as_ip());
                            transport.write(b"hello");
                        }
                        Call::Data(_) => transport.close(),
                        _ => {}
                    }
                    None
                });
                lp.connect(user, Target::address(address).layer(tls.clone()));
                program
            };
            let (seen, _program) =
                as_server(event_loop, Stack::new().with(header), start, |transport, call| {
                    if let Call::Data(_) = call {
                        transport.write(b"welcome");
                    }
                    None
                });
            let proxy = seen.infos.iter().find(|(layer, _)| layer == "proxy").map(|(_, i)| i);
            let Some(Info::Proxy(info)) = proxy else { panic!("no header: {:?}", seen.infos) };
            assert_eq!(info.addresses.map(|(from, _)| from), local.get());
            assert_eq!(seen.bytes, b"hello");
            // Its user's close_notify is passed on to us as what a plain connection has.
            assert_eq!(seen.kind(), CloseKind::PeerEof);
        });
    }
}

/// stunnel wraps what a user of it says: we are the TLS server behind it.
#[test]
fn stunnel_wraps_plain_text_for_our_tls() {
    if !all_present(&["stunnel"]) {
        return;
    }
    let tls = server().build().expect("a server");
    for version in ["TLSv1.2", "TLSv1.3"] {
        on_every_driver(|event_loop| {
            let folder = Folder::new("loop-stunnel-client");
            let lp = (**event_loop).clone();
            let start = |port: u16| {
                let ca = path("ca.pem");
                let settings = format!(
                    "client = yes\nCAfile = {ca}\nverifyChain = yes\ncheckHost = localhost\n\
                     sni = localhost\nsslVersion = {version}\n"
                );
                let (program, address) = stunnel(&folder, port, &settings);
                let (user, _) = Script::new(|transport, call| {
                    match call {
                        Call::Established => drop(transport.write(b"hello")),
                        Call::Data(b"welcome") => transport.close(),
                        _ => {}
                    }
                    None
                });
                lp.connect(user, address);
                program
            };
            let (seen, _program) =
                as_server(event_loop, Stack::new().with(tls.clone()), start, |transport, call| {
                    if let Call::Data(b"hello") = call {
                        transport.write(b"welcome");
                    }
                    None
                });
            assert_eq!((&*seen.bytes, seen.kind()), (&b"hello"[..], CloseKind::PeerClosedLayer));
            assert_eq!(seen.tls().version, version);
        });
    }
}
