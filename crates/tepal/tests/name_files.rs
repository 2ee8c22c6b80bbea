//! Names in the system's files: what counts, and when it is read again.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;

use std::time::Duration;

use asking::{ask, resolver, simulated};
use dns::{Zone, put};
use tepal::names::{AddrInfoError, Settings};

#[test]
fn the_hosts_file_counts_and_is_read_again_when_it_changes() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/hosts", "127.0.0.3 printer\n");
    assert_eq!(ask(&event_loop, "printer", "9100").expect("is there"), ["127.0.0.3:9100"]);
    kernel.put_file("/etc/hosts", "127.0.0.4 printer\n127.0.0.5 scanner\n");
    assert_eq!(ask(&event_loop, "printer", "9100").expect("is there"), ["127.0.0.3:9100"]);
    kernel.advance(Duration::from_secs(1));
    assert_eq!(ask(&event_loop, "printer", "9100").expect("is there"), ["127.0.0.4:9100"]);
    assert_eq!(ask(&event_loop, "scanner", "9100").expect("is there"), ["127.0.0.5:9100"]);
    let reads = kernel.calls()["read_file"];
    kernel.advance(Duration::from_secs(5));
    assert_eq!(ask(&event_loop, "scanner", "9100").expect("is there"), ["127.0.0.5:9100"]);
    kernel.advance(Duration::from_secs(5));
    assert_eq!(ask(&event_loop, "scanner", "9100").expect("is there"), ["127.0.0.5:9100"]);
    assert!(kernel.calls()["read_file"] <= reads + 1, "an unchanged file is not read again");
}

#[test]
fn settings_may_leave_the_hosts_file_out() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/hosts", "127.0.0.3 printer.test\n");
    let zone = Zone::new();
    put(&zone, "printer.test", 60, &["127.0.0.8"]);
    let settings = Settings { hosts: false, ..Settings::default() };
    let _resolver = resolver(&event_loop, &zone, settings);
    assert_eq!(ask(&event_loop, "printer.test", "1").expect("is there"), ["127.0.0.8:1"]);
}

#[test]
fn resolv_conf_names_servers_and_is_read_again_when_it_changes() {
    let (kernel, event_loop) = simulated();
    let zones = [Zone::new(), Zone::new()];
    put(&zones[0], "www.corp.test", 3600, &["127.0.0.10"]);
    put(&zones[1], "www.corp.test", 3600, &["127.0.0.11"]);
    for (zone, port) in zones.iter().zip([1, 2]) {
        dns::serve_at(&event_loop, zone, ([127, 0, 0, port], 53).into());
    }
    kernel.put_file("/etc/resolv.conf", "nameserver 127.0.0.1\nsearch corp.test\n");
    assert_eq!(ask(&event_loop, "www", "80").expect("is there"), ["127.0.0.10:80"]);
    kernel.put_file("/etc/resolv.conf", "nameserver 127.0.0.2\nsearch corp.test\n");
    kernel.advance(Duration::from_secs(1));
    assert_eq!(ask(&event_loop, "www", "80").expect("is there"), ["127.0.0.11:80"]);
}

#[test]
fn a_name_that_only_another_module_knows_fails_with_a_hint() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/nsswitch.conf", "hosts: files mdns4_minimal [NOTFOUND=return] dns\n");
    let error = ask(&event_loop, "printer.local", "80").expect_err("we have no mdns");
    assert_eq!(error.code, AddrInfoError::NoName);
    assert!(error.to_string().contains("SystemResolver"), "{error}");
}

/// Lets the files grow old enough that their time tells their state.
fn settle(kernel: &tepal_sim::SimKernel, event_loop: &tepal::EventLoop) {
    for _ in 0..4 {
        kernel.advance(Duration::from_secs(2));
        let _ = ask(event_loop, "nobody.invalid", "1");
    }
}

#[test]
fn a_file_that_is_moved_to_anothers_place_is_noticed_though_its_time_is_the_same() {
    // Each of the three, with its effect on the answer.
    let old = |kernel: &tepal_sim::SimKernel| {
        kernel.put_file("/etc/hosts", "127.0.0.3 printer\n");
        kernel.put_file("/new/hosts", "127.0.0.4 printer\n");
        kernel.put_file("/etc/resolv.conf", "nameserver 127.0.0.1\nsearch a.test\n");
        kernel.put_file("/new/resolv.conf", "nameserver 127.0.0.1\nsearch b.test\n");
        kernel.put_file("/etc/nsswitch.conf", "hosts: files dns\n");
        kernel.put_file("/new/nsswitch.conf", "hosts: dns files\n");
    };
    for (file, name, before, after) in [
        ("hosts", "printer", "127.0.0.3:1", "127.0.0.4:1"),
        ("resolv.conf", "www", "127.0.0.20:1", "127.0.0.21:1"),
        ("nsswitch.conf", "printer", "127.0.0.3:1", "127.0.0.22:1"),
    ] {
        let (kernel, event_loop) = simulated();
        let zone = Zone::new();
        put(&zone, "www.a.test", 60, &["127.0.0.20"]);
        put(&zone, "www.b.test", 60, &["127.0.0.21"]);
        put(&zone, "printer.a.test", 60, &["127.0.0.22"]);
        dns::serve_at(&event_loop, &zone, ([127, 0, 0, 1], 53).into());
        old(&kernel);
        settle(&kernel, &event_loop);
        assert_eq!(ask(&event_loop, name, "1").expect("is there"), [before], "{file}");
        let reads = kernel.calls()["read_file"];
        kernel.advance(Duration::from_secs(5));
        assert_eq!(ask(&event_loop, name, "1").expect("is there"), [before], "{file}");
        assert_eq!(kernel.calls()["read_file"], reads, "nothing has changed");
        kernel.rename_file(format!("/new/{file}"), format!("/etc/{file}"));
        kernel.advance(Duration::from_secs(1));
        assert_eq!(ask(&event_loop, name, "1").expect("is there"), [after], "{file}");
    }
}

#[test]
fn two_changes_within_one_second_are_both_noticed() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/hosts", "127.0.0.3 printer\n");
    assert_eq!(ask(&event_loop, "printer", "1").expect("is there"), ["127.0.0.3:1"]);
    kernel.advance(Duration::from_secs(1));
    assert_eq!(ask(&event_loop, "printer", "1").expect("is there"), ["127.0.0.3:1"]);
    // Right after a look, and as long as before.
    for last in [4, 5] {
        kernel.put_file("/etc/hosts", format!("127.0.0.{last} printer\n"));
        kernel.advance(Duration::from_millis(400));
    }
    kernel.advance(Duration::from_millis(300));
    assert_eq!(ask(&event_loop, "printer", "1").expect("is there"), ["127.0.0.5:1"]);
}

#[test]
fn a_file_that_goes_and_comes_back_is_noticed_both_times() {
    let (kernel, event_loop) = simulated();
    kernel.put_file("/etc/hosts", "127.0.0.3 printer.invalid\n");
    kernel.put_file("/away", "127.0.0.3 printer.invalid\n");
    settle(&kernel, &event_loop);
    assert_eq!(ask(&event_loop, "printer.invalid", "1").expect("is there"), ["127.0.0.3:1"]);
    kernel.rename_file("/etc/hosts", "/elsewhere");
    kernel.advance(Duration::from_secs(1));
    ask(&event_loop, "printer.invalid", "1").expect_err("no file, and no server");
    kernel.rename_file("/elsewhere", "/etc/hosts");
    kernel.advance(Duration::from_secs(1));
    assert_eq!(ask(&event_loop, "printer.invalid", "1").expect("is there"), ["127.0.0.3:1"]);
}
