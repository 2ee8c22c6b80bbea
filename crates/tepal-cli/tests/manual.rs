//! The examples of docs/command.md, run as they stand there.

mod common;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::certificates::file;
use common::finish;
use common::programs::Folder;

/// The blocks of commands on a page.
fn blocks(page: &str) -> Vec<String> {
    let pieces = page.split("```console\n").skip(1);
    pieces.map(|piece| piece.split("```").next().expect("a block").to_owned()).collect()
}

/// The page with ports that are free.
fn with_free_ports(page: &str) -> String {
    let mut ports: BTreeMap<String, TcpListener> = BTreeMap::new();
    for piece in page.split("127.0.0.1:").skip(1) {
        let port: String = piece.chars().take_while(char::is_ascii_digit).collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        ports.entry(port).or_insert(listener);
    }
    ports.iter().fold(page.to_owned(), |page, (port, listener)| {
        let free = listener.local_addr().expect("its address").port();
        let page = page.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
        page.replace(&format!("localhost:{port}"), &format!("localhost:{free}"))
    })
}

#[test]
fn the_examples_of_the_page_do_what_they_show() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/command.md");
    let page = with_free_ports(&std::fs::read_to_string(path).expect("the page is there"));
    let folder = Folder::new("manual");
    for (name, of) in [("c.pem", "server.pem"), ("k.pem", "server.key"), ("ca.pem", "ca.pem")] {
        folder.write(name, std::fs::read(file(of)).expect("a certificate"));
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_tepal")).parent().expect("a folder");
    let search = std::env::var("PATH").expect("there is a PATH");
    let search = format!("{}:{search}", bin.display());
    let blocks = blocks(&page);
    assert!(blocks.len() >= 6, "the page has its blocks");
    for block in blocks {
        let (mut script, mut expected) = (String::new(), String::new());
        for line in block.lines() {
            let (text, line) = match line.strip_prefix("$ ") {
                Some(command) => (&mut script, command),
                None => (&mut expected, line),
            };
            text.push_str(line);
            text.push('\n');
        }
        // What runs in the background ends with its block.
        let script = format!("trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{script}");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(folder.path()).env("PATH", &search);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = finish(child.spawn().expect("there is a bash"));
        let out = String::from_utf8(ended.out).expect("UTF-8");
        assert_eq!(out, expected, "{script}\n{}", ended.errors);
    }
}

#[test]
fn ports_are_replaced_wherever_they_stand() {
    let page = with_free_ports("tcp:127.0.0.1:8080 tcp:localhost:8080 tcp:localhost:7");
    let port = page.split_whitespace().next().and_then(|word| word.rsplit(':').next());
    let port = port.expect("a port");
    assert_eq!(page, format!("tcp:127.0.0.1:{port} tcp:localhost:{port} tcp:localhost:7"));
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err(), "nobody listens there now");
}
