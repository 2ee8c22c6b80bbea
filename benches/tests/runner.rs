//! The runner on real sockets, as quick as it can be: that it measures, not what.

use std::process::{Command, Output};

fn bench(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tepal-bench"))
        .args(words.split_whitespace())
        .output()
        .expect("the runner starts")
}

fn table(words: &str) -> String {
    let output = bench(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).expect("the table is text")
}

#[test]
fn every_echo_server_is_measured() {
    let text = table(
        "echo --connections 3 --sizes 64,65536,200000 --pairs 2 --seconds 0.02 \
         --servers bare-epoll,bare-epoll-edge,tokio",
    );
    for load in ["| 3 x 64 B ", "| 3 x 64 KiB ", "| 3 x 200000 B "] {
        assert!(text.contains(load), "{load} in {text}");
    }
}

#[test]
fn every_tls_server_is_measured() {
    let text = table("tls --loads 3x1000,2x65536,full,resumed --pairs 1 --seconds 0.05");
    for load in ["| 3 x 1000 B ", "| 2 x 64 KiB ", "full handshake", "resumed session"] {
        assert!(text.contains(load), "{load} in {text}");
    }
}

#[test]
fn the_costs_of_layers_are_measured() {
    let text = table("layers --rounds 1 --scale 1000");
    for row in
        ["| a rate limit with room ", "| SOCKS5 after ", "lines read", "of 17 KiB that comes"]
    {
        assert!(text.contains(row), "{row} in {text}");
    }
}

#[test]
fn every_own_relay_is_measured() {
    let text = table("relay --mib 4 --pairs 1 --relays bare-copy,bare-splice,tokio");
    for relay in ["| bare-copy ", "| bare-splice ", "| tokio "] {
        assert!(text.contains(relay), "{relay} in {text}");
    }
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    for words in ["echo --servers nobody", "relay --mib 0", "echo --pairs", "dance", "load"] {
        let output = bench(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(!output.stderr.is_empty(), "{words}");
    }
    // Nothing listens on port 1, and no process has this number.
    assert_eq!(bench("load 127.0.0.1:1 4194305").status.code(), Some(1));
}
