//! Tokens, edges and watching.

use tepal_driver::Interest;

use crate::common::{Hand, text};
use crate::{Log, same};

#[test]
fn tokens_die_with_their_descriptor() {
    same(|hand| {
        let socket = hand.tcp();
        hand.close(socket);
        let fresh = hand.tcp();
        let mut log = vec![format!("{}", fresh == socket)];
        log.push(text(hand.driver.close(socket).map(|()| "closed")));
        log.push(text(hand.driver.bind(socket, &hand.v4(0)).map(|()| "bound")));
        log.push(text(hand.driver.register(socket, 1, Interest::READ).map(|()| "registered")));
        log.push(text(hand.driver.watch(socket, 1, Interest::READ).map(|()| "watched")));
        log.extend([hand.receive(socket, 1), hand.send(socket, "x"), hand.take_error(socket)]);
        log.push(text(hand.driver.register(fresh, 1, Interest::READ).map(|()| "registered")));
        log.push(text(hand.driver.register(fresh, 1, Interest::READ).map(|()| "registered")));
        log
    });
}

#[test]
fn edges_come_once_until_something_new_arrives() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.driver.register(server, 7, Interest::READ).expect("registered");
        let look = |hand: &mut Hand| {
            let events = hand.wait_until(Some(tepal_base::Instant::ZERO)).expect("a look");
            events.iter().map(|event| format!("{} {:?}", event.token, event.readiness)).collect()
        };
        let mut log: Vec<String> = look(hand);
        hand.send(client, "abc");
        log.extend::<Log>(look(hand));
        log.push("untouched".to_owned());
        log.extend::<Log>(look(hand));
        log.push(hand.receive(server, 2));
        log.extend::<Log>(look(hand));
        hand.send(client, "def");
        log.extend::<Log>(look(hand));
        log.extend([hand.receive(server, 10), hand.receive(server, 10)]);
        hand.close(client);
        log.extend::<Log>(look(hand));
        log
    });
}

#[test]
fn a_watched_descriptor_is_reported_as_long_as_it_is_ready() {
    same(|hand| {
        let (client, server) = hand.pair();
        hand.driver.watch(server, 7, Interest::READ).expect("watched");
        let look = |hand: &mut Hand| {
            let events = hand.wait_until(Some(tepal_base::Instant::ZERO)).expect("a look");
            events.iter().map(|event| format!("{} {:?}", event.token, event.readiness)).collect()
        };
        let mut log: Vec<String> = look(hand);
        hand.send(client, "abc");
        for _ in 0..2 {
            log.extend::<Log>(look(hand));
        }
        hand.driver.watch(server, 8, Interest::BOTH).expect("changed");
        log.extend::<Log>(look(hand));
        log.push(hand.receive(server, 10));
        log.extend::<Log>(look(hand));
        hand.driver.watch(server, 8, Interest::NONE).expect("stopped");
        hand.close(client);
        log.push("stopped".to_owned());
        log.extend::<Log>(look(hand));
        hand.driver.watch(server, 9, Interest::READ).expect("again");
        log.extend::<Log>(look(hand));
        log
    });
}
