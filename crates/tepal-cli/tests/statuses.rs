//! What the exit status and the one line on standard error tell of a failure.

mod common;

use std::io::{Read, Write};
use std::process::Stdio;

use common::certificates::path;
use common::programs::{Program, all_present, command};
use common::{finish, nobody, peer, run, tepal};

fn openssl(arguments: &'static [&'static str]) -> (Program, String) {
    let (program, address) = Program::serve(move |port| {
        let mut openssl = command("openssl");
        openssl.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-naccept", "1"]);
        openssl.args(["-cert", &path("server.pem"), "-key", &path("server.key")]);
        openssl.args(arguments);
        openssl
    });
    (program, format!("tcp:localhost:{}", address.port()))
}

#[test]
fn a_name_that_is_not_there_is_3() {
    let ended = run(&["connect", "tcp:no-such-host.invalid:80,timeout-dns=5s"], b"");
    ended.failed(3, &["cannot find no-such-host.invalid port 80"]);
}

#[test]
fn a_peer_that_does_not_answer_is_4() {
    run(&["connect", &nobody()], b"").failed(4, &["refused", "does the server run?"]);
    run(&["connect", "unix:/no/such/socket"], b"").failed(4, &["/no/such/socket", "No such file"]);
    // A service's name is its port.
    let ended = run(&["connect", "tcp:127.0.0.1:tcpmux"], b"");
    ended.failed(4, &["127.0.0.1", "port 1"]);
}

#[test]
fn a_handshake_that_fails_is_5() {
    let (chain, server) = peer(|mut stream| {
        stream.write_all(b"220 no TLS here\r\n").expect("writes");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    run(&["connect", &chain, "tls,name=localhost"], b"").failed(5, &["cannot set up tls with"]);
    server.join().expect("the server ends");

    let (chain, server) = peer(|mut stream| stream.read_to_end(&mut Vec::new()));
    let quiet = format!("{chain},timeout-handshake=200ms");
    run(&["connect", &quiet, "tls,name=localhost"], b"").failed(5, &["tls", "timeout-handshake="]);
    let _ = server.join().expect("the server ends");

    if !all_present(&["openssl"]) {
        return;
    }
    let ca = format!("tls,ca={}", path("ca.pem"));
    let (_openssl, chain) = openssl(&["-quiet"]);
    run(&["connect", &chain, "tls"], b"").failed(5, &["tls", "ca=FILE says whom else to trust"]);
    let (_openssl, chain) = openssl(&["-quiet"]);
    run(&["connect", &chain, &format!("{ca},name=other.test")], b"").failed(5, &["other.test"]);
    let (_openssl, chain) = openssl(&["-quiet", "-tls1_2"]);
    run(&["connect", &chain, &format!("{ca},min=1.3")], b"").failed(5, &["tls"]);
}

#[test]
fn a_connection_that_is_lost_is_6() {
    let (chain, server) = peer(|mut stream| {
        // Something of it stays unread, so the close is a reset, or a broken pipe if we write then.
        stream.read_exact(&mut [0; 2]).expect("reads");
    });
    run(&["connect", &chain], &[0; 1 << 20]).failed(6, &["lost the connection", "(os error"]);
    server.join().expect("the server ends");

    for (option, words) in
        [("timeout-idle", "nothing has passed"), ("timeout-read", "lost the connection")]
    {
        let (chain, server) = peer(|mut stream| stream.read_to_end(&mut Vec::new()));
        let quiet = format!("{chain},{option}=100ms");
        run(&["connect", &quiet, "--keep-open"], b"").failed(6, &[words]);
        let _ = server.join().expect("the server ends");
    }

    if !all_present(&["openssl"]) {
        return;
    }
    let (mut openssl, chain) = openssl(&[]);
    let mut command = tepal(&["connect", &chain, &format!("tls,ca={}", path("ca.pem"))]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.as_mut().expect("it is piped").write_all(b"heard\n").expect("writes");
    openssl.wait_for_text("heard");
    openssl.signal(rustix::process::Signal::KILL);
    openssl.wait();
    finish(child).failed(6, &["lost the connection", "tls"]);
}

#[test]
fn tls_works_with_openssl_in_both_versions() {
    if !all_present(&["openssl"]) {
        return;
    }
    let ca = path("ca.pem");
    for (arguments, layer, version) in [
        (&["-quiet", "-rev"][..], format!("tls,ca={ca}"), "TLSv1.3"),
        (&["-quiet", "-rev", "-tls1_2"], format!("tls,ca={ca}"), "TLSv1.2"),
        (&["-quiet", "-rev"], format!("tls,ca={ca},max=1.2,alpn=h2,alpn=echo"), "TLSv1.2"),
        (&["-quiet", "-rev"], "tls,danger-accept-invalid-certificates".to_owned(), "TLSv1.3"),
    ] {
        let (_openssl, chain) = openssl(arguments);
        let ended = run(&["connect", "-v", &chain, &layer, "--after-input=1s"], b"stressed\n");
        assert_eq!(ended.out, b"desserts\n", "{}", ended.errors);
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        assert!(ended.errors.contains(version), "{}", ended.errors);
    }
}

#[test]
fn what_this_machine_lacks_is_1() {
    let chain = nobody();
    run_with_mark(&["connect", &chain, "tls,ca=/no/such/file"], 1, "/no/such/file");
    run_with_mark(&["connect", &chain, "socks5:a:1,user=u,password-env=NO_SUCH"], 1, "NO_SUCH");
}

// Told with the argument, which is not the last of a line.
fn run_with_mark(arguments: &[&str], code: i32, word: &str) {
    let ended = run(arguments, b"");
    assert_eq!(ended.code, Some(code), "{}", ended.errors);
    assert!(ended.errors.contains(word), "{}", ended.errors);
    assert_eq!(ended.errors.lines().count(), 3, "{}", ended.errors);
}

#[test]
fn a_wrong_word_is_2_and_pointed_at() {
    for (arguments, text, argument, column) in [
        (&["conect"][..], "did you mean 'connect'?", "conect", 1),
        (&["connect", "tpc:a:1"], "did you mean 'tcp'?", "tpc:a:1", 1),
        (&["connect", "localhost:80"], "did you mean 'tcp:localhost:80'?", "localhost:80", 1),
        (&["connect", "tcp:a:1", "--pty", "--echo"], "before it", "--pty", 1),
        (&["connect", "tcp:a:1", "--echo", "--keep-open"], "standard input", "--keep-open", 1),
        (&["listen", "unix:/a,mode=rw", "--echo"], "octal", "unix:/a,mode=rw", 14),
        (&["listen", "tcp:a:1,allow=b", "--echo"], "10.0.0.0/8", "tcp:a:1,allow=b", 15),
        (&["connect", "tls"], "begins with tcp, udp or unix", "tls", 1),
        (&["connect", "tcp:a:1", "tsl,x=1"], "did you mean 'tls'?", "tsl,x=1", 1),
        (&["connect", "tcp:a:1", "tcp:b:2"], "--to", "tcp:b:2", 1),
        (&["connect", "tcp:a:nosuchport"], "'nosuchport' is no port", "tcp:a:nosuchport", 7),
        (&["connect", "tcp:a:70000"], "no port", "tcp:a:70000", 7),
        (&["connect", "tcp:::1:80"], "tcp:[::1]:80", "tcp:::1:80", 5),
        (&["connect", "tcp:a:1,loca=::"], "did you mean 'local'?", "tcp:a:1,loca=::", 9),
        (&["connect", "tcp:a:1,timeout=soon"], "1.5 (seconds)", "tcp:a:1,timeout=soon", 17),
        (&["connect", "tcp:a:1", "rate,read=much"], "65536, 64k", "rate,read=much", 11),
        (&["connect", "--retyr", "tcp:a:1"], "did you mean '--retry'?", "--retyr", 1),
        (&["connect", "--retry=often", "tcp:a:1"], "above zero", "often", 1),
        (&["help", "tsl"], "did you mean 'tls'?", "tsl", 1),
        (
            &["connect", "tcp:a:1", "socks5:b:1,user=u,pasword=geheim"],
            "did you mean 'password'?",
            "socks5:b:1,user=u,pasword=******",
            19,
        ),
    ] {
        let ended = run(arguments, b"");
        assert_eq!((ended.code, ended.out.as_slice()), (Some(2), &b""[..]), "{arguments:?}");
        let lines: Vec<_> = ended.errors.lines().collect();
        assert!(lines[0].starts_with("tepal: ") && lines[0].contains(text), "{lines:?}");
        assert_eq!(lines[1..], [format!("  {argument}"), format!("  {:>column$}", '^')]);
    }
    for arguments in [&[][..], &["connect"], &["connect", "--retry"], &["--connect"]] {
        run(arguments, b"").failed(2, &["tepal"]);
    }
}

#[test]
fn help_goes_to_standard_output() {
    for arguments in [&["--help"][..], &["help"], &["-h"]] {
        let text = String::from_utf8(run(arguments, b"").silent()).expect("UTF-8");
        assert!(text.contains("usage: tepal connect CHAIN"), "{text}");
        assert!(text.contains("exit status: 0 done"), "{text}");
    }
    for arguments in [&["connect", "--help"][..], &["help", "connect"]] {
        let text = String::from_utf8(run(arguments, b"").silent()).expect("UTF-8");
        assert!(text.starts_with("usage: tepal connect CHAIN"), "{text}");
    }
    let text = String::from_utf8(run(&["help", "tls"], b"").silent()).expect("UTF-8");
    assert!(text.contains("danger-accept-invalid-certificates"), "{text}");
    let version = format!("tepal {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"], b"").silent(), version.as_bytes());
}

#[test]
fn phases_are_told_on_request() {
    let (chain, server) = peer(|mut stream| stream.read_to_end(&mut Vec::new()));
    let ended = run(&["connect", "-v", &chain], b"x");
    let mut rest = ended.errors.as_str();
    for word in ["connecting ", "established ", "input ", "peer ", "closed "] {
        let at = rest.find(word).unwrap_or_else(|| panic!("{word} in {}", ended.errors));
        rest = &rest[at..];
    }
    let _ = server.join().expect("the server ends");
}
