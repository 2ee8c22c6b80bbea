//! nginx: TLS on both sides, and the PROXY protocol before HTTP and before TLS.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::Signal;
use tepal_layers::{ErrorKind, How, Late, ProxyHeader, Stack};

use crate::certificates::{client, path, server};
use crate::programs::{Folder, all_present};
use crate::servers::nginx;
use crate::wire::{Listener, Wire, connect_plain};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn an_nginx_server_ends_in_every_way() {
    if !all_present(&["nginx"]) {
        return;
    }
    let folder = Folder::new("nginx-server");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let (program, address) = nginx(&folder, |port| {
            format!(
                "listen 127.0.0.1:{port} ssl; ssl_protocols {version};\n\
                 location / {{ return 200 \"hello\\n\"; }}"
            )
        });
        let stack = Stack::new().with(client().build().unwrap());
        let ask = |request: &[u8]| {
            let mut wire = Wire::connect(address, &stack);
            assert_eq!(wire.tls_info().version, version);
            wire.write(request);
            wire.until_data(b"\r\n\r\nhello\n");
            wire
        };
        let mut wire = ask(GET_AND_CLOSE);
        wire.until_eof();
        assert_eq!(wire.close(), Some(How::Closed));
        let mut wire = ask(GET);
        wire.write(GET);
        assert!(matches!(wire.close(), Some(How::Closed | How::Unconfirmed)));
        // It stands still, and later it is gone: each time with a connection that is kept alive.
        let (mut late, mut cut) = (ask(GET), ask(GET));
        program.signal(Signal::STOP);
        late.pop(Duration::from_millis(50), Late::Close);
        assert_eq!(late.until_over(), Some(ErrorKind::CloseTimeout));
        program.signal(Signal::KILL);
        assert_eq!(cut.until_over(), Some(ErrorKind::TlsTruncated));
    }
}

#[test]
fn an_nginx_client_is_served_and_left_in_either_order() {
    if !all_present(&["nginx"]) {
        return;
    }
    let folder = Folder::new("nginx-client");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let listener = Listener::new();
        let ours = listener.port();
        let (_program, address) = nginx(&folder, |port| {
            let ca = path("ca.pem");
            format!(
                "listen 127.0.0.1:{port};\nlocation / {{\n proxy_pass https://127.0.0.1:{ours};\n\
                 proxy_ssl_protocols {version}; proxy_ssl_verify on; proxy_ssl_name localhost;\n\
                 proxy_ssl_trusted_certificate {ca}; proxy_ssl_server_name on;\n}}"
            )
        });
        let stack = Stack::new().with(server().build().unwrap());
        for length_known in [true, false] {
            let mut asker = connect_plain(address);
            asker.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut wire = listener.accept(&stack);
            assert_eq!(wire.tls_info().version, version);
            wire.until_data(b"\r\n\r\n");
            if length_known {
                // nginx has all it wants and is the first to leave.
                wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
                wire.until_eof();
                assert!(matches!(wire.close(), Some(How::Closed | How::Unconfirmed)));
            } else {
                // Only our end tells it that the body is whole.
                wire.write(b"HTTP/1.1 200 OK\r\n\r\nhello");
                assert!(matches!(wire.close(), Some(How::Closed | How::Unconfirmed)));
            }
            drop(wire);
            let mut answer = String::new();
            asker.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        }
    }
}

#[test]
fn a_proxy_header_tells_nginx_who_is_behind_us() {
    if !all_present(&["nginx"]) {
        return;
    }
    let folder = Folder::new("nginx-proxy");
    for tls in [false, true] {
        let (_program, address) = nginx(&folder, |port| {
            let ssl = if tls { "ssl" } else { "" };
            format!(
                "listen 127.0.0.1:{port} proxy_protocol {ssl};\n location / {{\n\
                 return 200 \"$proxy_protocol_addr $proxy_protocol_port \
                 $proxy_protocol_server_addr $proxy_protocol_server_port\\n\"; }}"
            )
        });
        let behind = |from: &str, to: &str| {
            ProxyHeader::new().addresses(from.parse().unwrap(), to.parse().unwrap())
        };
        let four = || behind("192.0.2.1:1234", "198.51.100.9:443");
        let six = || behind("[2001:db8::1]:1234", "[2001:db8::2]:443");
        let (told4, told6) =
            ("192.0.2.1 1234 198.51.100.9 443\n", "2001:db8::1 1234 2001:db8::2 443\n");
        for (header, told) in [
            (four(), told4),
            (four().version_1(), told4),
            (six(), told6),
            (six().version_1(), told6),
            (four().extension(0xe0, b"mine").checksum(), told4),
        ] {
            let mut stack = Stack::new().with(header);
            if tls {
                stack = stack.with(client().build().unwrap());
            }
            let mut wire = Wire::connect(address, &stack);
            wire.write(GET_AND_CLOSE);
            wire.until_data(told.as_bytes());
        }
        // The address of the socket itself.
        let mut wire = Wire::connect(
            address,
            &match tls {
                true => Stack::new().with(ProxyHeader::new()).with(client().build().unwrap()),
                false => Stack::new().with(ProxyHeader::new()),
            },
        );
        wire.write(GET_AND_CLOSE);
        wire.until_data(format!(" 127.0.0.1 {}\n", address.port()).as_bytes());
    }
}
