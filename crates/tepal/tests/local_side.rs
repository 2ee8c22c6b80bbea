//! Options of the local side: an address that is not this machine's, a device; and what is told
//! where they are not permitted.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod namespace;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::net::SocketAddr;

use common::{Echo, address, on_every_driver};
use reach::run_to_end;
use story::Story;
use tepal::{CloseKind, EventLoop, ProblemKind, SocketOption, Target};

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn device(name: &std::ffi::CStr) -> SocketOption {
    SocketOption::BindToDevice(name.to_owned())
}

/// The text of a failure, and what kind it is.
fn failure(event_loop: &EventLoop, target: Target) -> (ProblemKind, String) {
    let story = Story::new();
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(event_loop, &transport);
    assert_eq!(story.events(), ["made", "error_connecting", "lost"]);
    let problem = transport.problem().expect("told");
    (problem.kind, problem.to_string())
}

/// A far host that tells everybody the address it sees, and sends answers to 10.50.0.0/24 and
/// fd50::/64 back here. Here they are taken in, though no interface has such an address.
const FAR: &str = "
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add far
ip link add near type veth peer name far netns far
ip addr add 10.1.0.2/24 dev near
ip -6 addr add fd01::2/64 dev near nodad
ip link set near up
ip -n far addr add 10.1.0.1/24 dev far
ip -n far -6 addr add fd01::1/64 dev far nodad
ip -n far link set far up
ip -n far route add 10.50.0.0/24 via 10.1.0.2
ip -n far -6 route add fd50::/64 via fd01::2
for family in -4 -6; do
  ip $family rule add iif near lookup 100
  ip $family route add local default dev lo table 100
done
ip netns exec far socat TCP6-LISTEN:7000,fork,reuseaddr SYSTEM:'echo seen $SOCAT_PEERADDR' &
for i in $(seq 100); do
  ip netns exec far ss -ltn | grep -q 7000 && break
  sleep 0.05
done
";

#[test]
fn a_transparent_socket_speaks_from_anothers_address_where_that_is_permitted() {
    let test = "a_transparent_socket_speaks_from_anothers_address_where_that_is_permitted";
    namespace::run(test, &["socat", "ss"], FAR, || {
        let ways = [
            // socat shows it inside IPv6.
            ("10.1.0.1:7000", "10.50.0.1:0", "0000:ffff:0a32:0001"),
            ("[fd01::1]:7000", "[fd50::1]:0", "fd50:0000:0000:0000:0000:0000:0000:0001"),
        ];
        on_every_driver(|event_loop| {
            for (far, local, seen) in ways {
                let target = || Target::address(at(far)).local(at(local));
                // Another's address is refused to who does not ask for it.
                let (_, text) = failure(event_loop, target());
                assert!(text.contains(&format!(" from {local}")), "{text}");
                assert!(text.contains("Cannot assign requested address"), "{text}");

                let story = Story::new();
                let transparent = target().option(SocketOption::Transparent(true));
                let transport = event_loop.connect(story.clone(), transparent.clone());
                reach::run_until(event_loop, {
                    let story = story.clone();
                    move || story.count("eof") + story.count("lost") > 0
                });
                let told = String::from_utf8_lossy(&story.0.borrow().bytes).into_owned();
                assert!(told.contains(seen), "{local}: {told:?}, {:?}", transport.problem());
                transport.abort();
                // Bound to the device as well, and to one that is another's way.
                let story = Story::new().on("established", |transport| transport.close());
                let bound = transparent.clone().option(device(c"near"));
                let transport = event_loop.connect(story, bound);
                run_to_end(event_loop, &transport);
                assert_eq!(transport.closed().expect("over").kind, CloseKind::Local);
            }
        });
        // Without the privilege the refusal says what is not permitted.
        give_up_privileges();
        on_every_driver(|event_loop| {
            for (far, local, _) in ways {
                let target = Target::address(at(far)).local(at(local));
                let (kind, text) =
                    failure(event_loop, target.option(SocketOption::Transparent(true)));
                assert_eq!(kind, ProblemKind::NotPermitted, "{text}");
                let words = "Transparent(true) cannot be set: Operation not permitted";
                assert!(text.contains(words) && text.contains(far), "{text}");
            }
        });
    });
}

/// Gives up what `IP_TRANSPARENT` asks for, in this thread.
fn give_up_privileges() {
    const ADMIN: u32 = 1 << 12; // CAP_NET_ADMIN
    const RAW: u32 = 1 << 13; // CAP_NET_RAW
    const VERSION: u32 = 0x2008_0522; // _LINUX_CAPABILITY_VERSION_3
    let header = [VERSION, 0];
    // Effective, permitted, inheritable, of capabilities 0 to 31 and then of the others.
    let mut sets = [0u32; 6];
    // SAFETY: the kernel reads a header of 8 bytes and fills 24 bytes (capget(2), version 3).
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    assert_eq!(got, 0);
    sets[0] &= !(ADMIN | RAW);
    // SAFETY: the kernel reads both; only the rights of this thread change.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(set, 0);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    reach::everywhere(|event_loop| {
        let server = event_loop.listen(|_: &tepal::Address| Echo, "127.0.0.1:0").expect("a port");
        let target = Target::address(address(&server));
        let (_, text) = failure(event_loop, target.clone().option(device(c"nowhere0")));
        let words = "BindToDevice(\"nowhere0\") cannot be set: No such device";
        assert!(text.contains(words), "{text}");
        let story = Story::new().on("established", |transport| transport.close());
        let transport = event_loop.connect(story, target.option(device(c"lo")));
        run_to_end(event_loop, &transport);
        assert_eq!(transport.closed().expect("over").kind, CloseKind::Local);
    });
}
