//! curl as a client of our proxies, in every way it knows of asking for one, with HTTPS through.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use tepal_layers::check::Seen;
use tepal_layers::{
    ErrorKind, Host, HttpConnectServer, Info, Notice, ProxyAnswer, ProxyHeader, ProxyRequest,
    SocksReply, SocksServer, Stack,
};

use crate::certificates::{path, server};
use crate::programs::{Program, all_present, command};
use crate::wire::{Listener, Wire, connect_plain};

/// What curl prints, and how it ends.
struct Fetch(Program);

impl Fetch {
    fn start(url: &str, arguments: &[&str]) -> Fetch {
        let ca = path("ca.pem");
        let mut command = command("curl");
        // Nothing from this user's own settings.
        command.args(["--disable", "--noproxy", "", "-sS", "--max-time", "15", "--cacert", &ca]);
        command.env_remove("HTTPS_PROXY").env_remove("https_proxy").env_remove("ALL_PROXY");
        Fetch(Program::start(command.args(arguments).arg(url)))
    }

    fn body(self) -> String {
        let (status, text) = self.0.finish();
        assert!(status.success(), "{text}");
        text
    }

    fn failure(self) -> (i32, String) {
        let (status, text) = self.0.finish();
        (status.code().unwrap_or(0), text)
    }
}

/// A server of HTTPS that tells what it knows of its connection.
fn https() -> (Program, SocketAddr) {
    let mut command = command("openssl");
    let (cert, key) = (path("server.pem"), path("server.key"));
    command.args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert", &cert, "-key", &key]);
    let program = Program::start(&mut command);
    let address = program.wait_for_port("ACCEPT 127.0.0.1:");
    (program, address)
}

/// Waits until the client has said where it wants to go.
fn request(wire: &mut Wire) -> ProxyRequest {
    let asked = |seen: &Seen| match seen {
        Seen::Layer(Notice::Request { request, .. }) => Some(request.clone()),
        _ => None,
    };
    wire.until("a request", |bench| bench.seen.iter().any(|seen| asked(seen).is_some()));
    wire.bench.seen.iter().find_map(asked).expect("it was there a moment ago")
}

/// The work of a proxy for one connection.
fn relay(listener: &Listener, stack: &Stack, name: &str) -> ProxyRequest {
    let mut wire = listener.accept(stack);
    let request = request(&mut wire);
    let target = connect_plain(SocketAddr::from((Ipv4Addr::LOCALHOST, request.port)));
    let from = target.local_addr().unwrap();
    wire.bench.chain.command(name, &ProxyAnswer::Accept(from.ip(), from.port())).unwrap();
    wire.until_established();
    let (client, early) = wire.into_plain();
    (&target).write_all(&early).unwrap();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            std::io::copy(&mut from, &mut to).unwrap();
            // The other side may have left already.
            let _told = to.shutdown(Shutdown::Write);
        })
    };
    let up = copy(client.try_clone().unwrap(), target.try_clone().unwrap());
    let down = copy(target, client);
    down.join().unwrap();
    up.join().unwrap();
    request
}

#[test]
fn curl_fetches_https_through_our_socks_of_every_version() {
    if !all_present(&["curl", "openssl"]) {
        return;
    }
    let (_program, target) = https();
    let url = format!("https://localhost:{}/", target.port());
    let (name, address) = (Host::Name("localhost".into()), Host::Ip(Ipv4Addr::LOCALHOST.into()));
    let good = |user: &str, password: &str| user == "me" && password == "s3cret";
    let listener = Listener::new();
    let at = format!("127.0.0.1:{}", listener.port());
    for (option, host, user) in [
        ("--socks4", &address, None),
        ("--socks4a", &name, None),
        ("--socks5", &address, None),
        ("--socks5-hostname", &name, None),
        ("--socks5-hostname", &name, Some("me")),
    ] {
        let mut arguments = vec!["--ipv4", option, &at];
        let mut spec = SocksServer::new();
        if user.is_some() {
            arguments.extend(["--proxy-user", "me:s3cret"]);
            spec = spec.auth(good);
        }
        let fetch = Fetch::start(&url, &arguments);
        let request = relay(&listener, &Stack::new().with(spec), "socks");
        assert_eq!((&request.host, request.port), (host, target.port()), "{option}");
        assert_eq!(request.user.as_deref(), user);
        assert!(fetch.body().contains("TLSv1.3"));
    }
}

#[test]
fn curl_hears_from_our_socks_why_not() {
    if !all_present(&["curl"]) {
        return;
    }
    let listener = Listener::new();
    let at = format!("127.0.0.1:{}", listener.port());
    let url = "http://nowhere.test/";
    // 97 is curl's "proxy handshake error".
    let denied = SocksServer::new().rule(|_| Err(SocksReply::NotAllowed));
    for (arguments, stack, kind, told) in [
        (["--socks5-hostname", &at], &denied, ErrorKind::Forbidden, "(2)"),
        (["--socks4a", &at], &denied, ErrorKind::Forbidden, "(91)"),
    ] {
        let fetch = Fetch::start(url, &arguments);
        let mut wire = listener.accept(&Stack::new().with(stack.clone()));
        assert_eq!(wire.until_over(), Some(kind));
        drop(wire);
        let (code, text) = fetch.failure();
        assert!(code == 97 && text.contains(told), "{code} {text}");
    }
    let strict = Stack::new().with(SocksServer::new().auth(|_, password| password == "s3cret"));
    for (arguments, kind) in [
        (&["--socks5-hostname", &at, "--proxy-user", "me:wrong"][..], ErrorKind::AuthRefused),
        (&["--socks5-hostname", &at], ErrorKind::NoAuthMethod),
        (&["--socks4a", &at], ErrorKind::NoAuthMethod),
    ] {
        let fetch = Fetch::start(url, arguments);
        let mut wire = listener.accept(&strict);
        assert_eq!(wire.until_over(), Some(kind));
        let error = wire.bench.failure().unwrap().to_string();
        assert!(!error.contains("wrong"), "{error}");
        drop(wire);
        assert_eq!(fetch.failure().0, 97);
    }
    // The target cannot be reached.
    let fetch = Fetch::start(url, &["--socks5-hostname", &at]);
    let mut wire = listener.accept(&Stack::new().with(SocksServer::new()));
    assert_eq!(request(&mut wire).host, Host::Name("nowhere.test".into()));
    let refuse = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
    wire.bench.chain.command("socks", &refuse).unwrap();
    wire.until_over();
    drop(wire);
    let (code, text) = fetch.failure();
    assert!(code == 97 && text.contains("(4)"), "{code} {text}");
}

#[test]
fn curl_fetches_https_through_our_connect_and_hears_why_not() {
    if !all_present(&["curl", "openssl"]) {
        return;
    }
    let (_program, target) = https();
    let url = format!("https://localhost:{}/", target.port());
    let listener = Listener::new();
    let at = format!("http://127.0.0.1:{}", listener.port());
    let strict = HttpConnectServer::new().auth(|user, password| (user, password) == ("me", "a:b"));
    for (user, spec) in [(None, HttpConnectServer::new()), (Some("me:a:b"), strict.clone())] {
        let mut arguments = vec!["--proxy", &at];
        if let Some(user) = user {
            arguments.extend(["--proxy-user", user]);
        }
        let fetch = Fetch::start(&url, &arguments);
        let request = relay(&listener, &Stack::new().with(spec), "http-proxy");
        assert_eq!(request.host, Host::Name("localhost".into()));
        assert_eq!(request.user.as_deref(), user.map(|_| "me"));
        assert!(fetch.body().contains("TLSv1.3"));
    }
    let denied = HttpConnectServer::new().rule(|_| Err(SocksReply::NotAllowed));
    for (user, spec, kind, status) in [
        ("me:wrong", strict, ErrorKind::AuthRefused, "407"),
        ("me:a:b", denied, ErrorKind::Forbidden, "403"),
    ] {
        let fetch = Fetch::start(&url, &["--proxy", &at, "--proxy-user", user]);
        let mut wire = listener.accept(&Stack::new().with(spec));
        assert_eq!(wire.until_over(), Some(kind));
        drop(wire);
        let (code, text) = fetch.failure();
        assert!(code == 56 && text.contains(status), "{code} {text}");
    }
}

#[test]
fn curl_sends_a_proxy_header_before_its_request_and_before_its_hello() {
    if !all_present(&["curl"]) {
        return;
    }
    for scheme in ["http", "https"] {
        let listener = Listener::new();
        let url = format!("{scheme}://localhost:{}/", listener.port());
        let fetch = Fetch::start(&url, &["--ipv4", "--haproxy-protocol"]);
        let mut stack = Stack::new().with(ProxyHeader::new().trust("127.0.0.1").unwrap());
        if scheme == "https" {
            stack = stack.with(server().build().unwrap());
        }
        let mut wire = listener.accept(&stack);
        wire.until_data(b"\r\n\r\n");
        let Some(Info::Proxy(info)) = wire.bench.info("proxy") else { panic!("no header") };
        let (_, to) = info.addresses.expect("two addresses");
        assert_eq!((info.version, to.port()), (1, listener.port()));
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
        assert_eq!(fetch.body(), "hello\n");
    }
}

/// The first byte that differs is enough to tell that somebody does not send the header.
#[test]
fn a_client_without_the_header_is_refused() {
    if !all_present(&["curl"]) {
        return;
    }
    let listener = Listener::new();
    let url = format!("http://localhost:{}/", listener.port());
    let fetch = Fetch::start(&url, &["--ipv4"]);
    let stack = Stack::new().with(ProxyHeader::new().trust("127.0.0.1").unwrap());
    let mut wire = listener.accept(&stack);
    assert_eq!(wire.until_over(), Some(ErrorKind::HeaderMissing));
    assert_eq!(wire.bench.data(), b"");
    drop(wire);
    let (code, text) = fetch.failure();
    assert!(code == 52 || code == 56, "{code} {text}");
    let mut nothing = Vec::new();
    let mut stream = connect_plain(SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port())));
    let mut wire = listener.accept(&stack);
    stream.write_all(b"G").unwrap();
    assert_eq!(wire.until_over(), Some(ErrorKind::HeaderMissing));
    drop(wire);
    stream.read_to_end(&mut nothing).unwrap();
}
