//! What real name servers hold, as `dig` and `getent` show it, and as we do.

mod common;
#[path = "common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod namespace;
#[path = "common/system.rs"]
mod system;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use common::on_every_driver;
use tepal::EventLoop;
use tepal::names::{Family, Origin, Record, RecordType, Settings};

const RESOLV_CONF: &str = "nameserver 127.0.0.3\nsearch corp.example\noptions timeout:1\n";

const ZONE: &str = r#"@ IN MX 10 mail
@ IN MX 20 mail.elsewhere.example.
www 120 IN A 127.0.0.9
www 120 IN A 127.0.0.10
www 120 IN AAAA ::1
alias IN CNAME middle
middle IN CNAME www
only6 IN AAAA 2001:db8::6
empty IN TXT ""
text IN TXT "two" "strings \"and\" \\ \200"
big IN TXT "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG"
_irc._tcp IN SRV 1 2 6697 www
under\.dot IN A 127.0.0.11
_ldap._tcp IN SRV 0 0 389 .
@ IN CAA 0 issue "ca.example; policy=ev"
@ IN CAA 128 iodef "mailto:\"security\"@corp.example"
_25._tcp IN TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
@ IN NAPTR 100 10 "S" "SIP+D2U" "" _sip._udp
@ IN NAPTR 102 10 "u" "E2U+sip" "!^.*$!sip:info@corp.example!" .
www IN SSHFP 4 2 c2a4d0b1e0a1d20b9e1e0f3f3d6f2f7e6a5b4c3d2e1f00112233445566778899
"#;

const DNSMASQ: &str = "--local-ttl=77 --host-record=www.corp.example,127.0.0.9,::1 \
    --cname=alias.corp.example,www.corp.example --txt-record=text.corp.example,hello \
    --mx-host=corp.example,mail.corp.example,5";

/// Name, type and data of a record in words, and its TTL.
type Shown = BTreeSet<(String, String, String)>;

/// What `dig` shows of a server's answer: status, records, and the smallest TTL.
fn dig(server: &str, name: &str, record_type: &str) -> (String, Shown, u32) {
    let arguments = ["+noall", "+answer", "+nosplit", "+comments", "+tries=2", "+time=2"];
    let output = Command::new("dig")
        .arg(format!("@{server}"))
        .args(arguments)
        .args(["-t", record_type, "-q", name])
        .output()
        .expect("dig runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    let status = status.unwrap_or_else(|| panic!("{name} {record_type}: {text}")).to_owned();
    let mut shown = Shown::new();
    let mut least = u32::MAX;
    for line in text.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (owner, ttl, _, kind) = (word().to_lowercase(), word(), word(), word());
        least = least.min(ttl.parse().expect("a number"));
        let data = words.collect::<Vec<_>>().join(" ");
        shown.insert((owner, kind, data));
    }
    (status, shown, least)
}

fn show(records: &[Record]) -> (Shown, u32) {
    let mut shown = Shown::new();
    for record in records {
        let line = record.to_string();
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (owner, _, _, kind, data) = (word().to_lowercase(), word(), word(), word(), word());
        shown.insert((owner, kind, data));
    }
    (shown, records.iter().map(|record| record.ttl).min().unwrap_or(u32::MAX))
}

#[test]
fn records_are_shown_as_dig_shows_them() {
    let test = "records_are_shown_as_dig_shows_them";
    let programs = ["nsd", "unbound", "dnsmasq", "ss", "dig"];
    namespace::run(test, &programs, &system::script(RESOLV_CONF, ZONE, DNSMASQ), || {
        let compared = std::cell::Cell::new(0);
        on_every_driver(|event_loop| {
            for server in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
                let address: SocketAddr = format!("{server}:53").parse().expect("an address");
                let settings = Settings {
                    servers: Some(vec![address]),
                    ndots: Some(0),
                    ..Settings::default()
                };
                let resolver = event_loop.resolver(settings);
                event_loop.set_resolver(Some(&resolver));
                for (name, record_type) in [
                    ("www.corp.example.", "A"),
                    ("www.corp.example.", "AAAA"),
                    ("WWW.Corp.Example.", "A"),
                    ("alias.corp.example.", "A"),
                    ("alias.corp.example.", "AAAA"),
                    ("alias.corp.example.", "CNAME"),
                    ("only6.corp.example.", "A"),
                    ("only6.corp.example.", "AAAA"),
                    ("corp.example.", "MX"),
                    ("corp.example.", "NS"),
                    ("corp.example.", "SOA"),
                    ("text.corp.example.", "TXT"),
                    ("empty.corp.example.", "TXT"),
                    ("big.corp.example.", "TXT"),
                    ("_irc._tcp.corp.example.", "SRV"),
                    ("_ldap._tcp.corp.example.", "SRV"),
                    ("corp.example.", "CAA"),
                    ("corp.example.", "NAPTR"),
                    ("_25._tcp.corp.example.", "TLSA"),
                    ("www.corp.example.", "SSHFP"),
                    ("nobody.corp.example.", "A"),
                    ("nobody.corp.example.", "MX"),
                ] {
                    compare(event_loop, server, name, record_type);
                    compared.set(compared.get() + 1);
                }
                event_loop.set_resolver(None);
            }
        });
        assert!(compared.get() >= 100, "{}", compared.get());
    });
}

fn compare(event_loop: &EventLoop, server: &str, name: &str, record_type: &str) {
    let what = format!("{name} {record_type} at {server}");
    let (status, theirs, their_ttl) = dig(server, name, record_type);
    let asked = event_loop.lookup_records(name, record_type.parse::<RecordType>().expect("known"));
    let ours = event_loop.run_until_complete(asked).expect("runs");
    match ours {
        Ok(answer) => {
            let (ours, ttl) = show(&answer.records);
            assert_eq!((status.as_str(), &theirs), ("NOERROR", &ours), "{what}");
            // Between the two questions a second may begin.
            assert!(ttl.abs_diff(their_ttl) <= 2, "{what}: {ttl} and {their_ttl}");
        }
        Err(error) => {
            // An alias without records of the type is no answer to the question.
            let none = theirs.iter().all(|(_, kind, _)| kind == "CNAME");
            assert!(none, "{what}: {theirs:?}, and we: {error}");
            let text = error.to_string();
            assert!(!text.contains("no server gave"), "{what}: {status}, and we: {text}");
        }
    }
}

#[test]
fn s17_hosts_are_found_as_getent_finds_them() {
    let test = "s17_hosts_are_found_as_getent_finds_them";
    let programs = ["nsd", "unbound", "dnsmasq", "ss", "getent"];
    namespace::run(test, &programs, &system::script(RESOLV_CONF, ZONE, DNSMASQ), || {
        on_every_driver(|event_loop| {
            for (name, origin) in [
                ("printer", Some(Origin::Hosts)),
                ("printer.corp.example", Some(Origin::Hosts)),
                ("six", Some(Origin::Hosts)),
                ("www", Some(Origin::Dns)),
                ("www.corp.example", Some(Origin::Dns)),
                ("alias", Some(Origin::Dns)),
                ("only6", Some(Origin::Dns)),
                ("127.1", Some(Origin::Literal)),
                ("::1", Some(Origin::Literal)),
                ("nobody", None),
                ("nobody.example", None),
                ("text.corp.example", None),
            ] {
                let output = Command::new("getent").args(["ahosts", name]).output();
                let output = output.expect("getent runs");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let mut theirs: Vec<String> = Vec::new();
                for line in text.lines() {
                    let address = line.split_whitespace().next().expect("an address");
                    if !theirs.iter().any(|known| known == address) {
                        theirs.push(address.to_owned());
                    }
                }
                let asked = event_loop.lookup_host(name, Family::Unspecified);
                let ours = event_loop.run_until_complete(asked).expect("runs");
                match ours {
                    Ok(answer) => {
                        assert_eq!(Some(answer.origin), origin, "{name}");
                        let mut ours: Vec<String> =
                            answer.addresses.iter().map(ToString::to_string).collect();
                        // Equal ones may stand in any order: servers turn them round.
                        assert_eq!(
                            ours.first().map(|a| a.contains(':')),
                            theirs.first().map(|a| a.contains(':')),
                            "{name}"
                        );
                        ours.sort();
                        theirs.sort();
                        assert_eq!(ours, theirs, "{name}");
                    }
                    Err(error) => {
                        assert!(
                            theirs.is_empty() && origin.is_none(),
                            "{name}: {theirs:?} {error}"
                        );
                    }
                }
            }
        });
    });
}
