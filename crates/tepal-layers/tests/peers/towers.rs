//! Stacks as high as real ones get, each layer's peer a foreign program of its own.

use std::net::SocketAddr;

use tepal_layers::{HttpConnect, Lines, Socks5, Stack};

use crate::certificates::{client, path};
use crate::programs::{Folder, Program, all_present, command};
use crate::servers::{stunnel, stunnel_as_server};
use crate::wire::Wire;

fn microsocks() -> (Program, SocketAddr) {
    Program::serve(|port| {
        let mut command = command("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        command
    })
}

fn tinyproxy(folder: &Folder) -> (Program, SocketAddr) {
    Program::serve(|port| {
        let conf = format!("Port {port}\nListen 127.0.0.1\nTimeout 20\nAllow 127.0.0.1\n");
        let mut command = command("tinyproxy");
        command.args(["-d", "-c", &folder.write("tiny", conf)]);
        command
    })
}

// microsocks, tinyproxy, stunnel for the outer TLS and openssl for the inner one, which sends each
// line back reversed.
#[test]
fn tls_in_tls_behind_connect_behind_socks_carries_lines_however_they_are_cut() {
    if !all_present(&["microsocks", "tinyproxy", "stunnel", "openssl"]) {
        return;
    }
    let folder = Folder::new("towers");
    let (cert, key) = (path("server.pem"), path("server.key"));
    let arguments = ["s_server", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key, "-rev"];
    let inner = Program::start(command("openssl").args(arguments));
    let inner_at: SocketAddr = inner.wait_for_port("ACCEPT 127.0.0.1:");
    let (_outer, outer_at) = stunnel(&folder, inner_at.port(), &stunnel_as_server("TLSv1.3"));
    let (_tiny, tiny_at) = tinyproxy(&folder);
    let (_micro, micro_at) = microsocks();
    let (outer_tls, inner_tls) = (client().build().unwrap(), client().build().unwrap());
    let stack = Stack::new()
        .with(Socks5::new("127.0.0.1", tiny_at.port()).unwrap())
        .with(HttpConnect::new("localhost", outer_at.port()).unwrap())
        .with(outer_tls)
        .with(inner_tls)
        .with(Lines::new(1 << 20));
    for piece in [1, 100, 16 << 10] {
        let mut wire = Wire::connect(micro_at, &stack);
        wire.piece = piece;
        wire.write(b"drawer");
        wire.until_data(b"reward");
        let long = vec![b'x'; 10_000];
        wire.write(&long);
        wire.until_data(&long);
        let names: Vec<&str> = wire.bench.chain.layers().collect();
        assert_eq!(names, ["tls", "tls", "lines"], "the proxies' layers have left");
        // Whoever of the four hangs up first, the end is no hang.
        wire.bench.chain.close();
        wire.until_over();
    }
}
