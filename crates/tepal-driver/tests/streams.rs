//! Bytes and ends of streams, and the edges that tell of them.

mod common;

use std::io::IoSlice;

use common::*;
use tepal_driver::{Connect, Domain, Half, Interest, Kind, Readiness, Sent, SocketOption};

on_every_engine! {
    fn bytes_arrive_and_a_short_read_says_that_nothing_is_left(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        assert_eq!(send(driver, client, b"hello"), Sent { count: 5, blocked: false });
        wait_for(driver, 1, Readiness::READABLE);
        let (bytes, more) = receive(driver, server, 100);
        assert_eq!((bytes.expect("reads"), more), (b"hello".to_vec(), false));
        assert!(look(driver).is_empty());
    }

    fn a_filled_buffer_says_that_more_may_be_there(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        send(driver, client, b"hello");
        wait_for(driver, 1, Readiness::READABLE);
        let (bytes, more) = receive(driver, server, 5);
        assert_eq!((bytes.expect("reads"), more), (b"hello".to_vec(), true));
        let (bytes, more) = receive(driver, server, 5);
        assert_eq!(bytes.expect_err("has nothing").kind(), std::io::ErrorKind::WouldBlock);
        assert!(!more);
        send(driver, client, b"again");
        wait_for(driver, 1, Readiness::READABLE);
        assert_eq!(drain(driver, server, 100), (b"again".to_vec(), false));
    }

    fn an_end_right_behind_the_bytes_is_not_lost(driver) {
        let (client, server) = tcp_pair(driver);
        send(driver, client, b"bye");
        driver.shutdown(client, Half::Write).expect("shuts down");
        // Both are there before the first wait, so that there is one event for the two.
        driver.register(server, 1, Interest::READ).expect("registers");
        assert_eq!(read_to_end(driver, server, 1), b"bye");
    }

    fn an_end_behind_the_bytes_while_reading_is_paused_is_not_lost(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        send(driver, client, b"one");
        wait_for(driver, 1, Readiness::READABLE);
        // Nobody pulls: the protocol has paused reading. More comes, and the end.
        send(driver, client, b" two");
        driver.close(client).expect("closes");
        let _ = look(driver);
        let mut bytes = Vec::new();
        let mut end = false;
        while !end {
            let (some, ended) = drain(driver, server, 100);
            bytes.extend(some);
            end = ended;
            if !end {
                wait_for(driver, 1, Readiness::READABLE);
            }
        }
        assert_eq!(bytes, b"one two");
    }

    fn a_full_socket_blocks_and_tells_when_there_is_room(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(client, 1, Interest::READ).expect("registers");
        driver.register(server, 2, Interest::READ).expect("registers");
        let block = vec![7; 1 << 16];
        let mut sent = 0;
        loop {
            let now = send(driver, client, &block);
            sent += now.count;
            if now.blocked {
                break;
            }
        }
        assert!(look(driver).iter().all(|event| event.token != 1));
        let mut received = 0;
        let mut writable = false;
        while received < sent || !writable {
            // The edge for the first bytes may have been seen above, so pull before the wait.
            received += drain(driver, server, 1 << 16).0.len();
            for event in if writable && received == sent { Vec::new() } else { wait(driver) } {
                writable |= event.token == 1 && event.readiness.intersects(Readiness::WRITABLE);
            }
        }
        assert_eq!(received, sent);
        assert!(send(driver, client, b"x").count == 1);
    }

    fn a_vectored_send_keeps_the_order(driver) {
        let (client, server) = tcp_pair(driver);
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let whole: Vec<u8> = parts.concat();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let sent = driver.send(client, left).expect("sends");
            assert!(!sent.blocked && sent.count > 0);
            IoSlice::advance_slices(&mut left, sent.count);
        }
        driver.close(client).expect("closes");
        driver.register(server, 1, Interest::READ).expect("registers");
        assert_eq!(read_to_end(driver, server, 1), whole);
    }

    fn a_refused_connect_is_reported(driver) {
        let (listener, address) = listener(driver, 9);
        driver.close(listener).expect("closes");
        let client = driver.open(Domain::Inet, Kind::Stream).expect("opens");
        let error = match driver.connect(client, &address) {
            Ok(Connect::InProgress) => {
                driver.register(client, 1, Interest::BOTH).expect("registers");
                wait_for(driver, 1, Readiness::WRITABLE);
                driver.take_error(client).expect("is a socket").expect("has failed")
            }
            Ok(Connect::Connected) => panic!("nobody listens"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    fn a_reset_is_an_error_and_no_end(driver) {
        let (client, server) = tcp_pair(driver);
        driver.register(server, 1, Interest::READ).expect("registers");
        let at_once = Some(std::time::Duration::ZERO);
        driver.set_option(client, &SocketOption::Linger(at_once)).expect("sets");
        driver.close(client).expect("closes");
        wait_for(driver, 1, Readiness::ERROR);
        let (result, more) = receive(driver, server, 10);
        assert_eq!(result.expect_err("was reset").kind(), std::io::ErrorKind::ConnectionReset);
        assert!(!more);
    }
}
