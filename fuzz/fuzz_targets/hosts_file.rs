//! Any text as a hosts file: every name of every line that counts is found, at that address.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepal_names::Family;
use tepal_names::config::Hosts;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let hosts = Hosts::parse(&text);
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        for name in words {
            let entry = hosts.lookup(name, Family::Unspecified).expect("the line has the name");
            assert!(entry.addresses.contains(&address));
        }
    }
});
