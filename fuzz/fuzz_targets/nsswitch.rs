//! Any text as nsswitch.conf: some module is always there, comments change nothing, and what was
//! read reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepal_names::config::{Module, Nsswitch};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let line = Nsswitch::parse(&text);
    assert!(line.modules().next().is_some());
    let before = format!("# hosts: none\npasswd: files\n{text}");
    assert_eq!(Nsswitch::parse(&before), line);
    let words: Vec<String> = line.modules().map(Module::to_string).collect();
    let again = Nsswitch::parse(&format!("hosts: {}", words.join(" ")));
    assert!(again.modules().eq(line.modules()), "{words:?}");
});
