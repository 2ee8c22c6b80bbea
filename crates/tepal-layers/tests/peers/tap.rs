//! What the tap layer records, opened by tshark, with the keys that the key log has.

use std::process::Output;
use std::sync::{Arc, Mutex};

use tepal_layers::{KeyLog, Stack, Tap};

use crate::certificates::{client, path, server};
use crate::programs::{Folder, Program, all_present, command};
use crate::wire::{Listener, Wire};

#[derive(Debug, Default)]
struct Keys(Mutex<String>);

impl KeyLog for Keys {
    fn log(&self, line: &str) {
        let mut text = self.0.lock().unwrap();
        text.push_str(line);
        text.push('\n');
    }
}

/// A tap that writes a capture, and where it writes.
fn tap() -> (Tap, Arc<Mutex<Vec<u8>>>) {
    let capture = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&capture);
    (Tap::pcapng(move |block| sink.lock().unwrap().extend_from_slice(block)), capture)
}

fn tshark(capture: &str, arguments: &[&str]) -> String {
    let mut command = command("tshark");
    // Nothing from this user's own settings.
    command.env("HOME", "/nonexistent").env("XDG_CONFIG_HOME", "/nonexistent");
    let Output { status, stdout, stderr } =
        command.args(["-n", "-r", capture]).args(arguments).output().unwrap();
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

#[test]
fn tshark_opens_a_capture_and_reads_tls_with_the_key_log() {
    if !all_present(&["tshark", "openssl"]) {
        return;
    }
    let folder = Folder::new("tap");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut s_server = command("openssl");
        let (cert, key) = (path("server.pem"), path("server.key"));
        s_server.args(["s_server", "-accept", "127.0.0.1:0", "-rev", version]);
        let program = Program::start(s_server.args(["-cert", &cert, "-key", &key]));
        let address = program.wait_for_port("ACCEPT 127.0.0.1:");
        let keys = Arc::new(Keys::default());
        let (tap, capture) = tap();
        let tls = client().key_log(Arc::clone(&keys) as _).build().unwrap();
        let mut wire = Wire::connect(address, &Stack::new().with(tap).with(tls));
        wire.write(b"a secret drawer\n");
        wire.until_data(b"reward terces a\n");
        wire.close();
        let file = folder.write("capture.pcapng", &*capture.lock().unwrap());
        let keys = folder.write("keys", &*keys.0.lock().unwrap());

        let bad = "_ws.malformed || _ws.expert.severity >= 6291456 || tcp.analysis.flags";
        assert_eq!(tshark(&file, &["-Y", bad]), "", "tshark finds nothing wrong");
        let ends = tshark(&file, &["-T", "fields", "-e", "ip.src", "-e", "tcp.srcport"]);
        for end in [wire.local_address(), address] {
            assert!(ends.contains(&format!("{}\t{}\n", end.ip(), end.port())), "{ends}");
        }
        let follow = ["-q", "-z", "follow,tls,ascii,0"];
        let dark = tshark(&file, &follow);
        assert!(!dark.contains("drawer"), "not without the keys: {dark}");
        let option = format!("tls.keylog_file:{keys}");
        let clear = tshark(&file, &[&["-o", &option][..], &follow].concat());
        assert!(clear.contains("a secret drawer") && clear.contains("reward terces a"), "{clear}");
    }
}

#[test]
fn tshark_reads_a_servers_capture_of_plain_text_above_tls() {
    if !all_present(&["tshark"]) {
        return;
    }
    let folder = Folder::new("tap-server");
    let listener = Listener::new();
    let address = ([127, 0, 0, 1], listener.port()).into();
    let (tap, capture) = tap();
    let above = Stack::new().with(server().build().unwrap()).with(tap);
    let mut user = Wire::connect(address, &Stack::new().with(client().build().unwrap()));
    let mut wire = listener.accept(&above);
    user.write(b"GET / HTTP/1.0\r\n\r\n");
    while !wire.bench.data().ends_with(b"\r\n\r\n") {
        user.during(std::time::Duration::from_millis(1));
        wire.during(std::time::Duration::from_millis(1));
    }
    wire.write(b"HTTP/1.0 200 OK\r\nContent-Length: 70000\r\n\r\n");
    wire.write(&[b'x'; 70_000]);
    let file = folder.write("capture.pcapng", &*capture.lock().unwrap());
    let decode = format!("tcp.port=={},http", listener.port());
    let decode = ["-d", &decode];
    let fields = ["-T", "fields", "-e", "http.request.method", "-e", "http.response.code"];
    let seen = tshark(&file, &[&decode[..], &fields].concat());
    assert!(seen.contains("GET") && seen.contains("200"), "{seen}");
    let bad = ["-Y", "_ws.malformed || tcp.analysis.flags"];
    assert_eq!(tshark(&file, &[&decode[..], &bad].concat()), "");
}
