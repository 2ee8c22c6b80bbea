//! What an operator reads when a peer is not reached, or is lost: each kind of failure, word by word.
//! On the simulated kernel, so that times are the same in each run.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::net::SocketAddr;
use std::sync::Arc;

use asking::simulated;
use common::{Echo, address};
use dns::{AAAA, Say, Zone, put};
use layered::{FixedClock, certificate, tls_client};
use reach::{rude_server, run_to_end, seconds, silent_server};
use story::Story;
use tepal::layers::{HttpConnectServer, ProxyAnswer, ProxyRequest, SocksReply};
use tepal::names::Family;
use tepal::{
    Address, Addresses, EventLoop, HttpConnect, Lines, Listen, Protocol, Socks5, SocksServer,
    Target, Timeouts, Tls, Transport,
};
use tepal_sim::{Route, SimKernel};

/// A proxy that lets nobody through.
struct Refuses;

impl Protocol for Refuses {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        data.len()
    }
    fn proxy_request(&mut self, transport: &Transport, layer: &str, _: &ProxyRequest) {
        transport
            .answer_proxy(layer, ProxyAnswer::Refuse(SocksReply::HostUnreachable))
            .expect("it waits");
    }
}

/// Servers and routes of all kinds; then what is said of a connection that is tried once.
fn says(expected: &str, make: impl FnOnce(&SimKernel, &EventLoop) -> Target) {
    says_later(expected, Story::new(), make);
}

fn says_later(expected: &str, story: Story, make: impl FnOnce(&SimKernel, &EventLoop) -> Target) {
    let (kernel, event_loop) = simulated();
    let servers = "nameserver 127.0.0.1\nnameserver 127.0.0.2\nsearch corp.test\n";
    kernel.put_file("/etc/resolv.conf", servers);
    let zone = Zone::new();
    put(&zone, "www.corp.test", 60, &["127.0.0.3", "127.0.0.4", "::1"]);
    put(&zone, "far.test", 60, &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    put(&zone, "none.test", 60, &[]);
    let kinds = [("broken", Say::Code(2)), ("silent", Say::Nothing), ("garbage", Say::Garbage)];
    for (name, say) in kinds {
        for of in [dns::A, AAAA] {
            zone.borrow_mut().answers.insert((format!("{name}.test"), of), say.clone());
        }
    }
    dns::serve_at(&event_loop, &zone, at("127.0.0.1:53"));
    for (address, route) in [
        ("192.0.2.1", Route::Blackhole),
        ("192.0.2.2", Route::Error(libc::EHOSTUNREACH)),
        ("192.0.2.3", Route::Error(libc::EACCES)),
        ("2001:db8::1", Route::Error(libc::ENETUNREACH)),
    ] {
        kernel.set_route(address.parse().expect("an address"), route);
    }
    let target = make(&kernel, &event_loop);
    let transport = event_loop.connect(story, target);
    run_to_end(&event_loop, &transport);
    let said = transport.problem().expect("it failed").to_string();
    // Which port a server was given does not matter.
    assert_eq!(said.replace("32768", "PORT"), expected);
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

/// With limits that are shorter than the defaults.
fn host(name: &str) -> Target {
    let (dns, connecting) = (seconds(8), seconds(4));
    Target::host(name, 6697).timeouts(Timeouts { dns, connecting, ..Timeouts::default() })
}

#[test]
fn a_name_that_is_not_found_is_told_with_what_each_server_did() {
    says(
        "cannot find nobody.test port 6697: the name does not exist (attempt 1, 0.000 s)",
        |_, _| host("nobody.test"),
    );
    says(
        "cannot find none.test port 6697: the name has no such records (attempt 1, 0.000 s)",
        |_, _| host("none.test"),
    );
    says(
        "cannot find broken.test. port 6697: no server gave an answer: 127.0.0.1:53 (udp) said SERVFAIL 4 times, after 0.000 s at most; 127.0.0.2:53 (udp) refused the connection 4 times, after 0.000 s at most (attempt 1, 0.000 s)",
        |_, _| host("broken.test."),
    );
    says(
        "cannot find silent.test. port 6697: no server gave an answer: 127.0.0.1:53 (udp) said nothing 4 times, after 4.000 s at most; 127.0.0.2:53 (udp) refused the connection 4 times, after 0.000 s at most (attempt 1, 6.000 s)",
        |_, _| host("silent.test."),
    );
    says(
        "cannot find garbage.test. port 6697: no server gave an answer: 127.0.0.1:53 (udp) said nothing usable (packets that were no answer: 1) 4 times, after 4.000 s at most; 127.0.0.2:53 (udp) refused the connection 4 times, after 0.000 s at most (attempt 1, 6.000 s)",
        |_, _| host("garbage.test."),
    );
    says(
        "cannot find www.test. port 6697: no answer came in time: 192.0.2.2:53 (udp) could not be reached 4 times, after 0.000 s at most; 192.0.2.1:53 (udp) said nothing 4 times, after 5.000 s at most (attempt 1, 8.000 s)",
        |kernel, _| {
            kernel.put_file("/etc/resolv.conf", "nameserver 192.0.2.2\nnameserver 192.0.2.1\n");
            host("www.test.")
        },
    );
}

#[test]
fn a_name_that_is_not_asked_for_is_told_with_the_reason() {
    says(
        "cannot find abc.onion port 6697: names below .onion are never looked up (attempt 1, 0.000 s)",
        |_, _| host("abc.onion"),
    );
    says("cannot find a..b port 6697: the name has an empty label (attempt 1, 0.000 s)", |_, _| {
        host("a..b")
    });
    says(
        "cannot find fe80::1%nowhere port 6697: the address names a zone that is no interface here (attempt 1, 0.000 s)",
        |_, _| host("fe80::1%nowhere"),
    );
    says(
        "cannot find 127.0.0.1 port 6697: the address is of the other family (attempt 1, 0.000 s)",
        |_, _| host("127.0.0.1").family(Family::V6),
    );
    says(
        "cannot find printer.local port 6697: only another name service module could know it (nsswitch.conf also names mdns4_minimal, which only the C library has: use SystemResolver to ask it) (attempt 1, 0.000 s)",
        |kernel, _| {
            let text = "hosts: files mdns4_minimal [NOTFOUND=return] dns\n";
            kernel.put_file("/etc/nsswitch.conf", text);
            host("printer.local")
        },
    );
}

#[test]
fn an_address_that_is_not_reached_is_told_with_what_it_said() {
    says(
        "cannot connect to www port 6697 as alice: [::1]:6697 said Connection refused (os error 111) after 0.000 s; 127.0.0.3:6697 said Connection refused (os error 111) after 0.000 s; 127.0.0.4:6697 said Connection refused (os error 111) after 0.000 s (attempt 1, 0.000 s)",
        |_, _| host("www").label("alice"),
    );
    says(
        "cannot connect to far.test port 6697: 192.0.2.1:6697 gave no answer in 1.333 s; [2001:db8::1]:6697 failed after 0.000 s: Network is unreachable (os error 101); 192.0.2.2:6697 failed after 0.000 s: No route to host (os error 113) (attempt 1, 1.333 s)",
        |_, _| host("far.test"),
    );
    says(
        "cannot connect to far.test port 6697: 192.0.2.1:6697 gave no answer in 4.000 s; [2001:db8::1]:6697 failed after 0.000 s: Network is unreachable (os error 101); 192.0.2.2:6697 failed after 0.000 s: No route to host (os error 113) (attempt 1, 4.000 s)",
        |_, _| host("far.test").addresses(Addresses::Race),
    );
    says(
        "cannot connect to 127.0.0.9:6697: Connection refused (os error 111) (attempt 1, 0.000 s)",
        |_, _| Target::address(at("127.0.0.9:6697")),
    );
    says("cannot connect to 192.0.2.1:6697: no answer in time (attempt 1, 30.000 s)", |_, _| {
        Target::address(at("192.0.2.1:6697"))
    });
    says(
        "cannot connect to 192.0.2.3:6697: Permission denied (os error 13) (attempt 1, 0.000 s)",
        |_, _| Target::address(at("192.0.2.3:6697")),
    );
    says(
        "cannot connect to /run/nobody.sock: No such file or directory (os error 2) (attempt 1, 0.000 s)",
        |_, _| Target::unix("/run/nobody.sock"),
    );
}

#[test]
fn what_this_machine_cannot_do_is_not_put_into_the_peers_mouth() {
    says(
        "cannot connect to 127.0.0.9:6697 from 198.51.100.9:0: Cannot assign requested address (os error 99) (attempt 1, 0.000 s)",
        |_, _| Target::address(at("127.0.0.9:6697")).local(at("198.51.100.9:0")),
    );
    says(
        "cannot connect to 127.0.0.9 port 6697 from [::1]:0: 127.0.0.9:6697 failed after 0.000 s: no local address is of its family (attempt 1, 0.000 s)",
        |_, _| host("127.0.0.9").local(at("[::1]:0")),
    );
    let mut all = Vec::new();
    says(
        "cannot connect to 127.0.0.9 port 6697: 127.0.0.9:6697 failed after 0.000 s: Too many open files (os error 24) (attempt 1, 0.000 s)",
        |_, event_loop| {
            let more = || event_loop.listen(|_: &Address| Echo, "127.0.0.1:0").ok();
            all.extend(std::iter::from_fn(more));
            host("127.0.0.9")
        },
    );
}

/// A server with this certificate, and a client that wants this name.
fn tls(event_loop: &EventLoop, name: &str, wanted: &str) -> (u16, Tls) {
    let clock = Arc::new(FixedClock(1_800_000_000));
    let server = Tls::builder().certificate(certificate(name)).clock(clock);
    let listen = Listen::on("127.0.0.3:0").layer(server.build().expect("valid"));
    let server = event_loop.listen(|_: &Address| Echo, listen).expect("a port");
    (address(&server).port(), tls_client().server_name(wanted).build().expect("valid"))
}

/// TLS to a server that has none.
fn plain(server: SocketAddr) -> Target {
    Target::host("127.0.0.1", server.port()).layer(tls_client().build().expect("valid"))
}

#[test]
fn a_handshake_that_fails_is_told_with_its_layer() {
    says(
        "cannot set up tls with www port PORT: [::1]:PORT said Connection refused (os error 111) after 0.000 s; 127.0.0.3:PORT failed after 0.000 s: tls: invalid peer certificate: certificate not valid for name \"other.test\"; certificate is only valid for DnsName(\"server.test\"), DnsName(\"localhost\") or IpAddress(127.0.0.1); 127.0.0.4:PORT said Connection refused (os error 111) after 0.000 s (attempt 1, 0.000 s)",
        |_, event_loop| {
            let (port, client) = tls(event_loop, "server", "other.test");
            Target::host("www", port).layer(client)
        },
    );
    says(
        "cannot set up tls with 127.0.0.3 port PORT: tls: invalid peer certificate: UnknownIssuer (attempt 1, 0.000 s)",
        |_, event_loop| {
            let (port, client) = tls(event_loop, "self", "server.test");
            Target::host("127.0.0.3", port).layer(client)
        },
    );
    says(
        "cannot set up tls with 127.0.0.1 port PORT: tls: the bytes ended during the handshake (attempt 1, 0.000 s)",
        |_, event_loop| plain(rude_server(event_loop, |transport| transport.close())),
    );
    says(
        "cannot set up tls with 127.0.0.1 port PORT: Connection reset by peer (os error 104) (attempt 1, 0.000 s)",
        |_, event_loop| plain(rude_server(event_loop, |transport| transport.abort())),
    );
    says(
        "cannot set up tls with 127.0.0.1 port PORT: tls: the handshake did not end in time (attempt 1, 30.000 s)",
        |_, event_loop| plain(silent_server(event_loop)),
    );
    says(
        "cannot set up socks5 with 127.0.0.1 port PORT: socks5: the proxy refused: host unreachable (4) (attempt 1, 0.000 s)",
        |_, event_loop| {
            let proxy = Listen::on("127.0.0.1:0").layer(SocksServer::new());
            let proxy = event_loop.listen(|_: &Address| Refuses, proxy).expect("a port");
            let layer = Socks5::new("irc.test", 6697).expect("valid");
            Target::host("127.0.0.1", address(&proxy).port()).layer(layer)
        },
    );
    says(
        "cannot set up http-connect with 127.0.0.1 port PORT: http-connect: the proxy refused with status 502 (attempt 1, 0.000 s)",
        |_, event_loop| {
            let proxy = Listen::on("127.0.0.1:0").layer(HttpConnectServer::new());
            let proxy = event_loop.listen(|_: &Address| Refuses, proxy).expect("a port");
            let layer = HttpConnect::new("irc.test", 6697).expect("valid");
            Target::host("127.0.0.1", address(&proxy).port()).layer(layer)
        },
    );
}

#[test]
fn a_connection_that_is_lost_is_told_with_the_reason() {
    let to =
        |server: SocketAddr, timeouts| Target::host("localhost", server.port()).timeouts(timeouts);
    let speaks = || {
        Story::new().on("established", |transport| {
            transport.write(b"hello");
        })
    };
    says_later(
        "lost the connection to localhost port PORT at 127.0.0.1:PORT: Connection reset by peer (os error 104) (attempt 1, 0.000 s)",
        speaks(),
        |_, event_loop| {
            to(rude_server(event_loop, |transport| transport.abort()), Timeouts::default())
        },
    );
    says(
        "lost the connection to localhost port PORT at 127.0.0.1:PORT: nothing came for too long (attempt 1, 3.000 s)",
        |_, event_loop| {
            to(silent_server(event_loop), Timeouts { read: seconds(3), ..Timeouts::default() })
        },
    );
    says(
        "lost the connection to localhost port PORT at 127.0.0.1:PORT: its time was over (attempt 1, 3.000 s)",
        |_, event_loop| {
            to(silent_server(event_loop), Timeouts { session: seconds(3), ..Timeouts::default() })
        },
    );
    says_later(
        "lost the connection to localhost port PORT at 127.0.0.1:PORT: lines: a written frame is longer than 4 bytes (attempt 1, 0.000 s)",
        speaks(),
        |_, event_loop| to(silent_server(event_loop), Timeouts::default()).layer(Lines::new(4)),
    );
}
