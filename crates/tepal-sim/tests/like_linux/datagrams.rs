//! UDP and Unix datagrams.

use tepal_driver::{Address, Domain, Half, Kind};

use crate::common::{abstract_name, text};
use crate::same;

#[test]
fn udp_answers_like_the_kernel() {
    same(|hand| {
        let socket = hand.open(Domain::Inet, Kind::Datagram);
        let mut log = vec![format!("{:?}", hand.ready(socket))];
        log.extend([hand.send_to(socket, "x", None), hand.receive_from(socket, 1)]);
        log.push(hand.send_to(socket, vec![0; 65_508], Some(&hand.v4(9))));
        let broadcast = Address::Ip(([255, 255, 255, 255], 9).into());
        log.push(hand.send_to(socket, "x", Some(&broadcast)));
        log.push(hand.shutdown(socket, Half::Both));

        let server = hand.open(Domain::Inet, Kind::Datagram);
        hand.driver.bind(server, &hand.v4(0)).expect("it binds");
        let address = hand.driver.local_address(server).expect("bound");
        let client = hand.open(Domain::Inet, Kind::Datagram);
        hand.driver.connect(client, &address).expect("it connects");
        let own = hand.driver.local_address(client).expect("bound").to_string();
        for text in ["", "hello", "longer than that"] {
            log.push(hand.send_to(client, text, None));
        }
        for _ in 0..4 {
            log.push(hand.receive_from(server, 6).replace(&own, "the client"));
        }
        log.push(hand.send(client, "by send"));
        log.push(hand.receive(server, 20));
        log.push(hand.send_to(socket, "stranger", Some(&address)));
        let stranger = hand.driver.local_address(client).expect("bound");
        log.push(hand.send_to(socket, "stranger", Some(&stranger)));
        log.push(hand.receive_from(client, 20));
        hand.close(server);
        log.extend([hand.send_to(client, "x", None), format!("{:?}", hand.ready(client))]);
        log.extend([hand.receive_from(client, 1), hand.receive_from(client, 1)]);
        log.extend([hand.send_to(client, "x", None), hand.send_to(client, "x", None)]);
        log.extend([hand.send_to(client, "x", None), hand.take_error(client)]);
        log
    });
}

#[test]
fn unix_datagrams_make_the_sender_wait() {
    same(|hand| {
        let receiver = hand.open(Domain::Unix, Kind::Datagram);
        let address = abstract_name("datagrams");
        hand.driver.bind(receiver, &address).expect("it binds");
        let sender = hand.open(Domain::Unix, Kind::Datagram);
        let mut log = vec![hand.send_to(sender, "x", None)];
        for _ in 0..12 {
            log.push(hand.send_to(sender, "x", Some(&address)));
        }
        log.push(hand.send_to(sender, vec![0; 300_000], Some(&address)));
        log.push(text(hand.driver.connect(sender, &address).map(|_| "connected")));
        log.push(format!("{:?}", hand.ready(sender)));
        for _ in 0..12 {
            log.push(hand.receive_from(receiver, 5));
        }
        log.push(format!("{:?}", hand.ready(sender)));
        hand.close(receiver);
        log.extend([hand.send_to(sender, "x", None), hand.send_to(sender, "x", None)]);
        log.push(hand.send_to(sender, "x", Some(&abstract_name("nobody"))));
        log
    });
}
