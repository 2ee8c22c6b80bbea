//! Foreign proxies: microsocks, Dante, `ssh -D`, tinyproxy and squid, with TLS through each of them.

use std::io::{Read, Write};
use std::net::SocketAddr;

use tepal_layers::{
    ErrorKind, Host, HttpConnect, Info, LayerSpec, Socks4, Socks5, SocksReply, Stack,
};

use crate::certificates::{client, server};
use crate::programs::{Folder, Program, all_present, command};
use crate::servers::{has_squid, has_ssh, squid, ssh_dynamic};
use crate::wire::{Listener, Wire};

/// A port on which nobody listens: it was somebody's a moment ago.
fn dead_port() -> u16 {
    Listener::new().port()
}

/// By way of the proxy to a target of ours: bytes both ways, the end in either order, and TLS.
fn carries<S: LayerSpec + 'static>(
    proxy: SocketAddr,
    make: impl Fn(&str, u16) -> S,
) -> Option<Info> {
    let target = Listener::new();
    let mut info = None;
    for host in ["127.0.0.1", "localhost"] {
        let spec = make(host, target.port());
        let name = spec.name();
        for we_are_first in [true, false] {
            let mut wire = Wire::connect(proxy, &Stack::new().with(make(host, target.port())));
            // Written before the proxy is asked for anything.
            wire.write(b"early ");
            wire.until_established();
            let mut peer = target.accept_plain();
            wire.write(b"bird");
            let mut got = [0; 10];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"early bird");
            peer.write_all(b"worm").unwrap();
            wire.until_data(b"worm");
            info = wire.bench.info(name);
            assert!(wire.bench.chain.is_plain(), "the proxy's layer has left");
            if we_are_first {
                wire.close();
                drop(wire);
                assert_eq!(peer.read(&mut got).unwrap(), 0);
            } else {
                drop(peer);
                wire.until_eof();
            }
        }
        // The host that TLS verifies is the one behind the proxy.
        if host == "localhost" {
            let stack = Stack::new().with(spec).with(client().build().unwrap());
            let mut wire = Wire::connect(proxy, &stack);
            wire.piece = 1;
            wire.write(b"secret");
            wire.until("the proxy's work", |bench| bench.info(name).is_some());
            let mut peer = target.accept(&Stack::new().with(server().build().unwrap()));
            while peer.bench.data() != b"secret" {
                peer.during(std::time::Duration::from_millis(1));
                wire.during(std::time::Duration::from_millis(1));
            }
        }
    }
    info
}

/// What the proxy says to a spec that it does not serve.
fn refusal(proxy: SocketAddr, spec: impl LayerSpec + 'static) -> ErrorKind {
    let mut wire = Wire::connect(proxy, &Stack::new().with(spec));
    wire.write(b"never to arrive");
    wire.until_over().expect("a failure")
}

fn microsocks(arguments: &[&str]) -> (Program, SocketAddr) {
    Program::serve(|port| {
        let mut command = command("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
        command
    })
}

#[test]
fn microsocks_carries_what_it_may_and_says_why_it_does_not() {
    if !all_present(&["microsocks"]) {
        return;
    }
    let spec = |host: &str, port| Socks5::new(host, port).unwrap();
    let (_open, proxy) = microsocks(&[]);
    assert!(matches!(carries(proxy, spec), Some(Info::Bound(Host::Ip(_), _))));
    let refused = ErrorKind::Socks5(SocksReply::ConnectionRefused);
    assert_eq!(refusal(proxy, spec("127.0.0.1", dead_port())), refused);
    let kind = refusal(proxy, spec("no-such-host.invalid", 1));
    assert!(matches!(kind, ErrorKind::Socks5(_)), "{kind:?}");

    let (_strict, proxy) = microsocks(&["-u", "me", "-P", "secret"]);
    let with = |password: &'static str| {
        move |host: &str, port| spec(host, port).credentials("me", password).unwrap()
    };
    carries(proxy, with("secret"));
    assert_eq!(refusal(proxy, with("wrong")("localhost", 1)), ErrorKind::AuthRefused);
    assert_eq!(refusal(proxy, spec("localhost", 1)), ErrorKind::NoAuthMethod);
    // It speaks version 5 only.
    let kind = refusal(proxy, Socks4::new("127.0.0.1", 1).unwrap());
    assert!(matches!(kind, ErrorKind::Version(5) | ErrorKind::EofInHandshake), "{kind:?}");
}

#[test]
fn ssh_carries_every_version_of_socks() {
    if !has_ssh() {
        return;
    }
    let folder = Folder::new("ssh");
    let (_server, _dynamic, proxy) = ssh_dynamic(&folder);
    carries(proxy, |host, port| Socks5::new(host, port).unwrap());
    // An address by SOCKS4, a name by 4a.
    carries(proxy, |host, port| Socks4::new(host, port).unwrap().user_id("me").unwrap());
    // It tells no reason, but hangs up.
    let kind = refusal(proxy, Socks5::new("127.0.0.1", dead_port()).unwrap());
    assert_eq!(kind, ErrorKind::EofInHandshake);
}

#[test]
fn dante_carries_what_it_may_and_says_why_it_does_not() {
    if !all_present(&["danted"]) {
        return;
    }
    let folder = Folder::new("dante");
    let (_program, proxy) = Program::serve(|port| {
        let conf = format!(
            "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
             clientmethod: none\nsocksmethod: none\n\
             client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             socks block {{ from: 0.0.0.0/0 to: 127.0.0.3/32 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
        );
        let mut command = command("danted");
        command.args(["-p", &folder.file("pid"), "-f", &folder.write("conf", conf)]);
        command
    });
    let five = |host: &str, port| Socks5::new(host, port).unwrap();
    let four = |host: &str, port| Socks4::new(host, port).unwrap();
    assert!(matches!(carries(proxy, five), Some(Info::Bound(Host::Ip(_), 1..))));
    // Of SOCKS4 it has no names (4a).
    let target = Listener::new();
    let stack = Stack::new().with(four("127.0.0.1", target.port()));
    let mut wire = Wire::connect(proxy, &stack);
    wire.write(b"by SOCKS4");
    wire.until_established();
    let mut got = [0; 9];
    target.accept_plain().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"by SOCKS4");
    assert_eq!(refusal(proxy, four("localhost", target.port())), ErrorKind::Socks4(91));
    let socks5 = |host, port| refusal(proxy, five(host, port));
    let refused = ErrorKind::Socks5(SocksReply::ConnectionRefused);
    assert_eq!(socks5("127.0.0.1", dead_port()), refused);
    assert_eq!(socks5("127.0.0.3", 1), ErrorKind::Socks5(SocksReply::NotAllowed));
    assert_eq!(refusal(proxy, four("127.0.0.3", 1)), ErrorKind::Socks4(91));
    let secret = five("127.0.0.1", 1).credentials("me", "secret").unwrap();
    // It asks for no password, so none is sent.
    assert_eq!(refusal(proxy, secret), refused);
}

fn connect(host: &str, port: u16) -> HttpConnect {
    HttpConnect::new(host, port).unwrap()
}

#[test]
fn tinyproxy_carries_what_it_may_and_says_why_it_does_not() {
    if !all_present(&["tinyproxy"]) {
        return;
    }
    let folder = Folder::new("tinyproxy");
    let start = |more: &str| {
        Program::serve(|port| {
            let conf =
                format!("Port {port}\nListen 127.0.0.1\nTimeout 20\nMaxClients 20\n{more}\n");
            let mut command = command("tinyproxy");
            command.args(["-d", "-c", &folder.write("conf", conf)]);
            command
        })
    };
    let (_open, proxy) = start("Allow 127.0.0.1");
    // It answers in HTTP/1.0.
    assert_eq!(carries(proxy, connect), Some(Info::HttpStatus(200)));
    let kind = refusal(proxy, connect("127.0.0.1", dead_port()));
    assert!(matches!(kind, ErrorKind::HttpStatus(500..=599)), "{kind:?}");
    let (_strict, proxy) = start("BasicAuth me secret");
    let with = |password: &'static str| {
        move |host: &str, port| connect(host, port).credentials("me", password).unwrap()
    };
    carries(proxy, with("secret"));
    for kind in
        [refusal(proxy, connect("localhost", 1)), refusal(proxy, with("wrong")("localhost", 1))]
    {
        assert!(matches!(kind, ErrorKind::HttpStatus(401 | 407)), "{kind:?}");
    }
    let (_narrow, proxy) = start("ConnectPort 443");
    assert_eq!(refusal(proxy, connect("localhost", 444)), ErrorKind::HttpStatus(403));
}

#[test]
fn squid_carries_what_it_may_and_says_why_it_does_not() {
    if !has_squid() {
        return;
    }
    let folder = Folder::new("squid");
    let (_squid, proxy) = squid(&folder);
    assert_eq!(carries(proxy, connect), Some(Info::HttpStatus(200)));
    assert_eq!(refusal(proxy, connect("127.0.0.3", 1)), ErrorKind::HttpStatus(403));
    let kind = refusal(proxy, connect("127.0.0.1", dead_port()));
    assert!(matches!(kind, ErrorKind::HttpStatus(500..=599)), "{kind:?}");
    // 127.0.0.2 is for those with a password; nobody listens there.
    let with = |password| connect("127.0.0.2", dead_port()).credentials("me", password).unwrap();
    assert_eq!(refusal(proxy, connect("127.0.0.2", 1)), ErrorKind::HttpStatus(407));
    assert_eq!(refusal(proxy, with("wrong")), ErrorKind::HttpStatus(407));
    let kind = refusal(proxy, with("secret"));
    assert!(matches!(kind, ErrorKind::HttpStatus(500..=599)), "let in, and nobody there: {kind:?}");
}

/// It keeps its state in shared memory, by the name of its service.
#[test]
fn squid_leaves_nothing_behind() {
    if !has_squid() {
        return;
    }
    let ours = || -> Vec<String> {
        let name = format!("tepal{}", std::process::id());
        let files = std::fs::read_dir("/dev/shm").unwrap().map(|file| file.unwrap().file_name());
        let files = files.map(|file| file.to_string_lossy().into_owned());
        files.filter(|file| file.starts_with(&format!("{name}x2-"))).collect()
    };
    let folder = Folder::new("squid-2");
    let (squid, _) =
        crate::servers::squid_named(&folder, &format!("tepal{}x2", std::process::id()));
    assert_ne!(ours(), [""; 0], "it has such files while it runs");
    drop(squid);
    assert_eq!(ours(), [""; 0]);
}
