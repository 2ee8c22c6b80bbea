//! Any text as resolv.conf and as environment: the result is within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepal_names::config::{Environment, ResolvConf};
use tepal_names::{Interfaces, parse_literal};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (file, rest) = text.split_once('\0').unwrap_or((&text, ""));
    let (options, domain) = rest.split_once('\0').unwrap_or((rest, ""));
    let environment = Environment {
        res_options: Some(options.to_owned()),
        localdomain: (!domain.is_empty()).then(|| domain.to_owned()),
        hostname: Some(domain.to_owned()),
    };
    let interfaces = Interfaces::new([("eth0", 2)]);
    let conf = ResolvConf::parse(file, &environment, &interfaces);
    assert!((1..=3).contains(&conf.servers.len()));
    assert!(conf.search.len() <= 32 && conf.ndots <= 15);
    assert!((1..=5).contains(&conf.attempts) && (1..=30).contains(&conf.timeout.as_secs()));
    for word in text.split_ascii_whitespace() {
        let _ = parse_literal(word, &interfaces);
        let _ = word.parse::<tepal_names::HostName>();
    }
});
