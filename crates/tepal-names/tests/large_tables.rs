//! Tables as large as they get: block lists of hosts, one name with very many addresses, the longest
//! answer that a message holds. Time grows with the size and not with its square.

#![cfg(unix)]

mod common;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{Reaction, World, record};
use rustix::time::{ClockId, clock_gettime};
use tepal_names::config::Hosts;
use tepal_names::error::Over;
use tepal_names::{Family, RecordType};

/// The time that this thread has had of a processor, so that a busy machine does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The least time of a few runs.
fn least_time(mut work: impl FnMut()) -> Duration {
    let run = |_| {
        let begin = processor_time();
        work();
        processor_time() - begin
    };
    (0..5).map(run).min().expect("five runs")
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

/// A line for each address, all of one name; every third has the address of the line before.
fn one_name(lines: u32) -> Hosts {
    let mut text = String::new();
    for number in 0..lines {
        let number = if number % 3 == 2 { number - 1 } else { number };
        writeln!(text, "{} many", address(number)).expect("memory");
    }
    Hosts::parse(&text)
}

#[test]
fn a_name_of_100_000_lines_is_found_in_linear_time() {
    let (small, large) = (one_name(10_000), one_name(100_000));
    let found = large.lookup("many", Family::V4).expect("is there").addresses;
    assert_eq!(found.len(), 66_667, "each once");
    assert_eq!(found[..4], [0, 1, 3, 4].map(address), "in the order of the file");
    let look_up = |hosts: &Hosts| {
        assert!(hosts.lookup("many", Family::V4).expect("is there").addresses.len() > 6_000);
    };
    let (short, long) = (least_time(|| look_up(&small)), least_time(|| look_up(&large)));
    // Ten times the lines: ten times the time, and not a hundred times.
    assert!(long < short * 35, "{short:?} for 10,000 lines, {long:?} for 100,000");
}

#[test]
fn a_block_list_of_100_000_hosts_is_read_in_linear_time_and_every_name_found_at_once() {
    let list = |lines: u32| {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for number in 0..lines {
            // Block lists give every name the same address.
            writeln!(text, "0.0.0.0 ads-{number}.tracker.example # blocked").expect("memory");
        }
        text
    };
    let (small, large) = (list(10_000), list(100_000));
    let read = |text: &str| assert!(Hosts::parse(text).len() >= 10_000);
    let (short, long) = (least_time(|| read(&small)), least_time(|| read(&large)));
    assert!(long < short * 35, "{short:?} for 10,000 lines, {long:?} for 100,000");
    let hosts = Hosts::parse(&large);
    for number in [0, 1, 50_000, 99_999] {
        let found = hosts.lookup(&format!("ads-{number}.tracker.example"), Family::V4);
        assert_eq!(found.expect("is there").addresses, [IpAddr::from([0, 0, 0, 0])]);
    }
    assert!(hosts.lookup("ads-100000.tracker.example", Family::V4).is_none());
    // All the names of its line, and not of the others with the same address.
    assert_eq!(hosts.names_of([0, 0, 0, 0].into()).expect("is there").count(), 1);
}

#[test]
fn the_longest_answer_is_taken_whole() {
    let mut sent = 0;
    let mut world = World::new("nameserver 192.0.2.53", |asked| {
        if asked.over == Over::Udp {
            return vec![Reaction::Say(1, asked.reply().flag(0x0200).bytes())];
        }
        // The owner as a pointer to the question: 16 bytes for each.
        let mut reply = asked.reply();
        let room = 65_535 - reply.bytes().len();
        for number in 0..(room / 16) as u32 {
            let mut owner = record("", 1, 60, &(0x0a00_0000 + number).to_be_bytes());
            owner.splice(..1, [0xc0, 12]);
            reply = reply.answer(owner);
        }
        reply.tail = vec![0; room % 16];
        let message = reply.bytes();
        assert_eq!(message.len(), 65_535);
        sent = room / 16;
        vec![Reaction::Say(1, message)]
    });
    world.piece = 1400;
    let found = world.addresses("many.test", Family::V4);
    assert_eq!((&*found[0], found.len() > 4_000), ("10.0.0.0", true));
    drop(world);
    assert_eq!(found.len(), sent);
}

#[test]
fn the_longest_answer_of_another_type_is_taken_whole() {
    // One TXT record of 65,000 bytes: strings of 255.
    let text: Vec<u8> = [&[255][..], &[b'x'; 255]].concat().repeat(250);
    let mut world = World::new("nameserver 192.0.2.53\noptions use-vc", |asked| {
        let reply = asked.reply().answer(record(&asked.name, asked.record_type, 60, &text));
        vec![Reaction::Say(1, reply.bytes())]
    });
    let deadline = world.now + Duration::from_secs(9);
    world.resolver.lookup_records("long.test", RecordType::TXT, deadline, world.now);
    let answer = world.only().expect("is there").into_records().expect("of records");
    assert_eq!(answer.records[0].to_string().matches('x').count(), 250 * 255);
}
