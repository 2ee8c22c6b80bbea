//! Any text as the table of services: the first line of a name or of a port counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepal_names::config::{IpProtocol, Services};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let first = format!("first 7/tcp alias # and no more\n{text}");
    let services = Services::parse(&first);
    for name in ["first", "alias"] {
        assert_eq!(services.port(name, IpProtocol::Tcp), Some(7));
    }
    assert_eq!(services.name(7, IpProtocol::Tcp), Some("first"));
    // What has a port has a name, and the other way round.
    for word in text.split_ascii_whitespace() {
        for transport in [IpProtocol::Tcp, IpProtocol::Udp, IpProtocol::Sctp] {
            if let Some(port) = services.port(word, transport) {
                assert!(services.name(port, transport).is_some());
            }
        }
    }
});
