//! Proxies on the way, and where their passwords come from.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::programs::Folder;
use common::{finish, peer, run, tepal};

/// What a SOCKS 5 client says with a user and a password, and where it wants to go.
fn socks5(mut stream: TcpStream) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let read = |count: usize| {
        let mut bytes = vec![0; count];
        (&stream).read_exact(&mut bytes).expect("reads");
        bytes
    };
    let methods = read(2)[1];
    assert!(read(methods.into()).contains(&2), "a password is offered");
    (&stream).write_all(&[5, 2]).expect("writes");
    let len = read(2)[1];
    let user = read(len.into());
    let len = read(1)[0];
    let password = read(len.into());
    (&stream).write_all(&[1, 0]).expect("writes");
    let head = read(5);
    assert_eq!(head[..4], [5, 1, 0, 3], "a connect by name");
    let mut host = read(usize::from(head[4]) + 2);
    host.truncate(host.len() - 2);
    (&stream).write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).expect("writes");
    stream.write_all(b"from behind").expect("writes");
    (user, password, host)
}

#[test]
fn a_password_comes_from_a_file_the_environment_or_the_argument() {
    let folder = Folder::new("password");
    let file = folder.write("secret", "geheim\nnot this\n");
    for option in
        [format!("password-file={file}"), "password-env=SECRET".into(), "password=geheim".into()]
    {
        let (chain, server) = peer(socks5);
        let layer = format!("socks5:far.example:80,user=me,{option}");
        let mut command = tepal(&["connect", &chain, &layer]);
        command.env("SECRET", "geheim").stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let out = finish(command.spawn().expect("it starts")).silent();
        assert_eq!(out, b"from behind");
        let told = server.join().expect("the server ends");
        assert_eq!(told, (b"me".to_vec(), b"geheim".to_vec(), b"far.example".to_vec()));
    }
}

#[test]
fn a_proxy_that_refuses_is_5_and_the_user_is_named_without_the_password() {
    let (chain, server) = peer(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("reads");
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n").expect("writes");
        String::from_utf8(head).expect("UTF-8")
    });
    let layer = "http-connect:far.example:80,user=me,password=geheim,header=\"X-Why: a, b\"";
    let ended = run(&["connect", "-v", &chain, layer], b"");
    assert_eq!(ended.code, Some(5), "{}", ended.errors);
    assert!(ended.errors.contains("as me") && ended.errors.contains("407"), "{}", ended.errors);
    assert!(!ended.errors.contains("geheim"), "{}", ended.errors);
    let head = server.join().expect("the server ends");
    assert!(head.starts_with("CONNECT far.example:80 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nX-Why: a, b\r\n") && head.contains("Basic "), "{head}");
}

#[test]
fn a_header_tells_of_the_connection() {
    let (chain, server) = peer(|mut stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("reads");
        (stream.peer_addr().expect("its address"), stream.local_addr().expect("ours"), all)
    });
    run(&["connect", &chain, "proxy,version=1"], b"then this").silent();
    let (client, own, text) = server.join().expect("the server ends");
    let (from, to) = (client.port(), own.port());
    assert_eq!(text, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nthen this"));
}
