//! Unix streams and pipes.

use tepal_driver::{Connect, Domain, Half, Kind};

use crate::common::{abstract_name, text};
use crate::{Log, same, use_up};

#[test]
fn a_unix_peer_that_closes_with_unread_bytes_resets() {
    same(|hand| {
        let (client, server) = hand.unix_pair();
        hand.send(client, "abc");
        hand.send(server, "unread");
        hand.close(client);
        use_up(hand, server)
    });
}

#[test]
fn a_unix_peer_that_closes_cleanly_ends_both_directions() {
    same(|hand| {
        let (client, server) = hand.unix_pair();
        hand.send(client, "abc");
        hand.close(client);
        use_up(hand, server)
    });
}

#[test]
fn each_half_of_a_unix_stream_can_be_shut() {
    same(|hand| {
        let mut log = Log::new();
        for half in [Half::Read, Half::Write, Half::Both] {
            let (client, server) = hand.unix_pair();
            log.push(hand.shutdown(client, half));
            log.push(format!("{:?} {:?}", hand.ready(client), hand.ready(server)));
            log.extend([hand.send(server, "x"), hand.send(client, "x")]);
            log.extend([hand.receive(server, 1), hand.receive(client, 1)]);
        }
        log
    });
}

#[test]
fn a_unix_listener_fills_up_and_resets_whom_it_leaves() {
    same(|hand| {
        let listener = hand.open(Domain::Unix, Kind::Stream);
        let address = abstract_name("backlog");
        let mut log = vec![text(hand.driver.listen(listener, 0).map(|()| "unbound"))];
        hand.driver.bind(listener, &address).expect("it binds");
        hand.driver.listen(listener, 0).expect("it listens");
        let clients: Vec<_> = (0..3).map(|_| hand.open(Domain::Unix, Kind::Stream)).collect();
        for client in &clients {
            let connected = hand.driver.connect(*client, &address);
            log.push(text(connected.map(|how| format!("{:?}", how == Connect::Connected))));
        }
        hand.close(listener);
        log.extend(use_up(hand, clients[0]));
        log.push(text(hand.driver.connect(clients[1], &address).map(|_| "connected")));
        log
    });
}

#[test]
fn a_pipe_fills_to_its_size_and_each_end_hears_of_the_other() {
    same(|hand| {
        let (reader, writer) = hand.driver.pipe().expect("a pipe");
        let mut log = vec![format!("{:?} {:?}", hand.ready(reader), hand.ready(writer))];
        log.push(hand.send(writer, vec![b'x'; 100_000]));
        log.extend([hand.send(writer, "x"), hand.receive(reader, 3), hand.send(writer, "x")]);
        log.push(format!("{:?} {:?}", hand.ready(reader), hand.ready(writer)));
        log.extend([hand.receive(writer, 1), hand.send(reader, "x")]);
        hand.close(reader);
        log.extend([format!("{:?}", hand.ready(writer)), hand.send(writer, "x")]);
        let (reader, writer) = hand.driver.pipe().expect("a pipe");
        hand.send(writer, "abc");
        hand.close(writer);
        log.push(format!("{:?}", hand.ready(reader)));
        log.extend([hand.receive(reader, 9), hand.receive(reader, 9)]);
        log.push(format!("{:?}", hand.ready(reader)));
        log
    });
}
