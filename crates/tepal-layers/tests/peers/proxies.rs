//! Foreign proxies: microsocks, `ssh -D`, tinyproxy and squid, with TLS through each of them.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tepal_layers::{
    ErrorKind, Host, HttpConnect, Info, LayerSpec, Socks4, Socks5, SocksReply, Stack,
};

use crate::certificates::{client, server};
use crate::programs::{Folder, Program, all_present, command, find};
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

/// A server with keys and a port of its own, and `ssh -D` to it, as the user who runs the tests.
fn ssh_dynamic(folder: &Folder) -> (Program, Program, SocketAddr) {
    let output = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    for key in ["host", "user"] {
        let mut command = command("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f", &folder.file(key)]);
        assert!(command.status().unwrap().success());
    }
    let (server, at) = Program::serve(|port| {
        let conf = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             PermitRootLogin yes\n",
            folder.file("host"),
            folder.file("user.pub")
        );
        let conf = folder.write("sshd_config", conf);
        let sshd = find("sshd").expect("sshd was there a moment ago").display().to_string();
        let mut command = match rustix::process::geteuid().is_root() {
            // It wants a folder of the system's, which it finds in a namespace of its own.
            true => {
                let script = "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\"";
                let mut command = command("unshare");
                command.args(["-m", "sh", "-c", script, "sh", &sshd]);
                command
            }
            false => Command::new(sshd),
        };
        command.args(["-D", "-e", "-f", &conf]);
        command
    });
    let (dynamic, address) = Program::serve(|port| {
        let mut command = command("ssh");
        command.args([
            "-N",
            "-F",
            "none",
            "-i",
            &folder.file("user"),
            "-p",
            &at.port().to_string(),
        ]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            "IdentityAgent=none",
            "ConnectTimeout=10",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-D", &format!("127.0.0.1:{port}"), &format!("{user}@127.0.0.1")]);
        command
    });
    (server, dynamic, address)
}

#[test]
fn ssh_carries_every_version_of_socks() {
    if !all_present(&["ssh", "sshd", "ssh-keygen", "unshare"]) {
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
    const HELPER: &str = "/usr/lib/squid/basic_ncsa_auth";
    if !all_present(&["squid", "openssl"]) {
        return;
    }
    if !Path::new(HELPER).is_file() {
        return crate::programs::tell_absent("squid's basic_ncsa_auth");
    }
    let folder = Folder::new("squid");
    let output = command("openssl").args(["passwd", "-apr1", "secret"]).output().unwrap();
    let line = format!("me:{}", String::from_utf8(output.stdout).unwrap());
    let passwords = folder.write("passwords", line);
    let (_squid, proxy) = Program::serve(|port| {
        let conf = format!(
            "http_port 127.0.0.1:{port}\npid_filename {}\ncache_log /dev/null\naccess_log none\n\
             cache deny all\ncache_mem 8 MB\nvisible_hostname localhost\nshutdown_lifetime 0 seconds\n\
             coredump_dir none\npinger_enable off\nmax_filedescriptors 1024\n\
             auth_param basic program {HELPER} {passwords}\nauth_param basic children 1 startup=1\n\
             acl users proxy_auth REQUIRED\nacl strict url_regex -i private\n\
             acl secret dst 127.0.0.2\nhttp_access allow secret users\n\
             http_access deny secret\nacl closed dst 127.0.0.3\nhttp_access deny closed\n\
             http_access allow all\n",
            folder.file("pid")
        );
        let mut command = command("squid");
        command.args(["-N", "-d", "1", "-f", &folder.write("conf", conf)]);
        command
    });
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
