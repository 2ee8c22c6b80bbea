//! Real networks, in namespaces of the tests' own: scopes, several gateways, and what a network can
//! do to a connection.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod namespace;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;
#[path = "common/system.rs"]
mod system;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use common::{Echo, address, on_every_driver};
use namespace::shell;
use story::Story;
use tepal::{CloseKind, EventLoop, Phase, ProblemKind, SocketOption, Target, Timeouts, Transport};

fn run_until(event_loop: &EventLoop, mut done: impl FnMut() -> bool + 'static) {
    let lp: tepal::Loop = (**event_loop).clone();
    let end = event_loop.time() + Duration::from_secs(20);
    let waiting = async move {
        while !done() {
            assert!(lp.time() < end, "it takes too long");
            lp.sleep(Duration::from_millis(1)).await;
        }
    };
    event_loop.run_until_complete(waiting).expect("the loop runs");
}

fn run_to_end(event_loop: &EventLoop, transport: &Transport) {
    let transport = transport.clone();
    run_until(event_loop, move || {
        transport.phase() == Phase::Closed && transport.closed().is_some()
    });
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

const LINK_LOCAL: &str = "
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth0 up
ip link set eth1 up
ip -6 addr add fe80::77/64 dev eth0 nodad
";

#[test]
fn s19_link_local_addresses_carry_their_scope_on_both_sides() {
    let test = "s19_link_local_addresses_carry_their_scope_on_both_sides";
    namespace::run(test, &[], LINK_LOCAL, || {
        let mut driver = tepal_driver::open_driver(None).expect("a driver");
        let interfaces = driver.interfaces().expect("a list");
        let eth0 = interfaces.iter().find(|interface| interface.name == "eth0");
        let index = eth0.expect("is there").index;
        on_every_driver(|event_loop| {
            let here = format!("[fe80::77%{index}]:0");
            let server = event_loop.listen(|_: &tepal::Address| Echo, at(&here)).expect("a port");
            let port = address(&server).port();
            // By name, by number, and by the address itself; with and without a local side.
            for host in ["fe80::77%eth0".to_owned(), format!("fe80::77%{index}")] {
                let target = Target::host(&host, port).local(at(&here));
                let connecting = event_loop.create_connection(Story::new, target);
                let transport =
                    event_loop.run_until_complete(connecting).expect("runs").expect("connects");
                for side in [transport.local_address(), transport.peer_address()] {
                    let side = side.expect("connected").as_ip().expect("IP");
                    let SocketAddr::V6(side) = side else { panic!("{side}") };
                    assert_eq!(
                        (side.ip().to_string(), side.scope_id()),
                        ("fe80::77".into(), index)
                    );
                }
                transport.abort();
            }
            // A datagram endpoint too.
            let mut other = here.clone();
            other.replace_range(other.len() - 1.., "9");
            let udp = event_loop
                .datagram(common::Nothing, Some(at(&here).into()), Some(at(&other).into()))
                .expect("connects");
            let bound = udp.local_address().expect("bound").as_ip().expect("IP");
            assert!(matches!(bound, SocketAddr::V6(v6) if v6.scope_id() == index));
            udp.abort();
        });
        // S16: no global IPv6 route is needed, and none is there.
        let routes = std::fs::read_to_string("/proc/net/ipv6_route").expect("a table");
        let mut defaults = routes.lines().filter(|line| line.starts_with(&"0".repeat(32)));
        assert!(defaults.all(|line| line.ends_with(" lo")), "{routes}");
    });
}

/// Two ways to the same far host, each by a gateway of its own; what leaves by which is decided by
/// the source address.
const TWO_GATEWAYS: &str = "
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add far
for n in 1 2; do
  ip link add way$n type veth peer name far$n netns far
  ip addr add 10.$n.0.2/24 dev way$n
  ip -6 addr add fd0$n::2/64 dev way$n nodad
  ip link set way$n up
  ip -n far addr add 10.$n.0.1/24 dev far$n
  ip -n far -6 addr add fd0$n::1/64 dev far$n nodad
  ip -n far link set far$n up
  ip rule add from 10.$n.0.2 table 10$n
  ip route add default via 10.$n.0.1 table 10$n
  ip -6 rule add from fd0$n::2 table 10$n
  ip -6 route add default via fd0$n::1 table 10$n
done
ip -n far link set lo up
ip -n far addr add 10.9.0.1/32 dev lo
ip -n far -6 addr add fd09::1/128 dev lo nodad
ip route add default via 10.1.0.1
ip -6 route add default via fd01::1
ip netns exec far socat -u TCP6-LISTEN:7000,fork,reuseaddr OPEN:/dev/null &
for i in $(seq 100); do
  ip netns exec far ss -ltn | grep -q 7000 && break
  sleep 0.05
done
";

fn sent_by(interface: &str) -> u64 {
    let path = format!("/sys/class/net/{interface}/statistics/tx_bytes");
    std::fs::read_to_string(path).expect("counts").trim().parse().expect("a number")
}

#[test]
fn s20_traffic_leaves_by_the_interface_of_the_bound_address() {
    const LEN: usize = 1 << 20;
    let test = "s20_traffic_leaves_by_the_interface_of_the_bound_address";
    namespace::run(test, &["socat", "ss"], TWO_GATEWAYS, || {
        // The mount is of another namespace's /sys: counters must be those of this one.
        shell("mount -t sysfs sysfs /sys");
        on_every_driver(|event_loop| {
            for (far, local, by) in [
                ("10.9.0.1:7000", "10.1.0.2:0", 1),
                ("10.9.0.1:7000", "10.2.0.2:0", 2),
                ("[fd09::1]:7000", "[fd01::2]:0", 1),
                ("[fd09::1]:7000", "[fd02::2]:0", 2),
            ] {
                let before = [sent_by("way1"), sent_by("way2")];
                let story = Story::new().on("established", |transport| {
                    transport.write(&vec![1; LEN]);
                    transport.close();
                });
                // Both families are given: the one of the peer counts.
                let other = if local.starts_with('[') { "10.1.0.2:0" } else { "[fd01::2]:0" };
                let target = Target::address(at(far)).local(at(other)).local(at(local));
                let transport = event_loop.connect(story.clone(), target);
                run_to_end(event_loop, &transport);
                assert_eq!(transport.closed().expect("over").kind, CloseKind::Local, "{far}");
                // The kernel may still be sending.
                let (interface, goal) = (format!("way{by}"), before[by - 1] + LEN as u64);
                run_until(event_loop, move || sent_by(&interface) >= goal);
                let after = [sent_by("way1"), sent_by("way2")];
                let sent = [after[0] - before[0], after[1] - before[1]];
                assert!(sent[by - 1] >= LEN as u64, "{local}: {sent:?}");
                assert!(sent[2 - by] < LEN as u64 / 8, "{local}: {sent:?}");
            }
            // Bound to a device, whatever the routes say.
            let before = sent_by("way2");
            let device = SocketOption::BindToDevice(c"way2".to_owned());
            let target =
                Target::address(at("10.9.0.1:7000")).local(at("10.2.0.2:0")).option(device);
            let story = Story::new().on("established", |transport| {
                transport.write(&vec![1; LEN]);
                transport.close();
            });
            let transport = event_loop.connect(story, target);
            run_to_end(event_loop, &transport);
            run_until(event_loop, move || sent_by("way2") >= before + LEN as u64);
        });
    });
}

const FAULTS: &str = "
ip link set lo up
ip route add unreachable 10.5.0.1
ip route add prohibit 10.6.0.1
ip link add void type veth peer name hole
ip link set void up
ip link set hole up
ip addr add 10.7.0.1/24 dev void
ip neigh add 10.7.0.2 lladdr 02:00:00:00:00:01 dev void
";

#[test]
fn what_a_network_does_to_a_connect_is_told() {
    let test = "what_a_network_does_to_a_connect_is_told";
    namespace::run(test, &[], FAULTS, || {
        on_every_driver(|event_loop| {
            let limits =
                Timeouts { connecting: Some(Duration::from_millis(200)), ..Timeouts::default() };
            // A listener whose queue is full answers nobody.
            let full = TcpListener::bind("127.0.0.1:0").expect("a port");
            shrink_backlog(&full);
            let full_address = full.local_addr().expect("bound");
            let _waiting = std::net::TcpStream::connect(full_address).expect("fits in");
            for (peer, event, kind) in [
                (at("10.5.0.1:9"), "error_connecting", ProblemKind::Unreachable),
                (at("10.6.0.1:9"), "error_connecting", ProblemKind::NotPermitted),
                (at("10.7.0.2:9"), "timeout_connecting", ProblemKind::TimedOut),
                (full_address, "timeout_connecting", ProblemKind::TimedOut),
                (at("127.0.0.1:1"), "error_connecting", ProblemKind::Refused),
            ] {
                let story = Story::new();
                let target = Target::address(peer).timeouts(limits);
                let transport = event_loop.connect(story.clone(), target);
                run_to_end(event_loop, &transport);
                assert_eq!(story.events(), ["made", event, "lost"], "{peer}");
                assert_eq!(transport.problem().expect("told").kind, kind, "{peer}");
            }
            // All of them at one name: the one that works is found.
            let server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0");
            let server = address(&server.expect("a port"));
            let all = [at("10.5.0.1:9"), at("10.6.0.1:9"), at("10.7.0.2:9"), server];
            let story = Story::new().on("established", |transport| transport.close());
            let target = Target::any_of(all).connecting(Some(Duration::from_millis(600)));
            let transport = event_loop.connect(story.clone(), target);
            run_to_end(event_loop, &transport);
            assert_eq!(story.events(), ["made", "established", "lost"]);
        });
    });
}

// Zero: the kernel keeps one connection beside it.
fn shrink_backlog(listener: &TcpListener) {
    use std::os::fd::AsRawFd;
    // SAFETY: listen(2) on a listening socket only changes its backlog.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
}

const HALF_OPEN: &str = "
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add far
ip link add near type veth peer name far netns far
ip addr add 10.1.0.2/24 dev near
ip link set near up
ip -n far addr add 10.1.0.1/24 dev far
ip -n far link set far up
ip netns exec far socat TCP-LISTEN:7000,fork,reuseaddr PIPE &
for i in $(seq 100); do
  ip netns exec far ss -ltn | grep -q 7000 && break
  sleep 0.05
done
";

#[test]
fn a_peer_that_is_gone_without_a_word_is_found_by_the_limits() {
    let test = "a_peer_that_is_gone_without_a_word_is_found_by_the_limits";
    namespace::run(test, &["socat", "ss"], HALF_OPEN, || {
        on_every_driver(|event_loop| {
            let span = Duration::from_millis(500);
            let read = Timeouts { read: Some(span), ..Timeouts::default() };
            let idle = Timeouts { idle: Some(span), ..Timeouts::default() };
            for limits in [read, idle] {
                let story = Story::new()
                    .on("established", |transport| {
                        transport.write(b"hello");
                    })
                    .on("timeout_idle", |transport| transport.abort());
                let target = Target::address(at("10.1.0.1:7000")).timeouts(limits);
                let transport = event_loop.connect(story.clone(), target);
                let seen = story.clone();
                run_until(event_loop, move || seen.count("data") == 1);
                // Nothing comes back from now on.
                shell("ip -n far route add blackhole 10.1.0.2/32");
                let begin = event_loop.time();
                run_to_end(event_loop, &transport);
                let took = event_loop.time().since(begin);
                shell("ip -n far route del blackhole 10.1.0.2/32");
                // The kernel alone would need minutes.
                assert!(took < span * 20, "found within its time: {took:?}");
                let kind = transport.closed().expect("over").kind;
                assert!(matches!(kind, CloseKind::ReadTimedOut | CloseKind::Aborted), "{kind:?}");
            }
        });
    });
}

const RESOLV_CONF: &str =
    "nameserver 127.0.0.3\nnameserver 127.0.0.4\nsearch corp.example\noptions timeout:1\n";

const ZONE: &str = r#"
www IN A 127.0.0.9
www IN AAAA ::1
alias IN CNAME www
big IN TXT "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG" "BIG"
"#;

const DNSMASQ: &str = "--host-record=www.corp.example,127.0.0.9,::1";

#[test]
fn s17_names_are_found_as_the_systems_files_and_real_servers_have_them() {
    let test = "s17_names_are_found_as_the_systems_files_and_real_servers_have_them";
    let programs = ["nsd", "unbound", "dnsmasq", "ss"];
    namespace::run(test, &programs, &system::script(RESOLV_CONF, ZONE, DNSMASQ), || {
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        on_every_driver(|event_loop| {
            let before = threads();
            let ask = |host: &str| {
                let found = event_loop.run_until_complete(event_loop.resolve(host, 80));
                let found = found.expect("runs").unwrap_or_else(|error| panic!("{host}: {error}"));
                found.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            // The hosts file, by name and by alias; then unbound, which asks nsd.
            assert_eq!(ask("printer"), ["127.0.0.7:80"]);
            for name in ["www", "www.corp.example", "alias", "ALIAS.corp.example."] {
                assert_eq!(ask(name), ["[::1]:80", "127.0.0.9:80"], "{name}");
            }
            // More than a datagram holds comes over TCP.
            let asked = event_loop.lookup_records("big", tepal::names::RecordType::TXT);
            let answer = event_loop.run_until_complete(asked).expect("runs").expect("is there");
            assert_eq!(answer.records.len(), 1);
            let unknown = event_loop.run_until_complete(event_loop.resolve("nobody.example", 80));
            assert!(unknown.expect("runs").is_err());
            // S21: nobody listens at ::1.
            let server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.9:0");
            let port = address(&server.expect("a port")).port();
            let connecting = event_loop.create_connection(Story::new, Target::host("www", port));
            let transport =
                event_loop.run_until_complete(connecting).expect("runs").expect("connects");
            let peer = transport.peer_address().expect("connected").to_string();
            assert_eq!(peer, format!("127.0.0.9:{port}"));
            transport.abort();
            assert_eq!(threads(), before, "S12");
        });
        // The first server dies: the second one answers.
        shell(
            "kill $(cat /mnt/unbound.pid)
             while ss -lun | grep -q '127.0.0.3:53 '; do sleep 0.02; done",
        );
        let event_loop = EventLoop::new().expect("a loop");
        let found = event_loop.run_until_complete(event_loop.resolve("www", 80)).expect("runs");
        assert_eq!(found.expect("dnsmasq knows").len(), 2);
    });
}
