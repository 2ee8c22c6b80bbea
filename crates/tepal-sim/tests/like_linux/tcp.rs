//! TCP streams, from connect to reset.

use tepal_driver::{Domain, Half, Interest, Kind};

use crate::common::text;
use crate::{Log, same, use_up};

#[test]
fn a_reset_lets_arrived_bytes_be_read_and_then_tells_itself_once() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.send(client, "abc");
        hand.reset(client);
        use_up(hand, server)
    });
}

#[test]
fn a_reset_is_told_to_the_writer_if_he_comes_first() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.reset(client);
        let mut log = vec![hand.send(server, "x"), hand.send(server, "x")];
        log.extend(use_up(hand, server));
        log
    });
}

#[test]
fn a_reset_is_told_to_whoever_asks_for_the_error_first() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.reset(client);
        let mut log = vec![hand.take_error(server), hand.take_error(server)];
        log.extend(use_up(hand, server));
        log
    });
}

#[test]
fn closing_with_unread_bytes_resets() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.send(server, "unread");
        hand.close(client);
        use_up(hand, server)
    });
}

#[test]
fn a_write_to_a_closed_peer_succeeds_once_and_then_breaks() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.send(client, "last words");
        hand.close(client);
        let mut log = vec![format!("{:?}", hand.ready(server))];
        log.push(hand.send(server, "x"));
        log.push(format!("{:?}", hand.ready(server)));
        log.extend(use_up(hand, server));
        log
    });
}

#[test]
fn the_error_of_a_broken_connection_after_its_fin_is_epipe() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.close(client);
        vec![hand.send(server, "x"), hand.take_error(server), hand.receive(server, 1)]
    });
}

#[test]
fn a_half_closed_connection_carries_bytes_the_other_way() {
    same(|hand| {
        let (client, server) = hand.pair();
        let mut log = vec![hand.send(client, "question"), hand.shutdown(client, Half::Write)];
        log.push(format!("{:?} {:?}", hand.ready(client), hand.ready(server)));
        log.extend([hand.receive(server, 20), hand.receive(server, 20)]);
        log.extend([hand.send(server, "answer"), hand.shutdown(server, Half::Write)]);
        log.push(hand.send(client, "no more"));
        log.push(format!("{:?} {:?}", hand.ready(client), hand.ready(server)));
        log.extend([hand.receive(client, 20), hand.receive(client, 20)]);
        log.extend([hand.send(server, "x"), hand.shutdown(server, Half::Both)]);
        log.push(text(hand.driver.peer_address(client).map(|_| "has a peer")));
        log
    });
}

#[test]
fn a_stream_shut_for_reading_still_gives_what_arrives() {
    same(|hand| {
        let (client, server) = hand.pair();
        let mut log = vec![hand.shutdown(server, Half::Read)];
        log.push(format!("{:?} {:?}", hand.ready(server), hand.ready(client)));
        log.extend([hand.receive(server, 5), hand.send(client, "late"), hand.receive(server, 5)]);
        log.push(hand.receive(server, 5));
        log
    });
}

#[test]
fn a_socket_that_was_never_connected_refuses_each_call_in_its_own_way() {
    same(|hand| {
        let mut log = Log::new();
        for domain in [Domain::Inet, Domain::Inet6, Domain::Unix] {
            let socket = hand.open(domain, Kind::Stream);
            log.push(format!("{domain:?} {:?}", hand.ready(socket)));
            log.extend([hand.receive(socket, 1), hand.send(socket, "x")]);
            log.push(hand.shutdown(socket, Half::Write));
            log.push(text(hand.driver.accept(socket).map(|_| "accepted")));
            log.push(text(hand.driver.local_address(socket)));
            log.push(text(hand.driver.peer_address(socket)));
            log.push(hand.take_error(socket));
        }
        log
    });
}

#[test]
fn a_refused_connect_is_told_once_and_one_more_connect_aborted() {
    same(|hand| {
        // A port that was free a moment ago.
        let (listener, address) = hand.listen(1);
        hand.close(listener);
        let client = hand.connecting(&address);
        hand.wait_ready(client, Interest::WRITE);
        let mut log = vec![format!("{:?}", hand.ready(client)), hand.take_error(client)];
        log.extend([hand.take_error(client), hand.receive(client, 1), hand.send(client, "x")]);
        log.push(text(hand.driver.connect(client, &address).map(|_| "goes on")));
        log.push(format!("{:?}", hand.driver.connect(client, &address).is_ok()));
        hand.wait_ready(client, Interest::WRITE);
        log.push(text(hand.driver.connect(client, &address).map(|_| "goes on")));
        log
    });
}

#[test]
fn a_refused_connect_is_told_to_the_writer() {
    same(|hand| {
        let (listener, address) = hand.listen(1);
        hand.close(listener);
        let client = hand.connecting(&address);
        hand.wait_ready(client, Interest::WRITE);
        vec![hand.send(client, "x"), hand.send(client, "x"), hand.take_error(client)]
    });
}

#[test]
fn a_second_connect_is_refused() {
    same(|hand| {
        let (listener, address) = hand.listen(1);
        let client = hand.connecting(&address);
        hand.wait_ready(client, Interest::WRITE);
        let mut log = vec![text(hand.driver.connect(client, &address).map(|_| "again"))];
        log.push(text(hand.driver.connect(client, &address).map(|_| "again")));
        log.push(text(hand.driver.connect(listener, &address).map(|_| "listener")));
        log.push(text(hand.driver.listen(client, 1).map(|()| "listens")));
        log.extend([hand.receive(listener, 1), hand.send(listener, "x")]);
        log.push(hand.shutdown(client, Half::Both));
        log
    });
}

#[test]
fn a_full_backlog_leaves_further_clients_waiting() {
    same(|hand| {
        let (listener, address) = hand.listen(0);
        let clients: Vec<_> = (0..3).map(|_| hand.connecting(&address)).collect();
        hand.wait_ready(clients[0], Interest::WRITE);
        let mut log: Vec<_> =
            clients.iter().map(|client| format!("{:?}", hand.ready(*client))).collect();
        log.push(text(hand.driver.connect(clients[2], &address).map(|_| "again")));
        log.extend([hand.send(clients[2], "x"), hand.receive(clients[2], 1)]);
        hand.close(listener);
        log.extend(clients.iter().map(|client| format!("{:?}", hand.ready(*client))));
        log.push(hand.receive(clients[0], 1));
        hand.close_all(clients);
        log
    });
}
