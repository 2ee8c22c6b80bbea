//! `tepal resolve` against real name servers, beside `dig` and `getent`.
#![cfg(target_os = "linux")]

mod common;
#[path = "../../tepal/tests/common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tepal's tests")]
mod namespace;
#[path = "../../tepal/tests/common/system.rs"]
mod system;

use std::collections::BTreeSet;
use std::process::Command;

use common::run;

const RESOLV_CONF: &str = "nameserver 127.0.0.3\nsearch corp.example\noptions timeout:1\n";

const ZONE: &str = r#"@ IN MX 10 mail
@ IN MX 20 mail.elsewhere.example.
www 120 IN A 127.0.0.9
www 120 IN AAAA ::1
alias IN CNAME www
only6 IN AAAA 2001:db8::6
text IN TXT "two" "strings \"and\" \\ \200"
_irc._tcp IN SRV 1 2 6697 www
ptr IN PTR www
"#;

const PROGRAMS: [&str; 6] = ["nsd", "unbound", "dnsmasq", "ss", "dig", "getent"];

fn in_namespace(test: &str, inside: impl FnOnce()) {
    let dnsmasq = "--host-record=name.example,192.0.2.9";
    namespace::run(test, &PROGRAMS, &system::script(RESOLV_CONF, ZONE, dnsmasq), inside);
}

/// Lines of words, in any order.
fn lines(text: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(';'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The same with the time left out, since seconds may pass between two answers.
fn without_times(lines: BTreeSet<String>) -> BTreeSet<String> {
    let without = |line: String| {
        let mut words: Vec<_> = line.split(' ').collect();
        words.remove(1).parse::<u32>().expect("seconds");
        words.join(" ")
    };
    lines.into_iter().map(without).collect()
}

fn dig(arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("dig");
    command.args(["+noall", "+answer", "+nosplit", "+tries=2", "+time=2"]).args(arguments);
    command.output().expect("dig runs").stdout
}

#[test]
fn records_are_printed_as_dig_prints_them() {
    in_namespace("records_are_printed_as_dig_prints_them", || {
        for (name, record_type) in [
            ("www.corp.example", "A"),
            ("www.corp.example", "AAAA"),
            ("alias.corp.example", "A"),
            ("alias.corp.example", "CNAME"),
            ("corp.example", "MX"),
            ("corp.example", "NS"),
            ("corp.example", "SOA"),
            ("text.corp.example", "TXT"),
            ("_irc._tcp.corp.example", "SRV"),
            ("ptr.corp.example", "PTR"),
            ("www.corp.example", "TYPE1"),
        ] {
            let theirs = dig(&["@127.0.0.2", name, record_type]);
            let ours = run(&["resolve", name, record_type, "--server", "127.0.0.2"], b"").silent();
            assert!(!ours.is_empty(), "{name} {record_type}");
            let (ours, theirs) = (lines(&ours), lines(&theirs));
            assert_eq!(without_times(ours), without_times(theirs), "{name} {record_type}");

            let theirs = dig(&["+short", "@127.0.0.2", name, record_type]);
            let ours = run(&["resolve", "--short", name, record_type], b"").silent();
            assert_eq!(lines(&ours), lines(&theirs), "{name} {record_type}");
        }
        // By the search list, and several at once.
        let both = run(&["resolve", "--short", "www", "a", "aaaa"], b"").silent();
        assert_eq!(both, b"127.0.0.9\n::1\n");
        // One that is there and one that is not.
        let ended = run(&["resolve", "--short", "only6", "AAAA", "A"], b"");
        assert_eq!(ended.out, b"2001:db8::6\n");
        ended.failed(3, &["cannot resolve only6 A"]);
    });
}

#[test]
fn addresses_are_those_that_getent_finds() {
    in_namespace("addresses_are_those_that_getent_finds", || {
        for name in ["printer", "six", "www", "alias", "only6", "127.1", "::1", "nobody"] {
            let output = Command::new("getent").args(["ahosts", name]).output();
            let theirs = lines(&output.expect("getent runs").stdout);
            let theirs = theirs.iter().map(|line| line.split(' ').next().expect("an address"));
            let theirs: BTreeSet<String> = theirs.map(str::to_owned).collect();
            let ended = run(&["resolve", name], b"");
            assert_eq!(lines(&ended.out), theirs, "{name}");
            match theirs.is_empty() {
                true => ended.failed(3, &["cannot resolve nobody"]),
                false => assert_eq!(ended.code, Some(0), "{}", ended.errors),
            }
        }
        assert_eq!(run(&["resolve", "www", "-4"], b"").silent(), b"127.0.0.9\n");
        assert_eq!(run(&["resolve", "www", "-6"], b"").silent(), b"::1\n");
        assert_eq!(run(&["resolve", "-x", "127.0.0.7"], b"").silent(), b"printer.corp.example\n");
        // A server that is named is asked, and the hosts file is not.
        let server = ["resolve", "--server", "127.0.0.4"];
        let named = run(&[&server[..], &["-x", "192.0.2.9"]].concat(), b"").silent();
        assert_eq!(named, b"name.example\n");
        run(&[&server[..], &["printer"]].concat(), b"").failed(3, &["printer"]);
        run(&[&server[..], &["-x", "192.0.2.10"]].concat(), b"").failed(3, &["192.0.2.10"]);

        let ended = run(&["resolve", "-v", "alias"], b"");
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        for words in ["a name server", "www.corp.example", "expires"] {
            assert!(ended.errors.contains(words), "{words}: {}", ended.errors);
        }
        // Nobody answers there.
        run(&["resolve", "--server", "127.0.0.2:9", "--timeout=200ms", "www"], b"")
            .failed(3, &["cannot resolve www"]);
    });
}

#[test]
fn what_is_at_hand_needs_no_server() {
    assert_eq!(run(&["resolve", "192.0.2.7"], b"").silent(), b"192.0.2.7\n");
    let out = run(&["resolve", "localhost", "-4"], b"").silent();
    assert_eq!(out, b"127.0.0.1\n");
}

#[test]
fn a_wrong_question_is_2() {
    for (arguments, text) in [
        (&["resolve"][..], "NAME"),
        (&["resolve", "a", "MXX"], "did you mean 'MX'?"),
        (&["resolve", "a", "-x", "127.0.0.1"], "without a NAME"),
        (&["resolve", "-x", "localhost"], "is an IP address"),
        (&["resolve", "a", "--server", "dns.example"], "is an address"),
        (&["resolve", "a", "--sort"], "did you mean '--short'?"),
    ] {
        let ended = run(arguments, b"");
        assert_eq!(ended.code, Some(2), "{}", ended.errors);
        assert!(ended.errors.contains(text), "{}", ended.errors);
    }
}
