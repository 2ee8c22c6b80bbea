//! Bytes of simulated streams: back-pressure, order, ends, pipes, splice.

mod common;

use std::time::Duration;

use common::{Hand, text};
use tepal_base::Buffer;
use tepal_driver::{Descriptor, Driver, Half, Interest, Readiness, Sent, SocketOption};
use tepal_sim::{Config, SimDriver};

fn small() -> Config {
    Config { send_buffer: 1000, receive_buffer: 500, ..Config::default() }
}

#[test]
fn a_full_connection_blocks_the_sender_until_the_reader_reads() {
    let (mut hand, kernel) = Hand::sim(small());
    let (client, server) = hand.pair();
    hand.driver.register(client, 1, Interest::READ).expect("registered");
    let all = vec![7; 10_000];
    // What the peer's buffer and ours hold together.
    assert_eq!(hand.send(client, &all), "blocked at 1500");
    assert_eq!(hand.send(client, &all), "blocked at 0");
    assert_eq!(kernel.ledger().bytes_in_flight, 1500);
    assert!(hand.wait(Duration::from_secs(1)).is_empty(), "no room, no event");
    hand.receive(server, 200);
    assert!(hand.wait(Duration::from_secs(1)).is_empty(), "a little room is no event");
    hand.receive(server, 200);
    let events = hand.wait_until(None).expect("a third is free");
    assert_eq!((events[0].token, events[0].readiness), (1, Readiness::WRITABLE));
    assert_eq!(hand.send(client, &all), "blocked at 400");
}

#[test]
fn a_full_unix_stream_blocks_on_the_senders_buffer_alone() {
    let (mut hand, _kernel) = Hand::sim(small());
    let (client, server) = hand.unix_pair();
    hand.driver.register(client, 1, Interest::READ).expect("registered");
    assert_eq!(hand.send(client, vec![7; 10_000]), "blocked at 1000");
    assert!(hand.wait(Duration::from_secs(1)).is_empty(), "no room, no event");
    hand.receive(server, 300);
    assert!(hand.wait(Duration::from_secs(1)).is_empty(), "a little room is no event");
    hand.receive(server, 300);
    assert_eq!(hand.wait_until(None).expect("room").len(), 1);
    assert_eq!(hand.send(client, vec![7; 10_000]), "blocked at 600");
}

#[test]
fn more_buffer_lets_a_blocked_sender_go_on() {
    let (mut hand, _kernel) = Hand::sim(small());
    let (client, server) = hand.pair();
    hand.driver.register(client, 1, Interest::WRITE).expect("registered");
    hand.wait(Duration::ZERO);
    hand.send(client, vec![7; 10_000]);
    hand.driver.set_option(server, &SocketOption::ReceiveBuffer(1400)).expect("set");
    assert_eq!(hand.wait_until(None).expect("room").len(), 1);
    assert_eq!(hand.send(client, vec![7; 10_000]), "blocked at 900");
    hand.driver.set_option(client, &SocketOption::SendBuffer(3000)).expect("set");
    assert_eq!(hand.wait_until(None).expect("room").len(), 1);
    assert_eq!(hand.send(client, vec![7; 10_000]), "blocked at 2000");
}

#[test]
fn vectored_sends_keep_their_order_across_a_block() {
    let (mut hand, _kernel) =
        Hand::sim(Config { send_buffer: 5, receive_buffer: 2, ..Config::default() });
    let (client, server) = hand.pair();
    let slices = [b"ab".as_slice(), b"", b"cdef", b"ghi"].map(std::io::IoSlice::new);
    let sent = hand.driver.send(client, &slices).expect("room");
    assert_eq!(sent, Sent { count: 7, blocked: true });
    let mut all = String::new();
    for _ in 0..4 {
        all += &hand.receive(server, 9);
    }
    assert_eq!(all, "abcdefg");
}

#[test]
fn what_was_written_before_a_close_arrives_before_the_end() {
    let (mut hand, kernel) = Hand::sim(small());
    let (client, server) = hand.pair();
    assert_eq!(hand.send(client, vec![b'x'; 1400]), "sent 1400");
    hand.close(client);
    assert_eq!(kernel.ledger().lingering_sockets, 1);
    let mut total = 0;
    loop {
        match hand.receive(server, 300).as_str() {
            "end" => break,
            bytes => total += bytes.len(),
        }
    }
    assert_eq!(total, 1400);
    assert_eq!(kernel.ledger().lingering_sockets, 0);
    hand.close(server);
    kernel.ledger().assert_balanced();
}

#[test]
fn a_reset_drops_what_had_no_room_and_keeps_what_had_arrived() {
    let (mut hand, kernel) = Hand::sim(small());
    let (client, server) = hand.pair();
    assert_eq!(hand.send(client, vec![b'x'; 1400]), "sent 1400");
    hand.reset(client);
    assert_eq!(hand.receive(server, 2000).len(), 500);
    assert_eq!(hand.receive(server, 2000), "ECONNRESET");
    hand.close(server);
    kernel.ledger().assert_balanced();
}

#[test]
fn a_closed_socket_that_still_sends_gives_up_when_the_peer_writes() {
    let (mut hand, kernel) = Hand::sim(small());
    let (client, server) = hand.pair();
    hand.send(client, vec![b'x'; 1400]);
    hand.close(client);
    assert_eq!(hand.send(server, "are you there"), "sent 13");
    assert_eq!(hand.receive(server, 2000).len(), 500);
    assert_eq!(hand.receive(server, 2000), "ECONNRESET");
    hand.close(server);
    kernel.ledger().assert_balanced();
}

#[test]
fn the_end_of_a_stream_waits_behind_its_bytes() {
    let (mut hand, _kernel) = Hand::sim(small());
    let (client, server) = hand.pair();
    hand.send(client, vec![b'x'; 1200]);
    assert_eq!(hand.shutdown(client, Half::Write), "done");
    assert!(!hand.ready(server).intersects(Readiness::READ_CLOSED), "the FIN is not there yet");
    for left in [500, 500, 200] {
        assert_eq!(hand.receive(server, 2000).len(), left);
    }
    assert!(hand.ready(server).intersects(Readiness::READ_CLOSED));
}

/// A short read says that nothing is left, unless an end that was reported earlier is.
#[test]
fn a_short_read_says_whether_more_may_be_there() {
    let (mut hand, _kernel) = Hand::sim(Config::default());
    let (client, server) = hand.pair();
    let more = |hand: &mut Hand, most| {
        let received = hand.driver.receive(server, Buffer::zeroed(most));
        (received.result.expect("bytes"), received.more)
    };
    hand.send(client, "abc");
    assert_eq!(more(&mut hand, 0), (0, true));
    assert_eq!(more(&mut hand, 2), (2, true));
    assert_eq!(more(&mut hand, 2), (1, false));
    hand.send(client, "def");
    hand.shutdown(client, Half::Write);
    assert_eq!(more(&mut hand, 9), (3, true));
    assert_eq!(more(&mut hand, 9), (0, false));
}

#[test]
fn a_small_write_to_a_pipe_is_whole_or_not_at_all() {
    let (mut hand, kernel) = Hand::sim(Config { pipe_buffer: 8192, ..Config::default() });
    let (reader, writer) = hand.driver.pipe().expect("a pipe");
    assert_eq!(hand.send(writer, vec![b'a'; 6000]), "sent 6000");
    assert_eq!(hand.send(writer, vec![b'b'; 3000]), "blocked at 0");
    hand.driver.register(writer, 1, Interest::WRITE).expect("registered");
    assert!(hand.wait(Duration::from_secs(1)).is_empty());
    hand.receive(reader, 2000);
    assert_eq!(hand.wait_until(None).expect("a page is free").len(), 1);
    assert_eq!(hand.send(writer, vec![b'b'; 3000]), "sent 3000");
    hand.close_all([reader, writer]);
    kernel.ledger().assert_balanced();
}

fn splice(hand: &mut Hand, from: Descriptor, to: Descriptor, count: usize) -> String {
    match hand.driver.splice(from, to, count) {
        Ok(Sent { count, blocked }) => format!("{count}{}", if blocked { " blocked" } else { "" }),
        Err(error) => common::name(&error),
    }
}

#[test]
fn bytes_can_be_spliced_through_a_pipe() {
    let (mut hand, kernel) = Hand::sim(Config { pipe_buffer: 4096, ..small() });
    let (client, server) = hand.pair();
    let (sink, tail) = hand.unix_pair();
    let (reader, writer) = hand.driver.pipe().expect("a pipe");
    assert_eq!(splice(&mut hand, server, writer, 100), "0 blocked", "nothing there");
    hand.send(client, "hello");
    assert_eq!(splice(&mut hand, server, writer, 2), "2");
    assert_eq!(splice(&mut hand, server, writer, 100), "0 blocked", "the pipe has no free page");
    assert_eq!(splice(&mut hand, reader, sink, 100), "2");
    assert_eq!(splice(&mut hand, server, writer, 100), "3");
    assert_eq!(splice(&mut hand, reader, sink, 100), "3");
    assert_eq!(hand.receive(tail, 10), "hello");
    assert_eq!(splice(&mut hand, reader, sink, 0), "0");
    hand.close(client);
    assert_eq!(splice(&mut hand, server, writer, 100), "0", "the end");
    hand.close(tail);
    hand.close(writer);
    assert_eq!(splice(&mut hand, reader, sink, 100), "EPIPE");
    assert_eq!(splice(&mut hand, writer, sink, 100), "EBADF");
    hand.close_all([server, sink, reader]);
    kernel.ledger().assert_balanced();
}

#[test]
fn files_of_the_simulation_can_be_sent_and_read() {
    let mut driver = SimDriver::with(small());
    let kernel = driver.kernel().clone();
    assert_eq!(text(driver.open_file("/none").map(|_| "opened")), "ENOENT");
    kernel.put_file("/data", vec![b'd'; 2000]);
    let file = driver.open_file("/data").expect("it is there");
    let (reader, writer) = driver.pipe().expect("a pipe");
    let sent = |driver: &mut SimDriver, offset, count| {
        driver.send_file(writer, file, offset, count).expect("a file and a pipe")
    };
    assert_eq!(sent(&mut driver, 1990, 100), Sent { count: 10, blocked: false });
    for offset in [2000, 2001, u64::MAX] {
        let end = Sent { count: 0, blocked: false };
        assert_eq!(sent(&mut driver, offset, 100), end, "past the end at {offset}");
    }
    assert_eq!(driver.receive(reader, Buffer::zeroed(99)).result.expect("bytes"), 10);
    let mut total = 0;
    loop {
        match driver.receive(file, Buffer::zeroed(600)).result.expect("a file can be read") {
            0 => break,
            count => total += count,
        }
    }
    assert_eq!(total, 2000);
    driver.register(file, 1, Interest::READ).expect("always ready");
    let wait = driver.prepare(None);
    let mut events = Vec::new();
    driver.collect(wait, &mut events).expect("ready");
    assert_eq!(events.len(), 1);
    for descriptor in [file, reader, writer] {
        driver.close(descriptor).expect("open");
    }
    kernel.ledger().assert_balanced();
}

#[test]
fn configuration_files_are_those_of_the_test() {
    let (mut hand, kernel) = Hand::sim(Config::default());
    let path = "/etc/resolv.conf".as_ref();
    assert_eq!(text(hand.driver.file_changed(path).map(|_| "there")), "ENOENT");
    kernel.put_file(path, "nameserver 127.0.0.1");
    let first = hand.driver.file_changed(path).expect("there");
    assert_eq!(hand.driver.read_file(path, 10).expect("there"), b"nameserver");
    hand.wait(Duration::from_secs(5));
    kernel.put_file(path, "");
    let second = hand.driver.file_changed(path).expect("there");
    assert_eq!(second.modified, first.modified + Duration::from_secs(5));
    assert!(second.inode != first.inode && second.len == 0);
    assert!(hand.driver.read_file(path, 10).expect("there").is_empty());
    hand.driver.remove_file(path).expect("there");
    assert_eq!(text(hand.driver.read_file(path, 9).map(|_| "there")), "ENOENT");
}

#[test]
fn dropping_a_driver_ends_its_connections_as_the_end_of_a_process_does() {
    let kernel = tepal_sim::SimKernel::new(Config::default());
    let (mut a, mut b) = (Hand::new(kernel.driver()), Hand::new(kernel.driver()));
    let (listener, address) = a.listen(4);
    let client = b.connecting(&address);
    let server = a.accept(listener);
    b.send(client, "last");
    drop(b);
    assert_eq!(kernel.ledger().leaked_descriptors, 1);
    assert_eq!(a.receive(server, 9), "last");
    assert_eq!(a.receive(server, 9), "end");
}

#[test]
fn calls_are_counted_by_name() {
    let mut driver = SimDriver::new(1);
    let (reader, writer) = driver.pipe().expect("a pipe");
    for _ in 0..3 {
        let _ = driver.receive(reader, Buffer::zeroed(1));
    }
    driver.close(writer).expect("open");
    let wait = driver.prepare(Some(tepal_base::Instant::ZERO));
    driver.collect(wait, &mut Vec::new()).expect("a look");
    let calls: Vec<_> = driver.calls().into_iter().collect();
    assert_eq!(calls, [("close", 1), ("pipe", 1), ("receive", 3), ("wait", 1)]);
    assert_eq!(driver.kernel().calls(), driver.calls());
}
