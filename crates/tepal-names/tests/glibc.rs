//! The same questions to glibc's getaddrinfo and getnameinfo and to ours, in network and mount
//! namespaces of their own, with our own hosts file, resolv.conf, nsswitch.conf and name server.
//!
//! glibc is asked through Python's `socket` module.
#![cfg(target_os = "linux")]
// The driver of this test has the sockets, threads and files that the crate must not have.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/pump.rs"]
mod pump;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{A, AAAA, Asked, PTR, address_record, alias, record, soa, wire_name};
use tepal_base::Instant;
use tepal_names::addrinfo::{
    AddrInfoError, AddrInfoPlan, Flags, Hints, NameInfoFlags, NameInfoPlan, SocketType,
};
use tepal_names::config::{Environment, Hosts, Nsswitch, Policy, ResolvConf, Services};
use tepal_names::error::Over;
use tepal_names::resolver::Settings;
use tepal_names::{Family, Interfaces, Resolver, Source};

/// The hosts file, and the tables of both questions, which the tests of the Python package share.
const HOSTS: &str = include_str!("data/addrinfo.hosts");
const CASES: &str = include_str!("data/addrinfo.tsv");
const NAME_CASES: &str = include_str!("data/nameinfo.tsv");
const RESOLV_CONF: &str =
    "nameserver 127.0.0.1\nsearch a.test b.test\noptions timeout:2 attempts:2\n";
const NSSWITCH: &str = "hosts: files dns\n";

const INET: i32 = 2;
const INET6: i32 = 10;

/// Arguments of getaddrinfo.
#[derive(Clone, Copy, Debug)]
struct Case {
    host: Option<&'static str>,
    service: Option<&'static str>,
    family: i32,
    socket_type: i32,
    protocol: i32,
    flags: u32,
}

/// The lines of a table that are no comments, each as its cells.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('\t').collect())
}

fn number(cell: &str) -> u32 {
    let hex = cell.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
    hex.unwrap_or_else(|| cell.parse()).expect("a number")
}

/// A cell of text: `-` is none, `""` is empty.
fn text(cell: &'static str) -> Option<&'static str> {
    match cell {
        "-" => None,
        "\"\"" => Some(""),
        cell => Some(cell),
    }
}

fn cases() -> Vec<Case> {
    let case = |cells: Vec<&'static str>| Case {
        host: text(cells[0]),
        service: text(cells[1]),
        family: number(cells[2]) as i32,
        socket_type: number(cells[3]) as i32,
        protocol: number(cells[4]) as i32,
        flags: number(cells[5]),
    };
    rows(CASES).map(case).collect()
}

fn name_cases() -> Vec<(&'static str, u32)> {
    rows(NAME_CASES).map(|cells| (cells[0], number(cells[1]))).collect()
}

/// What our own name server knows.
fn serve(asked: &Asked) -> Vec<u8> {
    let v4 = |last| IpAddr::from([192, 0, 2, last]);
    let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let (name, of) = (asked.name.as_str(), asked.record_type);
    let mut reply = asked.reply();
    let addresses: Vec<IpAddr> = match name {
        "one.test" | "short.a.test" | "inb.b.test" | "_under.test" => vec![v4(80)],
        "two.test" => vec![v4(80), v6(0x80)],
        "six.test" => vec![v6(0x80)],
        "alias.test" => {
            reply = reply
                .answer(alias("alias.test", "middle.test"))
                .answer(alias("middle.test", "two.test"));
            vec![v4(80), v6(0x80)]
        }
        "big.test" => (1..=100).map(|last| IpAddr::from([198, 51, 100, last])).collect(),
        "contradiction.test" if of == A => {
            return reply.code(3).answer(address_record(name, 60, v4(81))).bytes();
        }
        "servfail.test" | "broken.a.test" | "broken.x.a.test" => return reply.code(2).bytes(),
        "80.2.0.192.in-addr.arpa" if of == PTR => {
            return reply.answer(record(name, PTR, 60, &wire_name("one.test"))).bytes();
        }
        "nodata.test" | "half.b.test" | "half.x.b.test" | "mixed.b.test" | "alone" => vec![],
        "mixed.a.test" => return reply.code(2).bytes(),
        _ => return reply.code(3).authority(soa("", 60, 60)).bytes(),
    };
    let owner = if name == "alias.test" { "two.test" } else { name };
    for address in &addresses {
        if (of == A && address.is_ipv4()) || (of == AAAA && address.is_ipv6()) {
            reply = reply.answer(address_record(owner, 60, *address));
        }
    }
    if reply.sections[0].is_empty() {
        reply = reply.authority(soa("test", 60, 60));
    }
    let whole = reply.bytes();
    if asked.over == Over::Udp && whole.len() > 512 {
        return asked.reply().flag(0x0200).bytes();
    }
    whole
}

fn run_server() {
    let address: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok((len, peer)) = udp.recv_from(&mut buf) {
            let asked = parse(Over::Udp, &buf[..len]);
            udp.send_to(&serve(&asked), peer).unwrap();
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut message = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut message).unwrap();
            let reply = serve(&parse(Over::Udp, &message));
            let asked = Asked { over: Over::Tcp, ..parse(Over::Udp, &message) };
            let reply = if reply[2] & 2 != 0 { serve(&asked) } else { reply };
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
}

/// A query of ours or of glibc (which sends no cookie and may send no OPT).
fn parse(over: Over, message: &[u8]) -> Asked {
    let mut plain = message.to_vec();
    plain[11] = 0;
    plain[3] &= !0x20;
    Asked::parse(Instant::ZERO, ([127, 0, 0, 1], 53).into(), over, &plain)
}

#[test]
fn getaddrinfo_and_getnameinfo_answer_as_glibc_does() {
    assert!(cases().len() >= 60);
    namespace::run(
        "getaddrinfo_and_getnameinfo_answer_as_glibc_does",
        &["--net", "--mount"],
        &["mount", "python3"],
        inside,
    );
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect(program);
    assert!(status.success(), "{program} {arguments:?}");
}

fn inside() {
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["addr", "add", "192.0.2.10/24", "dev", "lo"]);
    run("ip", &["-6", "addr", "add", "2001:db8::10/64", "dev", "lo", "nodad"]);
    let folder = std::env::temp_dir().join(format!("tepal-names-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in [
        ("hosts", HOSTS),
        ("resolv.conf", RESOLV_CONF),
        ("nsswitch.conf", NSSWITCH),
        ("gai.conf", ""),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        let target = format!("/etc/{name}");
        if std::path::Path::new(&target).exists() {
            run("mount", &["--bind", file.to_str().unwrap(), &target]);
        }
    }
    run_server();
    let (theirs, their_names) = ask_glibc();
    std::fs::remove_dir_all(&folder).unwrap();

    let services = std::fs::read_to_string("/etc/services").unwrap();
    let ours = Ours::new(&services);
    let mut pump = ours.pump;
    let mut wrong = Vec::new();
    let (cases, name_cases) = (cases(), name_cases());
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = render(ask_ours(&mut pump, *case, &ours.services, &ours.interfaces));
        if ours != *theirs {
            wrong.push(format!("{case:?}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    for (case, theirs) in name_cases.iter().zip(&their_names) {
        let ours = match ask_name(&mut pump, *case, &ours.services, &ours.interfaces) {
            Ok((host, service)) => format!("{host},{service}"),
            Err(error) => format!("E{}", error.code()),
        };
        if ours != *theirs {
            wrong.push(format!("{case:?}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} cases of getaddrinfo and {} of getnameinfo", cases.len(), name_cases.len());
}

struct Ours {
    pump: pump::Pump,
    services: Services,
    interfaces: Interfaces,
}

impl Ours {
    fn new(services: &str) -> Ours {
        let interfaces = Interfaces::new([("lo", 1)]);
        let mut resolver = Resolver::new(Settings::default(), [3; 32]);
        resolver.set_hosts(Hosts::parse(HOSTS));
        resolver.set_nsswitch(Nsswitch::parse(NSSWITCH));
        resolver.set_interfaces(interfaces.clone());
        let environment = Environment::default();
        resolver.set_resolv_conf(ResolvConf::parse(RESOLV_CONF, &environment, &interfaces));
        Ours { pump: pump::Pump::new(resolver), services: Services::parse(services), interfaces }
    }
}

type Row = (i32, i32, i32, String, String, u16, u32);

fn ask_ours(
    pump: &mut pump::Pump,
    Case { host, service, family, socket_type, protocol, flags }: Case,
    services: &Services,
    interfaces: &Interfaces,
) -> Result<Vec<Row>, AddrInfoError> {
    let family = match family {
        INET => Family::V4,
        INET6 => Family::V6,
        _ => Family::Unspecified,
    };
    let hints =
        Hints { flags: Flags(flags), family, socket_type: SocketType(socket_type), protocol };
    let plan = AddrInfoPlan::new(host, service, hints, services, interfaces)?;
    let mut answer = None;
    if let Some((host, family)) = plan.lookup() {
        let deadline = pump.now() + Duration::from_secs(15);
        let now = pump.now();
        let started = pump.resolver.lookup_host(host, family, deadline, now);
        let found = pump.finish(started).map_err(|error| AddrInfoError::from(&error))?;
        answer = found.into_host();
    }
    let infos = plan.finish(answer.as_ref(), &Policy::default(), |destination| {
        let any: SocketAddr = match destination.ip {
            IpAddr::V4(_) => "0.0.0.0:0".parse().unwrap(),
            IpAddr::V6(_) => "[::]:0".parse().unwrap(),
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(destination.with_port(53)).ok()?;
        Some(Source::from(socket.local_addr().ok()?.ip()))
    })?;
    let row = |info: &tepal_names::addrinfo::AddrInfo| {
        let (family, scope) = match info.address {
            SocketAddr::V4(_) => (INET, 0),
            SocketAddr::V6(v6) => (INET6, v6.scope_id()),
        };
        (
            family,
            info.socket_type.0,
            info.protocol,
            info.canonical_name.as_deref().unwrap_or_default().to_owned(),
            info.address.ip().to_string(),
            info.address.port(),
            scope,
        )
    };
    Ok(infos.iter().map(row).collect())
}

fn render(result: Result<Vec<Row>, AddrInfoError>) -> String {
    match result {
        Ok(rows) => rows
            .iter()
            .map(|(family, kind, protocol, name, ip, port, scope)| {
                format!("{family},{kind},{protocol},{name},{ip},{port},{scope}")
            })
            .collect::<Vec<_>>()
            .join("|"),
        Err(error) => format!("E{} {error}", error.code()),
    }
}

fn ask_name(
    pump: &mut pump::Pump,
    (address, flags): (&str, u32),
    services: &Services,
    interfaces: &Interfaces,
) -> Result<(String, String), AddrInfoError> {
    let plan = NameInfoPlan::new(address.parse().unwrap(), NameInfoFlags(flags))?;
    let answer = plan.lookup().map(|ip| {
        let (now, deadline) = (pump.now(), pump.now() + Duration::from_secs(15));
        let started = pump.resolver.lookup_address(ip, deadline, now);
        pump.finish(started).map(|answer| answer.into_names().unwrap())
    });
    let info = plan.finish(answer.as_ref().map(Result::as_ref), services, interfaces, None)?;
    Ok((info.host.into(), info.service.into()))
}

/// Both tables by Python's socket module, one line each.
fn ask_glibc() -> (Vec<String>, Vec<String>) {
    let mut script = String::from(
        r#"
import socket
def text(value):
    return None if value is None else value.encode()
def info(host, service, family, kind, protocol, flags):
    try:
        found = socket.getaddrinfo(text(host), text(service), family, kind, protocol, flags)
    except socket.gaierror as error:
        return "E%d %s" % (error.errno, error.strerror)
    rows, seen = [], set()
    for family, kind, protocol, name, address in found:
        scope = address[3] if len(address) == 4 else 0
        ip = address[0].split("%")[0]
        if (family, kind, protocol, address) not in seen:
            seen.add((family, kind, protocol, address))
            rows.append("%d,%d,%d,%s,%s,%d,%d" % (family, kind, protocol, name, ip, address[1], scope))
    return "|".join(rows)
def name(host, port, scope, flags):
    address = (host, port, 0, scope) if ":" in host else (host, port)
    try:
        return ",".join(socket.getnameinfo(address, flags))
    except socket.gaierror as error:
        return "E%d" % error.errno
"#,
    );
    let quote = |value: &Option<&str>| match value {
        Some(value) => format!("{value:?}"),
        None => "None".to_owned(),
    };
    let (cases, name_cases) = (cases(), name_cases());
    for Case { host, service, family, socket_type, protocol, flags } in &cases {
        let (host, service) = (quote(host), quote(service));
        script +=
            &format!("print(info({host},{service},{family},{socket_type},{protocol},{flags}))\n");
    }
    for (address, flags) in &name_cases {
        let address: SocketAddr = address.parse().unwrap();
        let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
        let (ip, port) = (address.ip(), address.port());
        script += &format!("print(name(\"{ip}\",{port},{scope},{flags}))\n");
    }
    let mut child = Command::new("python3")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), cases.len() + name_cases.len());
    let (infos, names) = lines.split_at(cases.len());
    (infos.to_vec(), names.to_vec())
}
