//! Any first bytes of a connection, where several stacks wait for theirs.

use tepal_layers::check::Seen;
use tepal_layers::{Detect, Info, Notice, Side, Stack};

use super::{choices, parse};

/// First bytes; a choice of 1 puts a record's header before them.
pub const HELLOS: &[&[u8]] = &[
    b"HELLO world",
    b"HEL",
    b"GET / HTTP/1.1\r\n",
    // A ClientHello without and with a name.
    b"\x01\0\0\x2d\x03\x03\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\
      \x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\0\0\x02\x13\x01\x01\0\0\x02\0\0",
    b"\x01\0\0\x43\x03\x03\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\
      \x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\0\0\x02\x13\x01\x01\0\0\x18\0\0\0\x0b\0\x09\
      \0\0\x06a.test\0\x10\0\x05\0\x03\x02h2",
];

/// One choice is made, at the same byte however the input is cut, and the chosen stack sees all.
pub fn client_hello(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    let plain = Stack::new();
    let detect = Detect::new()
        .sni("named", "a.test", plain.clone())
        .alpn("h2", b"h2", plain.clone())
        .tls("tls", plain.clone())
        .prefix("hello", b"HELLO ", plain.clone());
    let detect = if choice & 2 == 0 { detect.otherwise("other", plain) } else { detect };
    let len = input.len() as u16;
    let header = [&[22, 3, 1][..], &len.to_be_bytes()].concat();
    let input = if choice & 1 == 1 { [&header, input].concat() } else { input.to_vec() };
    let outcome = parse(&Stack::new().with(detect), Side::Server, cut, &input);
    let chosen = outcome.seen.iter().find_map(|seen| match seen {
        Seen::Layer(Notice::Ready { info: Info::Detected(name), .. }) => Some(&**name),
        _ => None,
    });
    match chosen {
        Some(name) => {
            assert_eq!(outcome.data(), input);
            assert_eq!(name == "hello", input.starts_with(b"HELLO "));
            assert!(!matches!(name, "named" | "h2" | "tls") || input[0] == 22);
        }
        None => assert!(outcome.failed() && outcome.data().is_empty()),
    }
}
