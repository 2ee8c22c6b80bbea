//! HAProxy: the PROXY protocol as its own authors send and take it.

use std::io::{Read, Write};

use tepal_layers::{Info, ProxyHeader, Stack};

use crate::certificates::{client, path, server};
use crate::programs::{Folder, Program, all_present, command};
use crate::wire::{Listener, Wire, connect_plain};

/// One listener of its own, configured by its port.
fn haproxy(folder: &Folder, sections: impl Fn(u16) -> String) -> (Program, std::net::SocketAddr) {
    Program::serve(|port| {
        let conf = format!(
            "defaults\n timeout connect 10s\n timeout client 20s\n timeout server 20s\n{}",
            sections(port)
        );
        let mut command = command("haproxy");
        command.args(["-db", "-f", &folder.write(&format!("conf{port}"), conf)]);
        command
    })
}

#[test]
fn haproxy_tells_us_who_is_behind_it_in_both_versions_and_before_tls() {
    if !all_present(&["haproxy"]) {
        return;
    }
    let folder = Folder::new("haproxy-sends");
    for (option, version) in [
        ("send-proxy", 1),
        ("send-proxy-v2", 2),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id,authority", 2),
    ] {
        for tls in [false, true] {
            let listener = Listener::new();
            let (_program, address) = haproxy(&folder, |port| {
                let tls = if tls { "ssl verify none sni str(localhost)" } else { "" };
                format!(
                    "listen l\n mode tcp\n bind 127.0.0.1:{port}\n unique-id-format number%rt\n \
                     server s 127.0.0.1:{} {option} {tls}\n",
                    listener.port()
                )
            });
            let mut behind = connect_plain(address);
            behind.write_all(b"question").unwrap();
            let mut stack = Stack::new().with(ProxyHeader::new().trust("127.0.0.1").unwrap());
            if tls {
                stack = stack.with(server().build().unwrap());
            }
            let mut wire = listener.accept(&stack);
            wire.until_data(b"question");
            let Some(Info::Proxy(info)) = wire.bench.info("proxy") else { panic!("no header") };
            assert_eq!(info.version, version, "{option}");
            let told = info.addresses.expect("two addresses");
            assert_eq!(told, (behind.local_addr().unwrap(), address), "{option}");
            // Its checksum has been verified: a wrong one fails the connection.
            let has = |kind: u8| info.tlvs.iter().any(|(each, _)| *each == kind);
            assert_eq!((has(3), has(5)), (option.contains("crc32c"), option.contains("crc32c")));
            wire.write(b"answer");
            let mut answer = [0; 6];
            behind.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answer");
        }
    }
}

// A check of the balancer's own has nobody behind it, and says so: LOCAL.
#[test]
fn a_check_of_haproxys_health_is_told_as_its_own() {
    if !all_present(&["haproxy"]) {
        return;
    }
    let folder = Folder::new("haproxy-checks");
    let listener = Listener::new();
    let (_program, _) = haproxy(&folder, |port| {
        format!(
            "listen l\n mode tcp\n bind 127.0.0.1:{port}\n option tcp-check\n timeout check 15s\n \
             tcp-check expect string well\n \
             server s 127.0.0.1:{} check check-send-proxy send-proxy-v2 inter 100ms\n",
            listener.port()
        )
    });
    let stack = Stack::new().with(ProxyHeader::new().trust("127.0.0.1").unwrap());
    let mut wire = listener.accept(&stack);
    wire.until("the header", |bench| bench.info("proxy").is_some());
    let Some(Info::Proxy(info)) = wire.bench.info("proxy") else { panic!("no header") };
    assert_eq!((info.version, info.addresses), (2, None));
}

#[test]
fn our_header_tells_haproxy_who_is_behind_us() {
    if !all_present(&["haproxy", "openssl"]) {
        return;
    }
    let folder = Folder::new("haproxy-accepts");
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let pem = folder.write("pair.pem", read("server.pem") + &read("server.key"));
    for tls in [false, true] {
        let (_program, address) = haproxy(&folder, |port| {
            let tls = if tls { format!("ssl crt {pem}") } else { String::new() };
            format!(
                "listen l\n mode http\n bind 127.0.0.1:{port} accept-proxy {tls}\n http-request \
                 return status 200 content-type text/plain lf-string \
                 \"%[src] %[src_port] %[dst] %[dst_port];\"\n"
            )
        });
        let behind = |from: &str, to: &str| {
            ProxyHeader::new().addresses(from.parse().unwrap(), to.parse().unwrap())
        };
        let four = || behind("192.0.2.1:1234", "198.51.100.9:443");
        let six = || behind("[2001:db8::1]:1234", "[2001:db8::2]:443");
        let own = format!(" 127.0.0.1 {};", address.port());
        for (header, told) in [
            (four(), "192.0.2.1 1234 198.51.100.9 443;"),
            (four().version_1(), "192.0.2.1 1234 198.51.100.9 443;"),
            (six(), "2001:db8::1 1234 2001:db8::2 443;"),
            (six().version_1(), "2001:db8::1 1234 2001:db8::2 443;"),
            (four().extension(0xe0, &[7; 300]).checksum(), "192.0.2.1 1234 198.51.100.9 443;"),
            (ProxyHeader::new().local(), own.as_str()),
            (ProxyHeader::new(), own.as_str()),
        ] {
            let mut stack = Stack::new().with(header);
            if tls {
                stack = stack.with(client().build().unwrap());
            }
            let mut wire = Wire::connect(address, &stack);
            wire.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            wire.until_data(told.as_bytes());
        }
    }
}
