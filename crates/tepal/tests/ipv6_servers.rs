//! Name servers at IPv6 addresses, named with an interface or without, in a namespace of the test's own.

#![cfg(target_os = "linux")]

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod namespace;

use std::net::{SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use asking::ask;
use common::on_every_driver;
use dns::{A, Say, Shared, Zone, a, put};
use namespace::shell;
use tepal::EventLoop;
use tepal::names::SystemFiles;

/// A folder with files of its own, which goes when the test ends.
struct Files(PathBuf);

impl Files {
    fn new(event_loop: &EventLoop) -> Files {
        let folder = PathBuf::from("/mnt/files");
        std::fs::create_dir(&folder).expect("is made");
        let file = |name: &str| folder.join(name);
        event_loop.set_system_files(SystemFiles {
            hosts: file("hosts"),
            resolv_conf: file("resolv.conf"),
            nsswitch: file("nsswitch.conf"),
            gai_conf: file("gai.conf"),
            services: file("services"),
        });
        Files(folder)
    }

    /// Other servers from now on, by another file that is moved into the place of the first.
    fn name_servers(&self, text: &str) {
        let new = self.0.join("new");
        std::fs::write(&new, text).expect("writes");
        std::fs::rename(new, self.0.join("resolv.conf")).expect("moves");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("goes");
    }
}

fn index_of(interface: &str) -> u32 {
    let path = Path::new("/sys/class/net").join(interface).join("ifindex");
    std::fs::read_to_string(path).expect("is there").trim().parse().expect("a number")
}

/// A server whose answers tell which one it is: 127.0.0.`last`, and a long one over TCP.
fn serve(event_loop: &EventLoop, ip: &str, scope: u32, last: u8) -> Shared {
    let zone = Zone::new();
    put(&zone, "www.test", 0, &[&format!("127.0.0.{last}")]);
    let long = Say::Truncated(0, vec![a([127, 0, 1, last])]);
    zone.borrow_mut().answers.insert(("long.test".into(), A), long);
    let address = SocketAddrV6::new(ip.parse().expect("an address"), 53, 0, scope);
    dns::serve_at(event_loop, &zone, SocketAddr::V6(address));
    zone
}

/// Asks until the answer is this one.
fn comes_to(event_loop: &EventLoop, host: &str, expected: &str, what: &str) {
    until(event_loop, || match ask(event_loop, host, "1") {
        Ok(found) if found == [expected] => None,
        found => Some(format!("{what}: {found:?}")),
    });
}

/// Tries until nothing is wrong: what was read of the files counts for a second.
fn until(event_loop: &EventLoop, what_is_wrong: impl Fn() -> Option<String>) {
    let limit = event_loop.time() + Duration::from_secs(20);
    while let Some(wrong) = what_is_wrong() {
        assert!(event_loop.time() < limit, "{wrong}");
        let turn = event_loop.sleep(Duration::from_millis(20));
        event_loop.run_until_complete(turn).expect("runs");
    }
}

// The mounts make a folder of this namespace, and let /sys tell of its interfaces.
const NETWORK: &str = "
mount -t tmpfs tmpfs /mnt
mount -t sysfs sysfs /sys
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth0 up
ip link set eth1 up
ip -6 addr add fe80::53/64 dev eth0 nodad
ip -6 addr add fd00::53/64 dev eth0 nodad
";

#[test]
fn servers_are_asked_over_ipv6_with_the_scope_of_their_address() {
    let test = "servers_are_asked_over_ipv6_with_the_scope_of_their_address";
    namespace::run(test, &[], NETWORK, || {
        let index = index_of("eth0");
        on_every_driver(|event_loop| {
            let files = Files::new(event_loop);
            let zones = [
                serve(event_loop, "::1", 0, 11),
                serve(event_loop, "fd00::53", 0, 12),
                serve(event_loop, "fe80::53", index, 13),
            ];
            for (conf, zone, last) in [
                ("nameserver ::1".to_owned(), &zones[0], 11),
                ("nameserver fd00::53".to_owned(), &zones[1], 12),
                ("nameserver fe80::53%eth0".to_owned(), &zones[2], 13),
                (format!("nameserver fe80::53%{index}"), &zones[2], 13),
                // What names no interface is left out, and the rest is kept.
                ("nameserver fe80::53%nowhere\nnameserver ::1".to_owned(), &zones[0], 11),
            ] {
                for options in ["", "options use-vc"] {
                    files.name_servers(&format!("{conf}\n{options}\n"));
                    comes_to(event_loop, "www.test", &format!("127.0.0.{last}:1"), &conf);
                    // Over UDP first, if not told otherwise; then over TCP to the same place.
                    let expected: &[bool] =
                        if options.is_empty() { &[false, true] } else { &[true] };
                    until(event_loop, || {
                        zone.borrow_mut().asked.clear();
                        let found = ask(event_loop, "long.test", "1").expect("is there");
                        assert_eq!(found, [format!("127.0.1.{last}:1")], "{conf}");
                        let zone = zone.borrow();
                        let asked = zone.asked.iter().filter(|(_, of, _)| *of == A);
                        let over_tcp: Vec<bool> = asked.map(|(_, _, tcp)| *tcp).collect();
                        if over_tcp == expected { None } else { Some(format!("{over_tcp:?}")) }
                    });
                }
            }
        });
    });
}

#[test]
fn a_servers_interface_may_come_later_and_come_back_with_another_number() {
    let test = "a_servers_interface_may_come_later_and_come_back_with_another_number";
    let network = "mount -t tmpfs tmpfs /mnt\nmount -t sysfs sysfs /sys\nip link set lo up";
    namespace::run(test, &[], network, || {
        on_every_driver(|event_loop| {
            let files = Files::new(event_loop);
            files.name_servers("nameserver fe80::63%late0\noptions timeout:1 attempts:1\n");
            let error = ask(event_loop, "www.test", "1").expect_err("there is no such interface");
            assert!(error.to_string().contains("127.0.0.1:53"), "{error}");
            let mut before = 0;
            for last in [21, 22] {
                // The file is old by now, and does not change.
                shell(
                    "ip link add late0 type veth peer name late1
                     ip link set late0 up
                     ip link set late1 up
                     ip -6 addr add fe80::63/64 dev late0 nodad",
                );
                let index = index_of("late0");
                assert_ne!(index, before, "a new interface has a new number");
                before = index;
                let _zone = serve(event_loop, "fe80::63", index, last);
                comes_to(event_loop, "www.test", &format!("127.0.0.{last}:1"), "the interface");
                shell("ip link del late0");
            }
        });
    });
}
