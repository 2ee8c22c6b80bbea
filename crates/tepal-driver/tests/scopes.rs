//! Link-local IPv6 addresses, in a network namespace of their own: this file's test runs its own
//! binary once more under `unshare`, where the loopback interface is given such an address.

#![cfg(target_os = "linux")]

mod common;

use std::env;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;

use common::*;
use tepal_driver::{Domain, Interest, Kind, Readiness, driver_names, open_driver};

const INSIDE: &str = "TEPAL_TEST_INSIDE_NAMESPACE";
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
const SET_UP: &str = "ip link set lo up && ip -6 addr add fe80::77/64 dev lo nodad";

#[test]
fn a_scope_is_carried_in_and_out() {
    if env::var_os(INSIDE).is_some() {
        within_limit(|| driver_names().iter().for_each(|name| connect_by_scope(name)));
        return;
    }
    let possible = unshare(SET_UP);
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("not tested: this needs `unshare -rn` and `ip`");
        return;
    }
    let inside = format!("{SET_UP} && exec {:?} --nocapture", env::current_exe().expect("runs"));
    let output = unshare(&inside).expect("starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

fn unshare(script: &str) -> std::io::Result<std::process::Output> {
    Command::new("unshare").args(["-rn", "sh", "-c", script]).env(INSIDE, "1").output()
}

fn connect_by_scope(name: &str) {
    let mut driver = open_driver(Some(name)).expect("opens");
    let driver = &mut *driver;
    let loopback_index = 1; // the first interface of every namespace
    let local = SocketAddr::from(SocketAddrV6::new(LINK_LOCAL, 0, 0, loopback_index));
    let listener = driver.open(Domain::Inet6, Kind::Stream).expect("opens");
    driver.bind(listener, &local.into()).expect("binds");
    driver.listen(listener, 1).expect("listens");
    driver.register(listener, 1, Interest::READ).expect("registers");
    let address = driver.local_address(listener).expect("is bound");

    let client = driver.open(Domain::Inet6, Kind::Stream).expect("opens");
    driver.bind(client, &local.into()).expect("binds");
    driver.connect(client, &address).expect("connects");
    wait_for(driver, 1, Readiness::READABLE);
    let (server, peer) = driver.accept(listener).expect("accepts");
    let there = driver.local_address(client).expect("is bound");
    for address in [address, peer, there, driver.peer_address(server).expect("is connected")] {
        let Some(SocketAddr::V6(address)) = address.as_ip() else { panic!("{address}") };
        assert_eq!((*address.ip(), address.scope_id()), (LINK_LOCAL, loopback_index));
    }

    let wrong_scope = SocketAddr::from(SocketAddrV6::new(LINK_LOCAL, 9, 0, 99));
    let lost = driver.open(Domain::Inet6, Kind::Stream).expect("opens");
    assert!(driver.bind(lost, &wrong_scope.into()).is_err());
    assert!(driver.connect(lost, &wrong_scope.into()).is_err());
}
