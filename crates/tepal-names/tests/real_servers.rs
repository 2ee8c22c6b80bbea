//! dnsmasq, nsd and unbound as peers, in a network namespace of their own.
#![cfg(target_os = "linux")]
// The driver of this test has the sockets, threads and files that the crate must not have.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/pump.rs"]
mod pump;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tepal_names::error::{LookupErrorKind, Over, ServerOutcome};
use tepal_names::resolver::Settings;
use tepal_names::{Family, RecordType, Resolver};

const ZONE: &str = r#"$ORIGIN a.test.
$TTL 300
@ IN SOA ns.a.test. admin.a.test. 1 2 3 4 60
@ IN NS ns.a.test.
@ IN MX 10 mail.a.test.
@ IN MX 20 mail2.a.test.
ns IN A 127.0.0.2
host IN A 192.0.2.1
host IN AAAA 2001:db8::1
six IN AAAA 2001:db8::6
alias IN CNAME middle
middle IN CNAME host
away IN CNAME nowhere.b.test.
txt IN TXT "hello world" "a\"b"
_sip._tcp IN SRV 1 2 5060 host
svc IN HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1
big IN TXT "@BIG@"
"#;

/// A server that is stopped with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to stop.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn dnsmasq_nsd_and_unbound_are_understood() {
    namespace::run(
        "dnsmasq_nsd_and_unbound_are_understood",
        &["--net"],
        &["dnsmasq", "nsd", "unbound"],
        inside,
    );
}

fn inside() {
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip(8)");
    assert!(status.success());
    let folder = std::env::temp_dir().join(format!("tepal-names-real-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let strings = vec!["x".repeat(200); 10].join("\" \"");
    std::fs::write(folder.join("zone"), ZONE.replace("@BIG@", &strings)).unwrap();
    let nsd = start_nsd(&folder);
    let unbound = start_unbound(&folder);
    let dnsmasq = start_dnsmasq();

    check_nsd();
    check_unbound();
    check_dnsmasq();
    check_a_port_without_a_server();

    drop((nsd, unbound, dnsmasq));
    std::fs::remove_dir_all(&folder).unwrap();
}

fn start(command: &mut Command, server: &str) -> Running {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = child.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let running = Running(child);
    // It listens when a query is not refused; each try waits for an answer at most 100 ms.
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x06\0\x01";
    for _ in 0..100 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if socket.send(query).is_ok() && socket.recv(&mut [0; 2048]).is_ok() {
            return running;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{command:?} does not answer at {server}");
}

fn start_nsd(folder: &Path) -> Running {
    let path = folder.display();
    let conf = folder.join("nsd.conf");
    let text = format!(
        "server:\n ip-address: 127.0.0.2\n username: \"\"\n chroot: \"\"\n zonesdir: \"{path}\"\n database: \"\"\n \
         pidfile: \"{path}/nsd.pid\"\n xfrdfile: \"{path}/xfrd\"\n zonelistfile: \"{path}/zones\"\n \
         xfrdir: \"{path}\"\n server-count: 1\n answer-cookie: yes\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: a.test\n zonefile: zone\n"
    );
    std::fs::write(&conf, text).unwrap();
    start(Command::new("nsd").arg("-d").arg("-c").arg(&conf), "127.0.0.2:53")
}

fn start_unbound(folder: &Path) -> Running {
    let path = folder.display();
    let conf = folder.join("unbound.conf");
    let text = format!(
        "server:\n interface: 127.0.0.3\n username: \"\"\n chroot: \"\"\n directory: \"{path}\"\n \
         pidfile: \"{path}/unbound.pid\"\n use-syslog: no\n do-daemonize: no\n module-config: \"iterator\"\n \
         do-not-query-localhost: no\n local-zone: \"test.\" nodefault\n \
         local-data: \"local.example. 60 IN A 192.0.2.9\"\n\
         stub-zone:\n name: a.test\n stub-addr: 127.0.0.2\n\
         remote-control:\n control-enable: no\n"
    );
    std::fs::write(&conf, text).unwrap();
    start(Command::new("unbound").arg("-d").arg("-c").arg(&conf), "127.0.0.3:53")
}

fn start_dnsmasq() -> Running {
    let arguments = [
        // Debugging: it does not change its user, which not everybody may.
        "--no-daemon",
        "--conf-file=/dev/null",
        "--listen-address=127.0.0.4",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
        "--address=/a.test/192.0.2.4",
        "--host-record=both.example,192.0.2.5,2001:db8::5",
        "--cname=alias.example,both.example",
        "--ptr-record=5.2.0.192.in-addr.arpa,both.example",
        "--local=/example/",
    ];
    start(Command::new("dnsmasq").args(arguments), "127.0.0.4:53")
}

struct Client {
    pump: pump::Pump,
}

impl Client {
    fn new(server: &str) -> Client {
        let servers = vec![server.parse::<SocketAddr>().unwrap()];
        let settings = Settings { servers: Some(servers), ..Settings::default() };
        Client { pump: pump::Pump::new(Resolver::new(settings, [9; 32])) }
    }

    fn host(&mut self, name: &str, family: Family) -> Result<String, LookupErrorKind> {
        let (now, deadline) = (self.pump.now(), self.pump.now() + Duration::from_secs(10));
        let started = self.pump.resolver.lookup_host(name, family, deadline, now);
        let answer = self.pump.finish(started).map_err(|error| error.kind)?.into_host().unwrap();
        let addresses: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
        Ok(format!("{} {}", answer.canonical, addresses.join(" ")))
    }

    fn records(&mut self, name: &str, record_type: RecordType) -> Vec<String> {
        let (now, deadline) = (self.pump.now(), self.pump.now() + Duration::from_secs(10));
        let started = self.pump.resolver.lookup_records(name, record_type, deadline, now);
        let answer = self.pump.finish(started).unwrap().into_records().unwrap();
        let mut lines: Vec<String> = answer.records.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    }
}

fn check_nsd() {
    let mut client = Client::new("127.0.0.2:53");
    let both = Family::Unspecified;
    assert_eq!(client.host("host.a.test", both).unwrap(), "host.a.test 2001:db8::1 192.0.2.1");
    assert_eq!(client.host("alias.a.test", both).unwrap(), "host.a.test 2001:db8::1 192.0.2.1");
    assert_eq!(client.host("six.a.test", Family::V4), Err(LookupErrorKind::NoData));
    assert_eq!(client.host("missing.a.test", both), Err(LookupErrorKind::NotFound));
    // It knows nothing of other zones, and says so.
    assert_eq!(client.host("host.b.test", both), Err(LookupErrorKind::ServersFailed));
    assert_eq!(
        client.records("a.test", RecordType::MX),
        ["a.test. 300 IN MX 10 mail.a.test.", "a.test. 300 IN MX 20 mail2.a.test.",]
    );
    assert_eq!(
        client.records("a.test", RecordType::SOA),
        ["a.test. 300 IN SOA ns.a.test. admin.a.test. 1 2 3 4 60",]
    );
    assert_eq!(
        client.records("txt.a.test", RecordType::TXT),
        [r#"txt.a.test. 300 IN TXT "hello world" "a\"b""#,]
    );
    assert_eq!(
        client.records("_sip._tcp.a.test", RecordType::SRV),
        ["_sip._tcp.a.test. 300 IN SRV 1 2 5060 host.a.test.",]
    );
    assert_eq!(
        client.records("svc.a.test", RecordType::HTTPS),
        [r#"svc.a.test. 300 IN HTTPS 1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.1"#,]
    );
    // 2,000 bytes do not fit into a datagram of 1,232.
    let before = client.pump.opened.len();
    assert_eq!(client.records("big.a.test", RecordType::TXT)[0].matches('x').count(), 2_000);
    let server = "127.0.0.2:53".parse().unwrap();
    assert_eq!(client.pump.opened[before..], [(server, Over::Udp), (server, Over::Tcp)]);
}

fn check_unbound() {
    let mut client = Client::new("127.0.0.3:53");
    let both = Family::Unspecified;
    assert_eq!(client.host("alias.a.test", both).unwrap(), "host.a.test 2001:db8::1 192.0.2.1");
    assert_eq!(client.host("missing.a.test", both), Err(LookupErrorKind::NotFound));
    assert_eq!(client.host("local.example", Family::V4).unwrap(), "local.example 192.0.2.9");
    // The second time no packet is needed.
    let before = client.pump.opened.len();
    assert_eq!(client.host("ALIAS.a.test", both).unwrap(), "host.a.test 2001:db8::1 192.0.2.1");
    assert_eq!(client.pump.opened.len(), before);
    assert_eq!(client.records("big.a.test", RecordType::TXT)[0].matches('x').count(), 2_000);
}

fn check_dnsmasq() {
    let mut client = Client::new("127.0.0.4:53");
    let both = Family::Unspecified;
    assert_eq!(client.host("any.a.test", Family::V4).unwrap(), "any.a.test 192.0.2.4");
    assert_eq!(client.host("alias.example", both).unwrap(), "both.example 2001:db8::5 192.0.2.5");
    assert_eq!(client.host("missing.example", both), Err(LookupErrorKind::NotFound));
    let (now, deadline) = (client.pump.now(), client.pump.now() + Duration::from_secs(10));
    let started = client.pump.resolver.lookup_address([192, 0, 2, 5].into(), deadline, now);
    let names = client.pump.finish(started).unwrap().into_names().unwrap();
    assert_eq!(names.names, ["both.example".into()]);
}

fn check_a_port_without_a_server() {
    let mut client = Client::new("127.0.0.5:53");
    let (now, deadline) = (client.pump.now(), client.pump.now() + Duration::from_secs(10));
    let started = client.pump.resolver.lookup_host("host.a.test", Family::V4, deadline, now);
    let error = client.pump.finish(started).unwrap_err();
    assert_eq!(error.kind, LookupErrorKind::ServersFailed);
    let refused = tepal_names::error::SocketFault::Refused;
    assert!(error.servers.iter().all(|report| report.outcome == ServerOutcome::Fault(refused)));
    // An ICMP message says so at once: nobody waits for the time-out.
    assert!(client.pump.now().since(now) < Duration::from_secs(1));
}
