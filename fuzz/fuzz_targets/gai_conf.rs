//! Any text as gai.conf, and any address: its rule is the longest prefix that the text has.
#![no_main]

use std::net::{IpAddr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use tepal_names::config::Policy;

fuzz_target!(|data: &[u8]| {
    let Some((bits, text)) = data.split_first_chunk::<16>() else { return };
    let address = Ipv6Addr::from(*bits);
    let text = String::from_utf8_lossy(text);
    let policy = Policy::parse(&text);
    let mapped = address.to_ipv4_mapped().map(IpAddr::V4);
    for each in [Some(IpAddr::V6(address)), mapped].into_iter().flatten() {
        let _ = (policy.precedence(each), policy.label(each), policy.scope(each));
    }
    // An IPv4 address and its mapped form have one policy.
    if let Some(v4) = mapped {
        let v6 = IpAddr::V6(address);
        assert_eq!(policy.precedence(v4), policy.precedence(v6));
        assert_eq!(policy.label(v4), policy.label(v6));
    }
    // No rule is longer than one for the address itself; the first of equals counts.
    let first = format!("precedence {address}/128 77\nlabel {address}/128 78\n{text}");
    let policy = Policy::parse(&first);
    assert_eq!(policy.precedence(address.into()), 77);
    assert_eq!(policy.label(address.into()), Some(78));
});
