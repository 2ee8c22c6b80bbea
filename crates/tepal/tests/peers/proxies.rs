//! Foreign proxies for our clients, and curl as a client of our proxies, through the loop.

use std::net::SocketAddr;

use tepal::layers::{ErrorKind, HttpConnectServer, ProxyAnswer, SocksReply, SocksServer};
use tepal::{CloseKind, HttpConnect, ProxyHeader, Socks4, Socks5, Stack, Transport};

use crate::certificates::{client, path, server};
use crate::common::on_every_driver;
use crate::layered::{Call, Seen};
use crate::programs::{Folder, Program, all_present, command};
use crate::{as_client, as_server};

/// A server that sends each line back reversed.
pub(crate) fn reverser() -> (Program, SocketAddr) {
    let mut command = command("openssl");
    let (cert, key) = (path("server.pem"), path("server.key"));
    command.args(["s_server", "-accept", "127.0.0.1:0", "-rev", "-cert", &cert, "-key", &key]);
    let program = Program::start(&mut command);
    let address = program.wait_for_port("ACCEPT 127.0.0.1:");
    (program, address)
}

/// Says something early, and closes when the answer has come.
fn says(transport: &Transport, call: &Call<'_>, heard: &mut Vec<u8>) {
    match call {
        Call::Made => drop(transport.write(b"drawer\n")),
        Call::Data(data) => {
            heard.extend_from_slice(data);
            if heard == b"reward\n" {
                transport.close();
            }
        }
        _ => {}
    }
}

pub(crate) fn through(event_loop: &tepal::EventLoop, proxy: SocketAddr, stack: Stack) -> Seen {
    let mut heard = Vec::new();
    as_client(event_loop, proxy, stack, move |transport, call| {
        says(transport, call, &mut heard);
        None
    })
}

pub(crate) fn refused(seen: &Seen) -> ErrorKind {
    let closed = seen.closed.as_ref().expect("it has ended");
    assert_eq!(closed.kind, CloseKind::HandshakeFailed, "{closed:?}");
    closed.layer_error.as_ref().expect("with its reason").kind()
}

#[test]
fn tls_through_microsocks_and_its_refusals() {
    if !all_present(&["microsocks", "openssl"]) {
        return;
    }
    let (_target, at) = reverser();
    let (_program, proxy) = Program::serve(|port| {
        let mut command = command("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-u", "me", "-P", "secret"]);
        command
    });
    let spec = |password: &str| {
        let spec = Socks5::new("localhost", at.port()).expect("a host");
        spec.credentials("me", password).expect("good credentials")
    };
    let tls = client().build().expect("a client");
    on_every_driver(|event_loop| {
        let stack = Stack::new().with(spec("secret")).with(tls.clone());
        let seen = through(event_loop, proxy, stack);
        assert_eq!((seen.kind(), &*seen.bytes), (CloseKind::Local, &b"reward\n"[..]));
        let stack = Stack::new().with(spec("wrong")).with(tls.clone());
        let seen = through(event_loop, proxy, stack);
        assert_eq!(refused(&seen), ErrorKind::AuthRefused);
        assert!(!format!("{:?}", seen.closed).contains("wrong"));
        let stack = Stack::new().with(Socks5::new("localhost", at.port()).expect("a host"));
        assert_eq!(refused(&through(event_loop, proxy, stack)), ErrorKind::NoAuthMethod);
        let dead = Socks4::new("127.0.0.1", 1).expect("an address");
        let kind = refused(&through(event_loop, proxy, Stack::new().with(dead)));
        assert!(matches!(kind, ErrorKind::Version(5) | ErrorKind::EofInHandshake), "{kind:?}");
    });
}

#[test]
fn tls_through_tinyproxy_and_its_refusals() {
    if !all_present(&["tinyproxy", "openssl"]) {
        return;
    }
    let (_target, at) = reverser();
    let folder = Folder::new("loop-tinyproxy");
    let (_program, proxy) = Program::serve(|port| {
        let conf = format!("Port {port}\nListen 127.0.0.1\nTimeout 20\nBasicAuth me secret\n");
        let mut command = command("tinyproxy");
        command.args(["-d", "-c", &folder.write("conf", conf)]);
        command
    });
    let spec = || HttpConnect::new("localhost", at.port()).expect("a host");
    let tls = client().build().expect("a client");
    on_every_driver(|event_loop| {
        let good = spec().credentials("me", "secret").expect("good credentials");
        let seen = through(event_loop, proxy, Stack::new().with(good).with(tls.clone()));
        assert_eq!((seen.kind(), &*seen.bytes), (CloseKind::Local, &b"reward\n"[..]));
        let seen = through(event_loop, proxy, Stack::new().with(spec()).with(tls.clone()));
        assert!(matches!(refused(&seen), ErrorKind::HttpStatus(401 | 407)));
    });
}

/// What curl is to be answered: a whole response, by whoever is on the other side of the proxy.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";

fn curl(url: &str, arguments: &[&str]) -> Program {
    let mut command = command("curl");
    let ca = path("ca.pem");
    command.args(["--disable", "--noproxy", "", "-sS", "--max-time", "15", "--cacert", &ca]);
    Program::start(command.args(arguments).arg(url))
}

/// We are the proxy, and then what is behind it, on the same connection: TLS is pushed when the
/// proxy's work is done.
#[test]
fn curl_reaches_https_through_our_proxies() {
    if !all_present(&["curl"]) {
        return;
    }
    let tls = server().build().expect("a server");
    let good = |user: &str, password: &str| (user, password) == ("me", "secret");
    let socks = Stack::new().with(SocksServer::new().auth(good));
    let open = Stack::new().with(SocksServer::new());
    let connect = Stack::new().with(HttpConnectServer::new().auth(good));
    let cases = [
        (&open, "socks", "socks4"),
        (&open, "socks", "socks4a"),
        (&socks, "socks", "socks5"),
        (&socks, "socks", "socks5h"),
        (&connect, "http-proxy", "http"),
    ];
    on_every_driver(|event_loop| {
        for (stack, layer, scheme) in cases {
            let start = |port: u16| {
                let proxy = format!("{scheme}://127.0.0.1:{port}");
                curl("https://localhost:4/", &["-4", "-x", &proxy, "-U", "me:secret"])
            };
            let tls = tls.clone();
            let (seen, program) =
                as_server(event_loop, stack.clone(), start, move |transport, call| {
                    match call {
                        Call::Request(name, request) => {
                            assert_eq!(request.port, 4);
                            let accept = ProxyAnswer::Accept([127, 0, 0, 1].into(), 4);
                            transport.answer_proxy(name, accept).expect("it waits");
                        }
                        Call::Established => {
                            transport.push_layer(tls.clone()).expect("nothing has come");
                        }
                        Call::Data(data) if data.ends_with(b"\r\n\r\n") => {
                            transport.write(RESPONSE);
                            transport.close();
                        }
                        Call::Data(_) => return Some(0),
                        _ => {}
                    }
                    None
                });
            let (status, text) = program.finish();
            assert!(status.success(), "{scheme}: {text} {:?}", seen.closed);
            assert_eq!(text, "hello\n");
            assert_eq!(seen.kind(), CloseKind::Local);
            assert!(seen.infos.iter().any(|(name, _)| name == layer));
        }
    });
}

#[test]
fn curl_hears_the_refusal_before_our_proxy_hangs_up() {
    if !all_present(&["curl"]) {
        return;
    }
    let denied = Stack::new().with(SocksServer::new());
    let strict = Stack::new().with(HttpConnectServer::new().auth(|_, _| false));
    on_every_driver(|event_loop| {
        let start = |port: u16| {
            curl("https://localhost:4/", &["-x", &format!("socks5h://127.0.0.1:{port}")])
        };
        let (_, program) = as_server(event_loop, denied.clone(), start, |transport, call| {
            if let Call::Request(name, _) = call {
                let refuse = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
                transport.answer_proxy(name, refuse).expect("it waits");
            }
            None
        });
        let (status, text) = program.finish();
        assert!(status.code() == Some(97) && text.contains("(4)"), "{status:?} {text}");
        let start = |port: u16| {
            let proxy = format!("http://127.0.0.1:{port}");
            curl("https://localhost:4/", &["-x", &proxy, "-U", "me:canary"])
        };
        let (seen, program) = as_server(event_loop, strict.clone(), start, |_, _| None);
        let (_, text) = program.finish();
        assert!(text.contains("407"), "{text}");
        assert_eq!(refused(&seen), ErrorKind::AuthRefused);
        assert!(!format!("{:?}", seen.closed).contains("canary"));
    });
}

/// The header and the ClientHello come in whatever segments curl likes.
#[test]
fn curl_sends_a_proxy_header_before_its_hello() {
    if !all_present(&["curl"]) {
        return;
    }
    let header = ProxyHeader::new().trust("127.0.0.1").expect("an address");
    let stack = Stack::new().with(header).with(server().build().expect("a server"));
    on_every_driver(|event_loop| {
        let start =
            |port: u16| curl(&format!("https://localhost:{port}/"), &["-4", "--haproxy-protocol"]);
        let (seen, program) = as_server(event_loop, stack.clone(), start, |transport, call| {
            match call {
                Call::Data(data) if data.ends_with(b"\r\n\r\n") => {
                    transport.write(RESPONSE);
                    transport.close();
                }
                Call::Data(_) => return Some(0),
                _ => {}
            }
            None
        });
        assert_eq!(program.finish().1, "hello\n");
        assert!(seen.infos.iter().any(|(name, _)| name == "proxy"));
    });
}

#[test]
fn nginx_is_told_who_is_behind_us_before_tls() {
    if !all_present(&["nginx"]) {
        return;
    }
    let folder = Folder::new("loop-nginx");
    let (_program, address) = Program::serve(|port| {
        let own = folder.path().display();
        let conf = format!(
            "daemon off; master_process off; pid {own}/pid; error_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {own}/a; proxy_temp_path {own}/b;\n\
             fastcgi_temp_path {own}/c; uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;\n\
             ssl_certificate {}; ssl_certificate_key {};\nserver {{\n\
             listen 127.0.0.1:{port} proxy_protocol ssl; location / {{\n\
             return 200 \"$proxy_protocol_addr $proxy_protocol_port\\n\"; }}\n}}\n}}\n",
            path("server.pem"),
            path("server.key"),
        );
        let mut command = command("nginx");
        command.args(["-e", "stderr", "-c", &folder.write("nginx.conf", conf)]);
        command
    });
    let tls = client().build().expect("a client");
    on_every_driver(|event_loop| {
        for version_1 in [false, true] {
            let (from, to) = ("192.0.2.1:1234".parse(), "192.0.2.2:443".parse());
            let mut header =
                ProxyHeader::new().addresses(from.expect("an address"), to.expect("an address"));
            if version_1 {
                header = header.version_1();
            }
            let stack = Stack::new().with(header).with(tls.clone());
            let seen = as_client(event_loop, address, stack, |transport, call| {
                if let Call::Made = call {
                    transport.write(b"GET / HTTP/1.0\r\n\r\n");
                }
                None
            });
            assert!(seen.bytes.ends_with(b"192.0.2.1 1234\n"));
            assert_eq!(seen.kind(), CloseKind::PeerClosedLayer);
        }
    });
}
